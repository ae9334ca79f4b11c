"""What a model predicts for images, written into the folder of its run."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import BasePredictionWriter

from galaxyml.data.images.data_module import ImageData
from galaxyml.data.images.views import plain
from galaxyml.evaluation.out_of_distribution import OutOfDistribution, appearance
from galaxyml.runs import ranks
from galaxyml.runs.errors import diverged
from galaxyml.runs.run_dir import RunDir
from galaxyml.training import projector
from galaxyml.training.loggers import TensorBoard

FLAGGED = 0.01  # share of validation images that would be called out of distribution
AT_ONCE = 256  # images that are looked at together
FINAL = "net"  # the table of what a model itself predicts, before any stage


class PredictionTables(BasePredictionWriter):
    """Writes what a model predicts for validation and test objects as the tables of `by`.

    The model's `predict_step` gives `index` (rows of the catalog) and `output` (N, K); where it also gives `spread` and
    `feature`, the standard deviation over views and what the training set looks like are kept, too. Of several
    processes the first writes, once and in the order of the rows.

    Args:
        run: The run's folder.

    Attributes:
        by: `net` for the final predictions; another name for those before or between phases.
    """

    def __init__(self, run: RunDir) -> None:
        super().__init__("epoch")
        self.run = run
        self.by = FINAL

    def write_on_epoch_end(
        self, trainer: lightning.Trainer, pl_module: Any, predictions: Sequence[Any], batch_indices: Any
    ) -> None:
        attached: Any = trainer  # Lightning sets its datamodule without declaring it
        data: ImageData = attached.datamodule
        splits = [predictions] if isinstance(predictions[0], dict) else predictions
        val, train, *test = [gather(batches) for batches in splits]
        if not ranks.is_rank_zero():
            return
        self._write_tables(data, {"val": val, **({"test": test[0]} if test else {})})
        if self.by != FINAL:
            return
        self.run.write_fitted("outputs", {"columns": data.kind.outputs})
        for split in ("val", "test"):
            if (table := self.run.predictions(split, by=FINAL)) is not None:
                self.run.write_predictions(split, table)
        if "feature" in val:
            if most := getattr(pl_module, "embedded", 0):
                self.run.write_arrays("embedding", _embedding(data, [val, *test], most))
            _project(trainer, data, val)
        looks = [_looks(data, part["index"]) for part in (train, val)]
        features = (train["feature"].numpy(), val["feature"].numpy()) if "feature" in val else None
        fitted = OutOfDistribution.fit((looks[0], looks[1]), features, FLAGGED)
        self.run.write_arrays("familiar", fitted.arrays())

    def _write_tables(self, data: ImageData, predicted: dict[str, dict[str, torch.Tensor]]) -> None:
        assert data.catalog is not None
        for split, part in predicted.items():
            if not np.isfinite(part["output"].numpy()).all():
                raise diverged(self.run.path)
            ids = data.catalog["id"].to_numpy()[part["index"].numpy()]
            for name, key in ((self.by, "output"), ("spread", "spread")):
                if key in part and (key == "output" or self.by == FINAL):
                    table = pd.DataFrame(part[key].numpy(), columns=data.kind.outputs)
                    table.insert(0, "id", ids)
                    self.run.write_predictions(split, table, by=name)


def _embedding(data: ImageData, parts: Sequence[dict[str, torch.Tensor]], most: int) -> dict[str, np.ndarray]:
    """Features of at most so many validation and test objects of each survey, and their ids."""
    assert data.catalog is not None
    rows = np.concatenate([part["index"].numpy() for part in parts])
    features = np.concatenate([part["feature"].numpy() for part in parts])
    group = data.catalog["survey"] if "survey" in data.catalog else data.catalog["split"]
    drawn = np.random.default_rng(0).permutation(len(rows))
    kept = np.sort(pd.Series(drawn).groupby(group.to_numpy()[rows[drawn]]).head(most).to_numpy())
    return {"id": data.catalog["id"].to_numpy()[rows[kept]].astype(str), "feature": features[kept]}


def _project(trainer: lightning.Trainer, data: ImageData, val: dict[str, torch.Tensor]) -> None:
    """Shows validation objects in TensorBoard's projector, as the model sees them."""
    boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)]
    if not boards:
        return
    assert data.catalog is not None
    drawn = projector.drawn(len(val["index"]))
    rows = val["index"][drawn]
    known = data.kind.describe(data.catalog.iloc[rows.numpy()])
    images = projector.thumbnails(data.store.gather(rows))
    for board in boards:
        board.add_features(projector.principal(val["feature"][drawn]), known, images, trainer.global_step)


def gather(batches: Any) -> dict[str, torch.Tensor]:
    """What `predict_step` gave for all batches, on the CPU.

    Where several processes have predicted a part each, the first gets all, in the order of their rows; the others
    nothing.
    """
    mine = {name: torch.cat([batch[name].cpu() for batch in batches]) for name in batches[0]}
    parts = ranks.gather_objects(mine)
    if len(parts) < 2:
        return mine if parts else {}
    every = {name: torch.cat([part[name] for part in parts]) for name in mine}
    _, first = np.unique(every["index"].numpy(), return_index=True)  # of a last batch, all may have said the same
    return {name: values[first] for name, values in every.items()}


def _looks(data: ImageData, rows: torch.Tensor) -> np.ndarray:
    """What some rows' images look like, shape (N, A)."""
    parts = [appearance(plain(data.store.gather(part), data.framing.size)) for part in rows.split(AT_ONCE)]
    return np.concatenate(parts)
