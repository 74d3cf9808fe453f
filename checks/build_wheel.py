"""A wheel of what is committed, built in an isolated environment by a chosen compiler for a chosen Python."""

import shlex
import shutil
from pathlib import Path

import places
from places import CommandFailed, Place


def build_wheel(place: Place, compiler: str, python: str, folder: Path, borrowed_from: Place | None = None) -> Path:
    """The wheel in `folder`; one that is there from before is used again.

    With `borrowed_from` it is the compiler of another root, with that root's C and C++ libraries, which runs on this
    system for this system's Python: so the wheel asks for no newer library than that root has.

    Raises:
        CommandFailed: there is no such compiler or Python, or the build fails.
    """
    for wheel in folder.glob("*.whl"):
        return wheel
    interpreter = places.python_of(place, python)
    owner = borrowed_from or place
    if not owner.has(compiler):
        raise CommandFailed(f"{owner.name} has no {compiler}")
    work = place.work
    shutil.rmtree(work / "source" / "build", ignore_errors=True)
    variables = {"LADDERSEG_FAST_CUDA_ARCHITECTURES": "none", "CXX": compiler}
    command = ["nice", "-n", "10", places.uv(work), "build", "--no-config", "--wheel", "--python", interpreter]
    command += ["--out-dir", str(folder), "source"]
    if borrowed_from is not None:
        assert place.root is None and borrowed_from.root is not None
        variables["CXX"] = str(_wrapper(borrowed_from.root, compiler, work))
        # Headers of this system's Python, where the compiler in the root looks for them too.
        prefix = place.run([interpreter, "-c", "import sys; print(sys.base_prefix)"]).strip()
        include = place.run([interpreter, "-c", "import sysconfig; print(sysconfig.get_path('include'))"]).strip()
        visible = {str(work), include if prefix == "/usr" else prefix}
        command = _with_mounts(borrowed_from.root, sorted(visible), command)
    log = place.run(command, variables)
    (folder / "build.log").write_text(log)
    return next(folder.glob("*.whl"))


def _wrapper(root: Path, compiler: str, work: Path) -> Path:
    """Script that runs the compiler of `root`, in the directory where it is called."""
    script = work / "bin" / f"{root.name}-{compiler}"
    inside = 'cd "$0" && exec "$@"'
    script.write_text(f'#!/bin/sh\nexec chroot {shlex.quote(str(root))} sh -c \'{inside}\' "$PWD" {compiler} "$@"\n')
    script.chmod(0o755)
    return script


def _with_mounts(root: Path, visible: list[str], command: list[str]) -> list[str]:
    """`command`, run where the directories `visible` are in `root` too."""
    lines = []
    for path in visible:
        inside = shlex.quote(f"{root}{path}")
        lines.append(f"mkdir -p {inside}; mount --bind {shlex.quote(path)} {inside}")
    return ["unshare", "--mount", "sh", "-euc", "\n".join([*lines, f"exec {shlex.join(command)}"])]
