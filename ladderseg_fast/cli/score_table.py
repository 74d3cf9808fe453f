"""Scores as a table in plain text."""

from collections.abc import Sequence

from ..data import LabelSet
from ..engine.evaluation import CityscapesScores, DataSetScores, Scores

#: Columns of numbers are this wide.
_COLUMN = 9


def score_table(result: DataSetScores, label_set: LabelSet) -> str:
    """Table of every class's IoU and of all other scores, in percent; "-" if no pixel decides."""
    scores, extra = result.scores, result.cityscapes
    lines = _class_lines(scores, extra, label_set)
    if extra is not None:
        lines += ["", *_category_lines(extra)]
    lines += ["", f"pixel accuracy {scores.pixel_accuracy:.2%} on {int(scores.confusion.sum())} pixels"]
    return "\n".join(lines)


def _class_lines(scores: Scores, extra: CityscapesScores | None, label_set: LabelSet) -> list[str]:
    """Lines of the classes: share of the pixels, IoU and, if measured, iIoU."""
    iiou = None if extra is None else extra.class_iiou
    share = scores.confusion.sum(1) / scores.confusion.sum()
    heads = ["pixels %", "IoU %"] + ["iIoU %"] * (iiou is not None)
    rows = [
        (name, [of_all, value] + ([] if iiou is None else [iiou.get(name)]))
        for name, of_all, value in zip(label_set.names, share.tolist(), scores.iou, strict=True)
    ]
    mean = [None, scores.miou] + ([] if extra is None or iiou is None else [extra.mean_class_iiou])
    return _lines("class", heads, rows, mean)


def _category_lines(extra: CityscapesScores) -> list[str]:
    iiou = extra.category_iiou
    heads = ["IoU %"] + ["iIoU %"] * (iiou is not None)
    rows = [(name, [value] + ([] if iiou is None else [iiou.get(name)])) for name, value in extra.category_iou.items()]
    return _lines("category", heads, rows, [extra.mean_category_iou] + ([extra.mean_category_iiou] if iiou else []))


def _lines(
    what: str,
    heads: Sequence[str],
    rows: Sequence[tuple[str, Sequence[float | None]]],
    mean: Sequence[float | None],
) -> list[str]:
    """Lines of a table whose last line, `mean`, is set off by a rule."""
    width = max(len(what), *(len(name) for name, _ in rows))
    lines = [what.ljust(width) + "".join(head.rjust(_COLUMN) for head in heads)]
    rule = "-" * len(lines[0])
    lines += [name.ljust(width) + "".join(map(_percent, values)) for name, values in rows]
    return [*lines, rule, "mean".ljust(width) + "".join(map(_percent, mean))]


def _percent(value: float | None) -> str:
    return ("-" if value is None else f"{100 * value:.2f}").rjust(_COLUMN)
