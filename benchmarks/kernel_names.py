"""Short names for CUDA kernels: those of torch and its libraries are C++ signatures of hundreds of characters."""

import re
from collections.abc import Iterable

#: A kernel's short name, how often a step launches it, and its milliseconds in a step.
KernelTime = tuple[str, float, float]

#: Kernels of torch that run any function on each element; the function is in their template arguments.
_ELEMENTWISE = ("elementwise_kernel", "vectorized_elementwise_kernel", "unrolled_elementwise_kernel", "reduce_kernel")
_FUNCTION = re.compile(r"\b(?!gpu_|Binary|func_|Reduce)(\w*?)(?:_kernel_cuda|_kernel_impl|_functor|_kernel)\b")
_FUNCTOR = re.compile(r"\b(?!Binary)(\w*Functor\w*|launch_\w+)\b")


def short_name(name: str) -> str:
    """Name without return type, namespaces, template arguments and parameters; our own names stay as they are.

    Variants of one kernel (tile sizes, types) get the same short name. A copy of torch's is "elementwise: direct_copy".
    """
    if name.startswith("_ZN"):
        return _of_mangled(name)
    text = name.removeprefix("void ").replace("(anonymous namespace)::", "")
    head = re.split(r"[<(]", text, maxsplit=1)[0].rstrip()
    last = head.rpartition("::")[2]
    if last in _ELEMENTWISE:
        return f"{last.removesuffix('_kernel').rpartition('_')[2]}: {_function(text)}"
    if "cutlass" in head:
        return re.split(r"_\d+x\d+|[<,>]", text.partition("<")[2])[0].rpartition("::")[2]
    return re.split(r"_tile|_\d+x\d+", last)[0]


def aggregated(kernels: Iterable[KernelTime]) -> list[KernelTime]:
    """The kernels under their short names, those of one name added up, the longest first."""
    totals: dict[str, tuple[float, float]] = {}
    for name, launches, milliseconds in kernels:
        before = totals.get(short_name(name), (0.0, 0.0))
        totals[short_name(name)] = before[0] + launches, before[1] + milliseconds
    ordered = sorted(totals.items(), key=lambda item: -item[1][1])
    return [(name, launches, round(milliseconds, 4)) for name, (launches, milliseconds) in ordered]


def _function(text: str) -> str:
    arguments = text.partition("<")[2]
    for pattern in (_FUNCTOR, _FUNCTION):
        found = pattern.search(arguments)
        if found is not None:
            return found[1]
    return "unknown"


def _of_mangled(name: str) -> str:
    """The first longer word of a mangled name, with the word that says which gradient it computes."""
    words = re.findall(r"\d([A-Z][A-Za-z]{11,}?)(?=I?N?S?\d|I[A-Z])", name)
    kind = next((word for word in ("Wgrad", "Dgrad", "Fprop") if word in name), "")
    return f"cutlass: {words[0] if words else 'unknown'} {kind}".rstrip()
