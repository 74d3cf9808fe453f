"""Optimizers of a training, and their learning rate."""

from torch.optim import SGD, Adam, AdamW, Optimizer

from ..models import SegmentationModel
from .config import TrainingConfig


def make_optimizer(config: TrainingConfig, model: SegmentationModel) -> Optimizer:
    """Optimizer that `config` names, with the model's groups of parameters.

    "initial_lr" of a group is its learning rate before the schedule; that of a pretrained encoder is divided.
    """
    groups = model.parameter_groups(config.learning_rate, config.backbone_divisor)
    groups = [group | {"initial_lr": group["lr"]} for group in groups]
    if config.optimizer == "sgd":
        return SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)
    kind = {"adam": Adam, "adamw": AdamW}[config.optimizer]
    return kind(groups, weight_decay=config.weight_decay)


def scale_learning_rate(optimizer: Optimizer, factor: float) -> None:
    """Sets every group's learning rate to `factor` times its first one."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["initial_lr"]
