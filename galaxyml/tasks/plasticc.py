"""Light curves of known classes to learn, and what is unlike them to be found: PLAsTiCC's, or other surveys' tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from galaxyml.data.catalog import UNKNOWN
from galaxyml.data.light_curves.columns import LightCurves, open_curves
from galaxyml.data.light_curves.data_module import CurveData
from galaxyml.data.light_curves.survey_columns import NAMES, CurveNames
from galaxyml.data.light_curves.survey_tables import find_tables
from galaxyml.data.light_curves.surveys import open_frames, open_survey
from galaxyml.data.tables.plasticc import CLASSES, OTHER, Files, find_files, find_survey, is_named_so, read_objects
from galaxyml.kinds.anomalies import Anomalies
from galaxyml.runs.errors import DataError, UserError, did_you_mean
from galaxyml.runs.files import known_digest

NIGHT = (
    "Give a folder with test_set.csv and test_set_metadata.csv of PLAsTiCC, or tables of other surveys (.csv, "
    ".parquet, .fits, .vot, .ecsv) with times, passbands, and fluxes or magnitudes with their errors."
)
KNOWN = tuple(name for code, name in CLASSES.items() if code < OTHER)  # classes of the training set


class Plasticc(CurveData):
    """Light curves of PLAsTiCC in the files of Kaggle or of Zenodo; or other tables whose columns say what they are.

    Objects of known classes in the training set are dealt into training, validation and test objects; all others of the
    training set come to the test objects. Objects of the test set are the split `survey`. In tables of other surveys
    objects that have a class are the training set, and those that have none the survey.

    Args:
        source: The folder of the files; see CatalogData.
        classes: Names of the known classes, PLAsTiCC's or those of tables of one's own.
        leave_out: Classes that are kept from training and are to be found: a code, a name, or several.
        curves: What the user says of tables whose names are not known.
        kind: The kind of target; None for what is unlike these classes.
        **options: As for CurveData and CatalogData.

    Raises:
        UserError: If an argument is impossible; of the files, in `setup`, a DataError that names file and line.

    Example:
        Kilonovae are kept from training, to be found::

            data = Plasticc("data/plasticc", leave_out="KN")
            trainer.fit(VAEModule.for_data(data), datamodule=data)
    """

    task = "plasticc"
    simulated: ClassVar = {"count": 3000}

    def __init__(
        self,
        source: Any = None,
        *,
        classes: Sequence[str] = KNOWN,
        leave_out: int | str | Sequence[int | str] | None = None,
        curves: CurveNames | None = None,
        kind: Anomalies | None = None,
        **options: Any,
    ) -> None:
        super().__init__(source, kind=kind if kind is not None else Anomalies(list(classes)), **options)
        self.classes = [class_name(name) for name in classes]
        self.left_out = [_left_out(given, self.classes) for given in _several(leave_out)]
        self.curves = curves if curves is not None else CurveNames()

    def check_folder(self, root: Path) -> None:
        if not _tables_of_ones_own(root):
            find_files(root)
            for name in self.classes:
                class_code("classes", name)

    def load(self, root: Path) -> tuple[pd.DataFrame, list[LightCurves]]:
        self.check_folder(root)
        if not (tables := _tables_of_ones_own(root)):
            return self._read(find_files(root))
        curves, objects = open_survey(tables, self.cache, self.curves, str(root))
        if not objects["class"].any():
            raise DataError(
                f"{root}: no object has a class, so there is nothing to learn. A run learns from objects whose class "
                f"stands in one of the columns {', '.join(NAMES['class'])}, of the light curves or of a table of "
                "objects beside them (or say which: curves.columns={class: …}). To rank them by a run that there is: "
                "galaxyml predict RUN FOLDER --out anomalies.csv"
            )
        return self._named(curves, objects, (objects["class"] != "").to_numpy(), root)

    def load_survey(self, given: Sequence[Path | pd.DataFrame]) -> tuple[pd.DataFrame, list[LightCurves]]:
        frames = [item for item in given if isinstance(item, pd.DataFrame)]
        paths = [item for item in given if isinstance(item, Path)]
        if frames:
            curves, objects = open_frames(frames, self.cache, self.curves)
        elif len(paths) == 1 and paths[0].is_dir():
            if (files := find_survey(paths[0])) is not None:
                return self._read(files)
            if not (tables := find_tables(paths[0])):
                raise DataError(f"{paths[0]}: the folder holds no light curves. {NIGHT}")
            curves, objects = open_survey(tables, self.cache, self.curves, str(paths[0]))
        else:
            where = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files"
            curves, objects = open_survey(paths, self.cache, self.curves, where)
        return self._named(curves, objects, np.zeros(len(objects), bool), None)

    def _named(
        self, curves: LightCurves, objects: pd.DataFrame, learnt: np.ndarray, root: Path | None
    ) -> tuple[pd.DataFrame, list[LightCurves]]:
        """The catalog of tables of other surveys, and their curves."""
        self.notes += curves.notes
        objects = objects.assign(galactic=objects["photoz"] == 0, ddf=objects["ddf"] > 0)
        catalog = self._labelled(objects.drop(columns=["name", "class"]), objects["class"], learnt, root)
        if (objects["name"] != objects["id"].astype(str)).any():
            catalog.insert(1, "object", objects["name"])
        return catalog, [curves]

    def _read(self, files: Files) -> tuple[pd.DataFrame, list[LightCurves]]:
        """The catalog of PLAsTiCC's files, and their curves."""
        objects = read_objects(files)
        # Apart, as their ids interleave: one store of both would have to be merged.
        sets = [paths for paths in (files.train_curves, files.test_curves) if paths]
        stores = [open_curves(paths, self.cache, known_ids=objects["id"].to_numpy()) for paths in sets]
        self.notes += [note for store in stores for note in store.notes]
        observed = objects["id"].isin(np.concatenate([store.ids for store in stores]))
        if not observed.all():
            self.log_step("has observations", len(objects), int(observed.sum()))
        self.notes += files.notes
        objects = objects[observed].reset_index(drop=True)
        name = objects["target"].map({**CLASSES, OTHER: "other"}).fillna("")
        learnt = (objects["file"] == "train").to_numpy()
        columns = objects.drop(columns=["file", "target"])
        return self._labelled(columns, name, learnt, files.train_metadata), stores

    def digests(self) -> dict[str, str]:
        if tables := _tables_of_ones_own(self.source.path):
            return {str(path.relative_to(self.source.path)): known_digest(path, self.cache) for path in tables}
        files = find_files(self.source.path)
        metadata = [path for path in (files.train_metadata, files.test_metadata, files.truth) if path is not None]
        paths = [*files.train_curves, *files.test_curves, *metadata]
        return {path.name: known_digest(path, self.cache) for path in paths}

    def _labelled(self, objects: pd.DataFrame, name: pd.Series, learnt: np.ndarray, path: Path | None) -> pd.DataFrame:
        """The catalog: objects with what their class is among the known ones.

        Args:
            objects: N of them, with their conditions.
            name: Their classes, '' where not known, shape (N,).
            learnt: Whether they are in the training set, shape (N,).
            path: The table that has the classes; None for a survey alone.
        """
        names = sorted(name[learnt].unique())
        absent = [left_out for left_out in self.left_out if left_out not in names]
        if absent and path is not None:
            raise UserError(
                f"leave_out={absent[0]}: {path} has no object of that class; its classes are {', '.join(names)}."
            )
        labels = {name: label for label, name in enumerate(self.classes) if name not in self.left_out}
        label = name.map(labels).fillna(UNKNOWN).astype(np.int64)
        known, named = (label != UNKNOWN).to_numpy(), (name != "").to_numpy()
        split = np.where(learnt & known, "train", np.where(learnt, "test", "survey"))
        columns = {"id": objects["id"], "split": split, "label": label, "name": name}
        classes = pd.DataFrame(columns | {"known": known, "unknown": named & ~known})
        return classes.join(objects.drop(columns="id"))


