"""`ladderseg predict` labels images with a trained model."""

import argparse
import sys
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final, Literal, NamedTuple

from ..data import LabelSet, above_pixel_limit, pixel_limit
from ..engine import Checkpoint, LabelledImage, UnusableImage, build_model, label_images, load_checkpoint
from ..engine.device import find_device
from ..engine.errors import SystemRefusal
from ..engine.input_images import InputImage, InputImages, find_images, pictures, read_list
from ..engine.legend import legend
from ..engine.overlay import write_png
from ..engine.prediction_files import FILE_KINDS, check_packages
from ..engine.progress import Progress
from ..engine.refusals import refusals_named
from ..engine.terminal import in_one_line, show
from ..engine.threads import map_behind
from ..engine.video import check_video_package, read_facts
from ..models import SegmentationModel
from .arguments import add_checkpoint, add_device, image_size_or_own, path, positive_int
from .network_size import ShrunkImages, check_network_size
from .tiled_prediction import add_tile_options, check_tile_options, label_in_tiles, tiled_endings

#: The classes' colours, for all overlays and colour maps of a call.
_LEGEND, _LEGEND_WIDTH = "legend.png", 600
#: Stands for a list on the standard input.
_LIST: Final = "-"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the sub-command and its options."""
    kinds = "; ".join(f"{name}: NAME{kind.ending}, {kind.about}" for name, kind in FILE_KINDS.items())
    parser = commands.add_parser(
        "predict",
        help="label images with a trained model",
        description="Label images with the model of a training run.",
        epilog="Writes NAME_labels.png (8-bit class indices with a palette, in the image's size) into DIR for each "
        "image, and into the same subdirectories for images in subdirectories of a given directory. NAME keeps its "
        "ending if two images would have the same. The network sees an image in its own proportions, with as many "
        "pixels as the training images had, unless --size says otherwise. An image that cannot be used is reported "
        "and passed over: the others are still done, and the exit status is 2.",
    )
    add_checkpoint(parser, "checkpoint", "RUN")
    parser.add_argument(
        "images",
        type=_input,
        nargs="+",
        metavar="INPUT",
        help="an image in any format that Pillow reads, a directory of images, a quoted pattern such as "
        "'photos/**/*.jpg', a video, or - for a list of files, one a line, on the standard input; ladders need at "
        "least 64x64 pixels",
    )
    parser.add_argument("--out", type=path, required=True, metavar="DIR", help="directory for the results")
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="also label the images in subdirectories of a directory"
    )
    parser.add_argument(
        "--write",
        type=_kinds,
        default=("labels",),
        metavar="WHAT[,WHAT]",
        help=f"what to write (default: labels). {kinds}. Where colours are written, {_LEGEND} names them",
    )
    parser.add_argument(
        "--size",
        type=image_size_or_own,
        metavar="HxW|own",
        help="height and width of the images for the network, or their own (default: as many pixels as in training)",
    )
    parser.add_argument(
        "--batch",
        type=positive_int,
        default=1,
        metavar="N",
        help="label up to N consecutive images, or neighbouring tiles, of one size at once (default: 1)",
    )
    parser.add_argument(
        "--every", type=positive_int, default=1, metavar="N", help="label every Nth frame of a video (default: 1)"
    )
    parser.add_argument(
        "--max-pixels",
        type=positive_int,
        metavar="N",
        help="read images of up to N pixels (default: 179 million, since a damaged file may announce any number)",
    )
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help="leave out images, and frames of videos, whose results are all there, whatever made them",
    )
    add_tile_options(parser)
    add_device(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Labels every image; returns 0 if all could be used, else 2."""
    out: Path = arguments.out
    check_tile_options(arguments)
    found = _find(arguments)
    checkpoint = load_checkpoint(arguments.checkpoint)
    device = find_device(arguments.device)
    model = build_model(checkpoint, device)
    if isinstance(arguments.size, tuple):
        check_network_size(arguments.size, model.min_size)
    if arguments.skip_existing:
        _leave_out_done(found, _endings(arguments))
    out.mkdir(parents=True, exist_ok=True)
    if any(FILE_KINDS[name].coloured for name in arguments.write):
        _write_legend(out / _LEGEND, found.images, checkpoint.label_set)
    with pixel_limit(arguments.max_pixels):
        if arguments.tile is None:
            labelled, images = _label(arguments, found, checkpoint, model)
        else:
            _note_left_out(found, partial(show, stream=sys.stderr))
            labelled, images = label_in_tiles(arguments, found.images, checkpoint, model), len(found.images)
    show(f"labelled {labelled} of {images} images on {device}")
    return 2 if found.unread or labelled < images else 0


