"""How fast a head is tuned: features of the frozen backbone computed once, against once an epoch.

Both are run alternately in one process, and medians are compared, so that a noisy machine is unfair to none:

    .venv/bin/python benchmarks/surveys.py

DINOv2's small vision transformer (its size, without its weights) at 98 px, 10 epochs of a head by the
Dirichlet-multinomial loss, on the plain view of each image, decoded before. The goal is a ratio of 8; epochs of the
head alone would make it 10. With `views` V, features of V symmetries are computed once, which takes V times as long.
"""

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from data_path import ROUNDS, alternate
from torch import Tensor

from galaxyml.data.batches import FeatureBatches, ImageBatches, RowSampler, loader
from galaxyml.data.images.store import Framing, ImageStore, open_store
from galaxyml.data.images.views import plain
from galaxyml.kinds.votes.heads import Concentrations
from galaxyml.kinds.votes.losses import DirichletMultinomialLoss
from galaxyml.models.backbones import timm_net
from galaxyml.sky import write_galaxyzoo
from galaxyml.training.frozen_features import open_features
from galaxyml.training.hardware import keep_memory

NET, SIZE, EPOCHS = "vit_small_patch14_dinov2", 98, 10
IMAGES, BATCH = 96, 32
SIZES = [3, 2, 2, 2, 4, 2, 3, 3, 3, 6]  # answers to the questions of Galaxy Zoo: UKIDSS
VOTES = 40


def targets() -> Tensor:
    """Fractions and votes as random as the images' truth is here beside the point."""
    fractions = [torch.distributions.Dirichlet(torch.ones(size)).sample((IMAGES,)) for size in SIZES]
    found = torch.cat(fractions, 1)
    return torch.stack([found, torch.full_like(found, VOTES)], 2)


def learning(net: Any) -> Callable[[Tensor, Tensor], None]:
    """One step of a new head, from features."""
    vocabulary: Any = SimpleNamespace(
        sizes=SIZES, question_of=[number for number, size in enumerate(SIZES) for _ in range(size)]
    )
    loss, final = DirichletMultinomialLoss(vocabulary), Concentrations()
    net.head.reset_parameters()
    optimizer = torch.optim.AdamW(net.head.parameters())

    def step(features: Tensor, targets: Tensor) -> None:
        optimizer.zero_grad()
        loss(final(net.head(features)), targets).backward()
        optimizer.step()

    return step


def every_epoch(net: Any, store: ImageStore, targets: Tensor, size: int = SIZE) -> Callable[[], None]:
    """The head phase with features computed in every epoch."""

    def phase() -> None:
        step = learning(net)
        for _ in range(EPOCHS):
            for batch in loader(
                ImageBatches(store, targets), RowSampler(torch.arange(len(store)), BATCH, 0), workers=0
            ):
                with torch.no_grad():
                    features = net.features(plain(batch["image"], size))
                step(features, batch["target"])

    return phase


def once(net: Any, store: ImageStore, targets: Tensor, folder: Path, size: int = SIZE) -> Callable[[], None]:
    """The head phase with features computed once, written and read again."""

    def phase() -> None:
        step = learning(net)
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            features = open_features(store, net, size, 1, Path(cache), torch.device("cpu"), "32-true")
            for _ in range(EPOCHS):
                batches = FeatureBatches(features, targets, None)
                for batch in loader(batches, RowSampler(torch.arange(len(store)), BATCH, 0), workers=0):
                    step(batch["features"][:, 0], batch["target"])

    return phase


def main() -> None:
    """Measures both, and prints their ratio."""
    warnings.filterwarnings("ignore")
    keep_memory()
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, {IMAGES} images at {SIZE} px, medians of {ROUNDS} rounds")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_galaxyzoo(folder / "sky", count=IMAGES, test_galaxies=1, seed=0)
        root = folder / "sky" / "images_training_rev1"
        paths = sorted(path.name for path in root.glob("*.jpg"))
        store = open_store(root, paths, Framing(SIZE, crop=0.5, margin=1.42), folder / "cache")
        net: Any = timm_net(NET, outputs=sum(SIZES), size=SIZE).eval()
        votes = targets()
        found = alternate(
            {
                "once": once(net, store, votes, folder),
                "every epoch": every_epoch(net, store, votes),
            }
        )
    print(f"\n{EPOCHS} epochs of the head of {NET}, features computed")
    for way, seconds in found.items():
        print(f"  {way:<14}{seconds:8.2f} s")
    print(f"  ratio: {found['every epoch'] / found['once']:.2f} (goal: 8)")


if __name__ == "__main__":
    main()
