"""Labels of single images of any size, and of many, whose next ones are read while these are computed."""

import gc
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar

import numpy as np
import torch

from .. import ops
from ..data import RGB, ImageForm, Normalisation, read_image, resize_image
from ..models import SegmentationModel
from ..models.segmentation_model import evaluating
from ..models.weights import MissingPackageError
from .errors import SystemRefusal
from .evaluation.averaging import mean_probabilities
from .refusals import refusals_named
from .threads import map_ahead, suitable_threads

#: Stands for a size: every image is seen at its own.
OWN_SIZE: Final = "own"
SizeOrOwn = tuple[int, int] | Literal["own"]

Source = TypeVar("Source")


@dataclass(frozen=True, eq=False)
class LabelledImage(Generic[Source]):
    """An image with the model's answer.

    labels: [H, W] uint8 class numbers; network_size: (height, width) at which the network saw it.
    pixels: [H, W, bands], as it was read, and probabilities: [K, H, W] float16, if they were asked for.
    """

    source: Source
    labels: np.ndarray
    network_size: tuple[int, int]
    pixels: np.ndarray | None = None
    probabilities: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class UnusableImage(Generic[Source]):
    """An image that has no labels, and why.

    error: an OSError or ValueError if it cannot be read, a MissingPackageError if that needs a package that is not
    installed, a SystemRefusal if memory lacks.
    """

    source: Source
    error: OSError | ValueError | MissingPackageError | SystemRefusal


def prediction_size(image_size: tuple[int, int], trained_size: tuple[int, int], least: int) -> tuple[int, int]:
    """Size (height, width) at which the network sees an image of `image_size` (height, width).

    The image keeps its proportions and gets as many pixels as the training images had, so things appear about as large
    as in training; but no side falls below `least`, the network's minimum.
    """
    height, width = image_size
    scale = (trained_size[0] * trained_size[1] / (height * width)) ** 0.5
    scale = max(scale, least / min(height, width))
    return max(least, round(height * scale)), max(least, round(width * scale))


def predict_image(
    model: SegmentationModel,
    image: np.ndarray,
    normalisation: Normalisation,
    trained_size: tuple[int, int],
    size: SizeOrOwn | None = None,
) -> np.ndarray:
    """Labels [H, W] uint8 of `image` [H, W, bands], which has the form of `normalisation`.

    Args:
        size: (height, width) at which the network sees it; OWN_SIZE: its own; None: `prediction_size`.
    """
    seen = _network_size(image.shape[:2], trained_size, size, model.min_size)
    (result,) = _label(model, [_Prepared(None, image, normalisation, seen)], probabilities=False)
    return result.labels


def read_source(source: Path | np.ndarray, form: ImageForm = RGB) -> np.ndarray:
    """Pixels [H, W, bands] of an image file of the form `form`, or the array itself."""
    return source if isinstance(source, np.ndarray) else read_image(source, form)


def label_images(
    model: SegmentationModel,
    sources: Iterable[Source],
    normalisation: Normalisation,
    trained_size: tuple[int, int],
    size: SizeOrOwn | None = None,
    read: Callable[[Source, ImageForm], np.ndarray] = read_source,  # type: ignore[assignment]
    batch: int = 1,
    pixels: bool = False,
    probabilities: bool = False,
) -> Generator[LabelledImage[Source] | UnusableImage[Source], None, None]:
    """Labels the images `sources`, one after the other, in their order.

    Threads read, resize and normalise the next images while the network computes. At most about `batch` images plus a
    few are in memory, however many there are, and those only as the network sees them, unless their pixels are asked
    for. An image that cannot be read has an UnusableImage in its place.

    Args:
        sources: paths of image files, or arrays [H, W, bands]; anything else that `read` understands. Threads step
            through it.
        normalisation: also says which form the images have.
        size: as for predict_image.
        read: gives the pixels [H, W, bands] of a source, in the form that it gets; called in threads. Its OSError,
            ValueError and MissingPackageError are reported.
        batch: greatest number of consecutive images of one size for the network that it computes at once.
        pixels: also give each image as it was read.
        probabilities: also give the probabilities of all classes. These need 2 bytes per class and pixel.
    """

    def prepare(source: Source) -> _Prepared[Source] | UnusableImage[Source]:
        try:
            with refusals_named():
                image = read(source, normalisation.form)
                seen = _network_size(image.shape[:2], trained_size, size, model.min_size)
                return _Prepared(source, image, normalisation, seen, pixels)
        except (OSError, ValueError, MissingPackageError, SystemRefusal) as error:
            return UnusableImage(source, error)

    with closing(map_ahead(prepare, sources, ahead=batch + suitable_threads())) as prepared:
        for group in _groups(prepared, batch):
            yield from _label_group(model, group, probabilities)


