"""Stages and models, drawn by hypothesis: shapes, modes, layouts, options, threads, and the numbers in their inputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from hypothesis import strategies as st
from lean_stages import MODELS, STAGES, Stage, lean_model, plain_model
from support.lean_equals_plain import MODES, away_from_kinks, randomise, set_mode
from support.operator_suite import LAYOUTS
from support.stage_suite import BATCH_NORM_OPTIONS, replace_batch_norms
from torch import Tensor, nn

from ladderseg_fast import _core
from ladderseg_fast.lean import MemoryPlan, Workspace

#: Around the widths of vectors and of tiles.
_SIDES = (1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 24, 33)
_CHANNELS = (1, 2, 3, 5, 8, 13, 16, 17, 33)


def _constant_channels(x: Tensor) -> Tensor:
    """Every second channel is constant."""
    x[:, ::2] = x[:1, ::2, :1, :1]
    return x


def _constant(x: Tensor) -> Tensor:
    return x[:1, :, :1, :1].expand_as(x).clone()


def _scaled(factor: dict[torch.dtype, float], x: Tensor) -> Tensor:
    return x * factor[x.dtype]


#: What is in the maps, from normal numbers. A mean of 3,000 deviations leaves float32 four digits of what varies.
NUMBERS: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": lambda x: x,
    "large means": lambda x: x + 3000.0,
    "means that differ": lambda x: x + torch.linspace(-1000, 1000, x.shape[1], dtype=x.dtype)[:, None, None],
    "constant channels": _constant_channels,
    "constant maps": _constant,
    "small variances": lambda x: 1e-3 * x + 1.0,
    "denormals": partial(_scaled, {torch.float32: 1e-40, torch.float64: 1e-310}),
    "zeros": lambda x: x * 0.0,
}


@dataclass(frozen=True)
class Case:
    """One stage or model, and how it is called; printed when it fails."""

    name: str
    shape: tuple[int, int, int, int]
    numbers: str = "normal"
    dtype: torch.dtype = torch.float64
    mode: str = "train"
    layout: str = "channels_last"
    norms: str | None = None
    threads: int = 1
    instruction_set: str | None = None
    strip_bytes: int | None = None
    keep_bottlenecks_from: int | None = 512
    steps: int = 1
    seed: int = 0

    @property
    def stage(self) -> Stage | None:
        return STAGES.get(self.name)

    @property
    def smooth(self) -> bool:
        """Whether activations keep away from the kink of their ReLU, where rounding would decide."""
        return self.dtype == torch.float32

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        made: nn.Module = MODELS[self.name]() if self.stage is None else self.stage.make(self.shape[1])
        if self.norms is not None:
            replace_batch_norms(made, self.norms)
        module = randomise(made, self.seed).to(self.dtype)
        if self.smooth:
            away_from_kinks(module)
        set_mode(module, self.mode)
        return module

    def inputs(self) -> list[list[Tensor]]:
        """Inputs of each step, in this case's dtype and layout."""
        shapes: Sequence[tuple[int, ...]] = [self.shape] if self.stage is None else self.stage.inputs(self.shape)
        generator = torch.Generator().manual_seed(self.seed)
        steps = []
        for _ in range(self.steps):
            maps = [NUMBERS[self.numbers](torch.randn(shape, generator=generator).to(self.dtype)) for shape in shapes]
            steps.append([LAYOUTS[self.layout](x).requires_grad_() for x in maps])
        return steps

    def lean(self) -> Callable[..., Tensor | Sequence[Tensor]]:
        plan = MemoryPlan(keep_bottlenecks_from=self.keep_bottlenecks_from)
        if self.strip_bytes is not None:
            plan = MemoryPlan(self.strip_bytes, self.strip_bytes, keep_bottlenecks_from=self.keep_bottlenecks_from)
        if self.stage is None:
            return partial(_planned_model, plan)
        return partial(self.stage.lean, plan=plan, workspace=Workspace())

    def plain(self) -> Callable[..., Tensor | Sequence[Tensor]]:
        return plain_model if self.stage is None else self.stage.plain


def _planned_model(plan: MemoryPlan, model: nn.Module, images: Tensor) -> list[Tensor]:
    model.memory_plan = plan
    return lean_model(model, images)


def stage_cases(dtype: torch.dtype, **fixed: st.SearchStrategy) -> st.SearchStrategy[Case]:
    """Cases of any stage."""
    shapes = st.tuples(st.integers(1, 3), st.sampled_from(_CHANNELS), st.sampled_from(_SIDES), st.sampled_from(_SIDES))
    return _cases(dtype, st.sampled_from(list(STAGES)), shapes, fixed)


def model_cases(dtype: torch.dtype, **fixed: st.SearchStrategy) -> st.SearchStrategy[Case]:
    """Cases of any small model, with images that give its deepest maps a few pixels."""
    shapes = st.tuples(st.integers(1, 3), st.just(3), st.integers(64, 200), st.integers(64, 140))
    return _cases(dtype, st.sampled_from(list(MODELS)), shapes, fixed)


def _cases(
    dtype: torch.dtype,
    names: st.SearchStrategy[str],
    shapes: st.SearchStrategy[tuple[int, int, int, int]],
    fixed: dict[str, st.SearchStrategy],
) -> st.SearchStrategy[Case]:
    # away_from_kinks sets gamma and beta, which some of these options lack.
    norms = st.none() if dtype == torch.float32 else st.none() | st.sampled_from(list(BATCH_NORM_OPTIONS))
    options: dict[str, st.SearchStrategy] = {
        "numbers": st.sampled_from(list(NUMBERS)),
        "dtype": st.just(dtype),
        "mode": st.sampled_from(MODES),
        "layout": st.sampled_from(list(LAYOUTS)),
        "norms": norms,
        "threads": st.integers(1, 3),
        "instruction_set": st.sampled_from(_core.supported_instruction_sets()),
        "strip_bytes": st.none() | st.sampled_from((1, 3000, 20000)),
        "keep_bottlenecks_from": st.sampled_from((None, 1, 10, 512)),
        "steps": st.integers(1, 2),
        "seed": st.integers(0, 1000),
    }
    return st.builds(Case, name=names, shape=shapes, **{**options, **fixed}).filter(_off_the_kink)


def _off_the_kink(case: Case) -> bool:
    """Whether no batch norm gives ReLU a 0: of constant channels without beta, where rounding decides what passes."""
    varied = case.numbers in ("normal", "large means", "means that differ", "small variances")
    return (varied and case.layout != "expanded") or "affine=False" not in (case.norms or "")
