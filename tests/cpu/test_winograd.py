"""winograd.h: tiles, the five transforms against their matrices, and convolutions of them against nine taps.

Tiles have 2 x 2 or 4 x 4 pixels.
"""

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from cpu.headers import Headers


class Matrices(NamedTuple):
    """Those of F(m, 3): B^T, G and A^T."""

    input: np.ndarray
    weight: np.ndarray
    output: np.ndarray


def interpolated(results: int, points: list[float]) -> Matrices:
    """Toom and Cook's construction: products of polynomials by their values at `points` and at infinity."""
    inputs = results + 2
    output = np.array([[*(p**i for p in points), float(i == results - 1)] for i in range(results)])
    input = np.zeros((inputs, inputs))
    weight = np.zeros((inputs, 3))
    for j, p in enumerate(points):
        others = points[:j] + points[j + 1 :]
        input[j, : inputs - 1] = np.poly(others)[::-1]
        weight[j] = np.array([1, p, p * p]) / np.prod([p - q for q in others])
    input[-1] = np.poly(points)[::-1]
    weight[-1, 2] = 1
    return Matrices(input, weight, output)


MATRICES = {
    # As Lavin and Gray scale them (CVPR 2016).
    2: Matrices(
        np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
        np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
        np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
    ),
    4: interpolated(4, [0, 5 / 8, -5 / 8, 3 / 2, -3 / 2]),
}

#: Images, height, width, dilation: even, odd, smaller than a tile, and smaller than the dilation.
GRIDS = [(1, 2, 2, 1), (2, 4, 6, 1), (1, 5, 7, 1), (1, 1, 1, 1), (2, 7, 9, 2), (1, 3, 10, 4), (1, 11, 13, 3)]
#: Those of the transforms: a vector and a rest in every instruction set.
CHANNELS = 19


@pytest.fixture(params=MATRICES, ids=lambda side: f"{side}x{side}")
def side(request: pytest.FixtureRequest) -> int:
    """Rows and columns of a tile."""
    return request.param


def terms(matrix: np.ndarray) -> int:
    """Size of what is summed by a matrix in both directions, for inputs of about 1."""
    return int(1.75 * np.abs(matrix).sum(axis=1).max() ** 2)


def all_tiles(headers: Headers, grid: tuple[int, int, int, int], side: int) -> np.ndarray:
    """[image, y, x] of the first pixel of each tile."""
    count = headers.call("tile_count", *grid, side)
    tiles = np.full((count, 3), -1, np.int64)
    headers.call("first_pixels", *grid, side, 0, count, tiles)
    return tiles


def taps(rows: int, columns: int, dilation: int, begin: int) -> list[tuple[int, int]]:
    """Offsets from a tile's first pixel."""
    return [((i + begin) * dilation, (j + begin) * dilation) for i in range(rows) for j in range(columns)]


def gathered(x: np.ndarray, tiles: np.ndarray, offsets: list[tuple[int, int]]) -> np.ndarray:
    """Pixels of x [n, h, w, c] at the tiles' first pixels plus offsets: [tiles, offsets, c], zero outside."""
    result = np.zeros((len(tiles), len(offsets), x.shape[3]))
    for t, (image, y, x0) in enumerate(tiles):
        for k, (dy, dx) in enumerate(offsets):
            if 0 <= y + dy < x.shape[1] and 0 <= x0 + dx < x.shape[2]:
                result[t, k] = x[image, y + dy, x0 + dx]
    return result


def transformed(left: np.ndarray, x: np.ndarray) -> np.ndarray:
    """left x left^T for square x along axis 1: [tiles, k * k, c] to [points, tiles, c], as many as `left` has rows."""
    k = left.shape[1]
    squares = x.reshape(len(x), k, k, -1)
    return np.einsum("ia,jb,tabc->ijtc", left, left, squares).reshape(left.shape[0] ** 2, len(x), -1)


def norm_vectors(headers: Headers, channels: int) -> list[np.ndarray]:
    return [headers.random(channels, seed=seed) for seed in (1, 2, 3)]


def input_points(headers, wide, channels, vectors, grid, side, first_row=0) -> np.ndarray:
    images, height, _, dilation = grid
    points = headers.empty((side + 2) ** 2, headers.call("tile_count", *grid, side), channels)
    sizes = (images, *wide.shape[1:3], channels, wide.shape[3])
    headers.call("input_points", wide, *sizes, *vectors, first_row, height, dilation, side, points)
    return points


