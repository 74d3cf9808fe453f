"""A fresh virtual environment on this system or in a root, filled by uv."""

import os
import shutil
from pathlib import Path

import places
from places import Place

#: On the CPU torch does not need these, and they take a gigabyte.
_LEFT_OUT = ("triton", "cuda-bindings")


def make_environment(place: Place, python: str, name: str, packages: list[str]) -> Path:
    """Interpreter of an environment with `packages`; what was there under this name is gone.

    Raises:
        CommandFailed: there is no such Python, or a package cannot be installed.
    """
    uv, folder = places.uv(place.work), place.work / "environments" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    overrides = place.work / "overrides.txt"
    overrides.write_text("".join(f"{package} ; sys_platform == 'never'\n" for package in _LEFT_OUT))
    place.run([uv, "venv", "--no-config", "--python", places.python_of(place, python), str(folder)])
    interpreter = folder / "bin" / "python"
    options = ["--no-config", "--overrides", str(overrides), "--python", str(interpreter)]
    # A directory of wheels, if pip's configuration names one.
    options += ["--find-links", os.environ["PIP_FIND_LINKS"]] if "PIP_FIND_LINKS" in os.environ else []
    place.run([uv, "pip", "install", *options, *packages])
    return interpreter
