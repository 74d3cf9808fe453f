"""mma, ldmatrix and movmatrix: fragment layouts, written out here from the PTX ISA, against numpy."""

import numpy as np
import pytest
from emulator.cuda_compiler import ptx_of
from emulator.device import READ, WRITE, Buffer, Module, aligned, aligned_copy
from emulator.exact_rounding import half_bits, half_values

LANE = np.arange(32)
GROUP, IN_GROUP = LANE // 4, LANE % 4


def run(body: str, words: np.ndarray, count: int, dtype=np.uint32) -> np.ndarray:
    """Each lane has its row of ``words`` as in[], and fills out[count]."""
    c_type = {np.uint32: "unsigned", np.float64: "double"}[dtype]
    n = words.shape[1]
    source = f"""extern "C" __global__ void k({c_type}* all_out, const {c_type}* all_in) {{
      {c_type} in[{n}], out[{count}]; for (int i = 0; i < {n}; ++i) in[i] = all_in[threadIdx.x * {n} + i];
      {body}
      for (int i = 0; i < {count}; ++i) all_out[threadIdx.x * {count} + i] = out[i]; }}"""
    out = aligned((32, count), dtype)
    Module(ptx_of(source, 80, prefer_nvrtc=True)).launch(
        "k", 1, 32, Buffer(out, WRITE), Buffer(aligned_copy(words.astype(dtype)), READ)
    )
    return out


def mma_source(instruction: str, sizes, letter: str) -> str:
    """The asm statement of an mma with fragments of these sizes: D, A, B, C."""
    number = iter(range(sum(sizes)))
    fragments = ["{" + ", ".join(f"%{next(number)}" for _ in range(size)) + "}" for size in sizes]
    results = ", ".join(f'"={letter}"(out[{i}])' for i in range(sizes[0]))
    sources = ", ".join(f'"{letter}"(in[{i}])' for i in range(sum(sizes[1:])))
    return f'asm volatile("{instruction} {", ".join(fragments)};" : {results} : {sources});'


def pairs(values, row, column):
    """Two neighbours along a row, packed in one register of each lane."""
    return values[row, column].astype(np.uint32) | values[row, column + 1].astype(np.uint32) << 16


