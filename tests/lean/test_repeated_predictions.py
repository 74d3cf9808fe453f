"""On the CPU, predictions repeated from a recording give the bits of interpreted ones, whatever has changed."""

import copy
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from support.comparison import assert_same_bits
from support.ladder_models import TINY, make_images, make_model
from support.lean_equals_plain import batch_norms
from torch import Tensor, nn

from ladderseg_fast import LadderDenseNet, create_model
from ladderseg_fast.ops.backend import Cpu, backend_of

CPU = backend_of(torch.device("cpu"))


@pytest.fixture(autouse=True)
def on_the_cpu() -> None:
    assert type(CPU) is Cpu and CPU.repeats_predictions


def interpreted(model: nn.Module, images: Tensor) -> Tensor:
    """Logits of a copy that repeats nothing."""
    CPU.repeats_predictions = False
    try:
        with torch.no_grad():
            return copy.deepcopy(model)(images).logits
    finally:
        CPU.repeats_predictions = True


def predicted(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images).logits


def settled(model: LadderDenseNet | None = None) -> LadderDenseNet:
    """A model in evaluation mode whose next prediction of images like these is repeated."""
    model = model or make_model(dtype=torch.float32)
    model.eval()
    for _ in range(2):
        predicted(model, images_of(0))
    return model


def images_of(seed: int) -> Tensor:
    return make_images(2, 65, 97, torch.float32, seed)


def counts(model: LadderDenseNet) -> dict[str, int]:
    assert not model._workspace.recordings.failures
    return dict(model._workspace.recordings.counts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_third_prediction_and_later_ones_are_repeated(dtype: torch.dtype) -> None:
    model = make_model(dtype=dtype).eval()
    for seed in range(5):
        images = make_images(2, 65, 97, dtype, seed)
        assert_same_bits(predicted(model, images), interpreted(model, images), f"prediction {seed}")
    assert counts(model) == {"interpreted": 1, "recorded": 1, "repeated": 3}


@pytest.mark.parametrize(
    "make",
    [lambda: create_model("ladder_resnet18", 5), lambda: LadderDenseNet(TINY, 5, context="pyramid")],
    ids=["resnet", "pyramid"],
)
def test_other_stages(make: Callable[[], LadderDenseNet]) -> None:
    torch.manual_seed(0)
    model = make().eval()
    for seed in range(4):
        assert_same_bits(predicted(model, images_of(seed)), interpreted(model, images_of(seed)), f"prediction {seed}")
    assert counts(model)["repeated"] == 2


def test_results_stay() -> None:
    """Later predictions do not write to what earlier ones have returned."""
    model = settled()
    first = predicted(model, images_of(1))
    kept = first.clone()
    predicted(model, images_of(2))
    assert_same_bits(first, kept, "the first logits")


def double_in_place(model: LadderDenseNet) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)


def double_behind_autograd(model: LadderDenseNet) -> None:
    for parameter in model.parameters():
        parameter.data.mul_(2)


def assign_data(model: LadderDenseNet) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data * 2


def load_other_state(model: LadderDenseNet) -> None:
    model.load_state_dict(make_model(dtype=torch.float32, seed=1).state_dict())


def take_optimizer_step(model: LadderDenseNet) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.train()(images_of(3)).logits.sum().backward()
    optimizer.step()
    model.eval()


def move_statistics(model: LadderDenseNet) -> None:
    for norm in batch_norms(model):
        norm.running_mean += 1


def replace_statistics(model: LadderDenseNet) -> None:
    for norm in batch_norms(model):
        norm.running_var = norm.running_var * 2


def change_eps(model: LadderDenseNet) -> None:
    for norm in batch_norms(model):
        norm.eps = 0.5


def dilate(model: LadderDenseNet) -> None:
    conv = model.features.denseblock2.denselayer1.conv2
    conv.dilation, conv.padding = (2, 2), (2, 2)


def forget_statistics(model: LadderDenseNet) -> None:
    """From then on they normalise with the batch's, in evaluation too."""
    for norm in batch_norms(model):
        norm.track_running_stats = False
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None


CHANGES: list[Callable[[LadderDenseNet], None]] = [
    double_in_place,
    double_behind_autograd,
    assign_data,
    load_other_state,
    take_optimizer_step,
    move_statistics,
    replace_statistics,
    change_eps,
    dilate,
    forget_statistics,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changes_are_noticed(change: Callable[[LadderDenseNet], None]) -> None:
    model = settled()
    before = predicted(model, images_of(4))
    change(model)
    for attempt in range(4):
        found = predicted(model, images_of(4))
        assert_same_bits(found, interpreted(model, images_of(4)), f"prediction {attempt}")
        assert not torch.equal(found, before)


def test_another_dtype() -> None:
    model = settled().double()
    images = images_of(1).double()
    for attempt in range(3):
        assert_same_bits(predicted(model, images), interpreted(model, images), f"prediction {attempt}")


def test_training_between_predictions() -> None:
    """Steps before and after repeated predictions are as without any, and are not repeated themselves."""
    model = make_model(dtype=torch.float32)
    twin = copy.deepcopy(model)
    for seed in range(4):
        for each in (model, twin):
            each.train().zero_grad()
            each(images_of(seed)).logits.sum().backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                assert_same_bits(parameter.grad, twin.get_parameter(name).grad, name)
        model.predict(images_of(seed))
    assert counts(model)["repeated"] == 2 and not counts(twin).get("recorded")


def test_between_forward_and_backward() -> None:
    """A repeated prediction leaves the maps alone that an unfinished step keeps."""
    model = settled()
    twin = copy.deepcopy(model)
    twin.train()(images_of(1)).logits.sum().backward()
    loss = model.train()(images_of(1)).logits.sum()
    assert_same_bits(predicted(model.eval(), images_of(0)), interpreted(model, images_of(0)), "prediction")
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert_same_bits(parameter.grad, twin.get_parameter(name).grad, name)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_threads_of_the_moment(two_threads: None) -> None:
    """A recording of one number of threads runs on another; teams of equal size give equal bits."""
    model = settled()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        expected = interpreted(model, images_of(1))
        assert_same_bits(predicted(model, images_of(1)), expected, f"{threads} threads")
    assert counts(model)["repeated"] == 2


def test_predictions_of_several_threads() -> None:
    """They share one recording, which one of them repeats at a time."""
    model = settled()
    expected = [interpreted(model, images_of(seed)) for seed in range(3)]
    found: dict[int, list[Tensor]] = {seed: [] for seed in range(3)}

    def work(seed: int) -> None:
        found[seed] += [predicted(model, images_of(seed)) for _ in range(4)]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, logits in found.items():
        assert len(logits) == 4
        for each in logits:
            assert_same_bits(each, expected[seed], f"images {seed}")


def test_while_kernels_are_observed() -> None:
    """Observers see every kernel, so such predictions are interpreted."""
    model = settled()
    names: list[str] = []
    with CPU.observed_by(lambda name, cost: names.append(name)):
        predicted(model, images_of(0))
    assert "bn_relu_conv3x3_forward" in names
    assert counts(model) == {"interpreted": 2, "recorded": 1}
