"""The settings of one training, in four sections; the defaults are the paper's recipe."""

import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..data import (
    DATA_SETS,
    IMAGENET_NORMALISATION,
    RGB,
    Augmentation,
    DataSetKind,
    ImageForm,
    Normalisation,
    SegmentationDataset,
    check_form,
    data_set_options,
    option_owners,
)
from ..models import list_models, memory_mode
from ..ops.backend import backend_of
from .device import AUTO, find_device, find_devices
from .workers import suitable_workers

OPTIMIZERS = ("adam", "adamw", "sgd")
AUTOCAST_TYPES = ("bfloat16", "float16")
ON_NONFINITE = ("stop", "skip")
#: Pixels of an image: more are beyond the index arithmetic of libraries.
MOST_PIXELS = 2**31 - 1
#: Steps of a training, and images or batches of a step: more are slips of the pen.
MOST_STEPS, MOST_IMAGES, MOST_WORKERS = 10**12, 10**6, 1024
#: The one name that `training.class_weights` takes in place of a list.
BALANCED = "balanced"
#: The one name that `model.weights` takes in place of a file.
IMAGENET = "imagenet"

T = TypeVar("T")


@dataclass(frozen=True)
class ModelConfig:
    """[model]: the network, and how it starts.

    Raises:
        ValueError: a setting is out of range; the message names the key.
    """

    name: str = "ladder_densenet121"
    """One of list_models()."""
    weights: str | None = None
    """Weights that the encoder starts from: "imagenet", a file of weights, or None for random numbers."""
    frozen_bn: bool = False
    """Whether batch norm keeps its statistics, scales and shifts."""
    memory: str = "lean"
    """"lean", "plain" for ordinary PyTorch modules, or a budget such as "8GiB", which a lean step is planned into."""
    channels_last: bool = False
    """Whether plain modules use NHWC memory layout; lean ones choose their layout themselves."""

    def __post_init__(self) -> None:
        _check_choice("model.name", self.name, list_models())
        _check_path("model.weights", self.weights)
        mode = self.mode
        if self.channels_last and mode == "lean":
            raise ValueError(
                'model.channels_last needs model.memory = "plain": a lean network chooses its layout itself'
            )

    @property
    def mode(self) -> str:
        """Way in which the model runs: "lean" or "plain".

        Raises:
            ValueError: `memory` is neither, nor a budget.
        """
        try:
            return memory_mode(self.memory)
        except ValueError as error:
            raise ValueError(f"model.{error}") from error


