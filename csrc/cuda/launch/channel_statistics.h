// Statistics of a map that exists in strips.
#pragma once

#include "statistics.h"

namespace ladderseg::cuda {

// Writes the parts [input.pixels() / positions_per_part] of `partial` from part `first` on, for a strip of whole parts.
// partial.centre must be given.
void channel_statistics_of_strip(const Queue& queue, const FeatureMap<const void>& input, int64_t first,
                                 const PartialStatistics& partial);

}  // namespace ladderseg::cuda
