"""Trains an FC-DenseNet (the Tiramisu of Jégou et al., 2017) with lean dense blocks: `python examples/tiramisu.py`.

The network is written as people write it, with a dense block of its own, whose class is declared. convert compares
each block with the lean step on random maps before it takes its place; the rest stays PyTorch's.
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ladderseg_fast
from ladderseg_fast.convert import declare_dense_block

CLASSES = 11


class DenseBlock(nn.Module):
    """Layers BN - ReLU - conv 3x3 - dropout; with `upsample` only the new channels come out."""

    def __init__(self, channels: int, growth: int, count: int, upsample: bool = False) -> None:
        super().__init__()
        self.channels, self.upsample = channels, upsample
        widths = [channels + i * growth for i in range(count)]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(True), nn.Conv2d(c, growth, 3, padding=1), nn.Dropout2d(0.2))
            for c in widths
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x[:, self.channels :] if self.upsample else x


class Tiramisu(nn.Module):
    """FC-DenseNet with these numbers of layers in the blocks down to the bottleneck, and the same back up."""

    def __init__(self, counts: tuple[int, ...] = (4, 4, 4), bottleneck: int = 4, growth: int = 12) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 48, 3, padding=1)
        self.down, self.pools = nn.ModuleList(), nn.ModuleList()
        self.up, self.ups = nn.ModuleList(), nn.ModuleList()
        channels, skips = 48, []
        for count in counts:
            self.down.append(DenseBlock(channels, growth, count))
            channels += growth * count
            skips.append(channels)
            pool = nn.BatchNorm2d(channels), nn.ReLU(True), nn.Conv2d(channels, channels, 1), nn.Dropout2d(0.2)
            self.pools.append(nn.Sequential(*pool, nn.MaxPool2d(2)))
        self.bottleneck = DenseBlock(channels, growth, bottleneck, upsample=True)
        new = growth * bottleneck
        for count, skip in zip(reversed(counts), reversed(skips)):
            self.ups.append(nn.ConvTranspose2d(new, new, 2, stride=2))
            self.up.append(DenseBlock(new + skip, growth, count, upsample=True))
            new = growth * count
        self.head = nn.Conv2d(new, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, skips = self.first(x), []
        for block, pool in zip(self.down, self.pools):
            skips.append(block(x))
            x = pool(skips[-1])
        x = self.bottleneck(x)
        for up, block in zip(self.ups, self.up):
            x = block(torch.cat([up(x), skips.pop()], 1))
        return self.head(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224, help="a multiple of 8")
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    torch.manual_seed(0)

    model = Tiramisu()
    declare_dense_block(DenseBlock)
    print(ladderseg_fast.convert(model))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    images = torch.randn(options.batch, 3, options.size, options.size)
    labels = torch.randint(0, CLASSES, (options.batch, options.size, options.size))
    for step in range(options.steps):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step + 1}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
