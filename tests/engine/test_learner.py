"""One batch and one step at a time."""

import math

import pytest
import torch
from support.tiny_training import SIZE, settings

from ladderseg_fast.data import IGNORE_INDEX
from ladderseg_fast.engine.learner import Learner
from ladderseg_fast.engine.random_state import seed_all

CLASSES = 3
CPU = torch.device("cpu")


def make_learner(changes=None, resumed=False):
    seed_all(0)
    return Learner(settings(changes).resolved(images=4), CLASSES, CPU, resumed)


def batch(seed=0, n=2):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 3, *SIZE, generator=generator)
    return images, torch.randint(0, CLASSES, (n, *SIZE), generator=generator, dtype=torch.uint8)


def gradients(learner):
    return {name: parameter.grad.clone() for name, parameter in learner.model.named_parameters()}


def values(learner):
    return {name: value.clone() for name, value in learner.model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_accumulated_gradients_are_the_mean():
    # With frozen statistics the images of a batch do not see each other.
    two = make_learner({"training.accumulate": 2, "model.frozen_bn": True})
    losses = [two.add_batch(*batch(seed)) for seed in (1, 2)]
    one = make_learner({"model.frozen_bn": True})
    images, labels = (torch.cat(parts) for parts in zip(batch(1), batch(2), strict=True))
    assert one.add_batch(images, labels) == pytest.approx(sum(losses) / 2, rel=1e-5)
    for name, expected in gradients(one).items():
        difference = (gradients(two)[name] - expected).abs().max()
        assert difference <= 1e-3 * expected.abs().max() + 1e-7, name


def test_clipping_scales_all_gradients_by_one_number(monkeypatch):
    learner = make_learner({"training.clip_norm": 0.01, "training.optimizer": "sgd", "training.learning_rate": 1.0})
    learner.add_batch(*batch())
    before, weights = gradients(learner), values(learner)
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in before.values()))
    assert norm > 0.01
    learner.update(0)
    after = values(learner)
    for name, gradient in before.items():
        expected = weights[name] - gradient * (0.01 / norm)
        assert torch.allclose(after[name], expected, atol=1e-6), name


@pytest.mark.parametrize(
    ("changes", "kind"),
    [({}, "Adam"), ({"training.optimizer": "adamw"}, "AdamW"), ({"training.optimizer": "sgd"}, "SGD")],
)
def test_optimizers(changes, kind):
    learner = make_learner(changes | {"training.weight_decay": 0.03, "training.momentum": 0.7})
    assert type(learner.optimizer).__name__ == kind
    for group in learner.optimizer.param_groups:
        assert group["weight_decay"] == 0.03
        assert group.get("momentum", 0.7) == 0.7


def test_learning_rates_of_a_pretrained_encoder_and_of_all_else():
    learner = make_learner({"training.backbone_divisor": 4.0, "training.warmup_steps": 2})
    for step in range(2):
        learner.add_batch(*batch())
        learner.update(step)
    factor = (1 - 1 / 5) ** 1.5
    assert learner.learning_rate(1) == pytest.approx(5e-4 * factor)
    assert [group["lr"] for group in learner.optimizer.param_groups] == pytest.approx([5e-4 * factor] * 2)

    pretrained = make_learner({"training.backbone_divisor": 4.0, "training.init_from": "some run"}, resumed=True)
    pretrained.add_batch(*batch())
    pretrained.update(0)
    assert [group["lr"] for group in pretrained.optimizer.param_groups] == pytest.approx([1.25e-4, 5e-4])


def test_class_weights_and_auxiliary_weight_reach_the_loss():
    learner = make_learner({"training.class_weights": [1.0, 0.0, 2.0], "training.aux_weight": 0.1})
    assert learner.class_weights == [1.0, 0.0, 2.0]
    assert learner.loss.aux_weight == 0.1
    with pytest.raises(ValueError, match=r"training\.class_weights must be 3 numbers, one per class, got 2"):
        make_learner({"training.class_weights": [1.0, 2.0]})


def test_what_a_plan_does_not_know_comes_off_the_budget():
    settings = {"model.memory": "2GB", "training.batch": 2}
    learner = make_learner(settings)
    assert learner.model.memory_budget == 2_000_000_000
    assert math.isfinite(learner.add_batch(*batch()))
    parameters = sum(parameter.nbytes for parameter in learner.model.parameters())
    everything = sum(tensor.nbytes for tensor in learner.model.state_dict().values())
    accumulating = make_learner(settings | {"training.accumulate": 2})
    assert accumulating.model.memory_budget == 2_000_000_000 - parameters
    averaging = make_learner(settings | {"training.ema_decay": 0.9})
    assert averaging.model.memory_budget == 2_000_000_000 - everything


