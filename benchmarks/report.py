"""Wording of the memory benchmark's report: its table and its closing sentence."""

import argparse
from dataclasses import dataclass

from arguments import size_text
from best_method import Best
from in_turn import Outcome
from result_check import EXACT_SIZE, TOLERANCES

from ladderseg_fast.models.registry import CONFIGURATIONS, full_name

#: Says what the names of methods do not.
LEAN_LOSS_NOTE = '*-lean-loss: the same network with LadderLoss(memory="lean") in place of PyTorch\'s own loss.'


@dataclass(frozen=True)
class Configuration:
    """Machine and step of the measurement, in words."""

    step: str
    machine: str
    procedure: str
    layout: str
    memory: str
    dtype: str


def configuration(options: argparse.Namespace, run: dict | None) -> Configuration:
    """Configuration of any `run` of the benchmark; None if every method failed."""
    return Configuration(
        step=f"{network(options.model)}, {options.batch} x {size_text(options.size)}, {options.dtype}",
        machine=machine(options, run),
        procedure=procedure(options),
        layout=layout(options),
        memory="not measured" if run is None else run["how_measured"],
        dtype=options.dtype,
    )


def machine(options: argparse.Namespace, run: dict | None) -> str:
    """Device, threads and torch of any `run` of a benchmark; None if every method failed."""
    if run is None:
        return "unknown: no method ran"
    found = run["machine"]
    threads = f", {found['threads']} thread{'s' * (found['threads'] > 1)}" if options.device == "cpu" else ""
    return f"{found['device']}{threads}, torch {found['torch']}"


def procedure(options: argparse.Namespace) -> str:
    """Processes and steps of which the numbers are medians."""
    return (
        f"Medians of {options.repeats} fresh process{'es' * (options.repeats > 1)} per method, in turn; "
        f"{options.warmup} + {options.steps} steps each, the first {options.warmup} not timed"
    )


def layout(options: argparse.Namespace) -> str:
    """Memory layout of the methods that do not choose their own."""
    return "channels_last" if options.channels_last else "contiguous (NCHW)"


def network(model: str) -> str:
    """Name from the paper, shortened: LDN-121 for ladder_densenet121."""
    return CONFIGURATIONS[full_name(model)].title.replace("LadderDenseNet", "LDN").removesuffix(" 4x")


def table(outcomes: list[Outcome], setting: Configuration, reference: str | None) -> str:
    """Results in Markdown, with their meaning below."""
    best, reserved = Best.of(outcomes), any(outcome.reserved_bytes is not None for outcome in outcomes)
    rows = [["method", "peak memory", *["reserved"] * reserved, "of the least", "time per step", "of the fastest"]]
    rows += [row(outcome, best, reserved) for outcome in outcomes]
    lines = [f"One training step of {setting.step}", f"on {setting.machine}", "", markdown_table(rows), ""]
    if best is not None:
        lines += [best.sentence, LEAN_LOSS_NOTE]
    return "\n".join([*lines, *footnotes(setting, reference)])


def row(outcome: Outcome, best: Best | None, reserved: bool) -> list[str]:
    if outcome.failure is not None:
        return [outcome.method, f"failed: {outcome.failure}"]
    ratios = ("-", "-") if best is None else (best.memory_ratio(outcome), best.time_ratio(outcome))
    sizes = [outcome.peak_bytes, *[outcome.reserved_bytes] * reserved]
    return [outcome.method, *map(gigabytes, sizes), ratios[0], f"{outcome.seconds:.2f} s", ratios[1]]


def markdown_table(rows: list[list[str]]) -> str:
    """Table of rows, the first of which is the head. A shorter row, such as a failure with a long reason, widens no
    column of numbers."""
    count = len(rows[0])
    full = [row for row in rows if len(row) == count]
    widths = [max(len(row[column]) for row in full) for column in range(count)]
    widths[0] = max(len(row[0]) for row in rows)
    rule = f"|{'-' * (widths[0] + 2)}|" + "".join(f"{'-' * (width + 1)}:|" for width in widths[1:])
    return "\n".join([markdown_row(rows[0], widths), rule, *(markdown_row(row, widths) for row in rows[1:])])


def markdown_row(cells: list[str], widths: list[int]) -> str:
    first = f"| {cells[0]:{widths[0]}} |"
    return first + "".join(f" {cell:>{width}} |" for cell, width in zip(cells[1:], widths[1:]))


def footnotes(setting: Configuration, reference: str | None) -> list[str]:
    notes = [
        f"{setting.procedure}; forward, loss and backward, gradients kept, no optimiser.",
        f"Peak memory: {setting.memory} over all steps, less what was in use once "
        "modules were imported and model, images and labels existed.",
        f"Memory layout of all methods but lean: {setting.layout}.",
    ]
    if reference is not None:
        measured, exact = TOLERANCES[setting.dtype], TOLERANCES["float64"]
        notes.append(
            f"Checked against {reference}: in a float64 step on at most {size_text(EXACT_SIZE)} of the same images "
            f"loss and gradients agree to {exact['loss']:.0e} and {exact['gradient']:.0e} (relative L2)."
        )
        if setting.dtype != "float64":
            notes.append(
                f"The step that was measured is looked through for gross errors only: rounding to {setting.dtype} "
                "alone moves gradients, those of plain PyTorch in another memory layout too (NOTES.md). Its loss is "
                f"off by less than {measured['loss']:.0e}, its gradients by less than {measured['gradient']:.1g}, "
                "where those that have nothing to do with each other differ by 1 or more."
            )
    return notes


def sentence(outcomes: list[Outcome], options: argparse.Namespace) -> str | None:
    """Sentence about lean and the best of the other methods; None if one of them was not measured."""
    lean, best = find(outcomes, "lean"), Best.of(outcomes)
    if lean is None or best is None:
        return None
    return (
        f"lean trains {network(options.model)} at {options.batch} x {size_text(options.size)} in "
        f"{gigabytes(lean.peak_bytes)}, {best.memory_ratio(lean)} of the least of the others "
        f"({best.smallest.method}), at {best.time_ratio(lean)} of the time of the fastest ({best.fastest.method})."
    )


def find(outcomes: list[Outcome], method: str) -> Outcome | None:
    """Outcome of the method if it was measured and did not fail."""
    return next((o for o in outcomes if o.method == method and o.failure is None), None)


def gigabytes(count: int) -> str:
    """Text of bytes in units of 10^9."""
    return f"{count / 1e9:.2f} GB"
