// Weights in the forms that kernels read: see ladderseg/prepare_weights.h.
#include "element.cuh"
#include "prepare_weights.h"

namespace ladderseg::cuda {

LADDERSEG_DEVICE Element converted(const PreparedWeight<Element>& weight, int64 i) {
  if (weight.real) return to_element(static_cast<const Real*>(weight.source)[i]);
  return static_cast<const Element*>(weight.source)[i];
}

extern "C" __global__ void __launch_bounds__(kPrepareThreads, 2)
    LADDERSEG_KERNEL(prepare_weights)(const PrepareWeightsArguments<Element> args) {
  const int block = static_cast<int>(blockIdx.x);
  int number = 0;  // the last weight whose blocks begin here or before
  for (int step = kPreparedWeights / 2; step > 0; step /= 2)
    if (number + step < args.count && args[number + step].first_block <= block) number += step;
  const PreparedWeight<Element>& weight = args[number];
  const int rows = weight.rows, columns = weight.columns, taps = weight.taps;
  const WeightForm form = weight.form;
  const int row_stride = form == WeightForm::backward ? columns : columns * taps;
  const int tap_stride = form == WeightForm::plain ? 1 : form == WeightForm::forward ? columns : rows * columns;
  const int column_stride = form == WeightForm::plain ? taps : 1;
  const int first = (block - weight.first_block) * (kPrepareThreads * kPreparePairs) + static_cast<int>(threadIdx.x);
#pragma unroll 1
  for (int j = 0; j < kPreparePairs; ++j) {
    const int pair = first + j * kPrepareThreads;
    if (pair >= rows * columns) return;
    const int row = pair / columns, column = pair % columns;
    const bool inside = row < weight.outputs && column < weight.channels;
    const int64 from = row * weight.source_stride + static_cast<int64>(column) * taps;
    Element* const to = weight.prepared + row * row_stride + column * column_stride;  // fewer than 2^31 elements
    for (int tap = 0; tap < taps; ++tap)
      to[tap * tap_stride] = inside ? converted(weight, from + tap) : to_element(Real(0));
  }
}

}  // namespace ladderseg::cuda
