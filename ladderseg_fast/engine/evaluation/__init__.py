"""How good a model is: confusion matrix and IoU, the scores of Cityscapes, and whole data sets at full resolution."""

from .batches import evaluate
from .cityscapes import CityscapesScores, InstanceCounts, cityscapes_scores
from .confusion import ConfusionMatrix, Scores
from .data_set import DataSetScores, ImageScores, Prediction, evaluate_data_set, predictions
from .views import Views, label_image

__all__ = [
    "CityscapesScores",
    "ConfusionMatrix",
    "DataSetScores",
    "ImageScores",
    "InstanceCounts",
    "Prediction",
    "Scores",
    "Views",
    "cityscapes_scores",
    "evaluate",
    "evaluate_data_set",
    "label_image",
    "predictions",
]
