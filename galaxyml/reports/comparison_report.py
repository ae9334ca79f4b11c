"""A comparison of runs as a page: the runs, and their differences as a figure and as tables."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from galaxyml.evaluation.paired import least_p
from galaxyml.evaluation.plots import MODEL, NARROW
from galaxyml.evaluation.scored import lower_is_better
from galaxyml.reports import run_report, verdict
from galaxyml.reports.compare import MEAN
from galaxyml.reports.html import web_page
from galaxyml.runs.files import write_text
from galaxyml.runs.run_dir import NAMED, RunDir

if TYPE_CHECKING:
    import pandas as pd

    from galaxyml.evaluation.scored import ScoredPredictions

TOGETHER = "All together"  # the title of the table of all columns
SINGLE = "Of single columns, p allows for how many there are (Benjamini-Hochberg); intervals and bold do not."
ALL = "all"  # columns, in the place of one's name
MOST = 40  # columns that a figure has room for


def write(
    path: Path,
    table: "pd.DataFrame",
    folders: Sequence[Path],
    example: "ScoredPredictions",
    split: str,
    resamples: int,
) -> None:
    """Writes the page.

    Args:
        path: An `.html`.
        table: One row a metric and run, as `galaxyml.reports.compare.compare` has it for three runs or more.
        folders: The runs, the first of which the others are compared with.
        example: The first one's predictions.
        split: Whose objects they are of.
        resamples: Of the bootstrap.
    """
    first, noun = RunDir(folders[0]), example.words.noun
    lines = [f"# {len(folders)} runs compared on {len(example.ids):,} {NAMED[split]} {noun}"]
    lines += run_report.question(first.config) if first.started else []
    lines += ["", *(f"{number}. `{folder}`" for number, folder in enumerate(folders, start=1)), ""]
    sentence = f"Differences are the later runs' minus the first's, paired over the same {noun}"
    if resamples:
        sentence += f"; in brackets 95 % of {resamples:,} bootstrap resamples, bold where they leave out 0. They "
        sentence += "allow for other objects, not for another training"
    shown = tables(table, example, resamples)
    together = [(title, cells) for title, cells in shown if title == TOGETHER]
    apart = [(title, cells) for title, cells in shown if title != TOGETHER]
    said = re.sub(r"([*_`])", r"\\\1", answer(table, folders, example, split))
    lines[1:1] = ["", f"**{said}**", *(line for _, cells in together for line in ["", *run_report.markdown(cells)])]
    lines.append(f"{sentence}.")
    with tempfile.TemporaryDirectory() as aside:
        if (figure := differences(table, example)) is not None:
            figure.savefig(Path(aside) / "differences.png", dpi=110, bbox_inches="tight")
            caption = example.words.label(_main(table, example))
            lines += ["", "![differences](differences.png)", "", f"*{caption}, each run minus the first.*"]
        for number, (title, cells) in enumerate(apart):
            note = ["", SINGLE] if resamples and not number else []
            lines += ["", f"## {title}", *note, "", *run_report.markdown(cells)]
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
    figure = Figure(figsize=(NARROW, 0.28 * len(targets) * len(runs) ** 0.5 + 1.2), layout="constrained")
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
    axes.set(ylim=(len(targets) - 0.4, -0.6), xlabel=f"{example.words.label(metric)} minus that of run 1")
    axes.spines[["top", "right"]].set_visible(False)
    if len(runs) > 1:
        axes.legend(frameon=False, fontsize=8)
    return figure


def _main(table: "pd.DataFrame", example: "ScoredPredictions") -> str:
    """The kind's main metric, or the first one of the table where that is not in it."""
    return example.words.main if example.words.main in set(table["metric"]) else str(table["metric"].iloc[0])


def _together(rows: "pd.DataFrame") -> "pd.Series[bool]":
    """For each row whether it is about all columns together."""
    return rows["feature"] == MEAN if "feature" in rows else rows["column"] == ""


def _targets(rows: "pd.DataFrame") -> list[str]:
    """For each row all columns, one of them, or a feature of a survey."""
    if "feature" in rows:
        return [f"{survey}: {feature}" for survey, feature in zip(rows["survey"], rows["feature"], strict=True)]
    return [column or ALL for column in rows["column"]]


