"""The conversion of a model's modules to modules that run as lean programs."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from ..lean import MemoryPlan
from ..lean.examination import UnsupportedModuleError
from ..models.memory_argument import budget_plans, memory_mode
from .budget import PartBudget
from .lean_module import LeanModule, Replacement
from .lean_part import LeanPart
from .libraries import load_families
from .report import ConversionReport


def convert(model: nn.Module, memory: str | int | MemoryPlan = "lean", dry_run: bool = False) -> ConversionReport:
    """Makes the parts of `model` that it knows run lean, in place, and reports what it did and left alone.

    Outputs, gradients and running statistics are those of the unconverted model. Only the class of the modules changes:
    parameters, buffers, their names, hooks on replaced modules, optimizers and checkpoints stay. Calling it again takes
    edits since then into account, and another `memory`. convert.undo(model) gives all modules their own classes again.

    Args:
        model: any module; docs/convert.md lists what is known.
        memory: "lean"; "plain" runs converted modules as before their conversion; a MemoryPlan is lean with that plan,
            whose sections have the names of the dense blocks and residual layers. A budget such as "2GiB", or a number
            of bytes, is lean with the fastest plan that fits, made for each shape of input in training. It covers each
            converted module by itself: its input, maps and results, its parameters, their gradients, and Adam's state.
        dry_run: the model is left alone, and the report says what would be done.

    Raises:
        ValueError: `memory` is something else.
    """
    mode, budget = memory_mode(memory), budget_plans(memory)
    state = {
        "lean": mode == "lean",
        "plan": memory if isinstance(memory, MemoryPlan) else None,
        "budget": None if budget is None else PartBudget(budget.budget),
    }
    found, report = _decide(model)
    if dry_run:
        return replace(report, dry_run=True)
    for module in [*model.modules()]:
        if module in found:
            _replace(module, found[module], state)
        else:
            _restore(module)
    return report


def undo(model: nn.Module) -> None:
    """Gives all converted modules in `model` the classes that they had before."""
    for module in [*model.modules()]:
        _restore(module)


convert.undo = undo  # type: ignore[attr-defined]  # mypy knows no attributes of functions


def _decide(model: nn.Module) -> tuple[dict[nn.Module, Replacement], ConversionReport]:
    """Decides what replaces which modules of `model`: parts first, then what consists of parts."""
    load_families(model)
    found: dict[nn.Module, Replacement] = {}
    report = ConversionReport()
    parts: list[tuple[str, nn.Module, type[LeanModule]]] = []
    wholes: list[tuple[str, nn.Module, type[LeanModule]]] = []
    for path, module in model.named_modules():
        own = type(module).lean_replaces if isinstance(module, LeanModule) else type(module)
        for kind in LeanModule.lean_classes.get(own, []):
            (parts if issubclass(kind, LeanPart) else wholes).append((path, module, kind))
    _decide_on(parts, found, report)
    kinds = {module: replacement.kind for module, replacement in found.items()}
    for kind in dict.fromkeys(kinds.values()):
        assert issubclass(kind, LeanPart)
        for path, why in kind.lean_unfit(model, kinds).items():
            del found[model.get_submodule(path)], report.converted[path]
            report.left[path] = why
    _decide_on(wholes, found, report)
    return found, report


def _decide_on(
    candidates: list[tuple[str, nn.Module, type[LeanModule]]],
    found: dict[nn.Module, Replacement],
    report: ConversionReport,
) -> None:
    """Adds to `found` and `report` what replaces these candidates (path, module, class that might replace it)."""
    inside: set[str] = set()
    for path, module, kind in candidates:
        if path in inside or module in found:
            continue
        # Messages name the model by its class.
        root = "" if path else f"{kind.lean_replaces.__name__}."
        name = path or kind.lean_replaces.__name__
        kinds = {each: replacement.kind for each, replacement in found.items()}
        try:
            replacement = kind.lean_decide(name, module, kinds)
        except UnsupportedModuleError as error:
            report.left[path] = error.edit if error.path == name else f"{error.path.removeprefix(root)} {error.edit}"
            continue
        if replacement is not None:
            found[module] = replacement
            report.converted[path] = replacement.description
            for each, why in replacement.left.items():
                report.left.setdefault(each.removeprefix(root), why)
            inside.update(each.removeprefix(root) for each in replacement.inside)
    for path in inside:
        report.converted.pop(path, None)


def _replace(module: nn.Module, replacement: Replacement, memory: Mapping[str, Any]) -> None:
    """memory: what LeanState says about it."""
    state = replace(replacement.state, **copy.deepcopy(dict(memory)))
    if isinstance(module, LeanModule):
        state.workspace = module.lean_state.workspace
    module.__class__ = replacement.kind
    module.lean_state = state  # type: ignore[assignment]  # not a tensor or a module, to which mypy limits attributes


def _restore(module: nn.Module) -> None:
    if isinstance(module, LeanModule):
        del module.lean_state
        own: nn.Module = module
        own.__class__ = type(module).lean_replaces
