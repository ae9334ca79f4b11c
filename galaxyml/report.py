"""A run's or a sweep's folder -> report.md with its figures: `python -m galaxyml.report FOLDER`."""

import re
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

from galaxyml.errors import UserError
from galaxyml.runs import RunDir

TITLES = {
    "val": "Validation {things}, each predicted by a model that has not seen it",
    "test": "Test {things}",
    "survey": "{Things} of the survey",
}
# Which metrics stand beside a run's own, by the beginning of their names.
VARIANTS = {
    "": "model",
    "net_": "net alone",
    "normalised_": "normalised",
    "projected_": "projected",
    "mean_": "column mean",
    "untrained_": "untrained",
    "head_": "head alone",
    "majority_": "majority class",
    "random_": "random",
    "features_": "plain features",
    "class_features_": "features by class",
    "latents_": "latents alone",
    "forest_": "one forest",
    "class_forests_": "forest a class",
    "neighbours_": "neighbours",
    "mahalanobis_": "Mahalanobis",
    "svm_": "one-class SVM",
    "ecod_": "ECOD",
    "classifier_": "classifier",
}
TRIVIAL = tuple(VARIANTS)[1:]
SIMPLER = ("mean_", "majority_", "random_", "features_", "class_features_")  # those that see no net
CONSTRAINED = ("normalised_", "projected_")  # for which a terminal has no room
WIDEST = 12  # columns of a table of combinations
ENDS = ("_low", "_high")  # of a 95 % interval, by the end of a metric's name
BY_COLUMN = {
    "rmse": "RMSE",
    "mean_rmse": "column mean's",
    "pearson": "Pearson",
    "pearson_drop": "lost",
    "r2": "R2",
    "mae": "MAE",
    "published_pearson": "flattened r, unasked as 0",
    "published_constant": "a constant's",
    "fraction_ece": "fractions' ECE",
    "argmax_accuracy": "top answer right",
    "argmax_ece": "its ECE",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "auc": "AUC",
    "roc_auc": "ROC AUC",
    "features_roc_auc": "plain features'",
    "pr_auc": "PR AUC",
    "prevalence": "prevalence",
    "support": "number",
    "coverage_50": "in 50 % interval",
    "coverage_80": "in 80 %",
    "coverage_95": "in 95 %",
}
WHOLE = ("support", "common_features")  # metrics that are counts
BRIEF = ("roc_auc", "pr_auc", "purity_25", "recall_25")  # where there is little room


def write(run: RunDir, metrics: dict[str, Any]) -> Path:
    """Writes `report.md` of a run or sweep with its numbers, and tells where it is."""
    provenance = run.provenance()
    data = provenance["data"]
    counts = data["objects"]
    things = data.get("things", "galaxies")
    tested = f" and {others:,} to test or predict" if (others := counts["test"] + counts.get("survey", 0)) else ""
    lines = [
        f"# {run.config.task}: {run.path.parent.name if run.name.startswith('fold') else run.name}, {_what(run)}",
        "",
        "```",
        _command(provenance["command"]),
        "```",
        "",
        f"{counts['train'] + counts['val']:,} {things} to learn from{tested}, from {data['source']} "
        f"(`{data['folder']}`).",
        *(f"- {note}" for note in data["notes"]),
    ]
    if steps := data.get("steps"):
        rows = [[step["what"], f"{step['after']:,}", f"{step['before'] - step['after']:,}"] for step in steps]
        lines += ["", "## From the tables to the sample", "", *_markdown([["step", "kept", "dropped"], *rows])]
    for split in TITLES:
        if table := summary(metrics, split):
            lines += ["", f"## {title(split, things)}", "", *_markdown(table)]
            if any(name.startswith(f"{split}/") and name.endswith(ENDS) for name in metrics):
                lines += ["", f"In brackets: 95 % of bootstrap resamples of the {things}."]
    if models := run.table_rows("models"):
        rows = [[_cell(value) for value in row.values()] for row in models]
        lines += ["", "## Models whose mean it is", "", *_markdown([list(models[0]), *rows])]
    for split in TITLES:
        if table := by_column(metrics, split):
            lines += ["", f"## One by one ({split})", "", *_markdown(table)]
    lines += ["", "## Figures", ""]
    lines += [f"![{path.stem}](figures/{path.name})" for path in run.figures()]
    if tables := run.tables():
        lines += ["", "## Tables", "", *(f"- [{path.stem}](tables/{path.name})" for path in tables)]
    versions = ", ".join(f"{name} {number}" for name, number in provenance["versions"].items())
    commit = provenance["commit"]
    lines += ["", "## Provenance", "", f"- seed {provenance['seed']}; {provenance['device']}", f"- {versions}"]
    if commit:
        lines += [f"- commit {commit}{' with uncommitted changes' if provenance['dirty'] else ''}"]
    lines += [f"- `{name}`: SHA-256 `{digest}`" for name, digest in data["sha256"].items()]
    return run.write_report("\n".join(lines) + "\n")