def tables(table: "pd.DataFrame", example: "ScoredPredictions", resamples: int) -> list[tuple[str, list[list[str]]]]:
    """A comparison for people: all columns together, a row a metric, then a table a metric, a row a column.

    Args:
        table: As for `write`.
        example: The first run's predictions.
        resamples: Of the bootstrap.

    Returns:
        Title and rows, header first; what differs clearly is between asterisks.
    """
    words, main = example.words, _main(table, example)
    rows = table.assign(target=_targets(table), together=_together(table))
    first, *others = run_names(int(rows.groupby(["target", "metric"]).size().max()))  # a run may be there twice
    columns = [words.noun, first, *(name for run in others for name in (run, f"{run} minus {first}", "p"))]
    found = []
    over_all = rows[rows["together"]].groupby(["target", "metric"], sort=False)
    names = [words.label(str(metric)) + _survey(own.iloc[0].to_dict()) for (_, metric), own in over_all]
    if cells := [[name, *_cells(own, resamples)] for name, (_, own) in zip(names, over_all, strict=True)]:
        found.append((TOGETHER, [["metric", *columns], *cells]))
    columns = [name if name != "p" else "p, adjusted" for name in columns]
    for metric in sorted(dict.fromkeys(rows["metric"]), key=lambda name: name != main):
        by_target = rows[(rows["metric"] == metric) & ~rows["together"]].groupby("target", sort=False)
        if cells := [[str(target), *_cells(own, resamples)] for target, own in by_target]:
            found.append((words.label(metric), [[words.column, *columns], *cells]))
    return found


def answer(table: "pd.DataFrame", folders: Sequence[Path], example: "ScoredPredictions", split: str) -> str:
    """Which run is better in the main metric, by how much, in a sentence; of surveys one each.

    Of smoke tests it says that they are too small to judge, and what they have.
    """
    metric = _main(table, example)
    rows = table.assign(target=_targets(table))[(table["metric"] == metric)]
    together = rows[_together(rows)]
    rows = together if len(together) else rows
    names = [f"run {number} ({name})" for number, name in enumerate(short_names(folders), start=1)]
    parts = [own.to_dict("records") for _, own in rows.groupby("target", sort=False)]
    label, lower, noun = example.words.label(metric), lower_is_better(metric), f"{NAMED[split]} {example.words.noun}"
    if any(run.started and verdict.is_smoke_test(run.config) for run in map(RunDir, folders)):
        return " ".join([verdict.SMOKE, *(_values(own, names, label, noun) for own in parts)])
    return " ".join(_sentence(own, names, label, lower, noun) for own in parts)


def _where(rows: Sequence[Mapping[Any, Any]], noun: str) -> str:
    """The objects that runs were compared on."""
    of_survey = f" of {rows[0]['survey']}" if "survey" in rows[0] else ""
    return f"on the {rows[0]['objects']:,} {noun}{of_survey} that {'both' if len(rows) == 2 else 'all'} predicted"


def _values(rows: Sequence[Mapping[Any, Any]], names: Sequence[str], label: str, noun: str) -> str:
    """One metric of each run, without any judgement."""
    of = f"{label} of {rows[0]['column']}" if rows[0].get("column") else label
    values = (f"{name} {run_report.number(row['value'])}" for name, row in zip(names, rows, strict=True))
    return f"{_capital(of)} {_where(rows, noun)}: {', '.join(values)}."


def _survey(row: Mapping[Any, Any]) -> str:
    """Whose galaxies a row is about, behind a comma; '' for those of no survey."""
    return f", {row['survey']}" if "survey" in row else ""


