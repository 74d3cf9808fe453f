"""Makes one mistake after the other in copies of the package: the tests must find at least 95 % of them.

The lists of mistakes are mutants_of_lean.py and mutants_of_core.py, written by hand. Each names the tests that ought to
find it, which must pass without it.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import mutants_of_core
import mutants_of_lean
import pytest  # noqa: F401
import torch  # noqa: F401  # for all forks
from mutant import ROOT, Mutant, run_tests
from mutated_copies import BuildFailed, CoreCopy, PythonCopy

PARTS = {"python": mutants_of_lean.MUTANTS, "core": mutants_of_core.MUTANTS}
_LEAST_SHARE = 0.95


class Copy(Protocol):
    """A copy of the package: PythonCopy or CoreCopy."""

    package: Path

    def with_mistake(self, mutant: Mutant) -> AbstractContextManager[None]: ...


class Trials:
    """The mistakes tried so far.

    Attributes:
        survivors: those that the tests have not found.
    """

    def __init__(self, copy: Copy, log: Path, wall_limit: float) -> None:
        self._copy, self._log, self._limit = copy, log, wall_limit
        self._usual: dict[tuple[str, ...], float] = {}
        self.survivors: list[Mutant] = []
        self.killed = 0

    def _seconds(self, tests: tuple[str, ...]) -> float:
        """Processor time of tests on the package as it is, run when they are needed first."""
        if tests not in self._usual:
            run = run_tests(self._copy.package, tests, self._log, self._limit)
            if not run.passed:
                raise SystemExit(f"{' '.join(tests)} fail without a mistake:\n{self._log.read_text()[-4000:]}")
            print(f"{run.seconds:6.1f} s without a mistake: {' '.join(tests)}", flush=True)
            self._usual[tests] = run.seconds
        return self._usual[tests]

    def try_out(self, number: int, mutant: Mutant) -> None:
        """Runs the tests of a mistake, which must pass without it.

        Raises:
            SystemExit: they do not, it does not compile, or its text is not in the file once.
        """
        usual = self._seconds(mutant.tests)
        try:
            with self._copy.with_mistake(mutant):
                run = run_tests(self._copy.package, mutant.tests, self._log, self._limit, usual)
        except (BuildFailed, ValueError) as error:
            raise SystemExit(f"mistake {number}, {mutant.mistake}: {error}") from error
        if run.passed:
            self.survivors.append(mutant)
        else:
            self.killed += 1
        verdict = "SURVIVED" if run.passed else f"found ({run.ending})"
        print(f"{run.seconds:6.1f} s {number:3} {mutant.file}: {mutant.mistake}: {verdict}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, help="mistakes in lean/ (python) or in csrc/ (core); default: both")
    parser.add_argument("--only", default="", help="those whose file or mistake has this text")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds that the tests of one mistake may take")
    parser.add_argument("--record", action="store_true", help="write the results")
    options = parser.parse_args()
    survivors: list[Mutant] = []
    total = 0
    counts: dict[str, dict[str, int]] = {}
    for part in [options.part] if options.part else PARTS:
        chosen = [
            (number, each)
            for number, each in enumerate(PARTS[part], start=1)
            if options.only in each.file or options.only in each.mistake
        ]
        if not chosen:
            continue
        with tempfile.TemporaryDirectory() as folder:
            if part == "python":
                copy: Copy = PythonCopy(Path(folder) / "package")
            else:
                copy = CoreCopy(ROOT / "build" / "mutants")
            trials = Trials(copy, Path(folder) / "log", options.limit)
            for number, mutant in chosen:
                trials.try_out(number, mutant)
        survivors += trials.survivors
        total += len(chosen)
        counts[part] = {"mistakes": len(chosen), "found": trials.killed}
    if not total:
        raise SystemExit(f"no mistake has the text {options.only!r}")
    found = total - len(survivors)
    print(f"{found} of {total} mistakes found")
    for mutant in survivors:
        print(f"SURVIVED: {mutant.file}: {mutant.mistake}")
    if options.record:
        _record(options.part, found, total, counts, survivors)
    if found < _LEAST_SHARE * total:
        sys.exit(1)


def _record(part: str | None, found: int, total: int, counts: object, survivors: Sequence[Mutant]) -> None:
    from record import record  # loads the package, which the forks must not have

    names = {None: "lean/ and the C++ core's operators", "python": "lean/", "core": "the C++ core's operators"}
    record(
        "mutants" if part is None else f"mutants-{part}",
        claim=f"The tests find at least 95 % of the mistakes that are planted in {names[part]}",
        found=f"{found} of {total}",
        figures={"parts": counts, "survivors": [f"{each.file}: {each.mistake}" for each in survivors]},
    )


if __name__ == "__main__":
    main()
