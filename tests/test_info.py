"""`python -m ladderseg_fast.info` and the choice of the instruction set."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.operator_suite import instruction_set
from support.processes import output_of

from ladderseg_fast import _core
from ladderseg_fast._openmp import openmp_runtimes
from ladderseg_fast.info import info

SUPPORTED = _core.supported_instruction_sets()


def printed_facts(directory: Path, **environment: str) -> dict[str, str]:
    """Those of `python -m ladderseg_fast.info` in `directory`, which keeps source trees off the search path."""
    program = "import runpy; runpy.run_module('ladderseg_fast.info', run_name='__main__', alter_sys=True)"
    pairs = (line.split("  ", 1) for line in output_of(program, directory, **environment).splitlines())
    return {name: fact.strip() for name, fact in pairs}


def test_info_names_what_is_in_use():
    facts = info()
    assert all(facts.values()), facts
    assert facts["version"] == _core.build_info()["version"]
    assert facts["torch"].startswith(torch.__version__)
    assert facts["torch threads"] == str(torch.get_num_threads())
    assert facts["OpenMP runtime"] == openmp_runtimes()[0]
    assert Path(facts["OpenMP runtime"]).is_file()


def test_instruction_sets_are_consistent():
    compiled = _core.build_info()["instruction_sets"].split()
    assert "baseline" in SUPPORTED
    assert set(SUPPORTED) <= set(compiled)
    assert _core.instruction_set() in SUPPORTED


@pytest.mark.parametrize("name", SUPPORTED)
def test_bfloat16(name):
    with instruction_set(name):
        fact = info()["bfloat16 on the CPU"]
        if _core.has_bfloat16():
            assert fact == "yes, with torch.autocast"
        elif "avx512_bf16" in SUPPORTED:
            assert fact == f"no: {name} is in use"
        else:
            assert fact in ("no: this build has no AVX512-BF16", "no: this CPU has no AVX512-BF16")


def test_bfloat16_on_another_cpu(monkeypatch):
    monkeypatch.setattr(_core, "has_bfloat16", lambda: False)
    monkeypatch.setattr(_core, "supported_instruction_sets", lambda: ["baseline"])
    for sets, where in (("baseline", "this build"), ("baseline avx512_bf16", "this CPU")):
        build = _core.build_info() | {"instruction_sets": sets}
        monkeypatch.setattr(_core, "build_info", lambda build=build: build)
        assert info()["bfloat16 on the CPU"] == f"no: {where} has no AVX512-BF16"


def test_command_prints_every_fact(tmp_path):
    printed = printed_facts(tmp_path)
    assert list(printed) == list(info())
    assert re.match("by nvcc|compiled at first use with NVRTC|none; get them with pip", printed["CUDA kernels"])


def test_cost_model(tmp_path):
    def fact() -> str:
        return printed_facts(tmp_path, LADDERSEG_FAST_CACHE=str(tmp_path))["cost model of memory plans"]

    assert fact().startswith("defaults")
    (tmp_path / "rates.json").write_text("damaged")
    assert fact().startswith("none: ") and "rates.json" in fact()


@pytest.mark.parametrize("name", SUPPORTED)
def test_environment_chooses_the_instruction_set(name, tmp_path):
    assert printed_facts(tmp_path, LADDERSEG_FAST_ISA=name)["in use"] == name


@pytest.mark.real_use
def test_unknown_instruction_set_is_refused(tmp_path):
    command = [sys.executable, "-m", "ladderseg_fast.info"]
    environment = os.environ | {"LADDERSEG_FAST_ISA": "sse9"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode != 0
    assert result.stderr.count("\n") == 1
    assert re.search(r"ImportError: .*LADDERSEG_FAST_ISA must be one of .*baseline.*'sse9'", result.stderr)


@pytest.mark.real_use
def test_empty_choice_of_the_instruction_set_is_none(tmp_path):
    assert printed_facts(tmp_path, LADDERSEG_FAST_ISA="")["in use"] == _core.instruction_set()