def gradient_points(headers, grad, x, channels, vectors, grid, side, first_row=0) -> np.ndarray:
    images, height, _, dilation = grid
    points = headers.empty((side + 2) ** 2, headers.call("tile_count", *grid, side), channels)
    sizes = (images, *grad.shape[1:3], channels, grad.shape[3])
    headers.call("gradient_points", grad, x, *sizes, *vectors, first_row, height, dilation, side, points)
    return points


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_tiles_cover_every_pixel_once(headers: Headers, grid: tuple[int, int, int, int], side: int) -> None:
    images, height, width, dilation = grid
    covered = np.zeros((images, height, width), int)
    for (image, y, x), (dy, dx) in itertools.product(all_tiles(headers, grid, side), taps(side, side, dilation, 0)):
        if y + dy < height and x + dx < width:
            covered[image, y + dy, x + dx] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_tiles_of_any_part_are_those_of_the_whole(headers: Headers, grid: tuple[int, int, int, int], side: int) -> None:
    tiles = all_tiles(headers, grid, side)
    for part in (1, 2, 5):
        for first in range(0, len(tiles), part):
            count = min(part, len(tiles) - first)
            found = np.full((count + 1, 3), -1, np.int64)
            headers.call("first_pixels", *grid, side, first, count, found)
            assert np.array_equal(found[:count], tiles[first : first + count]) and (found[count] == -1).all()


