"""Predictions of a finished run for new images: `galaxyml predict RUN PATHS… --out predictions.csv`."""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galaxyml.inference.interval import USUAL
from galaxyml.runs.errors import UsageError, shorten
from galaxyml.runs.options import Parser

if TYPE_CHECKING:
    from galaxyml.inference.predictor import Predictor

EXAMPLES = """\
examples:
  galaxyml predict multirun/spirals/mine images/ --out predictions.csv
  galaxyml predict multirun/spirals/mine/fold-0 a.fits 'cutouts/*.png' --out predictions.parquet
  galaxyml predict multirun/galaxy10/mine paths.csv --out predictions.csv
  galaxyml predict multirun/plasticc/mine night/ --out anomalies.csv
  galaxyml predict multirun/plasticc/mine stars.csv --columns time=BJD,flux=counts --bands V=g --out anomalies.csv
  galaxyml predict model.zip images/ --out fractions.csv --interval 80"""

SHARD_ROWS = 20_000
OF_FOLDERS = {  # options and what they are unless given
    "--shard-rows": None,
    "--workers": None,
    "--on": "here",
    "--engine": None,
    "--partition": None,
    "--encoder": None,
    "--features": False,
    "--features-only": False,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and writes the predictions."""
    parser = Parser(
        prog="galaxyml predict",
        description="Writes the predictions of a finished run, or of a sweep's folds, for any images or light curves.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "run",
        type=Path,
        help="folder of a run or sweep, or a bundle of it (.zip); for --features-only also hf-hub:OWNER/NAME "
        "or local-dir:FOLDER, an encoder",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        help="images of any size (JPEG, PNG, TIFF, FITS, an HDF5 file of them), folders, patterns such as '*.png', "
        "or a table of them (.csv, .parquet, .fits, .vot, .ecsv) with a column path, image, file or filename; for a "
        "run of light curves, a folder with a test_set.csv and its metadata, or tables of another survey",
    )
    parser.add_argument(
        "--out",
        required=True,
        help="the table that will be written: .csv, .parquet, .fits, .vot or .ecsv; or a folder (FOLDER/), for any "
        "number of images: a file a shard, and the same command goes on where it was stopped",
    )
    parser.add_argument(
        "--on-error", choices=("skip", "stop"), default="skip", help="what to do with a bad image (default: skip)"
    )
    parser.add_argument(
        "--interval",
        default=USUAL,
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
    shards = parser.add_argument_group("into a folder")
    shards.add_argument("--shard-rows", type=int, help=f"images of a shard (default: {SHARD_ROWS})")
    shards.add_argument("--workers", type=int, help="processes that predict (default: one a GPU, or one a core)")
    shards.add_argument(
        "--on", choices=("here", "ray", "slurm"), default="here", help="what makes shards (default: here)"
    )
    shards.add_argument(
        "--engine", help="of ray and slurm: options such as address=local,cpus=2 or partition=gpu,timeout_min=60"
    )
    shards.add_argument("--partition", choices=("hats",), help="a HATS catalogue of the predictions, too")
    features = shards.add_mutually_exclusive_group()
    features.add_argument("--features", action="store_true", help="what the net's head sees, too, as float16")
    features.add_argument("--features-only", action="store_true", help="these alone")
    shards.add_argument(
        "--encoder", help="of an encoder: size, crop, views and channels, such as size=224,crop=0.5 (as for training)"
    )
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    said = {"columns": _pairs("--columns", given.columns), "bands": _pairs("--bands", given.bands)}
    curves = {name: value for name, value in {**said, "zero_point": given.zero_point}.items() if value is not None}
    if given.out.endswith(("/", os.sep)) or Path(given.out).is_dir():
        into_folder(given, curves)
        return
    if astray := [option for option, value in OF_FOLDERS.items() if getattr(given, _key(option)) != value]:
        raise UsageError(f"{astray[0]} is of predictions in a folder: write --out FOLDER/, or leave it out.")
    out = Path(given.out)
    if not out.suffix:
        raise UsageError(
            f"--out {out}: write {out}/ for a folder of predictions in shards, or the name of a table, as {out}.csv."
        )
    predict(given.run, given.paths, out, given.on_error == "stop", given.interval, curves)


def into_folder(given: Any, curves: Mapping[str, Any]) -> None:
    """Predicts into a folder, given what was said in the command line, of light curves in `curves`.

    Raises:
        UserError: If an option is wrong, the run is one of light curves, or as `predict_in_shards`.
    """
    if given.on_error == "stop":
        raise UsageError("--on-error stop is of predictions in one table: FOLDER/failed.parquet has what failed.")
    for option in ("--shard-rows", "--workers"):
        if (value := getattr(given, _key(option))) is not None and value < 1:
            raise UsageError(f"{option} {value}: it must be a whole number, 1 or more.")
    import yaml

    from galaxyml.inference.encoder_predictor import open_encoder
    from galaxyml.inference.image_predictor import ImagePredictor
    from galaxyml.inference.shards.command import predict_in_shards
    from galaxyml.inference.shards.engines import engine_of
    from galaxyml.models.sources import Source

    engine = engine_of(given.on, given.workers, _pairs("--engine", given.engine) or {})
    encoder = Source.read(str(given.run))
    settings = {key: yaml.safe_load(value or "") for key, value in (_pairs("--encoder", given.encoder) or {}).items()}
    if encoder is not None and not given.features_only:
        raise UsageError(f"{given.run} is an encoder, which has features and no predictions: give --features-only.")
    if encoder is None and settings:
        raise UsageError("--encoder is of encoders by name (hf-hub:OWNER/NAME); a run has settings of its own.")
    predictor = open_encoder(str(given.run), settings) if encoder is not None else load_run(given.run, given.paths)
    if curves:
        predictor.say_names(curves)
    if not isinstance(predictor, ImagePredictor) and (given.features or given.features_only):
        raise UsageError(f"{given.run} is a run of light curves, of which there are no features: leave it out.")
    features = "only" if given.features_only else "too" if given.features else "none"
    options = {
        "interval": given.interval,
        "features": features,
        "encoder": settings if encoder is not None else None,
        "curves": curves,
    }
    out = Path(given.out)
    predict_in_shards(
        given.run, predictor, given.paths, out, engine, options, given.shard_rows or SHARD_ROWS, given.partition
    )


def load_run(run: Path, paths: Sequence[str], for_features: bool = False) -> "Predictor":
    """The predictor of a run as the command names it; says what is to be known of one that comes with the package.

    Args:
        run: As the command names it.
        paths: What is given behind it.
        for_features: As for `galaxyml.inference.load`.

    Raises:
        UserError: If it is not there, or as `galaxyml.inference.load`.
    """
    from galaxyml.inference import load
    from galaxyml.runs.packaged import note, packaged
    from galaxyml.runs.run_dir import RunDir

    run = packaged(run)
    if said := note(run):
        print(f"note: {said}", file=sys.stderr)
    if not run.exists():
        turned = f" The order is RUN IMAGES: is the run {paths[0]}?" if paths and RunDir(paths[0]).finished else ""
        raise UsageError(f"{run} is not there. Give the folder of a finished run, or a bundle (.zip).{turned}")
    return load(run, for_features)


def _key(option: str) -> str:
    """What argparse calls an option."""
    return option.removeprefix("--").replace("-", "_")


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
    interval: str = USUAL,
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
    from galaxyml.inference.columns import fields_of
    from galaxyml.runs.files import atomic_write

    check_format(out)
    predictor = load_run(run, paths)
    if curves:
        predictor.say_names(curves)
    bad: list[str] = []
    table = predictor.predict(paths, None if stop else bad, interval)
    if bad:
        count = len(table) + len(bad)
        print(f"{len(bad):,} of {count:,} images cannot be read: {shorten(bad, '; ')}", file=sys.stderr)
    with atomic_write(out, "Choose another --out.") as draft:
        notes = write_table(table, draft, fields_of(predictor.kind, list(table.columns)), out.suffix)
    for note in notes:
        print(f"note: {note}")
    print(f"{predictor.summary(table)}: {out}")
