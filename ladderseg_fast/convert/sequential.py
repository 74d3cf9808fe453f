"""Sequences of parts, such as the features of a DenseNet: neighbouring parts run as one program."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..lean import MemoryPlan, opaque
from ..lean.examination import HOOKS, Examination, UnsupportedModuleError
from ..lean.joint_batch import BATCH_NORMS
from ..lean.program import Program
from ..ops.backend import backend_of
from .lean_module import LeanModule, LeanState, Replacement, expect_channels, expect_rectified, laid_out
from .lean_part import LeanPart
from .stage_chain import StageChain

#: The class of part that a module is, or None.
PartOf = Callable[[nn.Module], type[LeanModule] | None]


@dataclass(frozen=True)
class Segment:
    """Neighbours in a sequence that run as one program, or one module that is called.

    names: their names in the sequence.
    parts: what runs lean: descriptions of parts.
    channels: channels that the program reads.
    """

    names: tuple[str, ...]
    parts: tuple[str, ...] = ()
    channels: int = 0


class LeanSequence(LeanModule):
    """A module that runs some of its modules one after another, of which parts run lean; it calls the others.

    It calls parts with hooks too. `lean_state.others` are the modules of its stem, if it has one: convolution, batch
    norm, ReLU (unless the batch norm ends in it), pooling.
    """

    @classmethod
    def lean_names(cls, module: nn.Module) -> tuple[str, ...]:
        """Names of the modules that run one after another."""
        raise NotImplementedError

    @classmethod
    def lean_decide(
        cls, path: str, module: nn.Module, parts: Mapping[nn.Module, type[LeanModule]]
    ) -> Replacement | None:
        names = cls.lean_names(module)
        if not any(getattr(module, name, None) in parts for name in names):
            return None
        left: dict[str, str] = {}
        Examination().itself(path, module, cls.lean_kind(module), called=True)
        stem = _find_stem(path, module, names, left)
        segments = _segments(Examination(), path, module, names, stem, parts.get)
        lean = [segment for segment in segments if segment.parts]
        if all(len(segment.parts) < 2 for segment in lean):
            return None  # its parts are programs already
        for segment in segments:
            if not segment.parts and module.get_submodule(segment.names[0]) not in parts:
                left.setdefault(joined(path, *segment.names), "torch runs it")
        inside = [joined(path, name) for segment in lean for name in segment.names]
        description = summary(part for segment in lean for part in segment.parts)
        return Replacement(cls, LeanState(path, others=stem), description, inside, left)

    def lean_examine(self, look: Examination) -> None:
        self._lean_segments(look)

    def _lean_segments(self, look: Examination) -> list[Segment]:
        state = self.lean_state
        return _segments(look, state.path, self, self.lean_names(self), state.others, converted_part)

    def lean_sequence(self, x: Tensor) -> Tensor:
        """Result of the modules in `lean_names`, from x [N, C, H, W].

        Raises:
            UnsupportedModuleError: a module no longer computes what a program computes in its place.
        """
        state, derived = self.lean_state, self.lean_checked()
        if "segments" not in derived:
            derived["segments"] = self._lean_segments(Examination())
        channels_last, plan = self.lean_channels_last(x), self.lean_plan(x)
        copies = backend_of(x.device).repeats_steps
        for number, segment in enumerate(derived["segments"]):
            if segment.parts:
                expect_channels(state.path, x, segment.channels)
                first = converted_part(self.get_submodule(segment.names[0]))
                if first is not None and first.lean_rectified:
                    expect_rectified(state.path, x)
                make = partial(self._lean_program, segment, channels_last, copies)
                (out,) = self.lean_run(derived, make, x, plan, key=(number, channels_last, copies))
                x = laid_out(out, channels_last)  # in which dropout draws its numbers, and which hooks see
            else:
                x = self.get_submodule(segment.names[0])(x)
        return x

    def lean_sections(self) -> list[str]:
        return [name for name in self.lean_names(self) if isinstance(self.get_submodule(name), LeanPart)]

    def _lean_program(self, segment: Segment, channels_last: bool, copies: bool, plan: MemoryPlan) -> Program:
        chain, names, stem = StageChain(channels_last, copies), segment.names, self.lean_state.others
        if _begins_with(names, stem):
            conv, norm = (self.get_submodule(name) for name in stem[:2])
            assert isinstance(conv, nn.Conv2d) and isinstance(norm, BATCH_NORMS)
            chain.stem("stem", conv, norm)
            names = names[len(stem) :]
        for name in names:
            part = self.get_submodule(name)
            assert isinstance(part, LeanPart)
            part.lean_stages(chain, name, part)
        return chain.program(plan)


class LeanSequential(LeanSequence, nn.Sequential):
    """A sequence that contains parts."""

    lean_replaces = nn.Sequential

    def __getitem__(self, index: Any) -> Any:
        """A module; or an ordinary sequence of some of the modules."""
        if isinstance(index, slice):
            return nn.Sequential(OrderedDict(list(self._modules.items())[index]))
        return super().__getitem__(index)

    @classmethod
    def lean_names(cls, module: nn.Module) -> tuple[str, ...]:
        return tuple(module._modules)

    @opaque
    def lean_forward(self, x: Tensor) -> Tensor:
        return self.lean_sequence(x)


def converted_part(module: nn.Module) -> type[LeanPart] | None:
    """The class of part that `module` has been converted to, or None."""
    return type(module) if isinstance(module, LeanPart) else None


def _segments(
    look: Examination,
    path: str,
    sequence: nn.Module,
    names: tuple[str, ...],
    stem: tuple[str, ...],
    part_of: PartOf,
) -> list[Segment]:
    """Divides the modules `names` of `sequence` into segments, and examines the parts in them.

    Raises:
        UnsupportedModuleError: a part does not compute what a program would.
    """
    segments: list[Segment] = []
    channels = 0  # that the last segment writes; 0 if it is called
    while names:
        name, child = names[0], sequence.get_submodule(names[0])
        part, taken, where = part_of(child), names[:1], joined(path, name)
        if _begins_with(names, stem):
            taken, what, reads = stem, "stem", getattr(child, "in_channels", 0)
            writes = _look_at_stem(look, path, sequence, stem)
        elif part is not None and issubclass(part, LeanPart) and not has_hooks(child):
            what = part.lean_description
            reads, writes = part.lean_look(look, where, child, called=False)
        else:
            what, reads, writes = "", 0, 0
        if what and channels:
            look.same(where, "reads", reads, channels, "are there")
            last = segments.pop()
            segments.append(Segment((*last.names, *taken), (*last.parts, what), last.channels))
        else:
            segments.append(Segment(taken, (what,) if what else (), reads))
        names, channels = names[len(taken) :], writes
    return segments


def _find_stem(path: str, sequence: nn.Module, names: tuple[str, ...], left: dict[str, str]) -> tuple[str, ...]:
    """Names of the modules of a stem at the beginning of `names` in `sequence`; () if there is none.

    If the first convolution is that of another stem, `left` gets an entry.
    """
    if not isinstance(sequence.get_submodule(names[0]), nn.Conv2d):
        return ()
    why: dict[str, str] = {}
    for stem in (names[:4], names[:3]) if len(names) > 2 else ():
        try:
            _look_at_stem(Examination(), path, sequence, stem)
            return stem
        except UnsupportedModuleError as error:
            why.setdefault(error.path, f"{error.edit}: torch runs it")
        except AttributeError:
            pass  # the batch norm does not end in its ReLU
    left.update(list(why.items())[:1])
    return ()


def _look_at_stem(look: Examination, path: str, sequence: nn.Module, stem: tuple[str, ...]) -> int:
    conv, norm, *relu, pool = stem
    return look.stem(path, sequence, conv, norm, relu[0] if relu else "", pool)


def _begins_with(names: tuple[str, ...], stem: tuple[str, ...]) -> bool:
    return bool(stem) and names[: len(stem)] == stem


def has_hooks(module: nn.Module) -> bool:
    """Whether `module` has hooks of its own, which run when it is called."""
    return any(getattr(module, table) for table in HOOKS)


def joined(path: str, name: str) -> str:
    """Path of the module `name` in the module at `path`."""
    return f"{path}.{name}" if path else name


def summary(parts: Iterable[str]) -> str:
    """Description such as "stem, 4 dense blocks, 3 transitions"."""
    every = list(parts)
    counts = [(part, every.count(part)) for part in dict.fromkeys(every)]
    return ", ".join(part if count == 1 else f"{count} {part}s" for part, count in counts)
