"""A comparison of runs as a page: what was compared, how they differ, drawn and as tables."""

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

ALL = "all"  # of the columns, in the place of one's name
MOST = 40  # columns that a figure has room for


def write(
    path: Path, table: "pd.DataFrame", folders: Sequence[Path], example: "ScoredPredictions", resamples: int
) -> None:
    """Writes the page.

    Args:
        path: An `.html`.
        table: One row a metric and run, as `galaxyml.reports.compare.compare` has it for three runs or more.
        folders: The runs, the first of which the others are compared with.
        example: What the first of them said.
        resamples: Of the bootstrap.
    """
    with tempfile.TemporaryDirectory() as aside:
        figure = differences(table, example)
        lines = [f"# {len(folders)} runs compared on {len(example.ids):,} {example.words.noun}"]
        first = RunDir(folders[0])
        lines += run_report.asked(first.config) if first.started else []
        lines += ["", *(f"{number}. `{folder}`" for number, folder in enumerate(folders, start=1))]
        lines += ["", f"Differences are the later runs' less the first's, paired over the same {example.words.noun}"]
        if resamples:
            lines[-1] += f"; in brackets 95 % of {resamples:,} bootstrap resamples, bold where they leave out 0. They "
            lines[-1] += "allow for other objects, not for another training"
        lines[-1] += "."
        if figure is not None:
            figure.savefig(Path(aside) / "differences.png", dpi=110, bbox_inches="tight")
            lines += ["", "![differences](differences.png)", "", f"*{_main(table, example)}: each run less the first.*"]
        for title, cells in tables(table, example):
            lines += ["", f"## {title}", "", *run_report.markdown(cells)]
        if commands := _commands(folders):
            lines += ["", "## Made by", "", *commands]
        if first.started:
            lines += run_report.cited(first)
        write_text(path, web_page("\n".join(lines) + "\n", Path(aside)))


def differences(table: "pd.DataFrame", example: "ScoredPredictions") -> Figure | None:
    """What each run has more than the first of the metric that tells most, column by column, with its interval.

    Args:
        table: As for `write`.
        example: What the first run said.

    Returns:
        None if the metric is not in the table.
    """
    rows = table[(table["metric"] == _main(table, example)) & table["difference"].notna()]
    if rows.empty:
        return None
    rows = rows.assign(place=_places(rows))
    places = list(dict.fromkeys(rows["place"]))[:MOST]
    runs = list(dict.fromkeys(rows["run"]))
    figure = Figure(figsize=(8, 0.28 * len(places) * max(len(runs), 1) ** 0.5 + 1.2), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color="0.6", linewidth=0.8)
    for number, run in enumerate(runs):
        found = rows[rows["run"] == run].drop_duplicates("place").set_index("place").reindex(places)
        at = np.arange(len(places)) + (number - (len(runs) - 1) / 2) * 0.7 / len(runs)
        value = found["difference"].to_numpy(float)
        ends = np.abs(found[["low", "high"]].to_numpy(float).T - value)
        colour = MODEL if len(runs) == 1 else f"C{number}"
        axes.errorbar(
            value, at, xerr=ends, fmt="o", markersize=4, linewidth=1.2, color=colour, label=f"run {number + 2}"
        )
    axes.set_yticks(np.arange(len(places)), places, fontsize=8)
    axes.set(ylim=(len(places) - 0.4, -0.6), xlabel=f"{_main(table, example)}, less that of the first run")
    axes.spines[["top", "right"]].set_visible(False)
    if len(runs) > 1:
        axes.legend(frameon=False, fontsize=8)
    return figure


def _main(table: "pd.DataFrame", example: "ScoredPredictions") -> str:
    there = list(dict.fromkeys(table["metric"]))
    return example.words.main if example.words.main in there else str(there[0])


def _places(rows: "pd.DataFrame") -> list[str]:
    """What each row is measured on: all columns, one of them, or a feature of a survey."""
    if "feature" in rows:
        return [f"{survey}: {feature}" for survey, feature in zip(rows["survey"], rows["feature"], strict=True)]
    return [column or ALL for column in rows["column"]]


def tables(table: "pd.DataFrame", example: "ScoredPredictions") -> Iterator[tuple[str, list[list[str]]]]:
    """A comparison for people: all columns together, a row a metric, then a table a metric, a row a column.

    Args:
        table: As for `write`.
        example: What the first run predicted.

    Yields:
        Title and rows, header first; what differs clearly is between asterisks.
    """
    words, main = example.words, _main(table, example)
    rows = table.assign(place=_places(table))
    metrics = sorted(dict.fromkeys(rows["metric"]), key=lambda name: name != main)
    runs = named(len(dict.fromkeys(rows["run"])))
    columns = [words.noun, runs[0], *(name for run in runs[1:] for name in (run, f"less {runs[0]}", "p"))]
    whole = rows[rows["place"] == ALL]
    cells = [[words.label(str(name)), *_cells(each)] for name, each in whole.groupby("metric", sort=False)]
    if cells:
        yield "All together", [["metric", *columns], *cells]
    for metric in metrics:
        own = rows[(rows["metric"] == metric) & (rows["place"] != ALL)]
        if len(own):
            cells = [[str(place), *_cells(each)] for place, each in own.groupby("place", sort=False)]
            yield words.label(metric), [[words.column, *columns], *cells]


def named(count: int) -> list[str]:
    """What runs are called, in the order in which they were given."""
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


def _commands(folders: Sequence[Path]) -> list[str]:
    """The command of each run that knows its own."""
    runs = {number: RunDir(folder) for number, folder in enumerate(folders, start=1)}
    return [f"{number}. `{run_report.command(run_report.typed(run))}`" for number, run in runs.items() if run.started]
