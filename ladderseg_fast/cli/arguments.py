"""Argument types and options that several sub-commands share; argparse reports what they refuse."""

import argparse
import math
import re
from pathlib import Path
from typing import Any

from ..data import data_set_options
from ..data.image_form import MOST_BANDS
from ..engine.device import AUTO
from ..engine.predict import OWN_SIZE, SizeOrOwn
from ..models import list_models
from ..models.registry import full_name

#: Reader and name in the help for an argument of each type. Paths stay strings, as in the configuration.
_TYPES: dict[type, dict[str, Any]] = {
    int: {"type": int, "metavar": "N"},
    float: {"type": float, "metavar": "X"},
    str: {"metavar": "TEXT"},
    Path: {"metavar": "DIR"},
}


def image_size(text: str) -> tuple[int, int]:
    """Height and width from a text: "360x480" gives (360, 480)."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH such as 360x480, got {text!r}")
    return int(match[1]), int(match[2])


def path(text: str) -> Path:
    """Path from a command-line text; an empty text, which would mean the working directory, is refused."""
    if not text:
        raise argparse.ArgumentTypeError("expected the path of a file or directory, got ''")
    return Path(text)


def image_size_or_own(text: str) -> SizeOrOwn:
    """Height and width from a text such as "360x480", or OWN_SIZE."""
    return OWN_SIZE if text == OWN_SIZE else image_size(text)


def add_checkpoint(parser: argparse.ArgumentParser, name: str, metavar: str) -> None:
    """Adds the argument `name`, a trained model, which engine.load_checkpoint understands."""
    parser.add_argument(
        name,
        type=path,
        metavar=metavar,
        help="directory that ladderseg train wrote (its best checkpoint is used), or a checkpoint",
    )


def add_device(
    group: argparse._ActionsContainer, dest: str = "device", default: str = AUTO, several: bool = False
) -> None:
    """Adds --device, which engine.device.find_device understands, or find_devices if `several` are possible."""
    more = "; several, such as cuda:0,cuda:1, hold a part of the model each" if several else ""
    group.add_argument(
        "--device",
        dest=dest,
        default=default,
        metavar="NAME",
        help=f"cpu, cuda or cuda:N (default: the GPU if there is one){more}",
    )


def add_cut_after(group: argparse._ActionsContainer, dest: str = "cut_after", default: Any = ()) -> None:
    """Adds --cut-after, whose names SegmentationModel.place understands."""
    group.add_argument(
        "--cut-after",
        dest=dest,
        default=default,
        type=names_or_auto,
        metavar="NAME[,NAME]",
        help="last section on each device but the last, such as db2 or denseblock2 (default: auto, where the peaks "
        "balance)",
    )


def names_or_auto(text: str) -> tuple[str, ...] | None:
    """Names from a text: "db2,up1" gives ("db2", "up1"); AUTO gives None."""
    return None if text == AUTO else tuple(text.split(","))


def add_workers(group: argparse._ActionsContainer, dest: str = "workers", default: str | None = None) -> None:
    """Adds --workers, without which engine.workers.suitable_workers decides."""
    group.add_argument(
        "--workers",
        dest=dest,
        default=default,
        type=non_negative_int,
        metavar="N",
        help="processes that load images (default: as many as the network leaves cores)",
    )


def add_data_options(group: argparse._ActionsContainer) -> None:
    """Adds the options that the kinds of data sets declare, as `data.NAME`; one that is not given is not there."""
    for option in data_set_options():
        if option.flag is None:
            continue
        how = {"action": "store_true"} if option.type is bool else _TYPES[option.type]
        group.add_argument(option.flag, dest=f"data.{option.name}", default=argparse.SUPPRESS, help=option.help, **how)


def add_image_form(group: argparse._ActionsContainer, prefix: str = "", default: Any = None) -> None:
    """Adds --bands and --bits, which data.find_form understands, as `prefix` and their names."""
    for name, unit in (("bands", f"channels of the images, 1 to {MOST_BANDS}"), ("bits", "bits of each, 8 to 16")):
        group.add_argument(
            f"--{name}",
            dest=f"{prefix}{name}",
            default=default,
            type=positive_int,
            metavar="N",
            help=f"{unit} (default: those of the first image)",
        )


def model_name(text: str) -> str:
    """Name from list_models(); the name of an encoder alone means the ladder on it."""
    try:
        return full_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(list_models())}, got {text!r}") from error


def positive_int(text: str) -> int:
    """Whole number from 1."""
    return _whole_number(text, least=1)


def non_negative_int(text: str) -> int:
    """Whole number from 0."""
    return _whole_number(text, least=0)


def positive_float(text: str) -> float:
    """Finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return value


def _whole_number(text: str, least: int) -> int:
    if re.fullmatch(r"\d+", text) is None or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least}, got {text!r}")
    return int(text)
