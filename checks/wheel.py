"""Builds a manylinux wheel, and tries it on a system that has Python and no compiler.

The compiler and its libraries are those of an old Debian release, so that the wheel runs on every newer system;
`auditwheel repair` finds out from the symbols how old one may be, and names the wheel for that. Then a root directory
is made of the smallest Debian with a Python, which is searched for compilers; in it torch and the wheel are installed,
and checks/short_suite.py and a training of 20 steps run. Needs the rights of the superuser, debootstrap, uv, auditwheel
and patchelf.
"""

import argparse
import shutil
import sys
from pathlib import Path

import places
from build_wheel import build_wheel
from environment import make_environment
from places import WORK, CommandFailed
from record import record

CLAIM = "A manylinux wheel, built by one command, installs and trains on a system without a compiler."
#: The oldest release whose packages Debian still serves.
OLD, OLD_COMPILER = "bullseye", "g++-10"
BARE = "bookworm-bare"
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++", "tcc")


def repaired(wheel: Path, work: Path) -> Path:
    """The wheel under the name that says which systems it runs on."""
    folder = wheel.parent / "repaired"
    shutil.rmtree(folder, ignore_errors=True)
    command = ["auditwheel", "repair", "--plat", "auto", "--wheel-dir", str(folder), str(wheel)]
    print(places.host(work).run(command).strip())
    return next(folder.glob("*.whl"))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="LADDERSEG_CHECKS_WORK names the directory of work."
    )
    parser.add_argument("--python", default="3.11", help="that of the wheel (default: %(default)s, the bare system's)")
    parser.add_argument("--torch", default="2.13.0", help="(default: %(default)s)")
    parser.add_argument("--build-only", action="store_true", help="for a Python that the bare system has not")
    parser.add_argument("--record", action="store_true", help="record the result in checks/results")
    options = parser.parse_args()
    work = WORK.resolve()
    roots = work / "roots"
    work.mkdir(parents=True, exist_ok=True)
    revision = places.export_sources(work / "source")
    host = places.host(work)
    try:
        old = places.debian(OLD, roots, work, [OLD_COMPILER])
        folder = work / "wheels" / revision / f"{OLD}-{OLD_COMPILER}-py{options.python}"
        wheel = repaired(build_wheel(host, OLD_COMPILER, options.python, folder, borrowed_from=old), work)
        print(f"{wheel}: {wheel.stat().st_size / 2**20:.1f} MiB")
        if options.build_only:
            return 0
        bare = places.debian(BARE, roots, work, ["python3", "python3-venv"])
        compilers = [name for name in COMPILERS if bare.has(name)]
        if compilers:
            raise CommandFailed(f"{bare.root} is not bare: it has {', '.join(compilers)}")
        python = make_environment(bare, options.python, "bare", [f"torch=={options.torch}", "pytest", str(wheel)])
        suite = ["short_suite.py", "--json", str(work / "bare.json")]
        print(bare.run([str(python), *[str(work / "source" / "checks" / suite[0]), *suite[1:]]]).strip())
        shutil.rmtree(work / "run0", ignore_errors=True)
        train = [str(python.with_name("ladderseg")), "train", "--steps", "20", "--size", "128x256", "--out", "run0"]
        log = bare.run(train).replace(str(work), "WORK")
        print(log.strip())
    except CommandFailed as error:
        print(f"FAILED: {error}")
        return 1
    if options.record:
        record(
            "wheel",
            claim=CLAIM,
            found=f"`{wheel.name.split('-', 4)[-1].removesuffix('.whl')}`, {wheel.stat().st_size / 2**20:.1f} MiB; "
            "short suite and 20 steps passed in a root without a compiler",
            figures={"wheel": wheel.name, "bytes": wheel.stat().st_size, "training": log.strip().splitlines()[-3:]},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
