"""Command-line options that describe the measured step; shared by the benchmarks."""

import argparse
import json
from contextlib import AbstractContextManager, nullcontext

import torch

from ladderseg_fast import MemoryPlan, list_models
from ladderseg_fast.models.registry import full_name
from ladderseg_fast.ops.backend import backend_of

#: At 2 x 256x512 on two x86 cores the checkpointing steps are a fifth faster so, and plain is not slower (NOTES.md).
CHANNELS_LAST = True

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def add_step_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a step of one of this package's models."""
    parser.add_argument(
        "--model",
        type=model_name,
        default="ladder_densenet121",
        metavar="NAME",
        help=f"of {', '.join(list_models())} (default: %(default)s)",
    )
    add_batch_options(parser)


def add_batch_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a step of any network."""
    parser.add_argument("--size", type=image_size, default=(256, 512), metavar="HxW", help="default: 256x512")
    parser.add_argument("--batch", type=positive, default=2, metavar="N", help="images per step (default: 2)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="of maps; a 16-bit one in torch.autocast: bfloat16, and on CUDA float16",
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="default: what torch chooses")
    parser.add_argument("--warmup", type=positive, default=2, metavar="N", help="steps that are not timed (default: 2)")
    parser.add_argument("--steps", type=positive, default=2, metavar="N", help="timed steps (default: 2)")
    parser.add_argument(
        "--channels-last",
        action=argparse.BooleanOptionalAction,
        default=CHANNELS_LAST,
        help="memory layout of all methods but lean, which chooses its own",
    )


def parsed_step(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Arguments of a parser with add_step_options."""
    options = parser.parse_args()
    check_dtype(parser, options)
    return options


def check_dtype(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the program unless there are kernels for --dtype on --device, as far as this machine can tell."""
    if options.device == "cuda" or options.dtype == "float32":
        return
    if options.dtype == "float16":
        parser.error("--dtype float16 needs --device cuda")
    if DTYPES[options.dtype] not in backend_of(torch.device(options.device)).dtypes:
        parser.error(f"--dtype {options.dtype} on the CPU needs AVX512-BF16")


def autocast(options: argparse.Namespace) -> AbstractContextManager:
    """Region in which a step with these options runs."""
    if options.dtype == "float32":
        return nullcontext()
    return torch.autocast(options.device, DTYPES[options.dtype])


def step_options(options: argparse.Namespace) -> list[str]:
    """Command line that add_step_options reads back as `options`."""
    return ["--model", options.model, *batch_options(options)]


def batch_options(options: argparse.Namespace) -> list[str]:
    """Command line that add_batch_options reads back as `options`."""
    line = ["--size", size_text(options.size), "--batch", str(options.batch)]
    line += ["--device", options.device, "--dtype", options.dtype]
    line += ["--warmup", str(options.warmup), "--steps", str(options.steps)]
    line.append("--channels-last" if options.channels_last else "--no-channels-last")
    if options.threads is not None:
        line += ["--threads", str(options.threads)]
    return line


def model_name(text: str) -> str:
    """Full name of a registered model."""
    try:
        return full_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def image_size(text: str) -> tuple[int, int]:
    """(height, width) from a text "HxW"."""
    height, separator, width = text.partition("x")
    if not (separator and height.isdecimal() and width.isdecimal() and min(int(height), int(width)) >= 64):
        raise argparse.ArgumentTypeError(f"expected HxW, both at least 64, such as 256x512; got {text!r}")
    return int(height), int(width)


def size_text(size: tuple[int, int]) -> str:
    """Text "HxW" for (height, width)."""
    return f"{size[0]}x{size[1]}"


def memory_plan(text: str) -> MemoryPlan:
    """MemoryPlan from the JSON of MemoryPlan.as_dict."""
    try:
        return MemoryPlan.from_dict(json.loads(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def positive(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)
