"""Scores as plain data, for a JSON file."""

from dataclasses import asdict
from typing import Any

from ...data import LabelSet
from .cityscapes import CityscapesScores
from .confusion import Scores
from .data_set import DataSetScores


def as_record(result: DataSetScores, label_set: LabelSet) -> dict[str, Any]:
    """Scores as numbers, lists and names only. Scores go from 0 to 1; None if no pixel decides.

    "confusion" has true classes as rows; "images" are in the order of the data set; "cityscapes" exists for that data
    set only.
    """
    record = {"classes": list(label_set.names)} | _scores(result.scores, label_set)
    record["confusion"] = result.scores.confusion.tolist()
    if result.cityscapes is not None:
        record["cityscapes"] = _cityscapes(result.cityscapes)
    record["images"] = [
        {"name": image.name} | ({} if image.scores is None else _scores(image.scores, label_set))
        for image in result.images
    ]
    return record


def _scores(scores: Scores, label_set: LabelSet) -> dict[str, Any]:
    return {
        "miou": scores.miou,
        "pixel_accuracy": scores.pixel_accuracy,
        "iou": dict(zip(label_set.names, scores.iou, strict=True)),
    }


def _cityscapes(scores: CityscapesScores) -> dict[str, Any]:
    means = {
        "mean_category_iou": scores.mean_category_iou,
        "mean_class_iiou": scores.mean_class_iiou,
        "mean_category_iiou": scores.mean_category_iiou,
    }
    return asdict(scores) | means
