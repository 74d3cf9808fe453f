"""Mistakes in conv3x3_tensor.cuh: 3x3 convolutions on tensor cores."""

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

TENSOR_CONVOLUTION = Case("bn_relu_conv3x3", (1, 40, 9, 17, 72, 1), "float16")

MUTATIONS = [
    Mutation(
        "tensor frame without its last row",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "conv3x3_tensor.cuh",
        "i < kPixels; i += Tile::kThreads",
        "i < kPixels - kWidth; i += Tile::kThreads",
        r"read of shared\[\d+\], which was never written",
    ),
    Mutation(
        "tensor pixels beside the map not zero",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "conv3x3_tensor.cuh",
        "if (at.number < 0 || c >= source.channels())",
        "if (c >= source.channels())",
        WRONG,
    ),
    Mutation(
        "tensor tap off by a column",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "conv3x3_tensor.cuh",
        "next(left[tap % 3], step)",
        "next(left[(tap + 1) % 3], step)",
        WRONG,
    ),
    Mutation(
        "tensor taps not reversed in the backward",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_data",
        "conv3x3_tensor.cuh",
        "reversed ? 8 - tap : tap",
        "tap",
        WRONG,
    ),
    Mutation(
        "tensor weights of outputs that do not exist",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "conv3x3_tensor.cuh",
        "index + rows < weights.indices && depth < weights.depth",
        "depth < weights.depth",
        r"illegal read of \d+ bytes: .*weight",
    ),
    Mutation(
        "tensor weights of gradients that do not exist",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_data",
        "conv3x3_tensor.cuh",
        "index < weights.indices && depth + rows < weights.depth",
        "index < weights.indices",
        r"illegal read of \d+ bytes: .*weight",
    ),
    Mutation(
        "tensor stage computed with before it is there",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "conv3x3_tensor.cuh",
        "        wait_for_copies_before_last();\n        __syncthreads();\n",
        "        wait_for_copies_before_last();\n",
        RACE + "|cp.async not waited for",
    ),
    Mutation(
        "tensor stage not waited for",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "conv3x3_tensor.cuh",
        "        wait_for_copies_before_last();\n        __syncthreads();\n",
        "        __syncthreads();\n",
        r"cp\.async not waited for|race: shared",
    ),
    Mutation(
        "tensor slice filled while it is computed with",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_data",
        "conv3x3_tensor.cuh",
        "raw, memory.values[now ? 0 : 1]",
        "raw, memory.values[now ? 1 : 0]",
        RACE,
    ),
    Mutation(
        "tensor memory reused before all are done",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_data",
        "conv3x3_tensor.cuh",
        "    now ^= sizeof(typename Frame::Slice);\n  }\n  __syncthreads();\n",
        "    now ^= sizeof(typename Frame::Slice);\n  }\n",
        RACE,
    ),
]


@of_each_case(MUTATIONS)
def test_as_they_are(case: Case) -> None:
    check_as_it_is(case)


@of_each_mutation(MUTATIONS)
def test_mistake_is_found(mutation: Mutation, tmp_path: Path) -> None:
    check_mistake_is_found(mutation, tmp_path)