def title(split: str, things: str) -> str:
    """What a split is called in reports."""
    return TITLES[split].format(things=things, Things=things.capitalize())


def summary(
    metrics: dict[str, Any], split: str, intervals: bool = True, left_out: tuple[str, ...] = ()
) -> list[list[str]]:
    """A table of one split's metrics over all columns, header first; empty if there are none.

    The metrics that were also measured for a trivial predictor stand beside it, and come first; a sweep's have their
    mean and standard deviation over folds.

    Args:
        metrics: Of a run or a sweep.
        split: `val` or `test`.
        intervals: Whether the intervals stand beside the numbers.
        left_out: Of `VARIANTS`, those that do not stand beside them.
    """
    folds = {name: over for name, over in metrics.get("folds", {}).items() if over["runs"] > 1}
    every = [key.split("/")[1] for key in metrics if key.startswith(f"{split}/") and key.count("/") == 1]
    names = [name for name in every if not name.startswith(TRIVIAL) and not name.endswith(ENDS)]
    if not names:
        return []
    told = [prefix for prefix in TRIVIAL if prefix not in left_out]
    beside = [prefix for prefix in told if any(name.startswith(prefix) for name in every)]
    names.sort(key=lambda name: not any(f"{split}/{prefix}{name}" in metrics for prefix in beside))
    rows = [["metric", "model", *(VARIANTS[prefix] for prefix in beside), *(["folds: mean ± std"] if folds else [])]]
    for name in names:
        values = [_number(metrics.get(f"{split}/{prefix}{name}")) for prefix in beside]
        over = [_over_folds(folds.get(f"{split}/{name}"))] if folds else []
        own = _with_interval(metrics, f"{split}/{name}", intervals)
        rows.append([name, own, *values, *over])
    return rows


def turned(table: list[list[str]], most: int = 7) -> list[list[str]]:
    """A table that is wider than `most` columns with a row for each of them, and with the numbers that matter most.

    Args:
        table: As `summary` has it.
        most: Columns that fit a terminal.
    """
    if not table or len(table[0]) <= most:
        return table
    kept = [table[0], *(row for row in table[1:] if row[0] in BRIEF)]
    return [list(row) for row in zip(*kept, strict=True)]


def by_column(metrics: dict[str, Any], split: str) -> list[list[str]]:
    """A table of one split's metrics column by column, or class by class, header first; empty if there are none."""
    columns = list(
        dict.fromkeys(key.split("/")[2] for key in metrics if key.startswith(f"{split}/") and key.count("/") == 2)
    )
    if not columns:
        return []
    keys = [key for key in BY_COLUMN if any(f"{split}/{key}/{column}" in metrics for column in columns)]
    header = ["class" if {"f1", "roc_auc"} & set(keys) else "column", *(BY_COLUMN[key] for key in keys)]
    return [header] + [
        [column, *(_with_interval(metrics, f"{split}/{key}/{column}") for key in keys)] for column in columns
    ]


