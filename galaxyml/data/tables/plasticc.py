"""PLAsTiCC: its files, found in a folder under Kaggle's or Zenodo's names, and what is known of each object."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from galaxyml.data.source import without_files
from galaxyml.data.tables.reading import Rows, check_columns, header, read_csv
from galaxyml.runs.errors import DataError, shorten

WHERE = (
    "The files come from https://www.kaggle.com/c/PLAsTiCC-2018/data or, with all true classes, from "
    "https://doi.org/10.5281/zenodo.2539456: `python -m galaxyml fetch plasticc` fetches the latter (7.7 GB; "
    "plasticc-train the training set alone, plasticc-kaggle the former); or put them into a folder plasticc/ and give "
    f"the folder above it as data_dir=… {without_files('Plasticc')}"
)
# Codes and names: the challenge's data note (arXiv 1810.00001) and, for the classes that only the test set has, the
# unblinded release (Zenodo 2539456) and Kessler et al. 2019 (PASP 131, 094501), table 2.
CLASSES = {
    90: "SNIa",
    67: "SNIa-91bg",
    52: "SNIax",
    42: "SNII",
    62: "SNIbc",
    95: "SLSN-I",
    15: "TDE",
    64: "KN",
    88: "AGN",
    92: "RRL",
    65: "M-dwarf",
    16: "EB",
    53: "Mira",
    6: "MicroLens-Single",
    991: "MicroLens-Binary",
    992: "ILOT",
    993: "CaRT",
    994: "PISN",
    995: "MicroLens-String",
}
OTHER = 99  # Kaggle's code for all of 991 to 995

# Names of the files without .csv: training curves and metadata, test curves (or how their parts begin) and metadata.
_KAGGLE = ("training_set", "training_set_metadata", "test_set", "test_set_metadata")
_ZENODO = (
    "plasticc_train_lightcurves",
    "plasticc_train_metadata",
    "plasticc_test_lightcurves",
    "plasticc_test_metadata",
)
_RENAMED = {"ddf_bool": "ddf"}  # Zenodo's name, Kaggle's name
_TRUTH = "test_set_truth"
_MISSING = -9.0  # Zenodo's mark of what is not known; Kaggle's is nan
# Our name and the files' name of each number, whether it may be missing, and from where to where it goes.
_NUMBERS = (
    ("ra", "ra", False, 0.0, 360.0),
    ("dec", "decl", False, -90.0, 90.0),
    ("ddf", "ddf", False, 0.0, 1.0),
    ("specz", "hostgal_specz", True, -0.1, np.inf),  # peculiar velocities make the nearest ones negative
    ("photoz", "hostgal_photoz", True, 0.0, np.inf),
    ("photoz_err", "hostgal_photoz_err", True, 0.0, np.inf),
    ("distmod", "distmod", True, -np.inf, np.inf),
    ("mwebv", "mwebv", False, 0.0, np.inf),
)


@dataclass(frozen=True)
class Files:
    """The files of PLAsTiCC in a folder.

    Attributes:
        train_curves: Light curves of the training set; empty where a survey alone is read.
        train_metadata: Its metadata.
        test_curves: Light curves of the test set, in parts; may be empty.
        test_metadata: Its metadata, where there is a test set.
        truth: `object_id,true_target` of test objects, where there is such a file.
        notes: What a user should know about them, in sentences.
    """

    train_curves: list[Path]
    train_metadata: Path | None
    test_curves: list[Path]
    test_metadata: Path | None
    truth: Path | None
    notes: tuple[str, ...] = ()


def find_files(root: Path) -> Files:
    """Finds the files under Kaggle's names or, where those are not there, Zenodo's; each plain or .gz.

    Args:
        root: The folder plasticc/.

    Raises:
        DataError: If a file is missing that there must be.
    """
    if not root.is_dir():
        raise DataError(f"There is no folder {root}. {WHERE}")
    named = [names for names in (_KAGGLE, _ZENODO) if any(_file(root, name) for name in names[:2])]
    curves, metadata, test_curves, test_metadata = named[0] if named else _KAGGLE
    train = [_file(root, name) for name in (curves, metadata)]
    if train[0] is None or train[1] is None:
        missing = [f"{name}.csv" for name, path in zip((curves, metadata), train, strict=True) if path is None]
        packed = sorted(path.name for path in root.glob("*.zip"))
        hint = f" There is {shorten(packed)}: unpack it." if packed else ""
        raise DataError(f"{root}: missing (as .csv or .csv.gz): {shorten(missing)}.{hint} {WHERE}")
    notes = []
    if len(named) > 1:
        notes.append(f"{root.name}/ has files under Kaggle's and under Zenodo's names; Kaggle's are used.")
    parts, gaps = _test_curves(root, test_curves)
    test, truth = _file(root, test_metadata), _file(root, _TRUTH)
    if test is None and (others := [path.name for path in (*parts, truth) if path]):
        raise DataError(f"{root}: missing: {test_metadata}.csv (or .csv.gz); there is {shorten(others)}. {WHERE}")
    return Files([train[0]], train[1], parts, test, truth, (*notes, *gaps))


def find_survey(root: Path) -> Files | None:
    """Finds the test set alone, under Kaggle's names or, where those are not there, Zenodo's; None without either.

    Raises:
        DataError: If its light curves or their metadata are missing.
    """
    begun = False
    for _, _, curves, metadata in (_KAGGLE, _ZENODO):
        parts, notes = _test_curves(root, curves)
        table = _file(root, metadata)
        if parts and table is not None:
            return Files([], None, parts, table, _file(root, _TRUTH), notes)
        begun |= bool(parts) or table is not None
    if not begun:
        return None
    raise DataError(
        f"{root}: it must be a folder with light curves to rank and their metadata: test_set.csv (or parts of it) and "
        "test_set_metadata.csv, or the same under Zenodo's names, as .csv or .csv.gz. Under other names, tables are "
        "read without metadata, too."
    )


def is_named_so(path: Path) -> bool:
    """Whether a file has one of PLAsTiCC's names."""
    names = (*_KAGGLE, *_ZENODO, _TRUTH)
    return re.fullmatch(rf"({'|'.join(names)})[^.]*\.csv(\.gz)?", path.name) is not None


