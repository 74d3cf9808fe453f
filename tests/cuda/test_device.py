"""The CUDA path on a real device: what the emulator cannot know of streams, threads, memory and graphs.

Skipped where there is no device.
"""

import copy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from support import lean_equals_plain, operator_suite
from support.comparison import assert_near, assert_same_bits, relative_error
from support.ladder_models import make_images, make_labels, make_model, training_loss
from support.lean_equals_plain import MODES, assert_lean_equals_plain, set_mode
from support.operator_suite import LAYOUTS, Arguments, OperatorSuite, evaluate
from support.operator_suites import SUITES
from support.training_steps import WAYS, training_steps
from torch import Tensor

from ladderseg_fast import LadderDenseNet, ops

DEVICE = "cuda"

pytestmark = pytest.mark.cuda

if not torch.cuda.is_available():
    pytest.skip("no CUDA device: torch.cuda.is_available() is False", allow_module_level=True)

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
TRAINING_DTYPES = ("float16", "bfloat16")

#: About a tenth of a second: work that is enqueued behind it has not begun when the host goes on.
DELAY_CYCLES = 200_000_000

SIZE = (6, 64, 96)


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """cuDNN is exact and repeats itself; what tests draw at random for their inputs goes to the device."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    draw, draw_maps = operator_suite.random, lean_equals_plain.random_maps
    monkeypatch.setattr(operator_suite, "random", lambda *shape, **options: draw(*shape, **options).to(DEVICE))
    monkeypatch.setattr(
        lean_equals_plain, "random_maps", lambda shapes, seed: [x.to(DEVICE) for x in draw_maps(shapes, seed)]
    )
    yield
    synchronize()


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def skip_unless_multiplied(dtype: torch.dtype) -> None:
    if dtype == torch.bfloat16 and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("the reference's convolutions of bfloat16 are for compute capability 8.0 and newer")


def prepared(
    suite: OperatorSuite,
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
    layout: str = "channels_last",
    device: str = DEVICE,
) -> Arguments:
    """The suite's arguments, laid out on the device."""
    arguments = suite.arguments(shape)
    moved = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in arguments.items()}
    return suite.prepared(shape, dtype, layout, **moved)


