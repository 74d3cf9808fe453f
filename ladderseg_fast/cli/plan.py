"""`ladderseg plan` shows the memory of a training step before anything runs."""

import argparse
import json
from collections.abc import Mapping

import torch

from .. import memory
from ..data.image_form import MOST_BANDS, RGB, check_form
from ..engine.config_tables import build_config, read_config_file
from ..engine.device import AUTO, find_device
from ..engine.terminal import show
from ..lean import MemoryPlan
from ..memory import Estimate, PlannedParts, PlannedStep
from ..memory.rates import measure_rates, store_rates
from ..memory.symbolic import StepShape
from ..ops.backend import backend_of
from .arguments import add_cut_after, image_size, model_name, path, positive_int

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the sub-command and its options."""
    parser = commands.add_parser(
        "plan",
        help="fit a training step into a memory budget",
        description="Plan a training step into a memory budget. Shows what is kept for backward, what is recomputed, "
        "where the bytes go, and how much time that costs. Nothing runs, and no feature map is allocated.",
        epilog="The peak is that of the process beyond what importing the packages takes (on CUDA, of torch's "
        "allocator). If no plan meets the budget, an error gives the smallest possible peak and says what would help.",
    )
    parser.add_argument(
        "--model", type=model_name, default="ladder_densenet121", metavar="NAME", help="default: %(default)s"
    )
    parser.add_argument("--classes", type=positive_int, default=19, metavar="K", help="default: %(default)s")
    images = parser.add_mutually_exclusive_group()
    images.add_argument(
        "--bands", type=positive_int, metavar="N", help=f"channels of the images, 1 to {MOST_BANDS} (default: 3, RGB)"
    )
    images.add_argument(
        "--config", type=path, metavar="FILE", help="take the bands of this configuration, such as RUN/config.toml"
    )
    parser.add_argument("--size", type=image_size, default=(1024, 2048), metavar="HxW", help="default: 1024x2048")
    parser.add_argument("--batch", type=positive_int, default=2, metavar="N", help="images per step (default: 2)")
    parser.add_argument("--budget", type=size_of_memory, metavar="SIZE", help="budget, such as 8GiB (default: none)")
    parser.add_argument("--dtype", choices=_DTYPES, default="float32", help="type of maps; 16-bit: torch.autocast")
    parser.add_argument(
        "--device",
        type=device_name,
        default=AUTO,
        metavar="NAME",
        help="cpu, cuda or cuda:N; the device need not exist here (default: the GPU if there is one)",
    )
    parser.add_argument("--optimizer", choices=memory.OPTIMIZERS, default="adam", help="default: %(default)s")
    parser.add_argument(
        "--devices",
        type=positive_int,
        default=1,
        metavar="N",
        help="devices that the model is cut for, with the budget of each (default: 1); prints where to cut",
    )
    add_cut_after(parser)
    largest = parser.add_mutually_exclusive_group()
    largest.add_argument("--max-batch", action="store_true", help="find the most images of this size that fit")
    largest.add_argument("--max-size", action="store_true", help="find the largest images of these proportions")
    parser.add_argument(
        "--calibrate", action="store_true", help="first measure this machine's speed with this dtype, and keep it"
    )
    parser.add_argument("--json", type=path, metavar="FILE", help="also write the plan to FILE")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the table; returns 0."""
    device = torch.device(arguments.device)
    if (arguments.max_batch or arguments.max_size) and arguments.budget is None:
        raise ValueError("--max-batch and --max-size need a --budget")
    dtype, arguments.bands = _DTYPES[arguments.dtype], _bands(arguments)
    if dtype not in backend_of(device).dtypes:
        needed = "AVX512-BF16" if dtype == torch.bfloat16 else "a GPU: --device cuda"
        raise ValueError(f"--dtype {arguments.dtype} has no kernels on {device}: it needs {needed}")
    if arguments.calibrate:
        rates = store_rates(device, dtype, measure_rates(device, dtype))
        show(f"calibrated: {rates}")
    common = {
        "dtype": dtype,
        "device": device,
        "optimizer": arguments.optimizer,
        "num_classes": arguments.classes,
    }
    if arguments.devices > 1 or arguments.cut_after:
        return plan_parts(arguments, common)
    batch, size = largest_that_fits(arguments, common)
    planner = memory.planner_for(arguments.model, (batch, arguments.bands, *size), **common)
    if arguments.budget is None:
        fastest = planner.fastest
        planned = PlannedStep(fastest, fastest, 0.0)
    else:
        planned = planner.plan(arguments.budget)
    show(report(arguments, planned, planner.step.rates.source))
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(arguments, planned), indent=2) + "\n")
    return 0


