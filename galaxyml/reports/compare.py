"""Finished runs on the objects that all predicted: `python -m galaxyml compare RUN RUN… [--split test]`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galaxyml.runs.errors import UsageError, did_you_mean
from galaxyml.runs.options import Parser
from galaxyml.runs.progress import duration, heartbeat

if TYPE_CHECKING:
    import pandas as pd

    from galaxyml.evaluation.scored import ScoredPredictions
    from galaxyml.runs.run_dir import RunDir

EXAMPLES = """\
examples:
  python -m galaxyml compare multirun/surveys/sdss multirun/surveys/both --survey ukidss
  python -m galaxyml compare multirun/galaxyzoo/small multirun/galaxyzoo/tuned --split val --out table.csv
  python -m galaxyml compare multirun/galaxy10/focal/joined/seed-* multirun/galaxy10/baseline --report compared.html
  python -m galaxyml compare multirun/galaxyzoo/demo theirs.csv

RUN is the folder of a finished run, or of a sweep whose folds were joined, on fractions of votes, votes of surveys,
classes, numbers or anomalies; or a table of what another tool predicts for the objects of such a run, with their ids
and the columns that the run predicts. Intervals and p are those of objects: another training may differ by more.
Metrics of single columns are in --out and --report, and printed with --by-column; their p allows for how many they
are."""

MEAN = "mean"  # of the features, in the place of a feature's name
SPLITS_BY_RANK = ("test", "val", "survey")  # the first one whose truth is known is compared on


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and prints the tables."""
    parser = Parser(
        prog="galaxyml compare",
        description="Says which of some finished runs is better on the objects that all of them predicted: every "
        "metric, and its paired difference to that of the first run with its 95 % interval.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="two or more, or tables; the others against the first"
    )
    parser.add_argument(
        "--split",
        choices=("val", "test", "survey"),
        help="which objects (default: test, or the first of val and survey where the truth of test is not known)",
    )
    parser.add_argument("--survey", help="the galaxies of one survey; all of them, each apart, where it is not given")
    parser.add_argument("--out", type=Path, help="a .csv that the table is written to as well")
    parser.add_argument("--by-column", action="store_true", help="print the tables column by column, too")
    parser.add_argument("--report", type=Path, help="an .html that all of it is written to as a page, with a figure")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples (default: 1000)")
    parser.add_argument("--least", type=int, default=20, help="galaxies that a feature is measured on (default: 20)")
    given = parser.parse_args(arguments)
    if given.out is not None and given.out.suffix.lower() != ".csv":
        raise UsageError(f"--out {given.out}: it must end in .csv.")
    if given.report is not None and given.report.suffix.lower() != ".html":
        raise UsageError(f"--report {given.report}: it must end in .html.")
    for name, lowest in (("resamples", 0), ("least", 2)):
        if (value := getattr(given, name)) < lowest:
            raise UsageError(f"--{name} {value}: it must be {lowest} or more.")
    _check_several(given.runs)
    began = time.monotonic()
    with heartbeat(lambda: f"comparing {len(given.runs)} runs, {duration(time.monotonic() - began)} so far"):
        split, runs = _read(given.runs, given.split, given.survey, given.least)
        table = _differences(runs, given.resamples, given.least)
    if given.out is not None:
        from galaxyml.runs.files import atomic_write

        with atomic_write(given.out) as draft:
            table.to_csv(draft, index=False)
    if given.report is not None:
        from galaxyml.reports import comparison_report

        comparison_report.write(given.report, table, given.runs, runs[0], split, given.resamples)
    _show(table, given.runs, runs[0], split, given.resamples, given.by_column)
    if given.report is not None:
        print(f"report      {given.report}")


def compare(
    *folders: Path, split: str | None = None, survey: str | None = None, resamples: int = 1000, least: int = 20
) -> "pd.DataFrame":
    """The metrics of runs, and their differences to those of the first, on the objects that all predicted.

    Args:
        *folders: Of finished runs, or of sweeps whose folds were joined; two or more, of one kind. Also tables of
            predictions of other tools, beside one run or more (`galaxyml.reports.given_predictions`).
        split: `val`, `test` or `survey`; None for the first of test, val and survey whose truth is known.
        survey: Whose galaxies, of votes; None for every survey, each apart.
        resamples: Of the intervals; all runs are measured on the same ones.
        least: Galaxies that must have been asked for a feature to be measured.

    Returns:
        One row a metric and run: `metric`; `column`, the fraction or class, or '' for all together; `objects`; `run`;
        `value`; `difference` to the first run's, with the ends `low` and `high` of its interval, and `p` (see
        `galaxyml.evaluation.paired.Difference`), which are empty for that one; `p_adjusted` is the p of single columns
        that allows for how many there are (Benjamini & Hochberg 1995), metric by metric and run by run. Of votes also
        `survey`, and `feature` for `column`, which is `mean` for all together.

    Raises:
        UserError: If a run is not finished or of another kind, or they share no object or column, or differ in the
            truth.
    """
    return _differences(_read(folders, split, survey, least)[1], resamples, least)


def _check_several(folders: Sequence[Path]) -> None:
    if len(folders) < 2:
        raise UsageError(f"{folders[0]} alone cannot be compared: name two runs or more.")


