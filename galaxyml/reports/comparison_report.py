"""A comparison of runs as a page: the runs, and their differences as a figure and as tables."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from galaxyml.evaluation.plots import MODEL
from galaxyml.reports import run_report
from galaxyml.reports.html import web_page
from galaxyml.runs.files import write_text
from galaxyml.runs.run_dir import RunDir

if TYPE_CHECKING:
    import pandas as pd

    from galaxyml.evaluation.scored import ScoredPredictions

ALL = "all"  # columns, in the place of one's name
MOST = 40  # columns that a figure has room for


def write(
    path: Path, table: "pd.DataFrame", folders: Sequence[Path], example: "ScoredPredictions", resamples: int
) -> None:
    """Writes the page.

    Args:
        path: An `.html`.
        table: One row a metric and run, as `galaxyml.reports.compare.compare` has it for three runs or more.
        folders: The runs, the first of which the others are compared with.
        example: The first one's predictions.
        resamples: Of the bootstrap.
    """
    first, noun = RunDir(folders[0]), example.words.noun
    lines = [f"# {len(folders)} runs compared on {len(example.ids):,} {noun}"]
    lines += run_report.question(first.config) if first.started else []
    lines += ["", *(f"{number}. `{folder}`" for number, folder in enumerate(folders, start=1)), ""]
    sentence = f"Differences are the later runs' less the first's, paired over the same {noun}"
    if resamples:
        sentence += f"; in brackets 95 % of {resamples:,} bootstrap resamples, bold where they leave out 0. They "
        sentence += "allow for other objects, not for another training"
    lines.append(f"{sentence}.")
    with tempfile.TemporaryDirectory() as aside:
        if (figure := differences(table, example)) is not None:
            figure.savefig(Path(aside) / "differences.png", dpi=110, bbox_inches="tight")
            lines += ["", "![differences](differences.png)", "", f"*{_main(table, example)}: each run less the first.*"]
        for title, cells in tables(table, example):
            lines += ["", f"## {title}", "", *run_report.markdown(cells)]
        runs = {number: RunDir(folder) for number, folder in enumerate(folders, start=1)}
        begun = {number: run for number, run in runs.items() if run.started}
        commands = [f"{number}. `{run_report.command(run_report.typed(run))}`" for number, run in begun.items()]
        lines += ["", "## Made by", "", *commands] if commands else []
        lines += run_report.cited(first) if first.started else []
        write_text(path, web_page("\n".join(lines) + "\n", Path(aside)))


def differences(table: "pd.DataFrame", example: "ScoredPredictions") -> Figure | None:
    """Differences of the runs to the first one in the main metric, column by column, with their intervals.

    Args:
        table: As for `write`.
        example: The first run's predictions.

    Returns:
        None if the metric is not in the table.
    """
    metric = _main(table, example)
    rows = table[(table["metric"] == metric) & table["difference"].notna()]
    if rows.empty:
        return None
    rows = rows.assign(target=_targets(rows))
    targets = list(dict.fromkeys(rows["target"]))[:MOST]
    runs = list(dict.fromkeys(rows["run"]))
    figure = Figure(figsize=(8, 0.28 * len(targets) * len(runs) ** 0.5 + 1.2), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color="0.6", linewidth=0.8)
    for number, run in enumerate(runs):
        own = rows[rows["run"] == run].drop_duplicates("target").set_index("target").reindex(targets)
        heights = np.arange(len(targets)) + (number - (len(runs) - 1) / 2) * 0.7 / len(runs)
        value = own["difference"].to_numpy(float)
        ends = np.abs(own[["low", "high"]].to_numpy(float).T - value)
        style: dict[str, Any] = {"color": MODEL if len(runs) == 1 else f"C{number}", "markersize": 4, "linewidth": 1.2}
        axes.errorbar(value, heights, xerr=ends, fmt="o", label=f"run {number + 2}", **style)
    axes.set_yticks(np.arange(len(targets)), targets, fontsize=8)
    axes.set(ylim=(len(targets) - 0.4, -0.6), xlabel=f"{metric}, less that of the first run")
    axes.spines[["top", "right"]].set_visible(False)
    if len(runs) > 1:
        axes.legend(frameon=False, fontsize=8)
    return figure


def _main(table: "pd.DataFrame", example: "ScoredPredictions") -> str:
    """The kind's main metric, or the first one of the table where that is not in it."""
    return example.words.main if example.words.main in set(table["metric"]) else str(table["metric"].iloc[0])


def _targets(rows: "pd.DataFrame") -> list[str]:
    """For each row all columns, one of them, or a feature of a survey."""
    if "feature" in rows:
        return [f"{survey}: {feature}" for survey, feature in zip(rows["survey"], rows["feature"], strict=True)]
    return [column or ALL for column in rows["column"]]


def tables(table: "pd.DataFrame", example: "ScoredPredictions") -> Iterator[tuple[str, list[list[str]]]]:
    """A comparison for people: all columns together, a row a metric, then a table a metric, a row a column.

    Args:
        table: As for `write`.
        example: The first run's predictions.

    Yields:
        Title and rows, header first; what differs clearly is between asterisks.
    """
    words, main = example.words, _main(table, example)
    rows = table.assign(target=_targets(table))
    first, *others = run_names(rows["run"].nunique())
    columns = [words.noun, first, *(name for run in others for name in (run, f"less {first}", "p"))]
    over_all = rows[rows["target"] == ALL].groupby("metric", sort=False)
    if cells := [[words.label(str(metric)), *_cells(own)] for metric, own in over_all]:
        yield "All together", [["metric", *columns], *cells]
    for metric in sorted(dict.fromkeys(rows["metric"]), key=lambda name: name != main):
        by_target = rows[(rows["metric"] == metric) & (rows["target"] != ALL)].groupby("target", sort=False)
        if cells := [[str(target), *_cells(own)] for target, own in by_target]:
            yield words.label(metric), [[words.column, *columns], *cells]


def run_names(count: int) -> list[str]:
    """Names of runs, in the order in which they were given."""
    return [f"run {number}" for number in range(1, count + 1)]


def _cells(rows: "pd.DataFrame") -> list[str]:
    """How many objects one metric was measured on, and what each run has."""
    first, *others = rows.to_dict("records")
    cells = [f"{first['objects']:,}", run_report.number(first["value"])]
    for run in others:
        p = f"{run['p']:.3f}" if run["p"] == run["p"] else ""
        cells += [run_report.number(run["value"]), _difference(run), p]
    return cells


def _difference(row: Mapping[Any, Any]) -> str:
    """A difference with its interval, bold if that leaves out 0; '' where it is not defined."""
    if row["difference"] != row["difference"]:
        return ""
    text = f"{row['difference']:+.4f}"
    if row["low"] != row["low"]:  # without resamples
        return text
    text += f" [{row['low']:+.4f}, {row['high']:+.4f}]"
    return f"**{text}**" if row["low"] > 0 or row["high"] < 0 else text
