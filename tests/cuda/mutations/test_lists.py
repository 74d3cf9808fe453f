"""The lists of mistakes in this directory fit the kernels' sources, whether or not a run tries them all."""

import importlib
from pathlib import Path

import pytest
from support.kernel_mutations import mistaken

from ladderseg_fast.cuda import images

LISTS = sorted(path.stem for path in Path(__file__).parent.glob("test_*_mutations.py"))


@pytest.mark.parametrize("name", LISTS)
def test_every_mistake_can_be_made(name: str) -> None:
    mutations = importlib.import_module(f"cuda.mutations.{name}").MUTATIONS
    assert mutations
    for mutation in mutations:
        text = (images.sources() / mutation.file).read_text()
        assert mistaken(mutation, text) != text
