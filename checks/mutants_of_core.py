"""Mistakes in the C++ core's operators for the CPU (csrc/cpu), and the tests that ought to find each.

Those in headers are few, and in headers that few files include: what includes one is compiled again.
"""

from mutant import Mutant

_CPU = "csrc/cpu/"


def _tests(name: str, only: str) -> tuple[str, ...]:
    """Tests in a file of tests/ops, or another folder of tests, that `only` chooses."""
    return (f"tests/{name if '/' in name else f'ops/{name}'}.py", "-k", only)


_ADD_RELU = _tests("test_bn_add_relu", "equals_reference or both_gradients or is_added")
_ARGMAX = _tests("test_upsample_argmax", "equals_reference or tie")
_AVGPOOL = _tests("test_bn_relu_avgpool2", "equals_reference")
_BATCH_NORM = ("tests/ops/test_batch_norm.py",)
_BN_RELU = _tests("test_bn_relu", "equals_reference or threads")
_CONV1X1 = _tests("test_bn_relu_conv1x1", "equals_reference or deferred or weight_alone")
_CONV3X3 = _tests("test_bn_relu_conv3x3", "equals_reference or threads or strip_of_rows or memory_layout")
_CROSS_ENTROPY = _tests("test_upsample_cross_entropy", "equals_reference or threads or counts or out_of_range or scale")
_DENSE = _tests("lean/test_dense_block", "graph_goes_on")
_DICE = _tests("test_upsample_dice_loss", "equals_reference")
_MAXPOOL = _tests("test_bn_relu_maxpool", "equals_reference or tie")
_PATCHES = _tests("test_bn_relu_patches", "equals_reference")
_PROJECT = _tests("test_upsample_project_concat", "equals_reference")
_STATISTICS = _tests("test_channel_statistics", "equals_reference or threads")
_STEM = _tests("test_stem", "forward or sums or weight or images")
_UP = _tests("lean/test_transition_up", "strips and train")


def _core(file: str, old: str, new: str, tests: tuple[str, ...], mistake: str) -> Mutant:
    return Mutant(_CPU + file, old, new, tests, mistake)


