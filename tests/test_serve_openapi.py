"""The server's own OpenAPI, and random requests made from it: none is a fault of the server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from live_chip import live

from intaglio.flow.package import open_package
from intaglio.serve.served import Served

KEY = "secret"


@pytest.fixture(scope="module")
def served(made_home) -> Served:
    return Served(open_package(Path(made_home(128)) / "chip"), threads=1, most_waiting=4096)


def test_it_describes_bodies_answers_and_the_key(served):
    with live(served, [KEY]) as url:
        found = httpx.get(
            f"{url}/openapi.json", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False
        ).json()
    chat = found["paths"]["/v1/chat/completions"]["post"]
    assert "tools" in chat["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert {"200", "400", "401", "404", "413", "503"} <= set(chat["responses"])
    assert chat["security"] == [{"key": []}]
    assert "security" not in found["paths"]["/health"]["get"]
    assert {"Message", "Error", "Tool"} <= set(found["components"]["schemas"])


@pytest.mark.slow
def test_schemathesis_finds_no_fault(made_home, tmp_path):
    """Bounded by the number of examples: about a minute."""
    chip = Served(open_package(Path(made_home(128)) / "chip"), threads=1, most_waiting=4096)
    with live(chip, [KEY]) as url:
        words = [
            str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json",
            "-H", f"Authorization: Bearer {KEY}", "--max-examples", "25", "--seed", "1",
            "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,"
            "response_schema_conformance,ignored_auth", "--phases", "examples,coverage,fuzzing",
            "--max-time", "60", "--generation-database", "none", "--no-color",
        ]  # fmt: skip
        done = subprocess.run(
            words, cwd=tmp_path, capture_output=True, text=True, timeout=600, env=dict(os.environ)
        )
    assert done.returncode == 0, done.stdout[-6000:]
    tried = re.findall(r"(\d+) passed", done.stdout)
    assert tried
    assert int(tried[-1]) >= 50
