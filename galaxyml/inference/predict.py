"""What a finished run says of other pictures: `python -m galaxyml predict RUN PATHS… --out predictions.csv`."""

import argparse
import glob
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from galaxyml.runs.errors import DataError, UserError, shorten

if TYPE_CHECKING:
    import pandas as pd

    from galaxyml.runs.run_dir import RunDir

EXAMPLES = """\
examples:
  python -m galaxyml predict multirun/spirals/mine pictures/ --out predictions.csv
  python -m galaxyml predict multirun/spirals/mine/fold-0 a.fits 'cutouts/*.png' --out predictions.parquet
  python -m galaxyml predict multirun/galaxy10/mine paths.csv --out predictions.csv
  python -m galaxyml predict multirun/plasticc/mine night/ --out anomalies.csv
  python -m galaxyml predict model.zip pictures/ --out fractions.csv --interval 80"""

PATH_COLUMNS = ("path", "image", "file", "filename")
FORMATS = (".csv", ".parquet")
_END = re.compile(r"_(?:low|high)(\d+)$")  # of an interval, in per cent


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and writes the predictions."""
    parser = argparse.ArgumentParser(
        prog="galaxyml predict",
        description="Writes what a finished run, or the mean of a sweep's folds, says of any pictures or light curves.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="folder of a run or sweep, or a bundle of it (.zip)")
    parser.add_argument(
        "paths",
        nargs="+",
        help="pictures of any size (JPEG, PNG, TIFF, FITS, an HDF5 file of them), folders, patterns such as '*.png', "
        f"or a .csv with a column {' or '.join(PATH_COLUMNS)}; for a run of light curves, a folder with a test_set.csv "
        "and its metadata",
    )
    parser.add_argument("--out", type=Path, required=True, help="a .csv or .parquet that will be written")
    parser.add_argument(
        "--on-error", choices=("skip", "stop"), default="skip", help="what to do with a bad picture (default: skip)"
    )
    parser.add_argument(
        "--interval",
        default="95",
        help="which intervals of predicted fractions are written, in per cent: 95 (default), 80, 50, all or none",
    )
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    predict(given.run, given.paths, given.out, given.on_error == "stop", given.interval)


def predict(run: Path, paths: Sequence[str], out: Path, stop: bool = False, interval: str = "95") -> None:
    """Writes what a run says: of light curves their ranked list, of pictures a table with one row each.

    Its columns are `path`, what the run's stages make of it, `distance` and `unlike`. A picture is cropped and resized
    as the run's own were, and seen by the net as in its predictions, so that the same pictures get the same numbers to
    the last bit. `distance` says how unlike the training set the picture is, by its looks or to the net, in units of
    what at most 1 % of the validation pictures exceed; `unlike` is whether it is above 1.

    Args:
        run: Folder of a finished run, or of a sweep whose folds were joined: then the mean of its members; or a bundle
            of either.
        paths: Files, folders, patterns, HDF5 files, or CSV files with a column of paths; one folder of light curves.
        out: A `.csv` or `.parquet`.
        stop: Whether a bad picture ends it; otherwise bad ones are named and left out.
        interval: Which intervals are kept of a run that predicts fractions, in per cent; `all`, or `none`.

    Raises:
        UserError: If the run is not finished, there are no pictures, all are bad, or one is bad and `stop` is set, or
            the run has no such interval.
    """
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"--out {out}: it must end in {' or '.join(FORMATS)}.")

    from galaxyml.inference.bundle import opened

    here = opened(run)
    if "framing" not in here.config.data:
        _rank(here, paths, out)
        return
    images = find(paths)

    from galaxyml.inference.predictor import Predictor

    bad: list[str] = []
    table = Predictor(here.path).predict([image.path for image in images], bad if not stop else None)
    table["path"] = table["path"].map({image.path: image.shown for image in images})
    if bad:
        print(f"{len(bad):,} of {len(images):,} pictures cannot be read: {shorten(bad, '; ')}", file=sys.stderr)
    if table.empty:
        raise UserError("None of the pictures can be read, so nothing was written.")
    table = _with_interval(table, interval)
    _write(table, out)
    strange = f", {int(table['unlike'].sum()):,} of them unlike the training set" if "unlike" in table else ""
    print(f"{len(table):,} pictures{strange}: {out}")


def _with_interval(table: "pd.DataFrame", interval: str) -> "pd.DataFrame":
    """The table with the ends of one interval of each fraction, of those that it has."""
    levels = {name: ends.group(1) for name in table.columns if (ends := _END.search(name))}
    if not levels or interval == "all":
        return table
    known = sorted(set(levels.values()), key=int)
    if interval not in (*known, "none"):
        raise UserError(f"--interval {interval}: this run has intervals of {', '.join(known)} %; or give all or none.")
    return table.drop(columns=[name for name, level in levels.items() if level != interval])


def _rank(run: "RunDir", paths: Sequence[str], out: Path) -> None:
    """Writes light curves in the order of a run's scores."""
    from galaxyml.inference.light_curve_predictor import rank

    if len(paths) != 1 or not Path(paths[0]).expanduser().is_dir():
        raise UserError(
            f"{run.path} is a run of light curves: give one folder with a test_set.csv and its test_set_metadata.csv, "
            f"not {shorten(list(paths))}."
        )
    table = rank(run, Path(paths[0]).expanduser())
    _write(table, out)
    above = int(table["anomaly"].eq(True).sum())  # empty where the run has no threshold
    print(f"{len(table):,} light curves, {above:,} of them above the run's threshold: {out}")