def _bands(arguments: argparse.Namespace) -> int:
    """Channels of the images: --bands, or those of the configuration --config, or RGB's three."""
    if arguments.bands is not None:
        check_form(arguments.bands, None)
        return arguments.bands
    if arguments.config is None:
        return RGB.bands
    return build_config([read_config_file(arguments.config)]).data.form.bands


def largest_that_fits(arguments: argparse.Namespace, common: dict) -> tuple[int, tuple[int, int]]:
    """Batch and size: the ones asked for, or the largest of the one that --max-batch or --max-size leaves open."""
    if arguments.max_batch:
        batch = memory.largest_batch(
            arguments.model, arguments.size, budget=arguments.budget, in_channels=arguments.bands, **common
        )
        # Where not even the fewest fit, planning them says so, and what would help.
        return max(batch, memory.least_batch(arguments.model, arguments.size)), arguments.size
    if arguments.max_size:
        common = {"budget": arguments.budget, "in_channels": arguments.bands, **common}
        return arguments.batch, memory.largest_size(arguments.model, arguments.size, arguments.batch, **common)
    return arguments.batch, arguments.size


def report(arguments: argparse.Namespace, planned: PlannedStep, source: str) -> str:
    """Text that the command prints."""
    estimate, fastest = planned.estimate, planned.fastest
    shape = estimate.shape
    what = f"{arguments.model}, {shape.batch} x {shape.height}x{shape.width}, {arguments.dtype} on {arguments.device}"
    lines = [
        f"{what}, optimizer {arguments.optimizer}",
        "",
        *bytes_table(estimate),
        "",
        *choices(planned.plan, planned.costs),
        "",
    ]
    lines.append(f"predicted peak: {memory.format_bytes(estimate.peak)}" + _of_budget(arguments.budget))
    if estimate.reserved is not None:
        reserved = memory.format_bytes(estimate.reserved)
        lines.append(f"torch's allocator reserves {reserved} of the device; a CUDA context comes on top")
    lines.append(
        f"predicted time: {estimate.seconds / fastest.seconds:.2f} of the fastest plan's "
        f"({estimate.seconds:.2f} s and {fastest.seconds:.2f} s), which takes {memory.format_bytes(fastest.peak)}"
    )
    if planned.gap > 0.001:
        lines.append(f"no plan is faster by more than {100 * planned.gap:.1f} %, as far as the cost model goes")
    hint = "" if source.startswith("measured") else "; --calibrate measures this machine"
    lines.append(f"cost model: {source}{hint}")
    return "\n".join(lines)


def plan_parts(arguments: argparse.Namespace, common: dict) -> int:
    """Prints the table of a model on several devices; returns 0."""
    if arguments.max_batch or arguments.max_size:
        raise ValueError("--max-batch and --max-size are for one device, not for --devices")
    shape, cuts = (arguments.batch, arguments.bands, *arguments.size), arguments.cut_after or None
    planner = memory.parts_planner_for(arguments.model, shape, arguments.devices, cuts, **common)
    planned = planner.fastest if arguments.budget is None else planner.plan(arguments.budget)
    show(report_of_parts(arguments, planned))
    if arguments.json:
        arguments.json.write_text(json.dumps(parts_as_json(arguments, planned), indent=2) + "\n")
    return 0


def report_of_parts(arguments: argparse.Namespace, planned: PlannedParts) -> str:
    """Text that the command prints for several devices."""
    shape, count = planned.estimates[0].shape, len(planned.estimates)
    what = f"{arguments.model}, {shape.batch} x {shape.height}x{shape.width}, {arguments.dtype} on {count} devices"
    rows = [("", [f"device {i}" for i in range(count)])]
    rows.append(("sections", [f"{names[0]} to {names[-1]}" for names in planned.sections]))
    names = dict.fromkeys(name for estimate in planned.estimates for name in estimate.parts)
    kept = [name for name in names if name.startswith("kept: ")]
    before = [*planned.estimates[0].parts].index("images and labels") + 1
    for name in dict.fromkeys([*[*names][:before], *kept, *names]):
        sizes = [estimate.parts.get(name, 0) for estimate in planned.estimates]
        if any(sizes):
            rows.append((name, [memory.format_bytes(size) if size else "" for size in sizes]))
    rows.append(("predicted peak", [memory.format_bytes(estimate.peak) for estimate in planned.estimates]))
    reserved = [estimate.reserved for estimate in planned.estimates]
    if all(size is not None for size in reserved):
        rows.append(("reserved by torch", [memory.format_bytes(size) for size in reserved if size is not None]))
    width, column = (max(map(len, texts)) for texts in ([name for name, _ in rows], [t for _, ts in rows for t in ts]))
    table = [f"{name:{width}}" + "".join(f"  {text:>{column}}" for text in texts) for name, texts in rows]
    budget = "" if arguments.budget is None else f", within {memory.format_bytes(arguments.budget)} on each device"
    lines = [f"{what}, optimizer {arguments.optimizer}", "", *table, "", *choices(planned.plan, planned.costs), ""]
    lines.append(f"cut after {', '.join(planned.cuts)}{budget}")
    lines.append(
        f"predicted time: {planned.seconds / planned.fastest.seconds:.2f} of the fastest plan's on one device "
        f"({planned.seconds:.2f} s and {planned.fastest.seconds:.2f} s), without the copies between devices"
    )
    return "\n".join(line.rstrip() for line in lines)


