"""Finished runs whose outputs are averaged: `python -m galaxyml ensemble RUN RUN… --out FOLDER`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from galaxyml.runs.errors import UsageError, shorten
from galaxyml.runs.options import Parser

if TYPE_CHECKING:
    import pandas as pd

    from galaxyml.runs.run_dir import RunDir

EXAMPLES = """\
examples:
  python -m galaxyml ensemble multirun/galaxyzoo/small multirun/galaxyzoo/winner --out multirun/galaxyzoo/both
  python -m galaxyml ensemble multirun/galaxyzoo/*/fold-* --out ensemble --weights fitted

RUN is a sweep's folder, or a fold's. Folds of the same configuration become one model, which predicts out of fold;
models are averaged. The result is a run's folder: report, submission, and what galaxyml.inference.predict takes."""

WEIGHTS = ("uniform", "fitted")
MODELS = "models"  # the table of what was averaged


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and makes the ensemble."""
    parser = Parser(
        prog="galaxyml ensemble",
        description="Averages finished runs: folds and models, uniformly or with weights fitted out of fold.",
        epilog=EXAMPLES,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run or sweep")
    parser.add_argument("--out", type=Path, required=True, help="a folder that will be made")
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        default="uniform",
        help="equal weights (default), or those that predict validation objects best: at least 0, summing to 1",
    )
    given = parser.parse_args(arguments)
    ensemble(given.runs, given.out, given.weights)


def ensemble(folders: Sequence[Path], out: Path, weights: str = "uniform") -> None:
    """Joins the folds of each model, averages the models, and runs the stages of the first on the result.

    With fitted weights no validation object is predicted by weights that were fitted on it: those of a fold are fitted
    on the other folds (of a single fold on its other half). Test objects and new images have what was fitted on all.

    Args:
        folders: Of finished runs or sweeps.
        out: Does not exist yet, or is empty.
        weights: `uniform` or `fitted`.

    Raises:
        UserError: If a run is not finished, the runs do not hold the same objects, folds, columns or tree, their models
            do not predict the same validation objects, or `out` is in use.
    """
    import pandas as pd

    import galaxyml.sweeps.finish as sweep
    from galaxyml.evaluation import joined
    from galaxyml.runs.run_dir import RunDir
    from galaxyml.training.quiet import quiet

    quiet()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: it is there already. Choose another, or delete it.")
    groups = _models([RunDir(folder) for folder in folders])
    tables = _check(groups)
    catalog = groups[0][0].catalog()
    into = RunDir(out)
    into.copy_config(groups[0])
    shares, rows = np.full(len(groups), 1 / len(groups)), None
    if weights == "fitted":
        shares, rows = _fitted(groups, tables, catalog)
    joined.join(groups, into, shares, rows)
    monitor = into.config.monitor
    table = pd.DataFrame(
        {
            "model": [group[0].path.parent if len(group) > 1 else group[0].path for group in groups],
            "nets": [len(group) for group in groups],
            "weight": shares,
            monitor: [joined.spread(group).get(monitor, {}).get("mean", np.nan) for group in groups],
        }
    )
    into.write_table(MODELS, table)
    more = {"folds": joined.spread(groups[0])} if len(groups) == 1 else {}
    sweep.finish(into, more)
    sweep.show(into)


def _models(runs: "Sequence[RunDir]") -> "list[list[RunDir]]":
    """Single runs by their configuration: those that differ in their fold alone are one model.

    Raises:
        UserError: If a run is not finished, occurs twice, or is an ensemble or a sweep of several combinations.
    """
    from galaxyml.runs.run_config import PLACES, flat

    singles: list[RunDir] = []
    for run in runs:
        if not run.finished:
            combinations = sorted(path.name for path in (run.path / "joined").glob("*") if path.is_dir())
            if combinations:
                raise UsageError(
                    f"{run.path} holds several combinations ({shorten(combinations)}): name one or more of them, such "
                    f"as {run.path / 'joined' / combinations[0]}."
                )
            run.metrics()  # which says what is missing
        if run.is_ensemble:
            raise UsageError(f"{run.path} is an ensemble itself: name the runs that it was made of.")
        singles += run.nets()
    paths = [run.path.resolve() for run in singles]
    if twice := [path for path in paths if paths.count(path) > 1]:
        raise UsageError(f"{twice[0]} is named twice, by itself or as part of a sweep; name it once.")
    models: dict[str, list[RunDir]] = {}
    for run in singles:
        config = flat(run.config)
        same = {key: config[key] for key in sorted(config) if not key.startswith((*PLACES, "fold", "trainer."))}
        models.setdefault(repr(same), []).append(run)
    return list(models.values())


def _check(groups: "list[list[RunDir]]") -> "list[pd.DataFrame]":
    """Outputs of each model for validation objects, in the same order.

    Raises:
        UserError: If the runs' outputs cannot be averaged.
    """
    import pandas as pd

    from galaxyml.kinds import of_run

    first = groups[0][0]
    kind = of_run(first)
    if not kind.averaged:
        raise UsageError(f"{first.path} predicts {kind.words.targets}: outputs of different fits have no common mean.")
    catalog, columns = first.catalog(), list(_outputs(first).columns)
    tables: list[pd.DataFrame] = []
    for group in groups:
        outputs = []
        for run in group:
            if run is not first:
                _check_same(run, first, catalog)
            outputs.append(_outputs(run))
            if (others := list(outputs[-1].columns)) != columns:
                odd = sorted(set(columns) ^ set(others)) or ["their order"]
                raise UsageError(f"{run.path} predicts other columns than {first.path} ({shorten(odd)}). {_APART}")
        table = pd.concat(outputs).sort_values("id", kind="stable").reset_index(drop=True)
        if tables and not table["id"].equals(tables[0]["id"]):
            raise UsageError(
                f"{group[0].path.parent} predicts {len(table):,} validation galaxies out of fold (folds "
                f"{_folds(group)}), {first.path.parent} {len(tables[0]):,} (folds {_folds(groups[0])}): "
                "give the same folds of each model."
            )
        tables.append(table)
    return tables


def _check_same(run: "RunDir", first: "RunDir", reference: "pd.DataFrame") -> None:
    """Makes sure that a run predicts the same kind for the galaxies of another's catalog, on the same split."""
    from galaxyml.kinds import of_run

    for key, own, other in (
        ("task", run.config.task, first.config.task),
        ("kind", of_run(run).name, of_run(first).name),
    ):
        if own != other:
            raise UsageError(f"{run.path} has {key}={own}, {first.path} has {key}={other}: {_APART}")
    catalog = run.catalog()
    if not catalog[["id", "fold"]].equals(reference[["id", "fold"]]):
        raise UsageError(
            f"{run.path} has other galaxies or another split than {first.path}: {_differs(catalog, reference)}. A mean "
            f"would mix in nets that have learnt from a galaxy. {_APART}"
        )
    if run.provenance()["data"]["sha256"] != first.provenance()["data"]["sha256"]:
        raise UsageError(f"{run.path} and {first.path} were made from other tables (their SHA-256). {_APART}")


def _outputs(run: "RunDir") -> "pd.DataFrame":
    table = run.predictions("val", by="net")
    assert table is not None  # of a finished run
    return table


_APART = "Only runs on the same galaxies, split and columns can be averaged."


def _folds(group: "list[RunDir]") -> str:
    return ", ".join(str(run.config.fold) for run in group)


def _differs(catalog: "pd.DataFrame", reference: "pd.DataFrame") -> str:
    """In words, how two catalogs differ."""
    if len(catalog) != len(reference):
        return f"{len(catalog):,} and {len(reference):,} galaxies"
    if others := len(set(catalog["id"]) - set(reference["id"])):
        return f"{others:,} of {len(catalog):,} galaxies"
    moved = int((catalog.set_index("id")["fold"].loc[reference["id"]].to_numpy() != reference["fold"].to_numpy()).sum())
    return f"{moved:,} of {len(catalog):,} galaxies are in another fold" if moved else "their order"


def _out_of_fold(group: "list[RunDir]", by: str) -> "pd.DataFrame":
    """A table of validation predictions of all folds of a model, by id."""
    import pandas as pd

    tables = (run.predictions("val", by) for run in group)
    return pd.concat([table for table in tables if table is not None]).set_index("id")


def _fitted(
    groups: "list[list[RunDir]]", tables: "list[pd.DataFrame]", catalog: "pd.DataFrame"
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the models, and for each row of the catalog those that were fitted without its fold."""
    from galaxyml.kinds import of_run

    kind = of_run(groups[0][0])
    ids = tables[0]["id"]
    held_out = catalog.set_index("id").loc[ids]
    outputs = np.stack([_out_of_fold(group, kind.stacked).loc[ids].to_numpy(np.float64) for group in groups])
    if (weights := kind.ensemble_weights(outputs, held_out)) is None:
        raise UsageError(
            f"--weights fitted: targets are {kind.words.targets}, not numbers like the outputs. Use --weights uniform."
        )
    fold = held_out["fold"].to_numpy()
    parts = fold if len(set(fold)) > 1 else np.arange(len(fold)) % 2
    rows = np.tile(weights, (len(catalog), 1))
    for part in np.unique(parts):
        inside = parts == part
        rows[catalog["id"].isin(ids[inside]).to_numpy()] = kind.ensemble_weights(outputs[:, ~inside], held_out[~inside])
    return weights, rows