@pytest.mark.real_use
@pytest.mark.parametrize("memory", ["lean", "plain"])
@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 2.0]])
def test_batch_of_which_no_pixel_counts(memory, weights):
    learner = make_learner({"model.memory": memory, "training.class_weights": weights})
    images, labels = batch()
    assert learner.counts(labels)
    labels[:] = IGNORE_INDEX
    if weights is not None:
        labels[0] = 1
    assert learner.add_batch(images, labels) == 0.0
    assert not learner.counts(labels)
    assert all(not gradient.any() for gradient in gradients(learner).values())


@pytest.mark.parametrize("memory", ["lean", "plain"])
def test_batch_without_a_finite_loss_leaves_nothing_behind(memory):
    learner = make_learner({"training.on_nonfinite": "skip", "model.memory": memory})
    learner.add_batch(*batch())
    before, gathered = values(learner), gradients(learner)
    images, labels = batch(1)
    images[0, 0, 3, 3] = math.inf
    assert math.isnan(learner.add_batch(images, labels))
    assert same(values(learner), before)
    assert same(gradients(learner), gathered)


def test_autocast_computes_in_its_type():
    plain = {"model.memory": "plain"}
    exact = make_learner(plain).add_batch(*batch())
    rounded = make_learner(plain | {"training.autocast": "bfloat16"}).add_batch(*batch())
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.05)


def test_float16_scales_its_gradients():
    learner = make_learner({"model.memory": "plain", "training.autocast": "float16"})
    assert learner.scaler.is_enabled()
    assert not make_learner({"model.memory": "plain", "training.autocast": "bfloat16"}).scaler.is_enabled()
    scale = learner.scaler.get_scale()
    # A step whose gradients overflow is left out, and the next ones are scaled less; here without float16's slowness.
    before = values(learner)
    loss = sum(parameter.sum() for parameter in learner.model.parameters()) * math.inf
    learner.scaler.scale(loss).backward()
    learner.update(0)
    assert same(values(learner), before)
    assert learner.scaler.get_scale() == scale / 2
    other = make_learner({"model.memory": "plain", "training.autocast": "float16"})
    other.restore(learner.result_weights(), learner.state())
    assert other.scaler.get_scale() == scale / 2


def test_channels_last_reaches_weights_and_images(monkeypatch):
    learner = make_learner({"model.memory": "plain", "model.channels_last": True})
    seen = []
    learner.model.register_forward_pre_hook(lambda model, arguments: seen.append(arguments[0]))
    learner.add_batch(*batch())
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert learner.model.features.conv0.weight.is_contiguous(memory_format=torch.channels_last)


def test_frozen_batch_norm_keeps_its_statistics():
    learner = make_learner({"model.frozen_bn": True})
    before = values(learner)
    learner.add_batch(*batch())
    learner.update(0)
    after = values(learner)
    statistics = [name for name in before if "running" in name]
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    assert not torch.equal(before["head.conv.weight"], after["head.conv.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.size": [64, 63]}, "data.size must be at least 64x64 for tiny, got 64x63"),
        ({"data.crop": [32, 64]}, "data.crop must be at least 64x64 for tiny, got 32x64"),
        ({"data.size": [124, 64], "training.batch": 1}, "batch 1 at 124x64 leaves one pixel at 1/64"),
        ({"data.size": [256, 256], "data.crop": [64, 64], "training.batch": 1}, "batch 1 at 64x64 leaves one pixel"),
    ],
)
def test_sizes_that_the_model_cannot_take(changes, message):
    with pytest.raises(ValueError, match=message):
        make_learner(changes)


def test_one_pixel_is_enough_for_frozen_statistics():
    learner = make_learner({"data.size": [64, 64], "training.batch": 1, "model.frozen_bn": True})
    images, labels = batch()
    assert math.isfinite(learner.add_batch(images[:1, :, :64, :64], labels[:1, :64, :64]))


@pytest.mark.real_use
@pytest.mark.parametrize("key", ["optimizer", "scaler", "gradients", "class_weights", "average", "weights"])
def test_state_edited_by_hand(key):
    learner = make_learner({"training.ema_decay": 0.9, "model.memory": "plain", "training.autocast": "float16"})
    state = learner.state()
    learner.restore(learner.result_weights(), state)
    for wrong in (state | {key: 7}, {name: value for name, value in state.items() if name != key}):
        with pytest.raises(ValueError, match="not the state of a training of tiny"):
            learner.restore(learner.result_weights(), wrong)
