"""docs/trust.md and the scripts of checks/ agree."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from support.processes import output_of

ROOT = Path(__file__).parents[1]
CHECKS = ROOT / "checks"
SCRIPTS = sorted(path for path in CHECKS.glob("*.py") if '__name__ == "__main__"' in path.read_text())

#: What `python SCRIPT --help` does.
HELP = """
import contextlib, os, runpy, sys
sys.argv = [{0!r}, "--help"]
sys.path[0] = os.path.dirname(sys.argv[0])
with contextlib.suppress(SystemExit):
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


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
def test_script_says_what_it_does(script, tmp_path):
    assert script.name in (ROOT / "docs" / "trust.md").read_text()
    assert "--record" in output_of(HELP.format(str(script)), tmp_path)
