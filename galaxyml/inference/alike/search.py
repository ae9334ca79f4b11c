"""Searches a set for what is most like others; says, writes and draws what was found."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from galaxyml.data.inputs import GIVEN
from galaxyml.data.tables.writing import Field, check_format, write_table
from galaxyml.inference.alike.searched import SearchedSet, open_set
from galaxyml.inference.alike.sheet import Answer, sheet, shown, similarity
from galaxyml.inference.columns import fields_of
from galaxyml.inference.embedded import embed
from galaxyml.inference.light_curve_predictor import LightCurvePredictor
from galaxyml.inference.predict import load_run
from galaxyml.inference.predictor import Predictor
from galaxyml.reports.terminal import print_table
from galaxyml.runs.errors import shorten
from galaxyml.runs.files import atomic_write
from galaxyml.runs.packaged import packaged

PRINTED = 5  # objects whose nearest are printed
BESIDE = ("class", "known", "nearest_known_class", "true_class")  # columns that are printed, too


@dataclass(frozen=True)
class _Asked:
    """Objects that are searched for.

    Attributes:
        names: What they are called.
        features: What they are compared by, shape (Q, F).
        pictures: Show each in so many pixels a side.
        own: Where they are in the set; -1 for those that are not taken from it.
    """

    names: Sequence[str]
    features: np.ndarray
    pictures: Sequence[Callable[[int], Image.Image]]
    own: Sequence[int]


def alike(
    run: Path,
    queries: Sequence[str],
    among: Sequence[str] = (),
    ids: Sequence[str] = (),
    count: int = 10,
    out: Path | None = None,
    picture: Path | None = None,
    exact: bool = False,
) -> pd.DataFrame:
    """The objects of a set that are most like others; prints them, and writes a table and a sheet.

    Args:
        run: Folder of a finished run, of a sweep whose folds were joined, or a bundle.
        queries: What to search for: images as for `galaxyml predict`; light curves in tables, or ids of the set.
        among: The set, see `galaxyml.inference.alike.searched.open_set`; nothing for what the run has learnt from.
        ids: Objects of the set to search for, each of which is left out of its own answer.
        count: How many are wanted of each.
        out: The table, in one of the formats of `galaxyml.data.tables.writing`; None for none.
        picture: A PNG that shows them; None for none.
        exact: Whether all objects are compared, however many there are.

    Returns:
        One row for each of the nearest: `query`, `rank` from 1, `similarity` (the cosine, in [-1, 1]), and what the
        table of the set has: `id`, `path`, predictions and so on, those of the same names as `<column>_given`.

    Raises:
        UserError: If the run or the set cannot be used, an object is not there, or no image can be read.
    """
    if out is not None:
        check_format(out)
    predictor = load_run(run, queries, for_features=True)
    source = packaged(run)
    of_curves = isinstance(predictor, LightCurvePredictor)
    paths = [query for query in queries if not of_curves or Path(query).expanduser().exists()]
    asked = [_from_files(predictor, source, paths)] if paths else []
    bad: list[str] = []
    searched = open_set(predictor, source, among, bad, exact)
    if bad:
        total = len(searched) + len(bad)
        print(f"{len(bad):,} of {total:,} images of the set cannot be read: {shorten(bad, '; ')}", file=sys.stderr)
    if names := [*(query for query in queries if query not in paths), *ids]:
        asked.append(_from_set(searched, names))
    answers, table = _answered(searched, asked, count)
    _print(answers, table)
    if out is not None:
        _write(predictor, table, out)
    if picture is not None:
        _draw(answers, searched, picture)
    written = [str(path) for path in (out, picture) if path is not None]
    objects = f"{len(answers):,} object{'s' * (len(answers) > 1)}"
    said = f"the nearest to {objects} among the {len(searched):,} of {searched.name}, by {searched.by}"
    print(": ".join([said, ", ".join(written)] if written else [said]))
    return table


def _from_files(predictor: Predictor, source: Path, paths: Sequence[str]) -> _Asked:
    """Objects in files; those that cannot be read are named and left out, if there are others."""
    bad: list[str] = []
    found = embed(predictor, source, paths, bad=bad)
    if bad:
        total = len(found) + len(bad)
        print(f"{len(bad):,} of {total:,} images cannot be read: {shorten(bad, '; ')}", file=sys.stderr)
    pictures = [partial(found.gallery.picture, row) for row in range(len(found))]
    return _Asked(found.ids, found.features, pictures, [-1] * len(found))


def _from_set(searched: SearchedSet, names: Sequence[str]) -> _Asked:
    """Objects of the set itself, by their ids."""
    rows = [searched.row(name) for name in dict.fromkeys(names)]
    pictures = [partial(searched.picture, row) for row in rows]
    return _Asked(list(dict.fromkeys(names)), searched.features(np.array(rows)), pictures, rows)


def _answered(searched: SearchedSet, asked: Sequence[_Asked], count: int) -> tuple[list[Answer], pd.DataFrame]:
    """The nearest of all objects that are searched for: one by one, and as a table."""
    found: list[tuple[str, Callable[[int], Image.Image], np.ndarray, np.ndarray]] = []
    for some in asked:
        spare = any(row >= 0 for row in some.own)  # for the object itself
        nearest = zip(*searched.nearest(some.features, count + spare), strict=True)
        for name, picture, own, (rows, similarities) in zip(some.names, some.pictures, some.own, nearest, strict=True):
            others = np.flatnonzero(rows != own)[:count]
            found.append((name, picture, rows[others], similarities[others]))
    beside = searched.table(np.concatenate([rows for _, _, rows, _ in found]))
    columns = {
        "query": np.concatenate([np.full(len(rows), name, object) for name, _, rows, _ in found]),
        "rank": np.concatenate([np.arange(1, len(rows) + 1) for _, _, rows, _ in found]),
        "similarity": np.concatenate([similarities for _, _, _, similarities in found]),
    }
    ids = iter(beside["id" if "id" in beside else "object_id"].astype(str))
    answers = [Answer(*answer, names=list(islice(ids, len(answer[2])))) for answer in found]
    return answers, _beside(beside, columns)


def _beside(table: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """Columns, and behind them those of the set's table."""
    given = table.rename(columns=lambda name: f"{name}{GIVEN}" if name in columns else name)
    return pd.concat([pd.DataFrame(dict(columns), index=given.index), given], axis=1)


