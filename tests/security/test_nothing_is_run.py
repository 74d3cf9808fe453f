"""No part of the package makes code of data: what unpickles, evaluates or starts programs is listed here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ladderseg_fast

PACKAGE = Path(ladderseg_fast.__file__).parent

#: Names that make code of data, wherever they come from.
FORBIDDEN = {
    *(
        "eval",
        "exec",
        "compile",
        "__import__",
        "unsafe_load",
        "full_load",
        "load_module",
        "unpack_archive",
        "extractall",
    ),
    *("system", "popen", "mktemp", "Unpickler", "loads_pickle", "read_pickle"),
}
#: Modules that do so by design.
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "code", "codeop", "imp"}

#: Where one of these names means something else, or is needed, and why.
ALLOWED = {
    ("torch_archive.py", "pickle"): "the error that torch.load raises",
    ("cuda/images.py", "compile"): "nvrtc.compile, of the package's own sources",
}


@pytest.fixture(scope="module")
def package() -> dict[str, ast.AST]:
    """The trees of all files of the package, by their names in it."""
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield name, node


def modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]


def keyword(call: ast.Call, name: str) -> object:
    return next((ast.literal_eval(word.value) for word in call.keywords if word.arg == name), None)


def found_in(tree: ast.AST, file: str) -> list[str]:
    found = [name for name, call in calls(tree) if name in FORBIDDEN and not is_harmless(name, call)]
    found += [name for name in modules(tree) if name in FORBIDDEN_MODULES]
    for name, call in calls(tree):
        owner = getattr(getattr(call.func, "value", None), "id", "")
        if (owner, name) == ("torch", "load") and keyword(call, "weights_only") is not True:
            found.append("torch.load without weights_only")
        if owner in ("np", "numpy") and name == "load" and keyword(call, "allow_pickle") is not False:
            found.append("numpy.load without allow_pickle=False")
        if owner == "subprocess" and keyword(call, "shell"):
            found.append("a shell")
    return [name for name in found if (file, name) not in ALLOWED]


def is_harmless(name: str, call: ast.Call) -> bool:
    """re.compile, torch.compile's kin, and the model.eval() of every torch module, which takes no argument."""
    owner = getattr(getattr(call.func, "value", None), "id", "")
    return (name == "compile" and owner == "re") or (name == "eval" and not call.args and not call.keywords)


def test_package_runs_no_data(package):
    assert len(package) > 200
    assert {file: found_in(tree, file) for file, tree in package.items() if found_in(tree, file)} == {}


def test_exceptions_are_still_needed(package):
    for file, name in ALLOWED:
        assert name in [*modules(package[file]), *(found for found, _ in calls(package[file]))]


def test_walk_finds_what_it_looks_for():
    sources = {
        "import pickle": "pickle",
        "eval(text)": "eval",
        "torch.load(path)": "torch.load without weights_only",
        "torch.load(path, weights_only=False)": "torch.load without weights_only",
        "np.load(path)": "numpy.load without allow_pickle=False",
        "subprocess.run(command, shell=True)": "a shell",
        "os.system(command)": "system",
        "import yaml": "yaml",
    }
    for source, name in sources.items():
        assert found_in(ast.parse(source), "x.py") == [name]
    harmless = "model.eval()\nre.compile('a')\ntorch.load(path, weights_only=True)"
    assert found_in(ast.parse(harmless), "x.py") == []


def test_programs_that_are_started(package):
    """Only git, with a list of arguments, to note the revision of the user's files."""
    assert [file for file, tree in package.items() if "subprocess" in modules(tree)] == ["engine/git_revision.py"]


def test_prints_are_made_printable(package):
    """In commands and trainings `show` prints, through which the name of a file cannot command the terminal."""
    for file, tree in package.items():
        if file.startswith(("cli/", "engine/")) and file != "engine/terminal.py":
            assert "print" not in [name for name, call in calls(tree) if isinstance(call.func, ast.Name)], file
