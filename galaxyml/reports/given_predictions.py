"""Predictions that another tool has made of a run's objects, read from a table and compared as if they were a run's."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from galaxyml.data.tables.table_file import read_table_file
from galaxyml.kinds import of_run
from galaxyml.runs.errors import DataError, UserError, did_you_mean, shorten
from galaxyml.runs.run_dir import RunDir

SUM = 1e-2  # by which probabilities may miss 1, as rounded ones do


class GivenPredictions(RunDir):
    """A table of predictions for objects of a run, in the place of a run.

    Objects, their truth, and which of them are judged are those of the run.

    Args:
        path: The table: a column of ids, and the columns that the run predicts (fractions, probabilities of the
            classes, numbers, or `score`).
        run: The run that it is compared with.

    Raises:
        UserError: If a column is missing, the ids are not the run's, or a cell is no number.
    """

    def __init__(self, path: Path, run: RunDir) -> None:
        super().__init__(path)
        self._run = run
        self._catalog = run.catalog()
        self._ids = self._catalog["id"].astype(str)
        self._kind = of_run(run)
        self._table = self._read(list(self._kind.outputs))

    @property
    def started(self) -> bool:
        return self._run.started

    @property
    def finished(self) -> bool:
        return self._run.finished

    @property
    def config(self) -> DictConfig:
        return self._run.config

    def metrics(self) -> dict[str, Any]:
        return self._run.metrics()

    def catalog(self) -> pd.DataFrame:
        return self._catalog

    def predictions(self, split: str, by: str = "") -> pd.DataFrame | None:
        own = self._run.predictions(split)
        if own is None or by not in ("", "net" if self._kind.name == "classes" else ""):
            return None
        rows = self._table.index.get_indexer(pd.Index(own["id"].astype(str)))
        if not (rows >= 0).any():
            return None
        table = self._table.iloc[rows[rows >= 0]].reset_index(drop=True)
        table.insert(0, "id", own["id"].to_numpy()[rows >= 0])
        return table

    def _read(self, columns: list[str]) -> pd.DataFrame:
        """The predictions, by the objects' ids as text."""
        table = read_table_file(self.path).frame
        if missing := [name for name in columns if name not in table]:
            raise DataError(
                f"{self.path} has no column '{missing[0]}'. {did_you_mean(missing[0], map(str, table))} "
                f"{self._run.path} predicts {shorten(columns)}: name the columns of the table so."
            )
        ids = self._id_column(table, columns)
        values = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        known = ids.isin(set(self._ids)).to_numpy()
        bad = ~np.isfinite(values) & known[:, None]
        if self._kind.name == "votes":  # of a question that was not asked nothing need be predicted
            asked = self._catalog[columns].notna().set_axis(self._ids).reindex(ids, fill_value=False).to_numpy(bool)
            bad &= (table[columns] != "").to_numpy() | asked
        if bad.any():
            row, column = np.argwhere(bad)[0]
            cell = table[columns[column]].iloc[row]
            raise DataError(
                f"{self.path}, {ids.name} {ids.iloc[row]}: {columns[column]} is {cell!r}; it must be a number. "
                "Correct it or take the row out."
            )
        if (again := ids[known].duplicated()).any():
            raise DataError(f"{self.path} has two rows for {ids[known][again].iloc[0]}. Take one out.")
        sums = values[known].sum(axis=1)
        if self._kind.name == "classes" and (off := np.abs(sums - 1) > SUM).any():
            row = int(off.argmax())
            raise DataError(
                f"{self.path}: the probabilities of {ids[known].iloc[row]} sum to {sums[row]:.3g}; those of the "
                "classes sum to 1. Give probabilities, not scores."
            )
        return pd.DataFrame(values[known], index=ids[known].to_numpy(), columns=columns)

    def _id_column(self, table: pd.DataFrame, columns: list[str]) -> "pd.Series[str]":
        """The column that holds ids of the run, as text: `id`, or that which holds most of them."""
        others = [name for name in table if name not in columns]
        texts = {str(name): table[name].astype(str).str.strip().str.removesuffix(".0") for name in others}
        known = set(self._ids)
        held = {name: int(values.isin(known).sum()) for name, values in texts.items()}
        best = max(held, key=lambda name: (held[name], name == "id"), default=None)
        if best is None or not held[best]:
            begins = [f"{name} ({values.iloc[0]}, …)" for name, values in texts.items() if len(values)]
            raise UserError(
                f"{self.path} names none of the objects of {self._run.path}, such as {self._ids.iloc[0]}: its columns "
                f"besides the predictions are {shorten(begins) or 'none'}. Give it a column id with the run's ids."
            )
        return texts[best].rename(best)
