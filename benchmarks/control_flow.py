"""Loops of a kernel and the path that a warp takes through them when nothing is out of the ordinary."""

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from machine_code import PRODUCT_KINDS, Function, Instruction

#: What a path is worth, per instruction of a kind: of two ways, a warp of a large map takes the one with accesses of
#: 16 bytes; of two with the same accesses, the shorter one (each instruction costs one).
_WORTH = {"load wide": 3000, "store wide": 3000, "async copy": 3000, "mma": 1500, "ffma": 500, "dfma": 500}
_WORTH |= {"ldsm": 1500, "lds": 500, "sts": 500, "load scalar": -50, "store scalar": -50}
# Trips that a loop is worth at most, and one of an unknown number: the way with accesses of 16 bytes has fewer.
_WORTH_TRIPS = 4


@dataclass
class Block:
    """Instructions [begin, end) of a function, of which none but the last branches."""

    begin: int
    end: int
    successors: list[int] = field(default_factory=list)


@dataclass
class Loop:
    """Natural loop: blocks by the number of their first instruction. inner are those directly inside."""

    header: int
    latches: list[int]
    body: set[int]
    inner: list["Loop"] = field(default_factory=list)
    trips: float | None = None


@dataclass(frozen=True)
class Product:
    """Instructions of one kind that compute products of matrices, and the multiply-adds of a warp in them."""

    kind: str
    count: float
    multiply_adds: float


@dataclass
class Path:
    """Instructions that a warp issues on the way, and the loops that it passes, whose instructions are their own."""

    instructions: list[Instruction]
    loops: list["LoopPath"]

    @cached_property
    def kinds(self) -> Counter[str]:
        return Counter(instruction.kind for instruction in self.instructions)

    @cached_property
    def slots(self) -> int:
        return sum(instruction.slots for instruction in self.instructions)

    def total(self, of: Callable[["Path"], float]) -> float:
        """Sum of a property over the path and the trips of the loops in it, one where their number is not known."""
        return of(self) + sum((loop.trips or 1) * loop.total(of) for loop in self.loops)

    @property
    def total_slots(self) -> float:
        return self.total(lambda path: path.slots)

    def count(self, kind: str) -> float:
        """Instructions of a kind, with those of the loops."""
        return self.total(lambda path: path.kinds[kind])

    @cached_property
    def product(self) -> "Product":
        """Kind of the instructions that compute products of matrices: tensor cores if any, else the most frequent."""
        found = [self._product_of(kind) for kind in PRODUCT_KINDS]
        return found[0] if found[0].count else max(found, key=lambda product: product.count)

    def _product_of(self, kind: str) -> "Product":
        """Instructions of one kind. Multiply-adds outside of inner loops do other work if these have more of them."""
        own = [instruction.products for instruction in self.instructions if instruction.kind == kind]
        inside = [(loop.trips or 1, loop._product_of(kind)) for loop in self.loops]
        count = sum(trips * product.count for trips, product in inside)
        multiply_adds = sum(trips * product.multiply_adds for trips, product in inside)
        if kind == "mma":
            return Product(kind, len(own) + count, sum(own) + multiply_adds)
        return Product(kind, count, multiply_adds) if count > len(own) else Product(kind, len(own), sum(own))


@dataclass
class LoopPath(Path):
    """One trip through a loop; trips is their number where the code tells it."""

    trips: float | None
    begin: int
    end: int


