"""Mistakes in upsampling, and what works at full resolution."""

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

UPSAMPLE = Case("upsample_project_concat", (1, 8, 7, 9, 12, 4, 5, 8))
CROSS_ENTROPY = Case("upsample_cross_entropy", (2, 5, 5, 7, 18, 26))
CROSS_ENTROPY_GROUPS = Case("upsample_cross_entropy", (1, 33, 3, 4, 9, 11))
SMOOTHED_LOSSES = Case("smoothed_losses", (1, 23, 3, 4, 9, 11))
DICE = Case("dice", (1, 23, 3, 4, 9, 11))
ARGMAX = Case("upsample_argmax", (1, 5, 3, 4, 9, 11))

MUTATIONS = [
    Mutation(
        "upsampling backward misses a tap",
        UPSAMPLE,
        "upsample",
        "upsample.cu",
        "if (x < readers) add_scaled",
        "if (x + 1 < readers) add_scaled",
        WRONG,
    ),
    Mutation(
        "upsampling backward skips a coarse row",
        UPSAMPLE,
        "upsample",
        "upsample.cu",
        "    if (row >= first) store<width>",
        "    if (row > first) store<width>",
        r"not written: grad_coarse",
    ),
    Mutation(
        "ignore index not ignored",
        CROSS_ENTROPY,
        "upsample_cross_entropy",
        "labels.cuh",
        "  if (label == labels.ignore_index) return kIgnored;\n",
        "",
        r"ValueError: labels must be",
    ),
    Mutation(
        "losses added up without barrier",
        CROSS_ENTROPY,
        "upsample_cross_entropy",
        "loss_sums.cuh",
        "    __syncthreads();\n    if (threadIdx.x < half) {",
        "    if (threadIdx.x < half) {",
        RACE,
    ),
    Mutation(
        "cell gathered for the left neighbour only",
        CROSS_ENTROPY,
        "upsample_cross_entropy",
        "coarse_walk.cuh",
        "    carried = right;\n",
        "",
        WRONG,
    ),
    Mutation(
        "classes beyond the last not staged",
        CROSS_ENTROPY_GROUPS,
        "upsample_cross_entropy",
        "upsampled_scores.cuh",
        "  if (lane >= kClasses) return;\n",
        "  if (lane >= count) return;\n",
        r"which was never written",
    ),
    Mutation(
        "corners not aligned",
        SMOOTHED_LOSSES,
        "upsample_pixel_losses",
        "bilinear.cuh",
        "align_corners ? coarse - 1 : coarse",
        "coarse",
        WRONG,
    ),
    Mutation(
        "label smoothing missing in the gradient",
        SMOOTHED_LOSSES,
        "upsample_pixel_losses",
        "upsample_pixel_losses.cu",
        " - weight * values.shares[k]",
        "",
        WRONG,
    ),
    Mutation(
        "label smoothing counts from the largest score of each group of classes",
        SMOOTHED_LOSSES,
        "upsample_pixel_losses",
        "upsample_pixel_losses.cu",
        "    if (smoothing) distances = fused_multiply_add(shares, rise, distances);\n",
        "",
        WRONG,
    ),
    Mutation(
        "pixel weight missing in the gradient",
        SMOOTHED_LOSSES,
        "upsample_pixel_losses",
        "upsample_pixel_losses.cu",
        "const Real target = weight * (",
        "const Real target = (",
        WRONG,
    ),
    Mutation(
        "softmax of other classes missing in the gradient of class sums",
        DICE,
        "upsample_pixel_losses",
        "upsample_pixel_losses.cu",
        "(predicted[r] + of_label) * inverse",
        "of_label * inverse",
        WRONG,
    ),
    Mutation(
        "class sums of a thread read without barrier",
        DICE,
        "upsample_pixel_losses",
        "upsample_pixel_losses.cu",
        "  __syncthreads();\n  constexpr int share",
        "  constexpr int share",
        RACE,
    ),
    Mutation(
        "class sums without the last block",
        DICE,
        "upsample_pixel_losses",
        "upsample_pixel_losses.cu",
        "part < args.parts_per_image",
        "part + 1 < args.parts_per_image",
        WRONG,
    ),
    Mutation(
        "classes beyond the last read",
        ARGMAX,
        "upsample_argmax",
        "upsampled_scores.cuh",
        "(lane < count ? lane : 0)",
        "lane",
        r"illegal read of 4 bytes: .*scores",
    ),
    Mutation(
        "threads without a pixel leave early",
        ARGMAX,
        "upsample_argmax",
        "upsample_argmax.cu",
        "  const int classes = static_cast<int>(scores.c);\n",
        "  const int classes = static_cast<int>(scores.c);\n  if (!tile.active) return;\n",
        r"divergent barrier: \d+ threads of the block have exited|race|never written",
    ),
]


@of_each_case(MUTATIONS)
def test_as_they_are(case: Case) -> None:
    check_as_it_is(case)


@of_each_mutation(MUTATIONS)
def test_mistake_is_found(mutation: Mutation, tmp_path: Path) -> None:
    check_mistake_is_found(mutation, tmp_path)
