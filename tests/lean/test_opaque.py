"""Parts of lean networks in what torch.compile compiles."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from support.comparison import assert_same_bits
from support.ladder_models import make_images, make_model

from ladderseg_fast import lean
from ladderseg_fast.lean.opaque import opaque

pytestmark = pytest.mark.real_use


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_a_part_alone() -> None:
    block = make_model().features.denseblock1
    x = torch.randn(2, 64, 8, 8, dtype=torch.float64)
    compiled = torch.compile(lambda x: 2 * lean.dense_block(block, x + 1), backend="aot_eager")
    assert_same_bits(compiled(x).detach(), (2 * lean.dense_block(block, x + 1)).detach(), "block")


def test_scores_alone() -> None:
    model, images = make_model().eval(), make_images(2, 64, 64)
    compiled = torch.compile(lambda x: 2 * model.lean_scores(x + 1)[0], backend="aot_eager")
    assert_same_bits(compiled(images).detach(), (2 * model.lean_scores(images + 1)[0]).detach(), "scores")


def test_fullgraph_is_refused_with_the_reason() -> None:
    head = make_model().head
    with pytest.raises(torch._dynamo.exc.Unsupported, match='memory="plain"'):
        torch.compile(lambda x: lean.head(head, x), backend="eager", fullgraph=True)(torch.randn(2, 128, 8, 8).double())


def test_the_compiler_is_not_loaded_for_those_who_do_not_compile() -> None:
    code = (
        "import sys, torch, ladderseg_fast; from ladderseg_fast.nn import DENSENETS, DenseNetShape\n"
        "DENSENETS['tiny'] = DenseNetShape((1, 2, 1, 2))\n"
        "model = ladderseg_fast.LadderDenseNet('tiny', 3)\n"
        "before = 'torch._dynamo' in sys.modules\n"
        "model(torch.rand(2, 3, 64, 64))\n"
        "assert before or 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_call_while_the_compiler_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert opaque(lambda x, y: x - y)(3, y=1) == 2
