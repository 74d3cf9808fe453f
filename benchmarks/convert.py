"""Peak memory and time of a training step of other libraries' networks: plain, checkpointed, and converted.

Checkpointing is what the network's library offers (other_networks.py). All three run with tcmalloc preloaded too, if it
is found (speed.py says why); parts of a converted network are still PyTorch's own. Every method runs in fresh processes
of its own, in turn with the others. A method whose loss or gradients are not those of plain is reported as failed and
not timed, and so is the conversion of a network if it leaves everything alone.
"""

import argparse
import sys
from dataclasses import dataclass

from arguments import add_batch_options, batch_options, parsed_step, size_text
from best_method import Best
from convert_step import EXACT_SHAPE, METHODS
from in_turn import Measurements, Outcome, Variant, measure_in_turn
from other_networks import NETWORKS
from report import gigabytes, layout, machine, markdown_table, procedure
from result_check import TOLERANCES
from speed import TCMALLOC, add_measurements, add_turn_options, choice_list


@dataclass(frozen=True)
class Case:
    """A network, and the batch of images that it is trained on."""

    network: str
    batch: int
    size: tuple[int, int]


CASES = (
    Case("torchvision-densenet121", 16, (224, 224)),
    Case("torchvision-densenet121", 4, (512, 512)),
    Case("timm-densenet201", 4, (512, 512)),
    Case("torchvision-resnet50", 8, (512, 512)),
    Case("smp-unet-densenet121", 4, (512, 512)),
    Case("smp-unet-resnet34", 4, (512, 512)),
)


def main() -> int:
    options = parse_arguments()
    failed = False
    for case in cases(options):
        options.batch, options.size = case.batch, case.size
        measured = measure_in_turn(variants(case.network, options), options.repeats)
        print(report(case, options, measured), flush=True)
        if options.record and measured.any_run() is not None:
            add_measurements(f"training {case.network}", "converted step", {"network": case.network}, options, measured)
        for method, reason in measured.failures.items():
            print(f"{case.network}, {method} failed: {reason}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--networks",
        type=choice_list(NETWORKS),
        default=list(NETWORKS),
        metavar="A,B",
        help=f"of {', '.join(NETWORKS)} (default: all)",
    )
    add_batch_options(parser)
    parser.set_defaults(batch=None, size=None)
    add_turn_options(parser)
    parser.add_argument(
        "--record", action="store_true", help="also add the numbers to this machine's file of the day in results/"
    )
    options = parsed_step(parser)
    if (options.batch is None) != (options.size is None):
        parser.error("--batch and --size belong together: without them each network has its own")
    if options.record and options.device != "cpu":
        parser.error("--record is for the CPU")
    return options


def cases(options: argparse.Namespace) -> list[Case]:
    """The networks chosen, with their own batches or with the one that the options give."""
    if options.batch is not None:
        return [Case(network, options.batch, options.size) for network in options.networks]
    return [case for case in CASES if case.network in options.networks]


def variants(network: str, options: argparse.Namespace) -> list[Variant]:
    """Variants with plain first, because the others are checked against it."""
    chosen = []
    for method in METHODS:
        arguments = ("--method", method, "--network", network, *batch_options(options))
        chosen.append(Variant(method, "convert_step.py", arguments))
        if options.tcmalloc:
            chosen.append(Variant(method + TCMALLOC, "convert_step.py", arguments, preload=options.tcmalloc))
    return chosen


def report(case: Case, options: argparse.Namespace, measured: Measurements) -> str:
    """Results of a case in Markdown, with their meaning below."""
    network, run = NETWORKS[case.network], measured.any_run()
    lines = [
        f"One training step of {network.title}, {case.batch} x {size_text(case.size)}, {options.dtype}",
        f"on {machine(options, run)}\n",
        table([measured.outcome(name) for name in measured.runs]),
        "",
        f"checkpoint: {network.checkpointing}.",
        *([f"Left alone by the conversion: {left}."] if (left := left_alone(measured)) else []),
        f"{procedure(options)}; forward, loss and backward, gradients kept, no optimiser.",
        f"Peak memory: {'not measured' if run is None else run['how_measured']}, less what was in use before.",
        f"Memory layout of model and images: {layout(options)}.",
    ]
    if measured.reference is not None:
        exact, rough = TOLERANCES["float64"], TOLERANCES[options.dtype]
        count, height, width = EXACT_SHAPE
        lines.append(
            f"Checked against {measured.reference}: in a float64 step on at most {count} x {height}x{width} of the "
            f"images loss and gradients agree to {exact['loss']:.0e} and {exact['gradient']:.0e} (relative L2). The "
            "step that was measured is looked through for gross errors only: "
            f"{rough['loss']:.0e} and {rough['gradient']:.1g}."
        )
    if not options.tcmalloc:
        lines.append("tcmalloc was not found: install it, or name it with --tcmalloc, to see the methods with it.")
    return "\n".join([*lines, ""])


def left_alone(measured: Measurements) -> str:
    """Parts that the conversion left alone, and why; empty if there are none."""
    runs = [run for name, each in measured.runs.items() if name.startswith("converted") for run in each]
    return "; ".join(runs[0]["left"]) if runs else ""


def table(outcomes: list[Outcome]) -> str:
    """Memory and time in Markdown, as ratios to plain and to the best of the other methods."""
    best = Best.of(outcomes)
    plain = next((each for each in outcomes if each.method == "plain" and each.failure is None), None)
    rows = [["method", "peak memory", "of plain", "of the least", "time", "of the fastest"]]
    for outcome in outcomes:
        if outcome.failure is not None:
            rows.append([outcome.method, f"failed: {outcome.failure}"])
            continue
        of_plain = "-" if plain is None else f"{outcome.peak_bytes / plain.peak_bytes:.2f}"
        ratios = ("-", "-") if best is None else (best.memory_ratio(outcome), best.time_ratio(outcome))
        seconds = f"{outcome.seconds:.2f} s"
        rows.append([outcome.method, gigabytes(outcome.peak_bytes), of_plain, ratios[0], seconds, ratios[1]])
    return "\n".join([markdown_table(rows), *([] if best is None else ["", best.sentence])])


if __name__ == "__main__":
    sys.exit(main())
