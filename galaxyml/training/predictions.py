"""What a net says of pictures, written into the folder of its run."""

from typing import TYPE_CHECKING, Any

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch

from galaxyml.data.module import ImageData
from galaxyml.data.views import plain
from galaxyml.errors import diverged
from galaxyml.novelty import Familiar, appearance
from galaxyml.runs import RunDir

if TYPE_CHECKING:
    from galaxyml.training.supervised import SupervisedModule

FLAGGED = 0.01  # share of validation pictures that `galaxyml.predict` would call unlike the training set
AT_ONCE = 256  # pictures that are looked at together


def write_predictions(trainer: lightning.Trainer, module: "SupervisedModule", data: ImageData, here: RunDir) -> None:
    """Writes what the net says of validation and test pictures, and keeps what the training set looks like to it."""
    assert data.catalog is not None
    val, train, *test = (gather(batches) for batches in trainer.predict(module, datamodule=data) or [])
    for split, said in zip(("val", "test"), (val, *test), strict=False):
        table = pd.DataFrame(said["output"].numpy(), columns=data.outputs)
        if not np.isfinite(table.to_numpy()).all():
            raise diverged(here.path)
        table.insert(0, "id", data.catalog["id"].to_numpy()[said["index"].numpy()])
        here.write_predictions(split, table, by="net")
        here.write_predictions(split, table)
    looks = [_looks(data, said["index"]) for said in (train, val)]
    features = (train["feature"].numpy(), val["feature"].numpy()) if "feature" in val else None
    here.write_arrays("familiar", Familiar.fit((looks[0], looks[1]), features, FLAGGED).arrays())


def gather(batches: Any) -> dict[str, torch.Tensor]:
    """What `predict_step` said of all batches, on the CPU."""
    return {name: torch.cat([batch[name].cpu() for batch in batches]) for name in batches[0]}


def _looks(data: ImageData, rows: torch.Tensor) -> np.ndarray:
    """What some rows' pictures look like, shape (N, A)."""
    parts = [appearance(plain(data.store.gather(part), data.framing.size)) for part in rows.split(AT_ONCE)]
    return np.concatenate(parts)
