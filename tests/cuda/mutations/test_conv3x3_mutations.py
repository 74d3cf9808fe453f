"""Mistakes in patches.cuh, patch_product_simt.cuh and patch_results.cuh: 3x3 convolutions."""

from pathlib import Path

from support.kernel_mutations import (
    RACE,
    WRONG,
    Case,
    Mutation,
    check_as_it_is,
    check_mistake_is_found,
    of_each_case,
    of_each_mutation,
)

CONVOLUTION = Case("bn_relu_conv3x3", (1, 19, 15, 63, 33, 1))
SMALL_CONVOLUTION = Case("bn_relu_conv3x3", (1, 19, 9, 9, 20, 1))
STRIP = Case("conv3x3_strip", (1, 3, 11, 257, 5), "float64")

MUTATIONS = [
    Mutation(
        "frame of a patch without its last row",
        CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "patch_product_simt.cuh",
        "pixels[i] = at < kHalo ?",
        "pixels[i] = at < kHalo - kHaloWidth ?",
        WRONG,
    ),
    Mutation(
        "pixels beside the map not zero",
        CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "patch_product_simt.cuh",
        "= pixels[i] >= 0 && there ? values",
        "= there ? values",
        WRONG,
    ),
    Mutation(
        "end of a row continued on the next",
        CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "patches.cuh",
        " || map_column < 0 || map_column >= w) return -1;",
        ") return -1;",
        WRONG + r"|illegal read of \d+ bytes: .*input",
    ),
    Mutation(
        "map of a strip read from its first row",
        STRIP,
        "bn_relu_conv3x3_forward",
        "patches.cuh",
        "const int64 map_row = row(i) + first_row;",
        "const int64 map_row = row(i);",
        WRONG,
    ),
    Mutation(
        "taps of a row in the wrong order",
        CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "patch_product_simt.cuh",
        "values[i + v] * weights[j]",
        "values[i + 2 - v] * weights[j]",
        WRONG,
    ),
    Mutation(
        "taps not reversed in the backward",
        CONVOLUTION,
        "bn_relu_conv3x3_data",
        "patch_product_simt.cuh",
        "[8 - tap(number)]",
        "[tap(number)]",
        WRONG,
    ),
    Mutation(
        "slice computed with before it is there",
        CONVOLUTION,
        "bn_relu_conv3x3_data",
        "patch_product_simt.cuh",
        "        weight_chunks.commit(weight, memory.slices[now]);\n      }\n      __syncthreads();\n",
        "        weight_chunks.commit(weight, memory.slices[now]);\n      }\n",
        RACE,
    ),
    Mutation(
        "slice filled while it is computed with",
        CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "patch_product_simt.cuh",
        "pixel_chunks.commit(source, next, memory.slices[now]);",
        "pixel_chunks.commit(source, next, memory.slices[now ^ 1]);",
        RACE,
    ),
    Mutation(
        "sums of the splits read before they are there",
        SMALL_CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "patch_product_simt.cuh",
        "        __syncthreads();\n        if (to == split()) {",
        "        if (to == split()) {",
        RACE,
    ),
    Mutation(
        "channels of a split left out",
        SMALL_CONVOLUTION,
        "bn_relu_conv3x3_data",
        "patch_product_simt.cuh",
        "for (int from = 1; from < splits; ++from)",
        "for (int from = 2; from < splits; ++from)",
        WRONG,
    ),
    Mutation(
        "pixel beyond the patch stored",
        CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "patch_results.cuh",
        "const bool there = patch.inside(at.i, at.j);",
        "const bool there = true;",
        r"illegal write of \d+ bytes|race: output",
    ),
    Mutation(
        "pixels beyond the patch counted in the variance",
        STRIP,
        "bn_relu_conv3x3_forward",
        "tile_results.cuh",
        "if (there(i)) values[j] += deviation * deviation;",
        "values[j] += deviation * deviation;",
        WRONG,
    ),
    Mutation(
        "patches counted as whole ones",
        STRIP,
        "bn_relu_conv3x3_forward",
        "patch_results.cuh",
        "args.counts[part] = count;",
        "args.counts[part] = Patch::kPixels;",
        WRONG,
    ),
    Mutation(
        "sums of a gradient take pixels beyond the patch",
        CONVOLUTION,
        "bn_relu_conv3x3_data",
        "patch_results.cuh",
        "if (!patch.inside(at.i, at.j) || left <= 0) continue;\n        const int64 input",
        "if (left <= 0) continue;\n        const int64 input",
        r"illegal (read|write) of \d+ bytes|race: grad_input",
    ),
]


@of_each_case(MUTATIONS)
def test_as_they_are(case: Case) -> None:
    check_as_it_is(case)


@of_each_mutation(MUTATIONS)
def test_mistake_is_found(mutation: Mutation, tmp_path: Path) -> None:
    check_mistake_is_found(mutation, tmp_path)
