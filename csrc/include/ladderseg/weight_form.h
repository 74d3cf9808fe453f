// The order of a prepared weight's elements: see prepare_weights.h.
#pragma once

namespace ladderseg {

enum class WeightForm : int { plain, forward, backward };

}  // namespace ladderseg
