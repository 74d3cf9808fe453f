"""The suites of all operators, for tests that run over them: their arguments, and the comparison with the reference."""

import importlib
from pathlib import Path
from types import ModuleType

from support.operator_suite import OperatorSuite

_OPS = Path(__file__).parents[1] / "ops"


def _suites() -> list[OperatorSuite]:
    """An instance of each suite that the files of tests/ops define."""
    modules = [importlib.import_module(f"ops.{path.stem}") for path in sorted(_OPS.glob("test_*.py"))]
    own = [kind for module in modules for kind in vars(module).values() if _is_class_of(kind, module)]
    return [kind() for kind in own if issubclass(kind, OperatorSuite)]


def _is_class_of(value: object, module: ModuleType) -> bool:
    """Whether the class is written there: imported ones may be the bases of suites."""
    return isinstance(value, type) and value.__module__ == module.__name__


#: By the operator's name, in alphabetical order.
SUITES: dict[str, OperatorSuite] = {suite.name: suite for suite in sorted(_suites(), key=lambda suite: suite.name)}
