"""Steps of a transition that are interpreted and repeated, and the comparison of both."""

from collections.abc import Callable

import torch
from support.comparison import assert_same_bits
from support.lean_equals_plain import randomise
from torch import Tensor

from ladderseg_fast import lean
from ladderseg_fast.nn import Transition
from ladderseg_fast.ops.backend import EmulatedCuda

Results = dict[str, Tensor]


def make_transition(channels: int = 8) -> Transition:
    return randomise(Transition(channels, 4), 0).float()


def make_maps(step: int = 0, channels: int = 8, size: tuple[int, int] = (4, 6)) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(2, channels, *size, generator=generator).requires_grad_()


class Steps:
    """Steps of a transition on maps, in one workspace."""

    def __init__(self, module: Transition | None = None) -> None:
        self.module = module or make_transition()
        self.workspace = lean.Workspace()
        self.results: Results = {}
        self.count = 0

    def __call__(self, x: Tensor | None = None, **options: object) -> None:
        """One more step, whose results are added to the others."""
        x = make_maps(self.count) if x is None else x
        out = self.forward(x)
        self.backward(x, out, **options)

    def forward(self, x: Tensor) -> Tensor:
        return lean.transition(self.module, x, workspace=self.workspace)

    def backward(self, x: Tensor, out: Tensor, **options: object) -> None:
        self.module.zero_grad()
        out.backward(torch.linspace(-1, 1, out.numel()).view_as(out), **options)
        self.note({"out": out, "x": x.grad})

    def note(self, results: dict[str, Tensor | None]) -> None:
        """Keeps copies of results, of the gradients and of the module's state."""
        results = results | {f"gradient of {n}": p.grad for n, p in self.module.named_parameters()}
        results = results | self.module.state_dict()
        self.results |= {
            f"{self.count}: {name}": each.detach().clone() for name, each in results.items() if each is not None
        }
        self.results |= {
            f"{self.count}: version of {name}": torch.tensor(each._version)
            for name, each in self.module.named_buffers()
        }
        self.count += 1

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.workspace.recordings.counts)


def compare(
    device: EmulatedCuda, scenario: Callable[[Steps], None], make: Callable[[], Steps] = Steps
) -> dict[str, int]:
    """Runs `scenario` on interpreted and on repeated steps: results must be equal. Returns the latter's counts."""
    expected, actual = make(), make()
    device.repeats_steps = False
    try:
        scenario(expected)
    finally:
        device.repeats_steps = True
    assert not expected.counts.keys() - {"interpreted"}
    scenario(actual)
    assert actual.results.keys() == expected.results.keys() and actual.results
    for name, tensor in expected.results.items():
        assert_same_bits(actual.results[name], tensor, name)
    return actual.counts


def settle(steps: Steps) -> None:
    """Two steps, after which a third one like them is repeated."""
    steps()
    steps()
