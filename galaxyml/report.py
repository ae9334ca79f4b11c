"""A run's or a sweep's folder -> report.md with its figures: `python -m galaxyml.report FOLDER`."""

import shlex
import sys
from pathlib import Path
from typing import Any

from galaxyml.errors import UserError
from galaxyml.runs import RunDir

TITLES = {
    "val": "Validation galaxies, each predicted by a model that has not seen it",
    "test": "Test galaxies",
}
VARIANTS = {"": "model", "net_": "before the constraints", "mean_": "column mean"}


def write(run: RunDir, metrics: dict[str, Any]) -> Path:
    """Writes `report.md` of a run or sweep with its numbers, and tells where it is."""
    provenance = run.provenance()
    counts = provenance["data"]["objects"]
    lines = [
        f"# {run.config.task}: {run.path.parent.name if run.name.startswith('fold') else run.name}, {_what(run)}",
        "",
        "```",
        _command(provenance["command"]),
        "```",
        "",
        f"{counts['train'] + counts['val']:,} labelled galaxies and {counts['test']:,} to predict, from "
        f"{provenance['data']['source']} (`{provenance['data']['folder']}`).",
        *(f"- {note}" for note in provenance["data"]["notes"]),
    ]
    for split in TITLES:
        if table := summary(metrics, split):
            lines += ["", f"## {TITLES[split]}", "", *_markdown(table)]
    for split in TITLES:
        if table := by_column(metrics, split):
            lines += ["", f"## Column by column ({split})", "", *_markdown(table)]
    lines += ["", "## Figures", ""]
    lines += [f"![{path.stem}](figures/{path.name})" for path in run.figures()]
    versions = ", ".join(f"{name} {number}" for name, number in provenance["versions"].items())
    commit = provenance["commit"]
    lines += ["", "## Provenance", "", f"- seed {provenance['seed']}; {provenance['device']}", f"- {versions}"]
    if commit:
        lines += [f"- commit {commit}{' with uncommitted changes' if provenance['dirty'] else ''}"]
    lines += [f"- `{name}`: SHA-256 `{digest}`" for name, digest in provenance["data"]["sha256"].items()]
    return run.write_report("\n".join(lines) + "\n")


def summary(metrics: dict[str, Any], split: str) -> list[list[str]]:
    """A table of one split's metrics over all columns, header first; empty if there are none.

    The metrics that were also measured for the trivial predictor stand beside it; a sweep's have their mean and
    standard deviation over folds.
    """
    folds = metrics.get("folds", {})
    names = [
        name
        for key in metrics
        if key.startswith(f"{split}/")
        and key.count("/") == 1
        and not (name := key.split("/")[1]).startswith(("net_", "mean_"))
    ]
    if not names:
        return []
    rows = [["metric", *VARIANTS.values(), *(["folds: mean ± std"] if folds else [])]]
    for name in names:
        values = [_number(metrics.get(f"{split}/{variant}{name}")) for variant in VARIANTS]
        found = folds.get(f"{split}/{name}")
        over = [_over_folds(found)] if folds else []
        rows.append([name, *values, *over])
    return rows


def by_column(metrics: dict[str, Any], split: str) -> list[list[str]]:
    """A table of one split's metrics column by column, header first; empty if there are none."""
    columns = list(
        dict.fromkeys(key.split("/")[2] for key in metrics if key.startswith(f"{split}/") and key.count("/") == 2)
    )
    if not columns:
        return []
    keys = {"RMSE": "rmse", "column mean's": "mean_rmse", "Pearson": "pearson"}
    return [["column", *keys]] + [
        [column, *(_number(metrics.get(f"{split}/{key}/{column}")) for key in keys.values())] for column in columns
    ]


def _over_folds(found: dict[str, float] | None) -> str:
    if found is None:
        return ""
    if found["runs"] == 1:
        return f"{_number(found['mean'])} (one fold)"
    return f"{_number(found['mean'])} ± {_number(found['std'])} ({found['runs']})"


def _what(run: RunDir) -> str:
    members = run.members()
    return f"{len(members)} fold{'s' * (len(members) > 1)} joined" if members else run.name


def _command(argv: list[str]) -> str:
    return shlex.join(["python", "-m", "galaxyml", *argv])


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
