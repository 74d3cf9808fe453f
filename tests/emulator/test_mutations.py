"""Each mistake that the emulator is there to find: a broken kernel is caught with the right message, its correct twin
passes."""

import ctypes
from dataclasses import dataclass, field

import numpy as np
import pytest
from emulator.cuda_compiler import ptx_of
from emulator.device import READ, READ_WRITE, SCRATCH, WRITE, Buffer, LaunchError, Module, aligned

COPY_ASYNC = """
__device__ void copy16(void* to, const void* from) {
  unsigned address = (unsigned)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(address), "l"(from) : "memory");
}
__device__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int n> __device__ void wait() { asm volatile("cp.async.wait_group %0;" :: "n"(n) : "memory"); }
"""


@dataclass
class Mutation:
    name: str
    body: str  # of kernel k(float* out, const float* in, int n); the mutation is under #ifdef BROKEN
    message: str
    grid: int = 1
    block: int = 64
    out_access: int = WRITE
    out_shape: tuple = (64,)
    out_columns: int | None = None  # of a wider feature map
    architectures: tuple = (61, 80)
    prelude: str = ""
    code: int = 719
    seeds: tuple = field(default=(1, 2, 3))


MUTATIONS = [
    Mutation(
        "missing block barrier",
        """
        __shared__ float s[64];
        s[threadIdx.x] = in[threadIdx.x];
        #ifndef BROKEN
        __syncthreads();
        #endif
        out[threadIdx.x] = s[63 - threadIdx.x];
        """,
        r"race: shared\[|never written",
    ),
    Mutation(
        "missing barrier before reuse",
        """
        __shared__ float s[64];
        float sum = 0;
        for (int i = 0; i < 3; ++i) {
          s[threadIdx.x] = in[threadIdx.x] + i;
          __syncthreads();
          sum += s[63 - threadIdx.x];
          #ifndef BROKEN
          __syncthreads();
          #endif
        }
        out[threadIdx.x] = sum;
        """,
        r"race: shared\[\d+\] is (read|written) here",
    ),
    Mutation(
        "off-by-one global store",
        """
        #ifdef BROKEN
        out[threadIdx.x + 1] = 1;
        #else
        out[threadIdx.x] = 1;
        #endif
        """,
        r"illegal write of 4 bytes: 0 bytes behind the end of out",
        code=700,
    ),
    Mutation(
        "missing cp.async wait",
        """
        __shared__ float4 s[64];
        copy16(&s[threadIdx.x], in + 4 * (threadIdx.x % 16));
        commit();
        #ifndef BROKEN
        wait<0>();
        #endif
        __syncthreads();
        out[threadIdx.x] = s[63 - threadIdx.x].x;
        """,
        r"cp\.async not waited for",
        architectures=(80,),
        prelude=COPY_ASYNC,
    ),
    Mutation(
        "cp.async wait leaves the group that is needed",
        """
        __shared__ float4 s[2][64];
        copy16(&s[0][threadIdx.x], in + 4 * (threadIdx.x % 16));
        commit();
        copy16(&s[1][threadIdx.x], in);
        commit();
        #ifdef BROKEN
        wait<2>();
        #else
        wait<1>();
        #endif
        __syncthreads();
        out[threadIdx.x] = s[0][63 - threadIdx.x].x;
        wait<0>();
        """,
        r"cp\.async not waited for: shared",
        architectures=(80,),
        prelude=COPY_ASYNC,
    ),
    Mutation(
        "cp.async without barrier after the wait",
        """
        __shared__ float4 s[64];
        copy16(&s[threadIdx.x], in + 4 * (threadIdx.x % 16));
        commit();
        wait<0>();
        #ifndef BROKEN
        __syncthreads();
        #endif
        out[threadIdx.x] = s[63 - threadIdx.x].x;
        """,
        r"race|not waited for|never written",
        architectures=(80,),
        prelude=COPY_ASYNC,
    ),
    Mutation(
        "uninitialised shared element",
        """
        __shared__ float s[64];
        #ifdef BROKEN
        if (threadIdx.x < 63)
        #endif
        s[threadIdx.x] = in[threadIdx.x];
        __syncthreads();
        out[threadIdx.x] = s[63 - threadIdx.x];
        """,
        r"read of shared\[252\], which was never written",
    ),
    Mutation(
        "divergent barrier",
        """
        __shared__ float s[64];
        s[threadIdx.x] = in[threadIdx.x];
        #ifdef BROKEN
        if (threadIdx.x < 32) { __syncthreads(); out[threadIdx.x] = s[threadIdx.x] + 1; }
        else { out[threadIdx.x] = 2; __syncthreads(); out[threadIdx.x] = 3 * s[threadIdx.x]; }
        #else
        __syncthreads();
        if (threadIdx.x < 32) out[threadIdx.x] = s[threadIdx.x] + 1;
        else out[threadIdx.x] = 3 * s[threadIdx.x];
        #endif
        """,
        r"divergent barrier",
    ),
    Mutation(
        "early-exited threads at a barrier",
        """
        __shared__ float s[64];
        #ifdef BROKEN
        if (threadIdx.x >= 40) { out[threadIdx.x] = 0; return; }
        #endif
        s[threadIdx.x] = in[threadIdx.x];
        __syncthreads();
        out[threadIdx.x] = threadIdx.x < 40 ? s[39 - threadIdx.x] : 0;
        """,
        r"divergent barrier: 24 threads of the block have exited",
    ),
    Mutation(
        "wrong lane mask in shfl",
        """
        float x = in[threadIdx.x];
        if (threadIdx.x % 32 < 16) {
        #ifdef BROKEN
          x += __shfl_xor_sync(0xffffffffu, x, 1);
        #else
          x += __shfl_xor_sync(0x0000ffffu, x, 1);
        #endif
        }
        out[threadIdx.x] = x;
        """,
        r"mask",
    ),
    Mutation(
        "lane outside its own mask",
        """
        #ifdef BROKEN
        out[threadIdx.x] = __shfl_sync(0x7fffffffu, in[threadIdx.x], 0);
        #else
        out[threadIdx.x] = __shfl_sync(0xffffffffu, in[threadIdx.x], 0);
        #endif
        """,
        r"lane is not in its own member mask 0x7fffffff",
    ),
    Mutation(
        "misaligned float4",
        """
        #ifdef BROKEN
        float4 v = *(const float4*)(in + 1);
        #else
        float4 v = *(const float4*)(in + 4);
        #endif
        out[threadIdx.x] = v.x + v.y + v.z + v.w;
        """,
        r"misaligned read of 16 bytes",
        code=716,
    ),
    Mutation(
        "store into the gap between rows",
        """
        int row = threadIdx.x / 8, column = threadIdx.x % 8;
        #ifdef BROKEN
        if (threadIdx.x == 63) column = 8;
        #endif
        out[row * 24 + column] = 1;
        """,
        r"illegal write of 4 bytes: in the gap behind row 7 of out|outside",
        out_shape=(9, 24),
        out_columns=8,
        code=700,
        out_access=READ_WRITE,
    ),
    Mutation(
        "read of poisoned output",
        """
        #ifdef BROKEN
        out[threadIdx.x] += 1;
        #else
        out[threadIdx.x] = 1;
        #endif
        """,
        r"read of out\[row 0, byte \d+\], which was never written in this launch",
    ),
    Mutation(
        "output element never written",
        """
        #ifdef BROKEN
        if (threadIdx.x != 17)
        #endif
        out[threadIdx.x] = 1;
        """,
        r"not written: out\[row 0, byte 68\]",
    ),
    Mutation(
        "race between warps on global memory",
        """
        out[threadIdx.x] = in[threadIdx.x];
        #ifndef BROKEN
        __syncthreads();
        #endif
        float other = out[63 - threadIdx.x];
        __syncthreads();
        out[threadIdx.x] = other;
        """,
        r"race: out\[",
        out_access=READ_WRITE,
    ),
    Mutation(
        "two blocks write one element",
        """
        #ifdef BROKEN
        if (threadIdx.x < 33) out[(blockIdx.x * 32 + threadIdx.x) % 64] = 1;
        #else
        if (threadIdx.x < 32) out[blockIdx.x * 32 + threadIdx.x] = 1;
        #endif
        """,
        r"race: out\[(0|128)\] is written here and was written by thread (0|32) of block",
        grid=2,
    ),
    Mutation(
        "one block reads what another writes",
        """
        #ifdef BROKEN
        float x = out[(blockIdx.x * 32 + threadIdx.x % 32 + 32) % 64];
        #else
        float x = out[blockIdx.x * 32 + threadIdx.x % 32];
        #endif
        __syncthreads();
        if (threadIdx.x < 32) out[blockIdx.x * 32 + threadIdx.x] = x + 1;
        """,
        r"race: out\[",
        grid=2,
        out_access=READ_WRITE,
    ),
    Mutation(
        "missing __syncwarp between lanes",
        """
        __shared__ float s[64];
        s[threadIdx.x] = in[threadIdx.x];
        #ifndef BROKEN
        __syncwarp();
        #endif
        out[threadIdx.x] = s[threadIdx.x ^ 1];
        """,
        r"race: shared\[|never written",
    ),
    Mutation(
        "shared out of range",
        """
        __shared__ float s[64];
        s[threadIdx.x] = 0;
        __syncthreads();
        #ifdef BROKEN
        out[threadIdx.x] = s[threadIdx.x + n];
        #else
        out[threadIdx.x] = s[threadIdx.x + n - 1];
        #endif
        """,
        r"shared\[256\] is out of range of the block's 256 bytes",
        code=700,
    ),
    Mutation(
        "same value by two threads is a race",
        """
        __shared__ float s;
        #ifndef BROKEN
        if (threadIdx.x == 0)
        #endif
        s = in[0];
        __syncthreads();
        out[threadIdx.x] = s;
        """,
        r"race: shared\[0\] is written here and was written by thread \d+",
    ),
    Mutation(
        "plain read of a counter that others change",
        """
        if (threadIdx.x < 32) out[threadIdx.x] = 0; else out[threadIdx.x] = 1;
        __syncthreads();
        atomicAdd(&out[0], 1.0f);
        #ifdef BROKEN
        out[threadIdx.x] = out[0];
        #else
        atomicAdd(&out[0], -1.0f);
        #endif
        """,
        r"race: out\[0\]",
    ),
]


