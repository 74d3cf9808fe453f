"""Mistakes in channel_statistics.cu and statistics.cu."""

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

STATISTICS = Case("channel_statistics", (2, 36, 9, 11))
PRODUCT_STATISTICS = Case("product_statistics", (1, 24, 9, 15, 19))

MUTATIONS = [
    Mutation(
        "statistics merged without first barrier",
        STATISTICS,
        "channel_statistics",
        "channel_statistics.cu",
        "    __syncthreads();\n    const int added",
        "    const int added",
        RACE,
    ),
    Mutation(
        "statistics merged without second barrier",
        STATISTICS,
        "channel_statistics",
        "channel_statistics.cu",
        "thread]}, weights);\n    }\n    __syncthreads();\n",
        "thread]}, weights);\n    }\n",
        RACE,
    ),
    Mutation(
        "shared sum reused without barrier",
        STATISTICS,
        "statistics",
        "statistics.cu",
        "  const double sum = shared[0][threadIdx.x];\n  __syncthreads();\n",
        "  const double sum = shared[0][threadIdx.x];\n",
        RACE,
    ),
    Mutation(
        "last part counted as a whole one",
        PRODUCT_STATISTICS,
        "statistics",
        "statistics.cu",
        "return smaller(args.positions_per_part, args.positions - part * args.positions_per_part);",
        "return args.positions_per_part;",
        WRONG,
    ),
    Mutation(
        "rows beyond the last counted in the variance",
        PRODUCT_STATISTICS,
        "bn_relu_conv1x1_forward",
        "tile_results.cuh",
        "if (there(i)) values[j] += deviation * deviation;",
        "values[j] += deviation * deviation;",
        WRONG,
    ),
]


@of_each_case(MUTATIONS)
def test_as_they_are(case: Case) -> None:
    check_as_it_is(case)


@of_each_mutation(MUTATIONS)
def test_mistake_is_found(mutation: Mutation, tmp_path: Path) -> None:
    check_mistake_is_found(mutation, tmp_path)
