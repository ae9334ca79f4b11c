"""A catalog with its split, and batches of its rows: what the data of all tasks share."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from galaxyml.data.batches import RowSampler, loader
from galaxyml.data.source import CACHE, Source, as_source
from galaxyml.data.splits import TEST, Holdout, Split
from galaxyml.runs.errors import DataError, UserError, did_you_mean
from galaxyml.runs.files import known_digest
from galaxyml.runs.ranges import check_fold, check_whole
from galaxyml.runs.seeds import derive

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test", "survey")
LEFT_OUT = "left out"  # the split of an object that a run neither learns from nor is judged by
UNKNOWN = -1  # the label of an object whose class is not known


@dataclass(frozen=True)
class Step:
    """One step from a catalogue to the sample: what it asked for, and how many rows were there before and after.

    Attributes:
        what: Such as `has an image`.
        before: Rows before.
        after: Rows after.
    """

    what: str
    before: int
    after: int


def as_text(catalog: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Those columns that there are, as short text without tabs or breaks; numbers with four digits."""
    shown = catalog[[name for name in columns if name in catalog]]
    return shown.apply(lambda column: column.map(_text))


def _text(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
    return " ".join(text.split()) or "?"


def check_counts(labels: pd.Series, classes: Sequence[str], where: str, advice: str) -> list[str]:
    """Makes sure that there is something to learn from; gives notes on classes without objects.

    Args:
        labels: Of the labelled objects, 0 to K - 1.
        classes: Names of the K classes.
        where: The file that they come from.
        advice: What the user can do.

    Raises:
        DataError: If there are no objects, or fewer than two classes have any.
    """
    if labels.empty:
        raise DataError(f"{where}: no galaxies are left after the cuts. {advice}")
    counts = np.bincount(labels, minlength=len(classes))
    if (counts > 0).sum() < 2:
        only = classes[int(counts.argmax())]
        raise DataError(f"{where}: all {len(labels):,} galaxies that are left are of the class '{only}'. {advice}")
    missing = [name for name, count in zip(classes, counts, strict=True) if not count]
    return [f"no galaxy is of the class {', '.join(missing)}."] if missing else []


class CatalogData(lightning.LightningDataModule):
    """Objects with their targets, split. What their batches hold is the subclass' to say.

    Args:
        source: The folder of files, or where they come from; None for `data/<task>` if it is there, otherwise the
            simulated sky, which is drawn once, in a minute or more. Fewer objects are drawn by
            `galaxyml.sky.write_<task>(folder, count=300, seed=0)`; give that folder.
        kind: The kind of target, see `galaxyml.kinds`.
        fold: Fold that is held out for validation.
        split: Deals labelled objects into folds, and a test part where the task's files have none; None for the task's
            own, with five folds.
        seed: Decides folds and the order of batches.
        balance: How evenly groups (classes; surveys) are drawn for training: 0 deals each object once an epoch, 1 draws
            all groups equally often, 0.5 lies between.
        batch_size: Objects a step.
        workers: Processes that gather batches; None for 0 without a GPU and 2 with one.
        limit: Largest number of labelled, and of test, objects; None for all.
        train_limit: Largest number of objects to train on, the others left out; None for all. Fewer are a part of more,
            and validation and test objects stay the same: so runs with several are a learning curve.
        cache_dir: Folder of what is made of the files once; `~` is the home folder.

    Attributes:
        catalog: After `setup`: `id`, `split` (one of `SPLITS`; `survey` are objects to be ranked, most of them without
            a label), `fold` (-1 for those that no run trains on or chooses by) and whatever else the
            task's tables tell; one row an object.
        steps: How the catalog came about, from the tables to the sample.
        notes: What a user should know about these files, in sentences.
        artifacts: Tables that a run keeps as CSV, by name.
        shown: Batches for training, and for validation and predictions.
    """

    task: str  # the name of the folder below `data/`, and of `galaxyml.sky.write_<task>`
    noun: str  # what the objects are, for the report
    tables: tuple[str, ...] = ()  # files whose digests are kept with a run
    simulated: ClassVar[Mapping[str, Any]]  # how many objects the simulated sky of the task has, how large, and so on
    own_split: Split = Holdout()
    shown: dict[bool, Dataset[dict[str, Tensor]]]  # by whether they are for training

    def __init__(
        self,
        source: Source | Path | str | None = None,
        *,
        kind: Any,
        fold: int = 0,
        split: Split | None = None,
        seed: int = 0,
        balance: float = 0.0,
        batch_size: int = 64,
        workers: int | None = None,
        limit: int | None = None,
        train_limit: int | None = None,
        cache_dir: str = CACHE,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            bases = type(self).__mro__[: type(self).__mro__.index(CatalogData) + 1]
            names = {name for base in bases for name in signature(base).parameters} - {"options", "unknown"}
            name = next(iter(unknown))
            raise UserError(f"{type(self).__name__} has no argument '{name}'. {did_you_mean(name, names)}")
        split = split if split is not None else self.own_split
        check_fold(fold, split.folds)
        if limit is not None and limit < split.folds + split.has_test:
            raise UserError(
                f"folds={split.folds}: limit={limit} leaves fewer objects than the split has parts. Choose fewer "
                "folds=…, or a higher limit=…."
            )
        if train_limit is not None:
            check_whole("train_limit", train_limit, 1)
        if not 0 <= balance <= 1:
            raise UserError(f"balance={balance}: it must be a number in [0, 1]; 0 is as they come, 1 is all alike.")
        self.source = as_source(source, self.task, self.simulate, cache_dir)
        self.kind = kind
        self.cache = Path(cache_dir).expanduser()
        self.fold, self.split, self.seed = fold, split, seed
        self.balance, self.batch_size = balance, batch_size
        self.workers = workers if workers is not None else 2 * torch.cuda.is_available()
        self.limit, self.train_limit = limit, train_limit
        self.steps: list[Step] = []
        self.notes: list[str] = []
        self.artifacts: dict[str, pd.DataFrame] = {}
        self.catalog: pd.DataFrame | None = None

    @classmethod
    def simulate(cls) -> "partial[None]":
        """Function of a folder that writes the task's files there as the simulated sky has them.

        Raises:
            UserError: If it has none of this task.
        """
        import galaxyml.sky

        write = getattr(galaxyml.sky, f"write_{cls.task}", None)
        if write is None:
            raise UserError(f"{cls.__name__}: there is no simulated sky for it. Give the folder of its files.")
        return partial(write, seed=0, **cls.simulated)

    def check_files(self) -> None:
        """Makes sure that the task's files are where they are looked for; the simulated sky is drawn when it is needed.

        Raises:
            DataError: If they are not; the message says where they can be had.
        """
        if (folder := self.source.ready_folder()) is not None:
            self.check_folder(folder)

    def check_folder(self, root: Path) -> None:
        """Raises DataError if a folder lacks a file of the task's, as far as that shows before tables are read."""

    @property
    def targets(self) -> Tensor:
        """Targets of all rows, as the kind has them."""
        raise NotImplementedError  # images and light curves keep them in different places

    def log_step(self, what: str, before: int, after: int) -> None:
        """Counts a step from the tables to the sample, and says it at once."""
        self.steps.append(Step(what, before, after))
        log.info("%s: %s of %s kept", what, f"{after:,}", f"{before:,}")

    def rows(self, split: str) -> Tensor:
        """Rows of the catalog in one split."""
        assert self.catalog is not None
        return torch.from_numpy(np.flatnonzero(self.catalog["split"] == split))

    def training_targets(self) -> Tensor:
        """Targets of the training objects, which models and trivial predictors may learn from."""
        return self.targets[self.rows("train")]

    def groups(self) -> Tensor | None:
        """Numbers of what `balance` draws evenly, of all rows: classes; None where there are none."""
        return self.targets if not self.targets.is_floating_point() else None

    def row_weights(self, rows: Tensor) -> Tensor | None:
        """How often rows are drawn, the frequency of their group to the power of -balance; None for once an epoch."""
        groups = self.groups() if self.balance else None
        if groups is None:
            return None
        return torch.bincount(groups[rows]).double()[groups[rows]] ** -self.balance

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        rows = self.rows("train")
        seed = derive(self.seed, "batches", self.fold)
        return loader(self.shown[True], RowSampler(rows, self.batch_size, seed, self.row_weights(rows)), self.workers)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return self.plain_loader("val")

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        rows = self.rows("test")
        target = self.targets[rows].flatten(1) if self.targets.ndim > 1 else self.targets[rows][:, None]
        has_target = (target >= 0).any(1) if not target.is_floating_point() else (~target.isnan()).any(1)
        if not has_target.any():
            raise UserError(
                f"{self.source.path}: no target of a test object is known, so there is nothing to test on. "
                "trainer.predict gives predictions; trainer.validate judges on the held-out fold."
            )
        return loader(self.shown[False], RowSampler(rows[has_target], self.batch_size), self.workers)

    def plain_loader(self, split: str, limit: int | None = None) -> DataLoader[dict[str, Tensor]]:
        """Objects of a split in the catalog's order; of more than `limit` some that are drawn by the seed."""
        rows = self.rows(split)
        if limit is not None and len(rows) > limit:
            drawing = torch.Generator().manual_seed(derive(self.seed, "some rows"))
            rows = rows[torch.randperm(len(rows), generator=drawing)[:limit]].sort().values
        return loader(self.shown[False], RowSampler(rows, self.batch_size), self.workers)

    def digests(self) -> dict[str, str]:
        """SHA-256 of each of the task's tables that is there."""
        paths = {name: self.source.path / name for name in self.tables}
        return {name: known_digest(path, self.cache) for name, path in paths.items() if path.is_file()}

    def describe(self) -> dict[str, Any]:
        """Facts about the data that a run needs to be repeated, and to be reported."""
        assert self.catalog is not None
        counts = {split: int((self.catalog["split"] == split).sum()) for split in SPLITS}
        files = {"source": self.source.name, "folder": str(self.source.path.resolve()), "things": self.noun}
        steps = [asdict(step) for step in self.steps]
        history = {"steps": steps, "notes": self.notes, "artifacts": list(self.artifacts)}
        return {**files, "sha256": self.digests(), "objects": counts, **history}

    def limited(self, catalog: pd.DataFrame) -> pd.DataFrame:
        """At most `limit` objects of each split, drawn by the seed; notes it."""
        if self.limit is None:
            return catalog
        shuffled = catalog.sample(frac=1, random_state=derive(self.seed, "limit"))
        sample = shuffled.groupby("split").head(self.limit).sort_index()
        if len(sample) < len(catalog):
            self.notes.append(f"limit={self.limit}: {len(sample):,} of {len(catalog):,} objects used.")
        return sample.reset_index(drop=True)

    def stratify_by(self, catalog: pd.DataFrame) -> np.ndarray:
        """Numbers in which all parts of the split should look alike, shape (N, K)."""
        return self.kind.stratify_by(catalog)

    def assign_folds(self, catalog: pd.DataFrame, column: int, objects: np.ndarray | None = None) -> None:
        """Splits the labelled objects of a catalog, in place: `fold`, and val, test and left-out ones among `split`.

        Args:
            catalog: With `split`; objects of `train` are labelled.
            column: Number of the new column.
            objects: A number an object, the same for rows that are one object, shape (N,); None if all differ.
        """
        labelled = (catalog["split"] == "train").to_numpy()
        groups = objects[labelled] if objects is not None else None
        fold = np.full(len(catalog), TEST)
        fold[labelled] = self.split(self.stratify_by(catalog[labelled]), derive(self.seed, "folds"), groups)
        catalog.insert(column, "fold", fold)
        catalog.loc[labelled & (fold == TEST), "split"] = "test"
        catalog.loc[fold == self.fold, "split"] = "val"
        train = np.flatnonzero(catalog["split"] == "train")
        if self.train_limit is not None and self.train_limit < len(train):
            others = np.random.default_rng(derive(self.seed, "train_limit")).permutation(train)[self.train_limit :]
            catalog.loc[catalog.index[others], "split"] = LEFT_OUT
            self.notes.append(f"train_limit={self.train_limit}: {self.train_limit:,} of {len(train):,} are trained on.")
