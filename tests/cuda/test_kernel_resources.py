"""No kernel spills, uses a stack, or leaves its block size open; docs/kernel_resources.md says what is so."""

import dataclasses
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support.compiled import kept_file
from support.kernel_images import kept_compile

from ladderseg_fast.cuda import images, kernel_sources, nvrtc

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "kernel_resources.md"

LOG = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'one_float32' for 'sm_80'
ptxas info    : Function properties for one_float32
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 1024 bytes smem, 360 bytes cmem[0]
ptxas info    : Compiling entry function 'two_float32' for 'sm_80'
ptxas info    : Function properties for two_float32
    24 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 255 registers, 372 bytes cmem[0]
"""
PTX = """
.visible .entry one_float32(
	.param .u64 one_float32_param_0
)
.maxntid 32, 8, 1
.minnctapersm 2
{
.visible .entry two_float32(
	.param .align 8 .b8 two_float32_param_0[88]
)
{
"""


@pytest.fixture(scope="module")
def program() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("kernel_resources")


@pytest.fixture
def occupancy(program: ModuleType) -> ModuleType:
    return importlib.import_module("occupancy")


@pytest.fixture(scope="module")
def resources(program: ModuleType) -> list:
    """All kernels of this package, on architectures that the compiler here knows; measured once for these sources."""
    try:
        compiler = nvrtc.open_nvrtc()
    except nvrtc.NvrtcNotFound as error:
        pytest.skip(str(error))
    known = [number for number in program.ARCHITECTURES if number in compiler.architectures]

    def write(path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nvrtc, "compile", kept_compile)
            path.write_text(json.dumps([dataclasses.asdict(one) for one in program.measure(known)]))

    sources = kernel_sources.digest(images.sources()), Path(program.__file__).read_text()
    file = kept_file("kernel_resources.json", [compiler.name, str(known), *sources], write)
    return [program.Resources(**one) for one in json.loads(file.read_text())]


def cells_of(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.parametrize(
    ("architecture", "registers", "shared", "threads", "expected"),
    [
        (80, 32, 0, 256, 1.0),
        (80, 33, 0, 256, 0.75),  # 40 registers are given: 12 warps in each of four partitions
        (86, 32, 0, 256, 1.0),  # 48 warps
        (86, 32, 0, 32, 16 / 48),  # 16 blocks
        (75, 64, 0, 1024, 1.0),
        (80, 255, 0, 256, 0.125),
        (80, 32, 48 * 1024, 256, 3 * 8 / 64),  # 49 KB per block with the reserved one, of 164
        (61, 32, 48 * 1024, 256, 2 * 8 / 64),  # of 96, and none reserved
        (80, 32, 164 * 1024, 256, 0.0),
        (61, 32, 0, 100, 64 / 64),
    ],
)
def test_occupancy(architecture, registers, shared, threads, expected, occupancy):
    assert occupancy.occupancy(architecture, registers, shared, threads) == expected


def test_occupancy_of_an_unknown_architecture(occupancy):
    with pytest.raises(ValueError, match="sm_35"):
        occupancy.occupancy(35, 32, 0, 256)


def test_reports_are_read(program):
    one, two = program.read_report(LOG, PTX, 80)
    assert (one.kernel, one.registers, one.shared, one.threads, one.local_memory) == ("one_float32", 40, 1024, 256, 0)
    assert (two.registers, two.shared, two.threads) == (255, 0, None)
    assert (two.stack, two.spill_stores, two.spill_loads) == (24, 8, 4)
    assert program.obstacles([one]) == []
    spills, bounds = program.obstacles([two])
    assert "two_float32 on sm_80: a stack of 24 bytes, spills of 8 stored and 4 loaded" in spills
    assert "__launch_bounds__" in bounds


def test_kernel_of_some_architectures_only(program):
    resources = [
        *program.read_report(LOG.split("ptxas info    : Compiling entry function 'two")[0], PTX, 80),
        *program.read_report(LOG.replace("Used 255", "Used 64"), PTX.replace(")\n{", ")\n.maxntid 128\n{"), 86),
    ]
    rows = program.table_rows(resources)
    assert rows["one_float32"] == "| one_float32 | 256 | 1024 | 40, 75% | 40, 100% |"
    assert rows["two_float32"] == "| two_float32 | 128 | 0 | - | 64, 67% |"


@pytest.mark.slow
def test_no_kernel_spills(resources, program):
    assert resources
    assert program.obstacles(resources) == []


@pytest.mark.slow
def test_table_is_true(resources, program):
    text = DOCUMENT.read_text()
    documented_compiler, here = re.search(r"Compiler: (NVRTC [\d.]+)\.", text)[1], nvrtc.open_nvrtc().name
    if here != documented_compiler:
        pytest.skip(f"the numbers in {DOCUMENT.name} are of {documented_compiler}, here is {here}")
    rows = {cells[0]: cells for line in text.splitlines() if line.startswith("|") for cells in [cells_of(line)]}
    architectures = sorted({one.architecture for one in resources})
    columns = [rows["kernel"].index(f"sm_{number}") for number in architectures]
    # Without threads and shared memory, which are of all architectures together.
    measured = {kernel: cells_of(row)[3:] for kernel, row in program.table_rows(resources).items()}
    documented = {
        kernel: found
        for kernel, cells in rows.items()
        if kernel not in ("kernel", "---") and set(found := [cells[column] for column in columns]) != {"-"}
    }
    assert measured == documented, "run python benchmarks/kernel_resources.py"
