"""Mistakes in prepare_weights.cu."""

from pathlib import Path

from support.kernel_mutations import (
    NOT_EQUAL,
    Case,
    Mutation,
    check_as_it_is,
    check_mistake_is_found,
    of_each_case,
    of_each_mutation,
)

PREPARED = Case("prepared_weights", method="test_every_form")
PREPARED_HALF = Case("prepared_weights", dtype="float16", method="test_every_form")
PREPARED_PARTS = Case("prepared_weights", method="test_some_input_channels")

MUTATIONS = [
    Mutation(
        "prepared weight's padding not zero",
        PREPARED,
        "prepare_weights",
        "prepare_weights.cu",
        "inside ? converted(weight, from + tap) : to_element(Real(0))",
        "converted(weight, from + tap)",
        rf"illegal read of \d+ bytes: .*weight|{NOT_EQUAL}",
    ),
    Mutation(
        "prepared weights in the wrong order",
        PREPARED,
        "prepare_weights",
        "prepare_weights.cu",
        "form == WeightForm::forward ? columns : rows * columns",
        "form == WeightForm::backward ? columns : rows * columns",
        rf"illegal write of \d+ bytes|race|{NOT_EQUAL}",
    ),
    Mutation(
        "prepared weight with a pair too many",
        PREPARED,
        "prepare_weights",
        "prepare_weights.cu",
        "if (pair >= rows * columns) return;",
        "if (pair > rows * columns) return;",
        r"race: prepared weight\[\d+\] is written here and was written|illegal write",
    ),
    Mutation(
        "prepared weight's first block given to the one before",
        PREPARED,
        "prepare_weights",
        "prepare_weights.cu",
        ".first_block <= block",
        ".first_block < block",
        rf"not written: prepared weight|illegal \w+ of \d+ bytes|race|{NOT_EQUAL}",
    ),
    Mutation(
        "prepared weights read in the maps' type",
        PREPARED_HALF,
        "prepare_weights",
        "prepare_weights.cu",
        "if (weight.real) return",
        "if (false) return",
        NOT_EQUAL,
    ),
    Mutation(
        "prepared weight's rows side by side",
        PREPARED_PARTS,
        "prepare_weights",
        "prepare_weights.cu",
        "row * weight.source_stride",
        "row * weight.channels * taps",
        rf"illegal read of \d+ bytes: .*weight|{NOT_EQUAL}",
    ),
]


@of_each_case(MUTATIONS)
def test_as_they_are(case: Case) -> None:
    check_as_it_is(case)


@of_each_mutation(MUTATIONS)
def test_mistake_is_found(mutation: Mutation, tmp_path: Path) -> None:
    check_mistake_is_found(mutation, tmp_path)