@pytest.mark.parametrize("architecture", [61, 80])
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name.replace(" ", "-"))
def test_mutation(mutation, architecture):
    if architecture not in mutation.architectures:
        pytest.skip("needs a newer architecture")
    head = 'extern "C" __global__ void k(float* out, const float* in, int n) {'
    source = mutation.prelude + head + mutation.body + "}"
    # NVRTC for both, so that every machine tests the same PTX.
    for broken in (False, True):
        ptx = ptx_of("#define BROKEN\n" + source if broken else source, architecture, prefer_nvrtc=True)
        for seed in mutation.seeds:
            module = Module(ptx, architecture, seed)
            if not broken:
                run(module, mutation)
                continue
            with pytest.raises(LaunchError, match=mutation.message) as caught:
                run(module, mutation)
            assert caught.value.code == mutation.code
            assert "kernel k:" in caught.value.report
            if "not written:" not in caught.value.report:
                assert "kernel.cu:" in caught.value.report
            # The next launch works again.
            run(Module(ptx_of(source, architecture, prefer_nvrtc=True), architecture, seed), mutation)


def run(module, mutation):
    whole = aligned(mutation.out_shape, np.float32)
    out = whole if mutation.out_columns is None else whole[:, : mutation.out_columns]
    values = aligned((64,), np.float32)
    values[:] = np.arange(64)
    module.launch(
        "k", mutation.grid, mutation.block, Buffer(out, mutation.out_access, "out"), Buffer(values, READ, "in"),
        ctypes.c_int(1),
    )  # fmt: skip


