"""Mistakes in product.cuh: the loop over tiles of depth, sums over rows."""

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

PRODUCT = Case("bn_relu_conv1x1", (1, 40, 5, 7, 72))
TWO_PASSES = Case("bn_relu_conv1x1", (1, 40, 5, 7, 136))
MISALIGNED_VECTORS = Case("bn_relu_conv1x1", method="test_vectors_at_any_address")
LONG_PRODUCT = Case("bn_relu_conv1x1", (2, 33, 37, 11, 19))

MUTATIONS = [
    Mutation(
        "product without barrier in the loop",
        PRODUCT,
        "bn_relu_conv1x1_forward",
        "product.cuh",
        "    __syncthreads();\n    now ^= 1;\n",
        "    now ^= 1;\n",
        RACE,
    ),
    Mutation(
        "product without barrier before the loop",
        TWO_PASSES,
        "bn_relu_conv1x1_data",
        "product.cuh",
        "  right_operand.commit(0);\n  __syncthreads();\n",
        "  right_operand.commit(0);\n",
        RACE,
    ),
    Mutation(
        "product computes with the tile that is being filled",
        PRODUCT,
        "bn_relu_conv1x1_forward",
        "product.cuh",
        "tile.multiply(reader, now);",
        "tile.multiply(reader, now ^ 1);",
        RACE,
    ),
    Mutation(
        "product fills the tile that is being computed with",
        TWO_PASSES,
        "bn_relu_conv1x1_weight",
        "product.cuh",
        "left_operand.commit(now ^ 1);",
        "left_operand.commit(now);",
        RACE,
    ),
    Mutation(
        "column sums count a group twice",
        TWO_PASSES,
        "bn_relu_conv1x1_data",
        "product.cuh",
        "for (int i = 1; i < Tile::kGroups; ++i) sum += parts[i][column];",
        "for (int i = 0; i < Tile::kGroups; ++i) sum += parts[i][column];",
        WRONG,
    ),
    Mutation(
        "column sums read without barrier",
        TWO_PASSES,
        "bn_relu_conv1x1_data",
        "product.cuh",
        "    }\n    __syncthreads();\n  }\n\n  LADDERSEG_DEVICE Real total",
        "    }\n  }\n\n  LADDERSEG_DEVICE Real total",
        RACE,
    ),
    Mutation(
        "row beyond the output stored",
        PRODUCT,
        "bn_relu_conv1x1_forward",
        "bn_relu_conv1x1_forward.cu",
        "if (Tile::row(i) < rows && m < columns)",
        "if (Tile::row(i) <= rows && m < columns)",
        r"illegal write of \d+ bytes",
    ),
    Mutation(
        "row beyond the matrix fetched",
        TWO_PASSES,
        "bn_relu_conv1x1_weight",
        "operand.cuh",
        "row_ + i * kRowStep < source_.rows",
        "row_ + i * kRowStep <= source_.rows",
        r"illegal read of \d+ bytes: .*(grad|input)",
    ),
    Mutation(
        "vectors read 16 bytes at a time wherever they are",
        MISALIGNED_VECTORS,
        "bn_relu_conv1x1_forward",
        "sources.cuh",
        "  if constexpr (wide) {\n    if (column < columns) piece",
        "  if constexpr (true) {\n    if (column < columns) piece",
        r"misaligned read of 16 bytes",
    ),
    Mutation(
        "part of the weight gradient left out",
        LONG_PRODUCT,
        "sum_parts",
        "sum_parts.cu",
        "part < parts; ++part",
        "part + 1 < parts; ++part",
        WRONG,
    ),
]


@of_each_case(MUTATIONS)
def test_as_they_are(case: Case) -> None:
    check_as_it_is(case)


@of_each_mutation(MUTATIONS)
def test_mistake_is_found(mutation: Mutation, tmp_path: Path) -> None:
    check_mistake_is_found(mutation, tmp_path)
