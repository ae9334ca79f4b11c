"""Several runs made into one: folds joined to out-of-fold predictions, test predictions averaged."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from galaxyml.errors import UserError
from galaxyml.runs import RunDir


def ensemble(runs: list[RunDir], into: RunDir) -> None:
    """Writes the catalog and the predictions of all runs together.

    Validation predictions are joined, each object predicted by the run that has not seen it; test and survey
    predictions are averaged. They are what the nets said, and the stages follow; where nets do not speak of the same
    (latents), they are what the runs' own stages made of it.

    Args:
        runs: Finished runs of one sweep, each with its own fold.
        into: Where the joined files go.

    Raises:
        UserError: If the runs hold different objects or folds, or hold an object out twice.
    """
    catalogs = [run.catalog() for run in runs]
    first = catalogs[0].copy()
    for run, catalog in zip(runs, catalogs, strict=True):
        if not (catalog["id"].equals(first["id"]) and catalog["fold"].equals(first["fold"])):
            raise UserError(f"{run.path} has other objects or other folds than {runs[0].path}; they cannot be joined.")
    held_out = np.stack([(catalog["split"] == "val").to_numpy() for catalog in catalogs])
    if (held_out.sum(axis=0) > 1).any():
        raise UserError(f"{into.path}: two runs hold out the same objects; a sweep joins each fold once.")
    unseen = first["split"].where(~first["split"].isin(["train", "val"]), "train")
    first["split"] = np.where(held_out.any(axis=0), "val", unseen)
    into.write_catalog(first)
    made = runs[0].provenance()
    into.write_provenance(made["seed"], made["device"], made["data"], joined=runs)
    for split in ("val", "test", "survey"):
        there = [by for by in runs[0].tables_of_predictions(split) if by.startswith("net")] or [""]
        for by in there:
            tables = [table for run in runs if (table := run.predictions(split, by=by)) is not None]
            if not tables:
                continue
            order = first.loc[first["split"] == split, "id"]
            alike = all(table["id"].equals(tables[0]["id"]) for table in tables)
            joined = (mean_table(tables) if alike else pd.concat(tables)).set_index("id").loc[order].reset_index()
            into.write_predictions(split, joined, by=by)
            if by == "net":
                into.write_predictions(split, joined)


def mean_table(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean over nets of what they say of the same objects, in single precision; `id` stays where there is one."""
    columns = [name for name in tables[0].columns if name != "id"]
    values = np.stack([table[columns].to_numpy() for table in tables]).mean(axis=0, dtype=np.float64)
    return tables[0].assign(**dict(zip(columns, values.astype(np.float32).T, strict=True)))


def spread(runs: list[RunDir]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation over runs of every metric that they share; the latter is 0 for one run."""
    metrics = [run.metrics() for run in runs]
    shared = [name for name in metrics[0] if all(name in other for other in metrics)]
    return {
        name: {
            "mean": float(np.mean(values := [found[name] for found in metrics])),
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
            "runs": len(values),
        }
        for name in shared
    }