def test_scratch_may_stay_unwritten_but_not_be_read_before():
    source = """
    extern "C" __global__ void good(float* s) { s[threadIdx.x] = 1; if (s[threadIdx.x] == 2) s[40] = 3; }
    extern "C" __global__ void bad(float* s) { if (s[threadIdx.x] == 2) s[40] = 3; }
    """
    module = Module(ptx_of(source, prefer_nvrtc=True))
    module.launch("good", 1, 32, Buffer(aligned((64,), np.float32), SCRATCH, "s"))
    with pytest.raises(LaunchError, match=r"read of s\[row 0, byte 0\], which was never written"):
        module.launch("bad", 1, 32, Buffer(aligned((64,), np.float32), SCRATCH, "s"))


def test_write_to_a_read_only_buffer():
    module = Module(ptx_of('extern "C" __global__ void k(float* a) { a[threadIdx.x] = 1; }', prefer_nvrtc=True))
    with pytest.raises(LaunchError, match=r"a\[row 0, byte 0\] is read-only"):
        module.launch("k", 1, 32, Buffer(aligned((64,), np.float32), READ, "a"))


def test_read_beside_the_rows_of_a_buffer():
    """By lanes of which the others read what they may, in several rows."""
    source = """
    extern "C" __global__ void k(float* out, const float* in, int width) {
      out[threadIdx.x] = in[threadIdx.x / 8 * 12 + threadIdx.x % width];
    }
    """
    module = Module(ptx_of(source, prefer_nvrtc=True))
    rows = aligned((4, 12), np.float32)[:, :8]
    buffers = Buffer(aligned((32,), np.float32), WRITE, "out"), Buffer(rows, READ, "in")
    module.launch("k", 1, 32, *buffers, ctypes.c_int(8))
    with pytest.raises(LaunchError, match="illegal read of 4 bytes: in the gap behind row 1 of in"):
        module.launch("k", 1, 32, *buffers, ctypes.c_int(9))


def test_null_pointer_without_declared_buffers():
    module = Module(ptx_of('extern "C" __global__ void k(float* a) { a[threadIdx.x] = 1; }', prefer_nvrtc=True))
    with pytest.raises(LaunchError, match="null pointer"):
        module.launch("k", 1, 32, ctypes.c_void_p(0), checked=False)
