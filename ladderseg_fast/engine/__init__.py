"""Training, evaluation and prediction: the loops around a model and a data set."""

from .checkpoint import Checkpoint, build_model, load_checkpoint, save_checkpoint
from .config import Config, DataConfig, ModelConfig, OutputConfig, TrainingConfig
from .errors import Interrupted, NonFiniteError, SystemRefusal
from .evaluation import ConfusionMatrix, Scores, evaluate
from .predict import LabelledImage, UnusableImage, label_images, predict_image, prediction_size
from .run_directory import RunDirectory
from .run_log import RunLog
from .schedule import learning_rate_factor
from .train import train
from .training_result import Evaluation, TrainingResult

__all__ = [
    "Checkpoint",
    "Config",
    "ConfusionMatrix",
    "DataConfig",
    "Evaluation",
    "Interrupted",
    "LabelledImage",
    "ModelConfig",
    "NonFiniteError",
    "OutputConfig",
    "RunDirectory",
    "RunLog",
    "Scores",
    "SystemRefusal",
    "TrainingConfig",
    "TrainingResult",
    "UnusableImage",
    "build_model",
    "evaluate",
    "label_images",
    "learning_rate_factor",
    "load_checkpoint",
    "predict_image",
    "prediction_size",
    "save_checkpoint",
    "train",
]
