"""The check of installed packages tells a vulnerability from a service that does not answer."""

import json
import runpy
import sys
from pathlib import Path

import pytest


@pytest.fixture
def audit_in(monkeypatch):
    checks = Path(__file__).parents[2] / "checks"
    monkeypatch.syspath_prepend(str(checks))
    yield runpy.run_path(str(checks / "security.py"))["audit_in"]
    sys.modules.pop("record", None)


def test_vulnerability_is_named(audit_in):
    packages = [
        {"name": "good", "version": "1.0", "vulns": []},
        {"name": "bad", "version": "2.0", "vulns": [{"id": "PYSEC-1"}, {"id": "GHSA-2"}]},
        {"name": "ours", "skip_reason": "Dependency not found on PyPI"},
    ]
    found = audit_in(json.dumps({"dependencies": packages}), "", "pypi")
    assert (found.checked, found.unknown, found.unreached) == (2, 1, None)
    assert found.vulnerable == ("bad 2.0: PYSEC-1", "bad 2.0: GHSA-2")
    assert str(found) == "2 packages audited, 2 known vulnerabilities"


def test_service_that_cannot_be_reached_is_said(audit_in):
    found = audit_in("", "Traceback\nConnectionError: no name\n", "osv")
    assert found.vulnerable == () and str(found) == (
        "packages not audited: osv cannot be reached (ConnectionError: no name)"
    )


def test_service_that_knows_nothing_has_not_audited(audit_in):
    """A mirror without the service answers that it does not know any package, which is no good news."""
    packages = [{"name": "torch", "skip_reason": "Dependency not found on PyPI"}] * 3
    found = audit_in(json.dumps({"dependencies": packages}), "", "pypi")
    assert str(found) == "packages not audited: pypi answers for none of 3 packages"
