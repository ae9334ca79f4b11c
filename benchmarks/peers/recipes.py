"""The recipes that the tasks' published baselines use, as plain PyTorch, with what this machine made us change.

- galaxyzoo: GalaxyCNN on the central part at 64 px, random flips and turns, MSE and, as published, binary cross-entropy
  on logits; published are 25 epochs of 49,000 images, here 40 of some 320.
- galaxy10: AstroCNN, focal loss of gamma 3 with class weights and a balanced sampler at once, 75 epochs; published at
  128 px, here the central part at 64 px.
- spirals: ResNet-50 frozen, a new head 2048-1024-k, 10 epochs; images resized to 256 px, random crops of 224 and flips.
  The net is frozen, so that three such views of an image are computed once and drawn from; it is judged on the central
  crop (published: on augmented images, of 424 px cropped to 256).
- surveys: EfficientNet-Lite0, its head alone on frozen features, then head and net at 128 px with a tenth of the
  learning rate; mean squared error over questions that were asked.
- plasticc: a variational autoencoder of fluxes in 128 bins of time, judged by an IsolationForest on its latents, and by
  the error of its reconstruction; time, flux errors and mask are not given to its encoder.
"""

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from frozen_features import features, load_net, rotations, scaled
from lesson import Lesson, Peer, squares
from PIL import Image
from sklearn.ensemble import IsolationForest
from torch import Tensor, nn
from torch.nn import functional

from galaxyml.models.astrocnn import AstroCNN
from galaxyml.models.galaxycnn import GalaxyCNN

BATCH = 32
SMALL = 64  # pixels
BINS, BANDS = 128, 6
LATENTS = 16


def turned(images: Tensor) -> Tensor:
    """Images of a batch, (N, C, H, W), each flipped and turned by a multiple of 90 degrees at random."""
    found = []
    for image in images:
        flipped = image.flip(-1) if random.random() < 0.5 else image
        found.append(torch.rot90(flipped, random.randrange(4), (1, 2)))
    return torch.stack(found)


def batches(count: int, weights: np.ndarray | None = None) -> Iterator[Tensor]:
    """Rows of an epoch's batches, each object once or drawn with weights, shape (N,); none of one row."""
    if weights is None:
        order = torch.randperm(count)
    else:
        order = torch.multinomial(torch.from_numpy(weights), count, replacement=True)
    for rows in order.split(BATCH):
        if len(rows) > 1:
            yield rows