def _test_curves(root: Path, start: str) -> tuple[list[Path], tuple[str, ...]]:
    """Files of the test set's light curves, in the order of their numbers, and what a user should know of them."""
    stems = {path.name.removesuffix(".gz").removesuffix(".csv") for path in root.glob(f"{start}*.csv*")}
    numbered = sorted((_number(stem), stem) for stem in stems if not re.search("metadata|truth|sample", stem))
    paths = {stem: path for _, stem in numbered if (path := _file(root, stem))}
    notes = []
    if start in paths and len(paths) > 1:
        notes.append(f"{paths[start].name} is used, and not the parts of it ({len(paths) - 1}).")
        paths = {start: paths[start]}
    numbers = {_number(stem) for stem in paths}
    if gaps := sorted(set(range(min(numbers, default=0), max(numbers, default=0))) - numbers):
        notes.append(f"parts of the test set's light curves are not there: {shorten(gaps)}.")
    return list(paths.values()), tuple(notes)


def _file(root: Path, stem: str) -> Path | None:
    """The file of that name, plain before packed."""
    return next((path for end in (".csv", ".csv.gz") if (path := root / f"{stem}{end}").is_file()), None)


def _number(name: str) -> int:
    numbers = re.findall(r"\d+", name)
    return int(numbers[-1]) if numbers else 0


def read_objects(files: Files) -> pd.DataFrame:
    """Reads the metadata of each object.

    Args:
        files: Those of `find_files`, or the test set's of `find_survey`.

    Returns:
        One row an object, ids ascending: `id` (int64), `file` (train or test), `ra` and `dec` (degrees), `ddf` (whether
        in a deep-drilling field), `specz`, `photoz`, `photoz_err` (the host's redshifts), `distmod` (magnitudes; all
        four NaN where not known), `mwebv` (dust of our Galaxy, E(B-V) in magnitudes), `galactic` (whether in our
        Galaxy: photoz is 0), `target` (Int64, a code of `CLASSES` or 99; NA where not known).

    Raises:
        DataError: If a file is missing or cut off, lacks a column, has an object twice, or a value is not allowed.
    """
    metadata = {"train": files.train_metadata, "test": files.test_metadata}
    tables = [_read_metadata(path, file) for file, path in metadata.items() if path is not None]
    if len(tables) > 1 and (both := np.intersect1d(tables[0]["id"], tables[1]["id"])).size:
        assert files.train_metadata is not None
        raise DataError(
            f"{files.test_metadata}: object {both[0]} is in {files.train_metadata.name} too ({both.size:,} such "
            "objects). An object belongs to one of them; take it out of the other."
        )
    objects = pd.concat(tables, ignore_index=True).sort_values("id", ignore_index=True)
    return objects if files.truth is None else _with_truth(objects, files.truth)


