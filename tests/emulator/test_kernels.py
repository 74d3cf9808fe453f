"""Whole kernels: control flow, memory spaces, collectives, barriers, asynchronous copies, on both architectures."""

import ctypes

import numpy as np
import pytest
from emulator.cuda_compiler import ptx_of
from emulator.device import (
    READ,
    READ_WRITE,
    WRITE,
    Buffer,
    LaunchError,
    Module,
    aligned,
    aligned_copy,
    library,
)

BOTH = pytest.mark.parametrize("architecture", [61, 80])
SEEDS = (1, 2, 3, 4)


def launch(source, architecture, grid, block, *arguments, seed=1, name="k", **options):
    module = Module(ptx_of(source, architecture, prefer_nvrtc=True), architecture, seed)
    return module.launch(name, grid, block, *arguments, **options)


@BOTH
def test_divergent_loops_reconverge_for_a_shuffle(architecture):
    source = """extern "C" __global__ void k(int* out) {
      int x = threadIdx.x, steps = 0;
      while (x != 1) { if (x <= 0) break; x = x % 2 ? 3 * x + 1 : x / 2; ++steps; }
      for (int d = 16; d; d /= 2) steps += __shfl_xor_sync(0xffffffffu, steps, d);
      out[threadIdx.x] = steps; }"""

    def collatz(x):
        steps = 0
        while x > 1:
            x, steps = (3 * x + 1 if x % 2 else x // 2), steps + 1
        return steps

    for seed in SEEDS:
        out = aligned((64,), np.int32)
        launch(source, architecture, 1, 64, Buffer(out, WRITE), seed=seed)
        assert (out[:32] == sum(map(collatz, range(32)))).all()
        assert (out[32:] == sum(map(collatz, range(32, 64)))).all()


@BOTH
def test_device_functions_return_to_their_callers(architecture):
    source = """
    struct Pair { float a; double b; };
    __device__ __noinline__ Pair twice(Pair p, int n) { p.a *= n; p.b += n; return p; }
    __device__ __noinline__ float outer(float x, int n) { Pair p = twice(Pair{x, 1.0}, n); return p.a + (float)p.b; }
    extern "C" __global__ void k(float* out) {
      float x = threadIdx.x;
      if (threadIdx.x % 3 == 0) x = outer(x, 2); else if (threadIdx.x % 3 == 1) x = outer(x, 5);
      out[threadIdx.x] = x; }"""
    for seed in SEEDS:
        out = aligned((64,), np.float32)
        launch(source, architecture, 1, 64, Buffer(out, WRITE), seed=seed)
        i = np.arange(64)
        n = np.where(i % 3 == 0, 2, 5)
        np.testing.assert_array_equal(out, np.where(i % 3 == 2, i, i * n + 1 + n))


@BOTH
def test_local_arrays_switches_and_constants(architecture):
    source = """
    __constant__ int table[4] = {7, -3, 11, 5};
    __device__ float offsets[3] = {0.5f, 1.5f, 2.5f};
    extern "C" __global__ void k(float* out, int n) {
      int order[8];
      for (int i = 0; i < 8; ++i) order[(i * 3 + n) % 8] = i;
      float x = order[threadIdx.x % 8] + table[threadIdx.x % 4] + offsets[threadIdx.x % 3];
      switch (threadIdx.x % 7) { case 0: x += 1; break; case 1: x *= 2; break; case 2: x -= 3; break;
        case 3: x = -x; break; case 4: x += 100; break; case 5: x *= x; break; }
      out[threadIdx.x] = x; }"""
    out = aligned((64,), np.float32)
    launch(source, architecture, 1, 64, Buffer(out, WRITE), ctypes.c_int(1))
    order = np.zeros(8)
    order[(np.arange(8) * 3 + 1) % 8] = np.arange(8)
    i = np.arange(64)
    x = order[i % 8] + np.array([7, -3, 11, 5])[i % 4] + np.array([0.5, 1.5, 2.5])[i % 3]
    want = np.select([i % 7 == k for k in range(6)], [x + 1, x * 2, x - 3, -x, x + 100, x * x], x)
    np.testing.assert_array_equal(out, want)


@BOTH
def test_local_array_out_of_bounds(architecture):
    source = """extern "C" __global__ void k(int* out, int n) {
      int a[4] = {1, 2, 3, 4}; a[threadIdx.x % 4] = 7; out[threadIdx.x] = a[(threadIdx.x + n) % 400]; }"""
    with pytest.raises(LaunchError, match=r"local\[\d+\] is out of range of the thread's 16 bytes"):
        launch(source, architecture, 1, 32, Buffer(aligned((32,), np.int32), WRITE), ctypes.c_int(390))


@BOTH
def test_atomics(architecture):
    source = """
    extern "C" __global__ void k(float* sum, int* maximum, unsigned long long* bits, double* total, int* old) {
      __shared__ int count;
      if (threadIdx.x == 0) count = 0;
      __syncthreads();
      int i = blockIdx.x * blockDim.x + threadIdx.x;
      old[i] = atomicAdd(&count, 1);
      atomicAdd(sum, (float)i); atomicMax(maximum, (i * 37) % 101); atomicOr(bits, 1ull << (i % 64));
      atomicAdd(total, 0.5 * i);
      int expected = maximum[1], seen = atomicCAS(&maximum[2 + i % 4], 0, i + 1); (void)expected; (void)seen; }"""
    n = 256
    total, maximum, bits, double, old = (
        aligned((8,), np.float32), aligned((8,), np.int32), aligned((1,), np.uint64), aligned((1,), np.float64),
        aligned((n,), np.int32),
    )  # fmt: skip
    buffers = [Buffer(a, READ_WRITE) for a in (total, maximum, bits, double)]
    launch(source, architecture, 4, 64, *buffers, Buffer(old, WRITE))
    assert total[0] == sum(range(n)) and double[0] == sum(range(n)) / 2
    assert maximum[0] == 100 and bits[0] == 2**64 - 1
    assert all(maximum[2 + k] % 4 == (k + 1) % 4 for k in range(4))
    assert (np.sort(old.reshape(4, 64)) == np.arange(64)).all()


@BOTH
def test_vector_accesses_and_narrow_types(architecture):
    source = """
    extern "C" __global__ void k(float4* out, const float4* in, unsigned char* bytes, const short2* shorts) {
      float4 v = in[threadIdx.x]; short2 s = shorts[threadIdx.x];
      out[threadIdx.x] = make_float4(v.w, v.z, v.y + s.x, v.x + s.y);
      bytes[threadIdx.x] = (unsigned char)(s.x + s.y); }"""
    rng = np.random.default_rng(0)
    a, s = rng.standard_normal((64, 4)).astype(np.float32), rng.integers(-100, 100, (64, 2)).astype(np.int16)
    out, octets = aligned((64, 4), np.float32), aligned((64,), np.uint8)
    launch(source, architecture, 1, 64, Buffer(out, WRITE), Buffer(aligned_copy(a), READ), Buffer(octets, WRITE),
           Buffer(aligned_copy(s), READ))  # fmt: skip
    want = np.stack([a[:, 3], a[:, 2], a[:, 1] + s[:, 0], a[:, 0] + s[:, 1]], 1)
    np.testing.assert_array_equal(out, want.astype(np.float32))
    np.testing.assert_array_equal(octets, s.sum(1).astype(np.uint8))


@BOTH
def test_shuffles_and_votes(architecture):
    source = """extern "C" __global__ void k(unsigned* out, const unsigned* in) {
      unsigned x = in[threadIdx.x], full = 0xffffffffu, lane = threadIdx.x; unsigned* o = out + 10 * lane;
      o[0] = __shfl_up_sync(full, x, 3); o[1] = __shfl_down_sync(full, x, 5, 16); o[2] = __shfl_xor_sync(full, x, 9);
      o[3] = __shfl_sync(full, x, lane + 7, 8); o[4] = __ballot_sync(full, x & 1); o[5] = __all_sync(full, x < 1000);
      o[6] = __any_sync(full, x == 3); o[7] = __popc(__activemask());
      if (lane % 2) o[8] = __shfl_sync(0xaaaaaaaau, x, 1); else o[8] = __shfl_sync(0x55555555u, x, 2);
      __syncwarp(); o[9] = lane; }"""
    x = np.random.default_rng(1).integers(0, 1000, 32).astype(np.uint32)
    lane = np.arange(32)
    down = np.where(lane % 16 + 5 < 16, lane + 5, lane)
    ballot = sum(int(v & 1) << k for k, v in enumerate(x))
    want = [
        x[np.where(lane >= 3, lane - 3, lane)],
        x[down],
        x[lane ^ 9],
        x[lane // 8 * 8 + (lane + 7) % 8],
        np.full(32, ballot, np.uint32),
        np.ones(32),
        np.full(32, (x == 3).any()),
        np.full(32, 32),
        np.where(lane % 2, x[1], x[2]),
        lane,
    ]
    for seed in SEEDS:
        out = aligned((32, 10), np.uint32)
        launch(source, architecture, 1, 32, Buffer(out, WRITE), Buffer(aligned_copy(x), READ), seed=seed)
        np.testing.assert_array_equal(out, np.stack(want, 1))


@BOTH
def test_partial_masks_order_only_their_lanes(architecture):
    source = """extern "C" __global__ void k(int* out, int n) { __shared__ int s[32];
      int lane = threadIdx.x; s[lane] = lane;
      if (lane < 16) __syncwarp(0x0000ffffu); else __syncwarp(0xffff0000u);
      out[lane] = s[lane ^ n]; }"""
    out = aligned((32,), np.int32)
    launch(source, architecture, 1, 32, Buffer(out, WRITE), ctypes.c_int(8))
    np.testing.assert_array_equal(out, np.arange(32) ^ 8)
    with pytest.raises(LaunchError, match=r"race: shared|never written"):
        launch(source, architecture, 1, 32, Buffer(out, WRITE), ctypes.c_int(16))


@BOTH
def test_block_reductions(architecture):
    source = """extern "C" __global__ void k(int* out) { int odd = threadIdx.x & 1;
      out[3 * threadIdx.x] = __syncthreads_count(odd); out[3 * threadIdx.x + 1] = __syncthreads_and(odd);
      out[3 * threadIdx.x + 2] = __syncthreads_or(odd); }"""
    out = aligned((96, 3), np.int32)
    launch(source, architecture, 1, 96, Buffer(out, WRITE))
    assert (out == [48, 0, 1]).all()


@BOTH
def test_dynamic_shared_memory_and_grids_of_three_dimensions(architecture):
    source = """extern __shared__ double dynamic[];
    extern "C" __global__ void k(double* out) { __shared__ int fixed[3]; int t = threadIdx.x + blockDim.x * threadIdx.y;
      if (t < 3) fixed[t] = t; dynamic[t] = t; __syncthreads();
      int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
      out[block * 64 + t] = dynamic[63 - t] + fixed[t % 3] + 1000 * block; }"""
    out = aligned((24, 64), np.float64)
    launch(source, architecture, (2, 3, 4), (16, 4), Buffer(out, WRITE), shared=512)
    t = np.arange(64)
    np.testing.assert_array_equal(out, 63 - t + t % 3 + 1000 * np.arange(24)[:, None])
    with pytest.raises(LaunchError, match="out of range"):
        launch(source, architecture, (2, 3, 4), (16, 4), Buffer(out, WRITE), shared=504)
    with pytest.raises(LaunchError, match="dynamic shared memory") as caught:
        launch(source, architecture, 1, 64, Buffer(out, WRITE), shared=49152)
    assert caught.value.code == 1


def test_pipeline_of_asynchronous_copies():
    source = """extern "C" __global__ void k(float* out, const float* in, int tiles) {
      __shared__ float4 stage[2][32]; float sum = 0;
      auto issue = [&](int t) {
        unsigned to = (unsigned)__cvta_generic_to_shared(&stage[t % 2][threadIdx.x]);
        int bytes = t == tiles - 1 ? 8 : 16;
        const float* from = in + (t * 32 + threadIdx.x) * 4;
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(to), "l"(from), "r"(bytes) : "memory");
        asm volatile("cp.async.commit_group;" ::: "memory"); };
      issue(0);
      for (int t = 0; t < tiles; ++t) {
        if (t + 1 < tiles) { issue(t + 1); asm volatile("cp.async.wait_group 1;" ::: "memory"); }
        else asm volatile("cp.async.wait_all;" ::: "memory");
        __syncthreads();
        float4 v = stage[t % 2][31 - threadIdx.x]; sum += v.x + v.y + v.z + v.w;
        __syncthreads(); }
      out[threadIdx.x] = sum; }"""
    a = np.random.default_rng(2).integers(-9, 9, (5, 32, 4)).astype(np.float32)
    want = a.copy()
    want[-1, :, 2:] = 0
    for seed in SEEDS:
        out = aligned((32,), np.float32)
        tiles = Buffer(aligned_copy(a.reshape(-1)), READ)
        launch(source, 80, 1, 32, Buffer(out, WRITE), tiles, ctypes.c_int(5), seed=seed)
        np.testing.assert_array_equal(out, want.sum((0, 2))[::-1])


def test_exit_with_a_pending_copy():
    source = """extern "C" __global__ void k(const float* in) { __shared__ float4 s[32];
      unsigned to = (unsigned)__cvta_generic_to_shared(&s[threadIdx.x]);
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(in) : "memory"); }"""
    with pytest.raises(LaunchError, match="exit before the copy"):
        launch(source, 80, 1, 32, Buffer(aligned((4,), np.float32), READ))


@BOTH
def test_uninitialised_register(architecture):
    source = """extern "C" __global__ void k(int* out) {
      int r; asm volatile("{ .reg .b32 t; .reg .pred p; setp.gt.s32 p, %1, 5; @p mov.b32 t, 1; add.s32 %0, t, 1; }"
                          : "=r"(r) : "r"((int)threadIdx.x));
      out[threadIdx.x] = r; }"""
    with pytest.raises(LaunchError, match=r"register that was never written[\s\S]*thread"):
        launch(source, architecture, 1, 32, Buffer(aligned((32,), np.int32), WRITE))


@BOTH
def test_a_run_repeats_for_a_seed_and_differs_between_launches(architecture):
    source = """extern "C" __global__ void k(int* order, int* next) {
      if (threadIdx.x == 0) order[atomicAdd(next, 1)] = blockIdx.x; }"""
    module = Module(ptx_of(source, architecture, prefer_nvrtc=True), architecture, 7)

    def orders():
        result = []
        for _ in range(3):
            order, following = aligned((64,), np.int32), aligned((1,), np.int32)
            module.launch("k", 64, 32, Buffer(order, WRITE), Buffer(following, READ_WRITE))
            result.append(order.tolist())
        return result

    first = orders()
    assert first[0] != first[1] != first[2] and sorted(first[0]) == list(range(64))
    module = Module(ptx_of(source, architecture, prefer_nvrtc=True), architecture, 7)
    assert orders() == first


@BOTH
def test_traffic(architecture):
    source = """extern "C" __global__ void k(float* out, const float* in, int stride) { __shared__ float s[32 * 32];
      s[threadIdx.x * stride] = fmaf(in[threadIdx.x], 2.0f, in[threadIdx.x + 32]); __syncwarp();
      out[threadIdx.x] = s[threadIdx.x * stride]; }"""
    library().emulator_count(1)
    try:
        for stride, conflicts in ((1, 0), (2, 2), (32, 62)):
            traffic = launch(source, architecture, 1, 32, Buffer(aligned((32,), np.float32), WRITE),
                             Buffer(aligned((64,), np.float32), READ), ctypes.c_int(stride))  # fmt: skip
            assert traffic.shared_bank_conflicts == conflicts and traffic.shared_accesses == 2
            assert traffic.read_bytes == traffic.read_bytes_distinct == 256
            assert traffic.written_bytes == traffic.written_bytes_distinct == 128
            assert traffic.fma == 32
    finally:
        library().emulator_count(0)


TILED_PRODUCT = """
constexpr int tile = 32;
extern "C" __global__ void k(const float* a, const float* b, float* c, int n) {
  __shared__ float as[8][tile], bs[8][tile];
  const int tx = threadIdx.x % 8, ty = threadIdx.x / 8, row = blockIdx.y * tile, column = blockIdx.x * tile;
  float sum[4][4] = {};
  for (int k0 = 0; k0 < n; k0 += 8) {
    for (int e = threadIdx.x; e < 8 * tile; e += 64) {
      as[e % 8][e / 8] = a[(row + e / 8) * n + k0 + e % 8];
      bs[e / tile][e % tile] = b[(k0 + e / tile) * n + column + e % tile];
    }
    __syncthreads();
    for (int k = 0; k < 8; ++k) {
      const float4 x = *(const float4*)&as[k][4 * ty], y = *(const float4*)&bs[k][4 * tx];
      const float xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
      for (int i = 0; i < 4; ++i) for (int j = 0; j < 4; ++j) sum[i][j] = fmaf(xs[i], ys[j], sum[i][j]);
    }
    __syncthreads();
  }
  for (int i = 0; i < 4; ++i) for (int j = 0; j < 4; ++j) c[(row + 4 * ty + i) * n + column + 4 * tx + j] = sum[i][j];
}
"""


@pytest.mark.parametrize("prefer_nvrtc", [False, True])
@BOTH
def test_tiled_product(architecture, prefer_nvrtc):
    n = 64
    a, b = (np.random.default_rng(s).integers(-4, 5, (n, n)).astype(np.float32) for s in (0, 1))
    c = aligned((n, n), np.float32)
    module = Module(ptx_of(TILED_PRODUCT, architecture, prefer_nvrtc), architecture)
    arguments = [Buffer(aligned_copy(a), READ, "a"), Buffer(aligned_copy(b), READ, "b"), Buffer(c, WRITE, "c")]
    traffic = module.launch("k", (2, 2), 64, *arguments, ctypes.c_int(n))
    np.testing.assert_array_equal(c, a @ b)
    assert traffic.fma == n**3
