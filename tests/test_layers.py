"""The package's layers: imports point down, go in no circle, and reach every file.

Read are all imports in the sources, those inside functions and those for type checkers too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "ladderseg_fast"

#: Folders and files of the package, lowest first: no line imports what stands in a later one.
LAYERS = (
    ("_core", "_openmp", "_shadowing", "_version", "atomic_file", "shortened", "tensor_digest", "torch_archive"),
    ("_instruction_set", "cuda"),
    ("ops",),
    ("nn",),
    ("lean",),
    ("memory",),
    ("models", "convert"),
    ("data",),
    ("engine",),
    ("cli", "info"),
    ("__main__",),
)

#: What is run, and so need not be imported: the package itself, and its commands.
RUN = {PACKAGE, f"{PACKAGE}.__main__", f"{PACKAGE}.cli.main", f"{PACKAGE}.info"}

Graph = dict[str, set[str]]


def read_imports(root: Path) -> Graph:
    """By module of the package in the folder `root`, the modules of the package that it imports."""
    files = {}
    for path in root.rglob("*.py"):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    modules = {*files, f"{root.name}._core"}
    return {name: set(_imported(name, path, modules)) for name, path in files.items()}


def _imported(importer: str, path: Path, modules: set[str]) -> Iterator[str]:
    package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            names = [full if (full := f"{source}.{alias.name}") in modules else source for alias in node.names]
        for name in names:
            if name in modules:
                yield name


def layer(module: str) -> int:
    parts = module.split(".")
    if len(parts) == 1:
        return len(LAYERS)  # the package's own __init__ sees all
    return next(i for i, names in enumerate(LAYERS) if parts[1] in names)


def upward(graph: Graph) -> list[str]:
    """The imports of a higher layer."""
    return [
        f"{importer} imports {imported}"
        for importer, all_imported in sorted(graph.items())
        for imported in sorted(all_imported)
        if layer(imported) > layer(importer)
    ]


def with_parents(graph: Graph) -> Graph:
    """The same with what an import runs besides: the __init__ of the packages that the module is in."""
    return {
        importer: imported | {p for name in imported for p in _parents(name) if not f"{importer}.".startswith(f"{p}.")}
        for importer, imported in graph.items()
    }


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def circles(graph: Graph) -> list[list[str]]:
    """A circle of imports through each module that is in one."""
    found: list[list[str]] = []
    done: set[str] = set()

    def follow(module: str, way: list[str]) -> None:
        if module in way:
            found.append([*way[way.index(module) :], module])
        elif module not in done:
            for imported in sorted(graph.get(module, ())):
                follow(imported, [*way, module])
            done.add(module)

    for module in sorted(graph):
        follow(module, [])
    return found


def dead(graph: Graph) -> set[str]:
    """The modules that nothing leads to from what is run."""
    alive: set[str] = set()
    new = RUN & graph.keys()
    while new:
        alive |= new
        new = {other for name in new for other in (*graph.get(name, ()), *_parents(name))} - alive
    return set(graph) - alive


@pytest.fixture(scope="module")
def graph() -> Graph:
    return read_imports(Path(__file__).parents[1] / PACKAGE)


def test_every_file_has_a_layer(graph: Graph) -> None:
    assert {module.split(".")[1] for module in graph if "." in module} == {
        name for names in LAYERS for name in names
    } - {"_core"}


def test_no_import_points_upward(graph: Graph) -> None:
    assert upward(graph) == []


def test_no_imports_go_in_a_circle(graph: Graph) -> None:
    assert circles(with_parents(graph)) == []


def test_every_file_is_imported(graph: Graph) -> None:
    assert dead(graph) == set()


BROKEN = {
    "nn/block.py": "def forward():\n    from ..models import network\n",
    "nn/__init__.py": "",
    "models/__init__.py": "from . import network\n",
    "models/network.py": (
        "from typing import TYPE_CHECKING\n\n"
        "from ..nn.block import forward\n\n"
        "if TYPE_CHECKING:\n    from .weights import load\n"
    ),
    "models/weights.py": "from .network import Network\n",
    "models/forgotten.py": "from . import network\n",
    "__init__.py": "from .models import network\n",
}


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    """Imports inside functions and for type checkers count."""
    root = tmp_path / PACKAGE
    for name, source in BROKEN.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source)
    graph = read_imports(root)
    assert upward(graph) == [f"{PACKAGE}.nn.block imports {PACKAGE}.models.network"]
    found = {frozenset(name.removeprefix(f"{PACKAGE}.") for name in circle) for circle in circles(graph)}
    assert found == {frozenset({"models.network", "nn.block"}), frozenset({"models.network", "models.weights"})}
    assert dead(graph) == {f"{PACKAGE}.models.forgotten"}
