"""Sections of a report, each as HTML; a section without data says so."""

import json
from collections.abc import Callable, Sequence
from html import escape
from statistics import median

from ...memory import format_bytes
from ..plotting import loss_limit, moving_average
from .bar_chart import Bar, bar_chart
from .confusion_chart import confusion_chart
from .history import Points, RunHistory
from .line_chart import Curve, line_chart, score_limits
from .overlays import colour_legend, overlay_names, overlay_picture
from .svg import element

Runs = Sequence[RunHistory]

#: Images that the report shows of each run, at most.
_MOST_PICTURES = 12
_MB = 1e6

#: Reasons why there may be nothing to show.
_UNEVALUATED = "No evaluation has been logged yet."
_UNKNOWN = "Not in the log, which an earlier release wrote."


def training_section(runs: Runs) -> str:
    """Section on loss and learning rate."""
    limit = max(loss_limit([value for _, value in run.points("loss")]) for run in runs)
    losses = [_smooth_curve(run, i, run.points("loss")) for i, run in enumerate(runs)]
    rates = _curves(runs, lambda run: run.points("learning_rate"))
    return _section(
        "Training",
        "Pale: every step. Strong: moving average of the last steps.",
        _charts(
            _chart("Loss", line_chart("training loss", losses, (0.0, limit))),
            _chart_of("Learning rate", rates, lambda values: (0.0, 1.05 * max(values))),
        ),
    )


def validation_section(runs: Runs) -> str:
    """Section on mIoU and pixel accuracy."""
    miou = _curves(runs, lambda run: run.scores("miou"), dots=True)
    accuracy = _curves(runs, lambda run: run.scores("pixel_accuracy"), dots=True)
    return _section(
        "Validation",
        "On the validation split, at the size of the training images.",
        _charts(
            _chart_of("mIoU", miou, score_limits, _percent, _UNEVALUATED),
            _chart_of("Pixel accuracy", accuracy, score_limits, _percent, _UNEVALUATED),
        ),
    )


def classes_section(runs: Runs) -> str:
    """Section on the IoU of every class in the best evaluation of each run."""
    best = {run.name: run.best["iou"] for run in runs if run.best is not None}
    if not best:
        return _section("Classes", "", _nothing(_UNEVALUATED))
    names = list(dict.fromkeys(name for iou in best.values() for name in iou))
    rows = [
        (
            name,
            [
                Bar(run.name, i, best[run.name].get(name), run.class_scores(name))
                for i, run in enumerate(runs)
                if run.name in best
            ],
        )
        for name in names
    ]
    return _section("Classes", f"IoU in the best evaluation: {_best_epochs(runs)}.", bar_chart(rows))


def confusion_section(runs: Runs) -> str:
    """Section with the confusion matrix of each run's best evaluation."""
    parts = []
    for run in runs:
        if run.best is None or "confusion" not in run.best:
            matrix = _nothing(_UNEVALUATED if run.best is None else _UNKNOWN)
        else:
            matrix = confusion_chart(run.best["confusion"], list(run.best["iou"]))
        parts.append(_chart(run.name, matrix) if len(runs) > 1 else matrix)
    note = (
        "Each row is a true class; its numbers say what percentage of its pixels was taken for which class. "
        f"Best evaluation: {_best_epochs(runs)}."
    )
    body = _charts(*parts) if len(runs) > 1 else parts[0]
    return _section("Confusion matrix", note if any(run.best for run in runs) else "", body)


def overlays_section(runs: Runs) -> str:
    """Section with predictions over images; those of one image stand together."""
    pictures = [(name, run) for name in overlay_names(runs)[:_MOST_PICTURES] for run in runs]
    figures = [
        element("figure", picture, element("figcaption", escape(_caption(name, run, runs))))
        for name, run in pictures
        if (picture := overlay_picture(run, name)) is not None
    ]
    if not figures:
        return _section("Predictions", "", _nothing("None yet: a training draws overlays at its end."))
    note = "Truth and prediction over validation images, by the weights at the end of the training."
    columns = f"grid-template-columns: repeat({len(runs)}, 1fr)" if 1 < len(runs) <= 4 else None
    grid = element("div", *figures, class_="pictures", style=columns)
    return _section("Predictions", note, colour_legend(runs), grid)


def resources_section(runs: Runs) -> str:
    """Section on memory and speed."""
    speeds = [_smooth_curve(run, i, run.speed) for i, run in enumerate(runs) if run.speed]
    waits = [_smooth_curve(run, i, run.waiting) for i, run in enumerate(runs) if run.waiting]
    peaks = _curves(runs, lambda run: [(epoch, peak / _MB) for epoch, peak in run.points("peak_memory_bytes")])
    return _section(
        "Memory and speed",
        "Peak memory is that of the whole process on a CPU, and what torch allocated on a CUDA device.",
        _table(
            ["", "images/s, median", "seconds a step, median", "waiting for images", "peak memory", "time in steps"],
            [[run.name, *resources(run)] for run in runs],
        ),
        _charts(
            _chart_of("Images per second", speeds, _speed_limits),
            _chart_of("Peak memory, MB", peaks, lambda values: (0.0, 1.1 * max(values))),
            _chart_of("Share of the time that steps wait for images", waits, score_limits, _percent),
        ),
    )


