"""Training, evaluation and prediction: the loops around a model and a data set."""

from .checkpoint import Checkpoint, build_model, load_checkpoint, save_checkpoint
from .evaluation import ConfusionMatrix, Scores, evaluate
from .peak_memory import format_bytes, peak_memory
from .predict import predict_image, prediction_size
from .run_directory import RunDirectory
from .schedule import poly_learning_rate
from .train import Interrupted, NonFiniteError, TrainingConfig, TrainingResult, train

__all__ = [
    "Checkpoint",
    "ConfusionMatrix",
    "Interrupted",
    "NonFiniteError",
    "RunDirectory",
    "Scores",
    "TrainingConfig",
    "TrainingResult",
    "build_model",
    "evaluate",
    "format_bytes",
    "load_checkpoint",
    "peak_memory",
    "poly_learning_rate",
    "predict_image",
    "prediction_size",
    "save_checkpoint",
    "train",
]
