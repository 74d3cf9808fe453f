"""Report as one HTML page."""

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files
from pathlib import Path

from ..._version import __version__
from ...atomic_file import atomic_write
from ..plotting import moving_average
from .history import RunHistory, read_history
from .sections import (
    classes_section,
    confusion_section,
    overlays_section,
    resources,
    resources_section,
    settings_section,
    training_section,
    validation_section,
)
from .svg import element

#: Runs of one report: as many as there are colours.
MOST_RUNS = 8

#: Nothing on the page may run or be fetched, whatever got into it.
_POLICY = """<meta http-equiv="Content-Security-Policy"
content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">"""


def write_report(runs: Sequence[Path], out: Path) -> None:
    """Writes one page to the file `out` from the logs and overlays of `runs`, directories of ladderseg train.

    The page needs no other file and no network: curves are SVG, images are inside. The curves of several runs lie over
    each other, and differing settings are marked.

    Raises:
        OSError: a log cannot be read, or the page cannot be written.
        ValueError: there is no run, too many or one twice, or a log is none.
    """
    if not 1 <= len(runs) <= MOST_RUNS:
        raise ValueError(f"a report needs 1 to {MOST_RUNS} runs, got {len(runs)}")
    places = [path.resolve() for path in runs]
    for path, place in zip(runs, places, strict=True):
        if places.count(place) > 1:
            raise ValueError(f"{path} is given twice")
    histories = _with_different_names([read_history(path) for path in runs], runs)
    text = report(histories)
    with atomic_write(out) as file:
        file.write(text.encode())


def report(runs: Sequence[RunHistory]) -> str:
    """Text of the page."""
    title = f"Training report: {', '.join(run.name for run in runs)}"
    head = element(
        "head",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        _POLICY,
        element("title", escape(title)),
        element("style", files(__package__).joinpath("style.css").read_text(encoding="utf-8")),
    )
    sections = [
        training_section(runs),
        validation_section(runs),
        classes_section(runs),
        confusion_section(runs),
        overlays_section(runs),
        resources_section(runs),
        settings_section(runs),
    ]
    foot = element("footer", element("p", escape(f"ladderseg {__version__}"), class_="note"))
    main = element("main", _header(runs), *(map(_tiles, runs) if len(runs) == 1 else [_legend(runs)]), *sections, foot)
    return f"<!DOCTYPE html>\n{element('html', head, element('body', main), lang='en')}\n"


def _header(runs: Sequence[RunHistory]) -> str:
    heading = element("h1", escape(" / ".join(run.name for run in runs)))
    return element("header", heading, *(element("p", escape(_summary(run, len(runs) > 1))) for run in runs))


def _summary(run: RunHistory, named: bool) -> str:
    """Sentence about what was trained."""
    get = run.settings.get
    model = get("model.name", get("backbone"))
    memory = get("model.memory", get("memory"))
    size = get("data.size", get("size"))
    parts = [
        f"{model} ({memory})" if model and memory else None,
        f"on {get('data.kind', get('data'))}" if get("data.kind", get("data")) else None,
        f"at {size[0]}x{size[1]}" if isinstance(size, list) and len(size) == 2 else None,
        f"batch {get('training.batch', get('batch'))}" if get("training.batch", get("batch")) else None,
        f"{run.steps[-1]['step']} of {total} steps" if (total := get("training.steps", get("steps"))) else None,
    ]
    return (f"{run.name}: " if named else "") + ", ".join(part for part in parts if part)


def _tiles(run: RunHistory) -> str:
    """Tiles with the few numbers that one looks for first."""
    loss = moving_average([value for _, value in run.points("loss")])[-1]
    speed, _, waiting, peak, time = resources(run)
    best = run.best
    tiles = [
        ("best mIoU" if best is None else f"best mIoU, epoch {best['epoch']:.3g}", _score(best, "miou")),
        ("pixel accuracy there", _score(best, "pixel_accuracy")),
        ("loss, moving average", f"{loss:.3f}"),
        ("images per second", speed),
        ("waiting for images", waiting),
        ("peak memory", peak),
        ("time in steps", time),
    ]
    return element("div", *(_tile(label, value) for label, value in tiles), class_="tiles")


def _score(evaluation: dict | None, key: str) -> str:
    return "-" if evaluation is None or key not in evaluation else f"{evaluation[key]:.1%}"


def _tile(label: str, value: str) -> str:
    return element("div", element("b", escape(value)), element("span", escape(label)), class_="tile")


def _legend(runs: Sequence[RunHistory]) -> str:
    """The runs' colours with their best scores."""
    entries = [
        element("span", element("i", class_=f"c{i}"), escape(f"{run.name}: best mIoU {_score(run.best, 'miou')}"))
        for i, run in enumerate(runs)
    ]
    return element("div", *entries, class_="legend")


def _with_different_names(histories: list[RunHistory], paths: Sequence[Path]) -> list[RunHistory]:
    """Runs, called by their whole paths if the names of their directories are the same."""
    names = [history.name for history in histories]
    if len(set(names)) == len(names):
        return histories
    return [replace(history, name=str(path)) for history, path in zip(histories, paths, strict=True)]
