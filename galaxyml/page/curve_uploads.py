"""Light curves that people upload: CSV files, laid out as the survey's own, or as they are under other names."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from galaxyml.data.tables.reading import read_csv
from galaxyml.inference.light_curve_predictor import CURVES, METADATA
from galaxyml.page.uploads import check_bytes
from galaxyml.runs.errors import UserError, shorten

OBSERVED = ("object_id", "mjd", "passband", "flux", "flux_err")
# What is taken for metadata that are not given.
DEFAULTS = dict.fromkeys(("ra", "decl", "ddf", "mwebv"), "0") | dict.fromkeys(
    ("hostgal_specz", "hostgal_photoz", "hostgal_photoz_err", "distmod"), "nan"
)
MATTER = ("hostgal_photoz", "hostgal_photoz_err", "mwebv", "ddf")  # to the net
MOST_OBJECTS, MOST_ROWS = 20, 50_000


@dataclass(frozen=True)
class SurveyFolder:
    """Uploaded light curves in a folder.

    Attributes:
        folder: With the survey's files.
        names: What the user calls each of them, by path.
        notes: What was taken for granted, in sentences.
    """

    folder: Path
    names: dict[str, str]
    notes: tuple[str, ...]

    def in_users_words(self, message: str) -> str:
        """A message about files in the folder, with the user's own names of them."""
        for path, name in self.names.items():
            message = message.replace(path, name).replace(Path(path).name, name)
        return message.replace(f"{self.folder}/", "").replace(str(self.folder), "the upload")


def lay_out(paths: Sequence[Path], folder: Path) -> SurveyFolder:
    """Lays uploaded files out as a survey.

    Args:
        paths: A CSV of observations, and another one of metadata, or with the metadata as columns of the first; or CSV
            files whose columns are named as other surveys name them.
        folder: An empty one.

    Raises:
        UserError: If they are something else, or hold too much.
    """
    tables = {path: _read(path) for path in paths}
    observed = [path for path, table in tables.items() if set(OBSERVED) <= set(table.columns)]
    if len(observed) != 1 or len(tables) > 2:
        return _of_other_surveys(tables, folder)
    path = observed[0]
    table = tables.pop(path)
    if table.empty:
        raise UserError(f"{path.name} has a header and no rows.")
    check_count(path.name, table["object_id"].nunique(), len(table))
    shutil.copyfile(path, folder / CURVES)
    metadata_path, metadata = next(iter(tables.items()), (path, table.drop_duplicates("object_id")))
    if "object_id" not in metadata:
        raise UserError(f"{metadata_path.name} has no column object_id; it has {shorten(list(metadata.columns))}.")
    missing = [name for name in DEFAULTS if name not in metadata]
    metadata = metadata.assign(**{name: DEFAULTS[name] for name in missing})
    metadata[["object_id", *DEFAULTS]].fillna("nan").to_csv(folder / METADATA, index=False)
    notes = []
    if lacking := [name for name in MATTER if name in missing]:
        notes.append(
            f"Not given, and taken to be unremarkable: {', '.join(lacking)}. With them the scores may be others."
        )
    names = {str(folder / CURVES): path.name, str(folder / METADATA): metadata_path.name}
    return SurveyFolder(folder, names, tuple(notes))


def check_count(name: str, objects: int, rows: int) -> None:
    """Refuses more than a page can show.

    Raises:
        UserError: If there are too many objects or rows.
    """
    if objects > MOST_OBJECTS or rows > MOST_ROWS:
        raise UserError(
            f"{name} has {objects:,} objects and {rows:,} rows; at most {MOST_OBJECTS} and {MOST_ROWS:,} are allowed "
            "here. For more: python -m galaxyml predict RUN FOLDER --out anomalies.csv"
        )


def _of_other_surveys(tables: Mapping[Path, pd.DataFrame], folder: Path) -> SurveyFolder:
    """Uploaded files as they are."""
    names = {}
    for path, table in tables.items():
        check_count(path.name, 1, len(table))
        copy = folder / f"{path.name.removesuffix('.csv')}.csv"
        shutil.copyfile(path, copy)
        names[str(copy)] = path.name
    return SurveyFolder(folder, names, ())


def _read(path: Path) -> pd.DataFrame:
    check_bytes(path)
    with path.open("rb") as file:
        start = file.read(4096)
    if b"\0" in start or start.startswith(b"\x1f\x8b"):
        raise UserError(f"{path.name} is no CSV table. Give it unpacked, as text.")
    table = read_csv(path, dtype=str)
    return table.rename(columns={"ddf_bool": "ddf", "detected_bool": "detected"})
