"""The package's own kernels, each with one deliberate mistake, on the emulator: every mistake is found.

Either the launch fails, with the report that belongs to the mistake, or the result is not the reference's. So these
tests are about the other tests: they show what those would notice.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from emulator.emulation import Emulator, emulated, ptx, require_compiler
from ops import test_bn_relu_conv1x1, test_bn_relu_conv3x3, test_prepared_weights, test_stem
from support.comparison import FLOAT64_TOLERANCE, assert_near
from support.operator_suite import Arguments
from support.operator_suites import SUITES

from ladderseg_fast.cuda import images, kernel_sources
from ladderseg_fast.ops import layout, reference
from ladderseg_fast.ops.arguments import Norm
from ladderseg_fast.ops.backend import using
from ladderseg_fast.ops.bn_relu_conv1x1 import bn_relu_conv1x1_forward
from ladderseg_fast.ops.prepared_weights import Form


@dataclass(frozen=True)
class Case:
    """What is run: `method` of a suite, or its comparison with the reference at a shape.

    The stem and the prepared weights have no suite: there, `method` is a function of their tests.
    """

    suite: str
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    layout: str = "channels_last"
    method: str = ""

    def __str__(self) -> str:
        shape = f"{'x'.join(map(str, self.shape))}-{self.dtype}-{self.layout}"
        return "-".join([self.suite, *([self.method] if self.method else []), *([shape] if self.shape else [])])


@dataclass(frozen=True)
class Mutation:
    """In `file`, as it is compiled for the kernel image `image`, the one occurrence of `snippet` is replaced."""

    name: str
    case: Case
    image: str
    file: str
    snippet: str
    replacement: str
    #: Pattern of the emulator's report or of the comparison's message.
    message: str

    def __str__(self) -> str:
        return self.name.replace(" ", "_")


# What is seen of a missing barrier depends on the order in which the threads run.
RACE = r"race: shared\[|read of shared\[\d+\], which was never written"
WRONG = r"AssertionError: .* are off by more than"
NOT_EQUAL = r"AssertionError: assert False\n \+  where False = .*equal"
NEVER_WRITTEN = r"read of shared\[\d+\], which was never written"

BN_RELU = Case("bn_relu", (2, 33, 7, 11))
MANY_PARTS = Case("bn_relu", (1, 64, 20, 30))
BN_RELU_MISALIGNED = Case("bn_relu", (2, 32, 7, 11), layout="channel_slice")
STATISTICS = Case("channel_statistics", (2, 36, 9, 11))
PRODUCT = Case("bn_relu_conv1x1", (1, 40, 5, 7, 72))
TENSOR_PRODUCT = Case("bn_relu_conv1x1", (1, 40, 9, 15, 72), "float16")
TWO_PASSES = Case("bn_relu_conv1x1", (1, 40, 5, 7, 136))
TENSOR_TWO_PASSES = Case("bn_relu_conv1x1", (1, 40, 9, 15, 136), "float16")
ONE_PASS = Case("bn_relu_conv1x1", (1, 40, 9, 15, 72))
TENSOR_ONE_PASS = Case("bn_relu_conv1x1", (1, 40, 9, 29, 72), "float16")
MISALIGNED_VECTORS = Case("bn_relu_conv1x1", method="test_vectors_at_any_address")
LONG_PRODUCT = Case("bn_relu_conv1x1", (2, 33, 37, 11, 19))
PRODUCT_STATISTICS = Case("product_statistics", (1, 24, 9, 15, 19))
TENSOR_STATISTICS = Case("product_statistics", (1, 24, 9, 15, 40), "float16")
CONVOLUTION = Case("bn_relu_conv3x3", (1, 19, 15, 63, 33, 1))
SMALL_CONVOLUTION = Case("bn_relu_conv3x3", (1, 19, 9, 9, 20, 1))
TENSOR_CONVOLUTION = Case("bn_relu_conv3x3", (1, 40, 9, 17, 72, 1), "float16")
STRIP = Case("conv3x3_strip", (1, 3, 11, 257, 5), "float64")
WEIGHT = Case("bn_relu_conv3x3", (1, 40, 17, 33, 40, 1))
TENSOR_WEIGHT = Case("bn_relu_conv3x3", (1, 40, 17, 33, 40, 1), "float16")
TENSOR_WEIGHT_PARTS = Case("bn_relu_conv3x3", (1, 8, 24, 40, 8, 1), "float16")
SMALL_STRIP = Case("conv3x3_strip", (1, 3, 11, 17, 5), "float64")
TENSOR_STRIP = Case("conv3x3_strip", (2, 16, 11, 6, 24), "float16")
STEM = Case("stem", (1, 4, 21, 67, 66), method="test_forward")
STEM_WEIGHT = Case("stem", (1, 4, 21, 67, 66), method="test_weight")
STEM_IMAGES = Case("stem", (1, 4, 21, 67, 66), method="test_images")
PREPARED = Case("prepared_weights", method="test_every_form")
PREPARED_HALF = Case("prepared_weights", dtype="float16", method="test_every_form")
PREPARED_PARTS = Case("prepared_weights", method="test_some_input_channels")
AVGPOOL = Case("bn_relu_avgpool2", (1, 17, 5, 9))
MAXPOOL_TIES = Case("bn_relu_maxpool", method="test_tie_goes_to_the_first")
MAXPOOL = Case("bn_relu_maxpool", (1, 9, 9, 11))
UPSAMPLE = Case("upsample_project_concat", (1, 8, 7, 9, 12, 4, 5, 8))
CROSS_ENTROPY = Case("upsample_cross_entropy", (2, 5, 5, 7, 18, 26))
CROSS_ENTROPY_GROUPS = Case("upsample_cross_entropy", (1, 33, 3, 4, 9, 11))
ARGMAX = Case("upsample_argmax", (1, 5, 3, 4, 9, 11))

MUTATIONS = [
    # --- columns.cuh and bn_sums.cu: sums over a block, and over blocks ---
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
    # --- channel_statistics.cu and statistics.cu ---
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
        "if (Tile::row(i) < rows) values[j] += deviation * deviation;",
        "values[j] += deviation * deviation;",
        WRONG,
    ),
    # --- product.cuh: the loop over tiles of depth, sums over rows ---
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
        r"illegal write of \d+ bytes: .*output",
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
    # --- operand.cuh and product_tensor.cuh: copies past the registers, tensor cores ---
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
    # --- one_pass*.cuh: both gradients of a 1x1 convolution ---
    Mutation(
        "one pass multiplies y before it is there",
        ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass_simt.cuh",
        "        __syncthreads();\n        multiply_by_y(i * kSide, memory);\n",
        "        multiply_by_y(i * kSide, memory);\n",
        RACE,
    ),
    Mutation(
        "one pass overwrites y while it is read",
        ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass_simt.cuh",
        "        multiply_by_y(i * kSide, memory);\n        __syncthreads();\n",
        "        multiply_by_y(i * kSide, memory);\n",
        RACE,
    ),
    Mutation(
        "one pass leaves the pixels of the second half out",
        ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass_simt.cuh",
        "multiply_by_y(i * kSide, memory)",
        "multiply_by_y(0, memory)",
        WRONG,
    ),
    Mutation(
        "slice of the weight filled while it is computed with",
        ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass_simt.cuh",
        "put(next.chunk, memory.weight[now ^ 1]);",
        "put(next.chunk, memory.weight[now]);",
        RACE,
    ),
    Mutation(
        "sums of a group of warps left out",
        ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass.cuh",
        "masked_sum += masked[i][thread];",
        "masked_sum += masked[0][thread];",
        WRONG,
    ),
    Mutation(
        "one pass goes beyond its part",
        LONG_PRODUCT,
        "bn_relu_conv1x1_backward",
        "one_pass.cuh",
        "smaller(args.pixels_per_part, args.input.pixels() - begin)",
        "(args.input.pixels() - begin)",
        r"race: grad_input",
    ),
    Mutation(
        "one pass on tensor cores multiplies y before it is there",
        TENSOR_ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass_tensor.cuh",
        "      maps.move(args, kPixels - 32);\n      __syncthreads();\n",
        "      maps.move(args, kPixels - 32);\n",
        RACE,
    ),
    Mutation(
        "one pass fills the tile that is being computed with",
        TENSOR_ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass_tensor.cuh",
        "store_chunk(place(now ^ 1, i), chunk, there);",
        "store_chunk(place(now, i), chunk, there);",
        RACE,
    ),
    Mutation(
        "columns of the weight not permuted",
        TENSOR_ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass_tensor.cuh",
        "n / 2 * kPiece + n % 2;",
        "n;",
        WRONG,
    ),
    Mutation(
        "weight overwritten before all have read it",
        TENSOR_ONE_PASS,
        "bn_relu_conv1x1_backward",
        "one_pass_tensor.cuh",
        "          weight[step][tile].r[half] = both.word;\n        }\n    __syncthreads();\n",
        "          weight[step][tile].r[half] = both.word;\n        }\n",
        RACE,
    ),
    # --- patches.cuh, patch_product_simt.cuh and patch_results.cuh: 3x3 convolutions ---
    Mutation(
        "frame of a patch without its last row",
        CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "patch_product_simt.cuh",
        "pixels[i] = at < kHalo ?",
        "pixels[i] = at < kHalo - kHaloWidth ?",
        WRONG,
    ),
    Mutation(
        "pixels beside the map not zero",
        CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "patch_product_simt.cuh",
        "= pixels[i] >= 0 && there ? values",
        "= there ? values",
        WRONG,
    ),
    Mutation(
        "end of a row continued on the next",
        CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "patches.cuh",
        " || map_column < 0 || map_column >= w) return -1;",
        ") return -1;",
        WRONG + r"|illegal read of \d+ bytes: .*input",
    ),
    Mutation(
        "map of a strip read from its first row",
        STRIP,
        "bn_relu_conv3x3_forward",
        "patches.cuh",
        "const int64 map_row = row(i) + first_row;",
        "const int64 map_row = row(i);",
        WRONG,
    ),
    Mutation(
        "taps of a row in the wrong order",
        CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "patch_product_simt.cuh",
        "values[i + v] * weights[j]",
        "values[i + 2 - v] * weights[j]",
        WRONG,
    ),
    Mutation(
        "taps not reversed in the backward",
        CONVOLUTION,
        "bn_relu_conv3x3_data",
        "patch_product_simt.cuh",
        "[8 - tap(number)]",
        "[tap(number)]",
        WRONG,
    ),
    Mutation(
        "slice computed with before it is there",
        CONVOLUTION,
        "bn_relu_conv3x3_data",
        "patch_product_simt.cuh",
        "        weight_chunks.commit(weight, memory.slices[now]);\n      }\n      __syncthreads();\n",
        "        weight_chunks.commit(weight, memory.slices[now]);\n      }\n",
        RACE,
    ),
    Mutation(
        "slice filled while it is computed with",
        CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "patch_product_simt.cuh",
        "pixel_chunks.commit(source, next, memory.slices[now]);",
        "pixel_chunks.commit(source, next, memory.slices[now ^ 1]);",
        RACE,
    ),
    Mutation(
        "sums of the splits read before they are there",
        SMALL_CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "patch_product_simt.cuh",
        "        __syncthreads();\n        if (to == split()) {",
        "        if (to == split()) {",
        RACE,
    ),
    Mutation(
        "channels of a split left out",
        SMALL_CONVOLUTION,
        "bn_relu_conv3x3_data",
        "patch_product_simt.cuh",
        "for (int from = 1; from < splits; ++from)",
        "for (int from = 2; from < splits; ++from)",
        WRONG,
    ),
    Mutation(
        "pixel beyond the patch stored",
        CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "patch_results.cuh",
        "const bool there = patch.inside(at.i, at.j);",
        "const bool there = true;",
        r"illegal write of \d+ bytes: .*output|race: output",
    ),
    Mutation(
        "pixels beyond the patch counted in the variance",
        STRIP,
        "bn_relu_conv3x3_forward",
        "patch_results.cuh",
        "if (patch.inside(at.i, at.j)) values[j] += deviation * deviation;",
        "values[j] += deviation * deviation;",
        WRONG,
    ),
    Mutation(
        "patches counted as whole ones",
        STRIP,
        "bn_relu_conv3x3_forward",
        "patch_results.cuh",
        "args.counts[part] = count;",
        "args.counts[part] = Patch::kPixels;",
        WRONG,
    ),
    Mutation(
        "sums of a gradient take pixels beyond the patch",
        CONVOLUTION,
        "bn_relu_conv3x3_data",
        "patch_results.cuh",
        "if (!patch.inside(at.i, at.j) || left <= 0) continue;\n        const int64 input",
        "if (left <= 0) continue;\n        const int64 input",
        r"illegal (read|write) of \d+ bytes|race: grad_input",
    ),
    # --- conv3x3_weight_*.cuh: the weight gradient of 3x3 convolutions ---
    Mutation(
        "weight gradient from a frame without its last row",
        WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_simt.cuh",
        "p < kFramePixels; p += kDown",
        "p < kFramePixels - kFrameWidth; p += kDown",
        RACE,
    ),
    Mutation(
        "weight gradient from a frame that begins a row too low",
        TENSOR_WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_maps.cuh",
        "y(patch.row(-1) +",
        "y(patch.row(0) +",
        WRONG,
    ),
    Mutation(
        "weight gradient of the taps of a row in the wrong order",
        WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_simt.cuh",
        "window[(x + v) % 4][u]",
        "window[(x + 2 - v) % 4][u]",
        WRONG,
    ),
    Mutation(
        "weight gradient with rows of taps in the wrong order",
        TENSOR_WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_tensor.cuh",
        "window[(row + u) % 3], grad[n]",
        "window[(row + 2 - u) % 3], grad[n]",
        WRONG,
    ),
    Mutation(
        "weight gradient from columns off by one",
        TENSOR_WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_tensor.cuh",
        "const int column = tap_column() + lane() % 8",
        "const int column = 2 - tap_column() + lane() % 8",
        WRONG,
    ),
    Mutation(
        "weight gradient takes pixels beside the map",
        WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_simt.cuh",
        "inside ? rectified(value) : Real(0)",
        "rectified(value)",
        WRONG,
    ),
    Mutation(
        "weight gradient corrects pixels beyond the strip",
        SMALL_STRIP,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_simt.cuh",
        "inside ? result : Real(0)",
        "result",
        WRONG,
    ),
    Mutation(
        "weight gradient on tensor cores takes pixels beside the map",
        TENSOR_WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_tensor.cuh",
        "if (raw.outside >> i & 1u) at(to, frame_place",
        "if (false) at(to, frame_place",
        WRONG,
    ),
    Mutation(
        "weight gradient on tensor cores corrects pixels beyond the strip",
        TENSOR_STRIP,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_tensor.cuh",
        "raw.outside >> i & 1u) at(to, grad_place",
        "false) at(to, grad_place",
        WRONG,
    ),
    Mutation(
        "weight gradient fills a patch while it is computed with",
        WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_simt.cuh",
        "      multiply();\n      __syncthreads();\n",
        "      multiply();\n",
        RACE,
    ),
    Mutation(
        "weight gradient computes with a patch before it is there",
        WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_simt.cuh",
        "      fill(patch);\n      __syncthreads();\n",
        "      fill(patch);\n",
        RACE,
    ),
    Mutation(
        "weight gradient on tensor cores without barrier between patches",
        TENSOR_WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_tensor.cuh",
        "      __syncthreads();\n      now ^= 1;\n",
        "      now ^= 1;\n",
        RACE,
    ),
    Mutation(
        "weight gradient on tensor cores fills the patch that is computed with",
        TENSOR_WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_tensor.cuh",
        "put(frame, memory.y[now ^ 1][0]);",
        "put(frame, memory.y[now][0]);",
        RACE,
    ),
    Mutation(
        "weight gradient of one half of the rows",
        WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_simt.cuh",
        "sum(u, i) + memory.sums[i][thread]",
        "sum(u, i)",
        WRONG,
    ),
    Mutation(
        "weight gradient of a half read before it is there",
        WEIGHT,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_simt.cuh",
        "memory.sums[i][thread] = sum(u, i);\n      }\n      __syncthreads();\n",
        "memory.sums[i][thread] = sum(u, i);\n      }\n",
        RACE,
    ),
    Mutation(
        "weight gradient of a part with a patch of the next",
        TENSOR_WEIGHT_PARTS,
        "bn_relu_conv3x3_weight",
        "conv3x3_weight_maps.cuh",
        "smaller(first + args.patches_per_part, args.patches.count)",
        "smaller(first + args.patches_per_part + 1, args.patches.count)",
        WRONG,
    ),
    # --- conv3x3_tensor.cuh: 3x3 convolutions on tensor cores ---
    Mutation(
        "tensor frame without its last row",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "conv3x3_tensor.cuh",
        "i < kPixels; i += Tile::kThreads",
        "i < kPixels - kWidth; i += Tile::kThreads",
        r"read of shared\[\d+\], which was never written",
    ),
    Mutation(
        "tensor pixels beside the map not zero",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "conv3x3_tensor.cuh",
        "if (at.number < 0 || c >= source.channels())",
        "if (c >= source.channels())",
        WRONG,
    ),
    Mutation(
        "tensor tap off by a column",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "conv3x3_tensor.cuh",
        "next(left[tap % 3], step)",
        "next(left[(tap + 1) % 3], step)",
        WRONG,
    ),
    Mutation(
        "tensor taps not reversed in the backward",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_data",
        "conv3x3_tensor.cuh",
        "reversed ? 8 - tap : tap",
        "tap",
        WRONG,
    ),
    Mutation(
        "tensor weights of outputs that do not exist",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "conv3x3_tensor.cuh",
        "index + rows < weights.indices && depth < weights.depth",
        "depth < weights.depth",
        r"illegal read of \d+ bytes: .*weight",
    ),
    Mutation(
        "tensor weights of gradients that do not exist",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_data",
        "conv3x3_tensor.cuh",
        "index < weights.indices && depth + rows < weights.depth",
        "index < weights.indices",
        r"illegal read of \d+ bytes: .*weight",
    ),
    Mutation(
        "tensor stage computed with before it is there",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "conv3x3_tensor.cuh",
        "        wait_for_copies_before_last();\n        __syncthreads();\n",
        "        wait_for_copies_before_last();\n",
        RACE + "|cp.async not waited for",
    ),
    Mutation(
        "tensor stage not waited for",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_forward",
        "conv3x3_tensor.cuh",
        "        wait_for_copies_before_last();\n        __syncthreads();\n",
        "        __syncthreads();\n",
        r"cp\.async not waited for|race: shared",
    ),
    Mutation(
        "tensor slice filled while it is computed with",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_data",
        "conv3x3_tensor.cuh",
        "raw, memory.values[now ? 0 : 1]",
        "raw, memory.values[now ? 1 : 0]",
        RACE,
    ),
    Mutation(
        "tensor memory reused before all are done",
        TENSOR_CONVOLUTION,
        "bn_relu_conv3x3_data",
        "conv3x3_tensor.cuh",
        "    now ^= sizeof(typename Frame::Slice);\n  }\n  __syncthreads();\n",
        "    now ^= sizeof(typename Frame::Slice);\n  }\n",
        RACE,
    ),
    # --- pooling ---
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
    # --- stem_tile.cuh and stem_convolution_*.cu: the stem ---
    Mutation(
        "stem image without its last row",
        STEM,
        "stem_convolution_forward",
        "stem_tile.cuh",
        "i < kHeight * kColumns; i += threads",
        "i < (kHeight - 1) * kColumns; i += threads",
        NEVER_WRITTEN,
    ),
    Mutation(
        "stem columns beside the image not zero",
        STEM,
        "stem_convolution_forward",
        "stem_tile.cuh",
        "x >= 0 && x < width;",
        "x < width;",
        r"illegal read of 4 bytes: .*images",
    ),
    Mutation(
        "stem rows below the image not zero",
        STEM,
        "stem_convolution_forward",
        "stem_tile.cuh",
        "y >= 0 && y < end_y &&",
        "y >= 0 &&",
        r"illegal read of 4 bytes: .*images",
    ),
    Mutation(
        "stem tap off by a column",
        STEM,
        "stem_convolution_forward",
        "stem_convolution_forward.cu",
        "window[i + v / kStemStride] * weight[j]",
        "window[i + (v + 1) / kStemStride] * weight[j]",
        NOT_EQUAL,
    ),
    Mutation(
        "stem columns of the other parity",
        STEM,
        "stem_convolution_forward",
        "stem_convolution_forward.cu",
        "[kStemStride * row + u][parity][column]",
        "[kStemStride * row + u][1 - parity][column]",
        NOT_EQUAL,
    ),
    Mutation(
        "stem image of a channel overwritten while it is read",
        STEM,
        "stem_convolution_forward",
        "stem_convolution_forward.cu",
        "    if (channel > 0) __syncthreads();\n",
        "",
        RACE,
    ),
    Mutation(
        "stem image read before it is there",
        STEM,
        "stem_convolution_forward",
        "stem_convolution_forward.cu",
        "    load_weights(args, channel, first_output, memory);\n    __syncthreads();\n",
        "    load_weights(args, channel, first_output, memory);\n",
        RACE,
    ),
    Mutation(
        "stem weights beyond the last output",
        STEM,
        "stem_convolution_forward",
        "stem_convolution_forward.cu",
        "const bool inside = k < args.output.c;",
        "const bool inside = true;",
        r"illegal read of 4 bytes: .*weight",
    ),
    Mutation(
        "stem pixels beyond the row stored",
        STEM,
        "stem_convolution_forward",
        "stem_convolution_forward.cu",
        "    if (x >= args.output.w) return;\n",
        "",
        rf"illegal write of \d+ bytes: .*x|race|{NOT_EQUAL}",
    ),
    Mutation(
        "stem gradient of a tile overwritten while it is read",
        STEM_WEIGHT,
        "stem_convolution_weight",
        "stem_convolution_weight.cu",
        "    if (number > begin) __syncthreads();\n",
        "",
        RACE,
    ),
    Mutation(
        "stem gradient read before it is there",
        STEM_WEIGHT,
        "stem_convolution_weight",
        "stem_convolution_weight.cu",
        "    __syncthreads();\n    if (first_channel + channel >= args.images.c) continue;\n",
        "    if (first_channel + channel >= args.images.c) continue;\n",
        RACE,
    ),
    Mutation(
        "stem weight gradient without the last columns",
        STEM_WEIGHT,
        "stem_convolution_weight",
        "stem_convolution_weight.cu",
        "for (; x < columns; ++x)",
        "for (; x + 1 < columns; ++x)",
        NOT_EQUAL,
    ),
    Mutation(
        "stem weight gradient of another row",
        STEM_WEIGHT,
        "stem_convolution_weight",
        "stem_convolution_weight.cu",
        "values[kStemStride * y + u]",
        "values[y + u]",
        NOT_EQUAL,
    ),
    Mutation(
        "stem weight gradient of the last strip only",
        STEM_WEIGHT,
        "stem_convolution_weight",
        "stem_convolution_weight.cu",
        "args.accumulate ? to[v] + sums[v][j] : sums[v][j]",
        "sums[v][j]",
        NOT_EQUAL,
    ),
    Mutation(
        "stem weight gradient beyond the last output",
        STEM_WEIGHT,
        "stem_convolution_weight",
        "stem_convolution_weight.cu",
        "    if (k >= grad.c) continue;\n",
        "",
        rf"illegal write of \d+ bytes: .*partial|race|{NOT_EQUAL}",
    ),
    Mutation(
        "stem weight gradient of channels that do not exist",
        STEM_WEIGHT,
        "stem_convolution_weight",
        "stem_convolution_weight.cu",
        "  if (c >= args.images.c) return;\n",
        "",
        rf"illegal write of \d+ bytes: .*partial|race|{NOT_EQUAL}",
    ),
    Mutation(
        "stem image gradient misses a tap",
        STEM_IMAGES,
        "stem_convolution_data",
        "stem_convolution_data.cu",
        "u < kStemKernel; u += kStemStride",
        "u + 1 < kStemKernel; u += kStemStride",
        WRONG,
    ),
    Mutation(
        "stem image gradient of a strip overwrites",
        STEM_IMAGES,
        "stem_convolution_data",
        "stem_convolution_data.cu",
        "to_element(to_real(*to) + sum)",
        "to_element(sum)",
        WRONG,
    ),
    Mutation(
        "stem image gradient beyond the row",
        STEM_IMAGES,
        "stem_convolution_data",
        "stem_convolution_data.cu",
        "if (y >= args.grad_images.h || x >= args.grad_images.w) return;",
        "if (y >= args.grad_images.h) return;",
        rf"illegal (read|write) of \d+ bytes: .*grad_images|race|{WRONG}",
    ),
    Mutation(
        "stem image gradient from above the strip",
        STEM_IMAGES,
        "stem_convolution_data",
        "stem_convolution_data.cu",
        "r < 0 || r >= grad.h",
        "r >= grad.h",
        r"illegal read of \d+ bytes: .*grad",
    ),
    Mutation(
        "stem weights overwritten while they are read",
        STEM_IMAGES,
        "stem_convolution_data",
        "stem_convolution_data.cu",
        "    if (first_output > 0) __syncthreads();\n",
        "",
        RACE,
    ),
    Mutation(
        "stem weights read before they are there",
        STEM_IMAGES,
        "stem_convolution_data",
        "stem_convolution_data.cu",
        "    __syncthreads();\n    // Of the filter's",
        "    // Of the filter's",
        RACE,
    ),
    # --- prepare_weights.cu ---
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
        rf"illegal write of \d+ bytes: .*prepared weight|race|{NOT_EQUAL}",
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
    # --- upsampling, and what works at full resolution ---
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
        "upsample_cross_entropy.cu",
        "    __syncthreads();\n    if (threadIdx.x < half) {",
        "    if (threadIdx.x < half) {",
        RACE,
    ),
    Mutation(
        "cell gathered for the left neighbour only",
        CROSS_ENTROPY,
        "upsample_cross_entropy",
        "upsample_cross_entropy.cu",
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


def mutated(mutation: Mutation, directory: Path) -> Path:
    """The kernels' sources with the mistake, in `directory`, which does not exist."""
    kernel_sources.copy(images.sources(), directory)
    path = directory / mutation.file
    text = path.read_text()
    count = text.count(mutation.snippet)
    assert count == 1, f"{mutation.name}: {mutation.file} has the snippet {count} times: adapt the mutation"
    path.write_text(text.replace(mutation.snippet, mutation.replacement))
    return directory


