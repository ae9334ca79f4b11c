"""From files of light curves to batches: split, reference times, augmentation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import DataLoader, Dataset

from galaxyml.data.batches import RowSampler, loader
from galaxyml.data.catalog import SPLITS, CatalogData
from galaxyml.data.light_curves.columns import LightCurves
from galaxyml.data.light_curves.inputs import CONDITIONS
from galaxyml.data.light_curves.survey_columns import CurveNames
from galaxyml.data.light_curves.views import CurveAugment
from galaxyml.runs.errors import DataError

BIN = 4.0  # days, of the search for the reference time
BINS = 4096  # of them at most, 45 years
PREDICTED = 256  # objects a batch, at least, where nothing is learnt
FEWEST = 5  # objects to train on, and to validate by
LOST = (0.5, 1.0)  # photometric redshift, and its error, of objects that have none
VIEWS = CurveAugment(shift=10, drop=0.5, drop_band=0.1, drop_block=0.1, scale=3.0, renoise=1.0)


class CurveBatches(Dataset[dict[str, Tensor]]):
    """A batch for a list of rows, padded to its longest light curve.

    `index` (B,) int64; `time` (B, L) float32, days since the reference time, and that as `reference` (B,) float32 MJD;
    `band` (B, L) int64; `flux` and `error` (B, L) float32; `detected` and `mask` (B, L) bool; `condition` (B, 5)
    float32; `target` (B,) int64, -1 where the class is not among the known ones.

    Args:
        stores: Ragged observations, in one or more stores (a training set, a survey).
        ids: Of the catalog's objects, each in one of the stores, shape (N,).
        conditions: What is known beside the curve, shape (N, 5).
        targets: Classes, shape (N,).
    """

    def __init__(self, stores: Sequence[LightCurves], ids: np.ndarray, conditions: Tensor, targets: Tensor) -> None:
        self.stores = list(stores)
        rows = np.stack([pd.Index(store.ids).get_indexer(pd.Index(ids)) for store in stores])  # -1 where it is not
        self.store_of, self.row_of = rows.argmax(0), rows.max(0)
        self.conditions = conditions
        self.targets = targets

    def __getitem__(self, rows: Tensor) -> dict[str, Tensor]:
        store, rows_of_store = self._locate(rows)
        batch = referred(store.padded(rows_of_store))
        labels = {"condition": self.conditions[rows], "target": self.targets[rows]}
        # Not every accelerator has double precision.
        return {"index": rows, **batch, "reference": batch["reference"].float(), **labels}

    def curves(self, rows: Tensor) -> LightCurves:
        """The observations of some rows of one store."""
        store, rows_of_store = self._locate(rows)
        return store.take(rows_of_store)

    def _locate(self, rows: Tensor) -> tuple[LightCurves, np.ndarray]:
        """The store that holds some rows, and their rows in it."""
        number, *others = np.unique(self.store_of[rows.numpy()])
        if others:
            raise ValueError("A batch has objects of several stores; splits lie in one each.")
        return self.stores[number], self.row_of[rows.numpy()]


def referred(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Observations with times since each object's reference time, the middle of where it is brightest for its errors.

    Signal-to-noise is summed in bins of 4 days over all passbands, with half the weight of the bins beside; the
    reference is the mean time, by the same weights and inverse variance, where that is largest. It depends on the
    object's own observations alone.

    Args:
        batch: `mjd` (B, L) float64, and `flux`, `error`, `mask`.

    Returns:
        The batch with `time` (B, L) float32 and `reference` (B,) float64 in the place of `mjd`.
    """
    mjd, mask = batch["mjd"], batch["mask"]
    first = torch.where(mask, mjd, torch.inf).amin(1, keepdim=True).nan_to_num(posinf=0.0)
    bins = ((mjd - first) / BIN).long().clamp(0, BINS - 1) * mask
    weight = mask / batch["error"].double() ** 2
    size = int(bins.max()) + 3
    grids = [
        torch.zeros(len(mjd), size, dtype=torch.float64).scatter_add_(1, bins + 1, values)
        for values in (weight * batch["flux"], weight, weight * (mjd - first))
    ]
    signal, inverse, moment = (grid + 0.5 * (pad(grid, (1, -1)) + pad(grid, (-1, 1))) for grid in grids)
    significance = torch.where(inverse > 0, signal / inverse.clamp(min=1e-300).sqrt(), -torch.inf)
    best = significance.argmax(1, keepdim=True)
    reference = first + moment.gather(1, best) / inverse.gather(1, best).clamp(min=1e-300)
    others = {name: values for name, values in batch.items() if name != "mjd"}
    return {**others, "time": torch.where(mask, mjd - reference, 0.0).float(), "reference": reference[:, 0]}


def name_column(catalog: pd.DataFrame) -> str:
    """The column that has the users' names of objects."""
    return "object" if "object" in catalog else "id"


