"""Modules of other libraries that run as lean programs: what their classes have in common.

Conversion changes the class of a module, and nothing else that others see: the new class is a subclass of the old one.
So parameters, their names, hooks on the module, optimizers and checkpoints stay as they are.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from ..lean import MemoryPlan, SectionPlan, Workspace, opaque
from ..lean.examination import Examination, know
from ..lean.module_check import check_modules
from ..lean.opaque import is_exporting
from ..lean.program import Program, run
from ..ops.deferred_checks import expect
from ..ops.layout import is_channels_last
from .budget import PartBudget, PlannedPart

#: Plan of residual layers, unless the user gives another: what small maps with many channels need is kept, and not made
#: again. So a converted ResNet-50 takes 0.35 of the memory and as much time as before (benchmarks/NOTES.md).
_RESIDUAL = SectionPlan(keep_bottlenecks_from=256, keep_outputs_from=512)


@dataclass
class LeanState:
    """State that a converted module has besides what it had before.

    path: its path in the model, for messages; or its class, if it is the model.
    lean: whether it runs as a lean program; otherwise as before the conversion.
    plan: plan of its lean steps, or None for the default on the input's device.
    budget: the plans of lean steps within a budget, if there is one.
    others: names of the modules in it that its programs run besides converted parts.
    """

    path: str
    lean: bool = True
    plan: MemoryPlan | None = None
    budget: PartBudget | None = None
    others: tuple[str, ...] = ()
    workspace: Workspace = field(default_factory=Workspace)


@dataclass
class Replacement:
    """A replacement for a module.

    kind: the class that it gets.
    state: its state.
    description: what will run lean.
    inside: paths of the modules in it that its program runs or that only it calls.
    left: why modules in it were left alone, by path.
    """

    kind: type["LeanModule"]
    state: LeanState
    description: str
    inside: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


class LeanModule(nn.Module):
    """A converted module; each subclass takes the place of the class `lean_replaces`, which is its other base.

    Attributes:
        lean_state: what the conversion added.
    """

    lean_replaces: ClassVar[type[nn.Module]]
    #: Subclasses by the class that they replace.
    lean_classes: ClassVar[dict[type[nn.Module], list[type["LeanModule"]]]] = {}

    lean_state: LeanState

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "lean_replaces" in vars(cls):
            LeanModule.lean_classes.setdefault(cls.lean_replaces, []).append(cls)
            know(cls, cls.lean_replaces)

    @classmethod
    def lean_decide(
        cls, path: str, module: nn.Module, parts: Mapping[nn.Module, type["LeanModule"]]
    ) -> Replacement | None:
        """The replacement of `module`; None if it would change nothing.

        parts: the parts in the model, and what each is replaced by.

        Raises:
            UnsupportedModuleError: a module does not compute what a program would compute in its place.
        """
        raise NotImplementedError

    @classmethod
    def lean_kind(cls, module: nn.Module) -> type[nn.Module]:
        """The class that an unedited `module` has: this one, or if it is not converted the one that this replaces.

        torch's fully_shard makes a subclass of the module's class; the declared class is meant then.
        """
        declared = next(each for each in cls.__mro__ if "lean_replaces" in vars(each))
        return declared if isinstance(module, declared) else cls.lean_replaces

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        """Result of the replaced class for x [N, C, H, W]: from a lean program, or as before the conversion.

        The replaced class gives x its name.
        """
        if named:
            inputs = signature(self.lean_replaces.forward).bind(self, *inputs, **named).args[1:]
        if len(inputs) == 1 and self.lean_runs(inputs[0]):
            return self.lean_forward(inputs[0])
        return super().forward(*inputs)

    def lean_runs(self, x: Tensor) -> bool:
        """Whether x [N, C, H, W] runs lean.

        It does not if `memory` is "plain", nor in an empty batch, which takes no memory, nor in torch.export, whose
        graph is that of the module before its conversion.

        Raises:
            RuntimeError: torch.fx traces the module.
        """
        if not self.lean_state.lean or is_exporting():
            return False
        if isinstance(x, Proxy):
            raise RuntimeError(
                f"{self.lean_state.path} is converted and cannot be traced by torch.fx (create_feature_extractor): "
                "ladderseg_fast.convert.undo(model) restores it"
            )
        return x.dim() != 4 or len(x) > 0

    @opaque
    def lean_forward(self, x: Tensor) -> Any:
        """The same from a lean program: x [N, C, H, W].

        Raises:
            UnsupportedModuleError: a module no longer computes what the program computes in its place.
            ValueError: x has another shape, or another number of channels.
        """
        raise NotImplementedError

    def lean_examine(self, look: Examination) -> None:
        """Examines all modules that a lean step does not call.

        Raises:
            UnsupportedModuleError: a module no longer computes what the program computes in its place.
        """
        raise NotImplementedError

    def __prepare_scriptable__(self) -> NoReturn:
        """Refuses torch.jit.script, which calls this first.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(
            "a converted model cannot be scripted by torch.jit.script: ladderseg_fast.convert.undo(model) restores it"
        )

    def lean_checked(self) -> dict[Any, Any]:
        """Checks the modules; returns a dict for what is derived from them, empty whenever they have changed."""
        return check_modules(self, self.lean_examine)

    def lean_channels_last(self, x: Tensor) -> bool:
        """Whether torch would run the module on channels_last maps for x [N, C, H, W]."""
        # Not the attribute, which a parametrization would compute once more.
        weights = (child._parameters.get("weight") for child in self.modules() if isinstance(child, nn.Conv2d))
        first = next((weight for weight in weights if weight is not None), None)
        return is_channels_last(x) or (first is not None and not first.is_contiguous())

    def lean_plan(self, x: Tensor) -> MemoryPlan:
        """The plan for a step on x [N, C, H, W].

        Raises:
            BudgetError: no plan fits into the budget.
        """
        state = self.lean_state
        plan = state.plan
        if state.budget is not None:
            plan = state.budget.plan_for(PlannedPart(self, x.shape[1]), x, state.workspace)
        return plan or replace(MemoryPlan.default(x.device), residual=_RESIDUAL)

    def lean_sections(self) -> list[str]:
        """The sections that a plan may name, in the order of the forward pass."""
        raise NotImplementedError

    def lean_run(
        self, derived: dict[Any, Any], make: Callable[[MemoryPlan], Program], x: Tensor, plan: MemoryPlan, key: Hashable
    ) -> list[Tensor]:
        """Runs on x [N, C, H, W] the program that `make` makes, and keeps it in `derived` under `key`."""
        name = "program", key, plan.key
        if name not in derived:
            derived[name] = make(plan)
        return list(run(derived[name], [_with_gradient_laid_out(x)], plan, self.lean_state.workspace))


