"""Overlays of a run as pictures inside a page."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from ...data import image_from_array, read_image, resize_image
from .history import RunHistory
from .svg import element

#: Wider pictures are shrunk, so that a page stays small.
_WIDTH = 1200


def overlay_names(runs: Sequence[RunHistory]) -> list[str]:
    """Names of all images for which a run has an overlay."""
    names = {path.stem for run in runs for path in run.directory.overlays.glob("*.png") if _is_own(path)}
    return sorted(names)


def colour_legend(runs: Sequence[RunHistory]) -> str:
    """Names of the classes with their colours, if the logs have them."""
    colours = {name: colour for run in reversed(runs) for name, colour in run.colours.items()}
    entries = [
        element("span", element("i", style=f"background: rgb({', '.join(map(str, colour))})"), escape(name))
        for name, colour in colours.items()
    ]
    return element("div", *entries, class_="colours") if entries else ""


def overlay_picture(run: RunHistory, name: str) -> str | None:
    """Overlay of the image `name` in a run, as an element that holds all of it; None if there is none.

    Raises:
        OSError: it cannot be read.
    """
    path = run.directory.overlays / f"{name}.png"
    if not path.is_file() or not _is_own(path):
        return None
    image = read_image(path)
    height, width = image.shape[:2]
    if width > _WIDTH:
        image = resize_image(image, (max(1, round(height * _WIDTH / width)), _WIDTH))
    return element("img", src=f"data:image/png;base64,{_encoded(image_from_array(image))}", alt=f"overlay of {name}")


def _is_own(path: Path) -> bool:
    """Whether the picture `path` is in the run itself: a page that is passed on must not hold what a link leads to."""
    return not path.is_symlink() and not path.parent.is_symlink()


def _encoded(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