class CurveData(CatalogData):
    """Light curves of known classes to learn, and others to be found. A task says how its files are read (`load`).

    Args:
        source: As for CatalogData.
        balance: As for CatalogData, over classes.
        augment: Random changes for training; None or False for none.
        **options: As for CatalogData.

    Attributes:
        catalog: Has also `label` (place in `classes` for objects of a known class, else -1), `name` of the true class
            ('' where it is not told), `known` and `unknown` (whether it is told, and is or is not a known one; neither
            where no object of a known class is there to train on), and `photoz`, `photoz_err`, `mwebv`, `galactic`,
            `ddf`.
        classes: Names of the K classes that may be known; those that are left out stay without objects to train on.
        curves: What the user says of tables whose columns have names that are not known.
        batches: Batches as the objects are.
    """

    noun = "objects"
    classes: list[str]
    curves: CurveNames

    def __init__(
        self,
        source: Any = None,
        *,
        balance: float = 0.5,
        augment: CurveAugment | Literal[False] | None = VIEWS,
        **options: Any,
    ) -> None:
        super().__init__(source, balance=balance, **options)
        self.augment = augment or None

    def load(self, root: Path) -> tuple[pd.DataFrame, list[LightCurves]]:
        """Reads and checks a task's files.

        Args:
            root: Their folder.

        Returns:
            A catalog with `id`, `split` (train, test or survey), `label`, `name`, `unknown`, `known` and conditions,
            and `object` where the users' names of objects are no ids; and the observations of at least these objects, a
            split's in one store.

        Raises:
            DataError: If a file cannot be used.
        """
        raise NotImplementedError  # each task has its own files

    def load_survey(self, given: Sequence[Path | pd.DataFrame]) -> tuple[pd.DataFrame, list[LightCurves]]:
        """Reads objects that are to be ranked, as `load`: a folder, or tables as files or as DataFrames."""
        raise NotImplementedError  # each task has its own files

    def setup(self, stage: str | None = None) -> None:
        if self.catalog is not None:
            return
        catalog, stores = self.load(self.source.folder())
        catalog = self.limited(catalog)
        self.assign_folds(catalog, 2)
        self._check_counts(catalog)
        self._show(catalog, stores)

    def open_survey(self, *given: Path | pd.DataFrame) -> None:
        """Makes the objects of a folder or of tables the whole catalog, all of them to be ranked."""
        self._show(*self.load_survey(given))

    def open_labelled(self, folder: Path) -> None:
        """Makes all objects of a task's files the catalog, not split, whose labelled ones may have been learnt from."""
        self._show(*self.load(folder))

    def stratify_by(self, catalog: pd.DataFrame) -> np.ndarray:
        """One column a class, 1 for its objects."""
        return np.eye(len(self.classes))[catalog["label"]]

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        training = self.trainer is not None and self.trainer.training
        return self.augment(batch) if training and self.augment is not None else batch

    def predict_dataloader(self) -> list[DataLoader[dict[str, Tensor]]]:
        """All objects, a loader a split, in the order of `predicted`."""
        return [self.plain_batches(self.rows(split)) for split in self.predicted]

    @property
    def targets(self) -> Tensor:
        return self.batches.targets

    def rows_of(self, ids: np.ndarray) -> Tensor:
        """Rows of the catalog of some objects, in the order of their ids, which are the users' names of them."""
        assert self.catalog is not None
        return torch.from_numpy(pd.Index(self.catalog[name_column(self.catalog)]).get_indexer(ids))

    @property
    def predicted(self) -> list[str]:
        """Splits that have objects."""
        assert self.catalog is not None
        return [split for split in SPLITS if (self.catalog["split"] == split).any()]

    def plain_batches(self, rows: Tensor) -> DataLoader[dict[str, Tensor]]:
        """Some rows of the catalog, as they are and in their order."""
        return loader(self.shown[False], RowSampler(rows, max(self.batch_size, PREDICTED)), self.workers)

    def _show(self, catalog: pd.DataFrame, stores: list[LightCurves]) -> None:
        """Makes batches of a catalog's rows."""
        self.catalog = catalog
        lost = catalog["photoz"].isna() & ~catalog["galactic"]
        if lost.any():
            self.notes.append(
                f"{int(lost.sum()):,} objects have no photometric redshift; they are taken to lie at "
                f"{LOST[0]:g} +- {LOST[1]:g}."
            )
        given = catalog[list(CONDITIONS)].astype(np.float32).fillna(0.0)
        given.loc[lost, ["photoz", "photoz_err"]] = LOST
        conditions = torch.from_numpy(given.to_numpy())
        labels = torch.tensor(catalog["label"].to_numpy(np.int64))
        self.batches = CurveBatches(stores, catalog["id"].to_numpy(), conditions, labels)
        self.shown = {True: self.batches, False: self.batches}

    def _check_counts(self, catalog: pd.DataFrame) -> None:
        """Makes sure that there is something to learn from; classes without a training object are not known ones."""
        parts = {split: catalog[catalog["split"] == split] for split in ("train", "val")}
        taught = set(parts["train"]["label"])
        if min(map(len, parts.values())) < FEWEST or len(taught) < 2:
            raise DataError(
                f"{self.source.path}: {len(parts['train']):,} objects of {len(taught)} known classes are left to train "
                f"on and {len(parts['val']):,} to validate by; at least {FEWEST} each, of 2 classes, are needed. Give "
                "more objects, or leave fewer classes out."
            )
        untaught = catalog["known"] & ~catalog["label"].isin(taught)
        if untaught.any():
            catalog.loc[untaught, "known"] = False
            names = ", ".join(sorted(set(catalog.loc[untaught, "name"])))
            self.notes.append(
                f"there is no object to train on of the class {names}: its {int(untaught.sum()):,} objects count "
                "neither as known nor as unknown."
            )