def seed_all(seed: int) -> None:
    """Makes a fit repeatable."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - what libraries draw from
    torch.manual_seed(seed)


def small_images(lesson: Lesson) -> tuple[Tensor, Tensor]:
    """The central part of the images to learn from and of those to predict, in [0, 1], shape (N, 3, 64, 64) each."""
    train, held = (
        torch.from_numpy(squares(lesson.images(rows), lesson.crop(), SMALL)).permute(0, 3, 1, 2).float() / 255
        for rows in (lesson.train, lesson.held)
    )
    return train, held


def fit_small(
    lesson: Lesson,
    net: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    targets: Tensor,
    epochs: int,
    drawn: np.ndarray | None = None,
) -> Tensor:
    """Trains a net with Adam at 1e-3 on small images; its outputs for those held out, shape (N, K)."""
    train, held = small_images(lesson)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(lesson.epochs(epochs)):
        net.train()
        for rows in batches(len(train), drawn):
            optimizer.zero_grad()
            loss(net(turned(train[rows])), targets[rows]).backward()
            optimizer.step()
    net.eval()
    with torch.inference_mode():
        return torch.cat([net(part) for part in held.split(128)])


def galaxycnn(lesson: Lesson, loss: str, epochs: int) -> np.ndarray:
    """Fractions by GalaxyCNN; `loss` is `mse`, of sigmoids, or `bce`."""
    seed_all(lesson.draw)
    criterion = (
        functional.binary_cross_entropy_with_logits
        if loss == "bce"
        else lambda outputs, targets: functional.mse_loss(outputs.sigmoid(), targets)
    )
    targets = torch.from_numpy(lesson.fractions())
    return fit_small(lesson, GalaxyCNN(len(lesson.columns)), criterion, targets, epochs).sigmoid().numpy()


def focal_loss(logits: Tensor, labels: Tensor, alpha: Tensor, gamma: float) -> Tensor:
    """Focal loss (Lin et al. 2017, eq. 5), weighted by class, mean over the batch."""
    own = functional.log_softmax(logits, dim=1).gather(1, labels[:, None])[:, 0]
    return -(alpha[labels] * (1 - own.exp()) ** gamma * own).mean()


def astrocnn(lesson: Lesson, epochs: int) -> np.ndarray:
    """Probabilities by AstroCNN: class weights and a balanced sampler at once."""
    seed_all(lesson.draw)
    labels = lesson.labels()
    counts = np.bincount(labels, minlength=len(lesson.columns)).clip(1)
    alpha = torch.tensor(len(labels) / (len(counts) * counts), dtype=torch.float32)
    loss = partial(focal_loss, alpha=alpha, gamma=3.0)
    net = AstroCNN(len(lesson.columns))
    outputs = fit_small(lesson, net, loss, torch.from_numpy(labels), epochs, drawn=1 / counts[labels])
    return outputs.softmax(dim=1).numpy()


def augmented_views(images: list[Image.Image], rng: np.random.Generator) -> list[np.ndarray]:
    """Whole images at 256 px: the central 224, then three random crops of that size, flipped at random."""
    whole = squares(images, 1.0, 256)
    views = [whole[:, 16:240, 16:240]]
    for _ in range(3):
        part = np.empty_like(views[0])
        for index, image in enumerate(whole):
            top, left = rng.integers(0, 33, 2)
            crop = image[top : top + 224, left : left + 224]
            crop = crop[:, ::-1] if rng.random() < 0.5 else crop
            part[index] = crop[::-1] if rng.random() < 0.5 else crop
        views.append(part)
    return views


def frozen_resnet(lesson: Lesson, epochs: int) -> np.ndarray:
    """Probabilities by a new head 2048-1024-k on a frozen ResNet-50."""
    train, held = (torch.from_numpy(part) for part in features(lesson, "resnet50", "augmented_224", augmented_views))
    seed_all(lesson.draw)
    labels = torch.from_numpy(lesson.labels())
    head = nn.Sequential(nn.Linear(2048, 1024), nn.ReLU(), nn.Dropout(0.5), nn.Linear(1024, len(lesson.columns)))
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    for _ in range(lesson.epochs(epochs)):
        head.train()
        for rows in batches(len(train)):
            view = torch.randint(1, train.shape[1], (len(rows),))
            optimizer.zero_grad()
            functional.cross_entropy(head(train[rows, view]), labels[rows]).backward()
            optimizer.step()
    head.eval()
    with torch.inference_mode():
        return head(held[:, 0]).softmax(dim=1).numpy()


def asked_mse(outputs: Tensor, targets: Tensor, votes: Tensor) -> Tensor:
    """Mean squared error of sigmoids over questions that were asked."""
    asked = votes > 0
    return (outputs.sigmoid() - targets.nan_to_num()).square()[asked].mean()


def head_then_all(lesson: Lesson, head_epochs: int, epochs: int) -> np.ndarray:
    """Fractions by EfficientNet-Lite0: its head on frozen features, then head and net."""
    name, size = "tf_efficientnet_lite0", 128
    frozen, _ = features(lesson, name, f"turned_{size}", rotations(lesson.crop(), size))
    views = torch.from_numpy(frozen)
    seed_all(lesson.draw)
    targets, votes = torch.from_numpy(lesson.fractions()), torch.from_numpy(lesson.votes())
    net = load_net(name, lesson.weights)
    head = nn.Sequential(nn.Dropout(0.3), nn.Linear(views.shape[-1], len(lesson.columns)))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    for _ in range(lesson.epochs(head_epochs)):
        for rows in batches(len(views)):
            view = torch.randint(views.shape[1], (len(rows),))
            optimizer.zero_grad()
            asked_mse(head(views[rows, view]), targets[rows], votes[rows]).backward()
            optimizer.step()
    both = nn.Sequential(net, head)
    rates = [{"params": head.parameters(), "lr": 1e-3}, {"params": net.parameters(), "lr": 1e-4}]
    train, held = (
        scaled(squares(lesson.images(rows), lesson.crop(), size), name) for rows in (lesson.train, lesson.held)
    )
    total = lesson.epochs(epochs)
    optimizer = torch.optim.AdamW(rates)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    for _ in range(total):
        both.train()
        for rows in batches(len(train)):
            optimizer.zero_grad()
            asked_mse(both(turned(train[rows])), targets[rows], votes[rows]).backward()
            optimizer.step()
        schedule.step()
    both.eval()
    with torch.inference_mode():
        turns = [torch.cat([both(part) for part in held.rot90(turn, (2, 3)).split(64)]).sigmoid() for turn in range(4)]
    return torch.stack(turns).mean(dim=0).numpy()


def binned(curves: pd.DataFrame, ids: np.ndarray) -> np.ndarray:
    """Fluxes of light curves in 128 even bins of time, each curve divided by its largest, shape (N, 6, 128).

    Args:
        curves: Rows of observations: `object_id`, `mjd`, `passband`, `flux`.
        ids: Of the N objects.
    """
    row = pd.Index(ids).get_indexer(pd.Index(curves["object_id"]))
    curves, row = curves[row >= 0], row[row >= 0]
    first, last = curves["mjd"].min(), curves["mjd"].max()
    index = ((curves["mjd"] - first) / (last - first + 1e-6) * BINS).astype(int).to_numpy()
    sums, counts = np.zeros((2, len(ids), BANDS, BINS))
    np.add.at(sums, (row, curves["passband"].to_numpy(), index), curves["flux"].to_numpy())
    np.add.at(counts, (row, curves["passband"].to_numpy(), index), 1)
    means = sums / counts.clip(1)
    largest = np.abs(means).max(axis=(1, 2), keepdims=True)
    return (means / np.where(largest > 0, largest, 1)).astype(np.float32)


class BinnedVAE(nn.Module):
    """A variational autoencoder of banded light curves: two dense layers each way."""

    def __init__(self) -> None:
        super().__init__()
        side = BANDS * BINS
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(side, 256), nn.ReLU(), nn.Linear(256, 2 * LATENTS))
        self.decoder = nn.Sequential(nn.Linear(LATENTS, 256), nn.ReLU(), nn.Linear(256, side))

    def forward(self, curves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction, shape (N, 768), and the latents' mean and logarithm of variance, shape (N, 16) each."""
        mean, logvar = self.encoder(curves).chunk(2, dim=1)
        latents = mean + torch.randn_like(mean) * (logvar / 2).exp() if self.training else mean
        return self.decoder(latents), mean, logvar


