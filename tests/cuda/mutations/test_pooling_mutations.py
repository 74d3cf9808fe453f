"""Mistakes in pooling."""

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

AVGPOOL = Case("bn_relu_avgpool2", (1, 17, 5, 9))
MAXPOOL_TIES = Case("bn_relu_maxpool", method="test_tie_goes_to_the_first")
MAXPOOL = Case("bn_relu_maxpool", (1, 9, 9, 11))

MUTATIONS = [
    Mutation(
        "average pooling leaves the odd row",
        AVGPOOL,
        "bn_relu_avgpool2",
        "bn_relu_avgpool2.cu",
        "        if (has_below) store<width>(to + below_grad, zeros);\n",
        "",
        r"not written: grad_input",
    ),
    Mutation(
        "walk forgets to begin a row",
        AVGPOOL,
        "bn_relu_avgpool2",
        "grid_walk.cuh",
        "      column -= columns_;\n      ++row;\n",
        "      column -= columns_;\n",
        r"race: (output|grad_input)|not written: (output|grad_input)",
    ),
    Mutation(
        "maximum tie goes to the last",
        MAXPOOL_TIES,
        "bn_relu_maxpool",
        "bn_relu_maxpool.cu",
        "return y > maximum || y != y;",
        "return y >= maximum || y != y;",
        WRONG,
    ),
    Mutation(
        "padding of the maximum not clamped",
        MAXPOOL,
        "bn_relu_maxpool",
        "bn_relu_maxpool.cu",
        "const int64 y = clamped(row + tap / 3 - 1, args.input.h),",
        "const int64 y = row + tap / 3 - 1,",
        r"illegal read of \d+ bytes: .*input",
    ),
]


@of_each_case(MUTATIONS)
def test_as_they_are(case: Case) -> None:
    check_as_it_is(case)


@of_each_mutation(MUTATIONS)
def test_mistake_is_found(mutation: Mutation, tmp_path: Path) -> None:
    check_mistake_is_found(mutation, tmp_path)
