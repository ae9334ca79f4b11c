"""Light curves as ragged columns: read once from CSV files of any size, mapped from disk afterwards."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from galaxyml.data.light_curves.reader import COLUMNS
from galaxyml.data.light_curves.store import ADVICE, build, check_known
from galaxyml.runs.errors import DataError
from galaxyml.runs.files import atomic_write, digest, file_lock, known_digest

FORMAT = 1  # raised whenever a store would hold something else for the same files


@dataclass(frozen=True, eq=False)
class LightCurves:
    """Observations of N objects, M in all; those of object k are rows offsets[k]:offsets[k+1], by time, then band.

    Attributes:
        ids: Of the objects, shape (N,), int64; ascending as they are read.
        offsets: Shape (N+1,), int64.
        mjd: Modified Julian date in days, shape (M,), float64. As all columns, it may be a read-only map of a file.
        band: 0 to 5 in the order of `BANDS`, shape (M,), int8.
        flux: FLUXCAL units, shape (M,), float32.
        error: Its standard error, above 0, in the same units, shape (M,), float32.
        detected: Whether the survey's pipeline saw the object, shape (M,), bool.
        notes: What a user should know about the files, in sentences.
    """

    ids: np.ndarray
    offsets: np.ndarray
    mjd: np.ndarray
    band: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    detected: np.ndarray
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> "LightCurves":
        """Some objects, in the given order, in memory; rows (B,), or a mask (N,)."""
        rows, lengths, index = self._gather(rows)
        columns = {name: getattr(self, name)[index] for name in COLUMNS if name != "object"}
        return LightCurves(self.ids[rows], np.append(0, np.cumsum(lengths)), **columns, notes=self.notes)

    def padded(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """A batch: the observations of B objects, filled up to the longest of them, L (at least 1).

        Args:
            rows: Objects, shape (B,).

        Returns:
            `mjd` (float64), `band` (int64), `flux`, `error` (float32), `detected`, `mask` (bool), each of shape (B, L).
            Where `mask` is False there is no observation: mjd, band and flux are 0, error is 1.
        """
        _, lengths, index = self._gather(rows)
        mask = np.arange(lengths.max(initial=1)) < lengths[:, None]
        batch = {"mask": torch.from_numpy(mask)}
        for name, kind in COLUMNS.items():
            if name != "object":
                values = np.full(mask.shape, name == "error", np.int64 if name == "band" else kind)
                values[mask] = getattr(self, name)[index]
                batch[name] = torch.from_numpy(values)
        return batch

    def _gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Objects (B,), the lengths of their curves (B,), and where their observations stand, one after the other."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        rows = np.where(rows < 0, rows + len(self), rows)
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        ends = np.cumsum(lengths)
        index = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)
        return rows, lengths, index


def open_curves(paths: Sequence[Path], cache: Path, known_ids: np.ndarray | None = None) -> LightCurves:
    """Opens the light curves of some CSV files; reads them into a store first if that has not been done yet.

    A store is known by the content of its files. It appears whole or not at all; an interrupted reading goes on from
    the last gigabyte. Memory stays below 2 GB however large the files are, and whatever the order of their rows.

    Args:
        paths: CSV files, plain or .gz, with the columns object_id, mjd, passband, flux, flux_err, detected (or
            detected_bool) in any order. An object may be spread over several files.
        cache: Folder of all stores.
        known_ids: Ids that have metadata; None to take all.

    Raises:
        DataError: If a file is missing or cut off, a value is not allowed, an observation occurs with two fluxes, an
            object has no metadata, or the store cannot be written.
    """
    if missing := [path for path in paths if not path.is_file()]:
        raise DataError(f"{missing[0]} is missing. Put it there, or take its name out.")
    metadata_ids = None if known_ids is None else pd.Index(np.unique(known_ids))
    folder = cache / "light_curves" / digest([FORMAT, *(known_digest(path, cache) for path in paths)])
    curves = open_store(folder, lambda work: build(paths, work, metadata_ids))
    if metadata_ids is not None:
        check_known(", ".join(path.name for path in paths), curves.ids, metadata_ids)
    return curves


def open_store(folder: Path, make: Callable[[Path], Path]) -> LightCurves:
    """The curves of a store.

    Args:
        folder: Where it is, or will be.
        make: Builds it if it is not there, in a folder for what is half done, and gives the finished one.
    """
    if not (folder / "store.json").is_file():
        with file_lock(folder):
            if not (folder / "store.json").is_file():
                work = folder.with_name(f".{folder.name}.reading")
                with atomic_write(folder, ADVICE) as draft:
                    os.replace(make(work), draft)
                    (draft / "object.bin").unlink()
                    (draft / "state.json").unlink(missing_ok=True)
                shutil.rmtree(work, ignore_errors=True)
    columns = {name: np.memmap(folder / f"{name}.bin", kind, "r") for name, kind in COLUMNS.items() if name != "object"}
    notes = json.loads((folder / "store.json").read_text(encoding="utf-8"))["notes"]
    return LightCurves(np.load(folder / "ids.npy"), np.load(folder / "offsets.npy"), **columns, notes=tuple(notes))
