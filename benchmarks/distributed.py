"""A training step of one process beside that of several which share its batch, each with one thread.

The processes compute a part of the batch each, and average their gradients over gloo, as `torchrun -m ladderseg_fast
train` does. Peak memory is that of one process (the largest), above what it had before its first step; so it has the
gradients' buckets, but not the model. Collective calls and bytes are those of the gradients, per step and process;
collectives.py counts those of synchronised batch norm.
"""

import argparse
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from arguments import add_step_options, parsed_step, positive, size_text, step_options
from report import gigabytes, machine, markdown_table
from subprocess_step import run_step

METHODS = ("plain", "lean")


def main() -> int:
    options = parse_arguments()
    settings = [(method, processes) for method in METHODS for processes in options.processes]
    runs: dict[tuple[str, int], list[list[dict]]] = {setting: [] for setting in settings}
    for repeat in range(options.repeats):
        for method, processes in settings:
            runs[method, processes].append(run_together(method, processes, options))
            print(f"{method}, {processes} processes: {repeat + 1}/{options.repeats}", file=sys.stderr, flush=True)
    any_run = runs[settings[0]][0][0]
    print(f"{options.model}, {options.batch} x {size_text(options.size)} in all processes, {options.dtype}")
    print(f"on {machine(options, any_run)} per process\n")
    print(table(runs, options.batch))
    print(f"\nBest of {options.repeats} runs of {options.steps} steps, in turn. Memory: {any_run['how_measured']}.")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=positive, nargs="+", default=[1, 2], metavar="N", help="default: 1 2")
    parser.add_argument("--repeats", type=positive, default=3, metavar="N", help="runs of each (default: 3)")
    add_step_options(parser)
    parser.set_defaults(threads=1)
    options = parsed_step(parser)
    if options.device != "cpu":
        parser.error("--device must be cpu: the processes meet by gloo")
    return options


def run_together(method: str, processes: int, options: argparse.Namespace) -> list[dict]:
    """Results of processes that work at the same time, by rank."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(processes) as starters:
        arguments = ["--method", method, *step_options(options), "--processes", str(processes)]
        arguments += ["--rendezvous", str(Path(folder) / "rendezvous")]
        started = [
            starters.submit(run_step, "distributed_step.py", [*arguments, "--rank", str(rank)], timeout=600)
            for rank in range(processes)
        ]
        return [each.result() for each in started]


def table(runs: dict[tuple[str, int], list[list[dict]]], batch: int) -> str:
    """One row per method and number of processes, in Markdown."""
    rows = [["method", "processes", "images/s", "of one process", "peak memory of each", "collective calls", "bytes"]]
    for (method, processes), repeats in runs.items():
        first = next(number for name, number in runs if name == method)
        speed, single = (speed_of(each, batch) for each in (repeats, runs[method, first]))
        peak = statistics.median(max(run["peak_bytes"] for run in ranks) for ranks in repeats)
        gradients = repeats[0][0]
        calls = [str(gradients["calls"]), f"{gradients['bytes'] / 1e6:.1f} MB"] if processes > 1 else ["-", "-"]
        rows.append([method, str(processes), f"{speed:.2f}", f"{speed / single:.2f}", gigabytes(int(peak)), *calls])
    return markdown_table(rows)


def speed_of(repeats: list[list[dict]], batch: int) -> float:
    """Images per second of the best run, in which the slowest process counts."""
    return batch / min(max(run["seconds"] for run in ranks) for ranks in repeats)


if __name__ == "__main__":
    sys.exit(main())
