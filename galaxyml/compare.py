"""Two finished runs on the galaxies that both predicted: `python -m galaxyml.compare RUN RUN [--split test]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from galaxyml.errors import UserError, near, some

if TYPE_CHECKING:
    import pandas as pd

    from galaxyml.runs import RunDir
    from galaxyml.stages.votes import Judged

EXAMPLES = """\
examples:
  python -m galaxyml.compare multirun/surveys/sdss multirun/surveys/both --survey ukidss
  python -m galaxyml.compare multirun/surveys/sdss multirun/surveys/both --split val --out table.csv"""

MEAN = "mean"  # of the features, in the place of a feature's name
SAME = 1e-6  # true fractions that differ by less are the same


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m galaxyml.compare",
        description="Compares two runs on votes: correlation and error of each feature, and the paired difference "
        "(the second less the first) with its 95 % interval over galaxies.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first", type=Path, help="folder of a finished run, or of a sweep whose folds were joined")
    parser.add_argument("second", type=Path, help="another one")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="which galaxies (default: test)")
    parser.add_argument("--survey", help="the galaxies of one survey; all of them, each apart, where it is not given")
    parser.add_argument("--out", type=Path, help="a .csv that the table is written to as well")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples (default: 1000)")
    parser.add_argument("--least", type=int, default=20, help="galaxies that a feature is measured on (default: 20)")
    given = parser.parse_args(arguments)
    try:
        if given.out is not None and given.out.suffix.lower() != ".csv":
            raise UserError(f"--out {given.out}: it must end in .csv.")
        for name, lowest in (("resamples", 0), ("least", 2)):
            if (value := getattr(given, name)) < lowest:
                raise UserError(f"--{name} {value}: it must be {lowest} or more.")
        table = compare(given.first, given.second, given.split, given.survey, given.resamples, given.least)
        if given.out is not None:
            from galaxyml.files import whole

            with whole(given.out) as draft:
                table.to_csv(draft, index=False)
        _show(table, given.first, given.second)
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def compare(
    first: Path,
    second: Path,
    split: str = "test",
    survey: str | None = None,
    resamples: int = 1000,
    least: int = 20,
) -> "pd.DataFrame":
    """Correlation and error of two runs by survey and feature, on the galaxies and features that both predicted.

    Args:
        first: Folder of a finished run, or of a sweep whose folds were joined.
        second: Another one.
        split: `val` or `test`.
        survey: Whose galaxies; None for every survey, each apart.
        resamples: Of the intervals; both runs are measured on the same ones.
        least: Galaxies that must have been asked for a feature to be measured.

    Returns:
        One row a survey and feature, and one for their mean: `survey`, `feature`, `galaxies`, and of r and MAE
        (`_first`, `_second`, `_difference`, the second less the first, and its `_low` and `_high`).

    Raises:
        UserError: If a run is not finished or not on votes, or they share no galaxy or feature, or differ in the truth.
    """
    from galaxyml.runs import RunDir

    runs = RunDir(first), RunDir(second)
    one, other = (_judged(run, split) for run in runs)
    features = [feature for feature in one.features if feature in other.features]
    if not features:
        raise UserError(
            f"{first} and {second} share no feature: {some(one.features)} there, {some(other.features)} here. "
            "Train them with the same features=…."
        )
    one, other = _shared(runs, split, features, one, other)
    if survey is not None and survey not in one.survey:
        raise UserError(f"Both runs predicted no {split} galaxy of '{survey}'. {near(survey, one.surveys())}")
    rows: list[dict[str, object]] = []
    for name in [survey] if survey is not None else one.surveys():
        rows += _rows(name, one.of(name), other.of(name), resamples, least)
    if not rows:
        raise UserError(f"No feature was asked of {least} galaxies that both runs predicted. Give a smaller --least.")

    import pandas as pd

    return pd.DataFrame(rows)


def _judged(run: "RunDir", split: str) -> "Judged":
    """What a finished run said of a split."""
    from galaxyml.stages.votes import judged

    run.metrics()  # only of a finished run
    found = judged(run, split)
    if found is None:
        other = "val" if split == "test" else "test"
        raise UserError(f"{run.path} predicted no {split} galaxies with votes. Give --split {other}.")
    return found


def _shared(
    runs: tuple["RunDir", "RunDir"], split: str, features: list[str], one: "Judged", other: "Judged"
) -> tuple["Judged", "Judged"]:
    """The galaxies of both, in the same order, with the features of both."""
    import numpy as np
    import pandas as pd

    from galaxyml.stages.votes import judged

    if one.features != features:
        one = judged(runs[0], split, features) or one
    if other.features != features:
        other = judged(runs[1], split, features) or other
    at = pd.Index(other.ids.astype(str)).get_indexer(one.ids.astype(str))
    if not (at >= 0).any():
        raise UserError(
            f"{runs[0].path} and {runs[1].path} predicted no {split} galaxy alike: {some(list(one.ids), shown=2)} "
            f"there, {some(list(other.ids), shown=2)} here. Compare runs that were tested on the same survey."
        )
    one, other = one.take(np.flatnonzero(at >= 0)), other.take(at[at >= 0])
    gap = np.abs(one.true - other.true) > SAME
    gap |= np.isnan(one.true) != np.isnan(other.true)
    gap |= one.votes != other.votes
    if gap.any():
        row, column = np.argwhere(gap)[0]
        raise UserError(
            f"{runs[0].path} and {runs[1].path} know different votes of {gap.any(axis=1).sum():,} of {len(gap):,} "
            f"galaxies: of {one.ids[row]}, {features[column]} is {one.true[row, column]:.4f} of "
            f"{one.votes[row, column]:g} votes there and {other.true[row, column]:.4f} of "
            f"{other.votes[row, column]:g} here. Compare runs that were made from the same tables."
        )
    return one, other


def _rows(survey: str, one: "Judged", other: "Judged", resamples: int, least: int) -> list[dict[str, object]]:
    """One row a feature that is measured, and one for their mean."""
    import numpy as np

    from galaxyml.stages.votes import resampled
    from galaxyml.vote_metrics import interval

    measured = resampled(one, {"first": one.said, "second": other.said}, resamples, least)
    rows: list[dict[str, object]] = []
    for place, feature in [(None, MEAN), *enumerate(one.features)]:
        columns = measured.defined if place is None else np.arange(len(one.features)) == place
        if not (columns & measured.defined).any():
            continue
        row: dict[str, object] = {"survey": survey, "feature": feature}
        row["galaxies"] = len(one.ids) if place is None else int(measured.asked[place])
        for name, measure in (("r", "pearson"), ("MAE", "mae")):
            before, after = (measured.mean(measure, columns, by) for by in ("first", "second"))
            row |= {f"{name}_first": float(before[0]), f"{name}_second": float(after[0])}
            ends = (f"{name}_difference", f"{name}_low", f"{name}_high")
            row |= dict(zip(ends, interval(after - before), strict=True))
        rows.append(row)
    return rows


def _show(table: "pd.DataFrame", first: Path, second: Path) -> None:
    """Prints the table; differences whose interval leaves out 0 are bold."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    console.print(f"first:  {escape(str(first))}\nsecond: {escape(str(second))}", highlight=False)
    for survey, rows in table.groupby("survey", sort=False):
        shown = Table(title=escape(str(survey)), title_justify="left")
        for name in ("feature", "galaxies", "r 1st", "2nd", "2nd - 1st", "MAE 1st", "2nd", "2nd - 1st"):
            shown.add_column(name, justify="left" if name == "feature" else "right", no_wrap=True)
        for row in rows.to_dict("records"):
            cells = [str(row["feature"]), f"{row['galaxies']:,}"]
            for name in ("r", "MAE"):
                low, high = row[f"{name}_low"], row[f"{name}_high"]
                difference = f"{row[f'{name}_difference']:+.3f} \\[{low:+.3f}, {high:+.3f}]"
                cells += [f"{row[f'{name}_first']:.3f}", f"{row[f'{name}_second']:.3f}"]
                cells.append(f"[bold]{difference}[/]" if low > 0 or high < 0 else difference)
            shown.add_row(*cells, end_section=row["feature"] == MEAN)
        # Names of features and intervals are of no use in parts.
        console.width = max(console.width, console.measure(shown, options=console.options.update(width=500)).maximum)
        console.print(shown)
    console.print("2nd - 1st: paired over the same galaxies, 95 % interval in brackets.", highlight=False)


if __name__ == "__main__":
    main()
