"""Instruction by instruction against exact arithmetic or numpy, on random values and on the edges."""

import zlib
from fractions import Fraction

import numpy as np
import pytest
from emulator.cuda_compiler import ptx_of
from emulator.device import READ, WRITE, Buffer, LaunchError, Module, aligned, aligned_copy
from emulator.exact_rounding import half_bits, half_values, rounded_array

N = 256
LETTER = {np.uint16: "h", np.int16: "h", np.uint32: "r", np.int32: "r", np.uint64: "l", np.int64: "l",
          np.float32: "f", np.float64: "d"}  # fmt: skip
C_NAME = {np.uint16: "unsigned short", np.int16: "short", np.uint32: "unsigned", np.int32: "int",
          np.uint64: "unsigned long long", np.int64: "long long", np.float32: "float",
          np.float64: "double"}  # fmt: skip


def run(body: str, inputs, output_type, architecture: int = 80, outputs: int = N) -> np.ndarray:
    """Runs ``body``, which makes r from x, y, z, once for each element."""
    names = "xyz"[: len(inputs)]
    types = [C_NAME[a.dtype.type] for a in inputs]
    source = (
        f'extern "C" __global__ void k({C_NAME[output_type]}* out'
        + "".join(f", const {t}* in_{v}" for t, v in zip(types, names))
        + ") { int i = blockIdx.x * blockDim.x + threadIdx.x; "
        + "".join(f"{t} {v} = in_{v}[i]; " for t, v in zip(types, names))
        + f"{C_NAME[output_type]} r; {body} out[i] = r; }}"
    )
    module = Module(ptx_of(source, architecture, prefer_nvrtc=True), architecture)
    out = aligned((outputs,), output_type)
    arguments = [Buffer(aligned_copy(a), READ, f"in_{v}") for a, v in zip(inputs, names)]
    module.launch("k", outputs // 64, 64, Buffer(out, WRITE, "out"), *arguments)
    return out


def run_instruction(instruction: str, inputs, output_type, architecture: int = 80) -> np.ndarray:
    operands = ", ".join(f"%{i}" for i in range(len(inputs) + 1))
    constraints = ", ".join(f'"{LETTER[a.dtype.type]}"({v})' for a, v in zip(inputs, "xyz"))
    head, _, tail = instruction.partition(" ")
    body = f'asm volatile("{head} {operands}{tail};" : "={LETTER[output_type]}"(r) : {constraints});'
    return run(body, inputs, output_type, architecture)


def random_generator(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def integers(rng, dtype) -> np.ndarray:
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, N, dtype, endpoint=True)
    small = rng.integers(0, 70, N).astype(dtype)
    values = np.where(rng.random(N) < 0.3, small, values)
    values[:4] = [info.min, info.max, 0, 1]
    return rng.permutation(values)


def floats(rng, dtype, spread=20) -> np.ndarray:
    values = rng.standard_normal(N) * 2.0 ** rng.integers(-spread, spread, N)
    return values.astype(dtype)


def any_floats(rng, dtype) -> np.ndarray:
    bits = rng.integers(0, 2**63, N, np.uint64) * 2 + rng.integers(0, 2, N).astype(np.uint64)
    values = bits.view(np.float64) if dtype == np.float64 else bits.astype(np.uint32).view(np.float32)
    values = np.where(rng.random(N) < 0.5, values, floats(rng, dtype)).astype(dtype)
    values[:8] = [np.inf, -np.inf, np.nan, 0.0, -0.0, 1.5, 2.5, -2.5]
    return rng.permutation(values)


def wide(a):
    return [int(v) for v in a]


def wrapped(values, dtype):
    bits = np.dtype(dtype).itemsize * 8
    return np.array([v & ((1 << bits) - 1) for v in values], f"u{bits // 8}").view(dtype)


def divide(a, b):
    return int(abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1)


INTEGER_OPERATIONS = {
    "add.T": lambda a, b, w: a + b,
    "sub.T": lambda a, b, w: a - b,
    "mul.lo.T": lambda a, b, w: a * b,
    "mul.hi.T": lambda a, b, w: a * b >> w,
    "min.T": lambda a, b, w: min(a, b),
    "max.T": lambda a, b, w: max(a, b),
    "div.T": lambda a, b, w: divide(a, b) if b else -1,
    "rem.T": lambda a, b, w: a - divide(a, b) * b if b else a,
}
INTEGER_TYPES = {"u16": np.uint16, "s16": np.int16, "u32": np.uint32, "s32": np.int32, "u64": np.uint64,
                 "s64": np.int64}  # fmt: skip


@pytest.mark.parametrize("operation", INTEGER_OPERATIONS)
@pytest.mark.parametrize("name", INTEGER_TYPES)
def test_integer_arithmetic(operation, name):
    dtype = INTEGER_TYPES[name]
    rng = random_generator(operation + name)
    a, b = integers(rng, dtype), integers(rng, dtype)
    got = run_instruction(operation.replace("T", name), [a, b], dtype, 61)
    width = np.dtype(dtype).itemsize * 8
    want = wrapped([INTEGER_OPERATIONS[operation](x, y, width) for x, y in zip(wide(a), wide(b))], dtype)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", ["u16", "s16", "u32", "s32"])
@pytest.mark.parametrize("add", [False, True])
def test_wide_products(name, add):
    dtype = INTEGER_TYPES[name]
    result = INTEGER_TYPES[name[0] + str(2 * int(name[1:]))]
    rng = random_generator(name)
    a, b, c = integers(rng, dtype), integers(rng, dtype), integers(rng, result)
    got = run_instruction(f"{'mad' if add else 'mul'}.wide.{name}", [a, b, c] if add else [a, b], result)
    want = wrapped([x * y + (z if add else 0) for x, y, z in zip(wide(a), wide(b), wide(c))], result)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", INTEGER_TYPES)
@pytest.mark.parametrize("direction", ["shl", "shr"])
def test_shifts(name, direction):
    dtype = INTEGER_TYPES[name]
    rng = random_generator(name + direction)
    a, amounts = integers(rng, dtype), rng.integers(0, 80, N).astype(np.uint32)
    spelled = name if direction == "shr" else "b" + name[1:]
    got = run_instruction(f"{direction}.{spelled}", [a, amounts], dtype)
    want = wrapped([x << s if direction == "shl" else x >> s for x, s in zip(wide(a), wide(amounts))], dtype)
    np.testing.assert_array_equal(got, want)


def extract(a, position, length, width, signed):
    position, length = position & 255, length & 255
    if length == 0:
        return 0
    sign = a >> min(position + length - 1, width - 1) & 1 if signed else 0
    bits = [(a >> (position + k) & 1) if k < length and position + k < width else sign for k in range(width)]
    return sum(bit << k for k, bit in enumerate(bits))


@pytest.mark.parametrize("name", ["u32", "s32", "u64", "s64"])
def test_bit_fields(name):
    dtype, width = INTEGER_TYPES[name], int(name[1:])
    rng = random_generator("bfe" + name)
    a = integers(rng, dtype)
    position, length = (rng.integers(0, width + 6, N).astype(np.uint32) for _ in range(2))
    got = run_instruction(f"bfe.{name}", [a, position, length], dtype)
    fields = zip(wide(a.view(f"u{width // 8}")), wide(position), wide(length))
    want = [extract(x, p, n, width, name[0] == "s") for x, p, n in fields]
    np.testing.assert_array_equal(got, wrapped(want, dtype))


def permuted(a, b, selectors):
    """prmt: each selector takes a byte of b:a, or, with its upper bit, the byte's sign."""
    result = 0
    for k in range(4):
        selector = selectors >> 4 * k
        byte = (b << 32 | a) >> 8 * (selector & 7) & 255
        result |= (255 * (byte >> 7) if selector & 8 else byte) << 8 * k
    return result


THREE_WORDS = {
    "lop3.b32 , 0xE8": lambda a, b, c: a & b | a & c | b & c,
    "lop3.b32 , 0x1E": lambda a, b, c: a ^ (b | c),
    "shf.l.wrap.b32": lambda a, b, c: (b << 32 | a) << (c & 31) >> 32,
    "shf.r.clamp.b32": lambda a, b, c: (b << 32 | a) >> min(c, 32),
    "mad.lo.u32": lambda a, b, c: a * b + c,
    "mad.hi.u32": lambda a, b, c: (a * b >> 32) + c,
    "sad.u32": lambda a, b, c: abs(a - b) + c,
    "dp4a.u32.u32": lambda a, b, c: c + sum((a >> s & 255) * (b >> s & 255) for s in (0, 8, 16, 24)),
    "prmt.b32": permuted,
}


@pytest.mark.parametrize("instruction", THREE_WORDS)
def test_three_words(instruction):
    rng = random_generator(instruction)
    a, b, c = (integers(rng, np.uint32) for _ in range(3))
    got = run_instruction(instruction, [a, b, c], np.uint32, 61)
    want = wrapped([THREE_WORDS[instruction](x, y, z) for x, y, z in zip(wide(a), wide(b), wide(c))], np.uint32)
    np.testing.assert_array_equal(got, want)


ONE_WORD = {
    "popc.b32": lambda a: a.bit_count(),
    "clz.b32": lambda a: 32 - a.bit_length(),
    "brev.b32": lambda a: int(f"{a:032b}"[::-1], 2),
    "bfind.u32": lambda a: a.bit_length() - 1,
    "not.b32": lambda a: ~a,
    "neg.s32": lambda a: -a,
    "cnot.b32": lambda a: a == 0,
}


@pytest.mark.parametrize("instruction", ONE_WORD)
def test_one_word(instruction):
    a = integers(random_generator(instruction), np.uint32)
    got = run_instruction(instruction, [a], np.uint32)
    np.testing.assert_array_equal(got, wrapped([int(ONE_WORD[instruction](x)) for x in wide(a)], np.uint32))


def test_carry_chain():
    rng = random_generator("carry")
    a, b = integers(rng, np.uint64), integers(rng, np.uint64)
    body = """unsigned lo, hi; asm("{ add.cc.u32 %0, %2, %4; addc.u32 %1, %3, %5; }" : "=r"(lo), "=r"(hi) :
        "r"((unsigned)x), "r"((unsigned)(x >> 32)), "r"((unsigned)y), "r"((unsigned)(y >> 32)));
        r = (unsigned long long)hi << 32 | lo;"""
    np.testing.assert_array_equal(run(body, [a, b], np.uint64), a + b)


FLOAT_OPERATIONS = {
    "add": lambda a, b, c: a + b,
    "sub": lambda a, b, c: a - b,
    "mul": lambda a, b, c: a * b,
    "fma": lambda a, b, c: a * b + c,
    "div": lambda a, b, c: a / b,
}
FLOAT_TYPES = {"f32": np.float32, "f64": np.float64}


@pytest.mark.parametrize("operation", FLOAT_OPERATIONS)
@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("name", FLOAT_TYPES)
def test_rounding_of_arithmetic(operation, mode, name):
    dtype = FLOAT_TYPES[name]
    rng = random_generator(operation + mode + name)
    inputs = [floats(rng, dtype) for _ in range(3 if operation == "fma" else 2)]
    inputs[0][:32] *= dtype(2.0**-120 if name == "f32" else 2.0**-1000)  # subnormal results
    got = run_instruction(f"{operation}.{mode}.{name}", inputs, dtype, 61)
    exact = [[Fraction(float(v)) for v in a] for a in (*inputs, inputs[0])][:3]
    want = rounded_array([FLOAT_OPERATIONS[operation](*v) for v in zip(*exact)], name, mode)
    np.testing.assert_array_equal(got, want.astype(dtype))


@pytest.mark.parametrize("fmt", ["f16", "bf16"])
@pytest.mark.parametrize("operation", ["add", "sub", "mul", "fma"])
def test_packed_half_arithmetic(fmt, operation):
    if fmt == "bf16" and operation != "fma":
        pytest.skip("needs sm_90")
    rng = random_generator(fmt + operation)
    count = 3 if operation == "fma" else 2
    bits = [half_bits(floats(rng, np.float32, 6).repeat(2) * rng.standard_normal(2 * N), fmt) for _ in range(count)]
    got = run_instruction(f"{operation}.rn.{fmt}x2", [b.view(np.uint32) for b in bits], np.uint32)
    exact = [[Fraction(float(v)) for v in half_values(b, fmt)] for b in (*bits, bits[0])][:3]
    want = rounded_array([FLOAT_OPERATIONS[operation](*v) for v in zip(*exact)], fmt)
    np.testing.assert_array_equal(half_values(got.view(np.uint16), fmt), want)


@pytest.mark.parametrize("name", FLOAT_TYPES)
@pytest.mark.parametrize("operation", ["min", "max"])
def test_extremes_and_nan(name, operation):
    rng = random_generator(name + operation)
    a, b = any_floats(rng, FLOAT_TYPES[name]), any_floats(rng, FLOAT_TYPES[name])
    got = run_instruction(f"{operation}.{name}", [a, b], FLOAT_TYPES[name])
    np.testing.assert_array_equal(got, {"min": np.fmin, "max": np.fmax}[operation](a, b))
    if name == "f32":
        got = run_instruction(f"{operation}.NaN.f32", [a, b], np.float32)
        np.testing.assert_array_equal(got, {"min": np.minimum, "max": np.maximum}[operation](a, b))


def test_negative_zero_is_less():
    zeros = np.tile(np.array([0.0, -0.0], np.float32), N // 2)
    got = run_instruction("min.f32", [zeros, -zeros], np.float32)
    assert np.signbit(got).all()


def test_flush_and_saturation():
    rng = random_generator("ftz")
    a = (floats(rng, np.float32, 1) * np.float32(2.0**-126)).astype(np.float32)
    got = run_instruction("add.ftz.f32", [a, a], np.float32)
    flushed = np.where(np.abs(a) < 2.0**-126, 0, a)
    total = flushed + flushed
    np.testing.assert_array_equal(got, np.where(np.abs(total) < 2.0**-126, 0, total))
    b = any_floats(rng, np.float32)
    got = run_instruction("add.sat.f32", [b, np.zeros(N, np.float32)], np.float32)
    np.testing.assert_array_equal(got, np.nan_to_num(np.clip(b, 0, 1), nan=0))


APPROXIMATE = {
    "ex2.approx.f32": (np.exp2, 4),
    "lg2.approx.f32": (lambda v: np.log2(np.abs(v)), 20),
    "rcp.rn.f32": (lambda v: 1 / v, 20),
    "rsqrt.approx.f32": (lambda v: 1 / np.sqrt(np.abs(v)), 20),
    "sqrt.rn.f32": (lambda v: np.sqrt(np.abs(v)), 20),
    "tanh.approx.f32": (np.tanh, 3),
    "sin.approx.f32": (np.sin, 2),
    "cos.approx.f32": (np.cos, 2),
}


@pytest.mark.parametrize("instruction", APPROXIMATE)
def test_functions(instruction):
    reference, spread = APPROXIMATE[instruction]
    a = floats(random_generator(instruction), np.float32, spread)
    if instruction.split(".")[0] in ("lg2", "rsqrt", "sqrt"):
        a = np.abs(a)
    got = run_instruction(instruction, [a], np.float32)
    np.testing.assert_allclose(got, reference(a.astype(np.float64)), rtol=2e-7, atol=1e-7 if spread < 4 else 1e-30)


@pytest.mark.parametrize("mode", ["rni", "rzi", "rmi", "rpi"])
@pytest.mark.parametrize("source", ["f32", "f64"])
@pytest.mark.parametrize("target", ["s16", "u16", "s32", "u32", "s64", "u64"])
def test_float_to_integer(mode, source, target):
    a = any_floats(random_generator(mode + source + target), FLOAT_TYPES[source])
    dtype = INTEGER_TYPES[target]
    got = run_instruction(f"cvt.{mode}.{target}.{source}", [a], dtype, 61)
    to_integer = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[mode]
    info = np.iinfo(dtype)
    from_nan = 1 << (info.bits - 1) if source == "f64" or info.bits == 64 else 0
    with np.errstate(invalid="ignore"):  # of signalling NaNs
        exact = a.astype(np.float64)
    want = []
    for v in to_integer(exact):
        want.append(from_nan if np.isnan(v) else info.max if v >= info.max else info.min if v <= info.min else int(v))
    np.testing.assert_array_equal(got, wrapped(want, dtype))


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("target", ["f32", "f64"])
@pytest.mark.parametrize("source", ["s32", "u32", "s64", "u64"])
def test_integer_to_float(mode, target, source):
    a = integers(random_generator(mode + target + source), INTEGER_TYPES[source])
    got = run_instruction(f"cvt.{mode}.{target}.{source}", [a], FLOAT_TYPES[target], 61)
    want = rounded_array([Fraction(v) for v in wide(a)], target, mode)
    np.testing.assert_array_equal(got, want.astype(FLOAT_TYPES[target]))


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_double_to_float(mode):
    a = floats(random_generator(mode), np.float64, 140)
    got = run_instruction(f"cvt.{mode}.f32.f64", [a], np.float32)
    want = rounded_array([Fraction(float(v)) for v in a], "f32", mode)
    np.testing.assert_array_equal(got.astype(np.float64), want)


@pytest.mark.parametrize(("fmt", "mode"), [("f16", "rn"), ("f16", "rz"), ("bf16", "rn"), ("bf16", "rz")])
def test_float_to_half_and_back(fmt, mode):
    if fmt == "bf16" and mode == "rz":
        pytest.skip("needs sm_90")
    a = floats(random_generator(fmt + mode), np.float32, 26)
    got = run_instruction(f"cvt.{mode}.{fmt}.f32", [a], np.uint16)
    want = rounded_array([Fraction(float(v)) for v in a], fmt, mode)
    np.testing.assert_array_equal(half_values(got, fmt), want)
    if fmt == "f16":
        back = run_instruction("cvt.f32.f16", [got], np.float32, 61)
        np.testing.assert_array_equal(back, want)


@pytest.mark.parametrize("fmt", ["f16", "bf16"])
@pytest.mark.parametrize("relu", ["", ".relu"])
def test_packed_conversion(fmt, relu):
    rng = random_generator(fmt + relu)
    a, b = floats(rng, np.float32, 12), floats(rng, np.float32, 12)
    got = run_instruction(f"cvt.rn{relu}.{fmt}x2.f32", [a, b], np.uint32).view(np.uint16).reshape(N, 2)
    for k, source in ((1, a), (0, b)):  # the first operand goes to the upper half
        want = rounded_array([Fraction(float(v)) for v in source], fmt)
        np.testing.assert_array_equal(half_values(got[:, k], fmt), np.maximum(want, 0) if relu else want)


def test_tf32():
    a = floats(random_generator("tf32"), np.float32)
    got = run_instruction("cvt.rna.tf32.f32", [a], np.uint32).view(np.float32)
    np.testing.assert_array_equal(got, rounded_array([Fraction(float(v)) for v in a], "tf32", "rna"))


def test_saturating_and_extending_integer_conversions():
    a = integers(random_generator("sat"), np.int32)
    np.testing.assert_array_equal(run_instruction("cvt.sat.u16.s32", [a], np.uint16), np.clip(a, 0, 65535))
    np.testing.assert_array_equal(run_instruction("cvt.sat.s16.s32", [a], np.int16), np.clip(a, -32768, 32767))
    np.testing.assert_array_equal(run("r = (long long)(signed char)x;", [a], np.int64), a.astype(np.int8))
    np.testing.assert_array_equal(run("r = (unsigned char)x;", [a], np.uint32), a.astype(np.uint8))


RELATIONS = {"==": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal, ">": np.greater,
             ">=": np.greater_equal}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize("negated", [False, True])
def test_comparisons(dtype, negated):
    rng = random_generator(f"{dtype}{negated}")
    values = any_floats if issubclass(dtype, np.floating) else integers
    a, b = values(rng, dtype), values(rng, dtype)
    b[::3] = a[::3]
    bits = " | ".join(f"({'!' if negated else ''}(x {op} y) ? {1 << k} : 0)" for k, op in enumerate(RELATIONS))
    got = run(f"r = {bits};", [a, b], np.uint32)
    want = sum(np.where(f(a, b) ^ negated, 1 << k, 0) for k, f in enumerate(RELATIONS.values()))
    np.testing.assert_array_equal(got, want)


def test_predicate_combination():
    a, b = (integers(random_generator(s), np.int32) for s in "ab")
    body = """asm("{ .reg .pred p, q, s; setp.gt.s32 s, %2, 10; setp.lt.and.s32 p|q, %1, %2, !s;"
              " selp.b32 %0, 1, 0, p; @q add.s32 %0, %0, 2; @!s add.s32 %0, %0, 4; }" : "=r"(r) : "r"(x), "r"(y));"""
    other = ~(b > 10)
    want = ((a < b) & other) * 1 + (~(a < b) & other) * 2 + other * 4
    np.testing.assert_array_equal(run(body, [a, b], np.int32), want)


def test_unsupported_instruction_is_named_when_the_function_is_fetched():
    ptx = """.version 7.0
.target sm_80
.address_size 64
.visible .entry k()
{
	.reg .b32 %r<3>;
	mov.u32 %r1, 0;
	vadd.u32.u32.u32 %r2, %r1, %r1;
	ret;
}
"""
    module = Module(ptx)
    with pytest.raises(LaunchError, match=r"PTX line 8: unsupported instruction in 'vadd\.u32"):
        module.function("k")


def test_unknown_modifier_is_refused():
    head = ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry k() {\n.reg .b32 %r<3>;\n"
    ptx = head + "add.funny.s32 %r1, 1, 2;\nret;\n}"
    with pytest.raises(LaunchError, match=r"PTX line 6: unsupported modifier \.funny"):
        Module(ptx).function("k")
