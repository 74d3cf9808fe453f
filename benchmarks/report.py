"""Wording of the memory benchmark's report: its table and its closing sentence."""

import argparse
from dataclasses import dataclass

from arguments import size_text
from in_turn import Outcome
from result_check import EXACT_SIZE, TOLERANCES

from ladderseg_fast.models.registry import CONFIGURATIONS, full_name


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
    machine, memory = "unknown: no method ran", "not measured"
    if run is not None:
        found = run["machine"]
        threads = f", {found['threads']} thread{'s' * (found['threads'] > 1)}" if options.device == "cpu" else ""
        machine = f"{found['device']}{threads}, torch {found['torch']}"
        memory = run["how_measured"]
    return Configuration(
        step=f"{network(options.model)}, {options.batch} x {size_text(options.size)}, {options.dtype}",
        machine=machine,
        procedure=(
            f"Medians of {options.repeats} fresh process{'es' * (options.repeats > 1)} per method, in turn; "
            f"{options.warmup} + {options.steps} steps each, the first {options.warmup} not timed"
        ),
        layout="channels_last" if options.channels_last else "contiguous (NCHW)",
        memory=memory,
        dtype=options.dtype,
    )


def network(model: str) -> str:
    """Name from the paper, shortened: LDN-121 for ladder_densenet121."""
    return CONFIGURATIONS[full_name(model)].title.replace("LadderDenseNet", "LDN").removesuffix(" 4x")


def table(outcomes: list[Outcome], setting: Configuration, reference: str | None) -> str:
    """Results in Markdown, with their meaning below."""
    plain = find(outcomes, "plain")
    rows = [["method", "peak memory", "of plain", "time per step", "of plain"]]
    rows += [row(outcome, plain) for outcome in outcomes]
    widths = [max(len(cells[column]) for cells in rows if len(cells) > column) for column in range(5)]
    # A failure's reason may be long: it must not widen the column of numbers.
    widths[1] = max(len(cells[1]) for cells in rows if len(cells) == 5)
    lines = [f"One training step of {setting.step}", f"on {setting.machine}", ""]
    lines.append(markdown_row(rows[0], widths))
    lines.append(f"|{'-' * (widths[0] + 2)}|" + "".join(f"{'-' * (width + 1)}:|" for width in widths[1:]))
    lines += [markdown_row(cells, widths) for cells in rows[1:]]
    return "\n".join(lines + ["", *footnotes(setting, reference)])


def row(outcome: Outcome, plain: Outcome | None) -> list[str]:
    if outcome.failure is not None:
        return [outcome.method, f"failed: {outcome.failure}"]
    memory_ratio = time_ratio = "-"
    if plain is not None:
        memory_ratio = f"{100 * outcome.peak_bytes / plain.peak_bytes:.0f} %"
        time_ratio = f"{outcome.seconds / plain.seconds:.2f}"
    return [outcome.method, gigabytes(outcome.peak_bytes), memory_ratio, f"{outcome.seconds:.2f} s", time_ratio]


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
    """Sentence about lean (or, without it, about the least memory); None if nothing could be compared."""
    measured = [outcome for outcome in outcomes if outcome.failure is None and outcome.method != "plain"]
    plain = find(outcomes, "plain")
    best = find(outcomes, "lean") or min(measured, key=lambda outcome: outcome.peak_bytes, default=None)
    if best is None or plain is None:
        return None
    return (
        f"{best.method} trains {network(options.model)} at {options.batch} x {size_text(options.size)} in "
        f"{gigabytes(best.peak_bytes)} where plain PyTorch takes {gigabytes(plain.peak_bytes)} "
        f"({100 * best.peak_bytes / plain.peak_bytes:.0f} %), at {best.seconds / plain.seconds:.2f} of the time."
    )


def find(outcomes: list[Outcome], method: str) -> Outcome | None:
    """Outcome of the method if it was measured and did not fail."""
    return next((o for o in outcomes if o.method == method and o.failure is None), None)


def gigabytes(count: int) -> str:
    """Text of bytes in units of 10^9."""
    return f"{count / 1e9:.2f} GB"
