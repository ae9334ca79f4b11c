"""The way of projects made from lightning-hydra-template: a LightningDataModule, a LightningModule and a Trainer.

As a script it trains a small net on a folder of JPEGs, so that it can be measured:

    python benchmarks/peers/template.py FOLDER
"""

import os
from collections.abc import Callable
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback, LambdaCallback
from plain import small_net
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2
from turns import BATCH, QUIET, Way, script_arguments


class GalaxyDataModule(lightning.LightningDataModule):
    """Images in folders of classes, opened by Pillow and turned by torchvision's transforms.

    Args:
        paths: Of the images, all in one folder.
        size: Side in pixels.
        workers: Processes that load; they live on between epochs.
        batch: Images a batch.
    """

    def __init__(self, paths: list[Path], size: int, workers: int, batch: int = BATCH) -> None:
        super().__init__()
        self.paths, self.workers, self.batch = set(map(str, paths)), workers, batch
        self.folder = paths[0].parents[1]
        self.transform = v2.Compose(
            [
                v2.ToImage(),
                v2.Resize((size, size), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandomVerticalFlip(),
                v2.RandomRotation(180, InterpolationMode.BILINEAR),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def setup(self, stage: str | None = None) -> None:
        self.images = ImageFolder(
            self.folder, self.transform, is_valid_file=lambda path: path in self.paths, allow_empty=True
        )

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(
            self.images, self.batch, shuffle=True, num_workers=self.workers, persistent_workers=self.workers > 0
        )


class GalaxyModule(lightning.LightningModule):
    """A net with its loss and metrics.

    Args:
        net: Gives scores of classes.
        classes: How many.
    """

    def __init__(self, net: nn.Module, classes: int) -> None:
        super().__init__()
        self.net, self.loss = net, nn.CrossEntropyLoss()
        self.mean_loss, self.accuracy = MeanMetric(), MulticlassAccuracy(classes)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        scores = self.net(images)
        loss: Tensor = self.loss(scores, labels)
        self.mean_loss(loss)
        self.accuracy(scores.argmax(1), labels)
        self.log("train/loss", self.mean_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/acc", self.accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


def template_epoch(paths: list[Path], size: int, workers: int, step: Callable[[Tensor, Tensor], None]) -> Way:
    """An epoch of the DataModule's batches."""
    data = GalaxyDataModule(paths, size, workers)
    data.setup()
    batches = data.train_dataloader()

    def epoch() -> None:
        for images, labels in batches:
            step(images, labels)

    return epoch


def main() -> None:
    """Trains for some epochs."""
    given, paths = script_arguments(__doc__)
    callbacks: list[Callback] = [LambdaCallback(on_train_batch_end=lambda *_: os._exit(0))] if given.first else []
    trainer = lightning.Trainer(**QUIET, max_epochs=given.epochs, callbacks=callbacks)
    trainer.fit(GalaxyModule(small_net(), 37), GalaxyDataModule(paths, given.size, given.workers, given.batch))


if __name__ == "__main__":
    main()
