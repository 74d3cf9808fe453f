"""Threads of Python that train and predict at once, each with its own model and all with one that they share."""

import threading
from contextlib import nullcontext

import torch
from torch import Tensor

from ladderseg_fast import LadderDenseNet, LadderLoss
from ladderseg_fast.nn import DENSENETS, DenseNetShape

_CLASSES = 5
_TINY = "tiny"


def stress(threads: int, team: int, steps: int) -> bool:
    """Whether `threads` threads compute the same bits at once as one after the other.

    Args:
        threads: of Python.
        team: threads of the core for each of them.
        steps: of each training.
    """
    torch.set_num_threads(team)
    DENSENETS[_TINY] = DenseNetShape((1, 2, 1, 2))
    numbers = range(threads)
    shared = _model(100).eval()
    expected = {number: _work(number, _model(number), shared, steps, None) for number in numbers}

    found: dict[int, list[Tensor]] = {}
    start = threading.Barrier(threads)

    def run(number: int, own: LadderDenseNet) -> None:
        found[number] = _work(number, own, shared, steps, start)

    workers = [threading.Thread(target=run, args=(number, _model(number))) for number in numbers]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return all(_same_bits(found.get(number, []), expected[number]) for number in numbers)


def _work(
    number: int, own: LadderDenseNet, shared: LadderDenseNet, steps: int, start: threading.Barrier | None
) -> list[Tensor]:
    """Losses of a training, and predictions and gradients of both models, of images of several sizes."""
    # Has an effect where the instruction set in use multiplies bfloat16; the baseline does not.
    autocast = torch.autocast("cpu", torch.bfloat16) if number % 2 else nullcontext()
    results: list[Tensor] = []
    optimizer = torch.optim.SGD(own.parameters(), lr=0.01)
    if start is not None:
        start.wait()
    for step in range(steps):
        images, labels = _batch(number, 64 + 32 * (step % 2))
        optimizer.zero_grad()
        with autocast:
            loss = LadderLoss()(own(images), labels)
        loss.backward()
        optimizer.step()
        results.append(loss.detach())
        results.append(shared.predict(images))
        loss = LadderLoss()(shared(images), labels)
        results += torch.autograd.grad(loss, list(shared.parameters()))
    own.eval()
    results += [own.predict(_batch(number, size)[0]) for size in (64, 96)]
    return results


def _same_bits(found: list[Tensor], expected: list[Tensor]) -> bool:
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


def _model(seed: int) -> LadderDenseNet:
    torch.manual_seed(seed)
    return LadderDenseNet(_TINY, _CLASSES)


def _batch(seed: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 * seed + width)
    images = torch.randn(2, 3, 64, width, generator=generator)
    return images, torch.randint(0, _CLASSES, (2, 64, width), generator=generator)
