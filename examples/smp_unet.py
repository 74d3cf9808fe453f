"""Trains a U-Net of segmentation_models_pytorch with a DenseNet encoder, lean: `python examples/smp_unet.py`.

The encoder is converted; the decoder stays PyTorch's. The images are random squares on noise.
"""

import argparse

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor

import ladderseg_fast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="densenet121", help="of smp; also resnet34, resnet50, ...")
    parser.add_argument("--size", type=int, default=256, help="a multiple of 32, as smp wants it")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    torch.manual_seed(0)

    model = smp.Unet(options.encoder, encoder_weights=None, classes=2)
    # What would become lean, and what would not and why; then the same in earnest.
    print(ladderseg_fast.convert(model, dry_run=True))
    ladderseg_fast.convert(model)

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(options.steps):
        images, labels = random_batch(options.batch, options.size)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step + 1}: loss {loss.item():.3f}")


def random_batch(batch: int, size: int) -> tuple[Tensor, Tensor]:
    """Images [N, 3, H, W] with a bright square each, and labels [N, H, W]: 1 in the square."""
    labels = torch.zeros(batch, size, size, dtype=torch.long)
    for label in labels:
        y, x = torch.randint(0, size // 2, (2,)).tolist()
        label[y : y + size // 2, x : x + size // 2] = 1
    return torch.randn(batch, 3, size, size) + 2.0 * labels[:, None], labels


if __name__ == "__main__":
    main()