def _read_metadata(path: Path, file: str) -> pd.DataFrame:
    needed = [name for _, name, *_ in _NUMBERS]
    labels = ["true_target", "target"]
    rows = _read(path, needed, labels)
    label = next((name for name in labels if name in rows.frame), None)  # true_target wins
    if file == "train" and label is None:
        check_columns(path, list(rows.frame.columns), ["object_id", *needed, "target"])
    columns: dict[str, object] = {"id": rows.ids.astype(np.int64).to_numpy(), "file": file}
    for name, column, may_miss, lowest, highest in _NUMBERS:
        values = _numbers(rows, column)
        if may_miss:
            values = np.where(values == _MISSING, np.nan, values)
        wrong = ~((values >= lowest) & (values <= highest) & np.isfinite(values) | (may_miss & np.isnan(values)))
        if name == "ddf":
            wrong = ~np.isin(values, (0, 1))
        limits = {"ddf": "0 or 1", "distmod": "a finite number"}.get(name) or (
            f"from {lowest:g} to {highest:g}" if np.isfinite(highest) else f"{lowest:g} or above"
        )
        limits += ", or empty, nan or -9" if may_miss else ""
        rows.refuse_cells(wrong[:, None], [column], f"it must be {limits}")
        columns[name] = values.astype(bool) if name == "ddf" else values
    columns["galactic"] = columns["photoz"] == 0
    columns["target"] = _codes(rows, label, required=file == "train")
    return pd.DataFrame(columns)


def _with_truth(objects: pd.DataFrame, path: Path) -> pd.DataFrame:
    rows = _read(path, ["true_target"])
    codes = _codes(rows, "true_target", required=True)
    ids = rows.ids.astype(np.int64).to_numpy()
    test = objects.loc[objects["file"] == "test", "id"]
    rows.refuse(
        ~np.isin(ids, test),
        lambda row: " has no row in the test set's metadata",
        "Take it out of the truth, or fetch the metadata again.",
    )
    objects.loc[np.searchsorted(objects["id"], ids), "target"] = codes.to_numpy()
    return objects


def _read(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> Rows:
    """Some columns of a table, as pandas takes them to be, with ids as text; 615.0 is the id 615."""
    names = {name: _RENAMED.get(name.strip(), name.strip()) for name in header(path, WHERE)}
    check_columns(path, list(names.values()), ["object_id", *needed])
    table = read_csv(
        path,
        WHERE,
        usecols=[name for name, meant in names.items() if meant in {"object_id", *needed, *optional}],
        dtype={name: str for name, meant in names.items() if meant == "object_id"},
        index_col=False,
        skip_blank_lines=False,
        low_memory=False,
    )
    table = table.rename(columns=names).dropna(how="all")
    if table.empty:
        raise DataError(f"{path} has a header and no rows. {WHERE}")
    table["object_id"] = table["object_id"].fillna("").str.strip().str.replace(r"\.0*$", "", regex=True)
    rows = Rows(path, "object_id", table, noun="object")
    rows.check_ids(r"\d{1,18}")
    return rows


def _numbers(rows: Rows, column: str) -> np.ndarray:
    values = pd.to_numeric(rows.frame[column], errors="coerce")
    wrong = (values.isna() & rows.frame[column].notna()).to_numpy()
    rows.refuse_cells(wrong[:, None], [column], "it must be a number")
    return values.to_numpy(np.float64)


def _codes(rows: Rows, column: str | None, required: bool) -> pd.Series:
    """Classes as Int64; NA where not known."""
    if column is None:
        return pd.Series(pd.NA, index=range(len(rows.frame)), dtype="Int64")
    values = _numbers(rows, column)
    allowed = sorted([*CLASSES, OTHER])
    wrong = ~(np.isin(values, allowed) | (np.isnan(values) & (not required)))
    rows.refuse_cells(wrong[:, None], [column], f"it must be one of {', '.join(map(str, allowed))}")
    return pd.Series(values).astype("Int64")