def _label(
    arguments: argparse.Namespace, found: InputImages, checkpoint: Checkpoint, model: SegmentationModel
) -> tuple[int, int]:
    """Labels all images as wholes; returns how many of how many could be used, each frame of a video as one."""
    facts = {image.path: read_facts(image.path) for image in found.images if image.is_video}
    total = sum(-(-facts[image.path].frames // arguments.every) if image.is_video else 1 for image in found.images)
    # Where the bar cannot be rewritten in place, the lines of the images say how far it is.
    with Progress(sys.stderr, "predict", total, plain_lines=0) as progress:
        _note_left_out(found, progress.note)
        for video, (_, bits) in facts.items():
            if bits > 8:
                progress.note(f"ladderseg: warning: {video}: of the {bits} bits of a channel 8 are used")
        reports = _Reports(progress, ShrunkImages(progress.note) if arguments.size is None else None)
        with closing(_results(arguments, found, checkpoint, model)) as results:
            for result in results:
                reports.add(result)
        reports.finish()
    return reports.labelled, reports.images


def _note_left_out(found: InputImages, note: Callable[[str], None]) -> None:
    for reason in found.unread:
        note(f"ladderseg: error: {reason}")
    if found.others:
        note(f"ladderseg: {found.others} files without an image's ending are left out")


def _input(text: str) -> Path | Literal["-"]:
    return _LIST if text == _LIST else path(text)


def _kinds(text: str) -> tuple[str, ...]:
    """Names of FILE_KINDS, in its order."""
    names = text.split(",")
    unknown = [name for name in names if name not in FILE_KINDS]
    if unknown:
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(FILE_KINDS)}, got {unknown[0]!r}")
    return tuple(name for name in FILE_KINDS if name in names)


def _find(arguments: argparse.Namespace) -> InputImages:
    """Images that the command line asks for; optional packages that they or their results need are there."""
    if arguments.images.count(_LIST) > 1:
        raise ValueError("the list on the standard input can be given once only")
    inputs = [read_list(sys.stdin.buffer) if given == _LIST else given for given in arguments.images]
    if arguments.tile is None:
        check_packages(arguments.write)
    found = find_images(inputs, arguments.out, arguments.recursive, _endings(arguments))
    if found.has_videos:
        check_video_package()
    return found


def _endings(arguments: argparse.Namespace) -> list[str]:
    """Ends of the names of an image's results."""
    if arguments.tile is not None:
        return tiled_endings(arguments)
    return [FILE_KINDS[name].ending for name in arguments.write]


def _leave_out_done(found: InputImages, endings: Collection[str]) -> None:
    """Takes the images that have their results out of `found`; frames of videos are looked at one by one."""
    left = [image for image in found.images if image.is_video or not image.has_results(endings)]
    if len(left) < len(found.images):
        show(f"ladderseg: {len(found.images) - len(left)} images have their results already", stream=sys.stderr)
    found.images = left


def _write_legend(file: Path, images: Sequence[InputImage], label_set: LabelSet) -> None:
    if any(image.path.exists() and file.exists() and image.path.samefile(file) for image in images):
        raise ValueError(f"{file}, which shows the colours of the overlays, would overwrite an input image")
    write_png(file, legend(label_set, range(len(label_set)), _LEGEND_WIDTH))


class _Result(NamedTuple):
    """An image, the files that were written for it, or an error."""

    image: InputImage
    size: tuple[int, int] = (0, 0)
    network_size: tuple[int, int] = (0, 0)
    written: Sequence[Path] = ()
    error: Exception | None = None


def _results(
    arguments: argparse.Namespace, found: InputImages, checkpoint: Checkpoint, model: SegmentationModel
) -> Generator[_Result, None, None]:
    """Results of all images, in their order. Threads read the next images and write the last ones."""
    shown, endings = pictures(found.images, arguments.every), _endings(arguments)
    labelled = label_images(
        model,
        (image for image in shown if not (arguments.skip_existing and image.has_results(endings))),
        checkpoint.normalisation,
        checkpoint.size,
        arguments.size,
        read=lambda image, form: image.read(form, model.min_size),
        batch=arguments.batch,
        pixels=any(FILE_KINDS[name].pixels for name in arguments.write),
        probabilities=any(FILE_KINDS[name].probabilities for name in arguments.write),
    )
    write = partial(_write, kinds=arguments.write, label_set=checkpoint.label_set)
    with closing(labelled):
        yield from map_behind(write, labelled)


def _write(
    image: LabelledImage[InputImage] | UnusableImage[InputImage], kinds: Collection[str], label_set: LabelSet
) -> _Result:
    """Writes the results of one image."""
    source = image.source
    if isinstance(image, UnusableImage):
        return _Result(source, error=image.error)
    written = []
    try:
        with refusals_named():
            source.result.parent.mkdir(parents=True, exist_ok=True)
            for name in kinds:
                written.append(source.output(FILE_KINDS[name].ending))
                FILE_KINDS[name].write(written[-1], image, label_set)
    except (OSError, ValueError, SystemRefusal) as error:
        return _Result(source, error=error)
    return _Result(source, image.labels.shape, image.network_size, written)


class _Reports:
    """Lines about the images, in their order.

    Args:
        shrunk: warns of images that are seen too small; None if the user chose the size.
    """

    def __init__(self, progress: Progress, shrunk: ShrunkImages | None) -> None:
        self.images = self.labelled = 0
        self._progress, self._shrunk = progress, shrunk

    def add(self, result: _Result) -> None:
        """Prints what became of an image."""
        self.images += 1
        if result.error is not None:
            self._progress.note(f"ladderseg: error: {_reason(result.image, result.error)}")
        else:
            if self._shrunk is not None:
                self._shrunk.add(result.image, result.size, result.network_size)
            self._progress.clear()
            show(in_one_line(f"{result.image}: {', '.join(map(str, result.written))}"))
            self.labelled += 1
        self._progress.update(self.images, "")

    def finish(self) -> None:
        """Prints what is known after the last image."""
        if self._shrunk is not None:
            self._shrunk.finish()


def _reason(image: InputImage, error: Exception) -> str:
    text = str(error) if str(image.path) in str(error) else f"{image}: {error}"
    if above_pixel_limit(error):
        return f"{text}; --max-pixels N reads images of up to N pixels, and --tile N labels images of any size"
    return text
