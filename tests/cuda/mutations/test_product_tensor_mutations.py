"""Mistakes in operand.cuh and product_tensor.cuh: copies past the registers, tensor cores."""

from pathlib import Path

from support.kernel_mutations import (
    WRONG,
    Case,
    Mutation,
    check_as_it_is,
    check_mistake_is_found,
    of_each_case,
    of_each_mutation,
)

TENSOR_PRODUCT = Case("bn_relu_conv1x1", (1, 40, 9, 15, 72), "float16")
TENSOR_TWO_PASSES = Case("bn_relu_conv1x1", (1, 40, 9, 15, 136), "float16")
TENSOR_STATISTICS = Case("product_statistics", (1, 24, 9, 15, 40), "float16")

MUTATIONS = [
    Mutation(
        "copies not waited for",
        TENSOR_PRODUCT,
        "bn_relu_conv1x1_forward",
        "operand.cuh",
        "      wait_for_copies();\n",
        "",
        r"cp\.async not waited for",
    ),
    Mutation(
        "lanes exchanged at the wrong distance",
        TENSOR_PRODUCT,
        "bn_relu_conv1x1_forward",
        "product_tensor.cuh",
        "__shfl_xor_sync(0xffffffffu, upper ? low : high, bit)",
        "__shfl_xor_sync(0xffffffffu, upper ? low : high, 3 - bit)",
        WRONG,
    ),
    Mutation(
        "lanes outside of the shuffle's mask",
        TENSOR_STATISTICS,
        "bn_relu_conv1x1_forward",
        "product_tensor.cuh",
        "__shfl_xor_sync(0xffffffffu, value, lanes)",
        "__shfl_xor_sync(0x0fffffffu, value, lanes)",
        r"lane is not in its own member mask 0x0?fffffff",
    ),
    Mutation(
        "sum over too few lanes",
        TENSOR_STATISTICS,
        "bn_relu_conv1x1_forward",
        "product_tensor.cuh",
        "for (int lanes = 4; lanes < 32; lanes *= 2)",
        "for (int lanes = 4; lanes < 16; lanes *= 2)",
        WRONG,
    ),
    Mutation(
        "chunks read where they were not written",
        TENSOR_TWO_PASSES,
        "bn_relu_conv1x1_data",
        "product_tensor.cuh",
        "shared_address(chunk(row, column / kWide));\n      keep",
        "shared_address(&chunks[row][column / kWide]);\n      keep",
        WRONG,
    ),
    Mutation(
        "factors of two tiles exchanged",
        TENSOR_TWO_PASSES,
        "bn_relu_conv1x1_weight",
        "product_tensor.cuh",
        "        first = {{all.r[0], all.r[1]}};\n        second = {{all.r[2], all.r[3]}};\n",
        "        first = {{all.r[0], all.r[2]}};\n        second = {{all.r[1], all.r[3]}};\n",
        WRONG,
    ),
]


@of_each_case(MUTATIONS)
def test_as_they_are(case: Case) -> None:
    check_as_it_is(case)


@of_each_mutation(MUTATIONS)
def test_mistake_is_found(mutation: Mutation, tmp_path: Path) -> None:
    check_mistake_is_found(mutation, tmp_path)