class ControlFlow:
    """Basic blocks and loops of a function."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.blocks = _blocks(function)
        self._order = _reverse_postorder(self.blocks)
        self._dominators = _dominators(self.blocks, self._order)
        self.loops = self._find_loops()
        for loop in self._all_loops(self.loops):
            loop.trips = constant_trips(function, self.blocks, loop)

    def path(self) -> Path:
        """Path from the entry to an exit."""
        return self._walk(0, None, self.loops)

    def _find_loops(self) -> list[Loop]:
        """The outermost loops."""
        predecessors: dict[int, list[int]] = {begin: [] for begin in self._order}
        by_header: dict[int, Loop] = {}
        for begin in self._order:
            for successor in self.blocks[begin].successors:
                predecessors[successor].append(begin)
                if successor in self._dominators[begin]:
                    by_header.setdefault(successor, Loop(successor, [], set())).latches.append(begin)
        for loop in by_header.values():
            loop.body = {loop.header}
            open_blocks = list(loop.latches)
            while open_blocks:
                block = open_blocks.pop()
                if block not in loop.body:
                    loop.body.add(block)
                    open_blocks += predecessors[block]
        outermost = []
        ordered = sorted(by_header.values(), key=lambda loop: len(loop.body))
        for number, loop in enumerate(ordered):
            parent = next((other for other in ordered[number + 1 :] if loop.header in other.body), None)
            (outermost if parent is None else parent.inner).append(loop)
        return outermost

    def _all_loops(self, loops: list[Loop]) -> list[Loop]:
        return [found for loop in loops for found in [loop, *self._all_loops(loop.inner)]]

    def _walk(self, start: int, loop: Loop | None, inner: list[Loop]) -> Path:
        """Most worthy path from `start`: to a latch of `loop`, or without one to the function's end."""
        within = {block: nested for nested in inner for block in nested.body}
        nested_paths = {nested.header: self._walk(nested.header, nested, nested.inner) for nested in inner}
        best: dict[int, tuple[float, int | None]] = {}

        def worth(block: int) -> float:
            if block in within:
                nested = within[block]
                return _worth_trips(nested.trips) * _worth_of_all(nested_paths[nested.header])
            span = self.blocks[block]
            return _worth(self.function.instructions[span.begin : span.end])

        def successors(block: int) -> set[int]:
            """Blocks after this one, or after the loop that it heads; never back."""
            if block in within:
                body = within[block].body
                found = {after for one in body for after in self.blocks[one].successors if after not in body}
            else:
                found = set(self.blocks[block].successors)
            if loop is not None:
                found = {after for after in found if after in loop.body and after != loop.header}
            # Into a loop one comes by its header.
            return {within[after].header if after in within else after for after in found}

        def ends(block: int) -> bool:
            if loop is None:
                return not successors(block)
            return block in loop.latches or (block in within and any(one in loop.latches for one in within[block].body))

        # Depth first with a list of its own: the graph is deeper than Python's stack.
        first = within[start].header if start in within else start
        stack, visiting = [first], set()
        while stack:
            block = stack[-1]
            if block in best:
                stack.pop()
                continue
            after = successors(block)
            if block not in visiting:
                visiting.add(block)
                stack += [one for one in after if one not in best and one not in visiting]
                continue
            stack.pop()
            choices = [(best[one][0], one) for one in after if one in best and best[one][0] > float("-inf")]
            value, chosen = max(choices, default=(float("-inf"), None))
            if ends(block) and value < 0:
                value, chosen = 0.0, None
            best[block] = (value + worth(block), chosen)
        instructions, loops = [], []
        block: int | None = first
        while block is not None:
            if block in within:
                loops.append(nested_paths[block])
            else:
                span = self.blocks[block]
                instructions += self.function.instructions[span.begin : span.end]
            block = best[block][1]
        if loop is None:
            return Path(instructions, loops)
        end = max(self.blocks[block].end for block in loop.body)
        return LoopPath(instructions, loops, loop.trips, loop.header, end)


def _worth(instructions: list[Instruction]) -> float:
    return sum(_WORTH.get(instruction.kind, 0) - 1 for instruction in instructions)


def _worth_of_all(path: Path) -> float:
    return _worth(path.instructions) + sum(_worth_trips(loop.trips) * _worth_of_all(loop) for loop in path.loops)


def _worth_trips(trips: float | None) -> float:
    return _WORTH_TRIPS if trips is None else min(trips, _WORTH_TRIPS)


def _blocks(function: Function) -> dict[int, Block]:
    """Basic blocks by the number of their first instruction."""
    instructions, count = function.instructions, len(function.instructions)
    starts = {0} | {number for number in function.labels.values() if number < count}
    for number, instruction in enumerate(instructions):
        if (instruction.target is not None or not instruction.continues) and number + 1 < count:
            starts.add(number + 1)
    ordered = sorted(starts)
    blocks = {}
    for begin, end in zip(ordered, [*ordered[1:], count]):
        block = blocks[begin] = Block(begin, end)
        last = instructions[end - 1]
        if last.target is not None and function.labels.get(last.target, count) < count:
            block.successors.append(function.labels[last.target])
        if last.continues and end < count and end not in block.successors:
            block.successors.append(end)
    return blocks


def _reverse_postorder(blocks: dict[int, Block]) -> list[int]:
    """Blocks that can be reached, each before those that follow it, loops aside."""
    done, order = set(), []
    stack: list[tuple[int, int]] = [(0, 0)]
    done.add(0)
    while stack:
        block, number = stack.pop()
        successors = blocks[block].successors
        if number == len(successors):
            order.append(block)
            continue
        stack.append((block, number + 1))
        if successors[number] not in done:
            done.add(successors[number])
            stack.append((successors[number], 0))
    return order[::-1]


def _dominators(blocks: dict[int, Block], order: list[int]) -> dict[int, set[int]]:
    """Blocks, by block, that every path from the entry passes before it, and the block itself."""
    predecessors: dict[int, list[int]] = {begin: [] for begin in order}
    for begin in order:
        for successor in blocks[begin].successors:
            predecessors[successor].append(begin)
    everything = set(order)
    found = {begin: everything for begin in order} | {order[0]: {order[0]}}
    changed = True
    while changed:
        changed = False
        for begin in order[1:]:
            now = set.intersection(*(found[one] for one in predecessors[begin])) | {begin}
            if now != found[begin]:
                found[begin], changed = now, True
    return found


