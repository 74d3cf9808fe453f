"""The training loop, with the recipe of the paper (Kreso, Krapac, Segvic 2017, section 4) as the default."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from .._version import __version__
from ..data import IGNORE_INDEX, IMAGENET_NORMALISATION, SegmentationDataset
from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .class_weights import median_frequency_weights
from .config import BALANCED, Config
from .config_tables import format_toml
from .curve import write_curve
from .device import find_device
from .evaluate import evaluate
from .git_revision import GitRevision, git_revision
from .interrupt import InterruptRequest
from .learner import Learner
from .loaders import Batch, training_loader, validation_loader
from .overlay import write_overlay
from .pace import Pace
from .peak_memory import format_bytes, peak_memory
from .predict import predict_image
from .progress import Progress
from .random_state import get_random_states, seed_all, set_random_states
from .recorder import Recorder
from .resume import check_same_training
from .run_directory import RunDirectory
from .run_log import RunLog
from .training_result import Evaluation, TrainingResult

#: Batches without a finite loss, one after the other, that say that the weights are broken, not the images.
_MOST_SKIPS = 10


class NonFiniteError(RuntimeError):
    """The loss or a weight has become NaN or infinite."""


class Interrupted(RuntimeError):
    """Ctrl-C or SIGTERM has ended the training; a checkpoint was saved.

    Attributes:
        signal: its number.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def train(
    config: Config,
    training_set: SegmentationDataset,
    validation_set: SegmentationDataset,
    run: RunDirectory,
    stream: TextIO,
    *,
    overwrite: bool = False,
    resume: bool = False,
) -> TrainingResult:
    """Trains a model as `config` says; `run` gets all that RunDirectory lists. The progress goes to `stream`.

    On a CPU the configuration, the data and the number of threads decide every bit of the result: whatever
    `data.workers` is, and however often the training was stopped, killed or not, and resumed.

    Args:
        overwrite: an earlier run in `run` is replaced.
        resume: the run in `run` continues from its last checkpoint; it starts if there is none yet, and if it has ended,
            its result is returned.

    Raises:
        NonFiniteError: a loss or a weight is NaN or infinite; the last checkpoint is kept.
        Interrupted: after Ctrl-C or SIGTERM, when the batch in progress is done and all is saved.
        OSError: a file cannot be read or written; the last checkpoint is kept. FileExistsError: `run` holds a checkpoint.
        ValueError: the data cannot be used, a setting does not fit them or the model, `device` does not exist, or the run
            to resume is another training.
    """
    if not resume:
        run.check_free(overwrite)
    config = config.resolved(len(training_set))
    checkpoint = load_checkpoint(run.last) if resume and run.last.exists() else None
    trainer = _Trainer(config, training_set, validation_set, run, stream, checkpoint)
    with InterruptRequest() as interrupt:
        try:
            trainer.start(overwrite or resume) if checkpoint is None else trainer.resume(checkpoint)
        
    return trainer.result
