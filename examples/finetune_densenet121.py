"""Fine-tunes torchvision's DenseNet-121 on other classes, lean: `python examples/finetune_densenet121.py`.

The images are random colours whose class is the strongest channel; put your own data set in their place.
"""

import argparse

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import ladderseg_fast

CLASSES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", help='"DEFAULT": pretrained on ImageNet, downloaded (default: none)')
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    torch.manual_seed(0)

    model = torchvision.models.densenet121(weights=options.weights)
    model.classifier = nn.Linear(model.classifier.in_features, CLASSES)
    # An optimizer may be made before or after: parameters stay the same objects.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    print(ladderseg_fast.convert(model))

    for step in range(options.steps):
        images, classes = random_batch(options.batch, options.size)
        loss = F.cross_entropy(model(images), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step + 1}: loss {loss.item():.3f}")

    # A checkpoint of the converted model is one of torchvision's, and the other way round.
    plain = torchvision.models.densenet121(num_classes=CLASSES)
    plain.load_state_dict(model.state_dict())
    images, _ = random_batch(options.batch, options.size)
    with torch.no_grad():
        difference = (model.eval()(images) - plain.eval()(images)).abs().max()
    print(f"scores differ from torchvision's by at most {difference:.1e}")


def random_batch(batch: int, size: int) -> tuple[Tensor, Tensor]:
    """Images [N, 3, H, W] and the class [N] of each."""
    colours = torch.randn(batch, CLASSES, 1, 1)
    return colours + 0.5 * torch.randn(batch, CLASSES, size, size), colours.flatten(1).argmax(dim=1)


if __name__ == "__main__":
    main()
