"""Writes ladderseg_fast/_core.pyi, the type stub of the compiled module, from the module itself.

    python csrc/bindings/stub.py

Names and types come from pybind11's docstrings. The stub omits kernels: all look alike to a type checker, and their
names are checked at import. tests/test_core_stub.py compares the file with the module.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

BINDINGS = Path(__file__).resolve().parent
LINE_LENGTH = 120

HEADER = """\
# Made by csrc/bindings/stub.py.
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, TypeAlias

#: (address, device, bytes) of a contiguous tensor; None if it is not wanted.
_Memory: TypeAlias = tuple[int, int, int] | None

#: What kernels prepare for others, many in one launch.
_Jobs: TypeAlias = list[Weight] | list[RunningNorm]
"""

KERNELS = """\

# Kernels: kernel_names() lists them, csrc/include/ladderseg explains them and their arguments behind the target.
class _Kernel(Protocol):
    def __call__(
        self,
        target: Cpu | Cuda,
        /,
        *arguments: FeatureMap | Images | Gradient | Norm | BnSums | LabelType | _Jobs | _Memory | int | float,
    ) -> None: ...

def __getattr__(name: str) -> _Kernel: ...
"""

#: Types as some version of pybind11 writes them, and as the stub writes them.
_TYPES = {
    "ladderseg_fast._core.": "",
    "tuple[int, int, int] | None": "_Memory",
    "typing.SupportsInt | typing.SupportsIndex": "int",
    "typing.SupportsFloat | typing.SupportsIndex": "float",
    "typing.SupportsInt": "int",
    "typing.SupportsFloat": "float",
    "collections.abc.": "",
    "= None": "= ...",
}


def stub(module: ModuleType) -> str:
    """Returns the text of the stub of `module`."""
    classes = {name: value for name, value in vars(module).items() if inspect.isclass(value)}
    functions = {name: value for name, value in vars(module).items() if inspect.isbuiltin(value)}
    sections = [HEADER, *("\n".join(class_lines(name, value)) + "\n" for name, value in sorted(classes.items()))]
    kernels = module.kernel_names()
    lines = [function_text(name, function) for name, function in functions.items() if name not in kernels]
    return "\n".join([*sections, *lines, KERNELS])


def class_lines(name: str, value: type) -> Iterator[str]:
    yield f"class {name}:"
    if members := getattr(value, "__members__", {}):
        yield from (f"    {member}: ClassVar[{name}]" for member in members)
        return
    init = vars(value).get("__init__")
    if init is not None and (signatures := signatures_of(init)):
        parameters, result = signatures[0]
        yield definition("__init__", ["self", *parameters[1:]], result, indent="    ")
    for attribute, found in vars(value).items():
        if isinstance(found, property):
            yield "    @property"
            yield definition(attribute, ["self"], signatures_of(found.fget)[0][1], indent="    ")
        elif callable(found) and not attribute.startswith("_") and (signatures := signatures_of(found)):
            parameters, result = signatures[0]
            yield definition(attribute, ["self", *parameters[1:]], result, indent="    ")


def function_text(name: str, function: object) -> str:
    ((parameters, result),) = signatures_of(function)
    assert "arg0" not in str(parameters), f"{name}: parameters without names"
    return definition(name, parameters, result)


def definition(name: str, parameters: list[str], result: str, indent: str = "") -> str:
    """Returns a definition in the format of ruff."""
    line = f"{indent}def {name}({', '.join(parameters)}) -> {result}: ..."
    if len(line) <= LINE_LENGTH:
        return line
    inner = f"{indent}    {', '.join(parameters)}"
    if len(inner) > LINE_LENGTH:
        inner = "\n".join(f"{indent}    {parameter}," for parameter in parameters)
    return f"{indent}def {name}(\n{inner}\n{indent}) -> {result}: ..."


def signatures_of(function: object) -> list[tuple[list[str], str]]:
    """Reads parameters and result of each overload from the docstring."""
    text = function.__doc__ or ""
    for written, meant in _TYPES.items():
        text = text.replace(written, meant)
    name = re.match(r"\w*", text)[0]
    found = re.findall(rf"^(?:\d+\. )?{name}\((.*)\) -> (.+)$", text, flags=re.MULTILINE)
    return [(split(parameters), result) for parameters, result in found if parameters != "*args, **kwargs"]


def split(parameters: str) -> list[str]:
    """Splits at the commas outside brackets."""
    parts, depth = [""], 0
    for character in parameters:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


if __name__ == "__main__":
    from ladderseg_fast import _core

    target = BINDINGS.parents[1] / "ladderseg_fast" / "_core.pyi"
    target.write_text(stub(_core))
    print(target)
