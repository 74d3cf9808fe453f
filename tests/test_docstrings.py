"""Docstrings: every public name has one; they begin with a noun or a verb, and give shapes and errors."""

import ast
import builtins
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import pytest

import ladderseg_fast

ROOT = Path(__file__).parents[1]
PACKAGE = Path(ladderseg_fast.__file__).parent
NAMESPACES = (
    "ladderseg_fast",
    "ladderseg_fast.ops",
    "ladderseg_fast.nn",
    "ladderseg_fast.lean",
    "ladderseg_fast.memory",
    "ladderseg_fast.models",
    "ladderseg_fast.data",
    "ladderseg_fast.engine",
    "ladderseg_fast.engine.evaluation",
    "ladderseg_fast.engine.report",
    "ladderseg_fast.engine.tiled",
    "ladderseg_fast.cuda",
)

#: Beginnings of fragments: the noun or the verb that the reader waits for comes late, or never.
FRAGMENTS = frozenset(
    "of that those by as what where which how why for with without from in if when while whatever whose than there it "
    "to but so not nothing at unless such because through".split()
)

#: An array's axes, such as [N, C, H, W] or [2, C], or words that stand for them.
SHAPE = re.compile(r"\[[A-Z0-9][^\[\]]*\]|\[[nkchwd](, [^\[\]]*)?\]|any shape|a scalar|0-dimensional")


def first_word(docstring: str) -> str:
    """First word in lower case; empty if the text begins with a sign, such as a shape or code."""
    return re.match(r"\w*", docstring)[0].lower()


def source_files() -> list[Path]:
    """Python files whose docstrings users and developers read, tests excepted."""
    others = [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("checks/*.py"), *ROOT.glob("csrc/**/*.py"), *ROOT.glob("*.py")]
    return sorted(others) + sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE.parent if path.is_relative_to(PACKAGE) else ROOT).as_posix()


def public_objects() -> Iterator[tuple[str, object]]:
    """Functions and classes of the package that its namespaces offer, each once."""
    seen = set()
    for namespace in NAMESPACES:
        module = importlib.import_module(namespace)
        for name in sorted(getattr(module, "__all__", None) or (name for name in vars(module) if name[0] != "_")):
            value = getattr(module, name)
            ours = getattr(value, "__module__", None) or ""
            if callable(value) and not name.isupper() and ours.startswith("ladderseg_fast") and id(value) not in seen:
                seen.add(id(value))
                yield f"{ours}.{name}", value


def members(value: object) -> Iterator[tuple[str, FunctionType, str]]:
    """Functions to examine in a public object: name, function, and the docstring that speaks of it."""
    if not inspect.isclass(value):
        yield "", inspect.unwrap(value), inspect.getdoc(value) or ""
        return
    for name, member in vars(value).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        function = getattr(function, "func", function)  # of a cached_property
        if not isinstance(function, FunctionType) or not function.__module__.startswith("ladderseg_fast"):
            continue
        # The class says what its constructor takes, and a module what it maps.
        if name in ("__init__", "__post_init__", "forward") and function.__code__.co_filename.endswith(".py"):
            yield name, function, "\n".join(filter(None, (value.__doc__, member.__doc__)))
        elif name[0] != "_":
            yield name, function, inspect.getdoc(getattr(value, name) if callable(member) else member) or ""


def raised_errors(function: FunctionType) -> set[str]:
    """Names of the errors that the function itself raises; those of nested functions do not count."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    todo, errors = list(ast.iter_child_nodes(tree)), set()
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            errors.add(node.exc.func.id)
        todo.extend(ast.iter_child_nodes(node))
    return {error for error in errors if error[0].isupper()} - {"NotImplementedError", "AssertionError"}


def names_of(error: str, function: FunctionType) -> set[str]:
    """The error's own name and those of its bases, by which a docstring may call it; "Exception" is too little."""
    kind = function.__globals__.get(error, getattr(builtins, error, None))
    return (
        {base.__name__ for base in inspect.getmro(kind)} - {"Exception", "BaseException", "object"} if kind else {error}
    )


def tensor_arguments(function: FunctionType) -> list[str]:
    """Names of the arguments that are one tensor, or None."""
    tensor = re.compile(r"(torch\.)?Tensor( \| None)?")
    annotations = {name: getattr(kind, "__name__", str(kind)) for name, kind in function.__annotations__.items()}
    return [name for name, kind in annotations.items() if name != "return" and tensor.fullmatch(kind)]


def problems_of(value: object) -> list[str]:
    """Faults of the docstrings of a public object, one a line."""
    problems = [] if inspect.getdoc(value) else ["has no docstring"]
    for name, function, text in members(value):
        if not text:
            problems.append(f"{name} has no docstring")
            continue
        unnamed = [e for e in sorted(raised_errors(function)) if not any(n in text for n in names_of(e, function))]
        if unnamed:
            problems.append(f"{name} does not say when it raises {', '.join(unnamed)}")
        tensors = tensor_arguments(function)
        if tensors and not SHAPE.search(text):
            problems.append(f"{name} gives no shape for {', '.join(tensors)}")
    return problems


@pytest.mark.parametrize("path", [pytest.param(path, id=name_of(path)) for path in source_files()])
def test_docstrings_begin_with_a_noun_or_a_verb(path: Path) -> None:
    fragments = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        # Docstrings, and texts below the attributes that they describe.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            text = node.value.value
            if first_word(text) in FRAGMENTS:
                fragments.append(f"{path.name}:{node.lineno}: {text.splitlines()[0]}")
    assert not fragments, "\n".join(fragments)


@pytest.mark.parametrize("value", [pytest.param(value, id=name) for name, value in public_objects()])
def test_public_names_are_documented(value: object) -> None:
    problems = problems_of(value)
    assert not problems, "\n".join(problems)


def test_modules_are_documented() -> None:
    undocumented = [
        name_of(path)
        for path in source_files()
        if path.is_relative_to(PACKAGE) and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert undocumented == []


class Documented:
    """Class with a method of each fault that the check finds."""

    def undocumented(self) -> None:
        return None

    def raises(self, text: str) -> None:
        """Reads a text."""
        if not text:
            raise ValueError("text must not be empty")

    def takes(self, x) -> None:
        """Takes a map."""

    takes.__annotations__["x"] = "Tensor"


def test_faults_are_found() -> None:
    Documented.__module__ = "ladderseg_fast"
    for function in (Documented.undocumented, Documented.raises, Documented.takes):
        function.__module__ = "ladderseg_fast"
    assert problems_of(Documented) == [
        "undocumented has no docstring",
        "raises does not say when it raises ValueError",
        "takes gives no shape for x",
    ]
    assert first_word("Of small images") in FRAGMENTS
    assert first_word("[N, C] -> [N]") == ""
