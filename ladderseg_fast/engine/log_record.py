"""Form of the records in a run's log."""

from collections.abc import Callable
from typing import Any

#: A JSON object.
Record = dict[str, Any]

#: Numbers from here on are none that a training measures, and too large for the arithmetic of a picture.
_TOO_LARGE = 1e18

#: Keys that every release writes, by kind.
_NEEDED = {
    "step": ("step", "epoch", "loss"),
    "evaluation": ("step", "epoch", "miou", "pixel_accuracy", "iou"),
    "resume": ("step",),
}


def check_record(record: Any) -> None:
    """Raises ValueError unless `record`, which json.loads returned, is one of a run's log.

    It must be an object with a "kind", and what a reader relies on in it must be there, of the right type and in range.
    Other keys may be there.
    """
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        raise ValueError('an object with a "kind" is expected')
    kind = record["kind"]
    for key in _NEEDED.get(kind, ()):
        if key not in record:
            raise ValueError(f'a record of kind {kind} has no "{key}"')
    for key, (right, words) in _VALUES.items():
        # A batch that is left out has no number for its loss.
        if key in record and not (key == "loss" and kind == "skip") and not right(record[key]):
            raise ValueError(f'the "{key}" of a record must be {words}')
    if kind == "evaluation" and not _fits(record):
        raise ValueError('"confusion" must have a row and a column for each class of "iou"')


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_TOO_LARGE < value < _TOO_LARGE


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value) and value >= 0


def _is_text_or_none(value: Any) -> bool:
    return isinstance(value, str | None)


def _are_scores(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number_or_none, value.values()))


def _are_colours(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(colour, list) and len(colour) == 3 and all(_is_count(part) and part <= 255 for part in colour)
        for colour in value.values()
    )


def _are_rows_of_counts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, list) and all(map(_is_count, row)) for row in value)


def _are_sections(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(table, dict) for table in value.values())


def _fits(record: Record) -> bool:
    """Whether the confusion matrix of an evaluation, if it has one, is of its classes."""
    if "confusion" not in record:
        return True
    return [len(row) for row in record["confusion"]] == [len(record["iou"])] * len(record["iou"])


_NUMBER = (_is_number, "a number")
_NUMBER_OR_NONE = (_is_number_or_none, "a number or null")
_COUNT = (_is_count, "a whole number from 0")

#: By key: what is right, and in words.
_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "step": _COUNT,
    "batch": _COUNT,
    "epoch": _NUMBER,
    "loss": _NUMBER,
    "miou": _NUMBER,
    "pixel_accuracy": _NUMBER,
    "iou": (_are_scores, "an object of numbers or null"),
    "confusion": (_are_rows_of_counts, "a list of lists of whole numbers from 0"),
    "learning_rate": _NUMBER_OR_NONE,
    "seconds": _NUMBER_OR_NONE,
    "data_wait_seconds": _NUMBER_OR_NONE,
    "images_per_second": _NUMBER_OR_NONE,
    "peak_memory_bytes": _NUMBER_OR_NONE,
    "config": (_are_sections, "an object of objects"),
    "colours": (_are_colours, "an object of lists of three numbers from 0 to 255"),
    "version": (_is_text_or_none, "a text"),
    "git_revision": (_is_text_or_none, "a text or null"),
}
