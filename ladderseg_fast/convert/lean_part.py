"""Parts: modules that run lean alone, or as a part of a sequence."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from ..lean import MemoryPlan, opaque
from ..lean.examination import Examination
from ..lean.program import Program
from .lean_module import LeanModule, LeanState, Replacement, expect_channels, expect_rectified, laid_out
from .stage_chain import StageChain


class LeanPart(LeanModule):
    """A converted module that reads one map and returns one."""

    #: What it is, for reports.
    lean_description: ClassVar[str]

    #: Whether it must not read negative values, and gives none.
    lean_rectified: ClassVar[bool] = False

    @classmethod
    def lean_decide(
        cls, path: str, module: nn.Module, parts: Mapping[nn.Module, type[LeanModule]]
    ) -> Replacement | None:
        cls.lean_look(Examination(), path, module, called=True)
        return Replacement(cls, LeanState(path), cls.lean_description)

    @classmethod
    def lean_unfit(cls, model: nn.Module, parts: Mapping[nn.Module, type[LeanModule]]) -> dict[str, str]:
        """Reasons why parts of this class in `model` are left alone because of the modules around them, by path."""
        return {}

    @classmethod
    def lean_look(cls, look: Examination, path: str, module: nn.Module, called: bool) -> tuple[int, int]:
        """Examines `module`, converted or not; returns the channels that it reads, and those that it returns.

        called: the module is called, so its own hooks run.

        Raises:
            UnsupportedModuleError: a module does not compute what the program computes in its place.
        """
        raise NotImplementedError

    @classmethod
    def lean_stages(cls, chain: StageChain, name: str, module: nn.Module) -> None:
        """Adds the stages of `module` to `chain`."""
        raise NotImplementedError

    def lean_examine(self, look: Examination) -> None:
        self.lean_look(look, self.lean_state.path, self, called=True)

    @opaque
    def lean_forward(self, x: Tensor) -> Tensor:
        path, derived = self.lean_state.path, self.lean_checked()
        if "channels" not in derived:
            derived["channels"], _ = self.lean_look(Examination(), path, self, called=True)
        expect_channels(path, x, derived["channels"])
        if self.lean_rectified:
            expect_rectified(path, x)
        channels_last = self.lean_channels_last(x)
        make = partial(self._lean_program, channels_last)
        (out,) = self.lean_run(derived, make, x, self.lean_plan(x), key=channels_last)
        return laid_out(out, channels_last)

    def lean_sections(self) -> list[str]:
        return [self.lean_name]

    @property
    def lean_name(self) -> str:
        """The name that the part has in the module that it is in."""
        return self.lean_state.path.rpartition(".")[2]

    def _lean_program(self, channels_last: bool, plan: MemoryPlan) -> Program:
        chain = StageChain(channels_last)
        self.lean_stages(chain, self.lean_name, self)
        return chain.program(plan)
