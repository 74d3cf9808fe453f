"""The model of a training on several devices: where it is cut."""

from collections.abc import Sequence

import torch

from .. import memory
from ..lean import MemoryPlan
from ..memory import format_bytes
from ..models import SegmentationModel
from .config import Config, decided


def place(model: SegmentationModel, config: Config, devices: Sequence[torch.device]) -> str:
    """Puts `model` on `devices`, cut as training.cut_after says, or where the peaks of the devices balance.

    Returns a sentence about the cuts and the predicted peaks.

    Raises:
        ValueError: training.cut_after does not fit the model or the devices, or several processes train together.
        memory.BudgetError: no plan fits into the model's budget on each device.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        raise ValueError("training.device must be one device for each of several processes")
    training = config.training
    shape = (training.batch, model.in_channels, *(config.data.crop or decided(config.data.size)))
    dtype = torch.float32 if training.autocast is None else getattr(torch, training.autocast)
    try:
        planner = memory.parts_planner_for(
            model, shape, len(devices), training.cut_after, dtype, devices[0], training.optimizer
        )
    except ValueError as error:
        raise ValueError(f"training.device, training.cut_after: {error}") from error
    if model.memory_budget is None:
        planned = planner.with_plan(model.memory_plan or MemoryPlan.default(devices[0]))
    else:
        planned = planner.plan(model.memory_budget)
    model.place(devices, planned.cuts)
    peaks = ", ".join(
        f"{names[0]} to {names[-1]} on {device} ({format_bytes(estimate.peak)})"
        for device, names, estimate in zip(devices, planned.sections, planned.estimates)
    )
    return f"the model is cut after {', '.join(planned.cuts)}: {peaks}, as predicted"
