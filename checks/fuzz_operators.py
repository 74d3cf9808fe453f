"""Calls every operator of ladderseg_fast.ops with arguments drawn from a seed, on the CPU.

Half of the calls are right: sides of 0, of 1 and around the widths of tiles, any strides, views that overlap, arguments
that share memory, every dtype, extremes of numbers, any subset of gradients, instruction sets and threads in turn.
Their results must be those of the plain-torch reference in float64. In the others one argument is wrong: they must
raise TypeError, ValueError or RuntimeError, and name the argument. No call may change a byte of its arguments.

The calls run in child processes, a batch in each, so that a crash is seen, with the number of its call. The exit status
is 1 if there is a finding; each says how to repeat it.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from sanitized_core import ADDRESS, build, environment, found

_BATCH = 500
#: Seconds for one batch, beyond which a call is taken to hang.
_LONGEST_BATCH = 1800


def main() -> int:
    options = parse_arguments()
    if options.call is not None:
        run_batch(options.seed, options.call, 1, None)
        return 0
    if options.batch is not None:
        run_batch(options.seed, *options.batch, options.report)
        return 0
    calls, findings, seconds = fuzz(options.seed, 60.0 * options.minutes, options.sanitized)
    wrong = sum(count for name, count in calls.items() if name.endswith(", wrong"))
    minutes = f"{seconds / 60:.0f} minutes of a processor"
    summary = f"{len(findings)} findings in {calls.total()} calls, {wrong} of them wrong, {minutes}"
    print(f"seed {options.seed}: {summary}")
    for number, finding in findings:
        print(f"\n{finding}\n  python checks/fuzz_operators.py --seed {options.seed} --call {number}")
    if options.record:
        from record import record

        record(
            "fuzz_operators" + ("-sanitized" if options.sanitized else ""),
            claim="Whatever an operator is called with, it is exact or refuses"
            + ("; the same under AddressSanitizer" if options.sanitized else ""),
            found=summary,
            figures={"seed": options.seed, "calls": dict(sorted(calls.items())), "findings": findings},
        )
    return 1 if findings else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of a processor (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--sanitized", action="store_true", help="with the core under AddressSanitizer")
    parser.add_argument("--record", action="store_true", help="write the result to checks/results")
    parser.add_argument("--call", type=int, metavar="NUMBER", help="only make this call, in this process")
    parser.add_argument("--batch", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def fuzz(seed: int, seconds: float, sanitized: bool) -> tuple[Counter[str], list[tuple[int, str]], float]:
    """Runs batches for so many seconds of a processor; returns numbers of calls, findings, and the seconds it took.

    The calls are counted by operator. A finding is the number of the call, and a text.
    """
    calls: Counter[str] = Counter()
    findings: list[tuple[int, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        report, reports = Path(folder, "calls"), Path(folder, "report")
        package = build(ADDRESS, every_instruction_set=True) if sanitized else None
        variables = dict(os.environ) if package is None else environment(ADDRESS, package, reports)
        started, first = _processor_seconds(), 0
        while _processor_seconds() < started + seconds:
            report.write_text("")
            arguments = ["--seed", str(seed), "--batch", str(first), str(_BATCH), "--report", str(report)]
            ended = _run([sys.executable, __file__, *arguments], variables)
            lines = [json.loads(line) for line in report.read_text().splitlines()]
            calls.update(line["about"] for line in lines if "about" in line)
            findings += [(line["number"], line["finding"]) for line in lines if "finding" in line]
            first += _BATCH
            if ended is not None:
                # The call after the last one that was reported has ended the process.
                number = max((line["number"] for line in lines), default=first - _BATCH - 1) + 1
                findings.append((number, "\n".join([ended, *found(reports)])))
                first = number + 1
                for path in reports.parent.glob(f"{reports.name}.*"):
                    path.unlink()
        return calls, findings, _processor_seconds() - started


def _processor_seconds() -> float:
    """Seconds of a processor that ended child processes have taken: how busy the machine is does not matter."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(command: list[str], variables: dict[str, str]) -> str | None:
    """Runs it; returns how it ended unless all is well."""
    try:
        process = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=_LONGEST_BATCH)
    except subprocess.TimeoutExpired:
        return f"not done after {_LONGEST_BATCH} s"
    if process.returncode == 0:
        return None
    how = signal.Signals(-process.returncode).name if process.returncode < 0 else f"status {process.returncode}"
    return f"the process ended with {how}\n{process.stderr[-4000:]}"


def run_batch(seed: int, first: int, count: int, report: Path | None) -> None:
    """Makes calls; writes a line of JSON to `report` after each, or raises what one raises if there is no report."""
    from operator_case import Case, run_case

    for number in range(first, first + count):
        about: list[Case] = []
        line: dict[str, Any] = {"number": number}
        try:
            run_case(seed, number, about)
        except Exception as error:
            if report is None:
                print(*about)
                raise
            where = "" if isinstance(error, AssertionError) else traceback.format_exc(limit=-4)
            described = about[0].described if about else "before the call"
            line["finding"] = f"{described}\n  {error}\n{where}"
        if about:
            line["about"] = about[0].operator + (", wrong" if about[0].wrong else "")
        if report is not None:
            with open(report, "a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(main())
