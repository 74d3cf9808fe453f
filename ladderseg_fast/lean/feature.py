"""A feature map that several stages read, and its gradient."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed

from ..ops.affine_correction import write
from ..ops.arguments import Correction, Gradient
from ..ops.backend import real_dtype
from ..ops.channel_statistics import mean_and_variance
from .joint_batch import JointBatch, joint_correction, joint_statistics


@dataclass
class _Joint:
    """Statistics of the first `known` channels of a feature over the batches of several processes."""

    statistics: Tensor
    """[2, F] float64; rows are contiguous."""
    batch: JointBatch | None = None
    known: int = 0


@dataclass
class _Deferred:
    """Correction of a feature's gradient that awaits all readers which share their statistics.

    Of a joint batch, it is that for sums of this process, until `joint_correction` has been applied to the channels
    `joined`.
    """

    correction: Correction
    joint: JointBatch | None
    joined: set[int] = field(default_factory=set)

    def part(self, span: slice) -> Correction:
        """The correction of some channels, to which all of their readers have added."""
        if self.joint is not None:
            rest = [channel for channel in range(span.start, span.stop) if channel not in self.joined]
            if rest:
                joint_correction(self.correction.part(slice(rest[0], rest[-1] + 1)), self.joint)
                self.joined.update(rest)
        return self.correction.part(span)


class Feature:
    """A pixel-major buffer [N, F, H, W], for instance a dense block's; stages write and read ranges of its channels.

    The statistics of a channel are computed once, when its first reader asks (ALGORITHMS.md section 1).
    """

    def __init__(self, data: Tensor) -> None:
        self.data = data
        self._statistics: Tensor | None = None  # [2, F] float64; rows are contiguous
        self._known = 0  # channels [0, _known) have statistics
        self._joint: dict[distributed.ProcessGroup, _Joint] = {}

    @property
    def positions(self) -> int:
        n, _, h, w = self.data.shape
        return n * h * w

    @property
    def known_statistics(self) -> Tensor | None:
        """Mean and biased variance [2, F] float64, or None before all channels have theirs."""
        return self._statistics if self._known == self.data.shape[1] else None

    def channels(self, stop: int) -> Tensor:
        """The first `stop` channels."""
        return self.data[:, :stop]

    def statistics(self, stop: int) -> Tensor:
        """Mean and biased variance [2, stop] float64 of the first `stop` channels, all of which have been written."""
        if self._known < stop:
            unknown = self.data[:, self._known : stop]
            mean_and_variance(unknown, self.new_statistics(self._known, stop))
        assert self._statistics is not None
        return self._statistics[:, :stop]

    def joint_statistics(self, stop: int, group: "distributed.ProcessGroup") -> tuple[Tensor, JointBatch]:
        """The same for the batches of all processes of `group`; those of a channel are exchanged once."""
        joint = self._joint.get(group)
        if joint is None:
            of_all = torch.empty((2, self.data.shape[1]), dtype=torch.float64, device=self.data.device)
            joint = self._joint[group] = _Joint(of_all)
        if joint.known < stop:
            own = self.statistics(stop)[:, joint.known :]
            new, joint.batch = joint_statistics(own, self.positions, self.data.dtype, group)
            joint.statistics[:, joint.known : stop] = new
            joint.known = stop
        assert joint.batch is not None
        return joint.statistics[:, :stop], joint.batch

    def new_statistics(self, start: int, stop: int) -> Tensor:
        """Place for the statistics [2, stop - start] float64 of channels that the caller is about to write.

        Nothing reads them after a gap before `start`: `statistics` will compute all of them.
        """
        channels = self.data.shape[1]
        if self._statistics is None:
            self._statistics = torch.empty((2, channels), dtype=torch.float64, device=self.data.device)
        if start == self._known:
            self._known = stop
        return self._statistics[:, start:stop]

    def set_statistics(self, start: int, statistics: Tensor) -> None:
        """Stores the statistics [2, C] float64 of channels from `start` on; called by the stage that wrote these."""
        stop = start + statistics.shape[1]
        if stop - start == self.data.shape[1]:
            self._statistics, self._known = statistics, stop
        else:
            self.new_statistics(start, stop).copy_(statistics)


class FeatureGradient:
    """The gradient of a Feature, with the batch norm correction deferred (ALGORITHMS.md section 4).

    Readers add scale * m to `data`, and their batch norm's correction to what is `deferred`. The stage that wrote a
    range of channels reads its gradient, corrected once for all readers.
    """

    def __init__(self, data: Tensor) -> None:
        self.data = data
        self._feature: Feature | None = None  # kept from the first deferral on, for its values
        self._deferred: dict[distributed.ProcessGroup | None, _Deferred] = {}

    def channels(self, stop: int) -> Tensor:
        """The first `stop` channels, for a reader to add to."""
        return self.data[:, :stop]

    def deferred(self, feature: Feature, joint: JointBatch | None = None) -> Correction:
        """Correction to which a reader of the first channels of `feature` adds its batch norm's correction.

        joint: the batch of several processes, if the reader's statistics are those of one.
        """
        group = None if joint is None else joint.group
        if group not in self._deferred:
            channels = self.data.shape[1]
            correction = Correction.zeros(channels, real_dtype(self.data.dtype), self.data.device)
            self._deferred[group] = _Deferred(correction, joint)
            self._feature = feature
        return self._deferred[group].correction

    def take_over(self, correction: Correction, feature: Feature | None) -> None:
        """Makes `correction` what is deferred of this gradient, of which nothing is; `feature`: None for now."""
        self._deferred, self._feature = {None: _Deferred(correction, None)}, feature

    def to_hand_on(self) -> Correction | None:
        """Correction that is deferred, for another part of the program to apply: that of this process's statistics.

        Readers there that share them have the same mean. Corrections of joint batches are applied on this side.
        """
        own = self._deferred.get(None)
        return None if own is None else own.correction

    def hand_on(self, feature: Feature, target: "FeatureGradient") -> None:
        """Makes `target`, a new gradient of `feature`, equal to this one, the correction included."""
        target.data.copy_(self.data)
        correction = self.to_hand_on()
        if correction is not None:
            target.take_over(correction, feature)

    def settle(self) -> None:
        """Applies the deferred correction in place, and drops the reference to the feature."""
        write(self.corrected(0, self.data.shape[1]), self.data)
        self._deferred, self._feature = {}, None

    def corrected(self, start: int, stop: int, handed_on: bool = False) -> Gradient:
        """The finished gradient of channels [start, stop), once all of their readers have added to it.

        handed_on: whether what `to_hand_on` gives is left to another part of the program.
        """
        span = slice(start, stop)
        grad = self.data[:, span]
        here = [each for group, each in self._deferred.items() if not (handed_on and group is None)]
        if self._feature is None or not here:
            return Gradient(grad)
        correction, *others = [each.part(span) for each in here]
        for other in others:
            correction = correction.plus(other)
        return Gradient(grad, self._feature.data[:, span], correction)