def compare(sweep: RunDir, joined: list[RunDir], monitor: str) -> Path:
    """Writes the `report.md` of a sweep over more than folds: one row a combination, then over seeds.

    It shows the monitored metric and those that a trivial predictor was measured by, of the test split and the survey
    where their truth is known.

    Args:
        sweep: The sweep's folder.
        joined: What was joined, one for each combination.
        monitor: The metric that the task is judged by, which comes first.
    """
    found = {run.name: run.metrics() for run in joined}
    shared = set.intersection(*(set(metrics) for metrics in found.values()))
    lines = [f"# {joined[0].config.task}: {sweep.name}, {len(joined)} combinations", ""]
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, metrics in found.items():
        groups.setdefault(_SEED.sub("", name).strip("_") or "all", []).append(metrics)
    told = [split for split in ("test", "survey") if any(key.startswith(_simpler(split)) for key in shared)]
    for split in told or ["val"]:
        keys = _compared(shared, split, monitor, list(next(iter(found.values()))))
        rows = [[name, *(_with_interval(metrics, key) for key in keys)] for name, metrics in found.items()]
        lines += _markdown([["combination", *keys], *rows])
        if any(len(members) > 1 for members in groups.values()):
            lines += ["", "## Over seeds: mean ± standard deviation", ""]
            rows = [[name, f"{len(each)}", *(_spread(each, key) for key in keys)] for name, each in groups.items()]
            lines += _markdown([["combination", "seeds", *keys], *rows])
        lines += [""]
    lines += ["In brackets: 95 % of bootstrap resamples of the objects.", ""]
    lines += [f"- [{run.name}](joined/{run.name}/report.md)" for run in joined]
    return sweep.write_report("\n".join(lines) + "\n")


def _simpler(split: str) -> tuple[str, ...]:
    """How the keys of a split begin that no net was needed for."""
    return tuple(f"{split}/{prefix}" for prefix in SIMPLER)


def _compared(shared: set[str], split: str, monitor: str, order: list[str]) -> list[str]:
    """Keys that combinations are compared by: the monitored one, and those that a trivial predictor was measured by."""
    names = [key.split("/")[1] for key in order if key.startswith(f"{split}/") and key in shared]
    beside = [name for name in names if any(f"{split}/{prefix}{name}" in shared for prefix in TRIVIAL)]
    keys = [monitor] if monitor in shared else []
    keys += [key for name in dict.fromkeys(beside) if (key := f"{split}/{name}") != monitor]
    if own := [key for key in keys if key.startswith(f"{split}/")]:
        # Beside the metric that counts first, what predictors that see no net make of it.
        after = keys.index(own[0]) + 1
        name = own[0].partition("/")[2]
        keys[after:after] = [key for prefix in _simpler(split) if (key := f"{prefix}{name}") in shared]
    if len(keys) > WIDEST:
        keys = [key for key in keys if key == monitor or key.endswith((*BRIEF, "balanced_accuracy"))]
    return keys


_SEED = re.compile(r"(^|_)seed-\d+(?=_|$)")


def _spread(members: list[dict[str, Any]], key: str) -> str:
    values = [metrics[key] for metrics in members]
    return _number(statistics.mean(values)) + (f" ± {_number(statistics.stdev(values))}" if len(values) > 1 else "")


def _with_interval(metrics: dict[str, Any], key: str, intervals: bool = True) -> str:
    """A number, with its interval in brackets where there is one and it is wanted."""
    split, name, *column = key.split("/")
    if name in WHOLE:
        return f"{metrics[key]:,.0f}" if key in metrics else ""
    ends = [metrics.get("/".join([split, name + end, *column])) for end in (ENDS if intervals else ())]
    text = _number(metrics.get(key))
    if not ends:
        return text
    return text if None in ends or not text else f"{text} [{ends[0]:.3f}, {ends[1]:.3f}]"


def _over_folds(found: dict[str, float] | None) -> str:
    if found is None:
        return ""
    return f"{_number(found['mean'])} ± {_number(found['std'])} ({found['runs']})"


def _what(run: RunDir) -> str:
    members = run.members()
    if run.is_ensemble:
        return f"{len(run.table_rows('models'))} models, {len(members)} nets"
    return f"{len(members)} fold{'s' * (len(members) > 1)} joined" if members else run.name


def _command(argv: list[str]) -> str:
    return shlex.join(["python", "-m", "galaxyml", *argv])


def _cell(value: Any) -> str:
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1e}" if 0 < abs(value) < 1e-4 else f"{value:.4f}"


def _markdown(table: list[list[str]]) -> list[str]:
    header, *rows = ["| " + " | ".join(row) + " |" for row in table]
    return [header, "|" + " --- |" * len(table[0]), *rows]


def main() -> None:
    """Writes the report of each folder that is named."""
    if not sys.argv[1:] or {"-h", "--help"} & set(sys.argv):
        sys.exit("usage: python -m galaxyml.report FOLDER…   writes FOLDER/report.md again")
    try:
        for folder in sys.argv[1:]:
            run = RunDir(folder)
            print(write(run, run.metrics()))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
