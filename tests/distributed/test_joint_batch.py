"""nn.SyncBatchNorm in lean models, DistributedDataParallel and fully_shard around them, and class weights: four gloo
processes.
"""

from typing import Any

import pytest
import torch
from support.comparison import assert_near, assert_same_bits, magnitude
from support.joint_batch_checks import FOUR, JOINT, PAIRS, SETTINGS, run
from support.joint_training import train_alone
from support.processes import run_in_processes
from support.tiny_training import DrawnOnce
from torch import Tensor

from ladderseg_fast.engine.class_weights import median_frequency_weights

Results = dict[str, Tensor]

#: By dtype, the tolerance; and what share of the largest gradient is the least size that others are compared at: some
#: cancel to nothing but rounding.
_TOLERANCES = {torch.float64: (1e-10, 0.1), torch.float32: (1e-5, 1.0)}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of each process."""
    return run_in_processes(run, 4, tmp_path_factory.mktemp("rendezvous"))


def taking_part(ranks: list[dict[str, Any]], name: str) -> list[Any]:
    return [results[name] for results in ranks if name in results]


def assert_equal(actual: Results, expected: Results, dtype: torch.dtype = torch.float64) -> None:
    assert actual.keys() == expected.keys()
    tolerance, share = _TOLERANCES[dtype]
    scale = share * max((magnitude(x) for name, x in expected.items() if "gradient" in name), default=0.0)
    for name, value in expected.items():
        if value.is_floating_point():
            assert_near(actual[name], value, name, tolerance, scale if "gradient" in name else 0.0)
        else:
            assert torch.equal(actual[name], value), name


def assert_same_on_all(results: list[Results]) -> None:
    """Gradients, running statistics and weights are the same bits in all processes."""
    for other in results[1:]:
        for name, value in results[0].items():
            if "loss" not in name:
                assert_same_bits(other[name], value, name)


@pytest.mark.parametrize("name", JOINT)
def test_equals_one_process(ranks: list[dict[str, Any]], name: str) -> None:
    count, training = JOINT[name]
    results = taking_part(ranks, name)
    assert len(results) == count
    alone = train_alone(training, count)
    for rank, result in enumerate(results):
        others = {f"rank {other}: " for other in range(count)} - {f"rank {rank}: "}
        expected = {key: value for key, value in alone.items() if not key.startswith(tuple(others))}
        found = {f"rank {rank}: {key}" if "loss" in key else key: value for key, value in result.items()}
        assert_equal(found, expected, training.dtype)
    assert_same_on_all(results)


@pytest.mark.parametrize("name", [*FOUR, *PAIRS])
def test_equals_plain(ranks: list[dict[str, Any]], name: str) -> None:
    lean, plain = (taking_part(ranks, f"{name}: {memory}") for memory in ("lean", "plain"))
    assert len(lean) == len(plain) == (4 if name in FOUR else 2)
    for actual, expected in zip(lean, plain):
        assert_equal(actual, expected)
    if not name.startswith("encoder "):  # which leaves running statistics that are not those of all processes
        assert_same_on_all(lean)


def test_placed_model(ranks: list[dict[str, Any]]) -> None:
    """Readers of a feature on two devices share its statistics with other processes."""
    for placed, plain in zip(taking_part(ranks, "placed"), taking_part(ranks, "strips: plain"), strict=True):
        assert_equal(placed, plain)


def test_gradients_of_parts_travel_early(ranks: list[dict[str, Any]]) -> None:
    """While an earlier part on the same device still computes; of a whole model they wait for its end."""
    for result in taking_part(ranks, "early"):
        happened, gradients = result["whole"]
        assert (happened[0], {*happened[1:]}) == ("part", {"bucket"})
        early, same = result["in parts"]
        buckets = "".join("p" if what == "part" else "b" for what in early).split("p")
        assert len(buckets) == 4 and buckets[0] == "" and all(buckets[1:]), early
        for name, gradient in gradients.items():
            assert_same_bits(same[name], gradient, name)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_data_parallel(ranks: list[dict[str, Any]], name: str) -> None:
    lean, plain = (taking_part(ranks, f"{name}: {memory}") for memory in ("lean", "plain"))
    assert len(lean) == len(plain) == 2
    for actual, expected in zip(lean, plain):
        assert_equal(actual, expected)


def test_unused_parameters_that_nobody_announced(ranks: list[dict[str, Any]]) -> None:
    """Those have gradients of 0, and the others what they would have if somebody had; plain models raise an error."""
    announced = taking_part(ranks, "find_unused_parameters: lean")
    for actual, expected in zip(taking_part(ranks, "unused"), announced, strict=True):
        unused = actual.keys() - expected.keys()
        assert unused and all(actual[name].count_nonzero() == 0 for name in unused)
        assert_equal(
            {name: actual[name] for name in expected if "gradient" in name or "loss" in name},
            {name: value for name, value in expected.items() if "gradient" in name or "loss" in name},
        )


def test_fully_shard(ranks: list[dict[str, Any]]) -> None:
    for result in taking_part(ranks, "sharded"):
        assert_equal(result["lean"], result["plain"])
    for of_section, of_shards in taking_part(ranks, "refusal"):
        assert "features.denseblock1 has a forward pre-hook" in of_section
        assert "fully_shard takes a network as a whole" in of_section
        assert "cannot run on a DTensor" in of_shards


def test_wide_residual_units(ranks: list[dict[str, Any]]) -> None:
    """Their backward needs the results of the last convolutions, or the means of all processes."""
    for result in taking_part(ranks, "units"):
        assert_equal(result["lean"], result["plain"])


def test_converted_models(ranks: list[dict[str, Any]]) -> None:
    """In either order of the conversions; and fully_shard takes converted parts one by one."""
    results = taking_part(ranks, "converted")
    if not results:
        pytest.skip("torchvision is not installed")
    for result in results:
        for way in ("converted", "converted last"):
            assert_equal(result[way], result["reference"])
        assert_equal(result["shards of parts"], result["shards of the reference"])


def test_class_weights(ranks: list[dict[str, Any]]) -> None:
    """They are those that one process counts, exactly."""
    expected = median_frequency_weights(DrawnOnce(6, seed=0), 0, lambda done: None)
    assert len(set(expected)) > 3
    assert taking_part(ranks, "class weights") == [(expected, [4, 6])] * 4
