"""How fast nets learn classes: galaxyml's data path against its limit, and the dihedral net against the baseline.

All are run alternately in one process, and medians are compared, so that a noisy machine is unfair to none:

    .venv/bin/python benchmarks/classes.py

AstroCNN learns ten classes by focal loss at 128 px. The limit is one constant batch in memory; the goal is 0.95 of it.
"""

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from data_path import (
    DIHEDRAL,
    FREE,
    IMAGES,
    ROUNDS,
    alternate,
    constant_epoch,
    own_epoch,
    report,
    training_step,
)
from torch import Tensor, nn

from galaxyml.kinds.classes.losses import FocalLoss
from galaxyml.models.astrocnn import AstroCNN
from galaxyml.models.dihedral import DihedralCNN
from galaxyml.sky import write_galaxyzoo
from galaxyml.training.hardware import keep_memory

CLASSES, SIZE = 10, 128
LABELS = torch.arange(IMAGES) % CLASSES


def learning(net: nn.Module) -> Callable[[Tensor, Tensor], None]:
    """One step of training by focal loss."""
    return training_step(net, FocalLoss())


def predicting(net: nn.Module) -> Callable[[Tensor, Tensor], None]:
    """One batch of scores."""
    net = net.to(memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def step(images: Tensor, targets: Tensor) -> None:
        net(images)

    return step


def main() -> None:
    """Measures AstroCNN with the store and without, then both nets."""
    warnings.filterwarnings("ignore")
    keep_memory()
    print(f"{torch.get_num_threads()} threads, {IMAGES} images at {SIZE} px, medians of {ROUNDS} rounds")
    with tempfile.TemporaryDirectory() as folder:
        sky, cache = Path(folder) / "sky", Path(folder) / "cache"
        write_galaxyzoo(sky, count=IMAGES, test_galaxies=1, seed=0)
        paths = sorted((sky / "images_training_rev1").glob("*.jpg"))
        found = alternate(
            {
                "galaxyml, dihedral": own_epoch(paths, SIZE, DIHEDRAL, learning(AstroCNN()), cache, LABELS),
                "galaxyml, free rotation": own_epoch(paths, SIZE, FREE, learning(AstroCNN()), cache, LABELS),
                "constant batch": constant_epoch(SIZE, learning(AstroCNN()), LABELS),
            }
        )
    report("Training AstroCNN by focal loss (goal: 0.95 of constant batch)", found)
    found = alternate(
        {
            "AstroCNN, training": constant_epoch(SIZE, learning(AstroCNN()), LABELS),
            "DihedralCNN, training": constant_epoch(SIZE, learning(DihedralCNN()), LABELS),
            "AstroCNN, predicting": constant_epoch(SIZE, predicting(AstroCNN()), LABELS),
            "DihedralCNN, predicting": constant_epoch(SIZE, predicting(DihedralCNN()), LABELS),
        }
    )
    report("Both nets on a constant batch", found)
    for what in ("training", "predicting"):
        ratio = found[f"DihedralCNN, {what}"] / found[f"AstroCNN, {what}"]
        print(f"  DihedralCNN, {what}: {ratio:.1f} times the time of AstroCNN")


if __name__ == "__main__":
    main()
