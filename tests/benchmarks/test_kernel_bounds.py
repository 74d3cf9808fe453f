"""benchmarks/kernel_bounds.py: machine code is read right, bounds follow from it, and no kernel's code gets worse."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.compiled import kept_file
from support.kernel_images import kept_compile

from ladderseg_fast.cuda import images, kernel_sources, nvrtc

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODULES = (
    "machine_code",
    "control_flow",
    "disassembler",
    "compiled_kernels",
    "kernel_bounds",
    "kernel_ceilings",
    "kernel_resources",
    "kernel_tables",
    "kernel_time",
    "roofline_devices",
    "roofline_torch",
)


@pytest.fixture(scope="module")
def modules() -> Iterator[SimpleNamespace]:
    """The benchmark's modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})


def sass(*lines: str) -> str:
    """Text of a kernel as nvdisasm writes it; lines that begin with a dot are labels."""
    text = ["\t.section\t.text.kernel_float32", ".text.kernel_float32:"]
    for number, line in enumerate(lines):
        text.append(line if line.startswith(".") else f"        /*{16 * number:04x}*/                   {line}")
    return "\n".join(text) + "\n"


#: Two loops: the outer one loads on a fast and on a slow way, the inner one goes through four trips.
NESTED = sass(
    "IMAD.MOV.U32 R0, RZ, RZ, RZ ;",
    ".L_x_1:",
    "@P1 BRA `(.L_x_2) ;",
    "LDG.E.128 R4, [R2.64] ;",
    "BRA `(.L_x_3) ;",
    ".L_x_2:",
    "LDG.E R4, [R2.64] ;",
    "LDG.E R5, [R2.64+0x4] ;",
    "LDG.E R6, [R2.64+0x8] ;",
    ".L_x_3:",
    "STS.128 [R20], R4 ;",
    "BAR.SYNC.DEFER_BLOCKING 0x0 ;",
    "UMOV UR4, URZ ;",
    ".L_x_4:",
    "UIADD3 UR4, UR4, 0x2, URZ ;",
    "LDS.128 R8, [R20] ;",
    "UISETP.NE.AND UP0, UPT, UR4, 0x8, UPT ;",
    "FFMA R12, R8.reuse, R9, R12 ;",
    "FFMA R13, R8, R10, R13 ;",
    "PLOP3.LUT P0, PT, PT, PT, UP0, 0x80, 0x0 ;",
    "@P0 BRA `(.L_x_4) ;",
    "IADD3 R0, R0, 0x1, RZ ;",
    "ISETP.GE.AND P2, PT, R0, c[0x0][0x160], PT ;",
    "@!P2 BRA `(.L_x_1) ;",
    "STG.E [R2.64], R12 ;",
    "EXIT ;",
    ".L_x_5:",
    "BRA `(.L_x_5);",
)


def test_ways_through_loops_are_found_in_machine_code(modules: SimpleNamespace) -> None:
    (function,) = modules.machine_code.parse_sass(NESTED)
    path = modules.control_flow.ControlFlow(function).path()
    assert (function.name, path.slots, path.kinds["store scalar"]) == ("kernel_float32", 3, 1)
    (outer,) = path.loops
    assert outer.trips is None
    assert outer.kinds == {"branch": 3, "load wide": 1, "sts": 1, "barrier": 1, "integer": 2, "uniform": 1}
    (inner,) = outer.loops
    assert (inner.trips, inner.slots, inner.kinds["ffma"], inner.kinds["uniform"]) == (4, 7, 2, 2)
    assert outer.total_slots == 9 + 4 * 7
    assert outer.count("lds") == 4
    product = outer.product
    assert (product.kind, product.count, product.multiply_adds) == ("ffma", 8, 8 * 32)


