"""Compiles the CUDA kernels into the package with nvcc, if there is one: a part of setup.py.

The package gets, per operator and element type, `_images/<operator>_<element>.fatbin`, and `_images/manifest.json`
(read by ladderseg_fast/cuda/ahead_of_time.py). In any case it gets a copy of the sources, for the compiler at first
use.
"""

import concurrent.futures
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "csrc" / "cuda" / "kernels"

# The compilers of whose machine code no kernel may keep registers in memory. Of others it is only said: a package that
# is a little slower is better than none.
CHECKED_SINCE = 13

SETTING = "LADDERSEG_FAST_CUDA_ARCHITECTURES"
SKIP = f"to build without CUDA kernels, which are then compiled at first use: {SETTING}=none pip install ."

# One per major version and for what differs within it: 8.6 and 8.9 (RTX 30 and 40) run 8.0's code, which halves
# the build. Other newer devices (10.0, and what is to come) take the PTX.
USUAL_ARCHITECTURES = (61, 70, 75, 80, 90, 120)
USUAL_PTX = 90


class BuildError(Exception):
    """nvcc exists but cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Nvcc:
    """Compiler, its version such as "13.0.88", and the architectures that it compiles for, as numbers such as 86."""

    path: str
    version: str
    architectures: tuple[int, ...]


def load_kernel_sources() -> ModuleType:
    """Loads ladderseg_fast/cuda/kernel_sources.py without the package, which imports torch."""
    path = ROOT / "ladderseg_fast" / "cuda" / "kernel_sources.py"
    spec = importlib.util.spec_from_file_location("kernel_sources", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def add_kernels(package: Path, compiler: str, environment: Mapping[str, str] = os.environ) -> None:
    """Puts images into `package`, if there is an nvcc; `compiler` is the command of the host compiler.

    Raises:
        BuildError: nvcc does not work, or the environment asks for something that it cannot do.
    """
    images = package / "_images"
    setting = environment.get(SETTING, "")
    nvcc_path = find_nvcc(environment)
    if setting.strip().lower() == "none" or nvcc_path is None:
        shutil.rmtree(images, ignore_errors=True)
        if nvcc_path is None and setting.strip().lower() not in ("", "none"):
            raise BuildError(f"{SETTING}={setting}, and no nvcc was found: set CUDACXX or CUDA_HOME; or {SKIP}")
        reason = "no nvcc was found" if nvcc_path is None else f"{SETTING}=none"
        print(f"ladderseg_fast: {reason}: CUDA kernels will be compiled at first use, by NVRTC")
        return
    nvcc = examine(nvcc_path)
    architectures, ptx = choose_architectures(setting, nvcc)
    build(KERNELS, images, nvcc, architectures, ptx, compiler)


def copy_sources(package: Path) -> None:
    """Copies the sources, for a package that is not used from the source tree."""
    copy = package / "_kernels"
    shutil.rmtree(copy, ignore_errors=True)
    load_kernel_sources().copy(KERNELS, copy)


def find_nvcc(environment: Mapping[str, str] = os.environ, packages: Path | None = None) -> str | None:
    """nvcc from CUDACXX, CUDA_HOME (or CUDA_PATH), the search path, or the packages of the Python environment.

    Raises:
        BuildError: CUDACXX names a program that does not exist.
    """
    if chosen := environment.get("CUDACXX"):
        path = shutil.which(chosen, path=environment.get("PATH"))
        if path is None:
            raise BuildError(f"CUDACXX names {chosen}, which does not exist; unset it, or {SKIP}")
        return path
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if home := environment.get(variable):
            path = shutil.which("nvcc", path=os.path.join(home, "bin"))
            if path is not None:
                return path
    path = shutil.which("nvcc", path=environment.get("PATH", os.defpath))
    if path is not None:
        return path
    packages = Path(sysconfig.get_path("purelib")) if packages is None else packages
    # nvidia/cu13/bin in the packages of CUDA 13, nvidia/cuda_nvcc/bin in those before. The highest version is last.
    found = sorted(path for path in packages.glob("nvidia/cu*/bin/nvcc") if os.access(path, os.X_OK))
    return str(found[-1]) if found else None


def examine(path: str) -> Nvcc:
    """Asks the compiler at `path` for its version and architectures.

    Raises:
        BuildError: it does not run, or is older than CUDA 11.2.
    """
    version = re.search(r"\bV(\d+\.\d+\.\d+)", _ask(path, "--version"))
    if version is None or tuple(map(int, version[1].split(".")[:2])) < (11, 2):
        found = "a version that it does not report" if version is None else version[1]
        raise BuildError(f"{path} is {found}, but CUDA 11.2 is the oldest that works; or {SKIP}")
    listed = re.findall(r"^compute_(\d+)$", _ask(path, "--list-gpu-arch"), flags=re.MULTILINE)
    return Nvcc(path, version[1], tuple(sorted(map(int, listed))))


def choose_architectures(setting: str, nvcc: Nvcc) -> tuple[list[int], list[int]]:
    """Architectures of machine code and of PTX, from "80;90+PTX" or "8.0 9.0+PTX"; "" gives what is in use today.

    Raises:
        BuildError: the setting cannot be read, or nvcc does not know an architecture.
    """
    if not setting.strip():
        usual = [number for number in USUAL_ARCHITECTURES if number in nvcc.architectures]
        if not usual:
            raise BuildError(f"{nvcc.path} ({nvcc.version}) knows none of the usual architectures; set {SETTING}")
        return usual, [max((number for number in usual if number <= USUAL_PTX), default=usual[0])]
    architectures, ptx = set(), set()
    for item in re.split(r"[;,\s]+", setting.strip(" ;,")):
        match = re.fullmatch(r"(\d+)\.?(\d)(\+PTX)?", item, flags=re.IGNORECASE)
        number = int(match[1] + match[2]) if match else None
        if number not in nvcc.architectures:
            known = ";".join(map(str, nvcc.architectures))
            raise BuildError(
                f"{SETTING}={setting}: {item!r} is not an architecture of {nvcc.path} ({nvcc.version}), which has "
                f'{known}; an example is "80;90+PTX"; or {SKIP}'
            )
        architectures.add(number)
        if match[3]:
            ptx.add(number)
    return sorted(architectures), sorted(ptx)


def build(kernels: Path, images: Path, nvcc: Nvcc, architectures: list[int], ptx: list[int], compiler: str) -> None:
    """Compiles every image in `kernels` into the directory `images`, on all cores; images that are up to date stay.

    ptx are those of `architectures` for which there is PTX as well.

    Raises:
        BuildError: an image does not compile, or a kernel in it spills registers or uses a stack.
    """
    sources = load_kernel_sources()
    facts = {"nvcc": nvcc.version, "architectures": architectures, "ptx": ptx, "sources": sources.digest(kernels)}
    names = sources.image_names(kernels)
    manifest = images / "manifest.json"
    what = f"{len(names)} images for {' '.join(f'sm_{number}' for number in architectures)}"
    what += "".join(f", PTX of compute_{number}" for number in ptx)
    if manifest.is_file() and json.loads(manifest.read_text()) == facts:
        print(f"ladderseg_fast: CUDA kernels are up to date: {what}")
        return
    print(f"ladderseg_fast: compiling CUDA kernels with {nvcc.path} ({nvcc.version}): {what}", flush=True)
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir(parents=True)

    # -v: the assembler reports what kernels need.
    common = [nvcc.path, "-fatbin", "-Xfatbin=-compress-all", "-Xptxas=-v", *sources.include_options(kernels)]
    common += _host_compiler(compiler)
    for number in architectures:
        code = f"[sm_{number},compute_{number}]" if number in ptx else f"sm_{number}"
        common += ["-gencode", f"arch=compute_{number},code={code}"]

    def compile_image(name: str) -> None:
        operator, element = sources.operator_and_element(name)
        output = ["-o", str(images / f"{name}.fatbin"), str(kernels / f"{operator}.cu")]
        problems = local_memory(_run([*common, *sources.options(element), *output]))
        if problems:
            message = "\n".join([f"nvcc {nvcc.version}, {name}: registers in local memory", *problems])
            if int(nvcc.version.split(".")[0]) >= CHECKED_SINCE:
                raise BuildError(f"{message}\n{SKIP}")
            print(f"ladderseg_fast: {message}")

    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        jobs = [pool.submit(compile_image, name) for name in names]
        try:
            for job in concurrent.futures.as_completed(jobs):
                job.result()
        except BuildError:
            pool.shutdown(cancel_futures=True)
            raise
    # Written last, so that it exists only for a complete set.
    manifest.write_text(json.dumps(facts))


def local_memory(report: str) -> list[str]:
    """Lines about kernels that spill registers or use a stack, from the output of nvcc with -Xptxas=-v."""
    problems = []
    kernels = re.split(r"Compiling entry function '(\w+)' for '(\w+)'", report)[1:]
    for kernel, architecture, text in zip(kernels[::3], kernels[1::3], kernels[2::3]):
        # The kernel's own, and those of functions that it calls.
        for found in re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", text):
            stack, stores, loads = map(int, found)
            if stack or stores or loads:
                spills = f"{stores} bytes of spill stores and {loads} of spill loads"
                problems.append(f"{kernel} on {architecture}: {stack} bytes of stack, {spills}")
    return problems


def _host_compiler(compiler: str) -> list[str]:
    """Option of nvcc for the host compiler, unless nvcc's own variable chooses it: "ccache g++ -m64" gives g++."""
    if "NVCC_CCBIN" in os.environ:
        return []
    return ["-ccbin", [word for word in shlex.split(compiler) if not word.startswith("-")][-1]]


def _run(command: list[str]) -> str:
    """Runs the compiler; returns what it says.

    Raises:
        BuildError: it fails.
    """
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if result.returncode != 0:
        raise BuildError(f"{shlex.join(command)}\nfailed:\n{result.stdout[-4000:].strip()}\n{SKIP}")
    return result.stdout


def _ask(path: str, option: str) -> str:
    try:
        result = subprocess.run([path, option], capture_output=True, text=True)
    except OSError as error:
        raise BuildError(f"{path} does not run: {error}; {SKIP}") from error
    if result.returncode != 0:
        raise BuildError(f"{path} {option} failed: {(result.stderr or result.stdout).strip()}; {SKIP}")
    return result.stdout
