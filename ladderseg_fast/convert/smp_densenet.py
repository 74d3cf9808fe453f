"""The DenseNet encoders of segmentation_models_pytorch, which return a map at each resolution."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from segmentation_models_pytorch.encoders.densenet import DenseNetEncoder
from torch import Tensor, nn

from ..lean import MemoryPlan, opaque
from ..lean.examination import MAX_POOL, Examination, UnsupportedModuleError
from ..lean.program import Program
from ..ops.backend import backend_of
from .densenet_parts import LeanTransition
from .lean_module import LeanModule, LeanState, Replacement, expect_channels, laid_out
from .lean_part import LeanPart
from .sequential import LeanSequential, PartOf, Segment, converted_part, has_hooks, joined, summary
from .stage_chain import StageChain


class LeanDenseNetEncoder(LeanModule, DenseNetEncoder):
    """An encoder that runs its dense blocks, transitions and pooling as lean programs, and calls its other modules.

    Torch runs the first convolution with its batch norm and ReLU, because the encoder returns their result. The
    rectified features before the transitions are outputs of the programs. `lean_state.others` is the pooling, if a
    program runs it.
    """

    lean_replaces = DenseNetEncoder

    features: Any
    _depth: int

    @classmethod
    def lean_decide(cls, path: str, module: Any, parts: Mapping[nn.Module, type[LeanModule]]) -> Replacement | None:
        Examination().itself(path, module, cls.lean_kind(module), called=True)
        features = joined(path, "features")
        left = {joined(features, name): "torch runs it" for name in _called(module)}
        others: tuple[str, ...] = ("pool0",)
        try:
            _look_at_pooling(Examination(), features, module)
        except UnsupportedModuleError as error:
            others, left[joined(features, "pool0")] = (), f"{error.path} {error.edit}"
        segments = _segments(Examination(), features, module, others, parts.get)
        run = [part for segment in segments for part in segment.parts]
        inside = [features, *(joined(features, name) for segment in segments for name in segment.names)]
        return Replacement(cls, LeanState(path, others=others), summary(run), inside, left) if run else None

    def lean_examine(self, look: Examination) -> None:
        self._lean_segments(look)

    def _lean_segments(self, look: Examination) -> list[Segment]:
        state = self.lean_state
        return _segments(look, joined(state.path, "features"), self, state.others, converted_part)

    @opaque
    def lean_forward(self, x: Tensor) -> list[Tensor]:
        """Maps of x [N, C, H, W] at each resolution, x first."""
        derived = self.lean_checked()
        if "segments" not in derived:
            derived["segments"] = self._lean_segments(Examination())
        channels_last, plan, features = self.lean_channels_last(x), self.lean_plan(x), self.features
        maps = [x]
        # The programs read the result of the ReLU in this layout.
        x = features.relu0(features.norm0(features.conv0(x.contiguous(memory_format=torch.channels_last))))
        maps.append(x)
        copies = backend_of(x.device).repeats_steps
        for number, segment in enumerate(derived["segments"]):
            if segment.parts:
                expect_channels(self.lean_state.path, x, segment.channels)
                make = partial(self._lean_program, segment, channels_last, copies)
                outputs = self.lean_run(derived, make, x, plan, key=(number, channels_last, copies))
                x = outputs[-1]
                maps += outputs if segment.names[-1] == self._lean_last else outputs[:-1]
                continue
            x = laid_out(x, channels_last)  # in which dropout draws its numbers, and which hooks see
            if segment.names[0].startswith("transition"):
                transition = features.get_submodule(segment.names[0])
                x = transition.relu(transition.norm(x))
                maps.append(x)
                if segment.names[0] != self._lean_last:
                    x = transition.pool(transition.conv(x))
            else:
                x = features.get_submodule(segment.names[0])(x)
        if self._depth == 5:
            maps.append(features.norm5(laid_out(x, channels_last)))
        return [maps[0], *(laid_out(each, channels_last) for each in maps[1:])]

    def lean_sections(self) -> list[str]:
        return [name for name in _names(self) if name.startswith("denseblock")]

    @property
    def _lean_last(self) -> str:
        """The transition of which only batch norm and ReLU run; "" if all transitions run."""
        return f"transition{self._depth - 1}" if 2 <= self._depth < 5 else ""

    def _lean_program(self, segment: Segment, channels_last: bool, copies: bool, plan: MemoryPlan) -> Program:
        chain = StageChain(channels_last, copies)
        for name in segment.names:
            module: Any = self.features.get_submodule(name)
            if name == "pool0":
                chain.max_pool(name, segment.channels)
                continue
            source = chain.source if isinstance(module, LeanTransition) else None
            if name != self._lean_last:
                module.lean_stages(chain, name, module)
            if source is not None:
                chain.rectified(f"skip of {name}", module.norm, source)
        return chain.program(plan, with_result=segment.names[-1] != self._lean_last)


def _names(encoder: Any) -> list[str]:
    """Names of the features' modules that follow the first ReLU, except the last batch norm."""
    names = ["pool0"] if encoder._depth >= 2 else []
    for number in range(1, encoder._depth):
        names += [f"denseblock{number}"] + ([f"transition{number}"] if number < 4 else [])
    return names


def _called(encoder: Any) -> list[str]:
    """Names of the features' modules that torch runs."""
    return ["conv0", "norm0", "relu0"] + (["norm5"] if encoder._depth == 5 else [])


def _segments(look: Examination, path: str, encoder: Any, others: tuple[str, ...], part_of: PartOf) -> list[Segment]:
    """Divides what follows the first ReLU into segments, and examines the parts in them.

    Raises:
        UnsupportedModuleError: a part does not compute what a program would.
    """
    look.itself(path, encoder.features, LeanSequential.lean_kind(encoder.features), called=True)
    segments: list[Segment] = []
    channels = 0  # that the last segment writes; 0 if it is called
    for name in _names(encoder):
        child, where = encoder.features.get_submodule(name), joined(path, name)
        part = None if has_hooks(child) else part_of(child)
        if name in others:
            reads = writes = _look_at_pooling(look, path, encoder)
            what = "pooling"
        elif part is not None and issubclass(part, LeanPart):
            what = part.lean_description
            reads, writes = part.lean_look(look, where, child, called=False)
        else:
            segments.append(Segment((name,)))
            channels = 0
            continue
        if channels:
            look.same(where, "reads", reads, channels, "are there")
            last = segments.pop()
            segments.append(Segment((*last.names, name), (*last.parts, what), last.channels))
        else:
            segments.append(Segment((name,), (what,), reads))
        channels = writes
    return segments


def _look_at_pooling(look: Examination, path: str, encoder: Any) -> int:
    """Examines the first pooling, and the ReLU before it, which leaves no negative values; returns the channels."""
    features = encoder.features
    look.itself(joined(path, "relu0"), features.relu0, nn.ReLU)
    look.itself(joined(path, "pool0"), features.pool0, nn.MaxPool2d, MAX_POOL)
    return features.conv0.out_channels
