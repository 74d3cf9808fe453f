"""Trains a network that predicts below full size with our loss: `python examples/loss_below_full_size.py`.

SegFormer, DeepLab and others give class scores at a quarter of the images' size, which are upsampled for the loss.
Scores at full size are most of the memory of such a loss, and their gradient most of its time; upsample_cross_entropy
never makes them.
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ladderseg_fast.ops import upsample_argmax, upsample_cross_entropy

CLASSES = 19


class MlpDecoderNetwork(nn.Module):
    """Small stand-in for a SegFormer: four stages at 1/4 to 1/32, whose features an MLP fuses at 1/4."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 96), embedding: int = 64) -> None:
        super().__init__()
        self.patches = nn.ModuleList(
            nn.Conv2d(before, width, 7 if first else 3, stride=4 if first else 2, padding=3 if first else 1)
            for before, width, first in zip((3, *widths), widths, (True, False, False, False))
        )
        self.mixers = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(width), nn.GELU()) for width in widths)
        self.projections = nn.ModuleList(nn.Conv2d(width, embedding, 1) for width in widths)
        self.head = nn.Sequential(nn.Conv2d(4 * embedding, embedding, 1), nn.ReLU(), nn.Conv2d(embedding, CLASSES, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, 3, H, W] to scores [N, K, H/4, W/4]."""
        maps: list[Tensor] = []
        for patches, mixer, projection in zip(self.patches, self.mixers, self.projections):
            x = mixer(patches(x))
            maps.append(projection(x))
        return self.head(torch.cat([F.interpolate(m, maps[0].shape[2:], mode="bilinear") for m in maps], dim=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    torch.manual_seed(0)

    model = MlpDecoderNetwork()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images = torch.randn(options.batch, 3, options.size, options.size)
    labels = torch.randint(0, CLASSES, (options.batch, options.size, options.size))
    labels[:, :4] = 255  # not counted
    for step in range(options.steps):
        logits = model(images)
        # In place of F.cross_entropy(F.interpolate(logits, labels.shape[1:], mode="bilinear"), labels, ...):
        loss = upsample_cross_entropy(logits, labels, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step + 1}: loss {loss.item():.3f}")

    logits = model(images).detach()
    plain = F.cross_entropy(F.interpolate(logits, labels.shape[1:], mode="bilinear"), labels, ignore_index=255)
    print(f"PyTorch's loss differs by {abs(plain - upsample_cross_entropy(logits, labels)).item():.1e}")
    print(f"predicted classes: {upsample_argmax(logits, labels.shape[1:]).unique().tolist()}")


if __name__ == "__main__":
    main()
