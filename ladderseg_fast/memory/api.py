"""The planner's interface, which takes a model or its name, and the shape of the images."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import torch

from ..lean import MemoryPlan
from ..lean.arena import Placement
from ..lean.batch_norm import SingleValueError
from ..ops.backend import backend_of
from . import symbolic
from .byte_sizes import format_bytes, parse_bytes
from .cost_model import Rates
from .estimate import OPTIMIZERS, Estimate, StepEstimator
from .lean_model import LeanModel, PartedModel
from .part_steps import PartSteps
from .parts_planner import PartsPlanner
from .planner import BudgetError, PlannedStep, Planner
from .rates import load_rates
from .symbolic import StepShape, on_meta, trace

#: Limit of the pixels in a batch: above any real one, and low enough for the bytes of maps to fit into 63 bits.
_MOST_PIXELS = 1 << 40


def _no_names(name: str, num_classes: int, in_channels: int) -> LeanModel:
    raise ValueError(f"no model named {name!r} is known")


_model_of_name: Callable[[str, int, int], LeanModel] = _no_names


def resolve_names_by(create: Callable[[str, int, int], LeanModel]) -> None:
    """Registers `create`, which makes a model without memory from its name, and its numbers of classes and channels.

    A higher layer, which knows the models, calls this.
    """
    global _model_of_name
    _model_of_name = create


def plan(
    model: LeanModel | str,
    input_shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    budget: str | int = "8GiB",
    device: torch.device | str = "cpu",
    optimizer: str = "adam",
    num_classes: int = 19,
    rates: Rates | None = None,
) -> PlannedStep:
    """The fastest plan for a training step whose peak is within `budget`. Nothing is executed, no map is allocated.

    Args:
        model: a SegmentationModel, or the name of one (list_models()).
        input_shape: shape [N, C, H, W] of the images; C is also the channels of a `model` that is a name.
        dtype: dtype of the feature maps; with a 16-bit one, on CUDA only, the step is in a region of torch.autocast.
        budget: bytes, or a text such as "8GiB"; covers everything that Estimate.parts names.
        device: device of the step; without a GPU here, the planner assumes the launches of a GTX 1080.
        optimizer: one of OPTIMIZERS; its state counts.
        num_classes: number of classes, if `model` is a name.
        rates: rates of the machine (None: measured by `ladderseg plan --calibrate`, or else defaults).
    Raises:
        BudgetError (a ValueError): no plan fits; the message gives the smallest plan's memory, and what would help.
        ValueError: another argument is out of range.
        TypeError: the device has no kernels for `dtype`.
    """
    planner = planner_for(model, input_shape, dtype, device, optimizer, num_classes, rates)
    return planner.plan(parse_bytes(budget))


def planner_for(
    model: LeanModel | str,
    input_shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    optimizer: str = "adam",
    num_classes: int = 19,
    rates: Rates | None = None,
) -> Planner:
    """Planner for several budgets, and for the smallest and the fastest step. Takes the arguments of `plan`."""
    return Planner(_step(model, _checked(input_shape), dtype, device, optimizer, num_classes, rates))


def parts_planner_for(
    model: LeanModel | str,
    input_shape: Sequence[int],
    devices: int,
    cuts: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    optimizer: str = "adam",
    num_classes: int = 19,
    rates: Rates | None = None,
) -> PartsPlanner:
    """Planner for a model on several devices, such as SegmentationModel.place makes. Takes the arguments of `plan`.

    Args:
        devices: number of devices, all of the kind of `device`.
        cuts: sections after which the cuts lie, as SegmentationModel.place takes them; None: the planner chooses.

    Raises:
        ValueError: there are more devices than sections, a section is not known, or an argument is out of range.
        TypeError: the device has no kernels for `dtype`, or the model cannot be cut.
    """
    step = _step(model, _checked(input_shape), dtype, device, optimizer, num_classes, rates)
    if not isinstance(step.model, PartedModel):
        raise TypeError(f"{type(step.model).__name__} cannot be cut into parts")
    cuts = None if cuts is None else step.model.cuts_after(cuts)
    return PartsPlanner(PartSteps(step.model, step.shape, optimizer, step.rates), devices, cuts)


def estimate(
    model: LeanModel | str,
    input_shape: Sequence[int],
    memory_plan: MemoryPlan | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    optimizer: str = "adam",
    num_classes: int = 19,
    rates: Rates | None = None,
) -> Estimate:
    """Estimates a training step with `memory_plan` (None: the device's default). Takes the arguments of `plan`."""
    step = _step(model, _checked(input_shape), dtype, device, optimizer, num_classes, rates)
    return step.estimate(memory_plan or MemoryPlan.default(torch.device(device)))


def largest_batch(
    model: LeanModel | str,
    size: tuple[int, int],
    dtype: torch.dtype = torch.float32,
    budget: str | int = "8GiB",
    device: torch.device | str = "cpu",
    optimizer: str = "adam",
    num_classes: int = 19,
    in_channels: int = 3,
) -> int:
    """Largest number of images of `size` (height, width) whose step fits `budget`; 0 if `least_batch` does not fit.

    `in_channels` are those of the images, if `model` is a name; the other arguments are those of `plan`.
    """
    channels = in_channels if isinstance(model, str) else None
    step = _step(model, (1, channels, *size), dtype, device, optimizer, num_classes, None)
    return _largest(step, parse_bytes(budget), lambda batch: replace(step.shape, batch=batch))


def least_batch(model: LeanModel | str, size: tuple[int, int]) -> int:
    """Smallest number of images of `size` (height, width) that batch norm can train on.

    It is 1, or 2 if a batch norm would see a single value per channel. The arguments are those of `plan`.
    """
    step = _step(model, (1, None, *size), torch.float32, "cpu", "none", 19, None)
    return _first_to_train(step, lambda batch: replace(step.shape, batch=batch))


def largest_size(
    model: LeanModel | str,
    size: tuple[int, int],
    batch: int = 2,
    dtype: torch.dtype = torch.float32,
    budget: str | int = "8GiB",
    device: torch.device | str = "cpu",
    optimizer: str = "adam",
    num_classes: int = 19,
    in_channels: int = 3,
) -> tuple[int, int]:
    """Largest (height, width) at which a batch fits: multiples of 64 in about the proportions of `size`.

    `in_channels` are those of the images, if `model` is a name; the other arguments are those of `plan`.

    Raises:
        BudgetError: not even the smallest size that batch norm can train on fits.
    """
    channels = in_channels if isinstance(model, str) else None
    step = _step(model, (batch, channels, *size), dtype, device, optimizer, num_classes, None)
    height, width = size

    def scaled(rows: int) -> StepShape:
        return replace(step.shape, height=64 * rows, width=max(64, 64 * round(rows * width / height)))

    rows = _largest(step, parse_bytes(budget), scaled)
    if rows == 0:
        least = Planner(step.like(scaled(_first_to_train(step, scaled)))).about_smallest()
        shape = least.shape
        what = f"{shape.batch} x {shape.height}x{shape.width}"
        raise BudgetError(f"the smallest images, {what}, take {format_bytes(least.peak)}", least.peak)
    shape = scaled(rows)
    return shape.height, shape.width


def placements(
    model: LeanModel, input_shape: Sequence[int], memory_plan: MemoryPlan, dtype: torch.dtype, device: torch.device
) -> dict[Hashable, Placement]:
    """Places of the maps of a training step with `memory_plan`, for Workspace.expect.

    The arguments are those of `estimate`. It takes a few tenths of a second.
    """
    batch, _, height, width = _checked(input_shape)
    shape = StepShape(batch, height, width, dtype, device)
    return symbolic.placements(on_meta(model, shape.parameter_dtype), shape, memory_plan)


def _largest(step: StepEstimator, budget: int, shape_of: Callable[[int], StepShape]) -> int:
    """Largest number whose shape fits; 0 if the first one that can be trained does not. Memory grows with it."""

    def planner(number: int) -> Planner:
        return Planner(step.like(shape_of(number)))

    def fits(number: int) -> bool:
        return shape_of(number).pixels <= _MOST_PIXELS and planner(number).about_smallest().peak <= budget

    first = _first_to_train(step, shape_of)
    low, high = first - 1, first
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    while shape_of(low + 1).pixels <= _MOST_PIXELS and planner(low + 1).smallest.peak <= budget:
        low += 1
    return low if low >= first else 0


def _first_to_train(step: StepEstimator, shape_of: Callable[[int], StepShape]) -> int:
    """First number whose shape can be trained: 1, or 2 if batch norm has a single value per channel with 1."""
    try:
        trace(step.model, shape_of(1), MemoryPlan(), whole=False)
    except SingleValueError:
        return 2
    return 1


def _checked(input_shape: Sequence[int]) -> tuple[int, int, int, int]:
    """Returns `input_shape` as [N, C, H, W].

    Raises:
        ValueError: it does not have four numbers.
    """
    if len(input_shape) != 4:
        raise ValueError(f"input_shape must be [N, C, H, W], got {tuple(input_shape)}")
    batch, channels, height, width = input_shape
    return batch, channels, height, width


def _step(
    model: LeanModel | str,
    input_shape: tuple[int, int | None, int, int],
    dtype: torch.dtype,
    device: torch.device | str,
    optimizer: str,
    num_classes: int,
    rates: Rates | None,
) -> StepEstimator:
    if isinstance(model, str):
        model = _model_of_name(model, num_classes, input_shape[1] or 3)
    device = torch.device(device)
    batch, channels, height, width = input_shape
    if channels not in (None, model.in_channels):
        raise ValueError(f"input_shape must have {model.in_channels} channels, got {channels}")
    if batch < 1 or min(height, width) < model.min_size:
        raise ValueError(f"input_shape must have an image, of {model.min_size} pixels a side, got {input_shape}")
    if dtype not in backend_of(device).dtypes:
        raise TypeError(f"dtype must have kernels on {device}, got {dtype}")
    if batch * height * width > _MOST_PIXELS:
        raise ValueError(f"input_shape must have at most 2^40 pixels in all images, got {input_shape}")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {optimizer!r}")
    shape = StepShape(batch, height, width, dtype, device)
    return StepEstimator(on_meta(model, shape.parameter_dtype), shape, optimizer, rates or load_rates(device, dtype))
