"""The plain way: a torchvision Dataset over files, PIL, transforms, a DataLoader and a loop; pandas for light curves.

As a script it trains a small net on a folder of JPEGs, without anything of galaxyml, so that it can be measured:

    python benchmarks/peers/plain.py FOLDER
"""

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import functional
from turns import BATCH, Way, script_arguments

COLUMNS = ("mjd", "passband", "flux", "flux_err")


class Plain(Dataset[tuple[Tensor, Tensor]]):
    """One image an item, opened, resized and turned every time.

    Args:
        paths: Of the images.
        size: Side in pixels.
    """

    def __init__(self, paths: list[Path], size: int) -> None:
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize((size, size)),
                transforms.RandomHorizontalFlip(),
                transforms.RandomVerticalFlip(),
                transforms.RandomRotation(180, transforms.InterpolationMode.BILINEAR),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.transform(Image.open(self.paths[row]).convert("RGB")), torch.zeros(37)


class PlainViews(Dataset[Tensor]):
    """All images in one view after the other, each opened and resized every time.

    Args:
        paths: Of the images.
        size: Side in pixels.
        views: How many of the eight symmetries of the square.
    """

    def __init__(self, paths: list[Path], size: int, views: int) -> None:
        self.paths, self.views = paths, views
        self.resize, self.to_tensor = transforms.Resize((size, size)), transforms.ToTensor()

    def __len__(self) -> int:
        return len(self.paths) * self.views

    def __getitem__(self, row: int) -> Tensor:
        view, image = divmod(row, len(self.paths))
        pixels = self.resize(Image.open(self.paths[image]).convert("RGB"))
        pixels = functional.hflip(pixels) if view >= 4 else pixels
        return self.to_tensor(functional.rotate(pixels, 90 * (view % 4)) if view % 4 else pixels)


def plain_epoch(
    paths: list[Path], size: int, workers: int, step: Callable[[Tensor, Tensor], None]
) -> Callable[[], None]:
    """An epoch the plain way; workers live on between epochs."""
    batches = DataLoader(Plain(paths, size), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)

    def epoch() -> None:
        for images, targets in batches:
            step(images, targets)

    return epoch


def plain_predictions(net: nn.Module, paths: list[Path], size: int, views: int, workers: int) -> Way:
    """The mean of a net's outputs over views, each a pass over the files; workers live on between passes and turns."""
    dataset = PlainViews(paths, size, views)
    batches = DataLoader(dataset, BATCH, num_workers=workers, persistent_workers=workers > 0)

    @torch.inference_mode()
    def predict() -> None:
        net.eval()
        outputs = torch.cat([net(images) for images in batches])
        outputs.unflatten(0, (views, len(paths))).mean(0).numpy()

    return predict


def turned_predictions(net: nn.Module, paths: list[Path], size: int, workers: int) -> Way:
    """The mean of a net's outputs over the eight symmetries of each batch, whose images are opened once."""
    batches = DataLoader(PlainViews(paths, size, 1), BATCH, num_workers=workers, persistent_workers=workers > 0)

    @torch.inference_mode()
    def predict() -> None:
        net.eval()
        means = []
        for images in batches:
            turned = [each.rot90(turn, (2, 3)) for each in (images, images.flip(3)) for turn in range(4)]
            means.append(torch.stack([net(view) for view in turned]).mean(0))
        torch.cat(means).numpy()

    return predict


def padded_curves(path: Path, batch: int) -> list[dict[str, Tensor]]:
    """Padded batches of a CSV file of light curves: one group an object, read and grouped once."""
    table = pd.read_csv(path).sort_values(["object_id", "mjd"])
    curves = [
        {name: torch.tensor(group[name].to_numpy(), dtype=torch.float32) for name in COLUMNS}
        for _, group in table.groupby("object_id")
    ]
    batches = []
    for start in range(0, len(curves), batch):
        group = curves[start : start + batch]
        padded = {name: pad_sequence([curve[name] for curve in group], batch_first=True) for name in COLUMNS}
        lengths = torch.tensor([len(curve["mjd"]) for curve in group])
        batches.append(padded | {"mask": torch.arange(padded["mjd"].shape[1]) < lengths[:, None]})
    return batches


def small_net(outputs: int = 37) -> nn.Sequential:
    """The same layers as model=tiny has, in plain torch; all but the last three are its encoder."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 5, 4, padding=2, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    for before, after in ((16, 32), (32, 64), (64, 128)):
        layers += [nn.MaxPool2d(2), nn.Conv2d(before, after, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 128), nn.ReLU(inplace=True), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(128, outputs))


def main() -> None:
    """Trains for some epochs."""
    given, paths = script_arguments(__doc__)
    net, loss = small_net(), nn.MSELoss()
    optimizer = torch.optim.AdamW(net.parameters())
    batches = DataLoader(Plain(paths, given.size), given.batch, shuffle=True, num_workers=given.workers)
    for _ in range(given.epochs):
        for images, targets in batches:
            optimizer.zero_grad()
            loss(net(images), targets).backward()
            optimizer.step()
            if given.first:
                os._exit(0)  # as the others end


if __name__ == "__main__":
    main()
