"""Ends a run of a search that does worse than the others did at the same epoch."""

import math
from typing import TYPE_CHECKING

import lightning.pytorch as lightning
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from galaxyml.runs import ranks
from galaxyml.runs.run_dir import RunDir
from galaxyml.runs.search_storage import FOLDS, PRUNED, handle, open_storage, require_optuna

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial


class Pruned(Exception):
    """A run of a search was ended early, which is no failure.

    Args:
        value: The last one of the monitored metric.
    """

    def __init__(self, value: float) -> None:
        super().__init__(f"worse than other trials: {value:.4f}")
        self.value = value


class Pruning(Callback):
    """Reports the monitored metric to a run's trial each epoch, and ends the run when the study's pruner says so.

    Of a trial that is the mean over folds, the first fold alone is reported and judged; the other ones end with it.

    Args:
        trial: The run's, which other processes write to as well; None in all but the first process of a run.
        monitor: The metric.
        judged: Whether this is the first fold.
    """

    def __init__(self, trial: "Trial | None", monitor: str, judged: bool) -> None:
        self.trial, self.monitor, self.judged = trial, monitor, judged

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._end_if_pruned(None)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.monitor not in trainer.callback_metrics:  # a stage's, which is not known before the end
            return
        value, epoch = float(trainer.callback_metrics[self.monitor]), trainer.current_epoch
        # A run that carries on may repeat an epoch, and a trial takes each only once.
        if self.trial is not None and self.judged and epoch not in _stored(self.trial).intermediate_values:
            self.trial.report(value, epoch)
            if self.trial.should_prune():
                self.trial.set_user_attr(PRUNED, epoch)
        self._end_if_pruned(value)

    def _end_if_pruned(self, value: float | None) -> None:
        """Ends the run if its trial is to end; in all its processes alike."""
        stored = _stored(self.trial) if self.trial is not None else None
        if ranks.broadcast(stored is not None and PRUNED in stored.user_attrs):
            if value is None:
                reported = stored.intermediate_values if stored is not None else {}
                value = reported[max(reported)] if reported else math.nan
            raise Pruned(value)


def _stored(trial: "Trial") -> "FrozenTrial":
    """A trial as it is in the storage, which other processes write to as well."""
    # By its id, which has no public name: a study gives all of its trials, or none.
    return trial.storage.get_trial(trial._trial_id)


def pruning(config: DictConfig, run: RunDir) -> list[Callback]:
    """The callback that may end a run early, if it belongs to a search; none otherwise.

    Args:
        config: The run's; its `search` has `trial`, `storage`, `study_name` and `pruner`.
        run: Its folder.
    """
    search = config.get("search")
    if search is None:
        return []
    if not ranks.is_rank_zero():
        return [Pruning(None, config.monitor, False)]
    optuna = require_optuna()
    study = optuna.load_study(
        study_name=search.study_name,
        storage=open_storage(search.storage, run.path.parent),
        sampler=optuna.samplers.RandomSampler(),  # nothing is asked for here
        pruner=instantiate(search.pruner),
    )
    folds = study.user_attrs[FOLDS]
    return [Pruning(handle(study, search.trial), config.monitor, not folds or str(config.fold) == folds[0])]
