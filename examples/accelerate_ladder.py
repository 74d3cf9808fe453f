"""Trains a ladder DenseNet with Accelerate: `python examples/accelerate_ladder.py`, or `accelerate launch` it.

Accelerate wraps the model, moves the batches, and accumulates gradients. On a GPU, --precision fp16 trains in mixed
precision.
"""

import argparse

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

from ladderseg_fast import LadderDenseNet, LadderLoss

CLASSES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", default="no", choices=["no", "fp16", "bf16"])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="of the optimizer, of two batches each")
    parser.add_argument("--out", default="accelerate_ladder.safetensors", help="file for the trained model")
    options = parser.parse_args()
    torch.manual_seed(0)

    accelerator = Accelerator(mixed_precision=options.precision, gradient_accumulation_steps=2)
    model = LadderDenseNet("densenet121", CLASSES, memory="lean")
    optimizer = torch.optim.Adam(model.parameter_groups(lr=5e-4))
    loader = DataLoader(random_images(2 * options.steps * options.batch, options.size), batch_size=options.batch)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    criterion = LadderLoss(ignore_index=255)

    for number, (images, labels) in enumerate(loader, start=1):
        with accelerator.accumulate(model):
            loss = criterion(model(images), labels)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        accelerator.print(f"batch {number}: loss {loss.item():.3f}")

    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        accelerator.unwrap_model(model).save_pretrained(options.out)
        restored = LadderDenseNet.from_pretrained(options.out)
        print(f"{options.out} holds a model of {sum(p.numel() for p in restored.parameters()) / 1e6:.2f} M parameters")


def random_images(count: int, size: int) -> TensorDataset:
    """Images [3, H, W] of random colours, and labels [H, W]: the strongest channel of each square."""
    colours = torch.randn(count, CLASSES, 4, 4)
    images = colours.repeat_interleave(size // 4, 2).repeat_interleave(size // 4, 3)
    return TensorDataset(images + 0.3 * torch.randn_like(images), images.argmax(dim=1))


if __name__ == "__main__":
    main()