@pytest.mark.parametrize(
    ("lines", "trips"),
    [
        (["CS2R R4, SRZ ;", ".L_x_1:", "IADD3 R5, R5, 0x8, RZ ;", "ISETP.NE.AND P0, PT, R5, 0x40, PT ;"], 8),
        (["MOV R5, 0x2 ;", ".L_x_1:", "VIADD R5, R5, 0x3 ;", "ISETP.LT.AND P0, PT, R5, 0x9, PT ;"], 3),
        # Compared with what it was before the step.
        (["MOV R5, RZ ;", ".L_x_1:", "ISETP.LT.AND P0, PT, R5, 0x8, PT ;", "IADD3 R5, R5, 0x4, RZ ;"], 3),
        (["MOV R5, R7 ;", ".L_x_1:", "IADD3 R5, R5, 0x8, RZ ;", "ISETP.NE.AND P0, PT, R5, 0x40, PT ;"], None),
        # From the number of one of eight threads to 60; compared before the step, too.
        (["MOV R5, R7 ;", ".L_x_1:", "IADD3 R5, R5, 0x8, RZ ;", "ISETP.LT.AND P0, PT, R5, 0x3c, PT ;"], 7.5),
        (["MOV R5, R7 ;", ".L_x_1:", "ISETP.GE.AND P0, PT, R5, 0x34, PT ;", "IADD3 R5, R5, 0x8, RZ ;"], 7.5),
        (["MOV R5, RZ ;", ".L_x_1:", "IADD3 R5, R5, R6, RZ ;", "ISETP.NE.AND P0, PT, R5, 0x40, PT ;"], None),
        (["MOV R5, RZ ;", ".L_x_1:", "IADD3 R5, R5, 0x8, RZ ;", "ISETP.NE.AND P0, PT, R5, R6, PT ;"], None),
    ],
)
def test_trips_that_the_code_tells(modules: SimpleNamespace, lines: list[str], trips: int | None) -> None:
    (function,) = modules.machine_code.parse_sass(sass(*lines, "@P0 BRA `(.L_x_1) ;", "EXIT ;"))
    (loop,) = modules.control_flow.ControlFlow(function).path().loops
    assert loop.trips == trips


def test_trips_by_a_branch_out_of_the_loop_before_a_jump_back(modules: SimpleNamespace) -> None:
    lines = ["MOV R5, RZ ;", ".L_x_1:", "IADD3 R5, R5, 0x1, RZ ;", "ISETP.NE.AND P0, PT, R5, 0x7, PT ;"]
    lines += ["@!P0 CALL.REL.NOINC `(.L_x_2) ;", "BRA `(.L_x_1) ;", ".L_x_2:", "EXIT ;"]
    (function,) = modules.machine_code.parse_sass(sass(*lines))
    (loop,) = modules.control_flow.ControlFlow(function).path().loops
    assert loop.trips == 7


def test_the_way_with_wide_accesses_has_fewer_trips(modules: SimpleNamespace) -> None:
    def loop(label: str, step: str, width: str) -> list[str]:
        return [
            f".L_x_{label}:",
            f"LDG.E{width} R4, [R2.64] ;",
            f"STS{width} [R20], R4 ;",
            f"IADD3 R5, R5, {step}, RZ ;",
            "ISETP.LT.AND P0, PT, R5, 0x100, PT ;",
            f"@P0 BRA `(.L_x_{label}) ;",
        ]

    lines = ["@P1 BRA `(.L_x_2) ;", *loop("1", "0x20", ".128"), "EXIT ;", *loop("2", "0x8", ""), "EXIT ;"]
    (function,) = modules.machine_code.parse_sass(sass(*lines))
    (found,) = modules.control_flow.ControlFlow(function).path().loops
    assert (found.trips, found.kinds["load wide"]) == (8, 1)


def test_trips_by_a_branch_on_a_uniform_predicate(modules: SimpleNamespace) -> None:
    step = "UIADD3 UR5, UPT, UPT, UR5, 0x2, URZ ;"
    lines = ["UMOV UR5, URZ ;", ".L_x_1:", step, "UISETP.NE.AND UP1, UPT, UR5, 0x10, UPT ;", "BRA.U UP1, `(.L_x_1) ;"]
    (function,) = modules.machine_code.parse_sass(sass(*lines, "EXIT ;"))
    (loop,) = modules.control_flow.ControlFlow(function).path().loops
    assert loop.trips == 8


def test_branches_of_old_and_new_machine_code(modules: SimpleNamespace) -> None:
    (function,) = modules.machine_code.parse_sass(
        sass(
            "{         XMAD R0, R1, R2, RZ ;",
            '@P0 SYNC                                 (*"BRANCH_TARGETS .L_x_1"*)        }',
            "@!P0 BRA P1, `(.L_x_1) ;",
            "BRA.DIV UR4, `(.L_x_1) ;",
            "@P1 CALL.REL.NOINC `(.L_x_1) ;",
            "CALL.REL.NOINC `($__internal_0_$__cuda_sm20_div_s64) ;",
            ".L_x_1:",
            "@P2 EXIT ;",
            "EXIT ;",
        )
    )
    found = [(one.target, one.continues, one.slots) for one in function.instructions]
    here = ".L_x_1"
    assert found == [
        (None, True, 0),
        (here, True, 1),
        (here, True, 1),
        (None, True, 1),
        (here, True, 1),
        (None, True, 1),
        (None, True, 1),
        (None, False, 1),
    ]


