"""Predictions for images, written into the folder of the run."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import BasePredictionWriter

from galaxyml.data.images.data_module import ImageData
from galaxyml.data.images.views import central_pixels
from galaxyml.evaluation.out_of_distribution import OutOfDistribution, appearance
from galaxyml.runs import ranks
from galaxyml.runs.errors import UserError, diverged, shorten
from galaxyml.runs.run_dir import RunDir
from galaxyml.training import projector

FLAGGED = 0.01  # share of validation images that would be called out of distribution
AT_ONCE = 256  # images that are looked at together
FINAL = "net"  # the table of what a model itself predicts, before any stage


class PredictionTables(BasePredictionWriter):
    """Writes what a model predicts for validation and test objects as the tables of `by`.

    The model's `predict_step` gives `index` (rows of the catalog) and `output` (N, K), and may give `spread`, the
    standard deviation over views, and `feature` (N, F), what its head sees. With the images of a DataModule of this
    package, what the training set looks like is written as well. Of several processes the first writes, each object
    once, in the order of the rows.

    Args:
        run: The run's folder.
        columns: Names of the outputs, K of them.

    Attributes:
        by: `net` for the final predictions; another name for those before or between phases.

    Raises:
        UserError: If an output is not finite, or there are more or fewer than `columns`.
    """

    def __init__(self, run: RunDir, columns: list[str]) -> None:
        super().__init__("epoch")
        self.run = run
        self.columns = columns
        self.by = FINAL

    def write_on_epoch_end(
        self, trainer: lightning.Trainer, pl_module: Any, predictions: Sequence[Any], batch_indices: Any
    ) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it without declaring it
        loaders = [predictions] if isinstance(predictions[0], dict) else predictions
        predicted = [gather(batches) for batches in loaders]
        if not ranks.is_rank_zero():
            return
        catalog: pd.DataFrame = data.catalog
        by_split = _by_split(predicted, catalog["split"].to_numpy())
        judged = {split: rows for split, rows in by_split.items() if split != "train"}
        for split, rows in judged.items():
            self._write_tables(split, rows, catalog["id"].to_numpy())
        if self.by != FINAL:
            return
        self.run.write_fitted("outputs", {"columns": self.columns})
        if "val" not in judged or not isinstance(data, ImageData):
            return
        train, val = by_split.get("train"), judged["val"]
        if "feature" in val:
            if most := getattr(pl_module, "embedded", 0):
                self.run.write_arrays("embedding", _embedding(catalog, list(judged.values()), most))
            _show_features(trainer, data, val)
        if train is not None:
            looks = [_looks(data, rows["index"]) for rows in (train, val)]
            features = (train["feature"].numpy(), val["feature"].numpy()) if "feature" in val else None
            fitted = OutOfDistribution.fit((looks[0], looks[1]), features, FLAGGED)
            self.run.write_arrays("familiar", fitted.arrays())

    def _write_tables(self, split: str, predicted: dict[str, torch.Tensor], ids: np.ndarray) -> None:
        outputs = predicted["output"]
        if outputs.ndim != 2 or outputs.shape[1] != len(self.columns):
            raise UserError(
                f"predict_step gives outputs of shape {tuple(outputs.shape)}; there are {len(self.columns)} to predict "
                f"({shorten(self.columns)}), so that it must be (N, {len(self.columns)})."
            )
        if not np.isfinite(outputs.numpy()).all():
            raise diverged(self.run.path)
        names = {self.by: outputs}
        if self.by == FINAL:
            names |= {"": outputs} | ({"spread": predicted["spread"]} if "spread" in predicted else {})
        for name, values in names.items():
            table = pd.DataFrame(values.numpy(), columns=self.columns)
            table.insert(0, "id", ids[predicted["index"].numpy()])
            self.run.write_predictions(split, table, by=name)


def _by_split(loaders: Sequence[dict[str, torch.Tensor]], splits: np.ndarray) -> dict[str, dict[str, torch.Tensor]]:
    """Predictions by the split of their rows, given those of each loader and the split of each row of the catalog."""
    by_split: dict[str, dict[str, torch.Tensor]] = {}
    for predicted in loaders:
        names = splits[predicted["index"].numpy()]
        for split in dict.fromkeys(names):
            rows = torch.from_numpy(np.flatnonzero(names == split))
            by_split[str(split)] = {name: values[rows] for name, values in predicted.items()}
    return by_split


def _embedding(catalog: pd.DataFrame, predicted: Sequence[dict[str, torch.Tensor]], most: int) -> dict[str, np.ndarray]:
    """Features of at most so many validation and test objects of each survey, and their ids."""
    rows = np.concatenate([split["index"].numpy() for split in predicted])
    features = np.concatenate([split["feature"].numpy() for split in predicted])
    group = catalog["survey"] if "survey" in catalog else catalog["split"]
    drawn = np.random.default_rng(0).permutation(len(rows))
    chosen = np.sort(pd.Series(drawn).groupby(group.to_numpy()[rows[drawn]]).head(most).to_numpy())
    return {"id": catalog["id"].to_numpy()[rows[chosen]].astype(str), "feature": features[chosen]}


def _show_features(trainer: lightning.Trainer, data: Any, val: dict[str, torch.Tensor]) -> None:
    """Shows validation objects in TensorBoard's projector, as the model sees them."""
    if boards := projector.boards(trainer):
        drawn = projector.drawn(len(val["index"]))
        rows = val["index"][drawn]
        metadata = data.kind.describe(data.catalog.iloc[rows.numpy()])
        images = projector.thumbnails(data.store.gather(rows))
        for board in boards:
            board.add_features(projector.principal(val["feature"][drawn]), metadata, images, trainer.global_step)


def gather(batches: Any) -> dict[str, torch.Tensor]:
    """Joins what `predict_step` gave for all batches, on the CPU.

    Of several processes, the first gets the predictions of all, in the order of their rows; the others nothing.
    """
    own = {name: torch.cat([batch[name].cpu() for batch in batches]) for name in batches[0]}
    shares = ranks.gather_objects(own)
    if len(shares) < 2:
        return own if shares else {}
    joined = {name: torch.cat([share[name] for share in shares]) for name in own}
    _, first = np.unique(joined["index"].numpy(), return_index=True)  # a small last batch is given whole to each
    return {name: values[first] for name, values in joined.items()}


def _looks(data: ImageData, rows: torch.Tensor) -> np.ndarray:
    """Appearance of some rows' images, shape (N, A)."""
    batches = (central_pixels(data.store.gather(batch), data.framing.size) for batch in rows.split(AT_ONCE))
    return np.concatenate([appearance(batch) for batch in batches])
