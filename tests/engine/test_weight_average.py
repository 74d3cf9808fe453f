"""The moving average of the weights, worked out by hand."""

import pytest
import torch
from torch import nn

from ladderseg_fast.engine.weight_average import WeightAverage


@pytest.fixture
def model():
    model = nn.BatchNorm1d(2)
    with torch.no_grad():
        model.weight.fill_(1.0)
    return model


def test_first_updates_weigh_less(model):
    average = WeightAverage(model, decay=0.25)
    expected = 1.0
    for update, value in enumerate([3.0, 5.0, 2.0, 7.0], start=1):
        with torch.no_grad():
            model.weight.fill_(value)
            model.running_mean.fill_(value - 1.0)
            model.num_batches_tracked.fill_(update)
        average.update(model)
        decay = min(0.25, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
        assert average.values["weight"].tolist() == pytest.approx([expected] * 2)
        # it started at 0, the weight at 1
        assert average.values["running_mean"].tolist() == pytest.approx([expected - 1.0] * 2)
        assert average.values["num_batches_tracked"] == update


def test_takes_the_models_place_and_leaves_it(model):
    average = WeightAverage(model, decay=0.5)
    with torch.no_grad():
        model.weight.fill_(0.1)
    parameter = model.weight
    with pytest.raises(KeyError), average.applied_to(model):
        assert model.weight.tolist() == [1.0, 1.0]
        raise KeyError
    assert model.weight is parameter
    assert torch.equal(model.weight.detach(), torch.tensor([0.1, 0.1]))
    assert average.values["weight"].tolist() == [1.0, 1.0]


def test_is_no_view_of_the_model(model):
    average = WeightAverage(model, decay=0.5)
    with torch.no_grad():
        model.weight.add_(1.0)
    assert average.values["weight"].tolist() == [1.0, 1.0]
