"""The suites of all operators, for tests that run over them: their arguments, and the comparison with the reference."""

import importlib
import inspect
from pathlib import Path

from support.operator_suite import OperatorSuite

_OPS = Path(__file__).parents[1] / "ops"


def _suites() -> list[OperatorSuite]:
    """One of each suite in the files of tests/ops."""
    modules = [importlib.import_module(f"ops.{path.stem}") for path in sorted(_OPS.glob("test_*.py"))]
    classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return [kind() for kind in classes if issubclass(kind, OperatorSuite) and not inspect.isabstract(kind)]


#: By the operator's name, in alphabetical order.
SUITES: dict[str, OperatorSuite] = {suite.name: suite for suite in sorted(_suites(), key=lambda suite: suite.name)}