def _read(
    folders: Sequence[Path], split: str | None, survey: str | None, least: int
) -> "tuple[str, list[ScoredPredictions]]":
    """The split, and the predictions of the runs for its objects that all predicted, in the same order."""
    import numpy as np

    from galaxyml.evaluation.scored import aligned
    from galaxyml.kinds import load_scored

    _check_several(folders)
    runs = _runs(folders)
    by_split: dict[str, list[ScoredPredictions | None]] = {}
    for name in [split] if split is not None else SPLITS_BY_RANK:
        by_split[name] = [load_scored(run, name, least) for run in runs]
        if all(by_split[name]):
            break
    else:
        name = split or next((name for name, scored in by_split.items() if any(scored)), "test")
        lacking = runs[by_split[name].index(None)]
        others = {other: load_scored(lacking, other, least) for other in SPLITS_BY_RANK if other != name}
        usable = [other for other, scored in others.items() if scored]
        example = next((scored for scored in [*by_split[name], *others.values()] if scored), None)
        what = f"{example.words.noun} {example.words.known}" if example else "objects whose truth is known"
        advice = f"Give --split {usable[0]}." if usable and split is not None else "There is nothing to compare it by."
        raise UsageError(f"{lacking.path} predicted no {name} {what}. {advice}")
    scored = aligned([run for run in by_split[name] if run], name)
    if survey is None:
        return name, scored
    if scored[0].words.stratum != "survey":
        raise UsageError(f"--survey {survey}: these runs predict {scored[0].words.targets}, which have no surveys.")
    surveys = sorted(set(scored[0].strata))
    if survey not in surveys:
        raise UsageError(f"All runs predicted no {name} galaxy of '{survey}'. {did_you_mean(survey, surveys)}")
    return name, [run.take(np.flatnonzero(run.strata == survey)) for run in scored]


def _runs(folders: Sequence[Path]) -> "list[RunDir]":
    """The runs; tables of predictions stand in the place of one, and are of the objects of the first."""
    from galaxyml.reports.given_predictions import GivenPredictions
    from galaxyml.runs.run_dir import RunDir

    first = next((RunDir(folder) for folder in folders if not folder.is_file()), None)
    if first is None:
        raise UsageError(f"{folders[0]} is a table, as are all others: name a run, too, whose objects they predict.")
    return [GivenPredictions(folder, first) if folder.is_file() else RunDir(folder) for folder in folders]


def _differences(runs: "Sequence[ScoredPredictions]", resamples: int, least: int) -> "pd.DataFrame":
    """One row a metric and run, see `compare`."""
    import pandas as pd

    from galaxyml.evaluation.paired import Difference, measured

    metrics = measured(runs, resamples=resamples)
    counts = runs[0].counts()
    votes = bool(runs[0].words.stratum)
    rows: list[dict[str, Any]] = []
    for key, first in metrics[0].items():
        metric, _, column = key.partition("/")
        if not all(key in numbers for numbers in metrics) or (votes and not column):
            continue  # the mean over surveys depends on which there are
        survey, _, feature = column.partition(":")
        target = {"survey": survey, "feature": feature or MEAN} if votes else {"column": column}
        for run, numbers in zip(runs, metrics, strict=True):
            row = {**target, "metric": metric, "objects": counts.get(key, len(run.ids)), "run": str(run.path)}
            row["value"] = float(numbers[key][0])
            if run is not runs[0]:
                gap = Difference.of(first, numbers[key])
                row |= {"difference": gap.value, "low": gap.low, "high": gap.high, "p": gap.p}
            rows.append(row)
    if not rows:
        raise UsageError(f"No feature was asked of {least} galaxies that all runs predicted. Give a smaller --least.")
    table = pd.DataFrame(rows)
    table["p_adjusted"] = _adjusted(table)
    if votes:  # by survey, then by feature, the mean first
        table["order"] = pd.Index([MEAN, *runs[0].columns]).get_indexer(pd.Index(table["feature"]))
        table = table.sort_values(["survey", "order"], kind="stable", ignore_index=True).drop(columns="order")
    return table


def _adjusted(table: "pd.DataFrame") -> "pd.Series[float]":
    """The p of single columns that allow for their number; NaN for all together."""
    import pandas as pd
    from scipy.stats import false_discovery_control

    adjusted = pd.Series(float("nan"), index=table.index)
    single = table["feature"] != MEAN if "feature" in table else table["column"] != ""
    if "p" in table:
        tested = table[single & table["p"].notna()]
        for _, rows in tested.groupby(["metric", "run", *(["survey"] if "survey" in table else [])]):
            adjusted[rows.index] = false_discovery_control(rows["p"])
    return adjusted


def _show(
    table: "pd.DataFrame",
    folders: Sequence[Path],
    example: "ScoredPredictions",
    split: str,
    resamples: int,
    by_column: bool,
) -> None:
    """Prints a comparison: the answer, the runs, the tables."""
    from galaxyml.reports.comparison_report import SINGLE, TOGETHER, answer, run_names, tables
    from galaxyml.reports.terminal import print_table

    said = answer(table, folders, example, split)
    print(f"{said}\n")
    for name, folder in zip(run_names(len(folders)), folders, strict=True):
        print(f"{name + ':':<8}{folder}")
    all_of_them = tables(table, example, resamples)
    apart = [(title, cells) for title, cells in all_of_them if title != TOGETHER]
    shown = all_of_them if by_column or len(apart) == len(all_of_them) else all_of_them[:1]
    for title, cells in shown:
        print_table(title, cells)
    print(f"Differences: paired over the same {example.words.noun}, 95 % interval in brackets; bold without 0.")
    for folder in folders:
        if folder.is_file():
            print(f"note: whether what made {folder} has learnt from these {example.words.noun} is not known here.")
    if len(shown) > 1:
        print(f"{SINGLE}\n\n{said}")
    elif apart:
        print(f"Each {example.words.column} by itself: --by-column, or --report FILE.html.")
