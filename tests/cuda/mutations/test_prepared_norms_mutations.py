"""Mistakes in prepare_norms.cu."""

from pathlib import Path

from support.kernel_mutations import (
    Case,
    Mutation,
    check_as_it_is,
    check_mistake_is_found,
    of_each_case,
    of_each_mutation,
)

PREPARED = Case("prepared_norms")
NOT_EQUAL = r"of norm \d+: .* are off by more than 0"

MUTATIONS = [
    Mutation(
        "a channel too many",
        PREPARED,
        "prepare_norms",
        "prepare_norms.cu",
        "if (c >= channels) return;",
        "if (c > channels) return;",
        r"illegal \w+ of \d+ bytes|race",
    ),
    Mutation(
        "a norm's first block given to the one before",
        PREPARED,
        "prepare_norms",
        "prepare_norms.cu",
        ".first_block <= block",
        ".first_block < block",
        rf"not written: |illegal \w+ of \d+ bytes|race|{NOT_EQUAL}",
    ),
    Mutation(
        "the last norms of a launch not found",
        PREPARED,
        "prepare_norms",
        "prepare_norms.cu",
        "int step = 32;",
        "int step = 16;",
        rf"not written: |illegal \w+ of \d+ bytes|race|{NOT_EQUAL}",
    ),
    Mutation(
        "scale without gamma",
        PREPARED,
        "prepare_norms",
        "prepare_norms.cu",
        "norm.gamma ? invstd * norm.gamma[c] : invstd",
        "invstd",
        NOT_EQUAL,
    ),
]


@of_each_case(MUTATIONS)
def test_as_they_are(case: Case) -> None:
    check_as_it_is(case)


@of_each_mutation(MUTATIONS)
def test_mistake_is_found(mutation: Mutation, tmp_path: Path) -> None:
    check_mistake_is_found(mutation, tmp_path)