def batch(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return make_images(*SIZE, dtype=dtype, seed=seed).to(DEVICE), make_labels(*SIZE, seed=seed).to(DEVICE)


def step_results(model: LadderDenseNet, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Loss and gradients of one step."""
    model.zero_grad()
    loss = training_loss(model, images, labels)
    loss.backward()
    return {"loss": loss.detach()} | {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_equal_results(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        assert_same_bits(actual[name], expected[name], name)


# Operators


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, shape) for name, suite in SUITES.items() for shape in suite.shapes],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_operator_equals_reference(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """The reference runs on the device too."""
    skip_unless_multiplied(dtype)
    SUITES[name].check(prepared(SUITES[name], shape, dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SUITES)
def test_memory_layout(name: str, layout: str, dtype: torch.dtype) -> None:
    skip_unless_multiplied(dtype)
    SUITES[name].check(prepared(SUITES[name], SUITES[name].large, dtype, layout))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SUITES)
def test_operator_gives_the_same_bits_every_time(name: str, dtype: torch.dtype) -> None:
    skip_unless_multiplied(dtype)
    suite = SUITES[name]
    arguments = prepared(suite, suite.large, dtype)
    first, *others = [evaluate(suite.operator(), arguments) for _ in range(5)]
    for other in others:
        assert_equal_results(other, first)


def test_products_of_tf32() -> None:
    """Where torch allows it: 10 bits of mantissa in both factors, sums in float32."""
    torch.backends.cudnn.allow_tf32 = True  # until the fixture restores it
    suite = SUITES["bn_relu_conv1x1"]
    arguments = prepared(suite, (2, 64, 37, 41, 72))
    exact = evaluate(suite.reference(), {key: value.detach().double() for key, value in arguments.items()})
    actual = evaluate(suite.operator(), {key: value.detach() for key, value in arguments.items()})
    assert_near(actual["output 0"].double(), exact["output 0"], "output", tolerance=1e-3)


# Streams, threads and devices


def delayed_copies(arguments: Arguments) -> Arguments:
    """Copies that the current stream makes late; until then they hold NaN, or labels that are 0."""
    copies = {}
    for key, value in arguments.items():
        copies[key] = value
        if isinstance(value, Tensor):
            empty = torch.full_like(value, torch.nan if value.is_floating_point() else 0, requires_grad=False)
            copies[key] = empty
    synchronize()
    torch.cuda._sleep(DELAY_CYCLES)
    for key, value in arguments.items():
        if isinstance(value, Tensor):
            copies[key].copy_(value.detach())
            copies[key].requires_grad_(value.requires_grad)
    return copies


@pytest.mark.parametrize("name", SUITES)
def test_operator_runs_on_the_current_stream(name: str) -> None:
    """Its inputs arrive late there: work on another stream would read what was there before."""
    suite = SUITES[name]
    arguments = prepared(suite, suite.large)
    expected = evaluate(suite.operator(), arguments)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        actual = evaluate(suite.operator(), delayed_copies(arguments))
    torch.cuda.current_stream().wait_stream(stream)
    assert_equal_results(actual, expected)


@pytest.mark.parametrize("name", SUITES)
def test_two_streams_with_an_event_between_them(name: str) -> None:
    suite = SUITES[name]
    arguments = prepared(suite, suite.large)
    expected = evaluate(suite.operator(), arguments)
    first, second = torch.cuda.Stream(), torch.cuda.Stream()
    copied, done = torch.cuda.Event(), torch.cuda.Event()
    first.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(first):
        copies = delayed_copies(arguments)
        copied.record()
    with torch.cuda.stream(second):
        copied.wait()
        actual = evaluate(suite.operator(), copies)
        done.record()
    done.wait()
    assert_equal_results(actual, expected)


def test_steps_on_alternating_streams() -> None:
    """One model, whose workspace both streams use in turn."""
    model, twin = make_model().to(DEVICE), make_model().to(DEVICE)
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    for step in range(4):
        images, labels = batch(step)
        expected = step_results(twin, images, labels)
        stream = streams[step % 2]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(DELAY_CYCLES)
            actual = step_results(model, images, labels)
        torch.cuda.current_stream().wait_stream(stream)
        assert_equal_results(actual, expected)


def test_backward_runs_in_a_thread_of_autograd() -> None:
    """Not in the one that called backward; the results are those of any thread."""
    model, (images, labels) = make_model().to(DEVICE), batch()
    threads = []
    images.requires_grad_()
    images.register_hook(lambda grad: threads.append(threading.get_ident()))
    first = step_results(model, images, labels)
    assert threads and threads[0] != threading.get_ident()

    twin, results = make_model().to(DEVICE), []
    thread = threading.Thread(target=lambda: results.append(step_results(twin, images, labels)))
    thread.start()
    thread.join()
    synchronize()
    assert_equal_results(results[0], first)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two CUDA devices")
@pytest.mark.parametrize("name", SUITES)
def test_tensors_on_another_device_than_the_current(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = operator_suite.random
    monkeypatch.setattr(operator_suite, "random", lambda *shape, **options: draw(*shape, **options).to("cuda:1"))
    suite = SUITES[name]
    with torch.cuda.device(0):
        suite.check(prepared(suite, suite.large, device="cuda:1"))
        assert torch.cuda.current_device() == 0
        suite.check(prepared(suite, suite.small, device="cuda:1"))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two CUDA devices")
def test_model_on_another_device_than_the_current() -> None:
    with torch.cuda.device(0):
        images, labels = batch()
        expected = step_results(make_model().to("cuda:0"), images, labels)
        actual = step_results(make_model().to("cuda:1"), images.to("cuda:1"), labels.to("cuda:1"))
        for name, tensor in expected.items():
            assert actual[name].device == torch.device("cuda:1")
            assert_near(actual[name].to("cuda:0"), tensor, name)


# Whole models


def in_mode(memory: str) -> Callable[[LadderDenseNet, Tensor], tuple[Tensor, ...]]:
    def forward(model: LadderDenseNet, images: Tensor) -> tuple[Tensor, ...]:
        model.memory = memory
        return model(images)

    return forward


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_lean_equals_plain(mode: str, memory_format: torch.memory_format) -> None:
    model = make_model().to(DEVICE, memory_format=memory_format)
    set_mode(model, mode)
    steps = [[batch(seed)[0].contiguous(memory_format=memory_format).requires_grad_()] for seed in range(2)]
    assert_lean_equals_plain(model, in_mode("lean"), in_mode("plain"), steps, 1e-3)


def test_prediction() -> None:
    model, (images, _) = make_model().to(DEVICE), batch()
    labels = model.predict(images)
    model.memory = "plain"
    assert torch.equal(labels, model.predict(images))


@pytest.mark.parametrize("dtype", TRAINING_DTYPES)
def test_autocast(dtype: str) -> None:
    """Outputs are of 16 bits, the loss and the gradients of the parameters float32, as accurate as plain PyTorch's.

    The loss, one number, may be off by a quarter of the last bit: plain's may be better than that by chance.
    """
    skip_unless_multiplied(getattr(torch, dtype))
    lean, plain = (training_steps(memory, WAYS[f"autocast_{dtype}"], DEVICE) for memory in ("lean", "plain"))
    exact = training_steps("plain", WAYS["exact"], DEVICE)
    for name, tensor in lean.items():
        if tensor.is_floating_point():
            expected = getattr(torch, dtype) if name.endswith(("logits", "aux")) else torch.float32
            assert tensor.dtype == expected and tensor.isfinite().all(), name
    for part in ("loss", "logits", "aux", "gradient"):
        names = [name for name in lean if part in name]
        lean_error, plain_error = (
            relative_error([way[name] for name in names], [exact[name] for name in names]) for way in (lean, plain)
        )
        allowed = max(2 * plain_error, torch.finfo(getattr(torch, dtype)).eps / 4 if part == "loss" else 0.0)
        assert lean_error <= allowed, f"{part}: {lean_error:.3g} where plain is off by {plain_error:.3g}"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_step_gives_the_same_bits_every_time(dtype: torch.dtype) -> None:
    images, labels = batch(dtype=dtype)
    first, *others = [step_results(make_model(dtype=dtype).to(DEVICE), images, labels) for _ in range(3)]
    for other in others:
        assert_equal_results(other, first)


def test_step_does_not_wait_for_the_device() -> None:
    model, (images, labels) = make_model(dtype=torch.float32).to(DEVICE), batch(dtype=torch.float32)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    step_results(model, images, labels)  # what is loaded and planned once
    torch.cuda.set_sync_debug_mode("error")
    try:
        step_results(model, images, labels)
        optimiser.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_training_step_in_a_cuda_graph() -> None:
    """A replay with new data in the inputs does what a step does: over three of them."""
    model = make_model().to(DEVICE)
    images, labels = batch()

    def optimiser_of(model: LadderDenseNet) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step(model: LadderDenseNet, optimiser: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> Tensor:
        optimiser.zero_grad(set_to_none=True)
        loss = training_loss(model, images, labels)
        loss.backward()
        optimiser.step()
        return loss.detach()

    optimiser = optimiser_of(model)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(model, optimiser, images, labels)
    torch.cuda.current_stream().wait_stream(stream)
    twin = copy.deepcopy(model)
    twin_optimiser = optimiser_of(twin)
    twin_optimiser.load_state_dict(copy.deepcopy(optimiser.state_dict()))

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step(model, optimiser, images, labels)
    for seed in range(1, 4):
        new_images, new_labels = batch(seed)
        images.copy_(new_images)
        labels.copy_(new_labels)
        graph.replay()
        expected = step(twin, twin_optimiser, new_images, new_labels)
        assert_near(loss, expected, f"loss of replay {seed}", tolerance=1e-9)
    for (name, tensor), other in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        if tensor.is_floating_point():
            assert_near(tensor, other, name, tolerance=1e-9)
        else:
            assert torch.equal(tensor, other), name


def peak_of_a_step(memory: str) -> int:
    """Bytes that torch's allocator gives out at most in the second step of LDN-121 at 2 x 512x1024, in float32."""
    torch.cuda.empty_cache()
    model = LadderDenseNet("densenet121", 19, memory=memory).to(DEVICE)
    images = torch.randn(2, 3, 512, 1024, device=DEVICE)
    labels = torch.randint(0, 19, (2, 512, 1024), device=DEVICE)
    training_loss(model, images, labels).backward()
    model.zero_grad()
    torch.cuda.reset_peak_memory_stats()
    training_loss(model, images, labels).backward()
    return torch.cuda.max_memory_allocated()


def test_lean_takes_a_quarter_of_the_memory() -> None:
    lean = peak_of_a_step("lean")
    try:
        plain = peak_of_a_step("plain")
    except torch.cuda.OutOfMemoryError:
        pytest.skip(f"the device has too little memory for the plain step; the lean one takes {lean / 2**20:.0f} MiB")
    assert lean <= plain / 4, f"{lean / 2**20:.0f} MiB is more than a quarter of {plain / 2**20:.0f} MiB"


def test_first_steps_reserve_one_block() -> None:
    """Torch's allocator holds one block of feature maps, not those of the first step beside that of the others."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    model = make_model(dtype=torch.float32).to(DEVICE)
    images, labels = make_images(2, 1024, 2048, dtype=torch.float32).to(DEVICE), make_labels(2, 1024, 2048).to(DEVICE)
    for _ in range(4):
        model.zero_grad()
        training_loss(model, images, labels).backward()
    reserved, allocated = torch.cuda.max_memory_reserved() - before, torch.cuda.max_memory_allocated()
    assert allocated > 300 << 20
    assert reserved <= 1.15 * allocated + (64 << 20), f"{reserved >> 20} MiB reserved, {allocated >> 20} MiB allocated"


# Errors, and the import


@pytest.mark.parametrize("label", [4, -1, 254])
def test_label_out_of_range(label: int) -> None:
    """The loss is NaN at once; the error comes with a later call, when the device has come so far, and only once."""
    logits = torch.zeros(2, 4, 2, 3, device=DEVICE, requires_grad=True)
    labels = torch.zeros(2, 5, 6, dtype=torch.int64, device=DEVICE)
    wrong = labels.clone()
    wrong[1, 3, 2] = label
    ops.upsample_cross_entropy(logits, labels)
    loss = ops.upsample_cross_entropy(logits, wrong)
    assert loss.isnan()
    synchronize()
    with pytest.raises(ValueError, match=rf"\blabels\b.*{label} at image 1, row 3, column 2"):
        ops.upsample_cross_entropy(logits, labels)
    synchronize()
    assert ops.upsample_cross_entropy(logits, labels).isfinite()


def test_tensors_on_two_kinds_of_device() -> None:
    arguments = prepared(SUITES["bn_relu"], SUITES["bn_relu"].small)
    with pytest.raises(ValueError, match=r"\bmean\b.*cuda"):
        ops.bn_relu(**arguments | {"mean": arguments["mean"].detach().cpu()})


def test_import_creates_no_context() -> None:
    """Nor does a model on the CPU."""
    code = """
import ctypes, torch, ladderseg_fast
from ladderseg_fast import LadderDenseNet
LadderDenseNet().eval()(torch.zeros(1, 3, 64, 64))
assert not torch.cuda.is_initialized()
driver, device, flags, active = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_uint(), ctypes.c_int(-1)
assert driver.cuInit(0) == 0 and driver.cuDeviceGet(ctypes.byref(device), 0) == 0
assert driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(active)) == 0
assert active.value == 0, "the primary context is active"
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
