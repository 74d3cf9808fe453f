"""Changes files at random and reads them: each gives a result or a documented error that names it, in time and memory.

    python checks/fuzz_readers.py --seconds 600 --record
    python checks/fuzz_readers.py --seed 7 --case 12345   # repeats one case, with its traceback

Every case is a file that a reader of this package reads, after a few random changes; some keep the format's checksums
and lengths right, so that what lies behind them is reached. A reader may return, or raise OSError or ValueError with
the file's name. Any other exception, a crash, more than the time or memory of --case-seconds and --case-memory, or
other weights than were written where the format has a checksum, is a finding.
"""

import argparse
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mutations_of_files import mutated
from reader_targets import Target, chosen, targets
from record import record

from ladderseg_fast.data import pixel_limit

#: Pixels that an image may have here, so that the memory of a case stays small.
_PIXELS = 4_000_000
#: Characters of a message. It may quote a path, which can have 4,096.
_LONGEST = 6000
#: Seconds without a word from the child, after which it hangs outside Python: many times a case's CPU time.
_SILENCE = 600


class OutOfTime(BaseException):
    """The CPU time of a case is used up."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="CPU seconds in all (default: 600)")
    parser.add_argument("--seed", type=int, default=0, help="of all cases (default: 0)")
    parser.add_argument("--case", type=int, help="run this one only")
    parser.add_argument("--only", help="readers whose names contain this")
    parser.add_argument("--case-seconds", type=float, default=10, help="CPU seconds of one case (default: 10)")
    parser.add_argument("--case-memory", type=int, default=1024, help="MiB that one case may add (default: 1024)")
    parser.add_argument("--keep", type=Path, help="folder for the files of the findings")
    parser.add_argument("--record", action="store_true", help="write the result into checks/results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        all_targets = [target for target in targets(_folder(scratch, "made")) if (options.only or "") in target.name]
        if options.case is not None:
            return _repeat(all_targets, options, _folder(scratch, "case"))
        found = Search(all_targets, options, _folder(scratch, "case")).run()
    print(json.dumps({key: value for key, value in found.items() if key != "readers"}, indent=1))
    if options.record:
        record(
            "fuzz_readers",
            claim="Every damaged file is read right, or refused by name in bounded time and memory",
            found=f"{found['cases']} cases, {found['cpu_seconds']:.0f} s of CPU, seed {options.seed}: "
            f"{len(found['findings'])} findings",
            figures=found,
        )
    return 1 if found["findings"] else 0


class Search:
    """Runs cases in a child process, and starts another one when it ends."""

    def __init__(self, all_targets: list[Target], options: argparse.Namespace, folder: Path) -> None:
        self._targets, self._options, self._folder = all_targets, options, folder
        self._cases, self._cpu = 0, 0.0
        self._outcomes: dict[str, Counter[str]] = {target.name: Counter() for target in all_targets}
        self._findings: list[dict[str, Any]] = []

    def run(self) -> dict[str, Any]:
        """Runs until the CPU time is used up, or until Ctrl-C; returns the figures."""
        try:
            while self._cpu < self._options.seconds:
                self._run_child()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
        return {
            "seed": self._options.seed,
            "cases": self._cases,
            "cpu_seconds": round(self._cpu, 1),
            "most_bytes_in_a_case": self._options.case_memory << 20,
            "findings": self._findings,
            "readers": {name: dict(counts) for name, counts in self._outcomes.items()},
        }

    def _run_child(self) -> None:
        """Runs cases in one child until it ends, or the CPU time is used up; the case that ends it is passed over."""
        ours, theirs = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(
            target=_run_cases, args=(self._targets, self._options, self._folder, self._cases, theirs)
        )
        child.start()
        theirs.close()
        before = self._cpu
        try:
            while self._cpu < self._options.seconds:
                if not ours.poll(_SILENCE):
                    self._note(self._cases, "it hangs")
                    break
                case, name, outcome, finding, spent = ours.recv()
                self._cases, self._cpu = case + 1, before + spent
                self._outcomes[name][outcome] += 1
                if finding is not None:
                    self._note(case, finding)
            else:
                return
        except EOFError:
            child.join()
            self._note(self._cases, f"the process ended with status {child.exitcode}")
        finally:
            child.kill()
            child.join()
        self._cases += 1

    def _note(self, case: int, what: str) -> None:
        target, name, _, _ = case_of(self._targets, self._options.seed, case)
        print(f"case {case}, {target.name}, {name}: {what}", file=sys.stderr, flush=True)
        self._findings.append({"case": case, "reader": target.name, "file": name, "what": what})


def case_of(all_targets: list[Target], seed: int, case: int) -> tuple[Target, str, bytes, bool]:
    """Reader, name and content of the changed file of a case, and whether its checksums are as they were."""
    draw = random.Random(f"{seed} {case}")
    target = chosen(all_targets, draw)
    name = draw.choice(list(target.files)) if target.any_file else next(iter(target.files))
    structured = draw.random() < 0.5
    return target, name, mutated(target.files[name], draw, structured), not structured


def _run_cases(
    all_targets: list[Target], options: argparse.Namespace, folder: Path, first: int, pipe: Connection
) -> None:
    """Runs cases from `first` on, and sends what became of each."""
    signal.signal(signal.SIGPROF, _out_of_time)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)  # what libraries of C say about damaged files
    limit_memory(options.case_memory << 20)
    right = {target.name: _right(target, folder) for target in all_targets if target.exact is not None}
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in range(first, sys.maxsize):
            target, name, data, plain = case_of(all_targets, options.seed, case)
            outcome, finding = run_case(target, name, data, folder, options.case_seconds, right if plain else {})
            if finding is not None and options.keep is not None:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{case}_{Path(name).name}").write_bytes(data)
            pipe.send((case, target.name, outcome, finding, time.process_time() - started))


def run_case(
    target: Target, name: str, data: bytes, folder: Path, seconds: float, right: dict[str, Any]
) -> tuple[str, str | None]:
    """Outcome in a word, and what is wrong with it or None."""
    path = _write(target, name, data, folder)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        with pixel_limit(_PIXELS):
            found = target.read(path)
    except (OSError, ValueError) as error:
        return "refused", _unnamed(error, folder, target.names)
    except OutOfTime:
        return "too slow", f"more than {seconds:g} s of CPU"
    except BaseException as error:
        return type(error).__name__, traceback.format_exception_only(error)[-1].strip()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if target.exact is not None and target.name in right and target.exact(found) != right[target.name]:
        return "other", "other content than was written, and no error"
    return "read", None


def _unnamed(error: Exception, folder: Path, names: str | None) -> str | None:
    """Complaint about the message of a documented error, if there is one."""
    if str(folder) not in str(error) and not (names and re.match(names, str(error))):
        return f"{type(error).__name__} without the file's name: {error}"[:300]
    if len(str(error)) > _LONGEST:
        return f"a message of {len(str(error))} characters"
    return None


def _right(target: Target, folder: Path) -> Any:
    """Result of reading the files as they are."""
    name = next(iter(target.files))
    found = target.read(_write(target, name, target.files[name], folder))
    assert target.exact is not None
    return target.exact(found)


def _write(target: Target, name: str, data: bytes, folder: Path) -> Path:
    """Fills `folder` with the files of `target`, and `data` in the one called `name`."""
    shutil.rmtree(folder, ignore_errors=True)
    for each, content in (target.files | {name: data}).items():
        (folder / each).parent.mkdir(parents=True, exist_ok=True)
        (folder / each).write_bytes(content)
    return folder / name


def limit_memory(more: int) -> None:
    """Lets this process have `more` bytes of addresses than now."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, now + more))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _out_of_time(number: int, frame: object) -> None:
    raise OutOfTime


def _repeat(all_targets: list[Target], options: argparse.Namespace, folder: Path) -> int:
    """Runs one case in this process, and shows its traceback."""
    target, name, data, _ = case_of(all_targets, options.seed, options.case)
    path = _write(target, name, data, folder)
    print(f"{target.name}: {name}, {len(data)} bytes")
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        (options.keep / f"{options.case}_{path.name}").write_bytes(data)
    limit_memory(options.case_memory << 20)
    with pixel_limit(_PIXELS):
        print(str(target.read(path))[:500])
    return 0


def _folder(scratch: str, name: str) -> Path:
    folder = Path(scratch, name)
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())
