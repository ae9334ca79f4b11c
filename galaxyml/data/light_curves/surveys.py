"""Light curves in the tables of other surveys, by the names that these give to columns."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from galaxyml.data.light_curves.columns import FORMAT, LightCurves, open_store
from galaxyml.data.light_curves.store import build_from_rows
from galaxyml.data.light_curves.survey_columns import NAMES, CurveNames, SurveyCurves, read_curves
from galaxyml.data.light_curves.survey_tables import from_frame, read_tables
from galaxyml.runs.files import digest, known_digest


def open_survey(paths: Sequence[Path], cache: Path, names: CurveNames, where: str) -> tuple[LightCurves, pd.DataFrame]:
    """Opens the light curves of tables whose columns are named as surveys name them; reads them first if need be.

    They are held in memory while they are read: 26 bytes an observation, and the largest file.

    Args:
        paths: CSV, FITS, parquet, VOTable or ECSV files, and SNANA's; see `surveys.yaml`.
        cache: Folder of all stores.
        names: What the user says of their columns.
        where: What they are called together in messages.

    Returns:
        The curves, and their objects as `SurveyCurves` has them.

    Raises:
        DataError: If a file or a value cannot be used, or no file has observations.
    """
    files = [(path.name, known_digest(path, cache)) for path in paths]
    folder = cache / "light_curves" / digest([FORMAT, "survey", NAMES, names, where, *files])

    def read(work: Path) -> Path:
        curves = read_curves(read_tables(paths, names.wanted()), names, where)
        return _build(curves, work, paths, where)

    return open_store(folder, read), pd.read_parquet(folder / "objects.parquet")


def open_frames(frames: Sequence[pd.DataFrame], cache: Path, names: CurveNames) -> tuple[LightCurves, pd.DataFrame]:
    """As `open_survey`, of tables that are in memory; the store is new each time."""
    called = ["the table"] if len(frames) == 1 else [f"table {number}" for number in range(1, len(frames) + 1)]
    tables = [from_frame(frame, name, names.wanted()) for frame, name in zip(frames, called, strict=True)]
    curves = read_curves(tables, names, "the table" if len(frames) == 1 else "the tables")
    cache.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=cache)) / "store"
    return open_store(folder, lambda work: _build(curves, work, [], "the table")), curves.objects


def _build(curves: SurveyCurves, work: Path, paths: Sequence[Path], where: str) -> Path:
    names = curves.objects.set_index("id")["name"]
    folder = build_from_rows(curves.rows, work, paths, where, names, curves.note)
    curves.objects.to_parquet(folder / "objects.parquet")
    return folder
