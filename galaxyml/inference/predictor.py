"""A finished run that can be asked about other pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import galaxyml.sweeps.finish  # noqa: F401 - registers the resolver that a run's configuration uses
from galaxyml.data.images.store import Framing, frame_all
from galaxyml.data.images.views import plain
from galaxyml.evaluation.joined import Said
from galaxyml.evaluation.out_of_distribution import OutOfDistribution, appearance
from galaxyml.experiment import load_predictor, quiet
from galaxyml.inference.bundle import opened
from galaxyml.kinds import CombiningStage, stages_of
from galaxyml.runs.errors import DataError
from galaxyml.runs.progress import track
from galaxyml.training.hardware import keep_memory, trainer
from galaxyml.training.prediction_module import PredictionModule
from galaxyml.training.predictions import gather

BATCH = 64
PART = 1024  # pictures that are held at a time


@dataclass(frozen=True)
class Member:
    """One net of a run.

    Attributes:
        predictor: The net.
        framing: What it sees of a picture.
        fold: The fold that it was fitted without.
        precision: In which precision it was fitted, as Lightning names it.
        familiar: What its training set looks like.
    """

    predictor: PredictionModule
    framing: Framing
    fold: int
    precision: Any
    familiar: OutOfDistribution | None


class Predictor:
    """A finished run, the joined folds of a sweep, or an ensemble, whose nets say the mean.

    Args:
        folder: The folder of one of them, or a bundle of it.

    Attributes:
        run: The run.
        members: Its nets.
        framings: What the nets see of a picture, each once.
        stages: What is made of what they say.

    Raises:
        UserError: If it is none of these, or not finished.
    """

    def __init__(self, folder: Path | str) -> None:
        quiet()
        keep_memory()
        self.run = opened(Path(folder))
        config = self.run.config
        self.run.metrics()
        self.columns = self.run.nets()[0].fitted_values("outputs")["columns"]
        self.members: list[Member] = []
        for net in self.run.nets():
            own, familiar = net.config, net.arrays("familiar")
            member = Member(
                load_predictor(net),
                instantiate(own.data.framing),
                own.fold,
                own.trainer.precision,
                OutOfDistribution.of_arrays(familiar) if familiar else None,
            )
            self.members.append(member)
        self.shares = self.run.shares()
        self.framings = list(dict.fromkeys(member.framing for member in self.members))
        self.stages = [stage for stage in stages_of(config) if isinstance(stage, CombiningStage)]
        # Of the run's trainer only what changes numbers: it may have run on other hardware, or on much more of it.
        where = "cpu" if config.trainer.accelerator == "cpu" else "auto"
        self.trainers = {
            precision: trainer(where, precision, logger=False, enable_checkpointing=False)
            for precision in {member.precision for member in self.members}
        }

    def predict(self, images: Sequence[str], bad: list[str] | None = None) -> pd.DataFrame:
        """What the run says of pictures.

        Args:
            images: Paths, or addresses of rows of HDF5 files.
            bad: Gets a sentence for each picture that cannot be read, which is then left out; None to raise.

        Returns:
            One row a picture: `path`; the run's outputs as its stages have them; `distance`, how unlike the training
            set it is, by its looks or to the net (1 is what at most 1 % of validation pictures exceed; of several nets
            their mean), and `unlike`, whether it is above 1.

        Raises:
            DataError: If a picture cannot be read and `bad` is None.
        """
        tables = [self.say(names, pixels) for names, pixels in self._parts(images, bad)]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"path": []})

    def _parts(self, images: Sequence[str], bad: list[str] | None) -> Iterator[tuple[list[str], list[Tensor]]]:
        """Names of the pictures that can be read and their pixels in each framing, a bounded number at a time."""
        framed = zip(*(frame_all(Path(), images, framing) for framing in self.framings), strict=True)
        names: list[str] = []
        frames: list[list[np.ndarray]] = []
        for name, found in zip(images, track(framed, "Predicting", len(images)), strict=True):
            whole = [pixels for pixels in found if not isinstance(pixels, str)]
            if len(whole) < len(found):
                reason = next(pixels for pixels in found if isinstance(pixels, str))
                if bad is None:
                    raise DataError(f"A picture cannot be read: {reason}. --on-error skip leaves such pictures out.")
                bad.append(reason)
                continue
            names.append(name)
            frames.append(whole)
            if len(names) == PART:
                yield names, _stacked(frames)
                names, frames = [], []
        if names:
            yield names, _stacked(frames)

    def say(self, names: Sequence[str], pixels: Sequence[Tensor]) -> pd.DataFrame:
        """What the run says of pictures that are decoded and framed already; otherwise as `predict`.

        Args:
            names: What each of the N pictures is called.
            pixels: For each of `framings` what it keeps of them, uint8 of shape (N, side, side, 3).
        """
        asked = [pixels[self.framings.index(member.framing)] for member in self.members]
        found = [self._answer(member, part) for member, part in zip(self.members, asked, strict=True)]
        spreads = [pd.DataFrame(net["spread"].numpy(), columns=self.columns) for net in found if "spread" in net]
        said = Said(
            [pd.DataFrame(net["output"].numpy(), columns=self.columns) for net in found],
            self.shares,
            [member.fold for member in self.members],
            spreads if len(spreads) == len(found) else [],  # as where the runs were joined
        )
        table = said.mean
        for stage in self.stages:
            table = stage.combine(self.run, said, table)
        table.insert(0, "path", names)
        if distances := list(self._distances(pixels, found)):
            table["distance"] = np.mean(distances, axis=0)
            table["unlike"] = table["distance"] > 1
        return table

    def _answer(self, member: Member, pixels: Tensor) -> dict[str, Tensor]:
        batches: Any = DataLoader(PlainBatches(pixels, member.framing.size), batch_size=None)
        return gather(self.trainers[member.precision].predict(member.predictor, batches))

    def _distances(self, pixels: Sequence[Tensor], found: list[dict[str, Tensor]]) -> Iterator[np.ndarray]:
        """How unlike each net's training set the pictures are, shape (N,)."""
        looks = [
            np.concatenate([appearance(plain(part, framing.size)) for part in of_framing.split(BATCH)])
            for framing, of_framing in zip(self.framings, pixels, strict=True)
        ]
        for member, said in zip(self.members, found, strict=True):
            if member.familiar is not None:
                feature = said["feature"].numpy() if "feature" in said else None
                yield member.familiar.distance(looks[self.framings.index(member.framing)], feature)


def _stacked(frames: list[list[np.ndarray]]) -> list[Tensor]:
    return [torch.from_numpy(np.stack(of_framing)) for of_framing in zip(*frames, strict=True)]


class PlainBatches(Dataset[dict[str, Tensor]]):
    """Batches of `index`, of the plain view as `image` and of `pixels`, from framed pixels (N, side, side, 3)."""

    def __init__(self, pixels: Tensor, size: int) -> None:
        self.pixels = pixels
        self.size = size
        self.rows = torch.arange(len(pixels)).split(BATCH)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rows = self.rows[number]
        return {"index": rows, "image": plain(self.pixels[rows], self.size), "pixels": self.pixels[rows]}
