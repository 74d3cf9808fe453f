"""simd.h: vectors in memory, channels a vector at a time with a rest, relu and its mask."""

import numpy as np
import pytest
from cpu.headers import Headers


def counts(headers: Headers) -> range:
    """Numbers of channels with and without whole vectors and rests."""
    return range(3 * headers.call("lanes") + 2)


def test_vectors_have_the_width_of_the_instruction_set(headers: Headers) -> None:
    assert headers.call("lanes") * headers.dtype.itemsize in (16, 32, 64)


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_a_vector_lies_at_any_address(headers: Headers, offset: int) -> None:
    lanes = headers.call("lanes")
    numbers, to = headers.random(lanes + 8), headers.empty(lanes + 8)
    headers.call("copy_vector", numbers[offset:], to[offset + 1 :])
    assert np.array_equal(to[offset + 1 :][:lanes], numbers[offset:][:lanes])
    assert np.isnan(to[: offset + 1]).all() and np.isnan(to[offset + 1 + lanes :]).all()


def test_channels_are_visited_once(headers: Headers) -> None:
    lanes = headers.call("lanes")
    for channels in counts(headers):
        numbers, to = headers.random(channels + 1), headers.empty(channels + 1)
        widths = np.zeros(channels + 1, np.int64)
        headers.call("relu_channels", channels, numbers, to, widths)
        assert np.array_equal(to[:channels], np.maximum(numbers[:channels], 0)) and np.isnan(to[channels])
        whole = channels // lanes * lanes
        assert widths.tolist() == [lanes] * whole + [1] * (channels - whole) + [0]


#: What a relu finds at its edge.
EDGES = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-40, -1e-40, 1.5, -1.5]


def test_relu_lets_nan_through(headers: Headers) -> None:
    numbers = np.resize(np.array(EDGES, headers.dtype), 40)
    to, widths = headers.empty(40), np.zeros(40, np.int64)
    headers.call("relu_channels", 40, numbers, to, widths)
    expected = [x if np.isnan(x) or x > 0 else 0.0 for x in numbers]
    assert np.array_equal(to, np.array(expected, headers.dtype), equal_nan=True)


def test_mask_passes_where_the_output_is_positive_or_nan(headers: Headers) -> None:
    for channels in counts(headers):
        y, grad = np.resize(np.array(EDGES, headers.dtype), channels), headers.random(channels)
        to = headers.empty(channels)
        headers.call("relu_mask_channels", channels, y, grad, to)
        expected = [g if np.isnan(output) or output > 0 else 0.0 for output, g in zip(y, grad)]
        assert np.array_equal(to, np.array(expected, headers.dtype))


def test_smaller_and_round_up(headers: Headers) -> None:
    assert [headers.call("smaller_of", *pair) for pair in [(2, 3), (3, 2), (-1, 0), (4, 4)]] == [2, 2, -1, 4]
    assert [headers.call("rounded_up", *pair) for pair in [(0, 8), (1, 8), (8, 8), (9, 8), (7, 3)]] == [0, 8, 8, 16, 9]
