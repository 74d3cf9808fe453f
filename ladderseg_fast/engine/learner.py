"""A model with everything that changes it in training: loss, optimizer, gradient scaler, average of the weights."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..data import IGNORE_INDEX
from ..models import LadderLoss, SegmentationModel, create_model
from ..models.state import load_state
from ..nn import DenseNetFeatures
from .config import Config, decided
from .device import find_devices
from .distributed import World
from .first_weights import is_whole_model, read_first_weights, take_what_fits
from .optimizer import make_optimizer, scale_learning_rate
from .placement import place
from .schedule import learning_rate_factor
from .weight_average import WeightAverage


class Learner:
    """Computes losses and gradients of batches, and updates the weights with them.

    The processes of `world` compute a batch together, each a share of its images. The loss and its gradients are those
    of the whole batch; batch norm sees each share alone, unless training.sync_bn is set.

    Args:
        config: a resolved configuration.
        num_classes: K.
        device: device of the model, or of its first part, and of the images.
        resumed: the weights come from restore(); the first weights are not read.
        world: all its processes make a learner together, which starts from the first weights of the first.

    Attributes:
        gathered: number of batches whose gradients wait for their step.

    Raises:
        ValueError: the model does not exist, does not fit its first weights, or cannot train on images of this size, or
            in these processes.
        OSError: the first weights cannot be read.
    """

    def __init__(
        self,
        config: Config,
        num_classes: int,
        device: torch.device,
        resumed: bool = False,
        world: World | None = None,
    ) -> None:
        self.config = config
        self.device = device
        self.world = world or World()
        self.gathered = 0
        self.layout = torch.channels_last if config.model.channels_last else torch.contiguous_format
        model, taken = _make_model(config, num_classes, resumed or not self.world.is_first)
        #: Sentence about what was taken of training.init_from, or about weights adapted to the bands; None without it.
        self.taken = taken
        check_sizes(config, model, self.world.size)
        synchronised = config.training.sync_bn and self.world.size > 1
        if synchronised and device.type == "cpu" and model.memory == "plain":
            raise ValueError(
                'training.sync_bn needs model.memory = "lean" on the CPU: '
                "torch's own synchronised batch norm works on CUDA devices only"
            )
        # torch declares no memory_format for modules.
        self.model = model.to(device, memory_format=self.layout).train()  # type: ignore[call-overload]
        #: Devices of the parts of the model; batches begin on the first, and losses end on the last.
        self.devices = find_devices(config.training.device) if "," in config.training.device else [device]
        #: Sentence about the parts; None if there is but one.
        self.cut = place(self.model, config, self.devices) if len(self.devices) > 1 else None
        self.replica = None
        if self.world.size > 1:
            self.replica = DistributedDataParallel(self.model, gradient_as_bucket_view=True)
            # From here on, running statistics are averaged in update(), and not taken from the first process. The
            # argument of this name would also keep them from being so now, and is deprecated.
            self.replica.broadcast_buffers = False
        if synchronised:
            # Not before: on the CPU, DistributedDataParallel refuses modules that torch itself cannot run there.
            nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        weights = config.training.class_weights
        self.weigh_classes(weights if isinstance(weights, tuple) else None)
        self.optimizer = make_optimizer(config.training, self.model)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.training.autocast == "float16")
        decay = config.training.ema_decay
        self.average = None if decay is None else WeightAverage(self.model, decay)
        if self.model.memory_budget is not None:
            self.model.memory = max(1, self.model.memory_budget - self._bytes_besides_steps())

    def _bytes_besides_steps(self) -> int:
        """Bytes that a step's plan does not know: averaged weights, and gradients that another batch's, or those of
        other processes, are added to.
        """
        averaged = self.model.state_dict().values() if self.average is not None else ()
        adds = self.config.training.accumulate > 1 or self.world.size > 1
        added = self.model.parameters() if adds else ()
        return sum(tensor.nbytes for tensor in (*averaged, *added))

    def weigh_classes(self, weights: Sequence[float] | None) -> None:
        """Sets the class weights of the loss to `weights`, one per class; None weighs all alike.

        Raises:
            ValueError: there are more or fewer weights than classes.
        """
        if weights is not None and len(weights) != self.model.num_classes:
            raise ValueError(
                f"training.class_weights must be {self.model.num_classes} numbers, one per class, got {len(weights)}"
            )
        tensor = None if weights is None else torch.tensor(weights, dtype=torch.float32)
        self.loss = LadderLoss(IGNORE_INDEX, tensor, self.config.training.aux_weight, self.config.model.memory)
        self.loss.to(self.devices[-1])

    @property
    def class_weights(self) -> list[float] | None:
        """Class weights of the loss."""
        return None if self.loss.class_weights is None else self.loss.class_weights.tolist()

    def learning_rate(self, step: int) -> float:
        """Learning rate of step 0 <= `step` < steps, for all parameters but those of a pretrained encoder."""
        return self.config.training.learning_rate * self._factor(step)

    def add_batch(self, images: Tensor, labels: Tensor) -> float:
        """Computes the loss of a batch and adds its gradients to those of the step, unless the loss is NaN or infinite.

        Such a batch leaves no trace if `on_nonfinite` is "skip".
        """
        images = images.to(self.device, memory_format=self.layout, non_blocking=True)
        labels = labels.to(self.devices[-1], non_blocking=True)
        statistics = self._statistics() if self.config.training.on_nonfinite == "skip" else []
        accumulate = self.config.training.accumulate
        waits = self.replica is not None and self.gathered + 1 < accumulate
        with self.replica.no_sync() if self.replica is not None and waits else nullcontext():
            with self._autocast():
                loss = self.loss((self.replica or self.model)(images), labels)
            value, factor = self._of_all(loss, labels)
            if math.isfinite(value):
                self.scaler.scale(loss * (factor / accumulate) if self.replica else loss / accumulate).backward()
                self.gathered += 1
            else:
                for buffer, before in statistics:
                    buffer.copy_(before)
        return value

    def _of_all(self, loss: Tensor, labels: Tensor) -> tuple[float, float]:
        """Loss of the whole batch, and the factor of this process's `loss` whose mean over the processes it is.

        A loss is a mean over pixels, and so counts by the weight of those in its share, which may be none.
        """
        value = loss.item()
        if self.world.size == 1:
            return value, 1.0
        weight = self._weight(labels)
        sums = torch.tensor([value * weight, weight], dtype=torch.float64)
        self.world.sum(sums)
        total, weights = sums.tolist()
        return (total / weights, self.world.size * weight / weights) if weights else (total, 1.0)

    def _weight(self, labels: Tensor) -> float:
        """Sum of the class weights of the pixels that count in `labels` [N, H, W] uint8."""
        counted = labels[labels != IGNORE_INDEX]
        if self.loss.class_weights is None:
            return float(counted.numel())
        pixels = torch.bincount(counted.int(), minlength=self.model.num_classes)
        return float(pixels.double() @ self.loss.class_weights.double())

    def counts(self, labels: Tensor) -> bool:
        """Whether any of `labels` [N, H, W] weighs in the loss; otherwise the loss is 0 and has no gradient."""
        classes = labels[labels != IGNORE_INDEX].unique().tolist()
        weights = self.class_weights
        return bool(classes) if weights is None else any(weights[k] for k in classes)

    def update(self, step: int) -> None:
        """Changes the weights by the gradients that add_batch gathered for step 0 <= `step` < steps."""
        scale_learning_rate(self.optimizer, self._factor(step))
        if self.config.training.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.training.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.gathered = 0
        self._unite_statistics()
        if self.average is not None:
            self.average.update(self.model)

    def unite(self) -> None:
        """Makes state() the same in all processes in the middle of a step, when gradients and statistics differ."""
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        self.world.average(gradients)
        self._unite_statistics()

    def _unite_statistics(self) -> None:
        """Makes each running statistic the mean over the processes, which saw other images."""
        if not (self.config.model.frozen_bn or self.config.training.sync_bn):
            self.world.average([buffer for buffer in self.model.buffers() if buffer.is_floating_point()])

    @contextmanager
    def result(self) -> Iterator[SegmentationModel]:
        """Model with the weights to evaluate and predict with: their average, if there is one."""
        if self.average is None:
            yield self.model
        else:
            with self.average.applied_to(self.model):
                yield self.model

    def result_weights(self) -> dict[str, Tensor]:
        """State dict of result()."""
        return self.model.state_dict() if self.average is None else self.average.values

    def state(self) -> dict[str, Any]:
        """State besides result_weights() that the next steps depend on, gradients of an unfinished step included."""
        gradients = {name: parameter.grad for name, parameter in self.model.named_parameters()}
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "gradients": {name: gradient for name, gradient in gradients.items() if gradient is not None},
            "class_weights": self.class_weights,
            "average": None if self.average is None else self.average.state(),
            "weights": None if self.average is None else self.model.state_dict(),
        }

    def restore(self, result_weights: dict[str, Tensor], state: dict[str, Any], gathered: int = 0) -> None:
        """Restores the values of result_weights() and state() from a learner of the same configuration.

        Args:
            gathered: number of batches whose gradients are in `state`.

        Raises:
            ValueError: the values are of another configuration, or of none.
        """
        try:
            load_state(self.model, result_weights if self.average is None else state["weights"])
            if self.average is not None:
                self.average.restore(result_weights, state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            for name, parameter in self.model.named_parameters():
                gradient = state["gradients"].get(name)
                parameter.grad = None if gradient is None else gradient.to(parameter.device)
            self.weigh_classes(state["class_weights"])
            self.gathered = gathered
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"not the state of a training of {self.config.model.name} ({error})") from error

    def is_finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(value.isfinite().all()) for value in self.model.state_dict().values())

    def _factor(self, step: int) -> float:
        training = self.config.training
        return learning_rate_factor(step, decided(training.steps), training.power, training.warmup_steps)

    def _autocast(self) -> torch.autocast:
        name = self.config.training.autocast
        dtype = None if name is None else getattr(torch, name)
        return torch.autocast(self.device.type, dtype, enabled=name is not None)

    def _statistics(self) -> list[tuple[Tensor, Tensor]]:
        """Buffers, each with a copy of its present value."""
        return [(buffer, buffer.clone()) for buffer in self.model.buffers()]


def check_sizes(config: Config, model: SegmentationModel, processes: int = 1) -> None:
    """Raises ValueError if `model` cannot be trained or evaluated by `processes` at the sizes of `config`."""
    least, name = model.min_size, config.model.name
    for key in ("size", "crop"):
        size = getattr(config.data, key)
        if size is not None and min(size) < least:
            raise ValueError(f"data.{key} must be at least {least}x{least} for {name}, got {size[0]}x{size[1]}")
    height, width = config.data.crop or decided(config.data.size)
    if config.model.frozen_bn or not isinstance(model.features, DenseNetFeatures):
        return
    # A DenseNet's stem rounds up, halving twice; every later halving rounds down.
    pixels = math.prod(-(-side // 4) // (least // 4) for side in (height, width))
    images = config.training.batch // (1 if config.training.sync_bn else processes)
    if images * pixels < 2:
        where = " in each process" if processes > 1 else ""
        raise ValueError(
            f"batch 1 at {height}x{width}{where} leaves one pixel at 1/{least} of the resolution, of which batch "
            "normalisation has no statistics; a larger size or batch is needed"
        )


def _make_model(config: Config, num_classes: int, resumed: bool) -> tuple[SegmentationModel, str | None]:
    """Model, and a sentence about what it took of training.init_from, if that is to be read, or how the encoder's
    weights were adapted to the images' bands.
    """
    source, taken = config.training.init_from, None
    if resumed:
        model = _create(config, num_classes, None)
    elif source is None:
        model = _create(config, num_classes, config.model.weights)
        if model.adaptation is not None:
            taken = f"{config.model.weights}: {model.adaptation}"
    else:
        try:
            model, taken = _create_from(config, num_classes, source)
        except ValueError as error:
            raise ValueError(f"training.init_from: {error}") from error
    # Decides the encoder's learning rate.
    model.pretrained = config.pretrained
    return model, taken


def _create(config: Config, num_classes: int, weights: str | None) -> SegmentationModel:
    settings = config.model
    return create_model(
        settings.name,
        num_classes,
        config.data.form.bands,
        weights=weights,
        frozen_bn=settings.frozen_bn,
        memory=settings.memory,
    )


def _create_from(config: Config, num_classes: int, source: str) -> tuple[SegmentationModel, str]:
    state = read_first_weights(Path(source))
    if is_whole_model(state):
        model = _create(config, num_classes, None)
        return model, take_what_fits(model, state, source)
    model = _create(config, num_classes, source)
    taken = f"{source}: took features, an encoder; everything else is new"
    return model, taken if model.adaptation is None else f"{taken}; {model.adaptation}"