MUTANTS = [
    # Batch norm and statistics.
    _core(
        "batch_norm.cpp",
        "std::sqrt(variance + args.epsilon)",
        "(std::sqrt(variance) + args.epsilon)",
        _BATCH_NORM,
        "eps is added to the root, not below it",
    ),
    _core(
        "batch_norm.cpp",
        "kept = 1.0 - args.momentum, taken = args.momentum;",
        "kept = args.momentum, taken = 1.0 - args.momentum;",
        _BATCH_NORM,
        "momentum is the share that is kept, not the share that is taken",
    ),
    _core(
        "batch_norm.cpp",
        "taken * (args.unbiased * args.variance[c])",
        "taken * args.variance[c]",
        _BATCH_NORM,
        "the running variance is that of biased ones",
    ),
    _core(
        "batch_norm.cpp",
        "(invstd * invstd) / positions",
        "invstd / positions",
        _BATCH_NORM,
        "the correction's slope lacks one factor of the standard deviation",
    ),
    _core(
        "batch_norm.cpp",
        "args.accumulate ? args.slope[c] + slope : slope",
        "slope",
        _BATCH_NORM,
        "the slope takes the place of that of other readers",
    ),
    _core(
        "channel_statistics.cpp",
        "      finish_statistics(team, counts",
        "      finish_statistics(1, counts",
        _STATISTICS,
        "the statistics are those of the first member's pixels",
    ),
    _core(
        "channel_statistics.cpp",
        "args.input.pixel(p), rows, args.input.pixel_stride, channels);",
        "args.input.pixel(p), rows, channels, channels);",
        _tests("test_channel_statistics", "memory_layout"),
        "a slice of channels is read as if it were the whole map",
    ),
    _core(
        "statistics.h",
        "static_cast<double>(into.count) * share;",
        "static_cast<double>(count) * share;",
        _STATISTICS,
        "merged deviations weigh the wrong number of positions",
    ),
    _core(
        "corrected_gradient.h",
        "load_as<V>(x + c) - load_as<V>(gradient.mean + c);",
        "load_as<V>(x + c);",
        _CONV1X1,
        "the deferred correction lacks the mean",
    ),
    # Batch norm and ReLU, with a sum or a pooling.
    _core(
        "bn_relu.cpp",
        "for (int64_t p = range.begin; p < range.end; ++p)\n      bn_relu_pixel(",
        "for (int64_t p = range.begin; p + 1 < range.end; ++p)\n      bn_relu_pixel(",
        _BN_RELU,
        "every member leaves out its last pixel",
    ),
    _core(
        "bn_relu.cpp",
        "if (member == 0) sums.finish(team,",
        "if (member == 0) sums.finish(1,",
        _BN_RELU,
        "the sums are those of the first member's pixels",
    ),
    _core(
        "bn_add_relu.cpp",
        "to_shortcut = at(args.shortcut_norm.scale) * m;",
        "to_shortcut = at(args.norm.scale) * m;",
        _ADD_RELU,
        "the shortcut's gradient has the other batch norm's scale",
    ),
    _core(
        "bn_add_relu.cpp",
        "      if (args.accumulate) to_shortcut = to_shortcut + at(grad_shortcut);\n",
        "",
        _ADD_RELU,
        "the shortcut's gradient takes the place of what is there",
    ),
    _core(
        "bn_add_relu.cpp",
        "at(shortcut_centred) + m * deviation",
        "m * deviation",
        _ADD_RELU,
        "the shortcut's sum is that of the last pixel",
    ),
    _core(
        "bn_relu_avgpool2.cpp",
        "      } else if (!accumulate) {",
        "      } else if (accumulate) {",
        _AVGPOOL,
        "the gradient of a last, odd column is not written",
    ),
    _core(
        "bn_relu_avgpool2.cpp",
        "RealOf<T>(0.25), args.norm,",
        "RealOf<T>(1), args.norm,",
        _AVGPOOL,
        "the gradient is that of a sum, not of a mean",
    ),
    _core(
        "bn_relu_maxpool.cpp",
        "(y > before) | (y != y)",
        "(y >= before) | (y != y)",
        _MAXPOOL,
        "of equal values the last one gets the gradient",
    ),
    _core(
        "bn_relu_maxpool.cpp",
        "    if (held[slot] != key) {",
        "    if (held[slot] < 0) {",
        _MAXPOOL,
        "the positions of an earlier row are taken for those asked for",
    ),
    _core(
        "bn_relu_maxpool.cpp",
        "if (x < 0 || x >= input.w) continue;",
        "if (x < 0 || x >= input.w - 1) continue;",
        _MAXPOOL,
        "windows leave out the last column",
    ),
    _core(
        "bn_relu_patches.cpp",
        "store_as<V>(masked + c, load_as<V>(masked + c) + m);",
        "store_as<V>(masked + c, m);",
        _PATCHES,
        "the sum is that of the last pixel",
    ),
    _core(
        "bn_relu_patches.cpp",
        "      add((offset + 1) >> 1, 0, patches);\n",
        "",
        _PATCHES,
        "an odd position gets the gradient of one patch of two",
    ),
    # Convolutions.
    _core(
        "bn_relu_conv1x1.cpp",
        "store(to, (accumulate ? load(to) : Vector{}) + scale_c * m);",
        "store(to, scale_c * m);",
        _DENSE,
        "the gradient takes the place of what is there",
    ),
    _core(
        "bn_relu_conv1x1.cpp",
        "        centred += m * d;",
        "        centred += m * value;",
        _CONV1X1,
        "the sum for gamma has the normalised value, not the deviation",
    ),
    _core(
        "bn_relu_conv1x1.cpp",
        "load_as<V>(args.centre + first + j)",
        "load_as<V>(args.centre + j)",
        _CONV1X1,
        "every block of channels is centred like the first",
    ),
    _core(
        "bn_relu_conv3x3_forward.cpp",
        "          if (args.accumulate) add_scaled(written.c, RealOf<T>(1), to, from);\n",
        "",
        _UP,
        "the result takes the place of what is there",
    ),
    _core(
        "bn_relu_conv3x3_forward.cpp",
        "rows, columns, panel * columns, written.c);",
        "rows, columns, 0, written.c);",
        _tests("lean/test_dense_block", "usual_widths"),
        "the statistics of all panels are stored as the first's",
    ),
    _core(
        "bn_relu_conv3x3_backward.cpp",
        "for (int set = 0; set < sets; ++set)",
        "for (int set = 0; set < 1; ++set)",
        _CONV3X3,
        "the weight's gradient is that of the first member's tiles",
    ),
    _core(
        "bn_relu_conv3x3_backward.cpp",
        "x + read[i] * args.input.pixel_stride)",
        "x + read[i] * args.grad_input.pixel_stride)",
        _CONV3X3,
        "the input is read with the stride of its gradient",
    ),
    _core(
        "bn_relu_conv3x3_backward.cpp",
        "grad_output.fill(base, gradient, grid, args.grad_first_row,",
        "grad_output.fill(base, gradient, grid, 0,",
        _UP,
        "a strip's gradient is read from the halo on",
    ),
    # The stem.
    _core(
        "stem_forward.cpp",
        "next >= 2 * first_row)",
        "next > 2 * first_row)",
        _STEM,
        "the first row of every member is missing in the statistics",
    ),
    _core(
        "stem_forward.cpp",
        "smaller(conv.width, 2 * last_column) - 2 * first_column;",
        "2 * last_column - 2 * first_column;",
        _STEM,
        "a column outside the map counts in the statistics",
    ),
    _core(
        "stem_backward.cpp",
        "load_as<V>(m + i * conv.row + c) - constant -",
        "load_as<V>(m + i * conv.row + c) + constant -",
        _STEM,
        "the correction's constant has the wrong sign",
    ),
    _core(
        "stem_backward.cpp",
        "* kStemKernel + u) * kStemKernel + v] = static_cast",
        "* kStemKernel + v) * kStemKernel + u] = static_cast",
        _STEM,
        "the weight's gradient is transposed",
    ),
    # Upsampling and losses.
    _core(
        "upsample.cpp",
        "(vertical.upper[y] == i ? vertical.weight[y] : Real(0));",
        "Real(0);",
        _UP,
        "a coarse row lacks the gradient of the fine rows above",
    ),
    _core(
        "upsample.cpp",
        "row % height + args.first_row, x,",
        "row % height, x,",
        _UP,
        "every strip is upsampled like the first",
    ),
    _core(
        "upsample_project_concat.cpp",
        "y, x, vertical, horizontal, args",
        "y, x, horizontal, vertical, args",
        _PROJECT,
        "rows are blended with the weights of columns",
    ),
    _core(
        "upsample_argmax.cpp",
        "~(value <= best) & (best == best)",
        "~(value < best) & (best == best)",
        _ARGMAX,
        "of equal scores the last class wins",
    ),
    _core(
        "upsample_argmax.cpp",
        "held[0] == other ? 1 : 0;",
        "0;",
        _ARGMAX,
        "a line is overwritten that the same row reads",
    ),
    _core(
        "upsample_cross_entropy.cpp",
        "        total += static_cast<double>(weight);",
        "        total += 1.0;",
        _CROSS_ENTROPY,
        "the mean is over pixels, not over their classes' weights",
    ),
    _core(
        "upsample_cross_entropy.cpp",
        "label >= classes",
        "label > classes",
        _CROSS_ENTROPY,
        "a label one too large is not refused",
    ),
    _core(
        "upsample_cross_entropy.cpp",
        "!args.mean || total == 0.0 ?",
        "!args.mean ?",
        _CROSS_ENTROPY,
        "the mean of no pixels is NaN, and its gradient too",
    ),
    _core(
        "upsample_cross_entropy.cpp",
        "    if (flags.in(base)[1] < 0) std::memset(spill",
        "    std::memset(spill",
        _CROSS_ENTROPY,
        "of the lines that go to the next member's row the last alone is kept",
    ),
    _core(
        "upsampled_softmax.h",
        "exp_nonpositive(load(v + k) - maximum) * load(mask.in(scratch) + k);",
        "exp_nonpositive(load(v + k) - maximum);",
        _CROSS_ENTROPY,
        "padding counts as classes",
    ),
    _core(
        "upsample_pixel_losses.cpp",
        "(x % kSoftmaxRun == kSoftmaxRun - 1 || x == scores.width - 1)",
        "x % kSoftmaxRun == kSoftmaxRun - 1",
        _DICE,
        "the sums lack the last pixels of a row",
    ),
]