@pytest.mark.parametrize(("fmt", "k"), [("f16", 8), ("f16", 16), ("bf16", 8), ("bf16", 16)])
def test_half_precision_mma(fmt, k):
    rng = np.random.default_rng(k)
    a, b = half_bits(rng.standard_normal((16, k)), fmt), half_bits(rng.standard_normal((k, 8)), fmt)
    c = rng.standard_normal((16, 8)).astype(np.float32)
    words = [pairs(a, GROUP + 8 * row, IN_GROUP * 2 + 8 * column) for column in range(k // 8) for row in range(2)]
    words += [pairs(b.T, GROUP, IN_GROUP * 2 + 8 * row) for row in range(k // 8)]
    rows, columns = [GROUP, GROUP, GROUP + 8, GROUP + 8], [IN_GROUP * 2, IN_GROUP * 2 + 1] * 2
    words += [c[r, s].view(np.uint32) for r, s in zip(rows, columns)]
    source = mma_source(f"mma.sync.aligned.m16n8k{k}.row.col.f32.{fmt}.{fmt}.f32", (4, k // 4, k // 8, 4), "r")
    out = run(source, np.stack(words, 1), 4).view(np.float32)
    want = (half_values(a, fmt) @ half_values(b, fmt) + c).astype(np.float32)
    for i in range(4):
        np.testing.assert_allclose(out[:, i], want[rows[i], columns[i]], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("k", [4, 8])
def test_tf32_mma(k):
    rng = np.random.default_rng(k)
    a, b, c = (rng.standard_normal(shape).astype(np.float32) for shape in ((16, k), (k, 8), (16, 8)))
    words = [a[GROUP + 8 * row, IN_GROUP + 4 * column] for column in range(k // 4) for row in range(2)]
    words += [b[IN_GROUP + 4 * row, GROUP] for row in range(k // 4)]
    rows, columns = [GROUP, GROUP, GROUP + 8, GROUP + 8], [IN_GROUP * 2, IN_GROUP * 2 + 1] * 2
    words += [c[r, s] for r, s in zip(rows, columns)]
    source = mma_source(f"mma.sync.aligned.m16n8k{k}.row.col.f32.tf32.tf32.f32", (4, k // 2, k // 4, 4), "r")
    out = run(source, np.stack([w.view(np.uint32) for w in words], 1), 4).view(np.float32)

    def truncated(x):  # tf32 reads the upper 19 bits
        return (x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)

    want = truncated(a) @ truncated(b) + c
    for i in range(4):
        np.testing.assert_allclose(out[:, i], want[rows[i], columns[i]], rtol=1e-6, atol=1e-7)


def test_double_mma():
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(shape) for shape in ((8, 4), (4, 8), (8, 8)))
    words = np.stack([a[GROUP, IN_GROUP], b[IN_GROUP, GROUP], c[GROUP, IN_GROUP * 2], c[GROUP, IN_GROUP * 2 + 1]], 1)
    out = run(mma_source("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64", (2, 1, 1, 2), "d"), words, 2, np.float64)
    np.testing.assert_allclose(out, (a @ b + c)[GROUP[:, None], IN_GROUP[:, None] * 2 + [0, 1]], rtol=1e-14)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_ldmatrix(count, transposed):
    matrices = np.random.default_rng(count).integers(0, 65536, (4, 8, 8)).astype(np.uint16)
    words = matrices.reshape(32, 8).view(np.uint32)  # lane l stores row l % 8 of matrix l / 8
    results = ", ".join(f'"=r"(out[{i}])' for i in range(count))
    registers = ", ".join(f"%{i}" for i in range(count))
    instruction = f"ldmatrix.sync.aligned.m8n8.x{count}{'.trans' if transposed else ''}.shared.b16"
    body = f"""__shared__ uint4 rows[32]; rows[threadIdx.x] = make_uint4(in[0], in[1], in[2], in[3]); __syncwarp();
      unsigned address = (unsigned)__cvta_generic_to_shared(&rows[threadIdx.x]);
      asm volatile("{instruction} {{{registers}}}, [%{count}];"
        : {results} : "r"(address) : "memory");"""
    out = run(body, words, count)
    for m in range(count):
        matrix = matrices[m].T if transposed else matrices[m]
        np.testing.assert_array_equal(out[:, m], pairs(matrix, GROUP, IN_GROUP * 2))


def test_movmatrix():
    matrix = np.random.default_rng(5).integers(0, 65536, (8, 8)).astype(np.uint16)
    body = 'asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out[0]) : "r"(in[0]));'
    out = run(body, pairs(matrix, GROUP, IN_GROUP * 2)[:, None], 1)
    np.testing.assert_array_equal(out[:, 0], pairs(matrix.T, GROUP, IN_GROUP * 2))


def test_match_redux_and_elect():
    body = """int all; out[0] = __match_any_sync(0xffffffffu, in[0]);
      out[1] = __match_all_sync(0xffffffffu, in[0], &all);
      out[2] = all; out[3] = __reduce_add_sync(0xffffffffu, in[0]); out[4] = __reduce_max_sync(0xffffffffu, in[0]);
      out[5] = (unsigned)__reduce_min_sync(0xffffffffu, (int)in[0] - 3);"""
    values = np.random.default_rng(3).integers(0, 6, 32).astype(np.uint32)
    out = run(body, values[:, None], 6)
    equal = (values[:, None] == values[None, :]) @ (1 << np.arange(32, dtype=np.uint64))
    np.testing.assert_array_equal(out[:, 0], equal)
    assert (out[:, 1] == 0).all() and (out[:, 2] == 0).all() and (out[:, 3] == values.sum()).all()
    assert (out[:, 4] == values.max()).all() and (out[:, 5].view(np.int32) == int(values.min()) - 3).all()
