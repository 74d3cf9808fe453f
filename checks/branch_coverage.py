"""Runs the test suite, and counts which lines and branches of the package's Python code it has reached.

Both must be at least 95 %. Processes that tests start are counted too. Without arguments after `--` the default suite
runs; with some, what they choose, whose figures are those of a part:

    python checks/branch_coverage.py --least 0 -- tests/engine/test_config.py
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePath

ROOT = Path(__file__).resolve().parents[1]

#: Of coverage.py. What is excluded is never run: declarations of protocols and of abstract methods, and what only type
#: checkers read.
_CONFIGURATION = """\
[run]
branch = true
parallel = true
source_pkgs = ladderseg_fast
concurrency = thread, multiprocessing
patch = subprocess, fork, _exit
sigterm = true
data_file = {folder}/data

[report]
exclude_also =
    if TYPE_CHECKING:
    ^\\s*\\.\\.\\.$
    :\\s*\\.\\.\\.$
    @abstractmethod
"""


#: pytest's exit status if it has found no test.
_NO_TESTS = 5

#: A plugin of pytest, which leaves the tests of some files to other processes. Those of pytest-xdist are killed, with
#: what they have counted, if they take more than ten seconds to end.
_SHARING = """\
import os


def pytest_collection_modifyitems(config, items):
    own, processes = int(os.environ["COVERED_PART"]), int(os.environ["COVERED_PARTS"])
    files = {path: number for number, path in enumerate(sorted({item.path for item in items}))}
    left = [item for item in items if files[item.path] % processes != own]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if files[item.path] % processes == own]
"""


@dataclass(frozen=True)
class Count:
    """Lines and branches of some code, and how many of them have run."""

    lines: int = 0
    lines_run: int = 0
    branches: int = 0
    branches_run: int = 0

    @staticmethod
    def of(summary: dict[str, int]) -> "Count":
        """Count of a file, whose `summary` has coverage.py's names."""
        names = ("num_statements", "covered_lines", "num_branches", "covered_branches")
        return Count(*(summary[name] for name in names))

    def __add__(self, other: "Count") -> "Count":
        return Count(
            self.lines + other.lines,
            self.lines_run + other.lines_run,
            self.branches + other.branches,
            self.branches_run + other.branches_run,
        )

    @property
    def missing(self) -> int:
        return self.lines - self.lines_run + self.branches - self.branches_run

    @property
    def of_lines(self) -> float:
        """Percent of the lines."""
        return 100.0 * self.lines_run / self.lines if self.lines else 100.0

    @property
    def of_branches(self) -> float:
        """Percent of the branches."""
        return 100.0 * self.branches_run / self.branches if self.branches else 100.0

    def __str__(self) -> str:
        return f"{self.of_lines:6.1f} % of lines {self.of_branches:6.1f} % of branches {self.missing:6} missing"


def measured(arguments: list[str], processes: int, kept: Path | None = None) -> tuple[dict[PurePath, Count], int]:
    """Counts by file of the package, and pytest's exit status, of a run with these arguments in so many processes.

    Copies of the package that tests make in other folders do not count. coverage.py's report, which names each line and
    branch, is written to `kept`.
    """
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder) / "coverage.ini"
        configuration.write_text(_CONFIGURATION.format(folder=folder))
        tool, options = [sys.executable, "-m", "coverage"], [f"--rcfile={configuration}"]
        Path(folder, "coverage_sharing.py").write_text(_SHARING)
        paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), folder]))
        plugins = ["-p", "no:cacheprovider", "-p", "coverage_sharing"]
        # The script and not the module, which would have the repository's root on the search path: the sources there
        # stand aside for an installed package, and would be counted in its place.
        script = str(Path(sysconfig.get_path("scripts"), "pytest"))
        run = [*tool, "run", *options, script, "-q", *plugins, *arguments]
        variables = os.environ | {"PYTHONPATH": paths, "COVERED_PARTS": str(processes)}
        runs = [
            subprocess.Popen(run, cwd=ROOT, env=variables | {"COVERED_PART": str(part)}) for part in range(processes)
        ]
        # Of few files there are none for some processes.
        statuses = {each.wait() for each in runs} - ({_NO_TESTS} if processes > 1 else set())
        report = Path(folder) / "report.json"
        for command in (["combine", *options], ["json", *options, "-q", "-o", str(report)]):
            subprocess.run([*tool, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        files = json.loads(report.read_text())["files"]
        if kept is not None:
            shutil.copyfile(report, kept)
    package = _package()
    counts = {ROOT / name: Count.of(each["summary"]) for name, each in files.items()}
    own = {path.relative_to(package.parent): count for path, count in counts.items() if path.is_relative_to(package)}
    return own, max(statuses, default=_NO_TESTS)


def _package() -> Path:
    """Folder of the package that is imported: the checkout's, or that of the installed one."""
    spec = importlib.util.find_spec("ladderseg_fast")
    if spec is None or spec.origin is None:
        raise SystemExit("ladderseg_fast is not installed")
    return Path(spec.origin).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=2, help="processes that run tests side by side")
    parser.add_argument("--least", type=float, default=95.0, help="percent below which the check fails")
    parser.add_argument("--worst", type=int, default=25, help="files to name")
    parser.add_argument("--json", type=Path, help="file for coverage.py's report, with each line that did not run")
    parser.add_argument("--record", action="store_true", help="write the results")
    parser.add_argument("tests", nargs="*", help="arguments of pytest, after --")
    options = parser.parse_args()
    counts, status = measured(options.tests, options.n, options.json)
    folders: defaultdict[str, Count] = defaultdict(Count)
    total = Count()
    for path, count in counts.items():
        folders[str(path.parent)] += count
        total += count
    for name, count in sorted(folders.items()):
        print(f"{count}  {name}/")
    print("\nFiles with the most lines and branches that did not run:")
    worst = sorted(counts.items(), key=lambda item: -item[1].missing)[: options.worst]
    for path, count in worst:
        print(f"{count}  {path}")
    print(f"\n{total}  in all")
    if status != 0:
        raise SystemExit(f"the tests fail: exit status {status} of pytest")
    if options.record:
        _record(total, folders, worst)
    if min(total.of_lines, total.of_branches) < options.least:
        sys.exit(1)


def _record(total: Count, folders: dict[str, Count], worst: list[tuple[PurePath, Count]]) -> None:
    from record import record

    record(
        "branch_coverage",
        claim="The default test suite runs at least 95 % of the package's lines of Python and of their branches",
        found=f"{total.of_lines:.1f} % of {total.lines} lines, {total.of_branches:.1f} % of {total.branches} branches",
        figures={
            "folders": {name: str(count).strip() for name, count in sorted(folders.items())},
            "worst": {str(path): str(count).strip() for path, count in worst},
        },
    )


if __name__ == "__main__":
    main()
