"""Mistakes in one_pass*.cuh: both gradients of a 1x1 convolution."""

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

ONE_PASS = Case("bn_relu_conv1x1", (1, 40, 9, 15, 72))
TENSOR_ONE_PASS = Case("bn_relu_conv1x1", (1, 40, 9, 29, 72), "float16")
LONG_PRODUCT = Case("bn_relu_conv1x1", (2, 33, 37, 11, 19))

MUTATIONS = [
    Mutation(
        "one pass multiplies y before it is there",
        ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass_simt.cuh",
        "        __syncthreads();\n        // Where a compiler",
        "        // Where a compiler",
        RACE,
    ),
    Mutation(
        "one pass overwrites y while it is read",
        ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass_simt.cuh",
        "        multiply_by_y(i * kSide, memory);\n        __syncthreads();\n",
        "        multiply_by_y(i * kSide, memory);\n",
        RACE,
    ),
    Mutation(
        "one pass leaves the pixels of the second half out",
        ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass_simt.cuh",
        "multiply_by_y(i * kSide, memory)",
        "multiply_by_y(0, memory)",
        WRONG,
    ),
    Mutation(
        "slice of the weight filled while it is computed with",
        ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass_simt.cuh",
        "next.put(memory.weight[now], thread);",
        "next.put(memory.weight[now ^ 1], thread);",
        RACE,
    ),
    Mutation(
        "sums of a group of warps left out",
        ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass.cuh",
        "masked_sum += masked[i][thread];",
        "masked_sum += masked[0][thread];",
        WRONG,
    ),
    Mutation(
        "one pass goes beyond its part",
        LONG_PRODUCT,
        "bn_relu_conv1x1_backward",
        "one_pass.cuh",
        "smaller(args.pixels_per_part, args.input.pixels() - begin)",
        "(args.input.pixels() - begin)",
        r"race: grad_input",
    ),
    Mutation(
        "one pass on tensor cores multiplies y before it is there",
        TENSOR_ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass_tensor.cuh",
        "      maps.move(args, kPixels - 32);\n      __syncthreads();\n",
        "      maps.move(args, kPixels - 32);\n",
        RACE,
    ),
    Mutation(
        "one pass fills the tile that is being computed with",
        TENSOR_ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass_tensor.cuh",
        "store_chunk(place(now ^ 1, i), chunk, there);",
        "store_chunk(place(now, i), chunk, there);",
        RACE,
    ),
    Mutation(
        "columns of the weight not permuted",
        TENSOR_ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass_tensor.cuh",
        "n / 2 * kPiece + n % 2;",
        "n;",
        WRONG,
    ),
    Mutation(
        "weight overwritten before all have read it",
        TENSOR_ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass_tensor.cuh",
        "          weight[step][tile].r[half] = both.word;\n        }\n    __syncthreads();\n",
        "          weight[step][tile].r[half] = both.word;\n        }\n",
        RACE,
    ),
]


@of_each_case(MUTATIONS)
def test_as_they_are(case: Case) -> None:
    check_as_it_is(case)


@of_each_mutation(MUTATIONS)
def test_mistake_is_found(mutation: Mutation, tmp_path: Path) -> None:
    check_mistake_is_found(mutation, tmp_path)
