"""The kernels' images as NVRTC compiles them, each once for all tests that look at it."""

import base64
import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path

from support.compiled import kept_file

from ladderseg_fast.cuda import images, kernel_sources, nvrtc

#: With this, the assembler's report is in the log of a compilation to machine code.
REPORT = "--ptxas-options=-v"

#: Architecture and element type of the kernels that multiply whose machine code is looked at as well
#: (benchmarks/kernel_ceilings.py): one compilation gives both.
_WITH_MACHINE_CODE = (("sm_61", "float32"), ("sm_80", "float16"))

_INCLUDE = re.compile(rb'^\s*#\s*include\s+"([^"]+)"', flags=re.MULTILINE)
_compile = nvrtc.compile


def compiled_image(name: str, architecture: str, directory: Path | None = None, kind: str = "cubin") -> nvrtc.Compiled:
    """The image `name` for "sm_80", of the package's sources or those in `directory`, with line information.

    Of the kind "cubin" it has machine code and the assembler's report besides PTX, which takes half as long again. Of
    the kind "ptx" it has them where other tests look at them.
    """
    operator, element = kernel_sources.operator_and_element(name)
    if directory is None and "conv" in operator and (architecture, element) in _WITH_MACHINE_CODE:
        kind = "cubin"
    directory = directory or images.sources()
    source = directory / f"{operator}.cu"
    options = ["-lineinfo", *([REPORT] if kind == "cubin" else [])]

    def write(path: Path) -> None:
        compiled = _compile(source, directory, element, architecture, kind, options)
        facts = dataclasses.asdict(compiled) | {"image": base64.b64encode(compiled.image).decode()}
        path.write_text(json.dumps(facts))

    facts = [name, architecture, kind, *options, nvrtc.open_nvrtc().name, Path(nvrtc.__file__).read_bytes()]
    file = kept_file(f"{name}.image", [*facts, *_included(source.name, kernel_sources.files(directory))], write)
    found = json.loads(file.read_text())
    return nvrtc.Compiled(**found | {"image": base64.b64decode(found["image"])})


def kept_compile(
    source_path: Path, include_dir: Path, element: str, architecture: str, *, extra_options: Sequence[str]
) -> nvrtc.Compiled:
    """Takes the place of nvrtc.compile where the package's images are compiled with a report."""
    assert include_dir == images.sources() and list(extra_options) == [REPORT]
    return compiled_image(f"{source_path.stem}_{element}", architecture)


def _included(name: str, files: dict[str, Path]) -> list[bytes]:
    """The names and contents of the file `name` and of those that it includes, directly or not."""
    found: dict[str, bytes] = {}
    waiting = [name]
    while waiting:
        name = waiting.pop()
        # Others are NVRTC's own.
        if name in files and name not in found:
            found[name] = files[name].read_bytes()
            waiting += [included.decode() for included in _INCLUDE.findall(found[name])]
    return [part for name in sorted(found) for part in (name.encode(), found[name])]
