"""Mistakes in columns.cuh and bn_sums.cu: sums over a block, and over blocks."""

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

BN_RELU = Case("bn_relu", (2, 33, 7, 11))
MANY_PARTS = Case("bn_relu", (1, 64, 20, 30))
BN_RELU_MISALIGNED = Case("bn_relu", (2, 32, 7, 11), layout="channel_slice")

MUTATIONS = [
    Mutation(
        "sum over block without barrier",
        BN_RELU,
        "bn_relu",
        "columns.cuh",
        "    __syncthreads();\n    if (threadIdx.y < half) {",
        "    if (threadIdx.y < half) {",
        RACE,
    ),
    Mutation(
        "bn sums without barrier",
        BN_RELU,
        "bn_sums",
        "bn_sums.cu",
        "    __syncthreads();\n    if (threadIdx.y < half) {",
        "    if (threadIdx.y < half) {",
        RACE,
    ),
    Mutation(
        "bn sums reuse shared memory without barrier",
        BN_RELU,
        "bn_sums",
        "bn_sums.cu",
        "      centred += centred_sums[threadIdx.y][threadIdx.x];\n    }\n    __syncthreads();\n",
        "      centred += centred_sums[threadIdx.y][threadIdx.x];\n    }\n",
        RACE,
    ),
    Mutation(
        "bn sums leave a part out",
        MANY_PARTS,
        "bn_sums",
        "bn_sums.cu",
        "part < args.parts; part += kSumParts",
        "part + 1 < args.parts; part += kSumParts",
        WRONG,
    ),
    Mutation(
        "block takes a pixel too many",
        BN_RELU,
        "bn_relu",
        "columns.cuh",
        "smaller(begin + columns.pixels_per_block, count)",
        "smaller(begin + columns.pixels_per_block, count + 1)",
        r"illegal read of 4 bytes: .*input",
    ),
    Mutation(
        "partial sum not written",
        BN_RELU,
        "bn_relu",
        "columns.cuh",
        "    partial[channels + i] = centred.values[i];\n",
        "",
        r"not written: partial sums",
    ),
    Mutation(
        "threads leave before a barrier",
        BN_RELU,
        "bn_relu",
        "columns.cuh",
        "  sum_over_block(masked, shared);\n",
        "  if (c >= channels) return;\n  sum_over_block(masked, shared);\n",
        r"divergent barrier: \d+ threads of the block have exited",
    ),
    Mutation(
        "wide accesses whatever the alignment",
        BN_RELU_MISALIGNED,
        "bn_relu",
        "bn_relu.cu",
        "  if (args.columns.wide)\n    bn_relu_forward<kWide>",
        "  if (true)\n    bn_relu_forward<kWide>",
        r"misaligned read of 16 bytes",
    ),
    Mutation(
        "gradient passes the relu everywhere",
        BN_RELU,
        "bn_relu",
        "element.cuh",
        "return y <= Real(0) ? Real(0) : grad;",
        "return grad;",
        WRONG,
    ),
]


@of_each_case(MUTATIONS)
def test_as_they_are(case: Case) -> None:
    check_as_it_is(case)


@of_each_mutation(MUTATIONS)
def test_mistake_is_found(mutation: Mutation, tmp_path: Path) -> None:
    check_mistake_is_found(mutation, tmp_path)