def bytes_table(estimate: Estimate) -> list[str]:
    """Table of where the bytes go."""
    width = max(len(name) for name in estimate.parts)
    return [f"{name:{width}}  {memory.format_bytes(size):>9}" for name, size in estimate.parts.items() if size]


def choices(plan: MemoryPlan, costs: Mapping[str, float]) -> list[str]:
    """Lines about the plan's choices, one per section, and what each `costs` in seconds beyond recomputing nothing."""
    lines = ["what the plan chooses:"]
    for name, section in plan.sections.items():
        parts = []
        if section.recompute:
            parts.append("recomputed from its input")
        if name not in costs:
            pass  # it has no bottlenecks: a stage of a ResNet
        elif section.keep_bottlenecks_from is None:
            parts.append("no bottleneck kept")
        else:
            parts.append(f"bottlenecks that read {section.keep_bottlenecks_from} channels or more kept")
        if section.bottleneck_bytes is not None:
            parts.append(f"backward in strips of {memory.format_bytes(section.bottleneck_bytes)}")
        if section.keep_skip:
            parts.append("skip connection kept")
        if parts:
            lines.append(f"  {name}: {', '.join(parts)}{_cost(costs, name)}")
    strips = plan.transition_up_bytes
    how = "whole" if strips >= 1 << 60 else f"in strips of {memory.format_bytes(strips)}"
    lines.append(f"  transitions up: {how}{_cost(costs, 'transitions up')}")
    if not plan.spread:
        lines.append("  pixels close together, which costs every section a share of its time")
    return lines


def _step_as_json(arguments: argparse.Namespace, shape: StepShape) -> dict:
    """The settings that the command was given."""
    return {
        "model": arguments.model,
        "bands": arguments.bands,
        "batch": shape.batch,
        "size": [shape.height, shape.width],
        "dtype": arguments.dtype,
        "device": arguments.device,
        "optimizer": arguments.optimizer,
        "budget_bytes": arguments.budget,
    }


def as_json(arguments: argparse.Namespace, planned: PlannedStep) -> dict:
    """Everything that the command knows, for --json."""
    estimate = planned.estimate
    return {
        **_step_as_json(arguments, estimate.shape),
        "peak_bytes": estimate.peak,
        "reserved_bytes": estimate.reserved,
        "parts_bytes": estimate.parts,
        "seconds": estimate.seconds,
        "fastest_seconds": planned.fastest.seconds,
        "gap": planned.gap,
        "costs_seconds": planned.costs,
        "plan": planned.plan.as_dict(),
    }


def parts_as_json(arguments: argparse.Namespace, planned: PlannedParts) -> dict:
    """Everything that the command knows about several devices, for --json."""
    return {
        **_step_as_json(arguments, planned.estimates[0].shape),
        "cut_after": list(planned.cuts),
        "devices": [
            {
                "sections": list(sections),
                "peak_bytes": estimate.peak,
                "reserved_bytes": estimate.reserved,
                "parts_bytes": estimate.parts,
                "seconds": estimate.seconds,
            }
            for sections, estimate in zip(planned.sections, planned.estimates)
        ],
        "fastest_seconds": planned.fastest.seconds,
        "costs_seconds": planned.costs,
        "plan": planned.plan.as_dict(),
    }


def size_of_memory(text: str) -> int:
    """Bytes from a text such as "8GiB"."""
    try:
        return memory.parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def device_name(text: str) -> str:
    """Device whose kernels are known; the machine need not have it. AUTO is a device that the machine has."""
    if text == AUTO:
        return str(find_device(AUTO))
    if text == "cpu" or text == "cuda" or (text.startswith("cuda:") and text[5:].isdecimal()):
        return text
    raise argparse.ArgumentTypeError(f"expected cpu, cuda or cuda:N, got {text!r}")


def _cost(costs: Mapping[str, float], name: str) -> str:
    seconds = costs.get(name, 0.0)
    return f" (+{seconds:.2f} s)" if seconds >= 0.005 else ""


def _of_budget(budget: int | None) -> str:
    return "" if budget is None else f" of {memory.format_bytes(budget)}"
