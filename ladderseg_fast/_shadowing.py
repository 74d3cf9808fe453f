"""Installed package used instead of a source tree that has no compiled core.

Python looks for `ladderseg_fast` in the working directory first. In the repository's root it finds the sources there,
before the package that `pip install .` has put elsewhere.
"""

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

_NAME = __package__
_HERE = Path(__file__).absolute().parent


def without_core(error: ImportError) -> None:
    """Puts the whole installed package in place of this one, whose core could not be imported because of `error`.

    Raises:
        ImportError: this package has a core, which cannot be loaded, or no other package has one.
    """
    core = PathFinder.find_spec(f"{_NAME}._core", [str(_HERE)])
    if core is not None:
        raise ImportError(
            f"the compiled core of {_NAME}, {core.origin}, cannot be loaded: {error}. "
            "Install the package again in this environment: `pip install --force-reinstall --no-deps .`",
            name=_NAME,
        ) from error
    spec = _installed()
    if spec is None or spec.loader is None:
        raise ImportError(
            f"{_NAME} has no compiled core (_core): {_HERE} is a source tree that was not installed, and there is no "
            "installed package elsewhere on Python's path. Run `pip install .` (or `pip install -e .`) in it.",
            name=_NAME,
        ) from error
    module = importlib.util.module_from_spec(spec)
    # Else the installed package would have modules of this one.
    for name in [name for name in sys.modules if name.startswith(f"{_NAME}.")]:
        del sys.modules[name]
    # The import system hands out what is here in the end, and looks up submodules there.
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)


def _installed() -> ModuleSpec | None:
    """First package on Python's path that has a core, which this one has not."""
    for entry in sys.path:
        spec = PathFinder.find_spec(_NAME, [entry or os.getcwd()])
        if spec is None or spec.loader is None or not spec.submodule_search_locations:
            continue
        if PathFinder.find_spec(f"{_NAME}._core", spec.submodule_search_locations) is not None:
            return spec
    return None
