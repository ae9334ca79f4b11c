"""A finished run that can be asked about other light curves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pandas as pd
from hydra.utils import instantiate

import galaxyml.sweeps.finish  # noqa: F401 - registers the resolver that a run's configuration uses
from galaxyml.data.light_curves.data_module import CurveData
from galaxyml.evaluation.joined import mean_table
from galaxyml.experiment import load_run, quiet
from galaxyml.kinds import stages_of
from galaxyml.kinds.anomalies.detect import Detect, Learnt
from galaxyml.kinds.anomalies.rank import in_order
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.hardware import keep_memory, trainer
from galaxyml.training.light_curve_predictions import told_parts


@dataclass(frozen=True)
class CurveMember:
    """One net of a run.

    Attributes:
        run: Its folder.
        module: It, with what it was fitted by.
        learnt: The detectors that have learnt from its training objects.
    """

    run: RunDir
    module: Any
    learnt: Learnt


class LightCurvePredictor:
    """A finished run of light curves, or the joined folds of a sweep, whose detectors have learnt once.

    Args:
        run: The run, or the sweep.

    Attributes:
        run: It.
        members: Its nets.
        threshold: Score above which an object is called an anomaly; None without one.

    Raises:
        UserError: If the run is not finished.
    """

    def __init__(self, run: RunDir) -> None:
        quiet()
        keep_memory()
        run.metrics()  # only of a finished run
        self.run = run
        self.members: list[CurveMember] = []
        for member in run.nets():
            detect = next(stage for stage in stages_of(member.config) if isinstance(stage, Detect))
            self.members.append(CurveMember(member, load_run(member), detect.learn(member)))
        self.threshold: float | None = run.fitted_values("threshold")["score"]
        accelerator = run.config.trainer.accelerator
        self.trainer: lightning.Trainer = trainer(
            "cpu" if accelerator == "cpu" else "auto",
            run.config.trainer.precision,
            logger=False,
            enable_checkpointing=False,
        )

    def open(self, folder: Path, cache: Path | None = None) -> CurveData:
        """The objects of a folder, in the form of the task's survey.

        Args:
            folder: Holds light curves and metadata.
            cache: Where what is read is kept; None for where the run kept its own.

        Raises:
            DataError: If a file cannot be used.
        """
        config = self.run.config
        config.data.augment = None  # which training alone needs
        if cache is not None:
            config.data.cache_dir = str(cache)
        data: CurveData = instantiate(config.data)
        data.open_survey(folder)
        return data

    def rank(self, data: CurveData) -> pd.DataFrame:
        """Objects in the order of their scores, as `galaxyml.kinds.anomalies.rank.in_order` has it."""
        assert data.catalog is not None
        scores: list[pd.DataFrame] = []
        reasons: list[pd.DataFrame] = []
        for member in self.members:
            told = told_parts(self.trainer, member.module, data, "survey", member.run.name, member.run.path)
            judged = [member.learnt.judge(part) for part in told]
            scores.append(pd.concat([part for part, _ in judged], ignore_index=True))
            reasons.append(pd.concat([part for _, part in judged], ignore_index=True))
        names = data.catalog.set_index("id")["name"]
        return in_order(mean_table(scores), reasons[0], self.threshold, names)


def rank(run: RunDir, folder: Path) -> pd.DataFrame:
    """The objects of a folder in the order of a run's scores, or of the mean of a sweep's folds.

    Args:
        run: The run, or the sweep.
        folder: Holds light curves and metadata in the form of the task's survey.

    Returns:
        As `galaxyml.kinds.anomalies.rank.in_order` has it; the same objects get the numbers that the run gave them.

    Raises:
        UserError: If the run is not finished.
        DataError: If a file cannot be used.
    """
    predictor = LightCurvePredictor(run)
    data = predictor.open(folder)
    for note in data.notes:
        print(f"note: {note}")
    return predictor.rank(data)
