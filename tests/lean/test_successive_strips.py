"""A prediction makes each row of a bottleneck's hidden map once, in however many strips."""

from collections import Counter

import pytest
import torch
from support.ladder_models import make_images, make_model
from torch import Tensor

from ladderseg_fast.lean import MemoryPlan, Workspace
from ladderseg_fast.ops.backend import backend_of
from ladderseg_fast.ops.cost import Cost


@pytest.mark.parametrize("size", [(96, 64), (133, 67)], ids=str)
def test_rows_are_made_once(size: tuple[int, int]) -> None:
    model, images = make_model().eval(), make_images(2, *size)
    calls, operations = Counter[str](), Counter[str]()

    def observe(name: str, cost: Cost) -> None:
        calls[name] += 1
        operations[name] += round(cost.operations)

    def predict(plan: MemoryPlan) -> tuple[Tensor, int, int]:
        calls.clear()
        operations.clear()
        with torch.no_grad(), backend_of(images.device).observed_by(observe):
            scores = model.lean_scores(images, plan, Workspace())[0]
        return scores, calls["bn_relu_conv1x1_forward"], operations["bn_relu_conv1x1_forward"]

    whole, few, needed = predict(MemoryPlan())
    in_strips, many, done = predict(MemoryPlan(chunk_bytes=1 << 12))
    assert many > 2 * few
    assert done == needed
    torch.testing.assert_close(in_strips, whole, rtol=0, atol=1e-12 * float(whole.abs().max()))
