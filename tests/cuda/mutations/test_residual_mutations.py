"""Mistakes in the kernels of residual units: their ends (bn_add_relu.cu), and strided patches (bn_relu_patches.cu)."""

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

UNIT = Case("bn_add_relu", (2, 33, 7, 11))
UNIT_MISALIGNED = Case("bn_add_relu", (2, 32, 7, 11), layout="channel_slice")
UNIT_GRADIENTS = Case("bn_add_relu_backward", (2, 24, 5, 7), "float16")
PATCHES = Case("bn_relu_patches", (1, 17, 6, 9))
PATCHES_WIDE = Case("bn_relu_patches", (2, 16, 5, 8), "float16")
PATCH_STRIPS = Case("bn_relu_patches_strips", (1, 24, 11, 7))

MUTATIONS = [
    # --- bn_add_relu.cu: the end of a residual unit ---
    Mutation(
        "shortcut added without its norm",
        UNIT,
        "bn_add_relu",
        "bn_add_relu.cu",
        "of_shortcut(shortcut.values[i], i)",
        "shortcut.values[i]",
        WRONG,
    ),
    Mutation(
        "end of unit reads wide wherever maps lie",
        UNIT_MISALIGNED,
        "bn_add_relu",
        "bn_add_relu.cu",
        "  if (args.columns.wide)\n    bn_add_relu_backward<kWide>",
        "  if (true)\n    bn_add_relu_backward<kWide>",
        r"misaligned read of 16 bytes",
    ),
    Mutation(
        "channels beyond the last read",
        UNIT,
        "bn_add_relu",
        "bn_add_relu.cu",
        "  if (c >= args.input.c) return;",
        "  if (c > args.input.c) return;",
        r"illegal read of 4 bytes",
    ),
    Mutation(
        "gradient of the shortcut overwritten",
        UNIT_GRADIENTS,
        "bn_add_relu",
        "bn_add_relu.cu",
        "        if (args.accumulate) {",
        "        if (false) {",
        WRONG,
    ),
    Mutation(
        "deferred correction left out",
        UNIT_GRADIENTS,
        "bn_add_relu",
        "bn_add_relu.cu",
        "  if (!gradient.input.data) return grad;",
        "  if (true) return grad;",
        WRONG,
    ),
    Mutation(
        "sum of the shortcut around another mean",
        UNIT_GRADIENTS,
        "bn_add_relu",
        "bn_add_relu.cu",
        "* (values.values[first + i] - mean.values[i]);\n      m.",
        "* values.values[first + i];\n      m.",
        WRONG,
    ),
    # --- bn_relu_patches.cu ---
    Mutation(
        "patches take a column too far right",
        PATCHES,
        "bn_relu_patches",
        "bn_relu_patches.cu",
        "2 * static_cast<int64>(walk.column) + j - 1, there",
        "2 * static_cast<int64>(walk.column) + j, there",
        WRONG,
    ),
    Mutation(
        "frame of the map not zero",
        PATCHES,
        "bn_relu_patches",
        "bn_relu_patches.cu",
        "inside[j] ? rectified(norm(taps[j].values[i], i)) : Real(0)",
        "rectified(norm(taps[j].values[i], i))",
        WRONG,
    ),
    Mutation(
        "rows below the map read",
        PATCHES,
        "bn_relu_patches",
        "bn_relu_patches.cu",
        "clamped(y, args.input.h), 0)",
        "y, 0)",
        r"illegal read of \d+ bytes: .*",
    ),
    Mutation(
        "gradient of patches read beyond the right edge",
        PATCHES,
        "bn_relu_patches",
        "bn_relu_patches.cu",
        "const bool right = column + 1 < grads.w;",
        "const bool right = true;",
        rf"illegal read of \d+ bytes: .*grad|{WRONG}",
    ),
    Mutation(
        "a tap of the gradient off by one",
        PATCHES_WIDE,
        "bn_relu_patches",
        "bn_relu_patches.cu",
        "add(cell[1], patch + grads.pixel_stride + 3 * channels);",
        "add(cell[1], patch + grads.pixel_stride + 4 * channels);",
        WRONG,
    ),
    Mutation(
        "odd last column of the gradient written",
        PATCHES,
        "bn_relu_patches",
        "bn_relu_patches.cu",
        "y >= args.input.h || x >= args.input.w) continue;",
        "y >= args.input.h) continue;",
        rf"illegal \w+ of \d+ bytes|race|{WRONG}",
    ),
    Mutation(
        "part of the strip above overwritten",
        PATCH_STRIPS,
        "bn_relu_patches",
        "bn_relu_patches.cu",
        "if (args.add_first_row && y == 0) result",
        "if (false) result",
        WRONG,
    ),
]


@of_each_case(MUTATIONS)
def test_as_they_are(case: Case) -> None:
    check_as_it_is(case)


@of_each_mutation(MUTATIONS)
def test_mistake_is_found(mutation: Mutation, tmp_path: Path) -> None:
    check_mistake_is_found(mutation, tmp_path)