def _print(answers: Sequence[Answer], table: pd.DataFrame) -> None:
    """Prints the nearest of the first few."""
    more = [name for name in BESIDE if name in table]
    start = 0
    for answer in answers[:PRINTED]:
        rows = table.iloc[start : start + len(answer.rows)]
        start += len(answer.rows)
        cells = [
            [str(rank), name, similarity(value, 3), *(str(row[column]) for column in more)]
            for rank, name, value, (_, row) in zip(
                rows["rank"], answer.names, answer.similarities, rows.iterrows(), strict=True
            )
        ]
        print_table(f"most like {answer.name}", [["", "id", "similarity", *more], *cells], left=1)
    if len(answers) > PRINTED:
        print(f"and of {len(answers) - PRINTED:,} more objects")


def _write(predictor: Predictor, table: pd.DataFrame, out: Path) -> None:
    fields = fields_of(predictor.kind, list(table.columns)) | {
        "query": Field("the object that was searched for"),
        "rank": Field("by similarity, the most alike is 1", ucd="meta.number"),
        "similarity": Field("cosine of standardised features; 1 is the same", ucd="stat.correlation"),
    }
    with atomic_write(out, "Choose another --out.") as draft:
        notes = write_table(table, draft, fields, out.suffix)
    for note in notes:
        print(f"note: {note}")


def _draw(answers: Sequence[Answer], searched: SearchedSet, path: Path) -> None:
    count, most = shown(answers)
    if len(answers) > count or max(len(answer.rows) for answer in answers) > most:
        print(f"note: the sheet has room for {most:,} of the nearest of {count:,} objects.")
    with atomic_write(path, "Choose another --sheet.") as draft:
        sheet(answers, searched).save(draft)