class ProductStatistics(test_bn_relu_conv1x1.TestBnReluConv1x1):
    """The statistics of its output that a product leaves for the next batch norm, which no operator asks for."""

    def check(self, arguments: Arguments) -> None:
        x, *vectors, weight = (argument.detach() for argument in arguments.values())
        out = layout.empty(x, x.shape[0], weight.shape[0], *x.shape[2:])
        actual = bn_relu_conv1x1_forward(x, Norm.of(*vectors), weight, out, statistics=True)
        expected = reference.channel_statistics(out.double())
        for name, a, b in zip(("mean", "variance"), actual, expected):
            assert_near(a, b, name, tolerance=1e-5)


def run_case(case: Case) -> None:
    """A test of a suite, or its comparison with the reference at a shape."""
    if case.suite == "conv3x3_strip":
        tolerance = 4e-3 if case.dtype == "float16" else FLOAT64_TOLERANCE
        test_bn_relu_conv3x3.check_strip((3, 8), 2, case.shape, getattr(torch, case.dtype), tolerance)
        return
    if case.suite == "stem":
        *size, outputs = case.shape
        getattr(test_stem, case.method)(getattr(torch, case.dtype), tuple(size), outputs, 5000)
        return
    if case.suite == "prepared_weights":
        arguments = (Form.forward,) if case.method == "test_some_input_channels" else ()
        getattr(test_prepared_weights, case.method)(getattr(torch, case.dtype), *arguments)
        return
    suite = ProductStatistics() if case.suite == "product_statistics" else SUITES[case.suite]
    if case.method:
        getattr(suite, case.method)()
    else:
        suite.check(suite.prepared(case.shape, getattr(torch, case.dtype), case.layout))


@pytest.mark.parametrize("case", dict.fromkeys(mutation.case for mutation in MUTATIONS), ids=str)
def test_as_they_are(case: Case) -> None:
    with using(emulated("sm_80")):
        run_case(case)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_mistake_is_found(mutation: Mutation, tmp_path: Path) -> None:
    require_compiler("sm_80")
    directory = mutated(mutation, tmp_path / "kernels")

    def provider(name: str, architecture: tuple[int, int], driver_version: int) -> bytes:
        operator, _ = kernel_sources.operator_and_element(name)
        return ptx(name, architecture, directory=directory if operator == mutation.image else None)

    with using(Emulator("sm_80", provider)), pytest.raises((AssertionError, RuntimeError, ValueError)) as caught:
        run_case(mutation.case)
    failure = f"{caught.type.__name__}: {caught.value}"
    assert re.search(mutation.message, failure), failure
