"""What all models of the paper have in common."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import lean, ops
from ..nn import Context, DenseNetFeatures, Head, PyramidContext, ResNetFeatures, TransitionUp
from .budget import BudgetPlans, budget_plans, memory_mode
from .output import LadderOutput
from .pretrained import SavedModel, check_class, read_pretrained, write_pretrained
from .state import describe, state_problems
from .weights import load_encoder_weights

#: Channels of the context layer's output and of every transition up.
LADDER_CHANNELS = 128

#: What context layers may be called.
CONTEXTS = {"dilated": Context, "pyramid": PyramidContext}


class SegmentationModel(nn.Module):
    """An encoder, a context layer on its last feature, transitions up along skip connections, one head or two.

    Subclasses are the models of the paper; each says which encoder and which skip connections it has.

    Args:
        features: the encoder.
        skips: names of its features that transitions up read, in their order: the coarsest first. None: the scores are
            those of the context output.
        configuration: the arguments that the subclass was called with, except memory and weights; for save_pretrained.
        num_classes: K, 1 to 256.
        context: "dilated", or "pyramid" for spatial pyramid pooling.
        auxiliary: whether there is a second head on the context output, for the auxiliary loss.
        frozen_bn: every BatchNorm stays in inference mode while training: its running statistics normalise and do not
            change. Its gamma and beta are trained.
        memory: "lean" runs dense blocks, transitions, stem, context layer and heads as autograd functions that keep
            only what backward cannot recompute cheaply; "plain" runs ordinary PyTorch modules. Both compute the same
            and share one state_dict. An edit that lean cannot follow (a hook on an inner module, another activation)
            raises lean.UnsupportedModuleError when the model is called; torch.autocast has an effect on
            the CPU with "plain" only, on CUDA with both. A budget such as "8GiB", or a number of bytes, is lean with
            the fastest plan that fits, made for each shape of images that a training step meets: see memory.plan,
            docs/memory.md. A lean.MemoryPlan is lean with that plan.
        weights: None, a file with the encoder's pretrained weights, or "imagenet"; see models.weights.
        architecture: what the encoder is called there.

    Attributes:
        memory_plan: lean.MemoryPlan, how a lean step without a budget spends memory, or None for what is best on the
            images' device; may be replaced at any time.
        pretrained: whether the encoder started from pretrained weights; parameter_groups goes by it.

    Raises:
        ValueError: an argument is out of range, or the weights do not fit.
    """

    #: Of all subclasses, by their names; for from_pretrained.
    _classes: ClassVar[dict[str, type["SegmentationModel"]]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        SegmentationModel._classes[cls.__name__] = cls

    def __init__(
        self,
        features: DenseNetFeatures | ResNetFeatures,
        skips: Sequence[str],
        configuration: dict[str, Any],
        num_classes: int,
        context: str = "dilated",
        auxiliary: bool = True,
        frozen_bn: bool = False,
        memory: str | int | lean.MemoryPlan = "lean",
        weights: str | os.PathLike[str] | None = None,
        architecture: str = "",
    ) -> None:
        super().__init__()
        check_choice("context", context, CONTEXTS)
        if not 1 <= num_classes <= 256:
            raise ValueError(f"num_classes must be between 1 and 256, got {num_classes}")
        self.configuration = configuration
        self.num_classes = num_classes
        self.memory_plan: lean.MemoryPlan | None = None
        self.memory = memory
        self.frozen_bn = frozen_bn
        self.pretrained = weights is not None
        self._workspace = lean.Workspace()
        self._skips = tuple(skips)
        self.features = features
        #: Name of the encoder's feature that the context layer reads.
        self.deepest = list(features.channels)[-1]
        width = LADDER_CHANNELS
        self.context = CONTEXTS[context](features.channels[self.deepest], out_channels=width)
        for i, name in enumerate(skips, start=1):
            self.add_module(f"up{i}", TransitionUp(width, features.channels[name], width, width))
        self.head = Head(width, num_classes)
        self.aux_head = Head(width, num_classes) if auxiliary else None
        for module in (child for part in self.children() if part is not features for child in part.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if weights is not None:
            load_encoder_weights(features, weights, architecture)
        self.train()

    @property
    def memory(self) -> str:
        """ "lean" or "plain"; may be set at any time, to all that the argument may be."""
        return self._memory

    @memory.setter
    def memory(self, value: str | int | lean.MemoryPlan) -> None:
        self._memory = memory_mode(value)
        self._budget_plans: BudgetPlans | None = budget_plans(value)
        if isinstance(value, lean.MemoryPlan):
            self.memory_plan = value

    @property
    def memory_budget(self) -> int | None:
        """Bytes that a training step may take, if `memory` has been set to a budget."""
        return None if self._budget_plans is None else self._budget_plans.budget

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return self.features.in_channels

    @property
    def min_size(self) -> int:
        """Smallest image side: below it the context layer would see no pixel."""
        return self.features.stride

    @property
    def transitions_up(self) -> dict[str, TransitionUp]:
        """By the name of the skip connection that each reads, in the order in which they run."""
        return {name: getattr(self, f"up{i}") for i, name in enumerate(self._skips, start=1)}

    def train(self, mode: bool = True) -> "SegmentationModel":
        """Training mode, or evaluation mode; with `frozen_bn` BatchNorms are in evaluation mode in both."""
        super().train(mode)
        if self.frozen_bn:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.training = False
        return self

    def forward(self, images: Tensor) -> LadderOutput:
        """Class scores of `images` [N, in_channels, H, W], H and W at least `min_size`.

        Raises:
            ValueError: `images` has another shape; or one value per channel in training mode, as in nn.BatchNorm2d.
            memory.BudgetError: (a ValueError) no plan for these images fits into the budget.
            TypeError: `images` is not of the parameters' dtype.
        """
        self._check_images(images)
        return self._forward_lean(images) if self.memory == "lean" else self._forward_plain(images)

    @lean.opaque
    def _forward_lean(self, images: Tensor) -> LadderOutput:
        plan = self.memory_plan
        if self._budget_plans is not None:
            plan = self._budget_plans.plan_for(self, images, self._workspace)
        logits, *aux = lean.ladder(self, images, plan, self._workspace)
        return LadderOutput(logits, aux[0] if aux else None)

    def _forward_plain(self, images: Tensor) -> LadderOutput:
        maps = self.features(images)
        context = x = self.context(maps[self.deepest])
        for name, up in self.transitions_up.items():
            x = up(x, maps[name])
        return LadderOutput(self.head(x), None if self.aux_head is None else self.aux_head(context))

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Class labels [N, H, W] uint8 of `images` [N, in_channels, H, W], at full resolution.

        BatchNorm uses its running statistics and leaves them alone, whatever mode the model is in.
        """
        with evaluating(self):
            logits = self(images).logits
        size = images.shape[2:]
        if self.memory == "lean":
            return ops.upsample_argmax(logits, size)
        return ops.reference.upsample_argmax(logits, size)

    def parameter_groups(self, lr: float, pretrained_divisor: float = 5) -> list[dict[str, Any]]:
        """Two groups for an optimizer, those of the encoder and those of all else, each with its learning rate.

        The encoder's is lr / pretrained_divisor if the encoder is `pretrained`, else lr (section 4 of the paper).
        Parameters that need no gradient are in neither.
        """
        encoder_lr = lr / pretrained_divisor if self.pretrained else lr
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups[name.startswith("features.")].append(parameter)
        return [
            {"name": "encoder", "params": groups[True], "lr": encoder_lr},
            {"name": "decoder", "params": groups[False], "lr": lr},
        ]

    def save_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and buffers to the safetensors file `path`, with the configuration in its metadata.

        A crash or a full disk leaves an earlier file at `path` intact.

        Raises:
            OSError: it cannot be written; the message names `path`.
        """
        write_pretrained(path, SavedModel(type(self).__name__, self.configuration, self.pretrained, self.state_dict()))

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike[str], memory: str | int | lean.MemoryPlan = "lean"
    ) -> "SegmentationModel":
        """The model that save_pretrained wrote to `path`, in evaluation mode on the CPU; runs no code from the file.

        On a subclass it must be of that class.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is damaged, not a model of this package, or of another class.
        """
        saved = read_pretrained(path)
        model_class = check_class(path, saved.class_name, cls, SegmentationModel._classes)
        try:
            dtype = saved.state["head.conv.weight"].dtype
            with torch.device("meta"):  # options that do not fit are found before memory is taken for them
                expected = model_class(**saved.options, memory=memory).to(dtype).state_dict()
            problems = state_problems(saved.state, expected)
            if problems:
                raise ValueError(describe(problems))
            model = model_class(**saved.options, memory=memory).to(dtype)
            model.load_state_dict(saved.state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: its content does not fit {saved.class_name} ({error})") from error
        model.pretrained = saved.pretrained
        return model.eval()

    def _check_images(self, images: Tensor) -> None:
        if images.dim() != 4 or images.shape[1] != self.in_channels:
            raise ValueError(f"images must be [N, {self.in_channels}, H, W], got shape {tuple(images.shape)}")
        if min(images.shape[2:]) < self.min_size:
            least = f"{self.min_size} x {self.min_size}"
            raise ValueError(f"images must be at least {least}, got {tuple(images.shape[2:])}")
        weight = self._any_parameter()
        if images.dtype != weight.dtype and not torch.is_autocast_enabled(images.device.type):
            raise TypeError(f"images must be {weight.dtype} like the model's parameters, got {images.dtype}")
        if images.device != weight.device:
            raise ValueError(f"images must be on {weight.device} like the model's parameters, got {images.device}")

    def _any_parameter(self) -> Tensor:
        own = next(self.parameters(), None)
        if own is not None:
            return own
        # A replica of torch.nn.DataParallel has tensors where the model has parameters.
        copies = (module.__dict__.get("_former_parameters", {}) for module in self.modules())
        return next(tensor for tensors in copies for tensor in tensors.values())

    def release_workspace(self) -> None:
        """Give the buffers that lean steps reuse back to the allocator; the next step makes new ones."""
        self._workspace.release()

    def extra_repr(self) -> str:
        options = [f"{key}={value!r}" for key, value in self.configuration.items()]
        return ", ".join([*options, f"memory={self.memory!r}"])


def check_choice(name: str, value: object, choices: Sequence[str] | dict[str, Any]) -> None:
    """Raises ValueError if argument `name` is none of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block; what was in training mode goes back to it afterwards."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