class _Prepared(Generic[Source]):
    """The tensor [bands, h, w] float32 of an image for the network, and its pixels, if they are to be kept."""

    def __init__(
        self,
        source: Source,
        image: np.ndarray,
        normalisation: Normalisation,
        network_size: tuple[int, int],
        keep: bool = False,
    ) -> None:
        self.source, self.size, self.network_size = source, image.shape[:2], network_size
        self.pixels = image if keep else None
        self.tensor = normalisation(resize_image(image, network_size))


def _network_size(
    image_size: tuple[int, int], trained_size: tuple[int, int], size: SizeOrOwn | None, least: int
) -> tuple[int, int]:
    if size is None:
        return prediction_size(image_size, trained_size, least)
    height, width = image_size if size == OWN_SIZE else size
    return max(least, height), max(least, width)


def _groups(
    prepared: Iterable["_Prepared[Source] | UnusableImage[Source]"], batch: int
) -> Iterator[list["_Prepared[Source] | UnusableImage[Source]"]]:
    """Lists of consecutive entries whose images, at most `batch`, have one size for the network."""
    group: list[_Prepared[Source] | UnusableImage[Source]] = []
    images, size = 0, None
    for entry in prepared:
        if isinstance(entry, _Prepared):
            if images and entry.network_size != size:
                yield group
                group, images = [], 0
            images, size = images + 1, entry.network_size
        group.append(entry)
        if images in (0, batch):
            yield group
            group, images = [], 0
    if group:
        yield group


def _label_group(
    model: SegmentationModel, group: "Sequence[_Prepared[Source] | UnusableImage[Source]]", probabilities: bool
) -> Iterator[LabelledImage[Source] | UnusableImage[Source]]:
    """Results for `group` in its order. If memory lacks for its images together, they are labelled one by one."""
    images = [entry for entry in group if isinstance(entry, _Prepared)]
    try:
        with refusals_named():
            labelled = iter(_label(model, images, probabilities) if images else [])
    except (OSError, ValueError) as error:
        refused: OSError | ValueError | SystemRefusal = error
    except SystemRefusal as error:
        refused = SystemRefusal(str(error))
    else:
        for entry in group:
            yield next(labelled) if isinstance(entry, _Prepared) else entry
        return
    if isinstance(refused, SystemRefusal):
        gc.collect()  # the error's frames, with all maps
        model.release_workspace()  # what was needed beyond the usual can be the next image's
    if len(images) == 1:
        for entry in group:
            yield UnusableImage(entry.source, refused) if isinstance(entry, _Prepared) else entry
        return
    for entry in group:
        yield from _label_group(model, [entry], probabilities)


@torch.no_grad()
def _label(
    model: SegmentationModel, images: "Sequence[_Prepared[Source]]", probabilities: bool
) -> list[LabelledImage[Source]]:
    """Labels of `images`, which have one size for the network, each at its own size.

    The logits, at about a quarter of the network's size, are upsampled bilinearly straight to the image's.
    """
    device = next(model.parameters()).device
    with evaluating(model):
        logits = model(torch.stack([image.tensor for image in images]).to(device)).logits
    results = []
    for image, scores in zip(images, logits.split(1), strict=True):
        labels = ops.upsample_argmax(scores, image.size)[0].cpu().numpy()
        shares = mean_probabilities([scores], image.size)[0].cpu().numpy() if probabilities else None
        results.append(LabelledImage(image.source, labels, image.network_size, image.pixels, shares))
    return results
