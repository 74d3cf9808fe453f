// Teams of threads on a busy machine.
//
// Threads of an OpenMP team wait for each other by spinning, for milliseconds, before they sleep. That is fastest as
// long as each has a processor of its own. Where another program takes one, the member whose turn does not come is
// waited for by members that keep the other processors from it: every region takes as long as the system's scheduler
// lets a program run, milliseconds instead of microseconds. So late members are noticed, and while there are any,
// waiting threads sleep after microseconds.
#pragma once

namespace ladderseg {

// The first member of a team, which is the thread that runs a region, tells when it begins to work,
void start_work();
// when it has done its share and waits for the others,
void start_waiting();
// and when all have: it may go on to work, or leave the region.
void end_waiting();

// Whether waiting threads sleep early at the moment.
bool waits_asleep();

}  // namespace ladderseg