def _write(table: "pd.DataFrame", out: Path) -> None:
    """Writes a table, whole or not at all."""
    from galaxyml.runs.files import atomic_write

    with atomic_write(out, "Choose another --out.") as draft:
        if out.suffix.lower() == ".csv":
            table.to_csv(draft, index=False)
        else:
            table.to_parquet(draft, index=False)


@dataclass(frozen=True)
class Found:
    """A picture that was found.

    Attributes:
        path: Where it is.
        shown: What the user called it.
    """

    path: str
    shown: str


def find(paths: Sequence[str]) -> list[Found]:
    """All pictures that files, folders, patterns and tables of paths name; each once, in the order given.

    Raises:
        UserError: If something is not there, or holds no pictures.
    """
    found = {image.path: image for path in paths for image in _found(path)}
    return list(found.values())


def _found(given: str) -> Iterator[Found]:
    from galaxyml.data.images.decode import HDF5, SUFFIXES, has_suffix

    path = Path(given).expanduser()
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if has_suffix(file, SUFFIXES) and file.is_file())
        if not inside:
            raise UserError(f"{path}: the folder holds no pictures ({', '.join(SUFFIXES)}).")
        yield from (Found(str(file), str(file)) for file in inside)
    elif not path.exists() and glob.has_magic(given):
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise UserError(f"No file matches '{given}'.")
        for match in matches:
            yield from _found(match)
    elif path.name.lower().endswith(".csv"):
        yield from _listed(path)
    elif has_suffix(path, HDF5):
        yield from _rows(path)
    else:
        yield Found(str(path), given)  # what is missing or no picture is told like any other bad picture


def _rows(path: Path) -> Iterator[Found]:
    import h5py

    from galaxyml.data.images.decode import KEY, address

    try:
        with h5py.File(path) as file:
            pixels = file.get(KEY)
            if (
                not isinstance(pixels, h5py.Dataset)
                or pixels.ndim != 4
                or pixels.shape[-1] != 3
                or pixels.dtype != "u1"
            ):
                raise DataError(
                    f"{path} has no {KEY} of shape (N, H, W, 3) and type uint8; it has {shorten(sorted(file))}."
                )
            count = len(pixels)
    except OSError as error:
        raise DataError(f"{path} cannot be read as HDF5 ({str(error).splitlines()[0]}).") from None
    yield from (Found(address(str(path), row), address(str(path), row)) for row in range(count))


def _listed(path: Path) -> Iterator[Found]:
    """Pictures of a CSV; relative paths begin in its own folder."""
    from galaxyml.data.tables.reading import read_csv

    table = read_csv(path, dtype=str)
    column = next((name for name in PATH_COLUMNS if name in table.columns), None)
    if column is None:
        raise UserError(f"{path} has no column {' or '.join(PATH_COLUMNS)}; it has {shorten(list(table.columns))}.")
    if table[column].isna().any():
        row = int(table[column].isna().to_numpy().argmax())
        raise UserError(f"{path}, line {row + 2}: {column} is empty. Give a path or take the row out.")
    if table.empty:
        raise UserError(f"{path} has a header and no rows.")
    yield from (Found(str(path.parent / Path(name).expanduser()), name) for name in table[column])