@pytest.mark.parametrize("first_row", [0, 3], ids=["whole map", "strip"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_input(headers: Headers, grid: tuple[int, int, int, int], side: int, first_row: int) -> None:
    """A strip's tiles read the rows above and below it; pixels outside the map are zero, not normalised zeros."""
    images, height, width, dilation = grid
    wide = headers.random(images, height + 2 * first_row, width, CHANNELS + 5)
    vectors = mean, scale, shift = norm_vectors(headers, CHANNELS)
    actual = input_points(headers, wide, CHANNELS, vectors, grid, side, first_row)
    y = np.maximum((wide[..., :CHANNELS].astype(np.float64) - mean) * scale + shift, 0)
    tiles = all_tiles(headers, grid, side) + [0, first_row, 0]
    matrix = MATRICES[side].input
    expected = transformed(matrix, gathered(y, tiles, taps(side + 2, side + 2, dilation, -1)))
    headers.assert_near(actual, expected, terms(matrix))


@pytest.mark.parametrize("corrected", [False, True], ids=["as it is", "corrected"])
@pytest.mark.parametrize("first_row", [0, 3], ids=["whole map", "strip"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_gradient(
    headers: Headers, grid: tuple[int, int, int, int], side: int, first_row: int, corrected: bool
) -> None:
    """Rows of the map that are not the strip's belong to another one: zero."""
    images, height, width, dilation = grid
    shape = images, height + 2 * first_row, width, CHANNELS + 5
    grad, x = headers.random(*shape), headers.random(*shape, seed=4)
    vectors = mean, constant, slope = norm_vectors(headers, CHANNELS)
    actual = gradient_points(headers, grad, x if corrected else None, CHANNELS, vectors, grid, side, first_row)
    g = grad[..., :CHANNELS].astype(np.float64)
    if corrected:
        g = g - constant - slope * (x[..., :CHANNELS].astype(np.float64) - mean)
    g = g[:, first_row : first_row + height]
    matrix = MATRICES[side].output.T
    expected = transformed(matrix, gathered(g, all_tiles(headers, grid, side), taps(side, side, dilation, 0)))
    headers.assert_near(actual, expected, terms(matrix))


def test_output(headers: Headers, side: int) -> None:
    points, to = headers.random((side + 2) ** 2, 3, CHANNELS), headers.empty(3, side * side, CHANNELS)
    headers.call("output_pixels", points, 3, CHANNELS, side, to)
    matrix = MATRICES[side].output
    expected = transformed(matrix, points.astype(np.float64).transpose(1, 0, 2)).transpose(1, 0, 2)
    headers.assert_near(to, expected, terms(matrix))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("count", "columns"), [(1, 8), (8, 8), (13, 16), (32, 32), (17, 32)])
def test_weights(headers: Headers, count: int, columns: int, side: int, mirrored: bool) -> None:
    weight, to = headers.random(count, 2, 9), headers.empty((side + 2) ** 2, columns)
    headers.call("weight_points", weight, 18, count, columns, mirrored, side, to)
    filters = np.zeros((columns, 9))
    filters[:count] = weight[:, 0, ::-1] if mirrored else weight[:, 0]
    expected = transformed(MATRICES[side].weight, filters[:, :, None])[:, :, 0]
    # Rounded once.
    assert np.array_equal(to, expected.astype(headers.dtype)) or headers.dtype == np.float64
    headers.assert_near(to, expected)


def test_weight_gradient(headers: Headers, side: int) -> None:
    points, grad = np.random.default_rng(0).uniform(-1, 1, (side + 2) ** 2), np.full(9, np.nan)
    headers.call("weight_gradient", points, side, grad)
    matrix = MATRICES[side].weight
    np.testing.assert_allclose(grad, (matrix.T @ points.reshape(side + 2, -1) @ matrix).ravel(), atol=1e-14)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_convolution_is_a_sum_over_nine_taps(headers: Headers, grid: tuple[int, int, int, int], side: int) -> None:
    images, height, width, dilation = grid
    inputs, outputs = CHANNELS, 8
    x, vectors = headers.random(images, height, width, inputs), norm_vectors(headers, inputs)
    weight = headers.random(outputs, inputs, 9, seed=5)
    points = input_points(headers, x, inputs, vectors, grid, side)
    packed = headers.empty(inputs, (side + 2) ** 2, outputs)
    for c in range(inputs):
        headers.call("weight_points", weight[:, c:], inputs * 9, outputs, outputs, False, side, packed[c])
    products = np.ascontiguousarray(np.einsum("itc,cik->itk", points, packed))
    pixels = headers.empty(points.shape[1], side * side, outputs)
    headers.call("output_pixels", products, points.shape[1], outputs, side, pixels)

    y = np.maximum((x.astype(np.float64) - vectors[0]) * vectors[1] + vectors[2], 0)
    tiles = all_tiles(headers, grid, side)
    for t, (image, top, left) in enumerate(tiles):
        for i, (dy, dx) in enumerate(taps(side, side, dilation, 0)):
            if top + dy < height and left + dx < width:
                pixel = np.array([[image, top + dy, left + dx]])
                seen = gathered(y, pixel, taps(3, 3, dilation, -1))[0]
                headers.assert_near(pixels[t, i], np.einsum("pc,kcp->k", seen, weight), terms=9 * inputs)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_weight_gradient_is_a_sum_over_pixels(headers: Headers, grid: tuple[int, int, int, int], side: int) -> None:
    images, height, width, dilation = grid
    inputs, outputs = 3, 2
    x, vectors = headers.random(images, height, width, inputs), norm_vectors(headers, inputs)
    grad = headers.random(images, height, width, outputs, seed=6)
    points = input_points(headers, x, inputs, vectors, grid, side)
    blended = gradient_points(headers, grad, None, outputs, norm_vectors(headers, outputs), grid, side)
    sums = np.einsum("itc,itk->kci", points.astype(np.float64), blended.astype(np.float64))

    y = np.maximum((x.astype(np.float64) - vectors[0]) * vectors[1] + vectors[2], 0)
    every_pixel = np.array(list(np.ndindex(images, height, width)))
    seen = gathered(y, every_pixel, taps(3, 3, dilation, -1))
    expected = np.einsum("tk,tpc->kcp", grad.reshape(-1, outputs).astype(np.float64), seen)
    for k, c in np.ndindex(outputs, inputs):
        actual = np.full(9, np.nan)
        headers.call("weight_gradient", np.ascontiguousarray(sums[k, c]), side, actual)
        headers.assert_near(actual, expected[k, c], terms=9 * images * height * width)


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ((1, 64, 128, 1, 128, 32), 4),
        ((2, 256, 512, 1, 512, 256), 2),  # large weights
        ((1, 8, 8, 1, 128, 32), 2),  # few tiles
        ((1, 64, 128, 64, 128, 32), 2),  # one or two pixels of a phase
    ],
    ids=str,
)
def test_chosen_tiles(headers: Headers, sizes: tuple[int, ...], side: int) -> None:
    """Images, height, width, dilation, input and output channels."""
    assert headers.call("chosen_side", *sizes) == side


def test_tiles_of_an_image_are_the_same_in_any_batch(headers: Headers) -> None:
    """The two kinds round in different ways, and scores must not depend on the batch."""
    sides = set()
    for size in itertools.product((1, 4, 5, 8, 16, 33), (4, 8, 17), (1, 2, 6)):
        of_batches = {headers.call("chosen_side", images, *size, 128, 32) for images in (1, 2, 3, 8, 100)}
        assert len(of_batches) == 1, size
        sides |= of_batches
    assert sides == {2, 4}
