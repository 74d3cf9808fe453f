"""Checks that no fault of disk, memory, files, clock or user makes a training silently wrong.

    python checks/training_faults.py                              # a sample of every part, minutes
    python checks/training_faults.py --every 1                    # every call, every line, every request
    python checks/training_faults.py --only disk --every 1

disk: the n-th change of a training below its directory (write, fsync, rename, mkdir, open, unlink, close) fails with
ENOSPC, EIO, EDQUOT or EROFS in turn, of a new run and of a resumed one. small-disks: real file systems that are full,
or become read-only. checkpoints: every byte flipped, every length. labels: a label file is cut, emptied, removed,
replaced between two epochs. memory: the n-th request for memory in a step or a prediction is refused. interrupts:
KeyboardInterrupt at the n-th line of one. clock: it jumps by years before every batch. command: `ladderseg train` gets
Ctrl-C once and twice, loses its loader process, meets a second training, and finds another machine's lock.

After each, the error must name the file, nothing may stay locked or open, and the training, resumed or repeated, or the
model, used again, must end with the bits of one that nothing happened to. Needs cc; mounting needs root.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import failing_calls

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

#: Requests for memory that count, in bytes: those for maps and weights, not those of the interpreter.
_LEAST_BYTES = 4096


class Parts:
    """The parts of the check, by name; each yields what is wrong."""

    def __init__(self, directory: Path, every: int, seed: int) -> None:
        self.directory, self.every, self.seed = directory, every, seed
        self.figures: dict[str, int] = {}

    def _count(self, name: str, more: int = 1) -> None:
        self.figures[name] = self.figures.get(name, 0) + more

    def disk(self) -> Iterator[str]:
        import disk_faults as faults
        from step_faults import chosen

        faults.straight_run(self.directory / "straight")
        for resume in (False, True):
            calls = faults.count_calls(self.directory / "run", resume)
            for number in chosen(calls, self.every, self.seed):
                error = faults.ERRORS[(number + self.seed) % len(faults.ERRORS)]
                yield from faults.check_call(self.directory / "run", self.directory / "straight", number, error, resume)
                self._count("failing changes of files")

    def small_disks(self) -> Iterator[str]:
        from file_faults import check_disks

        sizes = max(4, 200 // self.every)
        try:
            yield from check_disks(self.directory, sizes)
            self._count("small disks", sizes)
        except PermissionError as error:
            print(f"  passed over: {error}")

    def checkpoints(self) -> Iterator[str]:
        from file_faults import check_checkpoints

        try:
            refused, right = check_checkpoints(self.directory, 8 if self.every == 1 else 1)
            self._count("damaged checkpoints", refused + right)
        except AssertionError as error:
            yield f"checkpoints: {error}"

    def labels(self) -> Iterator[str]:
        from file_faults import LABEL_CHANGES, check_label_changes

        yield from check_label_changes(self.directory)
        self._count("changed labels", 2 * len(LABEL_CHANGES))

    def memory(self) -> Iterator[str]:
        import step_faults as faults

        for name in faults.RUNS:
            requests = faults.count_requests(name, _LEAST_BYTES)
            for number in faults.chosen(requests, self.every, self.seed):
                yield from faults.check_refusal(name, number, _LEAST_BYTES)
                self._count("refused requests for memory")

    def interrupts(self) -> Iterator[str]:
        import step_faults as faults

        for name in faults.RUNS:
            lines = faults.count_lines(name)
            for number in faults.chosen(lines, 20 * self.every if self.every > 1 else 1, self.seed):
                yield from faults.check_interrupt(name, number)
                self._count("interrupted lines")

    def clock(self) -> Iterator[str]:
        from file_faults import check_clock

        yield from check_clock(self.directory)
        self._count("clocks that jump")

    def command(self) -> Iterator[str]:
        from command_faults import check_command

        times = max(1, 20 // self.every)
        yield from check_command(self.directory, times, self.seed)
        self._count("disturbed commands", 5 * times)


def main() -> int:
    parts: dict[str, Callable[[Parts], Iterator[str]]] = {
        "disk": Parts.disk,
        "small-disks": Parts.small_disks,
        "checkpoints": Parts.checkpoints,
        "labels": Parts.labels,
        "memory": Parts.memory,
        "interrupts": Parts.interrupts,
        "clock": Parts.clock,
        "command": Parts.command,
    }
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=[*parts], action="append", help="this part alone; may be repeated")
    parser.add_argument("--every", type=int, default=25, help="one at random of so many places (default: 25; 1: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the places (default: 0)")
    parser.add_argument("--record", action="store_true", help="write the result, see checks/README.md")
    arguments = parser.parse_args()
    failing_calls.load_before_all()

    import torch
    from record import record
    from support.tiny_training import register_tiny_model

    torch.set_num_threads(1)
    register_tiny_model()
    figures: dict[str, int] = {}
    problems = []
    for name, run in parts.items():
        if arguments.only is not None and name not in arguments.only:
            continue
        with tempfile.TemporaryDirectory(prefix="ladderseg-check-") as directory:
            this = Parts(Path(directory), arguments.every, arguments.seed)
            for problem in run(this):
                problems.append(problem)
                print(f"  {problem}", flush=True)
            figures |= this.figures
            print(f"{name}: " + ", ".join(f"{count} {what}" for what, count in this.figures.items()), flush=True)
    print(f"{len(problems)} problems")
    if arguments.record and not problems:
        record(
            "training_faults" if arguments.only is None else f"training_faults-{'-'.join(arguments.only)}",
            claim="No fault of disk, memory, files, clock or user makes a training or a model silently wrong.",
            found=", ".join(f"{count:,} {what}" for what, count in figures.items()) + ": 0 problems",
            figures=figures,
        )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
