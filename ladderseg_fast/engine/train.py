"""The training loop, with the recipe of the paper (Kreso, Krapac, Segvic 2017, section 4)."""

import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TextIO

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..data import IGNORE_INDEX, IMAGENET_NORMALISATION, SegmentationDataset, SegmentationTensors, TrainingBatches
from ..models import LadderDenseNet, LadderLoss
from ..models.segmentation_model import MIN_IMAGE_SIZE
from .checkpoint import Checkpoint, save_checkpoint
from .curve import write_curve
from .device import find_device
from .evaluate import Scores, evaluate
from .interrupt import InterruptRequest, ignore_interrupts
from .overlay import write_overlay
from .peak_memory import format_bytes, peak_memory
from .predict import predict_image
from .progress import Progress
from .run_directory import RunDirectory
from .schedule import poly_learning_rate

#: Validation images that overlays are drawn of, spread evenly over the split.
_OVERLAYS = 4
#: Weight of the past in the moving average of the seconds per step.
_PACE_MEMORY = 0.9


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one training.

    Raises:
        ValueError: a setting is out of range; the message names it.
    """

    data: str
    """What the images are called in the summary and the checkpoint."""
    backbone: str
    size: tuple[int, int]
    """(height, width) that images and labels are resized to, for training and validation."""
    batch: int
    steps: int
    eval_every: int
    """Steps between evaluations on the validation split; each also saves a checkpoint. The last step always does."""
    learning_rate: float = 5e-4
    seed: int = 0
    memory: str = "lean"
    device: str = "cpu"
    workers: int = 0

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("steps", 1), ("eval_every", 1), ("seed", 0), ("workers", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if min(self.size) < MIN_IMAGE_SIZE:
            raise ValueError(
                f"size must be at least {MIN_IMAGE_SIZE}x{MIN_IMAGE_SIZE}, got {self.size[0]}x{self.size[1]}"
            )
        if self.batch * math.prod(-(-side // 4) // 16 for side in self.size) < 2:
            raise ValueError(
                f"batch 1 at {self.size[0]}x{self.size[1]} leaves one pixel at 1/64 of the resolution, of which "
                "batch normalisation has no statistics; a larger size or batch is needed"
            )
        if not 0.0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be a positive number, got {self.learning_rate}")


@dataclass
class TrainingResult:
    """What a training has come to."""

    losses: list[float] = field(default_factory=list)
    """One per step."""
    evaluations: list[tuple[int, Scores]] = field(default_factory=list)
    """(steps done, scores), in order."""
    overlays: list[Path] = field(default_factory=list)

    @property
    def span(self) -> int:
        """Steps that `first_loss` and `last_loss` average over: a quarter of all, 50 at most."""
        return min(50, max(1, len(self.losses) // 4))

    @property
    def first_loss(self) -> float:
        return fmean(self.losses[: self.span])

    @property
    def last_loss(self) -> float:
        return fmean(self.losses[-self.span :])


class NonFiniteError(RuntimeError):
    """The loss or a parameter has become NaN or infinite."""


class Interrupted(RuntimeError):
    """Ctrl-C has ended the training; a checkpoint was saved."""


def train(
    config: TrainingConfig,
    training_set: SegmentationDataset,
    validation_set: SegmentationDataset,
    run: RunDirectory,
    stream: TextIO,
) -> TrainingResult:
    """Trains a LadderDenseNet from random weights; `run` gets checkpoint, log, curve and overlays.

    Adam, poly decay of the learning rate, random horizontal flips, 0.7 main + 0.3 auxiliary loss. The progress
    goes to `stream`. The seed decides the order of the images, their flips and the initial weights, whatever
    `workers` is.

    Raises:
        NonFiniteError: the loss or a parameter is NaN or infinite; the last checkpoint is kept.
        Interrupted: after Ctrl-C, when the step in progress is done and saved.
        OSError: a file cannot be read or written; the last checkpoint is kept.
        ValueError: the data cannot be used, or `device` does not exist.
    """
    trainer = _Trainer(config, training_set, validation_set, run, stream)
    with trainer.progress, InterruptRequest() as interrupt:
        try:
            trainer.fit(interrupt)
        except Interrupted:
            trainer.save()
            trainer.draw_curve()
            raise
    return trainer.result


class _Trainer:
    """The parts of one training and its state between steps."""

    def __init__(
        self,
        config: TrainingConfig,
        training_set: SegmentationDataset,
        validation_set: SegmentationDataset,
        run: RunDirectory,
        stream: TextIO,
    ) -> None:
        self.config = config
        self.run = run
        self.validation_set = validation_set
        self.device = find_device(config.device)
        self.result = TrainingResult()
        torch.manual_seed(config.seed)
        self.label_set = training_set.label_set
        model = LadderDenseNet(config.backbone, len(self.label_set), memory=config.memory)
        self.model = model.to(self.device).train()
        self.loss = LadderLoss(ignore_index=IGNORE_INDEX, memory=config.memory)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate)
        options = {"num_workers": config.workers, "worker_init_fn": ignore_interrupts}
        options["pin_memory"] = self.device.type == "cuda"
        self.batches = DataLoader(
            SegmentationTensors(training_set, config.size, IMAGENET_NORMALISATION),
            batch_sampler=TrainingBatches(len(training_set), config.batch, config.steps, config.seed),
            **options,
        )
        tensors = SegmentationTensors(validation_set, config.size, IMAGENET_NORMALISATION)
        self.validation_batches = DataLoader(tensors, batch_size=config.batch, **options)
        self.epoch_steps = len(training_set) / config.batch
        self.progress = Progress(stream, "train", config.steps)
        self.stream = stream

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.result.losses)

    def fit(self, interrupt: InterruptRequest) -> None:
        """All steps and evaluations; raises Interrupted at the first safe moment after Ctrl-C."""
        self.run.append_to_log({"kind": "start", **asdict(self.config)})
        pace = None
        started = time.perf_counter()
        for images, labels, _ in self.batches:
            learning_rate = poly_learning_rate(self.config.learning_rate, self.step, self.config.steps)
            loss = self._train_step(images, labels, learning_rate)
            seconds = time.perf_counter() - started
            pace = seconds if pace is None else _PACE_MEMORY * pace + (1 - _PACE_MEMORY) * seconds
            self._report(loss, learning_rate, seconds, pace)
            self._stop_if(interrupt)
            if self.step % self.config.eval_every == 0 or self.step == self.config.steps:
                self._evaluate(interrupt)
            started = time.perf_counter()
        self._draw_overlays()

    def save(self) -> None:
        """Writes the checkpoint of the present step, unless the model is broken."""
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            raise NonFiniteError(f"a parameter is not finite after step {self.step}; {self._advice()}")
        checkpoint = Checkpoint(
            step=self.step,
            backbone=self.config.backbone,
            memory=self.config.memory,
            label_set=self.label_set,
            size=self.config.size,
            normalisation=IMAGENET_NORMALISATION,
            training=asdict(self.config),
            state=self.model.state_dict(),
        )
        save_checkpoint(self.run.checkpoint, checkpoint)

    def draw_curve(self) -> None:
        """Writes the curve of the steps and evaluations so far."""
        config = self.config
        height, width = config.size
        title = f"{config.backbone} ({config.memory}), {config.data}, {height}x{width}, batch {config.batch}"
        scores = [(step, scores.miou, scores.pixel_accuracy) for step, scores in self.result.evaluations]
        write_curve(self.run.curve, title, self.result.losses, scores, config.steps)

    def _train_step(self, images: Tensor, labels: Tensor, learning_rate: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad()
        images, labels = images.to(self.device), labels.to(self.device)
        loss = self.loss(self.model(images), labels)
        value = loss.item()
        if not math.isfinite(value):
            labelled = bool((labels != IGNORE_INDEX).any())
            reason = self._advice() if labelled else "no pixel of its images has a class"
            raise NonFiniteError(f"loss is {value} at step {self.step + 1} of {self.config.steps}; {reason}")
        loss.backward()
        self.optimizer.step()
        self.result.losses.append(value)
        return value

    def _report(self, loss: float, learning_rate: float, seconds: float, pace: float) -> None:
        peak = peak_memory(self.device)
        rate = self.config.batch / pace
        record = {"kind": "step", "step": self.step, "epoch": round(self.step / self.epoch_steps, 4), "loss": loss}
        record |= {"learning_rate": learning_rate, "seconds": round(seconds, 4), "peak_memory_bytes": peak}
        self.run.append_to_log(record)
        details = f"loss {loss:.3f}  {rate:.2f} images/s  lr {learning_rate:.1e}  peak {format_bytes(peak)}"
        self.progress.update(self.step, details)

    def _evaluate(self, interrupt: InterruptRequest) -> None:
        """Saves the checkpoint first, so that whatever happens while evaluating costs no training."""
        self.save()
        self.progress.clear()
        progress = Progress(self.stream, "evaluate", len(self.validation_batches), plain_lines=0)

        def on_batch(done: int) -> None:
            progress.update(done, "")
            self._stop_if(interrupt)

        scores = evaluate(self.model, self.validation_batches, self.device, on_batch)
        self.result.evaluations.append((self.step, scores))
        iou = dict(zip(self.label_set.names, scores.iou, strict=True))
        record = {"kind": "evaluation", "step": self.step, "epoch": round(self.step / self.epoch_steps, 4)}
        record |= {"miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy, "iou": iou}
        self.run.append_to_log(record)
        progress.note(f"step {self.step}: mIoU {scores.miou:.1%}, pixel accuracy {scores.pixel_accuracy:.1%}")
        self.draw_curve()

    def _draw_overlays(self) -> None:
        count = min(_OVERLAYS, len(self.validation_set))
        for i in range(count):
            sample = self.validation_set[i * len(self.validation_set) // count]
            labels = predict_image(self.model, sample.image, IMAGENET_NORMALISATION, self.config.size)
            path = self.run.overlays / f"{sample.name}.png"
            write_overlay(path, sample.image, labels, self.label_set)
            self.result.overlays.append(path)

    def _stop_if(self, interrupt: InterruptRequest) -> None:
        if interrupt.pending:
            raise Interrupted(f"interrupted at step {self.step} of {self.config.steps}; saved {self.run.checkpoint}")

    def _advice(self) -> str:
        kept = (
            f"the last checkpoint is {self.run.checkpoint}"
            if self.run.checkpoint.exists()
            else "no checkpoint was written"
        )
        return f"a lower learning rate may help; {kept}"
