"""Compiles the core for 64-bit Arm and runs it on this processor, under QEMU's user-mode emulation.

A cross compiler builds what is committed; the interpreter and its libraries come from Debian's arm64 packages, unpacked
by debootstrap and dpkg; torch from its arm64 wheel. Then checks/short_suite.py compares the operators and a training
step with plain torch: the arithmetic and the threads of the portable code are those of a real processor, the time is
not. Its commands start programs, which this emulation does not, and are left out. Needs g++-aarch64-linux-gnu,
qemu-user-static, debootstrap and uv.
"""

import argparse
import json
import os
import shutil
import sys
import sysconfig
from pathlib import Path

import places
from places import MIRROR, WORK, CommandFailed, Place
from record import record

CLAIM = "The core compiles for 64-bit Arm, and its operators and training steps agree with plain PyTorch there."
SUITE, PYTHON = "bookworm", "3.11"


def emulated_system(host: Place) -> Path:
    """Root directory with an interpreter for arm64; its packages are unpacked and not configured."""
    root = host.work / "arm64-root"
    if not (root / "made").exists():
        shutil.rmtree(root, ignore_errors=True)
        options = ["--arch=arm64", "--foreign", "--variant=minbase", "--include=python3,libstdc++6"]
        host.run(["debootstrap", *options, SUITE, str(root), MIRROR])
        for package in sorted(root.glob("var/cache/apt/archives/*.deb")):
            host.run(["dpkg", "-x", str(package), str(root)])
        (root / "made").touch()
    return root


def packages(host: Place, torch: str, numpy: str) -> Path:
    """Directory with the wheels for arm64, unpacked."""
    folder = host.work / f"arm64-torch{torch}-numpy{numpy}"
    if not (folder / "made").exists():
        options = ["--no-config", "--target", str(folder), "--python-version", PYTHON]
        options += ["--python-platform", "aarch64-manylinux_2_28", "--only-binary", ":all:"]
        wanted = [f"torch=={torch}", f"numpy=={numpy}", "pillow", "safetensors", "pytest"]
        host.run([places.uv(host.work), "pip", "install", *options, *wanted])
        (folder / "made").touch()
    return folder


def cross_compiled(host: Place) -> Path:
    """Directory with the package and its core for arm64."""
    import pybind11

    source, build, folder = host.work / "source", host.work / "arm64-build", host.work / "arm64-package"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copytree(source / "ladderseg_fast", folder / "ladderseg_fast")
    core = folder / "ladderseg_fast"
    configure = ["cmake", "-S", str(source), "-B", str(build), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"]
    configure += ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"]
    configure += ["-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++", f"-DPython_EXECUTABLE={sys.executable}"]
    configure += [f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={core}"]
    host.run(configure)
    host.run(["nice", "-n", "10", "cmake", "--build", str(build)], timeout=7200)
    # The headers of this interpreter serve: the two systems have the same types. So its name for modules must go.
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    built = core / f"_core{suffix}"
    built.rename(core / f"_core.cpython-{PYTHON.replace('.', '')}-aarch64-linux-gnu.so")
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="LADDERSEG_CHECKS_WORK names the directory of work."
    )
    # The last version whose arm64 wheel needs no CUDA.
    parser.add_argument("--torch", default="2.4.0", help="(default: %(default)s)")
    parser.add_argument("--numpy", default="2.2.6", help="(default: %(default)s)")
    parser.add_argument("--parts", default="training_step,operators,team_sizes", help="(default: %(default)s)")
    parser.add_argument("--record", action="store_true", help="record the result in checks/results")
    options = parser.parse_args()
    if f"{sys.version_info.major}.{sys.version_info.minor}" != PYTHON:
        parser.error(f"run it with Python {PYTHON}, whose headers the core is compiled with")
    work = WORK.resolve()
    work.mkdir(parents=True, exist_ok=True)
    places.export_sources(work / "source")
    host = places.host(work)
    report = work / "arm64.json"
    report.unlink(missing_ok=True)
    try:
        root = emulated_system(host)
        site = packages(host, options.torch, options.numpy)
        package = cross_compiled(host)
        python = ["qemu-aarch64-static", "-L", str(root), str(root / "usr" / "bin" / f"python{PYTHON}")]
        suite = [str(work / "source" / "checks" / "short_suite.py"), "--json", str(report), "--parts", options.parts]
        path = os.pathsep.join([str(package), str(site)])
        print(host.run([*python, *suite], {"PYTHONPATH": path, "PYTHONNOUSERSITE": "1"}, timeout=7200).strip())
    except CommandFailed as error:
        print(f"FAILED: {error}")
        return 1
    result = json.loads(report.read_text())
    if options.record:
        comparisons = result["parts"]["operators"]["comparisons"]
        found = f"{comparisons} comparisons of operators and 3 training steps, emulated"
        record("aarch64", claim=CLAIM, found=found, figures=result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