def read_curves(folder: Path, file: str = "training_set.csv") -> pd.DataFrame:
    """Observations of PLAsTiCC."""
    return pd.read_csv(folder / file)


def binned_vae(lesson: Lesson, score: str, epochs: int) -> np.ndarray:
    """How unusual light curves are: `forest` on latents, or the `error` of reconstruction."""
    seed_all(lesson.draw)
    curves = read_curves(lesson.data)
    train, held = (torch.from_numpy(binned(curves, rows["id"].to_numpy())) for rows in (lesson.train, lesson.held))
    net = BinnedVAE()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(lesson.epochs(epochs)):
        net.train()
        for rows in batches(len(train)):
            optimizer.zero_grad()
            rebuilt, mean, logvar = net(train[rows])
            error = (rebuilt - train[rows].flatten(1)).square().sum(dim=1).mean()
            divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=1).mean()
            (error + 0.1 * divergence).backward()
            optimizer.step()
    net.eval()
    with torch.inference_mode():
        latents = net(train)[1].numpy()
        rebuilt, held_latents, _ = net(held)
        if score == "error":
            return (rebuilt - held.flatten(1)).square().sum(dim=1).numpy()
    forest = IsolationForest(n_estimators=500, random_state=lesson.draw).fit(latents)
    return -forest.score_samples(held_latents.numpy())


PEERS = (
    Peer(
        "VAE in time bins + IsolationForest",
        "plasticc",
        "nothing",
        None,
        40,
        "published recipe: no time, flux error or mask",
        partial(binned_vae, score="forest", epochs=40),
    ),
    Peer(
        "VAE in time bins, error of reconstruction",
        "plasticc",
        "nothing",
        None,
        40,
        "published recipe, the error not divided by that of the flux",
        partial(binned_vae, score="error", epochs=40),
    ),
    Peer(
        "ResNet-50 frozen, head 2048-1024-2",
        "spirals",
        "ImageNet",
        224,
        10,
        "published recipe; three augmented views of each image",
        partial(frozen_resnet, epochs=10),
    ),
    Peer(
        "AstroCNN, focal loss",
        "galaxy10",
        "nothing",
        SMALL,
        75,
        "published net and loss: gamma 3, class weights and balanced sampler",
        partial(astrocnn, epochs=75),
    ),
    Peer(
        "EfficientNet-Lite0, head then all",
        "surveys",
        "ImageNet",
        128,
        8,
        "20 epochs of the head, 8 of all; mean over four rotations",
        partial(head_then_all, head_epochs=20, epochs=8),
        seeds=1,
    ),
    Peer(
        "GalaxyCNN, MSE",
        "galaxyzoo",
        "nothing",
        SMALL,
        40,
        "published net, own loop",
        partial(galaxycnn, loss="mse", epochs=40),
        seeds=1,
    ),
    Peer(
        "GalaxyCNN, cross-entropy",
        "galaxyzoo",
        "nothing",
        SMALL,
        40,
        "published net and loss, own loop",
        partial(galaxycnn, loss="bce", epochs=40),
        seeds=1,
    ),
)