@dataclass(frozen=True)
class DataConfig:
    """[data]: the images, and how they are prepared for the network.

    Raises:
        ValueError: a setting is out of range; the message names the key.
    """

    kind: str = "street"
    """One of DATA_SETS."""
    root: str | None = None
    """The data set's directory; None for the street scenes, which are drawn."""
    train_split: str = "train"
    val_split: str = "val"
    size: tuple[int, int] | None = None
    """(height, width) that images and labels are resized to, for training and validation; None: see resolved_size."""
    crop: tuple[int, int] | None = None
    """(height, width) of the window that training sees of the resized and scaled image; None is the whole `size`."""
    flip: bool = True
    """Whether left and right are exchanged in every other training image."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Least and greatest factor of a training image's `size`, before the crop."""
    brightness: float = 0.0
    """Range of the random factor of training images: within this of 1; the same for `contrast` and `saturation`."""
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    """Greatest rotation of a training image's hues either way, in turns."""
    bands: int | None = None
    """Channels of the images, 1 to 32; None: those of the first training image. See find_form."""
    bits: int | None = None
    """Bits of each channel, 8 to 16; None: those of the first training image."""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    """Mean and standard deviation of each band, as shares of its greatest value; None: ImageNet's for RGB of 8 bits,
    otherwise those of the training images, see band_statistics."""
    workers: int | None = None
    """Processes that load images; with 0 the training does it itself; None: see suitable_workers."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Options that the kind of data set declares, by name; missing ones have their defaults. In files and tables
    they are keys like the others, and those of other kinds stand beside them, with their defaults."""

    def __post_init__(self) -> None:
        _check_choice("data.kind", self.kind, tuple(DATA_SETS))
        object.__setattr__(self, "options", self._all_options())
        _check_range("data.workers", self.workers, 0, MOST_WORKERS)
        for name in ("size", "crop"):
            _check_size(f"data.{name}", getattr(self, name))
        _check_path("data.root", self.root)
        self._check_bands()
        self.augmentation()
        height, width = self.size or self.data_set.default_size or (1, 1)
        if self.scale[1] > math.sqrt(MOST_PIXELS / (height * width)):
            raise ValueError(
                f"data.scale must leave images with at most {MOST_PIXELS} pixels, "
                f"got {self.scale[1]} times {height}x{width}"
            )

    @property
    def data_set(self) -> DataSetKind:
        """Declaration of the kind of data set."""
        return DATA_SETS[self.kind]

    def resolved_size(self) -> tuple[int, int]:
        """`size`, or the default of the kind of data.

        Raises:
            ValueError: it has none.
        """
        size = self.size or self.data_set.default_size
        if size is None:
            raise ValueError(f"data.size is needed: data of kind {self.kind} has no default size")
        return size

    @property
    def form(self) -> ImageForm:
        """Form of the images: `bands` and `bits`, or RGB of 8 bits as far as they are not set."""
        given = None if self.mean is None else len(self.mean)
        return ImageForm(self.bands or given or RGB.bands, self.bits or RGB.bits)

    def with_form(self, form: ImageForm) -> "DataConfig":
        """Configuration for images of `form`.

        Raises:
            ValueError: it is for others.
        """
        for name, value in (("bands", form.bands), ("bits", form.bits)):
            own = getattr(self, name)
            if own not in (None, value):
                raise ValueError(f"data.{name} is {own}, but the images are {form}")
        return replace(self, bands=form.bands, bits=form.bits)

    @property
    def normalisation(self) -> Normalisation | None:
        """Normalisation of the images; None if `mean` and `std` are to be computed from the training images."""
        if self.mean is None or self.std is None:
            return IMAGENET_NORMALISATION if self.form == RGB else None
        return Normalisation(self.mean, self.std, self.form.bits)

    def with_normalisation(self, normalisation: Normalisation) -> "DataConfig":
        """Configuration with `normalisation`, for images of its form."""
        return replace(self.with_form(normalisation.form), mean=normalisation.mean, std=normalisation.std)

    def open(self, split: str) -> SegmentationDataset:
        """Opens the split of the data set, whose images are RGB of 8 bits until it is told to expect others.

        Raises:
            ValueError, OSError: open_data_set raised it.
        """
        size = {"size": self.resolved_size()} if self.data_set.drawn else {}
        return self.data_set.open(self.root, split, **self.options, **size)

    def with_absolute_paths(self) -> "DataConfig":
        """Configuration whose root, and options that are paths, do not depend on the working directory."""
        paths = {
            option.name: _absolute(self.options[option.name]) for option in self.data_set.options if option.type is Path
        }
        return replace(self, root=_absolute(self.root), options={**self.options, **paths})

    def augmentation(self) -> Augmentation:
        """Random changes of a training image.

        Raises:
            ValueError: a setting is out of range; the message names the key.
        """
        try:
            return Augmentation(self.flip, self.scale, self.brightness, self.contrast, self.saturation, self.hue)
        except ValueError as error:
            raise ValueError(f"data.{error}") from error

    def _check_bands(self) -> None:
        try:
            check_form(self.bands, self.bits)
        except ValueError as error:
            raise ValueError(f"data.{error}") from error
        if (self.mean is None) != (self.std is None):
            raise ValueError("data.mean and data.std need each other")
        if self.mean is not None and self.std is not None:
            try:
                form = Normalisation(self.mean, self.std, self.form.bits).form
            except ValueError as error:
                raise ValueError(f"data.mean, data.std: {error}") from error
            if self.bands not in (None, form.bands):
                raise ValueError(f"data.mean must be {self.bands} numbers, one per band, got {form.bands}")
        if self.form.bands != 3:
            for name in ("saturation", "hue"):
                if getattr(self, name):
                    raise ValueError(f"data.{name} needs images of three bands, R, G and B, not of {self.form.bands}")

    def _all_options(self) -> dict[str, Any]:
        """`options` and the defaults of those that are not given; refuses those of other kinds, and wrong values."""
        declared = {option.name: option for option in data_set_options()}
        for name, value in self.options.items():
            _check_choice("an option of data", name, tuple(declared))
            option = declared[name]
            try:
                option.check(value)
            except ValueError as error:
                raise ValueError(f"data.{error}") from error
            if option.type is Path:
                _check_path(f"data.{name}", value)
            owners = option_owners(name)
            if self.kind not in owners and value != option.default:
                raise ValueError(f"data.{name} is for data of kind {' or '.join(owners)}, not {self.kind}")
        return {option.name: self.options.get(option.name, option.default) for option in self.data_set.options}