def _sentence(rows: Sequence[Mapping[Any, Any]], names: Sequence[str], label: str, lower: bool, noun: str) -> str:
    """The answer of one metric, from a row a run and the runs' names."""
    signed = [(-row["value"] if lower else row["value"], -number) for number, row in enumerate(rows)]
    best = -max(signed)[1]
    where = _where(rows, noun)
    of = f"{label} of {rows[0]['column']}" if rows[0].get("column") else label
    how = [_standing(row, lower) for row in rows[1:]]
    if len(rows) == 2:
        numbers = f"{of} {run_report.number(rows[1]['value'])} against {run_report.number(rows[0]['value'])}"
        if not how[0]:
            numbers = f"{of} {run_report.number(rows[0]['value'])} and {run_report.number(rows[1]['value'])}"
            gap = f", a difference of {_gap(rows[1])}" if rows[1]["difference"] == rows[1]["difference"] else ""
            return f"No difference between {names[0]} and {names[1]} is shown {where}: {numbers}{gap}."
        return f"{_capital(names[1])} is {how[0]} than {names[0]} by {_gap(rows[1], size=True)} {where}: {numbers}."
    best_one = f"{_capital(names[best])} has the best {of} of {len(rows)} runs {where}: "
    best_one += run_report.number(rows[best]["value"])
    if best and how[best - 1]:
        best_one += f", {how[best - 1]} than {names[0]} by {_gap(rows[best], size=True)}"
    words = {"better": f"better than {names[0]}", "worse": f"worse than {names[0]}", "": f"no difference to {names[0]}"}
    stand = [
        f"{said}{' is shown' if not kind else ''}: " + ", ".join(map(str, found))
        for kind, said in words.items()
        if (found := [number for number, own in enumerate(how, start=2) if own == kind])
    ]
    return f"{best_one} ({'; '.join(stand)})."


def _standing(row: Mapping[Any, Any], lower: bool) -> str:
    """Whether a run is `better` or `worse` than the first one; '' where no difference is shown."""
    low, high = (row["low"], row["high"]) if row["low"] == row["low"] else (row["difference"], row["difference"])
    if low > 0:
        return "worse" if lower else "better"
    if high < 0:
        return "better" if lower else "worse"
    return ""


def _gap(row: Mapping[Any, Any], size: bool = False) -> str:
    """A difference with its interval; its size alone, which has no sign, where the words say which way it is."""
    turn = -1 if size and row["difference"] < 0 else 1
    ends = sorted((turn * row["low"], turn * row["high"])) if row["low"] == row["low"] else []
    value, *ends = (run_report.number(number) for number in (turn * row["difference"], *ends))
    return value + (f" [{', '.join(ends)}]" if ends else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def short_names(folders: Sequence[Path]) -> list[str]:
    """The last parts of folders that tell them apart.

    >>> short_names([Path("a/one/fold-0"), Path("a/two/fold-0")]), short_names([Path("a/one"), Path("b/two")])
    (['one/fold-0', 'two/fold-0'], ['one', 'two'])
    """
    most = max(len(folder.parts) for folder in folders)
    for count in range(1, most + 1):
        names = ["/".join(folder.parts[-count:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [folder.name for folder in folders]


def run_names(count: int) -> list[str]:
    """Names of runs, in the order in which they were given."""
    return [f"run {number}" for number in range(1, count + 1)]


def _cells(rows: "pd.DataFrame", resamples: int) -> list[str]:
    """How many objects one metric was measured on, and what each run has."""
    first, *others = rows.to_dict("records")
    cells = [f"{first['objects']:,}", run_report.number(first["value"])]
    for run in others:
        cells += [run_report.number(run["value"]), _difference(run), _p(run, resamples)]
    return cells


def _p(row: Mapping[Any, Any], resamples: int) -> str:
    """Of single columns the adjusted one; what is as low as the resamples can tell is lower than that."""
    if row["p"] != row["p"]:
        return ""
    p = row["p"] if row["together"] else row["p_adjusted"]
    least = row["p"] <= least_p(resamples) * (1 + 1e-9)
    return f"< {p:.2g}" if least and p < 1 else f"{p:.3f}"


def _difference(row: Mapping[Any, Any]) -> str:
    """A difference with its interval, bold if that leaves out 0; '' where it is not defined."""
    if row["difference"] != row["difference"]:
        return ""
    text = f"{row['difference']:+.4f}"
    if row["low"] != row["low"]:  # without resamples
        return text
    text += f" [{row['low']:+.4f}, {row['high']:+.4f}]"
    return f"**{text}**" if row["low"] > 0 or row["high"] < 0 else text
