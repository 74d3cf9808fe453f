"""bilinear.h: positions, weights and pixels of F.interpolate, by its formula."""

import math

import numpy as np
import pytest
from cpu.headers import Headers

#: Coarse and fine sizes: larger, equal, smaller, from a single position, no multiple.
SIZES = [(1, 1), (1, 7), (2, 4), (3, 7), (5, 5), (9, 4), (16, 64), (4, 1)]


def position(coarse: int, fine: int, i: int, align_corners: bool = False) -> tuple[int, int, float]:
    """What output position i reads: two positions and the weight of the second."""
    aligned = i * (coarse - 1) / max(fine - 1, 1)
    source = aligned if align_corners else max((i + 0.5) * coarse / fine - 0.5, 0.0)
    lower = min(math.floor(source), coarse - 1)
    return lower, min(lower + 1, coarse - 1), source - lower


def weights(coarse: int, fine: int, align_corners: bool = False) -> np.ndarray:
    """[fine, coarse]: what each position takes of each."""
    result = np.zeros((fine, coarse))
    for i in range(fine):
        lower, upper, weight = position(coarse, fine, i, align_corners)
        result[i, lower] += 1 - weight
        result[i, upper] += weight
    return result


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("coarse", "fine"), SIZES)
def test_axis(headers: Headers, coarse: int, fine: int, align_corners: bool) -> None:
    lower, upper = np.full((2, fine), -1, np.int64)
    weight = headers.empty(fine)
    headers.call("fill_axis", coarse, fine, align_corners, lower, upper, weight)
    # A position that is a whole number may be rounded to one below, with a weight of almost 1.
    assert ((0 <= lower) & (lower <= upper) & (upper < coarse) & (upper <= lower + 1)).all()
    actual = np.zeros((fine, coarse))
    np.add.at(actual, (np.arange(fine), lower), 1 - weight.astype(np.float64))
    np.add.at(actual, (np.arange(fine), upper), weight)
    headers.assert_near(actual, weights(coarse, fine, align_corners), terms=coarse)


@pytest.mark.parametrize(("height", "width"), [(9, 11), (3, 4), (1, 2), (12, 16)])
@pytest.mark.parametrize("channels", [1, 5, 17, 64])
def test_pixels(headers: Headers, channels: int, height: int, width: int) -> None:
    n, h, w = 2, 3, 4
    wide = headers.random(n, h, w, channels + 3)
    to = headers.empty(n, height, width, channels)
    headers.call("upsample_map", wide, n, h, w, channels, channels + 3, height, width, to)
    coarse = wide[..., :channels].astype(np.float64)
    expected = np.einsum("yi,xj,nijc->nyxc", weights(h, height), weights(w, width), coarse)
    headers.assert_near(to, expected, terms=4)


@pytest.mark.parametrize("count", [0, 1, 3, 16, 37])
def test_rows(headers: Headers, count: int) -> None:
    a, b, to = headers.random(count), headers.random(count, seed=1), headers.empty(count + 1)
    headers.call("blend_rows", count, a, b, 0.3, to)
    headers.assert_near(to[:count], 0.7 * a.astype(np.float64) + 0.3 * b)
    assert np.isnan(to[count])
    before = headers.random(count + 1, seed=2)
    to = before.copy()
    headers.call("add_scaled_row", count, 0.3, a, to)
    headers.assert_near(to[:count], before[:count].astype(np.float64) + 0.3 * a)
    assert to[count] == before[count]
