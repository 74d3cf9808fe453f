"""docs/trust.md and the scripts of checks/ agree."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHECKS = ROOT / "checks"
SCRIPTS = sorted(path for path in CHECKS.glob("*.py") if '__name__ == "__main__"' in path.read_text())


def test_table_is_what_the_results_make():
    spec = importlib.util.spec_from_file_location("checks_record", CHECKS / "record.py")
    assert spec is not None and spec.loader is not None
    record = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(record)
    text = record.DOCUMENT.read_text()
    assert record.filled(text) == text


@pytest.mark.parametrize("path", sorted(CHECKS.glob("results/*.json")), ids=lambda path: path.stem)
def test_results_are_of_scripts_that_exist_and_of_a_commit(path):
    result = json.loads(path.read_text())
    (script,) = re.findall(r"^python (checks/\w+\.py)\b", result["command"])
    assert (ROOT / script).exists()
    assert re.fullmatch(r"[0-9a-f]{40}", result["revision"]), "expected a clean working tree"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_says_what_it_does(script):
    assert script.name in (ROOT / "docs" / "trust.md").read_text()
    help_ = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--record" in help_
