"""benchmarks/result_check.py: what no tolerance may let pass."""

import importlib
import math
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def result_check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("result_check")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("gradient_error", [1.0, math.nan])
def test_no_gradient_at_all_is_rejected(result_check: ModuleType, dtype: str, gradient_error: float) -> None:
    assert result_check.rejection({dtype: {"loss": 0.0, "gradient": 0.0}}) is None
    reason = result_check.rejection({dtype: {"loss": 0.0, "gradient": gradient_error}})
    assert f"{dtype} gradient differs" in reason
