// Branches, calls, barriers of the block and fences. What they do to the program counter is in scheduler.cpp.
#include "lanes.h"

namespace emulator {
namespace {

void nothing(Warp&, const Instruction&) {}

void decode_branch(Decoding& d) {
  d.take("uni");
  d.instruction.flow = Flow::branch;
  d.instruction.target = d.label(d.operand(0).text);
}

void decode_indexed_branch(Decoding& d) {
  if (!d.take("idx")) d.unsupported("form");
  d.take("uni");
  d.instruction.flow = Flow::branch_indexed;
  d.source(0, 32);
  d.instruction.immediate = d.branch_table(d.operand(1).text);
}

void trap(Warp& warp, const Instruction&) { throw Violation{error_launch_failed, "trap", warp.lanes}; }

// source[0]: the barrier, source[1]: how many threads if `flag`, the last: the predicate of bar.red.
void decode_barrier(Decoding& d) {
  Instruction& i = d.instruction;
  d.take("cta");
  if (d.take("warp")) {
    if (!d.take("sync")) d.unsupported("form");
    i.flow = Flow::collective;
    i.flag = i.flag2 = true;  // has a mask; lanes may meet from different instructions
    d.source(0, 32);
    i.run = nothing;
    return;
  }
  const bool reduce = d.take("red"), arrive = d.take("arrive");
  if (!reduce && !arrive && !d.take("sync")) d.unsupported("form");
  d.take("aligned");
  i.flow = arrive ? Flow::arrive : Flow::barrier;
  size_t next = 0;
  if (reduce) {
    i.immediate = d.take("popc") ? reduce_count : d.take("and") ? reduce_and : d.take("or") ? reduce_or : no_reduction;
    if (!i.immediate) d.unsupported("reduction");
    d.take_type();
    d.destination(next++);
  }
  d.source(next++, 32);
  i.flag = next + reduce < d.operand_count();
  if (i.flag) d.source(next++, 32);
  if (reduce) d.predicate_source(next);
  if (arrive && !i.flag) d.unsupported("number of operands");
}

// Fences: every access is complete when the next instruction runs.
void decode_fence(Decoding& d) {
  const char* const names[] = {"cta", "gl", "gpu", "sys", "sc", "acq_rel", "acquire", "release"};
  for (const char* name : names) d.take(name);
  d.instruction.run = nothing;
}

}  // namespace

void copy_parameters(Warp& warp, const Instruction& i) {
  const Program& program = *warp.launch->program;
  for (const ParameterCopy& copy : program.parameter_copies[i.immediate]) {
    for_each_lane(warp.lanes, [&](u32 lane) {
      u8* base = warp.call_parameters.get() + lane * program.call_parameter_bytes;
      std::memcpy(base + copy.to - program.parameter_bytes, base + copy.from - program.parameter_bytes, copy.bytes);
    });
  }
}

void add_control_flow(OpcodeTable& table) {
  table["bra"] = decode_branch;
  table["brx"] = decode_indexed_branch;
  table["call"] = [](Decoding& d) {
    d.take("uni");
    d.call();
  };
  table["ret"] = [](Decoding& d) {
    d.take("uni");
    d.instruction.flow = Flow::return_;
  };
  table["exit"] = [](Decoding& d) { d.instruction.flow = Flow::exit; };
  table["trap"] = [](Decoding& d) { d.instruction.run = trap; };
  table["bar"] = decode_barrier;
  table["barrier"] = decode_barrier;
  table["membar"] = decode_fence;
  table["fence"] = decode_fence;
  table["nanosleep"] = [](Decoding& d) {
    d.take_type();
    d.instruction.run = nothing;
  };
}

}  // namespace emulator
