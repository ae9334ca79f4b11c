"""A finished run that can be asked about other light curves."""

from pathlib import Path

import pandas as pd
from hydra.utils import instantiate

import galaxyml.sweep  # noqa: F401 - registers the resolver that a run's configuration uses
from galaxyml.data.curves import CurveData
from galaxyml.experiment import load_run, quiet
from galaxyml.joined import mean_table
from galaxyml.runs import RunDir
from galaxyml.stages.detect import Detect
from galaxyml.stages.rank_anomalies import in_order
from galaxyml.training.curve_predictions import told_parts
from galaxyml.training.hardware import keep_memory, trainer


def rank(run: RunDir, folder: Path) -> pd.DataFrame:
    """The objects of a folder in the order of a run's scores, or of the mean of a sweep's folds.

    Args:
        run: The run, or the sweep.
        folder: Holds light curves and metadata in the form of the task's survey.

    Returns:
        As `galaxyml.stages.rank_anomalies.in_order` has it; the same objects get the numbers that the run gave them.

    Raises:
        UserError: If the run is not finished.
        DataError: If a file cannot be used.
    """
    quiet()
    keep_memory()
    run.metrics()  # only of a finished run
    config = run.config
    config.data.augment, config.data.redshifts = None, 0  # which training alone needs
    data: CurveData = instantiate(config.data)
    data.open_survey(folder)
    assert data.catalog is not None
    for note in data.notes:
        print(f"note: {note}")
    where = "cpu" if config.trainer.accelerator == "cpu" else "auto"
    asking = trainer(where, config.trainer.precision, logger=False, enable_checkpointing=False)
    scores: list[pd.DataFrame] = []
    reasons: list[pd.DataFrame] = []
    for member in run.nets():
        detect = next(stage for stage in instantiate(member.config.stages) if isinstance(stage, Detect))
        learnt, module = detect.learn(member), load_run(member)
        judged = [learnt.judge(told) for told in told_parts(asking, module, data, "survey", member)]
        scores.append(pd.concat([part for part, _ in judged], ignore_index=True))
        reasons.append(pd.concat([part for _, part in judged], ignore_index=True))
    names = data.catalog.set_index("id")["name"]
    return in_order(mean_table(scores), reasons[0], run.learnt("threshold")["score"], names)
