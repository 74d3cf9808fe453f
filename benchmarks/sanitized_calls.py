"""Small calls of all CUDA kernels, for compute-sanitizer, which makes them up to a hundred times slower.

A training step and a prediction of a ladder with few layers, and the operators that only residual networks have, in
float32 and float16.
"""

import sys

import torch

from ladderseg_fast import LadderDenseNet, LadderLoss, ops
from ladderseg_fast.nn import DENSENETS, DenseNetShape

#: Last line of the output.
DONE = "all calls are done"


def main(device: str) -> None:
    torch.manual_seed(0)
    DENSENETS["tiny"] = DenseNetShape((1, 2, 1, 2))
    # On the CPU, where this is tried out, there are no kernels for float16.
    for dtype in (torch.float32, torch.float16) if device == "cuda" else (torch.float32,):
        step_and_prediction(device, dtype)
        residual_operators(device, dtype)
    if device == "cuda":
        torch.cuda.synchronize()
    print(DONE)


def step_and_prediction(device: str, dtype: torch.dtype) -> None:
    model = LadderDenseNet("tiny", 5).to(device)
    images = torch.randn(2, 3, 64, 96, device=device)
    labels = torch.randint(0, 5, (2, 64, 96), device=device)
    with torch.autocast(device, torch.float16, enabled=dtype == torch.float16):
        loss = LadderLoss()(model(images), labels)
    loss.backward()
    model.eval().predict(images)


def residual_operators(device: str, dtype: torch.dtype) -> None:
    x, shortcut = (torch.randn(2, 24, 9, 13, device=device, dtype=dtype, requires_grad=True) for _ in range(2))
    vectors = [torch.rand(24, device=device).requires_grad_() for _ in range(4)]
    ops.bn_add_relu(x, *vectors, shortcut, *vectors).sum().backward()
    ops.bn_relu_patches(x, *vectors).sum().backward()
    ops.upsample_dice_loss(x, torch.randint(0, 24, (2, 18, 26), device=device)).backward()


if __name__ == "__main__":
    main(sys.argv[1])
