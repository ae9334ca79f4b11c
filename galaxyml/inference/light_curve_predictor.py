"""A finished run of light curves that can be asked about other light curves."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from galaxyml.data.light_curves.data_module import CurveData, name_column
from galaxyml.data.light_curves.reader import HEADER
from galaxyml.data.light_curves.survey_columns import CurveNames, curve_names
from galaxyml.data.tables.plasticc import is_named_so
from galaxyml.evaluation.joined import mean_table
from galaxyml.inference.interval import ALL, with_interval
from galaxyml.inference.predictor import Predictor, fitted_weights
from galaxyml.kinds import of_run
from galaxyml.kinds.anomalies.detect import Detect, Learnt, seen
from galaxyml.kinds.anomalies.rank import in_order
from galaxyml.runs.errors import DataError, UsageError, shorten
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.hardware import trainer
from galaxyml.training.light_curve_predictions import encoded_tables

MATTER = {"object_id", "hostgal_photoz", "mwebv", "ddf"}  # metadata that tell a table of the survey's own
CURVES, METADATA = "test_set.csv", "test_set_metadata.csv"  # Kaggle's names of a survey's files
FORMS = (
    f"one folder with a {CURVES} and its {METADATA}, or with tables of another survey, or such tables as files; or "
    "DataFrames of light curves, with metadata in another one or in the same"
)


@dataclass(frozen=True)
class LightCurveMember:
    """One model of a run.

    Attributes:
        run: Its folder.
        module: The model, with what it was fitted by.
        detectors: Fitted to its training objects.
    """

    run: RunDir
    module: Any
    detectors: Learnt


class LightCurvePredictor(Predictor):
    """A predictor of light curves, which ranks them by how unlike the known classes they are.

    Args:
        run: The run, or the sweep.
        description: What it is made of.

    Attributes:
        members: Its models.
        threshold: Score above which an object is called an anomaly; None without one.
        names: What the user says of tables whose columns are not known; None for what the run was told.

    Raises:
        UserError: If the run is not finished.
    """

    def __init__(self, run: RunDir, description: Mapping[str, Any]) -> None:
        super().__init__(run, description, of_run(run))
        self.members: list[LightCurveMember] = []
        for member in run.nets():
            detect = next(stage for stage in of_run(member).stages() if isinstance(stage, Detect))
            self.members.append(LightCurveMember(member, load_module(member), detect.learn(member)))
        self.threshold: float | None = run.fitted_values("threshold")["score"]
        self.names: CurveNames | None = None
        self.trainer: lightning.Trainer = trainer(
            description["accelerator"], run.config.trainer.precision, logger=False, enable_checkpointing=False
        )

    def predict(self, inputs: Any, bad: list[str] | None = None, interval: int | str = ALL) -> pd.DataFrame:
        """The objects of a folder or of tables, the highest score first.

        Args:
            inputs: A folder of light curves and metadata in the form of the task's survey, or tables of another
                survey: a folder, files or DataFrames; of the task's survey `(curves, metadata)`, or one DataFrame of
                observations that has the metadata in each row.
            bad: Gets nothing: a table that cannot be read is an error.
            interval: Scores have no intervals, so that it chooses nothing.

        Returns:
            As `galaxyml.kinds.anomalies.rank.in_order` has it; the same objects get the numbers that the run gave them.

        Raises:
            UserError: If it is neither a folder nor such tables.
            DataError: If a file or a table cannot be used.
        """
        given = [inputs] if isinstance(inputs, Path | str | pd.DataFrame) else list(inputs)
        tables = [item for item in given if isinstance(item, pd.DataFrame)]
        if tables and len(tables) == len(given):
            return with_interval(self._predict_tables(tables), interval)
        return with_interval(self._rank(self.open_files(given)), interval)

    def open_files(self, given: Sequence[Any]) -> CurveData:
        """The objects of one folder, or of tables in files, as `open` gives them.

        Raises:
            UsageError: If they are neither.
            DataError: If a file cannot be used.
        """
        paths = [Path(path).expanduser() for path in given if isinstance(path, Path | str)]
        is_folder = len(paths) == 1 and paths[0].is_dir()
        are_files = bool(paths) and all(path.is_file() and not is_named_so(path) for path in paths)
        if len(paths) != len(given) or not (is_folder or are_files):
            found = [item if isinstance(item, Path | str) else type(item).__name__ for item in given]
            raise UsageError(
                f"{self.run.path} is a run of light curves: give {FORMS}, not {shorten(found) or 'nothing'}."
            )
        return self.open(*paths)

    def open_training(self, net: RunDir, folder: Path) -> tuple[CurveData, Tensor]:
        """The objects that a net has learnt from: all of its folder, and the rows of those in the catalog.

        Args:
            net: The run, or one of a sweep's.
            folder: Where its files are.

        Raises:
            DataError: If a file cannot be used.
        """
        data = self._data()
        data.open_labelled(folder)
        assert data.catalog is not None
        catalog = net.catalog()
        learnt = catalog.loc[catalog["split"] == "train", "id"]
        return data, torch.from_numpy(np.flatnonzero(data.catalog["id"].isin(learnt)))

    def _predict_tables(self, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """The objects of tables; one or two that are the survey's own are laid out as its files."""
        curves, *rest = tables
        columns = [{str(name).removesuffix("_bool") for name in table.columns} for table in tables]
        are_own = len(tables) < 3 and columns[0].issuperset(HEADER) and columns[-1].issuperset(MATTER)
        if not are_own:
            with tempfile.TemporaryDirectory(prefix="galaxyml-") as name:
                return self._rank(self.open(*tables, cache=Path(name)))
        with tempfile.TemporaryDirectory(prefix="galaxyml-") as name:
            folder = Path(name) / "survey"
            folder.mkdir()
            curves.to_csv(folder / CURVES, index=False)
            (rest[0] if rest else curves.drop_duplicates("object_id")).to_csv(folder / METADATA, index=False)
            try:
                return self._rank(self.open(folder, cache=Path(name) / "cache"))
            except DataError as error:
                raise DataError(str(error).replace(f"{folder}/", "").replace(str(folder), "the tables")) from None

    def _rank(self, data: CurveData) -> pd.DataFrame:
        for note in data.notes:
            print(f"note: {note}")
        return self.rank(data)

    def say_names(self, curves: Mapping[str, Any]) -> None:
        self.names = curve_names(**curves)

    @property
    def networks(self) -> list[nn.Module]:
        return [member.module for member in self.members]

    def summary(self, table: pd.DataFrame) -> str:
        """The number of objects, and of those above the threshold."""
        above = int(table["anomaly"].eq(True).sum())  # empty where the run has no threshold
        return f"{len(table):,} light curves, {above:,} of them above the run's threshold"

    def open(self, *given: Path | pd.DataFrame, cache: Path | None = None) -> CurveData:
        """The objects of a folder, or of tables.

        Args:
            *given: The folder, or files, or DataFrames.
            cache: Where what is read is kept; None for where the run kept its own.

        Raises:
            DataError: If a file cannot be used.
        """
        data = self._data(cache)
        data.open_survey(*given)
        return data

    def _data(self, cache: Path | None = None) -> CurveData:
        """The run's data, not read yet; arguments as for `open`."""
        config = self.run.config
        config.data.augment = None  # which training alone needs
        if cache is not None:
            config.data.cache_dir = str(cache)
        data: CurveData = instantiate(config.data)
        if self.names is not None:
            data.curves = self.names
        return data

    def judge(self, data: CurveData, rows: Tensor) -> pd.DataFrame:
        """Some rows of the catalog in their order, as `rank` has them but without their rank among all."""
        assert data.catalog is not None
        table = self.rank(data, rows).drop(columns="rank")
        names = data.catalog[name_column(data.catalog)].iloc[rows.numpy()]
        return table.set_index("object_id").loc[names].reset_index()

    def rank(
        self, data: CurveData, rows: Tensor | None = None, latents: list[np.ndarray] | None = None
    ) -> pd.DataFrame:
        """Objects in the order of their scores, as `galaxyml.kinds.anomalies.rank.in_order` has it.

        Args:
            data: As `open` gives it.
            rows: Of its catalog; None for all.
            latents: Gets the standardised latents of each model, in the order of the rows, arrays of shape (N, Z).
        """
        assert data.catalog is not None
        scores: list[pd.DataFrame] = []
        reasons: list[pd.DataFrame] = []
        for member in self.members:
            of_scores, of_reasons, of_latents = [], [], []
            for table in encoded_tables(self.trainer, member.module, data, member.run, rows):
                judged = member.detectors.judge(table)
                of_scores.append(judged[0])
                of_reasons.append(judged[1])
                if latents is not None:
                    of_latents.append(member.detectors.standard(seen(table, ["latent"])))
            scores.append(pd.concat(of_scores, ignore_index=True))
            reasons.append(pd.concat(of_reasons, ignore_index=True))
            if latents is not None:
                latents.append(np.concatenate(of_latents))
        return in_order(mean_table(scores), reasons[0], self.threshold, data.catalog)


def load_module(run: RunDir) -> Any:
    """The module of a fitted run, with the weights that it predicts with; errors as for `fitted_weights`."""
    weights = fitted_weights(run)
    begun = {"start": None} if "start" in run.config.module else {}  # its own weights come below
    module = instantiate(run.config.module, _recursive_=False, **begun)
    module.load_state_dict(weights)
    return module.eval()