_NUMBER = re.compile(r"-?(0x[0-9a-f]+|\d+)$")
_PREDICATE = re.compile(r"[@!]*(U?P\d|%p\d+)$")
#: Comparisons by order.
_ORDER = re.compile(r"\.(LT|LE|GT|GE|lt|le|gt|ge)\b")
#: Operands that are no source of an addition or a move.
_NOTHING = ("RZ", "-RZ", "URZ", "SRZ", "PT", "!PT", "UPT", "!UPT")


def constant_trips(function: Function, blocks: dict[int, Block], loop: Loop) -> float | None:
    """Trips of a loop that counts a register by a constant to a constant; None if it does not.

    If it does not count from a constant, it counts from the number of a thread: then these are the trips of a thread on
    the average, if there are as many threads as it counts by.
    """
    found = {_trips_to(function, blocks, loop, latch) for latch in loop.latches}
    return found.pop() if len(found) == 1 else None


def _trips_to(function: Function, blocks: dict[int, Block], loop: Loop, latch: int) -> float | None:
    """The same by the branch that ends block `latch`."""
    instructions = function.instructions
    inside = [number for block in sorted(loop.body) for number in range(blocks[block].begin, blocks[block].end)]
    last = blocks[latch].end - 1
    if blocks[latch].begin == last and last - 1 in inside and not _guard(instructions[last]):
        last -= 1  # a jump back alone, after a branch out of the loop
    guard = _guard(instructions[last])
    compare = _last_write(function, inside, guard, last)
    if compare is not None and instructions[compare].name in ("PLOP3", "UPLOP3"):
        # P1 is UP0.
        sources = [match[1] for part in instructions[compare].operands[2:] if (match := _PREDICATE.match(part))]
        compare = _last_write(function, inside, sources[0], compare) if len(sources) == 1 else None
    if compare is None or not instructions[compare].opcode.startswith(("ISETP", "UISETP", "setp.")):
        return None
    operands = instructions[compare].operands
    counter, bound = operands[1:3] if instructions[compare].name == "setp" else operands[2:4]
    steps = [number for number in inside if counter in instructions[number].operands[:1]]
    if len(steps) != 1 or not _NUMBER.match(bound):
        return None
    step, first = _added(instructions[steps[0]], counter), _constant_before(function, counter, loop.header)
    if not step:
        return None
    # Compared before it is increased, the counter is that of the trip.
    more = compare < steps[0]
    if first is None:
        upwards = step > 0 and _ORDER.search(instructions[compare].opcode)
        return max(1.0, _value(bound) / step + more) if upwards else None
    return max(1, math.ceil((_value(bound) - first) / step) + more)


def _guard(branch: Instruction) -> str | None:
    """Predicate register on which a branch depends."""
    return next((match[1] for part in (branch.predicate, *branch.operands) if (match := _PREDICATE.match(part))), None)


def _last_write(function: Function, inside: list[int], register: str | None, before: int) -> int | None:
    """Number of the last instruction of `inside` before another that writes this predicate register."""
    found = None
    for number in inside:
        if number < before and register is not None:
            written = function.instructions[number].operands
            # Comparisons write two predicates.
            if register in written[: 2 if "SETP" in function.instructions[number].opcode else 1]:
                found = number
    return found


def _value(text: str) -> int:
    value = int(text, 0)
    return value - (1 << 32) if value >= 1 << 31 else value


def _added(instruction: Instruction, counter: str) -> int | None:
    """c in counter = counter + c."""
    if not instruction.opcode.startswith(("IADD", "UIADD3", "VIADD", "add.")):
        return None
    others = [part for part in instruction.operands[1:] if part != counter and part not in _NOTHING]
    return _value(others[0]) if len(others) == 1 and _NUMBER.match(others[0]) else None


def _constant_before(function: Function, register: str, end: int) -> int | None:
    """Constant that `register` holds at instruction `end`, by the last write to it in the code above."""
    for instruction in reversed(function.instructions[:end]):
        if register in _destinations(instruction):
            sources = {part for part in instruction.operands[1:] if part not in _NOTHING} or {"0"}
            moves = instruction.opcode.startswith(("MOV", "UMOV", "IMAD.MOV", "HFMA2", "CS2R", "mov."))
            constant = moves and len(sources) == 1 and _NUMBER.match(next(iter(sources)))
            return _value(sources.pop()) if constant else None
    return None


def _destinations(instruction: Instruction) -> tuple[str, ...]:
    """Registers that an instruction writes: CS2R and other 64-bit ones write two."""
    written = instruction.operands[:1]
    wide = instruction.name == "CS2R" and ".32" not in instruction.opcode
    if wide and (match := re.match(r"R(\d+)$", written[0])):
        return (*written, f"R{int(match[1]) + 1}")
    return written
