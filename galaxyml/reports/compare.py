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
PLACES = ("1st", "2nd", "3rd")


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
    found = aligned([said for said in by_split[name] if said is not None], name)
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
    """Prints what each run has and how far that is from the first run's; clear differences are bold.

    Metrics over all columns have a row a run; those of single columns a row a column.
    """
    from rich.markup import escape
    from rich.table import Table

    console, objects = _console(folders), example.words.noun
    column = "feature" if "feature" in table else "column"
    everything = table["feature"] == MEAN if "feature" in table else table["column"] == ""
    overall, by_column = table[everything], table[~everything]
    places = [_place(at) for at in range(len(folders))]  # in which order the rows of each metric are
    count = overall["objects"].max() if len(overall) else table["objects"].max()
    shown = Table(title=f"{count:,} {objects}" if "feature" not in table else None, title_justify="left")
    for name in (*(["survey"] if "survey" in table else []), "metric", "run", "value", "less the 1st", "p"):
        shown.add_column(name, justify="left" if name in ("survey", "metric", "run") else "right", no_wrap=True)
    for number, row in enumerate(overall.to_dict("records")):
        at = number % len(places)
        first, last = at == 0, at == len(places) - 1
        name = example.words.label(row["metric"]) if first else ""
        cells = [escape(str(row["survey"])) if first else ""] if "survey" in row else []
        cells += [name, places[at], f"{row['value']:.4f}"]
        cells += ["", ""] if first else [_bold(row["difference"], row["low"], row["high"], 4), f"{row['p']:.3f}"]
        shown.add_row(*cells, end_section=last)
    _print(console, shown)
    for (survey, metric), rows in by_column.groupby(
        [by_column["survey"] if "survey" in table else by_column["metric"], "metric"], sort=False
    ):
        title = example.words.label(str(metric))
        shown = Table(title=escape(f"{title}, {survey}" if "survey" in table else title), title_justify="left")
        shown.add_column(example.words.column, no_wrap=True)
        for name in (objects, *places):
            shown.add_column(name, justify="right", no_wrap=True)
        if len(places) == 2:
            shown.add_column("2nd - 1st", justify="right", no_wrap=True)
        for place, part in rows.groupby(column, sort=False):
            each = part.to_dict("records")
            cells = [escape(str(place)), f"{each[0]['objects']:,}"]
            for row in each:
                clear = row["low"] > 0 or row["high"] < 0
                value = f"{row['value']:.3f}" if row["value"] == row["value"] else ""  # nan: not defined
                cells.append(f"[bold]{value}[/]" if clear else value)
            if len(places) == 2:
                cells.append(_bold(*(each[1][end] for end in ("difference", "low", "high"))))
            shown.add_row(*cells)
        _print(console, shown)
    console.print(
        f"Differences are paired over the same {objects}, 95 % interval in brackets; bold where it leaves out 0.",
        highlight=False,
    )


def _place(at: int) -> str:
    return PLACES[at] if at < len(PLACES) else f"{at + 1}th"


def _bold(difference: float, low: float, high: float, digits: int = 3) -> str:
    """A difference with its interval, bold if that leaves out 0; '' where it is not defined."""
    if difference != difference:
        return ""
    text = f"{difference:+.{digits}f} \\[{low:+.{digits}f}, {high:+.{digits}f}]"
    return f"[bold]{text}[/]" if low > 0 or high < 0 else text


def _console(folders: Sequence[Path]) -> Any:
    """A terminal, in which the runs have been named."""
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    names = ["first", "second"] if len(folders) == 2 else [_place(at) for at in range(len(folders))]
    wide = max(map(len, names)) + 1
    for name, folder in zip(names, folders, strict=True):
        console.print(f"{f'{name}:':<{wide}} {escape(str(folder))}", highlight=False)
    return console


def _print(console: Any, shown: Any) -> None:
    """Prints a table as wide as it is: names of features and intervals are of no use in parts."""
    console.width = max(console.width, console.measure(shown, options=console.options.update(width=500)).maximum)
    console.print(shown)
