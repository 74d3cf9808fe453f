"""Mistakes in conv3x3_weight_*.cuh: the weight gradient of 3x3 convolutions."""

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

WEIGHT = Case("bn_relu_conv3x3", (1, 40, 17, 33, 40, 1))
TENSOR_WEIGHT = Case("bn_relu_conv3x3", (1, 40, 17, 33, 40, 1), "float16")
TENSOR_WEIGHT_PARTS = Case("bn_relu_conv3x3", (1, 8, 24, 40, 8, 1), "float16")
SMALL_STRIP = Case("conv3x3_strip", (1, 3, 11, 17, 5), "float64")
TENSOR_STRIP = Case("conv3x3_strip", (2, 16, 11, 6, 24), "float16")

MUTATIONS = [
    Mutation(
        "weight gradient from a frame without its last row",
        WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_simt.cuh",
        "p < kFramePixels; p += kDown",
        "p < kFramePixels - kFrameWidth; p += kDown",
        RACE,
    ),
    Mutation(
        "weight gradient from a frame that begins a row too low",
        TENSOR_WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_maps.cuh",
        "y(patch.row(-1) +",
        "y(patch.row(0) +",
        WRONG,
    ),
    Mutation(
        "weight gradient of the taps of a row in the wrong order",
        WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_simt.cuh",
        "window[(x + v) % 4][u]",
        "window[(x + 2 - v) % 4][u]",
        WRONG,
    ),
    Mutation(
        "weight gradient with rows of taps in the wrong order",
        TENSOR_WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_tensor.cuh",
        "window[(row + u) % 3], grad[n]",
        "window[(row + 2 - u) % 3], grad[n]",
        WRONG,
    ),
    Mutation(
        "weight gradient from columns off by one",
        TENSOR_WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_tensor.cuh",
        "const int column = tap_column() + lane() % 8",
        "const int column = 2 - tap_column() + lane() % 8",
        WRONG,
    ),
    Mutation(
        "weight gradient takes pixels beside the map",
        WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_simt.cuh",
        "inside ? rectified(value) : Real(0)",
        "rectified(value)",
        WRONG,
    ),
    Mutation(
        "weight gradient corrects pixels beyond the strip",
        SMALL_STRIP,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_simt.cuh",
        "inside ? result : Real(0)",
        "result",
        WRONG,
    ),
    Mutation(
        "weight gradient on tensor cores takes pixels beside the map",
        TENSOR_WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_tensor.cuh",
        "if (raw.outside >> i & 1u) at(to, frame_place",
        "if (false) at(to, frame_place",
        WRONG,
    ),
    Mutation(
        "weight gradient on tensor cores corrects pixels beyond the strip",
        TENSOR_STRIP,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_tensor.cuh",
        "raw.outside >> i & 1u) at(to, grad_place",
        "false) at(to, grad_place",
        WRONG,
    ),
    Mutation(
        "weight gradient fills a patch while it is computed with",
        WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_simt.cuh",
        "      multiply();\n      __syncthreads();\n",
        "      multiply();\n",
        RACE,
    ),
    Mutation(
        "weight gradient computes with a patch before it is there",
        WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_simt.cuh",
        "      fill(patch);\n      __syncthreads();\n",
        "      fill(patch);\n",
        RACE,
    ),
    Mutation(
        "weight gradient on tensor cores without barrier between patches",
        TENSOR_WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_tensor.cuh",
        "      __syncthreads();\n      now ^= 1;\n",
        "      now ^= 1;\n",
        RACE,
    ),
    Mutation(
        "weight gradient on tensor cores fills the patch that is computed with",
        TENSOR_WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_tensor.cuh",
        "put(frame, memory.y[now ^ 1][0]);",
        "put(frame, memory.y[now][0]);",
        RACE,
    ),
    Mutation(
        "weight gradient of one half of the rows",
        WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_simt.cuh",
        "sum(u, i) + memory.sums[i][thread]",
        "sum(u, i)",
        WRONG,
    ),
    Mutation(
        "weight gradient of a half read before it is there",
        WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_simt.cuh",
        "memory.sums[i][thread] = sum(u, i);\n      }\n      __syncthreads();\n",
        "memory.sums[i][thread] = sum(u, i);\n      }\n",
        RACE,
    ),
    Mutation(
        "weight gradient of a part with a patch of the next",
        TENSOR_WEIGHT_PARTS,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_maps.cuh",
        "smaller(first + args.patches_per_part, args.patches.count)",
        "smaller(first + args.patches_per_part + 1, args.patches.count)",
        WRONG,
    ),
]


@of_each_case(MUTATIONS)
def test_as_they_are(case: Case) -> None:
    check_as_it_is(case)


@of_each_mutation(MUTATIONS)
def test_mistake_is_found(mutation: Mutation, tmp_path: Path) -> None:
    check_mistake_is_found(mutation, tmp_path)