def _tables_of_ones_own(root: Path) -> list[Path]:
    """The tables of a folder that has none under PLAsTiCC's names."""
    tables = find_tables(root) if root.is_dir() else []
    return [] if any(is_named_so(path) for path in tables) else tables


def class_name(given: int | str) -> str:
    """The name of a class: PLAsTiCC's of a code or a name in any letters, or else what was given.

    >>> class_name(95), class_name("slsn-i"), class_name("QSO")
    ('SLSN-I', 'SLSN-I', 'QSO')
    """
    names = {name.lower(): name for name in CLASSES.values()} | {str(code): name for code, name in CLASSES.items()}
    return names.get(str(given).strip().lower(), str(given).strip())


def _left_out(given: int | str, classes: Sequence[str]) -> str:
    return class_name(given) if class_name(given) in classes else CLASSES[class_code("leave_out", given)]


def class_code(key: str, given: int | str) -> int:
    """The code of a class that is given by code or name.

    Args:
        key: Of the setting that it was given for.
        given: Such as 95 or `SLSN-I`.

    >>> class_code("leave_out", "SLSN-I"), class_code("leave_out", "95"), class_code("leave_out", 95)
    (95, 95, 95)

    Raises:
        UserError: If there is no such class.
    """
    by_name = {name.lower(): code for code, name in CLASSES.items()}
    text = str(given).strip()
    code = by_name.get(text.lower(), int(text) if text.isdigit() else -1)
    if code not in CLASSES:
        raise UserError(
            f"{key}={given}: there is no such class. {did_you_mean(text, CLASSES.values())} Classes go by code "
            f"or name: "
            f"{', '.join(f'{code} ({name})' for code, name in CLASSES.items())}."
        )
    return code


def _several(given: int | str | Sequence[int | str] | None) -> list[int | str]:
    if given is None:
        return []
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
