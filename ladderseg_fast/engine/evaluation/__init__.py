"""Evaluation: confusion matrix and IoU, the scores of Cityscapes, and whole data sets at full resolution."""

from .batches import evaluate
from .cityscapes import CityscapesScores, InstanceCounts, cityscapes_scores
from .confusion import ConfusionMatrix, Scores
from .data_set import DataSetScores, ImageScores, Prediction, evaluate_data_set, predictions
from .export import Export
from .record import as_record
from .views import Views, label_image
from .worst_images import WorstImages

__all__ = [
    "CityscapesScores",
    "ConfusionMatrix",
    "DataSetScores",
    "Export",
    "ImageScores",
    "InstanceCounts",
    "Prediction",
    "Scores",
    "Views",
    "WorstImages",
    "as_record",
    "cityscapes_scores",
    "evaluate",
    "evaluate_data_set",
    "label_image",
    "predictions",
]
