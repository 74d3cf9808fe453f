"""The stages of parts that run one after another."""

from collections.abc import Callable
from typing import Any

from torch import nn

from ..lean import MemoryPlan
from ..lean.joint_batch import BatchNorm
from ..lean.program import Program
from ..lean.stages import (
    CopyStage,
    DenseBlockStage,
    MaxPoolStage,
    RectifiedStage,
    Repeatable,
    ResidualStage,
    Stage,
    StemStage,
    TransitionStage,
)


class StageChain:
    """Stages from the feature "x", the input, to the result of the part added last.

    Parts are added in the order in which they run. Each writes the feature that has its name; memory plans name
    sections by the names of dense blocks.

    channels_last: whether torch would run the parts on channels_last maps.
    copies_result: whether the result is a copy, which no backward pass reads: otherwise steps are not repeated.
    """

    def __init__(self, channels_last: bool = False, copies_result: bool = False) -> None:
        self.channels_last, self.copies_result = channels_last, copies_result
        self._stages: list[Stage] = []
        self._source = "x"
        self._outputs: list[str] = []
        self._stem: str | None = None
        self._channels = 0  # of the result, if it is a dense block's or a residual layer's
        self._made_again: set[str] = set()
        self._pending: tuple[str, int, Callable[[str, int], Stage]] | None = None

    def stem(self, name: str, conv: nn.Conv2d, norm: BatchNorm) -> None:
        """Adds conv 7x7 with stride 2 - BN - ReLU - max pooling."""
        source = self._source
        self._pending = name, conv.out_channels, lambda target, c: StemStage(conv, norm, source, target, c)
        self._stem = name

    def max_pool(self, name: str, channels: int) -> None:
        """Adds the max pooling of a map of `channels` without negative values."""
        source = self._source
        self._pending = name, channels, lambda target, c: MaxPoolStage(source, target, c)

    def dense_block(self, name: str, block: Any, channels: int) -> None:
        """Adds a block whose result has so many `channels`."""
        # What comes before the block writes straight into the block's buffer, if it can.
        if self._pending is not None:
            _, _, make = self._pending
            self._stages.append(make(name, channels))
            self._pending = None
        else:
            self._stages.append(CopyStage(self._source, name, channels))
        self._stages.append(DenseBlockStage(block, name))
        self._channels = channels
        self._source = name

    def transition(self, name: str, transition: Any) -> None:
        """Adds BN - ReLU - conv 1x1 - average pooling."""
        self._settle()
        self._stages.append(TransitionStage(transition, self._source, name))
        self._source = name

    def rectified(self, name: str, norm: BatchNorm, source: str) -> None:
        """Adds BN - ReLU of feature `source` as an output beside the chain."""
        self._stages.append(RectifiedStage(norm, source, name))
        self._outputs.append(name)

    def residual_layer(self, name: str, units: list[Any], channels: int) -> None:
        """Adds residual units that give so many `channels`; backward makes a stem before them again from the images."""
        source = self.source
        if source == self._stem:
            self._made_again.add(source)
        self._stages.append(ResidualStage(units, source, name))
        self._channels = channels
        self._source = name

    @property
    def source(self) -> str:
        """The result of the part added last."""
        self._settle()
        return self._source

    def program(self, plan: MemoryPlan, with_result: bool = True) -> Program:
        """The program under `plan`; its outputs are those beside the chain, then the result (unless not `with_result`).

        Raises:
            ValueError: the plan recomputes a section that cannot be recomputed.
        """
        result = self.source
        if with_result and self.copies_result and isinstance(self._stages[-1], (DenseBlockStage, ResidualStage)):
            self._stages.append(CopyStage(result, "result", self._channels))
            result = "result"
        outputs = (*self._outputs, result) if with_result else tuple(self._outputs)
        # A residual layer makes again what it has not kept; its output stays.
        names = {stage.writes for stage in self._stages if not isinstance(stage, ResidualStage)}
        names = {name for name in names if plan.section(name).recompute} | self._made_again
        program = Program(self._stages, ("x",), outputs, frozenset(names.difference(outputs)))
        for name in program.recomputed:
            if not all(isinstance(stage, Repeatable) for stage in program.writers(name)):
                raise ValueError(f"the memory plan recomputes {name}, which a lean step cannot")
        return program

    def _settle(self) -> None:
        if self._pending is not None:
            name, channels, make = self._pending
            self._pending = None
            self._stages.append(make(name, channels))
            self._source = name
