"""Runs the tests of tests/security, and asks pip-audit whether an installed package has a known vulnerability.

    python checks/security.py --record

pip-audit asks a service on the network: PyPI, or with --service osv that of OSV. If it cannot be reached, or does not
answer for a single package, this is said, and is no failure: nothing is known then. A vulnerability that is known is.
"""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import dataclass

from record import ROOT, record

#: Seconds that the service has for an answer, and pip-audit for all of them.
_ANSWER, _ALL = 15, 120


@dataclass(frozen=True)
class Audit:
    """Answer of pip-audit.

    Attributes:
        checked: packages that the service knows.
        unknown: packages that it does not, such as this one where it is installed from its sources.
        vulnerable: "NAME VERSION: ID" of each known vulnerability.
        unreached: reason why nothing is known; None if something is.
    """

    checked: int = 0
    unknown: int = 0
    vulnerable: tuple[str, ...] = ()
    unreached: str | None = None

    def __str__(self) -> str:
        if self.unreached is not None:
            return f"packages not audited: {self.unreached}"
        return f"{self.checked} packages audited, {len(self.vulnerable)} known vulnerabilities"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audit-only", action="store_true", help="leave the tests out, as where they ran already")
    parser.add_argument("--service", choices=("pypi", "osv"), default="pypi", help="whom to ask (default: pypi)")
    parser.add_argument("--record", action="store_true", help="write the result into checks/results")
    options = parser.parse_args()
    tests = None if options.audit_only else run_tests()
    found = audit(options.service)
    for line in found.vulnerable:
        print(f"known vulnerability: {line}")
    text = f"{found}" if tests is None else f"{tests}; {found}"
    print(text)
    if options.record:
        record(
            "security",
            claim="Nothing from somebody else's file is run, written elsewhere, or believed before it is checked",
            found=text,
            figures={"tests": tests, "audit": vars(found)},
        )
    return 1 if found.vulnerable or (tests is not None and "failed" in tests) else 0


def run_tests() -> str:
    """Summary of the tests, such as "116 tests passed"."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/security"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+) (passed|failed|error|skipped)", result.stdout)}
    if result.returncode:
        print(result.stdout, result.stderr, sep="\n", file=sys.stderr)
        return f"tests failed: {counts.get('failed', 0) + counts.get('error', 0)} of {sum(counts.values())}"
    return f"{counts['passed']} tests passed" + (f", {counts['skipped']} skipped" if "skipped" in counts else "")


def audit(service: str) -> Audit:
    """Asks `service` about the packages that this Python has."""
    if importlib.util.find_spec("pip_audit") is None:
        return Audit(unreached="pip-audit is not installed (pip install pip-audit)")
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    command += ["--vulnerability-service", service, "--timeout", str(_ANSWER)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_ALL)
    except subprocess.TimeoutExpired:
        return Audit(unreached=f"{service} did not answer within {_ALL} s")
    return audit_in(result.stdout, result.stderr, service)


def audit_in(output: str, errors: str, service: str) -> Audit:
    """Reads what pip-audit printed. It ends with status 0, too, if the service knew no package at all."""
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = errors.strip().splitlines()
        return Audit(unreached=f"{service} cannot be reached ({lines[-1][:200] if lines else 'no answer'})")
    checked = [package for package in packages if "skip_reason" not in package]
    if not checked:
        return Audit(unreached=f"{service} answers for none of {len(packages)} packages", unknown=len(packages))
    vulnerable = [
        f"{package['name']} {package['version']}: {vulnerability['id']}"
        for package in checked
        for vulnerability in package["vulns"]
    ]
    return Audit(len(checked), len(packages) - len(checked), tuple(vulnerable))


if __name__ == "__main__":
    sys.exit(main())
