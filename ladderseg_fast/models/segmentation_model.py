"""The common base of the paper's models: how they run, and how they are saved and loaded."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Literal, overload

import torch
from torch import Tensor, nn

from .. import _core, lean, ops
from ..lean.handles import new_handle
from ..lean.in_graph import can_run_in_graph, run_in_graph
from ..lean.joint_batch import BATCH_NORMS
from ..lean.module_check import check_modules
from ..lean.opaque import is_exporting
from ..lean.parts import PartedProgram
from ..lean.program import Program, run
from ..ops.upsample_argmax import upsample_argmax_forward
from .class_probabilities import class_probabilities, plain_class_probabilities
from .design import Design
from .export import Pixels, write_onnx
from .first_step import place_first_step
from .memory_argument import BudgetPlans, budget_plans, memory_mode
from .network import Network
from .output import LadderOutput
from .placement import DevicePlacement, cuts_after, devices_of, move, placement_of
from .pretrained import SavedModel, check_class, read_pretrained, write_pretrained
from .programs import examine, parted_program_of, program_of, program_sections
from .state import describe, state_problems
from .weights import load_encoder_weights

#: Programs of a model, for different memory plans, that are kept while its modules stay as they are.
_MOST_PROGRAMS = 8


class SegmentationModel(Network):
    """A network that runs lean or plain. Its subclasses are the paper's models; each gives its design.

    Args:
        design: encoder, context layer, transitions-up, heads.
        num_classes: K, 1 to 256.
        memory: "lean" runs dense blocks, transitions, stem, context layer and heads as autograd functions that keep
            only what backward cannot recompute cheaply; "plain" runs ordinary PyTorch modules. Both compute the same
            and share one state_dict. An edit that lean cannot follow (a hook on an inner module, another activation)
            raises lean.UnsupportedModuleError when the model is called. torch.autocast affects both; on the CPU it
            affects "lean" only to bfloat16, on processors that have AVX512-BF16. A budget such as "8GiB", or a number
            of bytes, is lean with the fastest plan that fits, made for each shape of images in training: see
            memory.plan, docs/memory.md. A lean.MemoryPlan is lean with that plan.
        in_channels: channels of the images.
        weights: None, a file with the encoder's pretrained weights, or "imagenet"; see models.weights.
        frozen_bn: every BatchNorm stays in inference mode while training: it normalises with its running statistics,
            which do not change. Its gamma and beta are trained.
        options: the other arguments of the subclass, for save_pretrained.

    Attributes:
        memory_plan: lean.MemoryPlan of lean steps without a budget, or None for the default on the images' device; may
            be replaced at any time.
        pretrained: whether the encoder started from pretrained weights; parameter_groups depends on it.
        adaptation: what was done to pretrained weights to fit images that are not RGB, in words; None if nothing.
        configuration: the arguments of the subclass, except memory and weights.

    Raises:
        ValueError: an argument is out of range, or the weights do not fit.
    """

    #: Subclasses by name, for from_pretrained.
    _classes: ClassVar[dict[str, type["SegmentationModel"]]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        SegmentationModel._classes[cls.__name__] = cls

    def __init__(
        self,
        design: Design,
        num_classes: int = 19,
        memory: str | int | lean.MemoryPlan = "lean",
        *,
        in_channels: int = 3,
        weights: str | os.PathLike[str] | None = None,
        frozen_bn: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(design, num_classes, in_channels)
        common = {"num_classes": num_classes, "in_channels": in_channels, "frozen_bn": frozen_bn}
        self.configuration = {**(options or {}), **common}
        self.memory_plan: lean.MemoryPlan | None = None
        self.memory = memory
        self.frozen_bn = frozen_bn
        self.pretrained = weights is not None
        self._workspace = lean.Workspace()
        self._handle = new_handle(self)
        self._placement: DevicePlacement | None = None
        self.adaptation: str | None = None
        if weights is not None:
            self.adaptation = load_encoder_weights(self.features, weights, design.encoder.architecture)
        self.train()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes a copy, or what pickle has read."""
        super().__setstate__(state)
        self._handle = new_handle(self)

    @property
    def memory(self) -> str:
        """ "lean" or "plain"; may be set at any time, to any value of the argument."""
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

    def train(self, mode: bool = True) -> "SegmentationModel":
        """Sets training or evaluation mode; with `frozen_bn`, BatchNorms are in evaluation mode in both."""
        super().train(mode)
        if self.frozen_bn:
            for module in self.modules():
                if isinstance(module, BATCH_NORMS):
                    module.training = False
        return self

    @property
    def placement(self) -> DevicePlacement | None:
        """Devices and cuts of a model on several devices, see `place`; None for a model on one device."""
        return self._placement

    def place(
        self, devices: Sequence[torch.device | str] | torch.device | str, after: str | Sequence[str] = ()
    ) -> "SegmentationModel":
        """Moves the model to `devices`: its first sections to the first of them, the last to the last. Returns itself.

        `after` names the last section on each device but the last: one name, or one less than there are devices, in the
        order of the forward pass. Names are those of the sections of memory plans ("db2", "layer3", "context"), of
        transitions-up ("up1"), and of modules that end a section, as in the state_dict ("denseblock2").

        Images go to the first device. All scores are on the last one, where labels and loss belong. Batch norms see
        whole batches. A budget in `memory` is that of each device. One device makes an ordinary model again, as does
        `to` with a device on which not all parts are. A device that is given twice stands for two: each part has its
        own memory. If all parts are on one device, `to` that device moves nothing, and keeps them.

        Raises:
            ValueError: there are too many or too few names or one is not known, a device does not exist, or parts on
                different devices share a parameter.
        """
        if isinstance(devices, (str, torch.device)):
            devices = [devices]
        if not devices:
            raise ValueError("devices must name at least one device")
        placement = placement_of(self, devices, after)
        self.release_workspace()
        if len(placement.devices) == 1:
            self._placement = None
            return self.to(placement.devices[0])
        move(self, placement)
        self._placement = placement
        return self

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "SegmentationModel":
        """Called by `to`, `cuda`, `cpu`, `float` and others; a placement ends if all has been moved to one device."""
        super()._apply(fn, recurse)
        placement = self._placement
        if placement is not None:
            found = set(devices_of(self))
            if len(found) == 1 and found != set(placement.devices):
                self.release_workspace()
                self._placement = None
        return self

    def forward(self, images: Tensor) -> LadderOutput:
        """Class scores of `images` [N, in_channels, H, W], H and W at least `min_size`.

        In torch.export the plain modules run, whatever `memory` is.

        Raises:
            ValueError: `images` has another shape; or one value per channel in training mode, as in nn.BatchNorm2d.
            memory.BudgetError: (a ValueError) no plan for these images fits into the budget.
            TypeError: `images` does not have the parameters' dtype.
            RuntimeError: the model is on several devices, and `memory` is "plain".
        """
        self._check_images(images)
        if self.memory == "lean" and not is_exporting():
            if torch.compiler.is_compiling() and self._placement is None and can_run_in_graph(self):
                logits, aux = run_in_graph(self, self._handle, images)
                return LadderOutput(logits, None if self.aux_head is None else aux)
            return self._forward_lean(images)
        if self._placement is not None:
            raise RuntimeError('a model on several devices runs only with memory="lean"; place() with one device first')
        return super().forward(images)

    @lean.opaque
    def _forward_lean(self, images: Tensor) -> LadderOutput:
        plan = self._plan_for(images)
        logits, *aux = self.lean_scores(images, plan, self._workspace if self._placement is None else None)
        return LadderOutput(logits, aux[0] if aux else None)

    def _plan_for(self, images: Tensor) -> lean.MemoryPlan | None:
        """The plan of the step on `images` that is about to begin, whose maps are placed if it can be known."""
        plan, placement = self.memory_plan, self._placement
        if self._budget_plans is not None:
            return self._budget_plans.plan_for(self, images, self._workspace, placement)
        place_first_step(self, images.shape, images.dtype, images.device, plan, self._workspace, placement)
        return plan

    def program_to_run(self, images: Tensor) -> tuple[Program, lean.MemoryPlan, lean.Workspace]:
        """The program for a step on `images` [N, in_channels, H, W], its plan, and the workspace.

        It is for lean.graph_operators, like `program_for_sizes`.

        Raises: as `lean_scores`.
        """
        plan = self._plan_for(images) or lean.MemoryPlan.default(images.device)
        return self._program_for(plan), plan, self._workspace

    def program_for_sizes(self) -> tuple[Program, list[int]]:
        """A program of the model, whatever its plan, and the channels of its outputs."""
        program = program_of(self, lean.MemoryPlan())
        return program, [self.num_classes for _ in program.outputs]

    def _program_for(self, plan: lean.MemoryPlan) -> Program:
        programs = check_modules(self, partial(examine, self))
        return _stored(programs, plan.key, lambda: program_of(self, plan))

    @lean.opaque
    def lean_scores(
        self, images: Tensor, plan: lean.MemoryPlan | None = None, workspace: lean.Workspace | None = None
    ) -> tuple[Tensor, ...]:
        """Logits, and auxiliary logits if the model has them, by the lean program, whatever `memory` is.

        Args:
            images: [N, in_channels, H, W].
            plan: None for the default on the images' device.
            workspace: None: buffers are reused within the call only. A model on several devices has its own, and runs
                on one device with a workspace or on shapes alone.

        Raises:
            UnsupportedModuleError: a module no longer computes what the program computes in its place.
            ValueError: the plan recomputes a section that an average pooling leads to; or a parameter of a model on
                several devices has been moved by hand.
        """
        plan = plan or lean.MemoryPlan.default(images.device)
        placement = None if workspace is not None or images.device.type == "meta" else self._placement
        if placement is None:
            return run(self._program_for(plan), [images], plan, workspace)
        programs = check_modules(self, partial(examine, self))
        cuts = placement.cuts
        parted = _stored(programs, (plan.key, cuts), lambda: parted_program_of(self, plan, cuts))
        return placement.run(self, parted, images, plan)

    @property
    def cut_sections(self) -> list[str]:
        """The sections after which `place` may cut, in the order of the forward pass."""
        return program_sections(self)[:-1]

    def cuts_after(self, names: Sequence[str]) -> tuple[str, ...]:
        """The sections among `cut_sections` that end where these do, by the names that `place` takes.

        Raises:
            ValueError: a name is not known, or they are not in the order of the forward pass.
        """
        return cuts_after(self, names)

    def parted_program(self, plan: lean.MemoryPlan, cuts: Sequence[str]) -> PartedProgram:
        """The lean program in parts that end after the sections `cuts`, some of `cut_sections`, in order."""
        return parted_program_of(self, plan, cuts)

    @property
    def section_names(self) -> list[str]:
        """The sections that a lean.MemoryPlan may name, in the order of the forward pass."""
        return [*self.features.channels, "context"]

    @overload
    def predict(self, images: Tensor, probabilities: Literal[False] = False) -> Tensor: ...
    @overload
    def predict(self, images: Tensor, probabilities: Literal[True]) -> tuple[Tensor, Tensor]: ...
    @overload
    def predict(self, images: Tensor, probabilities: bool) -> Tensor | tuple[Tensor, Tensor]: ...

    @torch.no_grad()
    def predict(self, images: Tensor, probabilities: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Class labels [N, H, W] uint8 of `images` [N, in_channels, H, W], at full resolution.

        BatchNorm uses its running statistics and leaves them alone, whatever mode the model is in.

        Args:
            probabilities: also returns the class probabilities [N, num_classes, H, W], the softmax of the bilinearly
                upsampled logits: float32, of a model in float64 float64. They take num_classes numbers per pixel.

        Raises: as `forward`; and
            TypeError: `images` is no tensor, or `probabilities` no bool.
        """
        if not isinstance(images, Tensor):
            raise TypeError(f"images must be a tensor [N, {self.in_channels}, H, W], got {type(images).__name__}")
        if not isinstance(probabilities, bool):
            raise TypeError(f"probabilities must be True or False, got {probabilities!r}")
        with evaluating(self):
            logits = self(images).logits
        size = images.shape[2], images.shape[3]
        if self.memory == "plain" or is_exporting():
            labels = ops.reference.upsample_argmax(logits, size)
            return (labels, plain_class_probabilities(logits, size)) if probabilities else labels
        labels = (ops.upsample_argmax if torch.compiler.is_compiling() else upsample_argmax_forward)(logits, size)
        return (labels, class_probabilities(logits, size)) if probabilities else labels

    def export_onnx(
        self,
        path: str | os.PathLike[str],
        output: str = "labels",
        pixels: Pixels | None = None,
        metadata: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> None:
        """Writes the model, in evaluation mode, to the ONNX file `path`: standard operators of opset 18.

        The file has one input, "images" [batch, in_channels, height, width], and one output with the name of `output`.
        Batch, height and width may vary; height and width are at least `min_size`. A crash or a full disk leaves an
        earlier file at `path` intact.

        Args:
            output: "labels", uint8 [batch, height, width], as of `predict`; or "logits", float32 [batch, num_classes,
                height, width], upsampled to the images' size.
            pixels: None: the images are normalised, float32. Else the file takes pixels as Pixels describes them, and
                normalises them itself.
            metadata: further facts for the file, by name.
            check: run the file with onnxruntime at two sizes before it is written. Scores must be the model's to 1e-4
                of the largest, or 1e-4 if that is below 1; labels the model's wherever the two best scores are
                further apart than twice that.

        Raises:
            MissingPackageError: onnx, onnxscript, or onnxruntime for the check, is not installed.
            OSError: the file cannot be written; the message names `path`.
            TypeError: the parameters are not float32.
            ValueError: `output` is another name, or `pixels` has not as many channels as the model.
            RuntimeError: onnxruntime computes something else; the model is on several devices; or torch is older than
                2.7.
        """
        if self._placement is not None:
            raise RuntimeError("a model on several devices cannot be exported; place() with one device first")
        with evaluating(self):
            write_onnx(self, path, output, pixels, metadata or {}, check)

    def parameter_groups(self, lr: float, pretrained_divisor: float = 5) -> list[dict[str, Any]]:
        """Two groups for an optimizer: the encoder's parameters and all others, each with its learning rate.

        The encoder's rate is lr / pretrained_divisor if the encoder is `pretrained`, else lr (section 4 of the paper).
        Parameters that need no gradient are in neither group.
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
        """Writes parameters and buffers to the safetensors file `path`, with the configuration in its metadata.

        A crash or a full disk leaves an earlier file at `path` intact.

        Raises:
            OSError: the file cannot be written; the message names `path`.
        """
        write_pretrained(path, SavedModel(type(self).__name__, self.configuration, self.pretrained, self.state_dict()))

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike[str], memory: str | int | lean.MemoryPlan = "lean"
    ) -> "SegmentationModel":
        """Loads the model that save_pretrained wrote to `path`, in evaluation mode on the CPU.

        No code in the file runs. Called on a subclass, it accepts only models of that class.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file is damaged, not a model of this package, or a model of another class.
        """
        saved = read_pretrained(path)
        model_class = check_class(path, saved.class_name, cls, SegmentationModel._classes)
        try:
            dtype = saved.state["head.conv.weight"].dtype
            with torch.device("meta"):  # finds options that do not fit before taking memory for them
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
        if images.shape[2] < self.min_size or images.shape[3] < self.min_size:
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
        # A replica of torch.nn.DataParallel has tensors instead of parameters.
        copies = (module.__dict__.get("_former_parameters", {}) for module in self.modules())
        return next(tensor for tensors in copies for tensor in tensors.values())

    def release_workspace(self) -> None:
        """Returns the buffers that lean steps reuse to the allocator; the next step makes new ones."""
        self._workspace.release()
        if self._placement is not None:
            for workspace in self._placement.workspaces:
                workspace.release()
        if self._budget_plans is not None:
            self._budget_plans.released()

    def extra_repr(self) -> str:
        options = [f"{key}={value!r}" for key, value in self.configuration.items()]
        return ", ".join([*options, f"memory={self.memory!r}"])


def _stored(programs: dict[Any, Any], key: object, make: Callable[[], Any]) -> Any:
    """The program stored under `key`, or a new one; stored are only the latest few."""
    if key not in programs:
        if len(programs) >= _MOST_PROGRAMS:
            programs.clear()
        programs[key] = make()
    return programs[key]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Region in evaluation mode; modules that were in training mode return to it afterwards."""
    training = _core.modules_where(model, "training", "_modules")
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True
