"""Runs the C++ core under GCC's sanitizers, on the CPU; every report is a failure.

`address` is AddressSanitizer and UndefinedBehaviorSanitizer, with the tests of the operators and of the headers of the
CPU's kernels; calls of every kernel with arguments that do not fit are among them. `thread` is ThreadSanitizer, with
thread_stress.py: threads of Python that train and predict at once, each on a team of threads of the core.

The core is compiled first (GCC with its sanitizers, CMake and Ninja; to build/sanitized, where the next run finds it).
The package that is used otherwise is left alone.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sanitized_core import ADDRESS, ROOT, THREAD, BuildFailed, build, environment, found

#: Tests of a quick run: values, threads and misuse of every operator.
_QUICK_TESTS = "equals_reference or test_threads or misuse"

#: A kernel that is told of more memory than there is: the sanitizer must see it, or it sees nothing.
_PLANTED = {
    ADDRESS: """
import torch
from ladderseg_fast import _core
memory = torch.zeros(16)
address = memory.data_ptr()
vector = (address, -1, 4 * 400)
kernel = _core.bn_relu_forward
a_map = _core.FeatureMap(address, -1, 4, 1, 1, 1, 400, 400)
kernel(_core.Cpu(_core.Element.float32, 1), a_map, _core.Norm(vector, vector, vector), a_map)
""",
    # Two threads, both of which write the same map.
    THREAD: """
import threading, torch
from ladderseg_fast import _core
x = torch.ones(1, 16, 128, 128).contiguous(memory_format=torch.channels_last)
a_map = _core.FeatureMap(x.data_ptr(), -1, 4, 1, 128, 128, 16, 16)
ones = torch.ones(16)
vector = (ones.data_ptr(), -1, 64)
def work():
    for _ in range(10):
        _core.bn_relu_forward(_core.Cpu(_core.Element.float32, 1), a_map, _core.Norm(vector, vector, vector), a_map)
threads = [threading.Thread(target=work) for _ in range(2)]
[each.start() for each in threads]
[each.join() for each in threads]
""",
}


def main() -> int:
    options = parse_arguments()
    try:
        started = time.monotonic()
        package = build(options.kind, every_instruction_set=options.kind == ADDRESS and not options.quick)
        built = time.monotonic() - started
    except BuildFailed as error:
        print(error, file=sys.stderr)
        return 1
    if not _sees_a_planted_fault(options.kind, package):
        print("the sanitizer does not see the fault that this script has planted: it watches nothing", file=sys.stderr)
        return 1
    started = time.monotonic()
    run = _address if options.kind == ADDRESS else _thread
    status, done, reports = run(package, options.quick)
    seconds = time.monotonic() - started
    for report in reports:
        print(f"{report}\n")
    passed = status == 0 and not reports
    kinds = len({report.partition("SUMMARY:")[2] for report in reports})
    found = f"{kinds} kinds of reports; {done}" + ("" if status == 0 else f"; exit status {status}")
    print(f"{found}; compiled in {built:.0f} s, run in {seconds:.0f} s")
    if options.record:
        from record import record

        names = {ADDRESS: "AddressSanitizer and UndefinedBehaviorSanitizer", THREAD: "ThreadSanitizer"}
        record(
            f"sanitizers-{options.kind}",
            claim=f"{names[options.kind]} report nothing about the C++ core"
            if options.kind == ADDRESS
            else f"{names[options.kind]} reports nothing about the C++ core",
            found=found,
            figures={"compiled_s": round(built), "run_s": round(seconds), "quick": options.quick},
        )
    return 0 if passed else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[ADDRESS, THREAD])
    parser.add_argument("--quick", action="store_true", help="a part that takes about two minutes beside compiling")
    parser.add_argument("--record", action="store_true", help="write the result to checks/results")
    return parser.parse_args()


def _sees_a_planted_fault(kind: str, package: Path) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        reports = Path(folder, "report")
        command = [sys.executable, "-c", _PLANTED[kind]]
        subprocess.run(command, env=environment(kind, package, reports), cwd=folder, capture_output=True, text=True)
        return any("bn_relu" in report for report in found(reports))


def _address(package: Path, quick: bool) -> tuple[int, str, list[str]]:
    """Runs tests; returns pytest's exit status, its summary, and the reports."""
    folders = ["ops"] if quick else ["ops", "cpu"]
    chosen = ["-k", _QUICK_TESTS] if quick else []
    # What the sanitizer of undefined behaviour has found is on the standard error, which pytest is not to capture (-s).
    return _run([sys.executable, "-m", "pytest", "-q", "-x", "-s", *folders, *chosen], ADDRESS, package, ROOT / "tests")


def _thread(package: Path, quick: bool) -> tuple[int, str, list[str]]:
    """Runs thread_stress.py; returns its exit status, what it printed, and the reports."""
    size = "threads=3, team=2, steps=1" if quick else "threads=4, team=3, steps=4"
    program = f"import thread_stress\nequal = thread_stress.stress({size})\n"
    program += f"print('{size}:', 'the same bits' if equal else 'other results')\nraise SystemExit(not equal)"
    return _run([sys.executable, "-c", program], THREAD, package, ROOT / "checks")


def _run(command: list[str], kind: str, package: Path, place: Path) -> tuple[int, str, list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        reports = Path(folder, "report")
        variables = environment(kind, package, reports)
        result = subprocess.run(command, env=variables, cwd=place, capture_output=True, text=True)
        undefined = re.findall(r"^\S+: runtime error: .*(?:\n +#.*){,20}", result.stderr, re.MULTILINE)
        if result.returncode != 0:
            print(result.stdout[-8000:], result.stderr[-4000:], sep="\n")
        lines = result.stdout.strip().splitlines() or [""]
        done = re.sub(r" in [\d.]+s.*", "", lines[-1]).strip("= ")
        return result.returncode, done, [*found(reports), *undefined]


if __name__ == "__main__":
    sys.exit(main())
