"""PLAsTiCC: light curves of the known classes to learn, and what is unlike them to be found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from galaxyml.data.catalog import UNKNOWN
from galaxyml.data.light_curves.columns import LightCurves, open_curves
from galaxyml.data.light_curves.data_module import CurveData
from galaxyml.data.tables.plasticc import CLASSES, OTHER, find_files, find_survey, read_objects
from galaxyml.kinds.anomalies import Anomalies
from galaxyml.runs.errors import UserError, did_you_mean
from galaxyml.runs.files import known_digest

KNOWN = tuple(name for code, name in CLASSES.items() if code < OTHER)  # classes of the training set


class Plasticc(CurveData):
    """Light curves of PLAsTiCC in the files of Kaggle or of Zenodo.

    Objects of known classes in the training set are dealt into training, validation and test objects; all others of the
    training set come to the test objects. Objects of the test set are the split `survey`.

    Args:
        source: The folder of the files; see CatalogData.
        classes: Names of the known classes.
        leave_out: Classes that are kept from training and are to be found: a code, a name, or several.
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
        kind: Anomalies | None = None,
        **options: Any,
    ) -> None:
        super().__init__(source, kind=kind if kind is not None else Anomalies(list(classes)), **options)
        self.classes = [CLASSES[class_code("classes", name)] for name in classes]
        self.left_out = [CLASSES[class_code("leave_out", given)] for given in _several(leave_out)]

    def check_folder(self, root: Path) -> None:
        find_files(root)

    def load(self, root: Path, survey: bool = False) -> tuple[pd.DataFrame, list[LightCurves]]:
        files = find_survey(root) if survey else find_files(root)
        objects = read_objects(files)
        # Apart, as their ids interleave: one store of both would have to be merged.
        sets = [paths for paths in (files.train_curves, files.test_curves) if paths]
        stores = [open_curves(paths, self.cache, known_ids=objects["id"].to_numpy()) for paths in sets]
        self.notes += [note for store in stores for note in store.notes]
        observed = objects["id"].isin(np.concatenate([store.ids for store in stores]))
        if not observed.all():
            self.log_step("has observations", len(objects), int(observed.sum()))
        self.notes += files.notes
        return self._labelled(objects[observed].reset_index(drop=True), files.train_metadata), stores

    def digests(self) -> dict[str, str]:
        files = find_files(self.source.path)
        metadata = [path for path in (files.train_metadata, files.test_metadata, files.truth) if path is not None]
        paths = [*files.train_curves, *files.test_curves, *metadata]
        return {path.name: known_digest(path, self.cache) for path in paths}

    def _labelled(self, objects: pd.DataFrame, path: Path | None) -> pd.DataFrame:
        """The catalog: objects with what their class is among the known ones."""
        learnt = (objects["file"] == "train").to_numpy()
        name = objects["target"].map({**CLASSES, OTHER: "other"}).fillna("")
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
        return classes.join(objects.drop(columns=["id", "file", "target"]))


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
