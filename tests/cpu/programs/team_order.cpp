// Three phases in which a team of four adds to its parts of an array and then sums all of it. `race` leaves out the
// barrier in between.
#include <cstdio>
#include <cstring>
#include <vector>

#include "parallel.h"

int main(int count, char** arguments) {
  using namespace ladderseg;
  const bool race = count > 1 && std::strcmp(arguments[1], "race") == 0;
  double total = 0.0;
  for (int repeat = 0; repeat < 50; ++repeat) {
    // Of this repeat alone: memory that is given back and taken again must be no race.
    std::vector<double> values(64), sums(4);
    const double added = repeat;
    baseline::parallel(4, [&](int member, int team) {
      const baseline::Range own = baseline::split(64, member, team);
      for (int phase = 0; phase < 3; ++phase) {
        for (int64_t i = own.begin; i < own.end; ++i) values[i] += added;
        if (!race) baseline::barrier(team);
        double sum = 0.0;
        for (const double value : values) sum += value;
        sums[member] = sum;
        baseline::barrier(team);
      }
    });
    for (const double sum : sums) total += sum;
  }
  std::printf("%.0f\n", total);
}
