"""`ladderseg report` writes a page about the course of one or several runs."""

import argparse

from ..engine import RunDirectory
from ..engine.report import MOST_RUNS, write_report
from ..engine.terminal import show
from .arguments import path


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the sub-command and its options."""
    parser = commands.add_parser(
        "report",
        help="show the course of a training as a page",
        description="Write one HTML page about a training, also while it goes on: curves, scores of every class, the "
        "confusion matrix, overlays, memory and speed, settings. Several runs are compared, their curves over each "
        "other. The page needs no other file and no network.",
    )
    parser.add_argument(
        "runs",
        type=path,
        nargs="+",
        metavar="RUN",
        help=f"directory that ladderseg train wrote; at most {MOST_RUNS}",
    )
    parser.add_argument(
        "--out", type=path, metavar="FILE", help="the page (default: report.html in RUN; several runs need it)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Writes the page."""
    if arguments.out is None and len(arguments.runs) > 1:
        raise ValueError("a report of several runs needs --out FILE")
    out = arguments.out
    if out is None:
        run_directory = RunDirectory(arguments.runs[0])
        run_directory.check_page()
        out = run_directory.report
    for directory in arguments.runs:
        RunDirectory(directory).check_output(out)
    write_report(arguments.runs, out)
    show(f"written to {out}")
    return 0
