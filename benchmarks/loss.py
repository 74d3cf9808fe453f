"""Peak memory and time of losses of upsampled logits with their gradients: PyTorch's operators, and this package's.

PyTorch's way is F.interpolate and what follows at full resolution. It also runs with tcmalloc preloaded, if that is
found, as in speed.py. Every way runs in fresh processes of its own, in turn with the others, and is checked against
PyTorch's result.
"""

import argparse
import ctypes.util
import sys

from arguments import positive
from in_turn import Measurements, Variant, measure_in_turn
from loss_step import LOSSES, WAYS
from report import markdown_table
from speed import choice_list

#: Labels and logits: classes, stride, height and width of the labels.
CASES = {
    "cityscapes-4": (19, 4, 1024, 2048),
    "cityscapes-8": (19, 8, 1024, 2048),
    "cityscapes-32": (19, 32, 1024, 2048),
    "ade20k-4": (150, 4, 512, 512),
}

_TCMALLOC = " + tcmalloc"


def main() -> int:
    options = parse_arguments()
    failed = False
    rows = [["loss", "way", "peak memory", "of torch's least", "time", "of torch's fastest"]]
    for case in options.cases:
        for loss in options.losses:
            measured = measure_in_turn(variants(case, loss, options), options.repeats)
            rows += table_rows(f"{case} {loss}", measured)
            for way, reason in measured.failures.items():
                print(f"{case} {loss} {way} failed: {reason}", file=sys.stderr)
                failed = True
    run = measured.any_run()
    print(markdown_table(rows))
    if run is not None:
        print(f"\n{options.batch} images, on {run['machine']['device']}, {run['machine']['threads']} threads, ", end="")
        print(f"torch {run['machine']['torch']}. Loss and gradient of logits in float32.")
        print(f"Medians of {options.repeats} processes. Peak memory: {run['how_measured']}.")
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, choices in (("cases", CASES), ("losses", LOSSES)):
        parser.add_argument(
            f"--{name}",
            type=choice_list(choices),
            default=list(choices),
            metavar="A,B",
            help=f"of {', '.join(choices)}",
        )
    parser.add_argument("--batch", type=positive, default=2, metavar="N", help="images (default: 2)")
    parser.add_argument("--shrink", type=positive, default=1, metavar="N", help="divides heights and widths")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=positive, metavar="N", help="default: what torch chooses")
    parser.add_argument("--steps", type=positive, default=3, metavar="N", help="timed steps of a process (default: 3)")
    parser.add_argument("--repeats", type=positive, default=3, metavar="N", help="processes of each (default: 3)")
    parser.add_argument(
        "--tcmalloc",
        default=ctypes.util.find_library("tcmalloc_minimal") or ctypes.util.find_library("tcmalloc"),
        metavar="LIBRARY",
        help="path or name of libtcmalloc (default: the system's, if it has one)",
    )
    return parser.parse_args()


def variants(case: str, loss: str, options: argparse.Namespace) -> list[Variant]:
    """PyTorch's way first, because the other is checked against it."""
    classes, stride, height, width = CASES[case]
    shape = {"batch": options.batch, "classes": classes, "stride": stride, "steps": options.steps}
    shape |= {"height": height // options.shrink, "width": width // options.shrink, "device": options.device}
    shape |= {} if options.threads is None else {"threads": options.threads}
    line = ["--loss", loss, *(text for name, value in shape.items() for text in (f"--{name}", str(value)))]
    found = []
    for way in WAYS:
        arguments = ("--way", way, *line)
        found.append(Variant(way, "loss_step.py", arguments))
        if options.tcmalloc and way == "torch":
            found.append(Variant(way + _TCMALLOC, "loss_step.py", arguments, preload=options.tcmalloc))
    return found


def table_rows(name: str, measured: Measurements) -> list[list[str]]:
    """A row per way; ratios are to the better of PyTorch's two."""
    outcomes = [measured.outcome(way) for way in measured.runs]
    torchs = [each for each in outcomes if each.method.startswith("torch") and each.failure is None]
    rows = []
    for each in outcomes:
        if each.failure is not None:
            rows.append([name, each.method, f"failed: {each.failure}"])
            continue
        memory, time = f"{each.peak_bytes / 1e6:.1f} MB", f"{each.seconds * 1e3:.1f} ms"
        least = min((other.peak_bytes for other in torchs), default=None)
        fastest = min((other.seconds for other in torchs), default=None)
        ratios = [
            "-" if not best else f"{own / best:.3f}"
            for own, best in ((each.peak_bytes, least), (each.seconds, fastest))
        ]
        rows.append([name, each.method, memory, ratios[0], time, ratios[1]])
    return rows


if __name__ == "__main__":
    sys.exit(main())