@pytest.mark.parametrize(
    ("opcode", "kind", "size"),
    [
        ("LDG.E.128.CONSTANT", "load wide", 16),
        ("LDG.E.64", "load wide", 8),
        ("LDG.E", "load scalar", 4),
        ("LDG.E.U16.CONSTANT", "load scalar", 2),
        ("LDGSTS.E.BYPASS.128", "async copy", 16),
        ("STG.E.128", "store wide", 16),
        ("STG.E.U8", "store scalar", 1),
        ("LDS.U.128", "lds", 16),
        ("LDSM.16.M88.4", "ldsm", 4),
        ("STS", "sts", 4),
        ("LDL.64", "local", 8),
        ("STL", "local", 4),
        ("HADD2.F32", "convert", 0),
        ("F2FP.F16.F32.PACK_AB", "convert", 0),
        ("FMNMX.NAN", "float", 0),
        ("IMAD.WIDE.U32", "integer", 0),
        ("UISETP.NE.AND", "uniform", 0),
        ("ULDC.64", "constant", 0),
        ("BAR.SYNC.DEFER_BLOCKING", "barrier", 0),
        ("SHFL.BFLY", "shuffle", 0),
        ("BSSY", "sync", 0),
        ("ld.global.nc.v4.f32", "load wide", 16),
        ("ld.global.nc.u16", "load scalar", 2),
        ("ld.global.v2.u32", "load wide", 8),
        ("cp.async.cg.shared.global", "async copy", 16),
        ("cp.async.wait_all", "sync", 0),
        ("st.global.f32", "store scalar", 4),
        ("ld.shared.v4.f32", "lds", 16),
        ("st.local.v2.f32", "local", 8),
        ("cvt.rn.f16.f32", "convert", 0),
        ("cvt.s64.s32", "integer", 0),
        ("bar.sync", "barrier", 0),
        ("fma.rn.f64", "dfma", 0),
        ("setp.lt.f32", "float", 0),
    ],
)
def test_kinds_of_instructions(modules: SimpleNamespace, opcode: str, kind: str, size: int) -> None:
    instruction = modules.machine_code.Instruction(opcode)
    assert (instruction.kind, instruction.bytes_per_thread) == (kind, size)
    assert kind in modules.machine_code.KINDS


@pytest.mark.parametrize(
    ("opcode", "products"),
    [
        ("HMMA.16816.F32", 16 * 8 * 16),
        ("HMMA.1688.F32.TF32", 16 * 8 * 8),
        ("DMMA.884", 8 * 8 * 4),
        ("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", 16 * 8 * 8),
        ("FFMA", 32),
        ("FFMA2", 64),
        ("fma.rn.f32", 32),
        ("DFMA", 32),
        ("FADD", 0),
    ],
)
def test_multiply_adds_of_a_warp(modules: SimpleNamespace, opcode: str, products: int) -> None:
    assert modules.machine_code.Instruction(opcode).products == products


def test_a_constant_is_no_product(modules: SimpleNamespace) -> None:
    move = modules.machine_code.Instruction("HFMA2.MMA", ("R82", "-RZ", "RZ", "0", "0"))
    assert (move.kind, move.products) == ("integer", 0)


PTX = """
.visible .entry kernel_float32(
	.param .u64 kernel_float32_param_0
)
.maxntid 256
{
	.reg .pred 	%p<3>;
	ld.param.u64 	%rd1, [kernel_float32_param_0];
	mov.b32 	%r1, 0;
$L__BB0_1:
	// a comment; with a semicolon
	ld.global.nc.v4.f32 	{%f1, %f2, %f3, %f4}, [%rd1];
	{ mul.f32 %f5, %f1, %f2; fma.rn.f32 %f6, %f1, %f2, %f6;
}
	add.s64 	%rd1, %rd1, 16;
	add.s32 	%r1, %r1, 1;
	setp.ne.s32 	%p1, %r1, 5;
	@%p1 bra 	$L__BB0_1;
	@%p2 bra 	$L__BB0_2;
	st.global.f32 	[%rd1], %f6;
$L__BB0_2:
	ret;
}
"""


