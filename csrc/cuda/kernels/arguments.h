// What kernels are called with. This text is read by the compiler of the launchers (with T = void: they pass addresses
// on) and by that of the device code, so it includes nothing.
//
// T is the element type of maps and weights; R is what vectors, sums and weight gradients are made of: float, or double
// for maps of doubles. A struct of arguments is passed to its kernel as it is.
#pragma once

namespace ladderseg::cuda {

using int64 = long long;

// Like ladderseg::FeatureMap.
template <class T>
struct Map {
  T* data;
  int64 n, h, w, c;
  int64 pixel_stride;
};

// Like ladderseg::BnRelu.
template <class R>
struct Norm {
  const R* mean;
  const R* scale;
  const R* shift;
};

// Like ladderseg::CorrectedGradient.
template <class T, class R>
struct Gradient {
  Map<const T> grad;
  Map<const T> input;  // or no data
  const R* mean;
  const R* constant;
  const R* slope;
};

// Work on the columns of a map: each block has some channels and `pixels_per_block` pixels.
struct Columns {
  int64 pixels_per_block;
  int wide;  // whether all maps can be read 16 bytes at a time
};

}  // namespace ladderseg::cuda
