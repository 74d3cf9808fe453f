"""The choices that a plan makes for a model's step, and the effect of each on memory and time.

Memory is additive, as docs/memory.md derives: what a section keeps takes memory everywhere between its forward and its
backward, and the way it runs its own backward affects that backward only. So a few traced steps, each with the same
choice for all sections, determine the effect of every combination.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from ..lean import MemoryPlan, SectionPlan
from ..lean.plan import MIB
from ..lean.stages import ContextStage, DenseBlockStage, Repeatable, ResidualStage, TransitionUpStage
from ..lean.workspace import Phase
from ..ops.cost import Cost
from .cost_model import Rates, slowness
from .lean_model import LeanModel
from .symbolic import SECTION_STAGES, Moment, StepShape, Trace, owners, trace


def whole_plans(shape: StepShape) -> list[MemoryPlan]:
    """Plans for a step as a whole, the fastest first; no section keeps a bottleneck."""
    largest = _largest_map(shape)
    # Strips grow with very large maps, which bounds their number.
    usual = MemoryPlan(max(8 * MIB, largest // 128), max(32 * MIB, largest // 32), keep_bottlenecks_from=None)
    small = max(2 * MIB, largest // 64), max(4 * MIB, largest // 32)
    return [
        replace(usual, transition_up_bytes=1 << 62),
        usual,
        MemoryPlan(*small, keep_bottlenecks_from=None),
        MemoryPlan(*small, spread=False, keep_bottlenecks_from=None),
    ]


def _variants(shape: StepShape) -> dict[str, SectionPlan]:
    """The plan that all sections share in each traced step, by the step's name."""
    strip_bytes = max(4 * MIB, _largest_map(shape) // 16)
    return {
        "plain": SectionPlan(None),
        "strips": SectionPlan(None, strip_bytes, keep_skip=True),
        "recompute": SectionPlan(None, recompute=True, keep_skip=True),
        "recompute in strips": SectionPlan(None, strip_bytes, recompute=True, keep_skip=True),
        "kept": SectionPlan(1),
        "all kept": SectionPlan(1, keep_outputs_from=1),
    }


def _largest_map(shape: StepShape) -> int:
    """Bytes of a bottleneck of the first section, or of the last transition-up: 128 channels at 1/4."""
    return shape.batch * (shape.height // 4) * (shape.width // 4) * 128 * shape.dtype.itemsize


@dataclass(frozen=True)
class Option:
    """An option for one section: its plan (except keep_skip), bytes and seconds.

    kept: bytes that it adds to the memory in use between the section's forward and its backward; may be negative.
    peak: most bytes in use in its own forward and backward, besides what earlier sections add.
    """

    plan: SectionPlan
    kept: int
    peak: int
    seconds: float


@dataclass(frozen=True)
class Skip:
    """A skip connection: bytes of its projection, and seconds that keeping it saves."""

    name: str
    kept: int
    saved: float


class Choices:
    """All choices for a step of `model` (on the meta device) that share the plan `whole`, one of whole_plans."""

    def __init__(self, model: LeanModel, shape: StepShape, whole: MemoryPlan, rates: Rates) -> None:
        self.whole, self.rates = whole, rates
        self._model, self._shape = model, shape
        self._variants = _variants(shape)
        self._slower = slowness(whole)
        self._plain = self._trace("plain")
        # Keeping a skip connection affects only the span from the first transition-up to the last.
        self._with_skips = self._trace("strips")
        self.sections = list(dict.fromkeys(name for name in self._owners if name is not None))

    @cached_property
    def options(self) -> dict[str, list[Option]]:
        """Options by section, in the order of the forward pass; the fastest first."""
        variants = ["recompute", "recompute in strips", *(["kept", "all kept"] if self._residual else [])]
        traces = {variant: self._trace(variant) for variant in variants}
        traces |= {"plain": self._plain, "strips": self._with_skips}
        return {name: sorted(self._section_options(name, traces), key=lambda o: o.seconds) for name in self.sections}

    @cached_property
    def skips(self) -> list[Skip]:
        """The skip connections, in the order in which the transitions-up read them."""
        found = []
        before = 0
        for i, moment in enumerate(self._plain.moments):
            if moment.phase is Phase.FORWARD and isinstance(moment.stage, TransitionUpStage):
                after = self._with_skips.moments[i + 1].start - self._plain.moments[i + 1].start
                seconds = (self._ups_seconds(each, moment.stage.writes) for each in (self._plain, self._with_skips))
                without, with_skip = seconds
                found.append(Skip(_skip_section(moment), after - before, max(0.0, without - with_skip)))
                before = after
        return found

    def rest_peak(self, kept: frozenset[str]) -> int:
        """Most bytes in use outside the sections, besides what these add, if the skips `kept` are kept."""
        alive: dict[str, int] = {}
        most = 0
        for i, moment in enumerate(self._plain.moments):
            if self._owners[i] is not None:
                continue
            name, peak = None, moment.peak
            if isinstance(moment.stage, TransitionUpStage):
                name = _skip_section(moment)
                if name in kept:
                    peak = self._with_skips.moments[i].peak - self._others_alive(name)
                    if moment.phase is not Phase.FORWARD:
                        alive.pop(name, None)
            most = max(most, peak + sum(alive.values()))
            if moment.phase is Phase.FORWARD and name in kept:
                alive[name] = self._skip_bytes[name]
        return most

    @property
    def least_seconds(self) -> float:
        """Seconds of a step that recomputes nothing."""
        sections = sum(map(self._least_seconds_of, self.sections))
        return sections + self.seconds_besides(frozenset(skip.name for skip in self.skips))

    def _least_seconds_of(self, name: str) -> float:
        if name in self._residual:
            return self.options[name][0].seconds
        again = sum(self._slower * self.rates.seconds(layer) for layer in self._layers(name))
        return self._seconds_of(name, self._plain) - again

    def skip_sets(self) -> Iterator[frozenset[str]]:
        """Every set of skip connections that can be kept, as sets of section names; the largest first."""
        for count in range(len(self.skips), -1, -1):
            for kept in itertools.combinations(self.skips, count):
                yield frozenset(skip.name for skip in kept)

    def seconds_besides(self, kept: frozenset[str]) -> float:
        """Seconds of a step outside the sections, if the skips `kept` are kept."""
        seconds = sum(self._seconds(m) for m, owner in zip(self._plain.moments, self._owners) if owner is None)
        return seconds - sum(skip.saved for skip in self.skips if skip.name in kept)

    def has_skip(self, section: str) -> bool:
        """Whether a transition-up reads the skip connection of `section`."""
        return section in self._skip_bytes

    def keep_everything(self) -> MemoryPlan:
        """The plan that recomputes nothing."""
        everything = SectionPlan(1, keep_skip=True)
        sections = {
            name: replace(everything, keep_outputs_from=1) if name in self._residual else everything
            for name in self._model.section_names
        }
        return replace(self.whole, sections=sections)

    def plan(self, sections: Mapping[str, Option], kept: frozenset[str]) -> MemoryPlan:
        """Plan with these options and the skips `kept`."""
        plans = {
            name: replace(option.plan, keep_skip=option.plan.recompute or name in kept)
            for name, option in sections.items()
        }
        plans |= {name: SectionPlan(None, keep_skip=True) for name in kept if name not in plans}
        return replace(self.whole, sections=plans)

    def variant_plan(self, variant: str) -> MemoryPlan:
        """Plan of one of the traced steps: all sections share the variant as far as they can."""
        plan = self._variants[variant]
        names = self._recomputable if plan.recompute else self._model.section_names
        sections = {name: plan for name in names}
        if plan.recompute:  # variants that keep any skip keep all of them
            sections |= {
                name: replace(plan, recompute=False) for name in self._model.section_names if name not in sections
            }
        return replace(self.whole, sections=sections)

    def _trace(self, variant: str) -> Trace:
        return trace(self._model, self._shape, self.variant_plan(variant), whole=False)

    @cached_property
    def _recomputable(self) -> list[str]:
        """Sections that no average pooling leads to, except the deepest one, which the context layer reads."""
        writers = [m.stage for m in self._plain.moments if m.phase is Phase.FORWARD and m.stage is not None]
        blocks = [stage.writes for stage in writers if isinstance(stage, SECTION_STAGES)]
        fixed = {stage.writes for stage in writers if not isinstance(stage, (Repeatable, ResidualStage))}
        return [name for name in blocks[:-1] if name not in fixed]

    @cached_property
    def _residual(self) -> set[str]:
        """The sections that are residual layers."""
        return {m.stage.writes for m in self._plain.moments if isinstance(m.stage, ResidualStage)}

    @cached_property
    def _skip_bytes(self) -> dict[str, int]:
        return {skip.name: skip.kept for skip in self.skips}

    @cached_property
    def _owners(self) -> list[str | None]:
        return owners(self._plain)

    def _section_options(self, name: str, traces: Mapping[str, Trace]) -> Iterator[Option]:
        if name in self._residual:
            yield from self._traced_options(name, traces)
            return
        layers = self._layers(name)
        size = layers[0].result
        saved = 0.0
        savings = [0.0]
        for layer in reversed(layers):
            saved += self.rates.seconds(layer) * self._slower
            savings.append(saved)
        for variant, traced in traces.items():
            if self._variants[variant].keep_bottlenecks_from is not None:
                continue  # here options follow from a step that keeps no bottleneck
            recomputed = self._variants[variant].recompute
            if recomputed and name not in self._recomputable:
                continue
            kept = self._kept(name, traced) if recomputed else 0
            seconds = self._seconds_of(name, traced)
            in_strips = self._variants[variant].bottleneck_bytes is not None
            for count in range(1 if in_strips else len(layers) + 1):
                threshold = layers[-count].channels if count else None
                yield Option(
                    replace(self._variants[variant], keep_bottlenecks_from=threshold, keep_skip=recomputed),
                    kept if recomputed else count * size,
                    self._own_peak(name, traced, count * size, size, recomputed),
                    seconds - savings[count],
                )

    def _traced_options(self, name: str, traces: Mapping[str, Trace]) -> Iterator[Option]:
        """The options of a residual layer: those of the traced steps."""
        for variant, traced in traces.items():
            plan = self._variants[variant]
            if plan.recompute and name not in self._recomputable:
                continue
            peak = max(m.peak for m, owner in zip(traced.moments, self._owners) if owner == name)
            yield Option(
                replace(plan, keep_skip=plan.recompute),
                self._kept(name, traced),
                peak - self._kept_before(name, traced),
                self._seconds_of(name, traced),
            )

    def _layers(self, name: str) -> list[Cost]:
        """The 1x1 convolutions that the section's backward repeats, in the order of the forward pass."""
        layers = []
        for moment, owner in zip(self._plain.moments, self._owners):
            if owner == name and moment.phase is Phase.BACKWARD and _has_bottlenecks(moment):
                layers += [cost for cost in reversed(moment.costs) if cost.kind == "conv1x1_forward"]
        return layers

    def _own_peak(self, name: str, traced: Trace, kept: int, size: int, recomputed: bool) -> int:
        """Peak in the section if it also keeps its last bottlenecks, `kept` bytes in all, `size` bytes each."""
        earlier = self._kept_before(name, traced)
        there = False
        most = 0
        for moment, owner in zip(traced.moments, self._owners):
            if owner != name:
                continue
            block = _has_bottlenecks(moment)
            if recomputed:
                keeps = () if moment.stage is None else moment.stage.keeps
                makes = moment.phase is Phase.AGAIN and name in keeps and not there
            else:
                makes = moment.phase is Phase.FORWARD and block
            uses = there and moment.phase is Phase.BACKWARD and block
            # A moment that makes or uses bottlenecks holds one of them anyway.
            more = max(kept - size, 0) if makes or uses else kept if there else 0
            there = (there or makes) and not uses
            most = max(most, moment.peak - earlier + more)
        return most

    def _kept_before(self, name: str, traced: Trace) -> int:
        """Bytes that earlier sections add in a traced step: its excess over the plain step at the section's start."""
        first = self._owners.index(name)
        return traced.moments[first].start - self._plain.moments[first].start

    def _kept(self, name: str, traced: Trace) -> int:
        """Bytes that the section adds to the memory in use after its forward."""
        first = self._owners.index(name)
        after = next(i for i in range(first, len(self._owners)) if self._owners[i] != name)
        difference = traced.moments[after].start - self._plain.moments[after].start
        return difference - self._kept_before(name, traced)

    def _others_alive(self, name: str) -> int:
        """Bytes of the skips read before that of `name`: still in use at its transition-up if all are kept."""
        names = [skip.name for skip in self.skips]
        return sum(self._skip_bytes[other] for other in names[: names.index(name)])

    def _ups_seconds(self, traced: Trace, target: str) -> float:
        return sum(
            self._seconds(moment)
            for moment in traced.moments
            if isinstance(moment.stage, TransitionUpStage) and moment.stage.writes == target
        )

    def _seconds_of(self, name: str, traced: Trace) -> float:
        return sum(self._seconds(m) for m, owner in zip(traced.moments, self._owners) if owner == name)

    def _seconds(self, moment: Moment) -> float:
        return self._slower * sum(self.rates.seconds(cost) for cost in moment.costs)


def _has_bottlenecks(moment: Moment) -> bool:
    return isinstance(moment.stage, (DenseBlockStage, ContextStage))


def _skip_section(moment: Moment) -> str:
    """The section whose skip connection the moment's transition-up reads."""
    assert isinstance(moment.stage, TransitionUpStage)
    return moment.stage.reads[1].removeprefix("skip of ")
