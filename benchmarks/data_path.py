"""How fast images reach the net: galaxyml's data path against the plain way and against the limit.

All are run alternately in one process, and medians are compared, so that a noisy machine is unfair to none:

    .venv/bin/python benchmarks/data_path.py

(a) the plain way: PIL open, Resize, flips, rotation, ToTensor, DataLoader, with 0 workers (its default) and with 2;
(b) the limit: one constant batch in memory.
"""

import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command does

import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parent / "peers"))

from plain import plain_epoch
from turns import BATCH

from galaxyml.data.batches import ImageBatches, RowSampler, loader
from galaxyml.data.images.store import Framing, open_store
from galaxyml.data.images.views import Augment
from galaxyml.kinds.losses import MSELoss
from galaxyml.models.galaxycnn import GalaxyCNN
from galaxyml.sky import write_galaxyzoo
from galaxyml.training.hardware import keep_memory

IMAGES, ROUNDS = 384, 5
VOTES = torch.zeros(IMAGES, 37)
DIHEDRAL, FREE = Augment(rotate=False), Augment(rotate=True)


def alternate(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median seconds of each way, run in turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:  # the first warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def own_epoch(
    paths: list[Path],
    size: int,
    augment: Augment,
    step: Callable[[Tensor, Tensor], None],
    cache: Path,
    targets: Tensor = VOTES,
) -> Callable[[], None]:
    """An epoch from the store."""
    root = paths[0].parent
    store = open_store(root, [path.name for path in paths], Framing(size, crop=0.5, margin=1.42), cache)
    sampler = RowSampler(torch.arange(len(paths)), BATCH, seed=0)
    batches = loader(ImageBatches(store, targets), sampler, workers=0)

    def epoch() -> None:
        for batch in batches:
            step(augment(batch["image"], size), batch["target"])

    return epoch


def constant_epoch(size: int, step: Callable[[Tensor, Tensor], None], targets: Tensor = VOTES) -> Callable[[], None]:
    """An epoch of one batch again and again, as many images as there are targets."""
    images = torch.rand(BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)

    def epoch() -> None:
        for _ in range(len(targets) // BATCH):
            step(images, targets[:BATCH])

    return epoch


def training_step(net: nn.Module, loss: nn.Module) -> Callable[[Tensor, Tensor], None]:
    """One step of AdamW."""
    net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters())

    def step(images: Tensor, targets: Tensor) -> None:
        optimizer.zero_grad()
        loss(net(images), targets).backward()
        optimizer.step()

    return step


def only_load(images: Tensor, targets: Tensor) -> None:
    """No net at all."""


def tiny() -> nn.Module:
    """The net of model=tiny."""
    return GalaxyCNN(37, channels=(16, 32, 64, 128), hidden=128, batch_norm=True, stride=4)


def report(title: str, found: dict[str, float]) -> None:
    """Prints medians and ratios."""
    print(f"\n{title}")
    for name, seconds in found.items():
        print(f"  {name:<34}{1000 * seconds / IMAGES:8.3f} ms an image")
    for name, seconds in found.items():
        if name.startswith("galaxyml"):
            ratios = [
                f"{other / seconds:.2f} of {way}" for way, other in found.items() if not way.startswith("galaxyml")
            ]
            print(f"  {name}, speed as a multiple: {', '.join(ratios)}")


def main() -> None:
    """Measures loading, a tiny net and GalaxyCNN."""
    warnings.filterwarnings("ignore")
    keep_memory()
    print(f"{torch.get_num_threads()} threads, {IMAGES} images of 424 px, medians of {ROUNDS} rounds")
    with tempfile.TemporaryDirectory() as folder:
        sky, cache = Path(folder) / "sky", Path(folder) / "cache"
        write_galaxyzoo(sky, count=IMAGES, test_galaxies=1, seed=0)
        paths = sorted((sky / "images_training_rev1").glob("*.jpg"))
        found = alternate(
            {
                "plain, 0 workers": plain_epoch(paths, 224, 0, only_load),
                "plain, 2 workers": plain_epoch(paths, 224, 2, only_load),
                "galaxyml, dihedral": own_epoch(paths, 224, DIHEDRAL, only_load, cache),
                "galaxyml, free rotation": own_epoch(paths, 224, FREE, only_load, cache),
            }
        )
        report("Loading at 224 px", found)
        for name, size, net in (
            ("Training a tiny net at 128 px", 128, tiny),
            ("Training GalaxyCNN at 128 px", 128, None),
        ):
            steps = [training_step(net() if net else GalaxyCNN(37), MSELoss()) for _ in range(5)]
            ways = {
                "plain, 0 workers": plain_epoch(paths, size, 0, steps[0]),
                "plain, 2 workers": plain_epoch(paths, size, 2, steps[1]),
                "galaxyml, dihedral": own_epoch(paths, size, DIHEDRAL, steps[2], cache),
                "galaxyml, free rotation": own_epoch(paths, size, FREE, steps[3], cache),
                "constant batch": constant_epoch(size, steps[4]),
            }
            report(name, alternate(ways))


if __name__ == "__main__":
    main()
