"""The recorded steps of a workspace.

On a GPU the host takes longer to interpret a step than the device to compute it. What a step launches depends on
nothing but its facts (step_facts.py). So the first step with new facts is interpreted, the second is interpreted and
recorded, and later ones repeat the recording on their own tensors. Whatever is unusual is interpreted. On the CPU only
passes without backward are recorded: Python takes a smaller share of the others.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from .recorded_step import RecordedStep
from .recorder import View
from .saved_tensors import SavedKinds
from .step_facts import FrozenFacts, StepFacts

#: Steps with different facts that are remembered: as many as placements.
_MOST = 8


@dataclass
class KeptNorm:
    """A BoundNorm with Views for its tensors: mean, scale, shift and invstd."""

    vectors: list[View]
    positions: int
    batch_statistics: bool


@dataclass
class Kept:
    """State of a call that a recorded forward pass leaves for backward, with Views for tensors."""

    features: list[View]
    bottlenecks: list[View]
    bottleneck_keys: list[nn.Module]
    norms: dict[nn.Module, KeptNorm]
    shapes: dict[str, torch.Size]

    def blocks(self) -> Iterator[int]:
        for view in (*self.features, *self.bottlenecks):
            yield view.block
        for norm in self.norms.values():
            yield from (view.block for view in norm.vectors)


@dataclass
class Finished:
    """A recorded step, and what a call that repeats it must know."""

    step: RecordedStep
    version_steps: list[tuple[int, int]]
    """Number of a buffer, and by how much kernels' writes raise its version counter."""
    kept: Kept | None = None
    """None if there is no backward pass."""
    needed_inputs: dict[int, int] = field(default_factory=dict)
    """Blocks of the inputs that the backward pass reads, by the number of the input."""
    backward_facts: FrozenFacts | None = None
    kinds: SavedKinds | None = None
    """Kinds of the tensors that are saved for backward, once the step has been repeated."""


@dataclass
class Entry:
    """Knowledge of the steps with the same facts."""

    facts: FrozenFacts
    attempts: int = 0
    """Recordings begun."""
    failure: str | None = None
    """Reason why such steps are always interpreted, if they are."""
    finished: Finished | None = None


class Recordings:
    """The recorded steps of the programs that use one workspace.

    Attributes:
        counts: passes so far that were "interpreted", "recorded" (which are interpreted too) and "repeated", on devices
            whose steps are repeated.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._entries: list[Entry] = []
        self._lock = threading.Lock()

    @property
    def failures(self) -> list[str]:
        """Reasons why steps cannot be repeated, of those that cannot."""
        return [entry.failure for entry in self._entries if entry.failure is not None]

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def find(self, facts: StepFacts) -> tuple[Entry, bool]:
        """The entry for these facts, and whether it is new."""
        with self._lock:
            for i, entry in enumerate(self._entries):
                if entry.facts.are(facts):
                    self._entries.append(self._entries.pop(i))
                    return entry, False
            entry, others = Entry(facts.frozen()), self._entries
            if facts.has_twins:
                entry.failure = "a tensor is used in two places"
                others = [each for each in others if each.failure != entry.failure]
            self._entries = [*others[1 - _MOST :], entry]
            return entry, True
