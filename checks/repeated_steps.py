"""The same step, ten thousand times from the same state, must give the same bits every time.

    python checks/repeated_steps.py --record
    python checks/repeated_steps.py --steps 200 --emulated-steps 10      # shorter

A step is forward and backward in training mode: outputs, the gradients of inputs and parameters, running statistics.
Its state is restored in between. Small networks with every kind of stage run with one thread and with three; so does a
prediction, which is recorded and repeated. A transition on the emulated GPU repeats steps that it has recorded.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from record import record
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from emulator.emulation import emulated
from small_ladder import SmallLadder
from support.operator_suite import threads
from support.repeated_steps import make_maps, make_transition

from ladderseg_fast import lean
from ladderseg_fast.lean import Workspace
from ladderseg_fast.ops.backend import using

#: Height and width: odd maps at every resolution, of several tiles.
_SIZE = (2, 3, 33, 46)

Results = list[Tensor]


def bits(results: Results) -> list[Tensor]:
    """The bits of results, without copies of them."""
    return [each.detach().contiguous().view(torch.int32) for each in results if each.is_floating_point()]


class Repeated:
    """A network and a state to which it returns before every step."""

    def __init__(self, module: nn.Module, forward: Callable[..., Tensor], x: Tensor) -> None:
        self._module, self._forward, self._x = module, forward, x
        self._buffers = [(each, each.clone()) for each in module.buffers()]

    def step(self) -> Results:
        """Output, all gradients and running statistics of a training step."""
        for buffer, at_first in self._buffers:
            buffer.copy_(at_first)
        self._module.train()
        self._module.zero_grad()
        x = self._x.detach().requires_grad_()
        output = self._forward(x)
        output.backward(torch.linspace(-1, 1, output.numel()).view_as(output))
        assert x.grad is not None
        gradients = [each.grad for each in self._module.parameters() if each.grad is not None]
        return [output, x.grad, *gradients, *(buffer for buffer, _ in self._buffers)]

    @torch.no_grad()
    def predict(self) -> Results:
        """Output of a prediction."""
        self._module.eval()
        return [self._forward(self._x)]


def different(run: Callable[[], Results], steps: int) -> int:
    """Number of runs, of `steps`, whose bits differ from the first one's."""
    expected = [each.clone() for each in bits(run())]
    count = 0
    for _ in range(steps - 1):
        found = bits(run())
        count += len(found) != len(expected) or not all(map(torch.equal, found, expected))
    return count


def on_cpu() -> Repeated:
    torch.manual_seed(0)
    network, workspace = SmallLadder(), Workspace()
    return Repeated(network, lambda x: network.lean(x, workspace), torch.randn(*_SIZE))


def emulated_steps(steps: int) -> tuple[int, int]:
    """Steps with other bits, and how many passes, forward and backward, were repeated from a recording."""
    torch.manual_seed(0)
    module, workspace = make_transition(), Workspace()
    network = Repeated(module, lambda x: lean.transition(module, x, workspace=workspace), make_maps())
    with using(emulated("sm_80")):
        found = different(network.step, steps)
    return found, workspace.recordings.counts["repeated"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000, help="of each network (default: 10000)")
    parser.add_argument("--emulated-steps", type=int, default=300, help="on the emulated GPU (default: 300)")
    parser.add_argument("--record", action="store_true", help="write the result, see checks/README.md")
    options = parser.parse_args()
    figures, started = {}, time.process_time()
    for team in (1, 3):
        for name, method in (("training", "step"), ("prediction", "predict")):
            with threads(team):
                figures[f"{name}, threads: {team}"] = different(getattr(on_cpu(), method), options.steps)
            print(f"{name}, threads: {team}: {figures[f'{name}, threads: {team}']} differ", flush=True)
    figures["training on the emulated GPU"], repeated = emulated_steps(options.emulated_steps)
    print(f"emulated: {figures['training on the emulated GPU']} differ, {repeated} passes were repeated", flush=True)
    holds = not any(figures.values()) and repeated > 0
    if options.record:
        record(
            "repeated_steps",
            claim="A step that is repeated from the same state gives the same bits",
            found=f"{options.steps} steps and predictions with 1 and 3 threads, {repeated} recorded passes on the "
            f"emulated GPU: {sum(figures.values())} differ",
            figures={"different": figures, "cpu_seconds": round(time.process_time() - started, 1)},
        )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