@dataclass(frozen=True)
class TrainingConfig:
    """[training]: the recipe. Unless said otherwise, a step is one update of the weights.

    Raises:
        ValueError: a setting is out of range; the message names the key.
    """

    batch: int = 2
    """Images per forward pass, of all processes together if several train."""
    accumulate: int = 1
    """Batches whose gradients are averaged for one step."""
    steps: int | None = None
    epochs: int | None = None
    """Length of the training; only one of the two is given, and None and None is one epoch."""
    optimizer: str = "adam"
    """"adam", "adamw" or "sgd"."""
    learning_rate: float = 5e-4
    backbone_divisor: float = 5.0
    """Divisor of the encoder's learning rate if the encoder starts pretrained."""
    momentum: float = 0.9
    """Momentum of "sgd"."""
    weight_decay: float = 0.0
    """Weight decay as torch's optimizers define it: decoupled in "adamw", L2 in the others."""
    power: float = 1.5
    """Poly decay of the learning rate, (1 - step / steps)^power."""
    warmup_steps: int = 0
    """Number of first steps in which the learning rate also grows linearly from zero to its value."""
    aux_weight: float = 0.3
    """Share of the auxiliary loss; the main loss has the rest."""
    class_weights: tuple[float, ...] | str | None = None
    """Weights in the cross entropy: one number per class, or "balanced" (see median_frequency_weights)."""
    clip_norm: float | None = None
    """Largest norm of the gradients, all parameters together; larger gradients are scaled down to it."""
    ema_decay: float | None = None
    """Decay of a moving average of the weights, which is evaluated and saved as the result."""
    autocast: str | None = None
    """"bfloat16" or "float16": torch.autocast's type; float16 with a gradient scaler."""
    init_from: str | None = None
    """A run's directory, a checkpoint, or a file of weights of a model or an encoder, which the training starts from as
    far as it fits."""
    on_nonfinite: str = "stop"
    """Reaction to a loss of NaN or infinity: "stop" the run, or "skip" the batch."""
    seed: int = 0
    """Seed of the initial weights and of everything that is drawn at random."""
    device: str = AUTO
    """"cpu", "cuda", "cuda:N", or "auto": see find_device. Several, such as "cuda:0,cuda:1", hold a part of the model
    each: see find_devices."""
    cut_after: tuple[str, ...] | None = None
    """Last section on each of several devices but the last; None: where the predicted peaks balance."""
    sync_bn: bool = False
    """Whether batch norm's statistics are those of the whole batch if several processes share it."""

    def __post_init__(self) -> None:
        for name, least, most in (
            ("batch", 1, MOST_IMAGES),
            ("accumulate", 1, MOST_IMAGES),
            ("warmup_steps", 0, MOST_STEPS),
            ("seed", 0, 2**63 - 1),
            ("steps", 1, MOST_STEPS),
            ("epochs", 1, MOST_STEPS),
        ):
            _check_range(f"training.{name}", getattr(self, name), least, most)
        if self.steps is not None and self.epochs is not None:
            raise ValueError("training.steps and training.epochs exclude each other")
        _check_choice("training.optimizer", self.optimizer, OPTIMIZERS)
        _check_choice("training.on_nonfinite", self.on_nonfinite, ON_NONFINITE)
        if self.autocast is not None:
            _check_choice("training.autocast", self.autocast, AUTOCAST_TYPES)
        _check_path("training.init_from", self.init_from)
        self._check_numbers()
        if isinstance(self.class_weights, str):
            _check_choice("training.class_weights", self.class_weights, (BALANCED,))

    def _check_numbers(self) -> None:
        for name in ("learning_rate", "backbone_divisor", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < math.inf:
                raise ValueError(f"training.{name} must be a positive number, got {value}")
        for name in ("weight_decay", "power"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"training.{name} must be a number from 0, got {getattr(self, name)}")
        for name in ("momentum", "ema_decay"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < 1.0:
                raise ValueError(f"training.{name} must be from 0 to below 1, got {value}")
        if not 0.0 <= self.aux_weight <= 1.0:
            raise ValueError(f"training.aux_weight must be from 0 to 1, got {self.aux_weight}")
        if isinstance(self.class_weights, tuple) and not (
            all(0.0 <= weight < math.inf for weight in self.class_weights) and any(self.class_weights)
        ):
            raise ValueError("training.class_weights must be numbers from 0, not all of them 0")


@dataclass(frozen=True)
class OutputConfig:
    """[output]: the files that the run writes, and when.

    Raises:
        ValueError: a setting is out of range; the message names the key.
    """

    directory: str | None = None
    """The run's directory."""
    evaluate_every: int | None = None
    """Steps between evaluations on the validation split; None: those of one epoch. The last step always has one."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; each evaluation has one before it anyway."""
    overlays: int = 4
    """Number of validation images that overlays are drawn for at the end, spread evenly over the split."""
    tensorboard: bool = False
    """Whether to write TensorBoard events too; needs the extra [tensorboard]."""

    def __post_init__(self) -> None:
        for name in ("evaluate_every", "checkpoint_every"):
            _check_range(f"output.{name}", getattr(self, name), 1, MOST_STEPS)
        _check_range("output.overlays", self.overlays, 0, MOST_IMAGES)
        _check_path("output.directory", self.directory)


@dataclass(frozen=True)
class Config:
    """All settings of one training.

    Raises:
        ValueError: settings exclude each other; the message names their keys.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    output: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        if self.model.weights is not None and self.training.init_from is not None:
            raise ValueError("model.weights and training.init_from exclude each other: each decides the first weights")
        if self.training.sync_bn and self.model.frozen_bn:
            raise ValueError("training.sync_bn and model.frozen_bn exclude each other: frozen statistics do not change")
        several = "," in self.training.device
        if several and self.model.mode == "plain":
            raise ValueError(
                'training.device names several devices, which only model.memory = "lean" or a budget can use'
            )
        if self.training.cut_after is not None and not several:
            raise ValueError(
                "training.cut_after needs several devices in training.device, such as cuda:0,cuda:1; "
                "--cut-after auto takes it back"
            )
        first = self.training.device.partition(",")[0]
        on_cpu = first == "cpu" or (first == AUTO and find_device(AUTO).type == "cpu")
        if self.training.autocast is not None and on_cpu and self.model.mode == "lean":
            _check_autocast_on_cpu(self.training.autocast)

    @property
    def pretrained(self) -> bool:
        """Whether the encoder starts from trained weights."""
        return self.model.weights is not None or self.training.init_from is not None

    def resolved(self, images: int, processes: int = 1, here: int | None = None) -> "Config":
        """Configuration with everything decided that was left open: sizes, lengths, intervals, device, processes,
        absolute paths; and the normalisation, unless it is to be computed from the images.

        It is for a training split of `images`, and for this machine, on which `here` (all, if None) of the `processes`
        train that share each batch.

        Raises:
            ValueError: `data.size` is not set and the kind of data has no default, the epochs are too many steps, or
                there is no such device.
        """
        training, output = self.training, self.output
        step_images = training.batch * training.accumulate
        steps = training.steps or -(-(training.epochs or 1) * images // step_images)
        if steps > MOST_STEPS:
            raise ValueError(
                f"training.epochs must be at most {MOST_STEPS} steps, got {training.epochs} epochs of {images} images, "
                f"which are {steps} steps"
            )
        devices = find_devices(training.device)
        return replace(
            self,
            model=replace(self.model, weights=self._absolute_weights()),
            data=replace(
                self._normalised_data().with_absolute_paths(),
                size=self.data.resolved_size(),
                workers=self._workers(devices[0], processes, processes if here is None else here),
            ),
            training=replace(
                training,
                steps=steps,
                epochs=None,
                init_from=_absolute(training.init_from),
                device=",".join(map(str, devices)),
            ),
            output=replace(
                output,
                directory=_absolute(output.directory),
                evaluate_every=output.evaluate_every or math.ceil(images / step_images),
            ),
        )

    def as_tables(self) -> dict[str, dict[str, object]]:
        """Sections of keys and plain values (numbers, strings, lists, None), for a file."""
        tables = asdict(self)
        own = tables["data"].pop("options")
        tables["data"] |= {option.name: own.get(option.name, option.default) for option in data_set_options()}
        return {
            section: {key: list(value) if isinstance(value, tuple) else value for key, value in table.items()}
            for section, table in tables.items()
        }

    @classmethod
    def from_tables(cls, tables: Mapping[str, Mapping[str, Any]]) -> "Config":
        """The settings of `tables`, which have keys and values of setting_types(); what is missing has its default.

        Raises:
            ValueError: as the sections do.
        """
        names = {option.name for option in data_set_options()}
        data = {key: value for key, value in tables["data"].items() if key not in names}
        options = {key: value for key, value in tables["data"].items() if key in names}
        return cls(
            ModelConfig(**tables["model"]),
            DataConfig(**data, options=options),
            TrainingConfig(**tables["training"]),
            OutputConfig(**tables["output"]),
        )

    def _workers(self, device: torch.device, processes: int, here: int) -> int:
        """Value of `data.workers`, or the number that suits each of the processes on this machine; see `resolved`."""
        if self.data.workers is not None:
            return self.data.workers
        height, width = self.data.crop or self.data.resolved_size()
        # An image of float32 and its labels.
        batch_bytes = self.training.batch // processes * height * width * (self.data.form.bands * 4 + 1)
        return suitable_workers(device, batch_bytes, here)

    def _normalised_data(self) -> DataConfig:
        normalisation = self.data.normalisation
        return (
            self.data.with_form(self.data.form)
            if normalisation is None
            else self.data.with_normalisation(normalisation)
        )

    def _absolute_weights(self) -> str | None:
        return self.model.weights if self.model.weights == IMAGENET else _absolute(self.model.weights)


def setting_types() -> dict[str, dict[str, Any]]:
    """The types of all settings, by section and key: those of the sections' fields and of the data sets' options.

    Raises:
        ValueError: a data set declares an option with the name of another setting.
    """
    types = {name: typing.get_type_hints(section) for name, section in typing.get_type_hints(Config).items()}
    del types["data"]["options"]
    for option in data_set_options():
        if option.name in types["data"]:
            owners = " and ".join(option_owners(option.name))
            raise ValueError(f"data.{option.name} is a setting of all data sets and cannot be an option of {owners}")
        types["data"][option.name] = str if option.type is Path else option.type
    return types


def decided(setting: T | None) -> T:
    """A setting of a resolved configuration, in which none of those that `resolved` decides is None."""
    assert setting is not None, "the configuration is not resolved"
    return setting


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _check_path(key: str, path: str | None) -> None:
    # An empty one would be the working directory.
    if path is not None and (not path or "\0" in path):
        raise ValueError(f"{key} must be the path of a file or directory, got {path!r}")


def _check_range(key: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        limit = f"at least {least}" if value < least else f"at most {most}"
        raise ValueError(f"{key} must be {limit}, got {value}")


def _check_size(key: str, size: tuple[int, int] | None) -> None:
    for side in size or ():
        _check_range(key, side, 1, MOST_PIXELS)
    if size is not None and math.prod(size) > MOST_PIXELS:
        raise ValueError(f"{key} must have at most {MOST_PIXELS} pixels, got {size[0]}x{size[1]}")


def _check_autocast_on_cpu(name: str) -> None:
    """Refuses a type of torch.autocast that lean kernels for this CPU would not follow."""
    if getattr(torch, name) in backend_of(torch.device("cpu")).dtypes:
        return
    need = "" if name == "float16" else " without AVX512-BF16"
    raise ValueError(
        f'training.autocast = "{name}" has no effect on a CPU{need} with model.memory = "lean", which computes in '
        'float32 there; it needs model.memory = "plain" or a CUDA device'
    )


def _check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{key} must be one of {', '.join(choices)}, got {value[:100]!r}")