def _with_gradient_laid_out(x: Tensor) -> Tensor:
    """The same map as x [N, C, H, W], whose gradient gets torch's layout: `torch.autograd.grad` returns it as it is."""
    if not (torch.is_grad_enabled() and x.requires_grad) or is_channels_last(x):
        return x
    x = x.view_as(x)
    x.register_hook(Tensor.contiguous)
    return x


def laid_out(out: Tensor, channels_last: bool) -> Tensor:
    """Map `out` [N, M, h, w] in the layout that the module would have returned before its conversion.

    The lean step writes pixel by pixel; code that views maps as matrices expects torch's layout.
    """
    return out if channels_last else out.contiguous()


def expect_channels(path: str, x: Tensor, channels: int) -> None:
    """Checks that x is [N, channels, H, W].

    Raises:
        ValueError: it is not.
    """
    if x.dim() != 4 or x.shape[1] != channels:
        raise ValueError(f"the input of {path} must be [N, {channels}, H, W], got shape {tuple(x.shape)}")


def expect_rectified(path: str, x: Tensor) -> None:
    """Checks that x [N, C, H, W] is not negative anywhere, like what a ReLU gives.

    Raises:
        ValueError: it is. On CUDA a later call raises it (ops.deferred_checks).
    """
    what = f"the input of {path} must not be negative, like what a ReLU gives; convert.undo restores the model"
    if x.numel():
        expect(torch.where(x.detach().amin() < 0, 0, -1), lambda _: what)