def test_ptx_is_read(modules: SimpleNamespace) -> None:
    (function,) = modules.machine_code.parse_ptx(PTX)
    path = modules.control_flow.ControlFlow(function).path()
    (loop,) = path.loops
    assert (function.name, loop.trips) == ("kernel_float32", 5)
    assert loop.kinds == {"load wide": 1, "float": 1, "ffma": 1, "integer": 3, "branch": 1}
    assert loop.slots == 8  # a 64-bit addition takes two
    assert path.kinds == {"constant": 1, "integer": 1, "branch": 2}


def kernel_of(modules: SimpleNamespace, name: str, text: str):
    """A kernel on sm_90 of 256 threads with 64 registers."""
    (function,) = modules.machine_code.parse_sass(text)
    resources = modules.kernel_resources.Resources(f"{name}_float32", 90, 64, 0, 0, 0, 0, 256)
    path = modules.control_flow.ControlFlow(function).path()
    return modules.compiled_kernels.Kernel(name, "float32", 90, "SASS", resources, path)


def work_of(modules: SimpleNamespace, name: str, blocks: int, **figures):
    launch = modules.roofline_torch.Launch("float32", blocks, 256)
    return modules.roofline_torch.Work(name, **figures, is_product="conv" in name, launch=launch)


def test_the_bound_of_a_kernel_that_multiplies(modules: SimpleNamespace) -> None:
    kernel = kernel_of(modules, "conv", NESTED)
    # 133 blocks of 8 warps, each with ten trips of 8 FFMA.
    work = work_of(modules, "conv", 133, read_bytes=4_800_000, written_bytes=0, operations=2 * 133 * 8 * 10 * 8 * 32)
    bound = modules.kernel_time.bound(work, kernel, modules.roofline_devices.DEVICES["H200"], torch.float32)
    # One multiprocessor of 132 has two blocks: four warps to a scheduler.
    assert bound.issue == pytest.approx(4 * (3 + 10 * 37) / 1.98e9, rel=0.001)
    assert bound.memory == pytest.approx(1e-6)
    assert bound.products == pytest.approx(work.operations / 66.9e12)
    assert bound.seconds == max(bound.memory, bound.issue)
    assert kernel.blocks == 4


COPY = sass(
    ".L_x_1:",
    "LDG.E.128 R4, [R2.64] ;",
    "LDG.E.128 R8, [R2.64+0x10] ;",
    "FADD R4, R4, R8 ;",
    "@P1 BRA `(.L_x_2) ;",
    "STG.E.128 [R12.64], R4 ;",
    ".L_x_2:",
    "@P0 BRA `(.L_x_1) ;",
    "EXIT ;",
)


def test_the_bound_of_a_kernel_that_does_not(modules: SimpleNamespace) -> None:
    kernel = kernel_of(modules, "copy", COPY)
    # Each thread stores 16 bytes in each of seven trips.
    written = 132 * 256 * 7 * 16
    work = work_of(modules, "copy", 132, read_bytes=3 * written, written_bytes=written, operations=0.0)
    bound = modules.kernel_time.bound(work, kernel, modules.roofline_devices.DEVICES["H200"], torch.float32)
    assert bound.issue == pytest.approx(2 * (1 + 7 * 6) / 1.98e9, rel=0.001)
    assert bound.products == 0
    assert bound.seconds == bound.memory == pytest.approx(4 * written / 4.8e12)


def test_two_gradients_multiply_equally(modules: SimpleNamespace) -> None:
    paths = modules.control_flow

    def loop(count: int, trips: int | None):
        instructions = [modules.machine_code.Instruction("FFMA")] * count
        return paths.LoopPath(instructions, [], trips, 0, 0)

    unknown = loop(256, None)
    path = paths.Path([], [paths.LoopPath([], [loop(16, 2), unknown, loop(128, 8), loop(128, 8)], None, 0, 0)])
    modules.compiled_kernels.balance_products(path)
    assert unknown.trips == 8


