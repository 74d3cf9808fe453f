// Teams of threads on a busy machine.
//
// Threads of an OpenMP team wait for each other by spinning, for milliseconds, before they sleep. Spinning is fastest
// as long as each thread has a processor of its own. If another program takes one, the spinning members keep the other
// processors from the member that they wait for: every region then takes a time slice of the system's scheduler,
// milliseconds instead of microseconds. So the core detects late members, and while there are any, waiting threads
// sleep after microseconds.
#pragma once

namespace ladderseg {

// The first member of a team, the thread that runs a region, calls this when it begins to work,
void start_work();
// this when it has done its share and waits for the others,
void start_waiting();
// and this when all members are done; it may then work on, or leave the region.
void end_waiting();

// Whether waiting threads currently sleep early.
bool waits_asleep();

}  // namespace ladderseg
