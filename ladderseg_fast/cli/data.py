"""`ladderseg data` looks after data sets: `check` reads every file, `statistics` measures the images' bands."""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..data import (
    DATA_SETS,
    IGNORE_INDEX,
    RGB,
    DataSetKind,
    FilePairs,
    LabelSet,
    Survey,
    absent_classes_warning,
    band_statistics,
    data_set_options,
    find_form,
    open_data_set,
    option_owners,
    survey,
)
from ..engine.config_tables import format_toml
from ..engine.interrupt import ignore_interrupts
from ..engine.progress import Progress
from ..engine.terminal import show
from .arguments import add_data_options, add_image_form, non_negative_int

#: Sizes that the report lists one by one.
_SIZES = 8


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the sub-command, its own sub-command and their options."""
    parser = commands.add_parser("data", help="look after data sets", description="Look after data sets.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _add_check(actions)
    _add_statistics(actions)


def _add_check(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    check = actions.add_parser(
        "check",
        help="read every file of a data set and say what is wrong",
        description="Read every image and label image of a data set, pixels and checksums, and say what is wrong.",
        epilog="Every file that is missing, broken, of a wrong form or size, or that holds a label outside the classes "
        "is named on stderr. What is right is counted: images, sizes, the classes' shares of the pixels, and what "
        "is ignored; a class without any pixel is a warning. The exit status is 0 if nothing is wrong, else 2.",
    )
    _add_source(check)
    check.add_argument(
        "--split",
        nargs="+",
        default=["train", "val"],
        metavar="NAME",
        help=f"splits to check (default: train val){_splits_in_words()}",
    )
    check.set_defaults(run=run_check)


def _add_statistics(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    statistics = actions.add_parser(
        "statistics",
        help="compute mean and deviation of the images' bands",
        description="Compute mean and standard deviation of each band over all pixels of all images of a split, and "
        "print them as lines of a configuration file.",
        epilog="The values are shares of the greatest that a band can have: 255 for 8 bits, 65535 for 16. They do not "
        "depend on the number of workers, and all images count at their own size, without the pixels that a TIFF says "
        "have no data (GDAL_NODATA, in all bands). Labels are not read: what they ignore counts. A training "
        "computes the same for images that are not RGB of 8 bits if its configuration has none.",
    )
    _add_source(statistics)
    statistics.add_argument(
        "--split", default="train", metavar="NAME", help=f"split to measure (default: train){_splits_in_words()}"
    )
    statistics.set_defaults(run=run_statistics)


def _add_source(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say what is read, and how."""
    parser.add_argument("--data", choices=[kind.name for kind in _read_kinds()], required=True, help="kind of data set")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="where it is")
    add_data_options(parser)
    add_image_form(parser)
    parser.add_argument(
        "--workers", type=non_negative_int, default=0, metavar="N", help="processes that read (default: this one)"
    )


def _read_kinds() -> list[DataSetKind]:
    """Kinds of data sets that are read from files."""
    return [kind for kind in DATA_SETS.values() if not kind.drawn]


def _splits_in_words() -> str:
    return "".join(f"; {kind.name} has {', '.join(kind.splits)}" for kind in _read_kinds() if kind.splits is not None)


def _open(arguments: argparse.Namespace, split: str) -> FilePairs:
    samples = open_data_set(arguments.data, arguments.root, split, **_options(arguments))
    assert isinstance(samples, FilePairs), "what is not drawn is files"
    return samples


def run_check(arguments: argparse.Namespace) -> int:
    """Checks every split; returns 0 if all is well, else 2."""
    broken = 0
    # All are opened before one is read: a misspelt split is no matter of minutes.
    splits = {split: _open(arguments, split) for split in arguments.split}
    form = find_form(next(iter(splits.values())), arguments.bands, arguments.bits)
    if form != RGB:
        show(f"{arguments.data}: all images should have {form}")
    for split, samples in splits.items():
        samples.expect(form)
        with Progress(sys.stderr, f"check {split}", len(samples), plain_lines=0) as progress:
            found = survey(samples, arguments.workers, lambda done: progress.update(done, ""), ignore_interrupts)
        for problem in found.problems:
            show(f"ladderseg: error: {problem}", stream=sys.stderr)
        warning = absent_classes_warning(samples, found.labelled, found.pixels, found.ignored)
        if warning is not None:
            show(f"ladderseg: warning: {split}: {warning}", stream=sys.stderr)
        show(report(f"{arguments.data} {split}", found, samples.label_set))
        broken += found.broken
    return 2 if broken else 0


def run_statistics(arguments: argparse.Namespace) -> int:
    """Prints mean and deviation of every band; returns 0."""
    samples = _open(arguments, arguments.split)
    samples.expect(find_form(samples, arguments.bands, arguments.bits))
    with Progress(sys.stderr, "measure bands", len(samples), plain_lines=0) as progress:
        found = band_statistics(samples, arguments.workers, lambda done: progress.update(done, ""), ignore_interrupts)
    left_out = f", without {found.no_data} pixels of no data" if found.no_data else ""
    show(f"# {samples.form}, measured in {_images(len(samples))} of {arguments.data} {arguments.split}{left_out}")
    measured, form = found.normalisation, found.normalisation.form
    values = {"bands": form.bands, "bits": form.bits, "mean": list(measured.mean), "std": list(measured.std)}
    show(format_toml({"data": values}).removesuffix("\n"))
    return 0


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `open_data_set` that are given.

    Raises:
        ValueError: the kind of data set has no such option.
    """
    given = {option: f"data.{option.name}" for option in data_set_options() if f"data.{option.name}" in arguments}
    for option in given:
        owners = option_owners(option.name)
        if arguments.data not in owners:
            raise ValueError(f"{option.flag} is for --data {' or '.join(owners)}, not {arguments.data}")
    return {option.name: getattr(arguments, dest) for option, dest in given.items()}


def report(title: str, found: Survey, label_set: LabelSet) -> str:
    """Describes what was found in one split, in a few plain lines."""
    verdict = f"{found.broken} of them cannot be used" if found.broken else "all can be used"
    lines = [f"{title}: {_images(found.samples)}, {verdict}", *_sizes(found)]
    if found.pixels.any():
        lines += _classes(found, label_set)
    return "\n".join(lines)


def _sizes(found: Survey) -> list[str]:
    lines = [f"  {height}x{width}: {_images(count)}" for (height, width), count in found.sizes.most_common(_SIZES)]
    others = len(found.sizes) - _SIZES
    if others > 0:
        sides = np.array(list(found.sizes))
        least, greatest = sides.min(axis=0), sides.max(axis=0)
        lines.append(f"  {others} more sizes; {least[0]} to {greatest[0]} high, {least[1]} to {greatest[1]} wide")
    return lines


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _classes(found: Survey, label_set: LabelSet) -> list[str]:
    """Lines, one per class: its share of all labelled pixels (ignored ones included) and the images that have it."""
    width = max(len("ignored"), *map(len, label_set.names))
    shares = found.pixels / found.pixels.sum()
    rows = [*enumerate(label_set.names), (IGNORE_INDEX, "ignored")]
    lines = [f"  {'class':<{width + 4}}    pixels  images"] + [
        f"  {k:>3} {name:<{width}}  {shares[k]:8.3%}  {found.images[k]:6}" for k, name in rows
    ]
    ignored = [f"{value} ({count / found.pixels.sum():.3%})" for value, count in found.ignored.most_common()]
    return [*lines, f"  ignored values: {', '.join(ignored)}"] if ignored else lines
