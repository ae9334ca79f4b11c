"""Predictions of a finished run for new images: `galaxyml predict RUN PATHS… --out predictions.csv`."""

import argparse
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galaxyml.runs.errors import UsageError, shorten

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = """\
examples:
  galaxyml predict multirun/spirals/mine images/ --out predictions.csv
  galaxyml predict multirun/spirals/mine/fold-0 a.fits 'cutouts/*.png' --out predictions.parquet
  galaxyml predict multirun/galaxy10/mine paths.csv --out predictions.csv
  galaxyml predict multirun/plasticc/mine night/ --out anomalies.csv
  galaxyml predict multirun/plasticc/mine stars.csv --columns time=BJD,flux=counts --bands V=g --out anomalies.csv
  galaxyml predict model.zip images/ --out fractions.csv --interval 80"""

INTERVAL = r"_(?:low|high)(\d+)$"  # end of the name of an interval's column, in per cent


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and writes the predictions."""
    parser = argparse.ArgumentParser(
        prog="galaxyml predict",
        description="Writes the predictions of a finished run, or of a sweep's folds, for any images or light curves.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="folder of a run or sweep, or a bundle of it (.zip)")
    parser.add_argument(
        "paths",
        nargs="+",
        help="images of any size (JPEG, PNG, TIFF, FITS, an HDF5 file of them), folders, patterns such as '*.png', "
        "or a .csv with a column path, image, file or filename; for a run of light curves, a folder with a "
        "test_set.csv and its metadata, or tables of another survey",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="the table that will be written: .csv, .parquet, .fits, .vot or .ecsv"
    )
    parser.add_argument(
        "--on-error", choices=("skip", "stop"), default="skip", help="what to do with a bad image (default: skip)"
    )
    parser.add_argument(
        "--interval",
        default="95",
        help="which intervals of predicted fractions are written, in per cent: 95 (default), 80, 50, all or none",
    )
    parser.add_argument(
        "--columns",
        help="of light curves: names of columns that are not known, such as time=BJD,flux=counts "
        "(object, time, band, flux, flux_err, mag, mag_err, detected, redshift, redshift_err, mwebv, ddf)",
    )
    parser.add_argument(
        "--bands", help="of light curves: passbands that are not known, such as V=g,R=r; V= leaves V out"
    )
    parser.add_argument("--zero-point", type=float, help="of light curves: magnitude (AB) of a flux of 1")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    said = {"columns": _pairs("--columns", given.columns), "bands": _pairs("--bands", given.bands)}
    curves = {name: value for name, value in {**said, "zero_point": given.zero_point}.items() if value is not None}
    predict(given.run, given.paths, given.out, given.on_error == "stop", given.interval, curves)


def _pairs(option: str, text: str | None) -> dict[str, str | None] | None:
    """What is said by `a=b,c=d`; None of what stands before an = alone."""
    if text is None:
        return None
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if wrong := [before for before, sign, _ in pairs if not sign or not before.strip()]:
        raise UsageError(
            f"{option} {text}: '{wrong[0]}' is not said to be anything; write {option} name=value,name=value."
        )
    return {before.strip(): after.strip() or None for before, _, after in pairs}


def predict(
    run: Path,
    paths: Sequence[str],
    out: Path,
    stop: bool = False,
    interval: str = "95",
    curves: Mapping[str, Any] | None = None,
) -> None:
    """Writes the predictions of a run for new images, or the ranked list of light curves.

    An image is cropped and resized as the run's own were, and seen by the model as in its predictions, so that the same
    images get the same numbers to the last bit.

    Args:
        run: Folder of a finished run, or of a sweep whose folds were joined, or a bundle of either.
        paths: Files, folders, patterns, HDF5 files, or CSV files with a column of paths; one folder of light curves.
        out: The table, in one of the formats of `galaxyml.data.tables.writing`.
        stop: Whether a bad image ends it; otherwise bad ones are named and left out.
        interval: Which intervals are kept of a run that has them, in per cent; `all`, or `none`.
        curves: Of light curves, what the user says of their columns; see `CurveNames`.

    Raises:
        UserError: If the run is not finished, there are no images, all are bad, or one is bad and `stop` is set, or
            the run has no such interval.
    """
    from galaxyml.data.tables.writing import check_format, write_table

    check_format(out)
    if not run.exists():
        raise UsageError(f"{run} is not there. Give the folder of a finished run, or a bundle (.zip).")

    from galaxyml.inference import load
    from galaxyml.inference.columns import fields_of
    from galaxyml.runs.files import atomic_write

    predictor = load(run)
    if curves:
        predictor.say_names(curves)
    bad: list[str] = []
    table = with_interval(predictor.predict(paths, None if stop else bad), interval)
    if bad:
        count = len(table) + len(bad)
        print(f"{len(bad):,} of {count:,} images cannot be read: {shorten(bad, '; ')}", file=sys.stderr)
    with atomic_write(out, "Choose another --out.") as draft:
        notes = write_table(table, draft, fields_of(predictor.kind, list(table.columns)), out.suffix)
    for note in notes:
        print(f"note: {note}")
    print(f"{predictor.summary(table)}: {out}")


def with_interval(table: "pd.DataFrame", interval: str) -> "pd.DataFrame":
    """A table of predictions with the ends of one interval of each column, of those that it has.

    Args:
        table: With columns such as `r90_low95`, or without.
        interval: Per cent; or `all`, or `none`.

    Raises:
        UserError: If it has intervals and not this one.
    """
    levels = {name: ends.group(1) for name in table.columns if (ends := re.search(INTERVAL, name))}
    if not levels or interval == "all":
        return table
    choices = sorted(set(levels.values()), key=int)
    if interval not in (*choices, "none"):
        raise UsageError(
            f"--interval {interval}: this run has intervals of {', '.join(choices)} %; or give all or none."
        )
    return table.drop(columns=[name for name, level in levels.items() if level != interval])
