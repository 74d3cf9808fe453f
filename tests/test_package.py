"""The installed package as a whole: what importing it loads, and what the compiled core depends on."""

import importlib.metadata
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import ladderseg_fast
from ladderseg_fast import _core, _shadowing
from ladderseg_fast._openmp import openmp_runtime_of

#: The command's entry point in the repository, which pip puts beside the package.
COMMAND = Path(__file__).parents[1] / "ladderseg_command.py"


def run_python(code: str, directory: Path) -> str:
    """Standard output of `code` in a fresh interpreter; `directory` keeps source trees off its search path."""
    result = subprocess.run([sys.executable, "-c", code], cwd=directory, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def dynamic_strings(path: Path) -> list[str]:
    """The strings of an ELF64 file's dynamic section: names of needed libraries and of dynamic symbols."""
    data = path.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01", "not a little-endian ELF64 file"
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names_index = struct.unpack_from("<3H", data, 0x3A)
    # Of each section header: offset of the name, offset and size of the contents.
    sections = [struct.unpack_from("<I20xQQ", data, table + i * size) for i in range(count)]
    names = sections[names_index][1]
    for name, offset, length in sections:
        if data[names + name :].startswith(b".dynstr\0"):
            return data[offset : offset + length].decode().split("\0")
    raise AssertionError(f"{path} has no section .dynstr")


@pytest.fixture(scope="module")
def core_strings() -> list[str]:
    return dynamic_strings(Path(_core.__file__))


def test_version_is_one():
    assert ladderseg_fast.__version__ == importlib.metadata.version("ladderseg_fast")
    assert _core.build_info()["version"] == ladderseg_fast.__version__


def test_core_needs_no_torch_cuda_or_openmp_library(core_strings):
    libraries = [text for text in core_strings if re.search(r"\.so(\.|$)", text)]
    assert any(name.startswith("libstdc++") for name in libraries), "the needed libraries were not found"
    assert [name for name in libraries if re.match(r"lib(torch|c10|cu|nv|gomp|iomp|omp)", name)] == []


def test_core_has_no_torch_symbols(core_strings):
    # The mangled name of anything in namespace at, c10 or torch, itself or among its arguments, holds one of these.
    assert [text for text in core_strings if re.search(r"N[KVRO]*(2at|3c10|5torch)\d", text)] == []


def test_core_uses_openmp(core_strings):
    assert any(text.startswith("GOMP_parallel") for text in core_strings)


def test_import_adds_no_openmp_runtime(tmp_path):
    code = """
import torch, ladderseg_fast
from ladderseg_fast._openmp import openmp_runtimes
print(*openmp_runtimes(), sep="\\n")
"""
    runtimes = run_python(code, tmp_path).splitlines()
    assert len(runtimes) == 1, runtimes


def test_openmp_runtime_that_torch_hides_is_used(tmp_path):
    # As torch's wheels for 64-bit Arm do: nothing of what they load is visible to other libraries.
    code = """
import ctypes
visible = ctypes.CDLL
ctypes.CDLL = lambda name, mode=0, *arguments: visible(name, mode & ~ctypes.RTLD_GLOBAL, *arguments)
import torch
ctypes.CDLL = visible
assert not hasattr(ctypes.CDLL(None), "GOMP_parallel")
import ladderseg_fast
from ladderseg_fast._openmp import openmp_runtimes
torch.set_num_threads(2)
ladderseg_fast.ops.bn_relu(torch.ones(1, 8, 4, 4), *torch.ones(2, 8), torch.zeros(8), torch.ones(8))
print(*openmp_runtimes(), sep="\\n")
"""
    runtimes = run_python(code, tmp_path).splitlines()
    assert len(runtimes) == 1, runtimes


def test_torch_without_an_openmp_runtime_is_refused():
    with pytest.raises(ImportError, match="has no OpenMP runtime"):
        openmp_runtime_of(Path("libm.so.6"))


def test_import_leaves_cuda_alone(tmp_path):
    code = """
import re, torch
def libraries():
    return set(re.findall(r"lib(?:cuda|nvrtc)[^/]*[.]so", open("/proc/self/maps").read()))
before = libraries()
import ladderseg_fast, ladderseg_fast.info
print(libraries() - before, torch.cuda.is_initialized())
"""
    assert run_python(code, tmp_path).split() == ["set()", "False"]


def test_import_is_quiet(tmp_path):
    code = "import ladderseg_fast"
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.fixture
def source_tree(tmp_path) -> Path:
    """A repository's root: the package's sources in it hold no compiled core, as those that pip has installed from."""
    root = tmp_path / "repository"
    package = Path(ladderseg_fast.__file__).parent
    shutil.copytree(package, root / package.name, ignore=shutil.ignore_patterns("*.so", "_images", "__pycache__"))
    return root


def run_in_root(root: Path, path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in `root`, with nothing but `path` on its search path besides, and PyTorch."""
    environment = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True)


@pytest.mark.real_use
def test_sources_without_core_step_aside_for_the_installed_package(source_tree):
    installed = Path(ladderseg_fast.__file__).parent
    code = """
import sys, torch
import ladderseg_fast, ladderseg_fast.info
from ladderseg_fast import _core, create_model
from ladderseg_fast.cli import main
import ladderseg_fast.engine.train
for name, module in sorted(sys.modules.items()):
    if name.partition(".")[0] == "ladderseg_fast":
        print(module.__file__)
"""
    result = run_in_root(source_tree, str(installed.parent), "-c", code)
    assert (result.returncode, result.stderr) == (0, "")
    files = [Path(line) for line in result.stdout.splitlines()]
    assert len(files) > 50 and all(installed in file.parents for file in files)

    (source_tree / "script.py").write_text(code)
    script = run_in_root(source_tree, str(installed.parent), "script.py")
    assert (script.returncode, script.stderr, script.stdout) == (0, "", result.stdout)

    info = run_in_root(source_tree, str(installed.parent), "-m", "ladderseg_fast.info")
    assert (info.returncode, info.stderr) == (0, "")
    assert re.search(rf"^package +{re.escape(str(installed))}$", info.stdout, re.MULTILINE)

    command = run_in_root(source_tree, str(installed.parent), "-m", "ladderseg_fast.cli.main", "--version")
    assert (command.returncode, command.stdout) == (0, f"ladderseg {ladderseg_fast.__version__}\n")


@pytest.mark.real_use
def test_sources_alone_say_what_to_do(source_tree, tmp_path):
    # Another source tree on the path is no help, nor is this one by another name.
    other = tmp_path / "other"
    shutil.copytree(source_tree, other)
    (tmp_path / "link").symlink_to(source_tree)
    path = os.pathsep.join([str(other), str(tmp_path / "link"), str(source_tree)])
    # What is installed in this environment must not be found; PyTorch must.
    code = f"""
import sys, torch
sys.path[:] = {["", str(other), str(tmp_path / "link")]!r}
import ladderseg_fast
"""
    result = run_in_root(source_tree, path, "-c", code)
    assert result.returncode == 1
    message = result.stderr.splitlines()[-1]
    assert message.startswith("ImportError: ladderseg_fast has no compiled core") and "pip install ." in message
    assert str(source_tree / "ladderseg_fast") in message


@pytest.mark.real_use
def test_core_that_cannot_be_loaded_is_named(source_tree):
    # Another package that works must not cover up what is wrong with this one.
    broken = source_tree / "ladderseg_fast" / Path(_core.__file__).name
    broken.write_bytes(b"not a library")
    result = run_in_root(source_tree, str(Path(ladderseg_fast.__file__).parents[1]), "-c", "import ladderseg_fast")
    assert result.returncode == 1
    message = result.stderr.splitlines()[-1]
    assert message.startswith(f"ImportError: the compiled core of ladderseg_fast, {broken}, cannot be loaded: ")


@pytest.mark.real_use
def test_command_reports_an_import_that_fails_in_one_line(tmp_path):
    environment = os.environ | {"LADDERSEG_FAST_ISA": "sse9"}
    command = [sys.executable, str(COMMAND), "--version"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(r"ladderseg: error: .*LADDERSEG_FAST_ISA must be one of .*baseline.*'sse9'\n", result.stderr)


@pytest.mark.real_use
def test_source_distribution_has_what_its_documents_link_to():
    root = COMMAND.parent
    rules = [line.split() for line in (root / "MANIFEST.in").read_text().splitlines()]
    grafted = {root / name for rule, *names in rules if rule == "graft" for name in names}
    included = {root / name for rule, *names in rules if rule == "include" for name in names}
    # setuptools includes these by itself.
    included |= {root / name for name in ("LICENSE", "README.md", "pyproject.toml", "setup.py")}
    assert [str(path) for path in included if not path.is_file()] == []
    texts = [*root.glob("*.md"), *(root / "docs").glob("*.md")]
    linked = {
        (text.parent / target).resolve()
        for text in texts
        for target in re.findall(r"\]\((?!https?://)([^)#]+)[^)]*\)", text.read_text())
    }
    assert root / "docs" / "training.md" in linked
    missing = [str(path) for path in linked - included if not path.exists() or not grafted.intersection(path.parents)]
    assert missing == []


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Folders with a package of this name, without and with a core; Python's path is an empty one and these."""
    for name, files in (("nothing", ()), ("sources", ("__init__",)), ("installed", ("__init__", "_core"))):
        (tmp_path / name / "ladderseg_fast").mkdir(parents=True)
        for file in files:
            (tmp_path / name / "ladderseg_fast" / f"{file}.py").write_text(f"place = {name!r}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / name) for name in ("nothing", "sources", "installed")])
    for name in [name for name in sys.modules if name.partition(".")[0] == "ladderseg_fast"]:
        monkeypatch.setitem(sys.modules, name, sys.modules[name])  # which puts it back
    monkeypatch.setattr(_shadowing, "_HERE", tmp_path / "sources" / "ladderseg_fast")
    return tmp_path


def test_sources_without_a_core_give_way_to_the_installed_package(packages):
    _shadowing.without_core(ImportError("no core"))
    assert sys.modules["ladderseg_fast"].place == "installed"


def test_sources_without_a_core_and_nothing_installed(packages):
    shutil.rmtree(packages / "installed")
    with pytest.raises(ImportError, match=r"no compiled core \(_core\): .*sources/ladderseg_fast is a source tree"):
        _shadowing.without_core(ImportError("no core"))


def test_a_core_that_cannot_be_loaded(packages, monkeypatch):
    monkeypatch.setattr(_shadowing, "_HERE", packages / "installed" / "ladderseg_fast")
    with pytest.raises(ImportError, match=r"the compiled core of ladderseg_fast, .*, cannot be loaded: wrong libstdc"):
        _shadowing.without_core(ImportError("wrong libstdc++"))
