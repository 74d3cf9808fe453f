"""docs/trust.md and the scripts of checks/ agree."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from support.processes import run_script

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
    help_ = run_script(script, "--help")
    assert help_.returncode == 0 and "--record" in help_.stdout, help_.stderr
