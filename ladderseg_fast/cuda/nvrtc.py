"""NVRTC, NVIDIA's run-time compiler for CUDA C++, through ctypes: from a kernel's source to an image.

Nothing is opened before the first use. Reference: the NVRTC user guide, docs.nvidia.com/cuda/nvrtc.
"""

import ctypes
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import kernel_sources
from .nvrtc_search import candidates

_FUNCTIONS = (
    "nvrtcVersion",
    "nvrtcGetNumSupportedArchs",
    "nvrtcGetSupportedArchs",
    "nvrtcCreateProgram",
    "nvrtcCompileProgram",
    "nvrtcDestroyProgram",
    "nvrtcGetProgramLogSize",
    "nvrtcGetProgramLog",
    "nvrtcGetPTXSize",
    "nvrtcGetPTX",
    "nvrtcGetCUBINSize",
    "nvrtcGetCUBIN",
)


class NvrtcNotFound(RuntimeError):
    """No NVRTC library on this machine can be opened."""


@dataclass(frozen=True)
class Nvrtc:
    """An open library, and what it compiles for, as numbers such as 86."""

    library: ctypes.CDLL
    path: str
    version: tuple[int, int]
    architectures: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"NVRTC {self.version[0]}.{self.version[1]}"


@dataclass(frozen=True)
class Compiled:
    """Image for the driver to load, and how it came about.

    target is "sm_86" for machine code (cubin), or "compute_86" for PTX, which the driver finishes for its device; ptx
    is there in either case.
    """

    image: bytes
    log: str
    target: str
    ptx: str


@functools.lru_cache(maxsize=1)
def open_nvrtc() -> Nvrtc:
    """First of the candidates that opens; the same one in the whole process.

    Raises:
        NvrtcNotFound: there is none.
    """
    reasons = []
    for candidate in candidates():
        try:
            return _open(candidate)
        except (OSError, AttributeError) as error:
            reasons.append(str(error))
    raise NvrtcNotFound("NVRTC was not found: " + "; ".join(reasons))


def target_for(architecture: str, nvrtc: Nvrtc) -> str:
    """Target that `nvrtc` compiles to for a device of `architecture` ("sm_86"): that, or "compute_" of the newest older
    one.

    PTX of an older architecture runs on every newer device: the driver finishes it.

    Raises:
        RuntimeError: the device is older than every architecture that this NVRTC knows.
    """
    number = int(architecture.rpartition("_")[2])
    if number in nvrtc.architectures:
        return architecture
    older = [known for known in nvrtc.architectures if known < number]
    if older:
        return f"compute_{max(older)}"
    major, oldest = nvrtc.version[0], min(nvrtc.architectures)
    problem = f"{nvrtc.name} ({nvrtc.path}) makes no code for {architecture}: CUDA {major} ends at sm_{oldest}"
    if major > 12:
        problem += f"; such a device needs a torch for CUDA 12, and NVRTC for it: {pip_install(12)}"
    raise RuntimeError(problem)


def pip_install(major: int) -> str:
    """Command that installs NVRTC for this major version of CUDA."""
    return f'`pip install ".[cuda{major}]"`'


def compile(
    source_path: Path,
    include_dir: Path,
    element: str,
    architecture: str,
    kind: str = "cubin",
    extra_options: Sequence[str] = (),
) -> Compiled:
    """Image of an operator's kernels for one element type ("float32") and architecture ("sm_61").

    kind "ptx" gives PTX with line information, "cubin" gives machine code. A device newer than this NVRTC gets PTX in
    either case: see `target` of the result.

    Raises:
        NvrtcNotFound: there is no NVRTC.
        RuntimeError: the sources do not compile (the message holds the compiler's log), or the device is too old.
    """
    nvrtc = open_nvrtc()
    target = target_for(architecture, nvrtc)
    if kind == "ptx":
        target = target.replace("sm_", "compute_")
    options = [*kernel_sources.options(element), f"-arch={target}", *kernel_sources.include_options(include_dir)]
    options += extra_options
    # Headers that the host's compiler reads too have constexpr functions without an execution space.
    options.append("--device-as-default-execution-space")
    if kind == "ptx":
        options.append("-lineinfo")
    what = f"{source_path.stem} of {element} for {target}"
    return _compile(nvrtc, source_path, options, target, what)


def _compile(nvrtc: Nvrtc, source_path: Path, options: list[str], target: str, what: str) -> Compiled:
    """Runs the compiler; `what` names the image in errors."""
    library = nvrtc.library
    program = ctypes.c_void_p()
    name = os.fsencode(source_path)
    _check(library.nvrtcCreateProgram(ctypes.byref(program), source_path.read_bytes(), name, 0, None, None), what)
    try:
        arguments = (ctypes.c_char_p * len(options))(*map(os.fsencode, options))
        status = library.nvrtcCompileProgram(program, len(options), arguments)
        log = _output(library, program, "ProgramLog", what).rstrip(b"\0").decode(errors="replace").strip()
        if status != 0:
            reason = log or _message(library, status)
            raise RuntimeError(f"{nvrtc.name} ({nvrtc.path}) cannot compile {what}:\n{reason}")
        ptx = _output(library, program, "PTX", what)
        image = _output(library, program, "CUBIN", what) if target.startswith("sm_") else ptx
        return Compiled(image, log, target, ptx.rstrip(b"\0").decode())
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _output(library: ctypes.CDLL, program: ctypes.c_void_p, name: str, what: str) -> bytes:
    """One result of a compilation: "ProgramLog", "PTX" (both end with a zero byte) or "CUBIN"."""
    size = ctypes.c_size_t()
    _check(getattr(library, f"nvrtcGet{name}Size")(program, ctypes.byref(size)), what)
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(library, f"nvrtcGet{name}")(program, buffer), what)
    return buffer.raw


def _check(status: int, what: str) -> None:
    if status != 0:
        raise RuntimeError(f"NVRTC failed on {what}: {_message(open_nvrtc().library, status)}")


def _message(library: ctypes.CDLL, status: int) -> str:
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library.nvrtcGetErrorString(status).decode()


def _open(candidate: str) -> Nvrtc:
    """Opens the library.

    Raises:
        OSError: it cannot be opened.
        AttributeError: it is too old to have all functions.
    """
    # NVRTC looks for its builtins with the loader's search path, on which a package's folder is not. A library that
    # is already loaded is found by its name.
    for builtins in sorted(Path(candidate).parent.glob("libnvrtc-builtins*.so*")) if "/" in candidate else ():
        if ".alt." not in builtins.name:
            ctypes.CDLL(str(builtins))
    library = ctypes.CDLL(candidate)
    for name in _FUNCTIONS:
        getattr(library, name).restype = ctypes.c_int
    major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    architectures = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(architectures)
    path = candidate if "/" in candidate else _mapped_path(candidate)
    return Nvrtc(library, path, (major.value, minor.value), tuple(sorted(architectures)))


def _mapped_path(name: str) -> str:
    """File from which the dynamic loader took `name`."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        # The file may be that of a longer version: libnvrtc.so.12.4.127.
        if len(fields) == 6 and Path(fields[5]).name.startswith(name):
            return fields[5]
    return name
