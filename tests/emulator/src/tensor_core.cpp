// mma.sync, ldmatrix and movmatrix. Fragment layouts are those of the PTX ISA, "Matrix fragments for mma".
//
// Products are exact in double and are summed in double, in the order of k, then rounded once to the accumulator's
// type. The hardware adds in groups with truncation, so results differ by a few units in the last place.
#include "half.h"

namespace emulator {
namespace {

// An element of a 32-bit register of a fragment.
double element(Type type, u32 bits, u32 index) {
  switch (type) {
    case Type::f16:
      return to_double(Half{(u16)(bits >> 16 * index)});
    case Type::bf16:
      return to_double(BFloat16{(u16)(bits >> 16 * index)});
    default:
      return bits_to_float(bits & ~0x1fffu);  // tf32 ignores the lower 13 bits
  }
}

// m16n8k8, m16n8k16 and m16n8k4 with f32 accumulators. `count`: k; sources are A, B, C in order.
void multiply_16_8(Warp& warp, const Instruction& i) {
  const u32 k_size = i.count, per_register = i.type == Type::tf32 ? 1 : 2;
  const u32 a_registers = k_size / (2 * per_register), b_registers = k_size / (4 * per_register);
  double a[16][16], b[16][8];
  for (u32 lane = 0; lane < warp_size; ++lane) {
    const u32 group = lane / 4, in_group = lane % 4;
    for (u32 e = 0; e < per_register; ++e) {
      for (u32 r = 0; r < a_registers; ++r)
        a[group + 8 * (r % 2)][in_group * per_register + e + r / 2 * 4 * per_register] =
            element(i.type, warp.slot<u32>(i.source[r])[lane], e);
      for (u32 r = 0; r < b_registers; ++r)
        b[in_group * per_register + e + r * 4 * per_register][group] =
            element(i.type, warp.slot<u32>(i.source[a_registers + r])[lane], e);
    }
  }
  double sum[16][8];
  const auto row = [](u32 lane, u32 r) { return lane / 4 + 8 * (r / 2); };
  const auto column = [](u32 lane, u32 r) { return lane % 4 * 2 + r % 2; };
  for (u32 r = 0; r < 4; ++r) {
    const float* accumulator = warp.slot<float>(i.source[a_registers + b_registers + r]);
    for (u32 lane = 0; lane < warp_size; ++lane) sum[row(lane, r)][column(lane, r)] = accumulator[lane];
  }
  for (u32 m = 0; m < 16; ++m)
    for (u32 k = 0; k < k_size; ++k)
      for (u32 n = 0; n < 8; ++n) sum[m][n] += a[m][k] * b[k][n];
  for (u32 r = 0; r < 4; ++r) {
    float* result = warp.slot<float>(i.destination[r]);
    for (u32 lane = 0; lane < warp_size; ++lane) result[lane] = (float)sum[row(lane, r)][column(lane, r)];
  }
  warp.launch->traffic.counts.mma_products += 16 * 8 * k_size;
}

// m8n8k4 in f64.
void multiply_8_8_4(Warp& warp, const Instruction& i) {
  const double* a = warp.slot<double>(i.source[0]);  // lane 4 * row + k
  const double* b = warp.slot<double>(i.source[1]);  // lane 4 * column + k
  double result[2][warp_size];
  for (u32 lane = 0; lane < warp_size; ++lane) {
    for (u32 r = 0; r < 2; ++r) {
      const u32 row = lane / 4, column = lane % 4 * 2 + r;
      double sum = warp.slot<double>(i.source[2 + r])[lane];
      for (u32 k = 0; k < 4; ++k) sum = __builtin_fma(a[row * 4 + k], b[column * 4 + k], sum);
      result[r][lane] = sum;
    }
  }
  for (u32 r = 0; r < 2; ++r) std::memcpy(warp.slot<double>(i.destination[r]), result[r], sizeof result[r]);
  warp.launch->traffic.counts.mma_products += 8 * 8 * 4;
}

void add_fragment(Decoding& d, size_t operand, u32 registers, int bits) {
  const Operand& fragment = d.operand(operand);
  const std::vector<Operand> parts = fragment.kind == Operand::vector ? fragment.parts : std::vector<Operand>{fragment};
  if (parts.size() != registers) d.unsupported("size of a fragment");
  for (const Operand& part : parts) {
    if (operand == 0)
      d.destination(part);
    else
      d.source(part, bits);
  }
}

void decode_mma(Decoding& d) {
  Instruction& i = d.instruction;
  const bool wide = d.take("m8n8k4");
  u32 k = 0;
  if (!wide) k = d.take("m16n8k16") ? 16 : d.take("m16n8k8") ? 8 : d.take("m16n8k4") ? 4 : 0;
  if (!wide && !k) d.unsupported("shape");
  if (!d.take("sync") || !d.take("aligned") || !d.take("row") || !d.take("col")) d.unsupported("form");
  const Type to = d.take_type(), a = d.take_type(), b = d.take_type(), c = d.take_type();
  const Type accumulator = wide ? Type::f64 : Type::f32;
  if (to != accumulator || c != accumulator || a != b) d.unsupported("types");
  if (wide ? a != Type::f64 : a != Type::f16 && a != Type::bf16 && a != Type::tf32) d.unsupported("types");
  if (!wide && (a == Type::tf32 ? k == 16 : k == 4)) d.unsupported("shape");
  i.flow = Flow::collective;
  i.type = a;
  i.count = (u8)k;
  const u32 per_register = a == Type::tf32 ? 1 : 2;
  const int bits = bits_of(accumulator);
  add_fragment(d, 0, wide ? 2 : 4, bits);
  add_fragment(d, 1, wide ? 1 : k / (2 * per_register), bits);
  add_fragment(d, 2, wide ? 1 : k / (4 * per_register), bits);
  add_fragment(d, 3, wide ? 2 : 4, bits);
  i.run = wide ? multiply_8_8_4 : multiply_16_8;
}

// Lanes 8 m to 8 m + 7 give the addresses of the eight rows of matrix m; `transposed` swaps rows and columns.
void load_matrices(Warp& warp, const Instruction& i) {
  Addresses addresses;
  HostPointers rows;
  compute_addresses(warp, i.source[0], i.offset, i.space, addresses);
  const u32 addressing = i.count == 4 ? all_lanes : (1u << 8 * i.count) - 1;
  warp.lanes = addressing;
  resolve(warp, i.space, addresses.lane, 16, Access::read, rows);
  warp.lanes = all_lanes;
  for (u32 m = 0; m < i.count; ++m) {
    u32* to = warp.slot<u32>(i.destination[m]);
    for (u32 lane = 0; lane < warp_size; ++lane) {
      if (!i.transposed) {
        std::memcpy(&to[lane], rows.lane[8 * m + lane / 4] + lane % 4 * 4, 4);
      } else {
        u16 pair[2];
        for (u32 e = 0; e < 2; ++e) std::memcpy(&pair[e], rows.lane[8 * m + lane % 4 * 2 + e] + lane / 4 * 2, 2);
        to[lane] = pair[0] | (u32)pair[1] << 16;
      }
    }
  }
}

void decode_load_matrices(Decoding& d) {
  Instruction& i = d.instruction;
  if (!d.take("sync") || !d.take("aligned") || !d.take("m8n8") || !d.take("b16")) d.unsupported("form");
  i.count = d.take("x4") ? 4 : d.take("x2") ? 2 : 1;
  d.take("x1");
  i.transposed = d.take("trans");
  i.space = d.take_space();
  i.flow = Flow::collective;
  add_fragment(d, 0, i.count, 32);
  d.address(1);
  i.run = load_matrices;
}

// movmatrix: transposes an 8 by 8 matrix that lies over the lanes.
void transpose_matrix(Warp& warp, const Instruction& i) {
  u16 matrix[8][8];
  const u32* a = warp.slot<u32>(i.source[0]);
  for (u32 lane = 0; lane < warp_size; ++lane)
    for (u32 e = 0; e < 2; ++e) matrix[lane / 4][lane % 4 * 2 + e] = (u16)(a[lane] >> 16 * e);
  store_lanes<u32>(warp, i.destination[0], [&](u32 lane) {
    return matrix[lane % 4 * 2][lane / 4] | (u32)matrix[lane % 4 * 2 + 1][lane / 4] << 16;
  });
}

void decode_transpose_matrix(Decoding& d) {
  if (!d.take("sync") || !d.take("aligned") || !d.take("m8n8") || !d.take("trans") || !d.take("b16"))
    d.unsupported("form");
  d.instruction.flow = Flow::collective;
  simple_operands(d, Type::b32, 1);
  d.instruction.run = transpose_matrix;
}

}  // namespace

void add_tensor_core(OpcodeTable& table) {
  table["mma"] = decode_mma;
  table["ldmatrix"] = decode_load_matrices;
  table["movmatrix"] = decode_transpose_matrix;
}

}  // namespace emulator