def settings_section(runs: Runs) -> str:
    """Section with all settings; those that differ between runs are marked."""
    groups: dict[str, list[tuple[str, list[object]]]] = {
        "run": [
            ("version", [run.version for run in runs]),
            ("git revision", [run.git_revision for run in runs]),
            ("resumed after step", [", ".join(map(str, run.resumed)) or "never" for run in runs]),
            ("batches left out", [run.skipped for run in runs]),
            ("batches without a labelled pixel", [run.empty for run in runs]),
        ]
    }
    for key in dict.fromkeys(key for run in runs for key in run.settings):
        section, dot, name = key.partition(".")
        row = (name if dot else key, [run.settings.get(key) for run in runs])
        groups.setdefault(section if dot else "settings", []).append(row)
    names = [run.name for run in runs] if len(runs) > 1 else []
    tables = [_settings_table(title, rows, names) for title, rows in groups.items()]
    note = "Marked settings differ between runs." if len(runs) > 1 else ""
    return _section("Settings", note, element("div", *tables, class_="groups"))


def resources(run: RunHistory) -> list[str]:
    """Images/s, seconds per step, share of waiting, peak memory and time of `run`; "-" if the log lacks one."""
    seconds = [value for _, value in run.points("seconds")]
    waited = [value for _, value in run.points("data_wait_seconds")]
    peaks = [value for _, value in run.points("peak_memory_bytes")]
    return [
        f"{median(value for _, value in run.speed):.2f}" if run.speed else "-",
        f"{median(seconds):.3g}" if seconds else "-",
        _percent(sum(waited) / sum(seconds)) if waited and sum(seconds) else "-",
        format_bytes(max(peaks)) if peaks else "-",
        _duration(sum(seconds)) if seconds else "-",
    ]


def _settings_table(title: str, rows: Sequence[tuple[str, Sequence[object]]], names: Sequence[str]) -> str:
    """One column of values per run, with `names` above if there are any."""
    body = [
        element(
            "tr",
            element("th", escape(key)),
            *(element("td", escape(_shown(value))) for value in values),
            class_="differs" if any(value != values[0] for value in values) else None,
        )
        for key, values in rows
    ]
    head = element("tr", element("th"), *(element("th", escape(name)) for name in names)) if names else ""
    return element("div", element("h3", escape(title)), element("table", head, *body), class_="scroll")


def _curves(runs: Runs, points: Callable[[RunHistory], Points], dots: bool = False) -> list[Curve]:
    """Curves of the runs that have points."""
    return [Curve(run.name, points(run), i, dots=dots) for i, run in enumerate(runs) if points(run)]


def _smooth_curve(run: RunHistory, colour: int, points: Points) -> Curve:
    """Moving average, with the points themselves behind it."""
    averages = moving_average([value for _, value in points])
    smooth = [(epoch, average) for (epoch, _), average in zip(points, averages, strict=True)]
    return Curve(run.name, smooth, colour, pale=points)


def _chart_of(
    title: str,
    curves: Sequence[Curve],
    limits: Callable[[list[float]], tuple[float, float]],
    label: Callable[[float], str] = lambda value: f"{value:g}",
    missing: str = _UNKNOWN,
) -> str:
    """Chart with axis limits from all values, or the text `missing` if there are none."""
    if not curves:
        return _chart(title, _nothing(missing))
    values = [value for curve in curves for _, value in curve.pale or curve.points]
    return _chart(title, line_chart(title.lower(), curves, limits(values), label))


def _speed_limits(values: list[float]) -> tuple[float, float]:
    """Limits from zero; single steps that took almost no time are cut off."""
    return 0.0, 1.6 * median(values)


def _best_epochs(runs: Runs) -> str:
    """Epochs of the best evaluations."""
    of_run = {run.name: f"epoch {run.best['epoch']:.3g} (step {run.best['step']})" for run in runs if run.best}
    return "; ".join(of_run.values() if len(runs) == 1 else (f"{name}, {where}" for name, where in of_run.items()))


def _caption(name: str, run: RunHistory, runs: Runs) -> str:
    return name if len(runs) == 1 else f"{name}: {run.name}"


def _section(title: str, note: str, *content: str) -> str:
    head = element("h2", escape(title)) + (element("p", escape(note), class_="note") if note else "")
    return element("section", head, *content)


def _charts(*charts: str) -> str:
    return element("div", *charts, class_="charts")


def _chart(title: str, content: str) -> str:
    return element("div", element("h3", escape(title)), content)


def _nothing(reason: str) -> str:
    return element("p", escape(reason), class_="note")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Table whose first column holds names, the others numbers."""

    def cells(tag: str, values: Sequence[str]) -> str:
        first, *rest = map(escape, values)
        return element("tr", element(tag, first), *(element(tag, value, class_="number") for value in rest))

    table = element("table", cells("th", head), *(cells("td", row) for row in rows))
    return element("div", table, class_="scroll")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 600:
        return f"{seconds / 60:.1f} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def _shown(value: object) -> str:
    """Value as in the configuration file, but with strings unquoted."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)
