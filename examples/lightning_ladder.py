"""Trains a ladder DenseNet with Lightning: `python examples/lightning_ladder.py`.

A lean model is an ordinary nn.Module, so the LightningModule has nothing special about it.
"""

import argparse

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from ladderseg_fast import LadderDenseNet, LadderLoss

CLASSES = 3


class Segmentation(lightning.LightningModule):
    """LadderDenseNet with its loss, and the accuracy of its predictions in validation."""

    def __init__(self, memory: str = "lean") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = LadderDenseNet("densenet121", CLASSES, memory=memory)
        self.loss = LadderLoss(ignore_index=255)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        images, labels = batch
        loss = self.loss(self.model(images), labels)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        images, labels = batch
        self.log("accuracy", (self.model.predict(images) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.parameter_groups(lr=5e-4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", default="lean", help='"lean", "plain", or a budget such as "2GiB"')
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", default="lightning_ladder", help="folder for checkpoints")
    options = parser.parse_args()
    lightning.seed_everything(0)

    loader = DataLoader(random_images(2 * options.batch, options.size), batch_size=options.batch)
    trainer = lightning.Trainer(max_steps=options.steps, default_root_dir=options.out, logger=False, accelerator="auto")
    trainer.fit(Segmentation(options.memory), loader, loader)
    checkpoint = trainer.checkpoint_callback.best_model_path
    restored = Segmentation.load_from_checkpoint(checkpoint)
    print(f"{checkpoint} holds a model with memory={restored.hparams.memory!r}")


def random_images(count: int, size: int) -> TensorDataset:
    """Images [3, H, W] of random colours, and labels [H, W]: the strongest channel of each square."""
    colours = torch.randn(count, CLASSES, 4, 4)
    images = colours.repeat_interleave(size // 4, 2).repeat_interleave(size // 4, 3)
    return TensorDataset(images + 0.3 * torch.randn_like(images), images.argmax(dim=1))


if __name__ == "__main__":
    main()
