"""Folders of predictions made by hand, in the layout that `galaxyml predict … --out FOLDER/` leaves."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from galaxyml.trees.tree import DecisionTree

CLASSES = ("smooth", "disk", "merger|odd")


def write_folder(
    folder: Path,
    table: pd.DataFrame,
    kind: str,
    outputs: dict[str, str],
    shards: int = 4,
    failed: pd.DataFrame | None = None,
    missing: int = 0,
    **index: Any,
) -> Path:
    """Writes the folder, without the last `missing` of its parts."""
    (folder / "predictions").mkdir(parents=True)
    per_shard = -(-len(table) // shards)
    for number in range(shards - missing):
        rows = table.iloc[number * per_shard : (number + 1) * per_shard]
        path = folder / "predictions" / f"part-{number:05d}.parquet"
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), path)
    if failed is not None:
        failed.to_parquet(folder / "failed.parquet")
    content = {
        "version": 1,
        "task": "images",
        "kind": kind,
        "run": {"path": str(folder / "gone"), "digest": "0123"},
        "inputs": [{"given": str(folder / "table.csv")}],
        "rows": len(table) + (len(failed) if failed is not None else 0),
        "shards": shards,
        "rows_per_shard": per_shard,
        "outputs": outputs,
        "positions": ["ra", "dec"] if "ra" in table else None,
        "finished": None if missing else "2026-01-01T00:00:00",
        "software": {"galaxyml": "0.1.0"},
    }
    (folder / "index.json").write_text(json.dumps(content | index))
    return folder


def objects(count: int, seed: int = 0) -> pd.DataFrame:
    """Names and positions all over the sky, a few of them not known, and distances from the training set."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(-20, 400, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    ra[::97], dec[5::101] = np.nan, np.nan
    distance = rng.lognormal(-0.5, 0.4, count).round(2)  # with equal ones
    names = [f"g{number:05d}" for number in range(count)]
    paths = [f"images/{name}.png" for name in names]
    known = pd.DataFrame({"id": names, "path": paths, "ra": ra, "dec": dec})
    return known.assign(ood_distance=distance, ood=distance > 1)


def classes(count: int, seed: int = 0) -> pd.DataFrame:
    """Predictions of three classes."""
    shares = np.random.default_rng(seed + 1).dirichlet(np.full(len(CLASSES), 0.5), count).round(3)
    predicted = pd.DataFrame(shares, columns=list(CLASSES))
    predicted["class"] = np.array(CLASSES)[shares.argmax(1)]
    predicted["confidence"] = shares.max(1)
    return pd.concat([objects(count, seed), predicted], axis=1)


def fractions(count: int, seed: int = 0) -> pd.DataFrame:
    """Vote fractions that obey Kaggle's tree, with intervals."""
    rng = np.random.default_rng(seed + 2)
    columns: dict[str, np.ndarray] = {}
    for question in DecisionTree.load("kaggle").questions:
        asked = np.sum([columns[lead] for lead in question.after], axis=0) if question.after else np.ones(count)
        for column, share in zip(
            question.columns, rng.dirichlet(np.full(len(question.columns), 0.4), count).T, strict=True
        ):
            columns[column] = asked * share
    ends = {f"{name}_low95": values - 0.1 for name, values in columns.items()}
    return pd.concat([objects(count, seed), pd.DataFrame(columns | ends)], axis=1)