def test_no_disassembler_is_a_clear_error(modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    disassembler = modules.disassembler
    monkeypatch.setattr(disassembler, "candidates", lambda: ())
    with pytest.raises(disassembler.DisassemblerNotFound, match="sm_90.*pip install nvidia-cuda-nvdisasm"):
        disassembler.disassemble(b"", 90)


def test_a_measurement_stands_beside_its_bound(modules: SimpleNamespace, tmp_path: Path, monkeypatch) -> None:
    tables = modules.kernel_tables
    monkeypatch.setattr(tables, "CHECKED", tmp_path / "bounds")
    monkeypatch.setattr(tables, "MEASURED", tmp_path / "results")
    for folder in (tables.CHECKED, tables.MEASURED):
        folder.mkdir()
    options = {"method": "lean", "dtype": "tf32", "model": "ladder_densenet121", "batch": 2, "size": "1024x2048"}
    kernels = [["copy_float32", 2, 3.0], ["copy_float16", 1, 1.0], ["not_ours", 9, 9.0]]
    results = {
        "measurements": [
            {"kind": "kernels", "options": options | {"variant": "x"}, "result": {"kernels": []}},
            {"kind": "kernels", "options": options, "result": {"kernels": kernels}},
        ]
    }
    bounds = {"tf32": {"copy_float32": 2.0, "quick_float32": 0.5}}
    step = {"device": "H200", "model": "densenet121", "batch": 2, "size": "1024x2048", "bounds_ms": bounds}
    (tables.MEASURED / "h200_abc.json").write_text(json.dumps(results))
    (tables.CHECKED / "h200_abc.json").write_text(json.dumps(step))
    (section,) = tables.checks()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    assert rows[2:] == [["copy", "4.00", "2.00", "2.0"], ["all of these", "4.00", "2.00", "2.0"]]


def test_what_rises_above_its_ceiling(modules: SimpleNamespace) -> None:
    known = {"sm_90 float16": {"copy": {"registers": 32, "slots": 10.0, "scalar_loads": 0}}}
    assert modules.kernel_ceilings.rises(known, known) == []
    worse = {"sm_90 float16": {"copy": {"registers": 31, "slots": 10.5, "scalar_loads": 1}, "new": {"registers": 1}}}
    assert modules.kernel_ceilings.rises(known, worse) == [
        "copy, sm_90 float16: slots 10.5, ceiling 10.0",
        "copy, sm_90 float16: scalar_loads 1, ceiling 0",
        "new, sm_90 float16: no ceiling",
    ]


@pytest.fixture(scope="module", params=["quick", pytest.param("others", marks=pytest.mark.slow)])
def measured(request: pytest.FixtureRequest, modules: SimpleNamespace) -> dict:
    """Figures of the kernels here: of those that multiply on the architectures that matter most, and of all others."""
    ceilings = modules.kernel_ceilings
    try:
        compiler = nvrtc.open_nvrtc()
    except nvrtc.NvrtcNotFound as error:
        pytest.skip(str(error))
    if not modules.disassembler.candidates():
        pytest.skip("there is no nvdisasm")
    documented = json.loads(ceilings.CEILINGS.read_text())["compiler"]
    if compiler.name != documented:
        pytest.skip(f"the ceilings are of {documented}, here is {compiler.name}")

    def write(path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nvrtc, "compile", kept_compile)
            if request.param == "quick":
                found = ceilings.figures(ceilings.QUICK, multiply=True, others=False)
            else:
                found = ceilings.figures(ceilings.ALL, multiply=True, others=True)
        path.write_text(json.dumps(found))

    programs = [Path(getattr(modules, name).__file__).read_text() for name in MODULES]
    facts = [request.param, compiler.name, kernel_sources.digest(images.sources()), *programs]
    return json.loads(kept_file("kernel_figures.json", facts, write).read_text())


def test_no_kernel_gets_worse(modules: SimpleNamespace, measured: dict) -> None:
    assert measured
    known = json.loads(modules.kernel_ceilings.CEILINGS.read_text())["figures"]
    rises = modules.kernel_ceilings.rises(known, measured)
    assert rises == [], "python benchmarks/kernel_bounds.py --ceilings makes today's figures the ceilings"


def test_no_kernel_has_local_memory_in_a_loop(measured: dict) -> None:
    found = [name for kernels in measured.values() for name, one in kernels.items() if one.get("local")]
    assert found == []


def test_ceilings_are_of_kernels_that_exist(modules: SimpleNamespace) -> None:
    known = json.loads(modules.kernel_ceilings.CEILINGS.read_text())["figures"]
    directory = images.sources()
    declared = {
        name for operator in kernel_sources.operators(directory) for name in modules.compiled_kernels.declared(operator)
    }
    assert {name for kernels in known.values() for name in kernels} <= declared


def test_loops_of_a_kernel_are_printed(modules: SimpleNamespace) -> None:
    text = modules.kernel_bounds.loops_of(kernel_of(modules, "conv", NESTED))
    first, *rows = text.splitlines()
    assert first.startswith("conv_float32 on sm_90 (SASS): 256 threads, 64 registers")
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells[0][:4] == ["loop", "trips", "slots", "per product"]
    assert [row[1:4] for row in cells[1:]] == [["1", "3", ""], ["?", "37", "4.62 ffma"], ["4", "7", "3.50 ffma"]]
