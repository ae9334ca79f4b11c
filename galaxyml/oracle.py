"""A finished run that can be asked about other pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import galaxyml.sweep  # noqa: F401 - registers the resolver that a run's configuration uses
from galaxyml.data.images import Framing, frame_all
from galaxyml.data.views import plain
from galaxyml.errors import DataError
from galaxyml.experiment import load_run, quiet
from galaxyml.novelty import Familiar, appearance
from galaxyml.progress import track
from galaxyml.runs import RunDir
from galaxyml.stages.ensemble import mean_table
from galaxyml.training.hardware import keep_memory, trainer
from galaxyml.training.predictions import gather

BATCH = 64
PART = 1024  # pictures that are held at a time


class Oracle:
    """A finished run, or the joined folds of a sweep, whose nets say the mean.

    Args:
        folder: The run's folder, or the sweep's.

    Raises:
        UserError: If the folder is no run's, or the run is not finished.
    """

    def __init__(self, folder: Path | str) -> None:
        quiet()
        keep_memory()
        self.run = RunDir(folder)
        config = self.run.config
        self.run.metrics()
        members = self.run.members() or [self.run]
        self.nets = [load_run(member) for member in members]
        self.familiar = [Familiar.of_arrays(arrays) for member in members if (arrays := member.arrays("familiar"))]
        self.framing: Framing = instantiate(config.data.framing)
        self.columns = list(pd.read_parquet(members[0].path / "predictions" / "net" / "val.parquet").columns[1:])
        self.stages = [stage for stage in instantiate(config.stages) if hasattr(stage, "combine")]
        # Of the run's trainer only what changes numbers: it may have run on other hardware, or on much more of it.
        where = "cpu" if config.trainer.accelerator == "cpu" else "auto"
        self.trainer = trainer(where, config.trainer.precision, logger=False, enable_checkpointing=False)

    def predict(self, images: Sequence[str], bad: list[str] | None = None) -> pd.DataFrame:
        """What the run says of pictures.

        Args:
            images: Paths, or addresses of rows of HDF5 files.
            bad: Gets a sentence for each picture that cannot be read, which is then left out; None to raise.

        Returns:
            One row a picture: `path`; the run's outputs as its stages have them; `distance`, how unlike the training
            set it is, by its looks or to the net (1 is what at most 1 % of validation pictures exceed; of a sweep the
            mean over its nets), and `unlike`, whether it is above 1.

        Raises:
            DataError: If a picture cannot be read and `bad` is None.
        """
        tables = [self._ask(names, pixels) for names, pixels in self._parts(images, bad)]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"path": []})

    def _parts(self, images: Sequence[str], bad: list[str] | None) -> Iterator[tuple[list[str], Tensor]]:
        """Names and framed pixels of the pictures that can be read, a bounded number at a time."""
        framed = frame_all(Path(), images, self.framing)
        names: list[str] = []
        frames: list[np.ndarray] = []
        for name, found in zip(images, track(framed, "Predicting", len(images)), strict=True):
            if isinstance(found, str):
                if bad is None:
                    raise DataError(f"A picture cannot be read: {found}. --on-error skip leaves such pictures out.")
                bad.append(found)
                continue
            names.append(name)
            frames.append(found)
            if len(names) == PART:
                yield names, torch.from_numpy(np.stack(frames))
                names, frames = [], []
        if names:
            yield names, torch.from_numpy(np.stack(frames))

    def _ask(self, names: list[str], pixels: Tensor) -> pd.DataFrame:
        batches: Any = DataLoader(PlainBatches(pixels, self.framing.size), batch_size=None)
        said = [gather(self.trainer.predict(net, batches)) for net in self.nets]
        outputs = [pd.DataFrame(net["output"].numpy(), columns=self.columns) for net in said]
        table = mean_table(outputs)
        for stage in self.stages:
            table = stage.combine(self.run, outputs)
        table.insert(0, "path", names)
        if self.familiar:
            looks = np.concatenate([appearance(plain(part, self.framing.size)) for part in pixels.split(BATCH)])
            distances = [
                found.distance(looks, net["feature"].numpy() if "feature" in net else None)
                for found, net in zip(self.familiar, said, strict=True)
            ]
            table["distance"] = np.mean(distances, axis=0)
            table["unlike"] = table["distance"] > 1
        return table


class PlainBatches(Dataset[dict[str, Tensor]]):
    """Batches of `index` and of the plain view as `image`, from framed pixels (N, side, side, 3)."""

    def __init__(self, pixels: Tensor, size: int) -> None:
        self.pixels = pixels
        self.size = size
        self.rows = torch.arange(len(pixels)).split(BATCH)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rows = self.rows[number]
        return {"index": rows, "image": plain(self.pixels[rows], self.size)}
