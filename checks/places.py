"""Places where packages are built and tried: this system, or the root of another one (`debootstrap` makes them).

A command in a root is run by chroot, in a mount namespace of its own, so that the mounts end with it. It needs the
rights of the superuser. The directory of work is bound into the root at its own path: paths are the same in both.
"""

import os
import shlex
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
MIRROR = "http://deb.debian.org/debian"

#: For wheels, environments and roots: 15 GB if everything is tried. Roots see no other directory: if UV_CACHE_DIR is
#: set, it must be in this one.
WORK = Path(os.environ.get("LADDERSEG_CHECKS_WORK") or Path.home() / ".cache" / "ladderseg_fast_checks")

#: What a command in a root sees of the environment; everything else stays outside.
_PASSED = ("SSL_CERT_FILE", "OMP_NUM_THREADS", "UV_CACHE_DIR", "CMAKE_BUILD_PARALLEL_LEVEL")


class CommandFailed(Exception):
    """A command exited with an error: the message is what matters of its output."""


@dataclass(frozen=True)
class Place:
    """This system (root None), or one under a directory."""

    name: str
    root: Path | None
    work: Path

    def run(self, command: list[str], variables: dict[str, str] | None = None, timeout: float = 3600) -> str:
        """Output (stdout and stderr) of a command that runs in the directory of work.

        Raises:
            CommandFailed: it exited with an error, or took longer than `timeout` seconds.
        """
        variables = variables or {}
        if self.root is None:
            arguments, environment = command, os.environ | variables
        else:
            passed = {key: os.environ[key] for key in _PASSED if key in os.environ}
            environment = passed | {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root"} | variables
            arguments = ["unshare", "--mount", "sh", "-euc", self._enter(command)]
        try:
            result = subprocess.run(
                arguments,
                cwd=self.work,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"{shlex.join(command[:3])} took longer than {timeout:.0f} s") from None
        if result.returncode != 0:
            raise CommandFailed(f"{shlex.join(command[:3])} exited with {result.returncode}:\n{result.stdout[-4000:]}")
        return result.stdout

    def _enter(self, command: list[str]) -> str:
        """Script that mounts what programs need, and runs `command` in the root."""
        root, work = shlex.quote(str(self.root)), shlex.quote(str(self.work))
        inside = f"cd {work} && exec {shlex.join(command)}"
        binds = "".join(
            f"if [ -e {path} ]; then mkdir -p {root}{path}; mount --bind {path} {root}{path}; fi\n"
            for path in ("/etc/ssl/certs", os.environ.get("PIP_FIND_LINKS", ""))
            if path
        )
        return (
            f"mkdir -p {root}{work}; mount --bind {work} {root}{work}\n"
            f"mount -t proc proc {root}/proc; mount --rbind /dev {root}/dev; mount -t tmpfs tmpfs {root}/tmp\n"
            f"{binds}"
            f"cp --remove-destination -L /etc/resolv.conf {root}/etc/resolv.conf\n"
            f"exec chroot {root} /bin/sh -euc {shlex.quote(inside)}"
        )

    def has(self, program: str) -> bool:
        try:
            self.run(["sh", "-c", f"command -v {shlex.quote(program)}"])
        except CommandFailed:
            return False
        return True


def host(work: Path) -> Place:
    return Place("host", None, work)


def debian(suite: str, roots: Path, work: Path, packages: list[str]) -> Place:
    """The root directory of a Debian release with some packages, made if it is not there.

    Raises:
        CommandFailed: there is no debootstrap, or no such release or package.
    """
    root = roots / f"root-{suite}"
    place = Place(suite, root, work)
    if not (root / "made").exists():
        if shutil.which("debootstrap") is None:
            raise CommandFailed(f"{root} does not exist, and there is no debootstrap to make it")
        cache = roots / "debs"
        cache.mkdir(parents=True, exist_ok=True)
        include = ",".join(["ca-certificates", *packages])
        options = ["--variant=minbase", f"--cache-dir={cache}", f"--include={include}"]
        host(work).run(["debootstrap", *options, suite.removesuffix("-bare"), str(root), MIRROR])
        (root / "made").touch()
    return place


def python_of(place: Place, version: str) -> str:
    """Path of an interpreter of this version, such as "3.12": on the search path, or pyenv's.

    Raises:
        CommandFailed: there is none.
    """
    name = f"python{version}"
    probe = [name, "-c", "import sys; print(sys.executable)"]
    if place.root is None:
        for candidate in sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}")):
            return str(candidate)
    try:
        return place.run(probe).strip()
    except (CommandFailed, FileNotFoundError):
        raise CommandFailed(f"{place.name} has no {name}") from None


def export_sources(to: Path) -> str:
    """Copies what is committed at HEAD into the directory `to`, which is emptied before; returns the commit's hash."""
    shutil.rmtree(to, ignore_errors=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=CHECKOUT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(to, filter="data")
    head = ["git", "rev-parse", "HEAD"]
    return subprocess.run(head, cwd=CHECKOUT, capture_output=True, check=True, text=True).stdout.strip()


def uv(work: Path) -> str:
    """Path of the program uv in the directory of work, where roots see it.

    Raises:
        CommandFailed: it is not installed.
    """
    found = shutil.which("uv")
    if found is None:
        raise CommandFailed("there is no uv, which makes the environments: pip install uv")
    copy = work / "bin" / "uv"
    copy.parent.mkdir(parents=True, exist_ok=True)
    if not copy.exists():
        shutil.copy2(found, copy)
    return str(copy)
