"""The device that a name stands for."""

import pytest
import torch

from ladderseg_fast.engine.device import AUTO, find_device


@pytest.mark.real_use
@pytest.mark.parametrize(("available", "expected"), [(True, "cuda"), (False, "cpu")])
def test_default_is_the_gpu_if_there_is_one(available, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert find_device(AUTO) == torch.device(expected)


def test_other_names():
    assert find_device("cpu") == torch.device("cpu")
    for name in ("gpu", "meta", "cuda:x", ""):
        with pytest.raises(ValueError, match='device must be "auto", "cpu", "cuda" or "cuda:N"'):
            find_device(name)
    with pytest.raises(ValueError, match="'cuda:99' is not available"):
        find_device("cuda:99")
