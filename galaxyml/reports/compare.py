"""Finished runs on the objects that all predicted: `python -m galaxyml compare RUN RUN… [--split test]`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galaxyml.runs.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from galaxyml.evaluation.scored import ScoredPredictions

EXAMPLES = """\
examples:
  python -m galaxyml compare multirun/surveys/sdss multirun/surveys/both --survey ukidss
  python -m galaxyml compare multirun/galaxyzoo/small multirun/galaxyzoo/tuned --split val --out table.csv
  python -m galaxyml compare multirun/galaxy10/focal/joined/seed-* multirun/galaxy10/baseline --report compared.html

RUN is the folder of a finished run, or of a sweep whose folds were joined, on fractions of votes, votes of surveys,
classes, numbers or anomalies. Intervals and p are those of objects: another training may differ by more."""

MEAN = "mean"  # of the features, in the place of a feature's name


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and prints the tables."""
    parser = argparse.ArgumentParser(
        prog="galaxyml compare",
        description="Compares finished runs on the objects that all of them predicted: every metric, and its paired "
        "difference to that of the first run with its 95 % interval.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="two or more; the others against the first")
    parser.add_argument(
        "--split",
        choices=("val", "test", "survey"),
        help="which objects (default: test, or the first of val and survey where the truth of test is not known)",
    )
    parser.add_argument("--survey", help="the galaxies of one survey; all of them, each apart, where it is not given")
    parser.add_argument("--out", type=Path, help="a .csv that the table is written to as well")
    parser.add_argument("--report", type=Path, help="an .html that all of it is written to as a page, with a figure")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples (default: 1000)")
    parser.add_argument("--least", type=int, default=20, help="galaxies that a feature is measured on (default: 20)")
    given = parser.parse_args(arguments)
    if given.out is not None and given.out.suffix.lower() != ".csv":
        raise UserError(f"--out {given.out}: it must end in .csv.")
    if given.report is not None and given.report.suffix.lower() != ".html":
        raise UserError(f"--report {given.report}: it must end in .html.")
    for name, lowest in (("resamples", 0), ("least", 2)):
        if (value := getattr(given, name)) < lowest:
            raise UserError(f"--{name} {value}: it must be {lowest} or more.")
    runs = _read(given.runs, given.split, given.survey, given.least)
    table = _differences(runs, given.resamples, given.least)
    if given.out is not None:
        from galaxyml.runs.files import atomic_write

        with atomic_write(given.out) as draft:
            table.to_csv(draft, index=False)
    if given.report is not None:
        from galaxyml.reports import comparison_report

        comparison_report.write(given.report, table, given.runs, runs[0], given.resamples)
    _show(table, given.runs, runs[0])
    if given.report is not None:
        print(f"report      {given.report}")


def compare(
    *folders: Path, split: str | None = None, survey: str | None = None, resamples: int = 1000, least: int = 20
) -> "pd.DataFrame":
    """The metrics of runs, and their differences to those of the first, on the objects that all predicted.

    Args:
        *folders: Of finished runs, or of sweeps whose folds were joined; two or more, of one kind.
        split: `val`, `test` or `survey`; None for the first of test, val and survey whose truth is known.
        survey: Whose galaxies, of votes; None for every survey, each apart.
        resamples: Of the intervals; all runs are measured on the same ones.
        least: Galaxies that must have been asked for a feature to be measured.

    Returns:
        One row a metric and run: `metric`; `column`, the fraction or class, or '' for all together; `objects`; `run`;
        `value`; `difference` to the first run's, with the ends `low` and `high` of its interval, and `p` (see
        `galaxyml.evaluation.paired.Difference`), which are empty for that one. Of votes also `survey`, and `feature`
        for `column`, which is `mean` for all together.

    Raises:
        UserError: If a run is not finished or of another kind, or they share no object or column, or differ in the
            truth.
    """
    return _differences(_read(folders, split, survey, least), resamples, least)


def _read(folders: Sequence[Path], split: str | None, survey: str | None, least: int) -> "list[ScoredPredictions]":
    """What the runs said of the objects that all predicted, in the same order."""
    import numpy as np

    from galaxyml.evaluation.scored import aligned
    from galaxyml.kinds import load_scored
    from galaxyml.runs.run_dir import RunDir

    if len(folders) < 2:
        raise UserError(f"{folders[0]} alone cannot be compared: name two runs or more.")
    runs = [RunDir(folder) for folder in folders]
    by_split: dict[str, list[ScoredPredictions | None]] = {}
    for name in [split] if split is not None else ["test", "val", "survey"]:
        by_split[name] = [load_scored(run, name, least) for run in runs]
        if all(found is not None for found in by_split[name]):
            break
    else:
        name = split or next((name for name, found in by_split.items() if any(found)), "test")
        lacking = next(run for run, found in zip(runs, by_split[name], strict=True) if found is None)
        others = {other: load_scored(lacking, other, least) for other in ("test", "val", "survey") if other != name}
        there = [other for other, found in others.items() if found is not None]
        example = next((found for found in [*by_split[name], *others.values()] if found is not None), None)
        what = f"{example.words.noun} {example.words.known}" if example is not None else "objects whose truth is known"
        advice = f"Give --split {there[0]}." if there and split is not None else "There is nothing to compare it by."
        raise UserError(f"{lacking.path} predicted no {name} {what}. {advice}")
    found = aligned([run for run in by_split[name] if run is not None], name)
    if survey is None:
        return found
    if found[0].words.stratum != "survey":
        raise UserError(f"--survey {survey}: these runs predict {found[0].words.targets}, which have no surveys.")
    surveys = sorted(set(found[0].strata))
    if survey not in surveys:
        raise UserError(f"All runs predicted no {name} galaxy of '{survey}'. {did_you_mean(survey, surveys)}")
    return [each.take(np.flatnonzero(each.strata == survey)) for each in found]


def _differences(runs: "Sequence[ScoredPredictions]", resamples: int, least: int) -> "pd.DataFrame":
    """One row a metric and run, see `compare`."""
    import pandas as pd

    from galaxyml.evaluation.paired import Difference, measured

    found = measured(runs, resamples=resamples)
    counts = runs[0].counts()
    votes = bool(runs[0].words.stratum)
    rows: list[dict[str, Any]] = []
    for key in found[0]:
        metric, _, column = key.partition("/")
        if not all(key in numbers for numbers in found) or (votes and not column):
            continue  # the mean over surveys depends on which there are
        survey, _, feature = column.partition(":")
        place = {"survey": survey, "feature": feature or MEAN} if votes else {"column": column}
        for run, numbers in zip(runs, found, strict=True):
            row = {**place, "metric": metric, "objects": counts.get(key, len(run.ids)), "run": str(run.path)}
            row["value"] = float(numbers[key][0])
            if run is not runs[0]:
                gap = Difference.of(found[0][key], numbers[key])
                row |= {"difference": gap.value, "low": gap.low, "high": gap.high, "p": gap.p}
            rows.append(row)
    if not rows:
        raise UserError(f"No feature was asked of {least} galaxies that all runs predicted. Give a smaller --least.")
    table = pd.DataFrame(rows)
    if votes:  # by survey, then by feature, the mean first
        order = {name: at for at, name in enumerate([MEAN, *runs[0].columns])}
        table["at"] = table["feature"].map(order)
        table = table.sort_values(["survey", "at"], kind="stable", ignore_index=True).drop(columns="at")
    return table


def _show(table: "pd.DataFrame", folders: Sequence[Path], example: "ScoredPredictions") -> None:
    """Prints the tables of a comparison as wide as they are: names and intervals are of no use in parts."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from galaxyml.reports.comparison_report import named, tables

    console = Console()
    for name, folder in zip(named(len(folders)), folders, strict=True):
        console.print(f"{name + ':':<8}{escape(str(folder))}", highlight=False)
    for title, (header, *rows) in tables(table, example):
        shown = Table(title=escape(title), title_justify="left")
        for place, name in enumerate(header):
            shown.add_column(escape(name), justify="right" if place else "left", no_wrap=True)
        for row in rows:
            clear = [(cell.strip("*"), cell.startswith("**")) for cell in row]
            shown.add_row(*(f"[bold]{escape(text)}[/]" if bold else escape(text) for text, bold in clear))
        console.width = max(console.width, console.measure(shown, options=console.options.update(width=500)).maximum)
        console.print(shown)
    noun = example.words.noun
    console.print(
        f"Differences: paired over the same {noun}, 95 % interval in brackets; bold without 0.", highlight=False
    )
