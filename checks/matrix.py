"""Builds and tries the package with other Pythons, torches, numpys and compilers: which combinations work?

For each combination: a wheel of what is committed, built in an isolated environment with that compiler and that
Python; a fresh environment with that torch, that numpy and the wheel; in it checks/short_suite.py, which tries every
instruction set of the processor and 1 to 16 threads. Interpreters and compilers are this system's, or those of Debian
releases, whose roots debootstrap makes. A combination whose parts are not to be had is recorded as such, and is no
failure. CMAKE_CXX_COMPILER_LAUNCHER may name a compiler cache, for what is built on this system.
"""

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import places
import wheel
from build_wheel import build_wheel
from environment import make_environment
from places import WORK, CommandFailed, Place
from record import record

CLAIM = "Each combination of Python, torch, numpy and compiler that has been tried builds and passes the short suite."


@dataclass(frozen=True)
class Combination:
    """One row: where, which compiler and Python build the wheel, and which torch and numpy run it."""

    place: str
    compiler: str
    python: str
    torch: str
    numpy: str

    @property
    def borrows(self) -> bool:
        """Whether the compiler is the old release's, which has no Python that is new enough: see build_wheel.py."""
        return self.compiler == wheel.OLD_COMPILER

    @property
    def name(self) -> str:
        return f"{self.place}-{self.compiler}-py{self.python}-torch{self.torch}-numpy{self.numpy}"


#: Packages of each Debian release from which a root is made.
ROOTS = {
    "trixie": ["python3", "python3-dev", "g++-13", "g++-14"],
    "sid": ["python3", "python3-dev", "g++"],
}

COMBINATIONS = (
    # Torch 2.4 is the oldest that is admitted, 2.15 the newest there is.
    Combination("host", "g++-12", "3.10", "2.4.0", "1.26.4"),
    Combination("host", "g++-12", "3.11", "2.13.0", "1.26.4"),
    Combination("host", "g++-12", "3.11", "2.13.0", "2.4.6"),
    Combination("host", "g++-12", "3.12", "2.15.0", "2.4.6"),
    Combination("host", "g++-12", "3.13", "2.15.0", "2.4.6"),
    Combination("host", "g++-10", "3.11", "2.4.0", "1.26.4"),
    Combination("host", "g++-10", "3.11", "2.13.0", "2.4.6"),
    Combination("host", "g++-10", "3.11", "2.15.0", "2.4.6"),
    Combination("host", "g++-11", "3.11", "2.13.0", "2.4.6"),
    Combination("host", "clang++-19", "3.11", "2.13.0", "2.4.6"),
    Combination("trixie", "g++-13", "3.13", "2.15.0", "2.4.6"),
    Combination("trixie", "g++-14", "3.13", "2.15.0", "2.4.6"),
    Combination("sid", "g++-16", "3.14", "2.15.0", "2.4.6"),
)


def place_of(combination: Combination, roots: Path, work: Path) -> Place:
    if combination.place == "host":
        return places.host(work)
    return places.debian(combination.place, roots, work, ROOTS[combination.place])


def try_combination(combination: Combination, revision: str, work: Path, keep: bool) -> dict[str, Any]:
    """Outcome: "passed", "failed" or "not to be had", why, and what the suite reports."""
    start, roots = time.monotonic(), work / "roots"
    result: dict[str, Any] = {**asdict(combination), "revision": revision, "outcome": "not to be had", "why": ""}
    try:
        place = place_of(combination, roots, work)
        borrowed = places.debian(wheel.OLD, roots, work, [wheel.OLD_COMPILER]) if combination.borrows else None
        places.python_of(place, combination.python)
        if not (borrowed or place).has(combination.compiler):
            raise CommandFailed(f"{(borrowed or place).name} has no {combination.compiler}")
    except CommandFailed as error:
        return result | {"why": str(error)[-300:]}
    try:
        folder = work / "wheels" / revision / f"{combination.place}-{combination.compiler}-py{combination.python}"
        built = build_wheel(place, combination.compiler, combination.python, folder, borrowed_from=borrowed)
        wanted = [f"torch=={combination.torch}", f"numpy=={combination.numpy}", "pytest", str(built)]
        python = make_environment(place, combination.python, combination.name, wanted)
        report = work / "report.json"
        report.unlink(missing_ok=True)
        command = [str(python), str(work / "source" / "checks" / "short_suite.py"), "--json", str(report)]
        try:
            place.run(command, {"PYTHONPATH": ""})
        finally:
            if report.exists():
                result["suite"] = json.loads(report.read_text())
        result["outcome"] = "passed"
    except CommandFailed as error:
        result |= {"outcome": "failed", "why": str(error)[-2500:]}
    finally:
        if not keep:
            shutil.rmtree(work / "environments" / combination.name, ignore_errors=True)
    return result | {"seconds": round(time.monotonic() - start)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="LADDERSEG_CHECKS_WORK names the directory of work."
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="only combinations with this in their name")
    parser.add_argument("--keep", action="store_true", help="keep the environments")
    parser.add_argument("--known", action="store_true", help="try nothing: take the outcomes of earlier calls")
    parser.add_argument("--list", action="store_true", help="print the combinations and stop")
    parser.add_argument("--record", action="store_true", help="record the outcomes so far in checks/results")
    options = parser.parse_args()
    chosen = [combination for combination in COMBINATIONS if options.only in combination.name]
    if options.list:
        print(*(combination.name for combination in chosen), sep="\n")
        return 0
    work = WORK.resolve()
    work.mkdir(parents=True, exist_ok=True)
    results = work / "results"
    results.mkdir(exist_ok=True)
    if not options.known:
        revision = places.export_sources(work / "source")
        for combination in chosen:
            result = try_combination(combination, revision, work, options.keep)
            text = json.dumps(result, indent=1).replace(str(work), "WORK").replace(str(Path.home()), "HOME")
            (results / f"{combination.name}.json").write_text(text)
            print(f"{combination.name}: {result['outcome']} {result['why']}", flush=True)
    known = [results / f"{combination.name}.json" for combination in COMBINATIONS]
    everything = [json.loads(path.read_text()) for path in known if path.exists()]
    failed = [each for each in everything if each["outcome"] == "failed"]
    if options.record:
        counts = Counter(each["outcome"] for each in everything)
        counts["not tried"] = len(COMBINATIONS) - len(everything)
        found = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        revisions = " and ".join(sorted({each["revision"][:7] for each in everything}))
        found = f"combinations: {found}; built from {revisions}"
        record("matrix", claim=CLAIM, found=found, figures={"combinations": everything})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
