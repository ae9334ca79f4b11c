"""A module fitted phase by phase in the folder of a run, carried on where it was broken off."""

import logging
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as lightning
import pandas as pd
from hydra.utils import instantiate
from lightning.pytorch.callbacks import BasePredictionWriter, Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from galaxyml.runs import ranks, signals
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.runs.seeds import seed_all
from galaxyml.training.averaging import ending_callbacks
from galaxyml.training.callbacks import EpochProgress, EpochSeeds, History, StatusWriter, checkpoints
from galaxyml.training.dashboard import Dashboard, Figures
from galaxyml.training.frozen_features import FrozenFeatures
from galaxyml.training.hardware import LostProcess, connect
from galaxyml.training.kernels import KernelSettings, device_name, wished_kernels
from galaxyml.training.loggers import build_logger, log_final
from galaxyml.training.predictions import FINAL
from galaxyml.training.pruning import pruning
from galaxyml.training.stopping import Stopping

log = logging.getLogger(__name__)


class PhasedFit:
    """Fits a module, phase by phase, and predicts with it: what all processes of a run do together.

    Files of the last phase lie in the run's folder, those of each before it in a folder of its own below that.

    Args:
        config: The run's configuration.
        run: Its folder.
        module: Any LightningModule. One that is fitted in `phases` also has `start_phase(phase)`, `phase_epochs(phase,
            last)` and `tuning`, as SupervisedModule has.
        writer: Keeps predictions in the run's folder.

    Raises:
        UserError: If the processes that are to work on the run cannot.
    """

    def __init__(self, config: DictConfig, run: RunDir, module: Any, writer: BasePredictionWriter) -> None:
        self.config, self.run, self.module = config, run, module
        self.writer: Any = writer
        self.phases: tuple[str, ...] = getattr(module, "phases", ("all",))
        self.shows_progression = getattr(getattr(module, "tuning", None), "progression", False)
        self.trainer = self._build_trainer(run, self.phases[-1], pruning(config, run))
        connect(self.trainer, module, config.batch_size)

    @property
    def loggers(self) -> list[Any]:
        """Loggers of the last phase."""
        return self.trainer.loggers

    @property
    def device(self) -> str:
        """Devices and precision of the fit in words, such as `2 x NVIDIA H200 (bf16-mixed)`."""
        many = f"{ranks.world_size()} x " if ranks.world_size() > 1 else ""
        return f"{many}{device_name(self.trainer.strategy.root_device)} ({self.trainer.precision})"

    def fit(self, data: Any) -> None:
        """Fits all phases to a DataModule; those that were fitted before are taken over.

        Raises:
            UserError: If the monitored metric is not logged, or training has diverged.
            Pruned: If the run belongs to a search, which ends it early.
            Stop: If a signal ended it.
        """
        for phase in self.phases[:-1]:
            folder = self.run.phase(phase)
            seed_all(self.config.seed, "phase", phase)  # what a phase draws does not depend on those before it
            if ranks.broadcast(folder.finished):
                self.module.start_phase(phase)
                self._load_weights(folder)
                continue
            trainer = self._build_trainer(folder, phase)
            self._fit_phase(phase, trainer, folder, data)
            if self.shows_progression:
                self._predict(trainer, data, f"net_{phase}")
            if ranks.is_rank_zero():
                history = folder.history()
                assert history is not None
                log_final(trainer.loggers, {})
                folder.write_metrics({str(name): value for name, value in history.iloc[-1].items()})
        seed_all(self.config.seed, "phase", self.phases[-1])
        self._fit_phase(self.phases[-1], self.trainer, self.run, data)

    def predict(self, data: Any) -> None:
        """Writes the predictions of the fitted module."""
        self._predict(self.trainer, data, FINAL)

    def _predict(self, trainer: lightning.Trainer, data: Any, by: str) -> None:
        self.writer.by = by
        trainer.predict(self.module, datamodule=data, return_predictions=False)

    def _fit_phase(self, phase: str, trainer: lightning.Trainer, folder: RunDir, data: Any) -> None:
        if hasattr(self.module, "start_phase"):
            self.module.start_phase(phase)
            if self.phases != ("all",):
                self._count_parameters(phase)
            if phase == self.phases[0] and self.shows_progression:
                self._predict(trainer, data, "net_untrained")
            if phase == "head":
                self._warn_of_random_backbone()
        if not ranks.broadcast(folder.fitted.is_file()):
            resume = ranks.broadcast(folder.last_checkpoint)
            if resume is not None:
                log.info("%s: carries on from its last checkpoint.", self.run.name)
            try:
                with signals.held():
                    path = str(resume) if resume else None
                    trainer.fit(self.module, datamodule=data, ckpt_path=path, weights_only=True)
                    if ranks.is_rank_zero():
                        folder.fitted.touch()
            except MisconfigurationException as error:  # a monitored metric that nobody logs, most of all
                raise UserError(str(error)) from error
        self._load_weights(folder)

    def _load_weights(self, folder: RunDir) -> None:
        self.module.load_state_dict(folder.weights(self.config.predict_with))

    def _build_trainer(self, folder: RunDir, phase: str, judges: Sequence[Callback] = ()) -> lightning.Trainer:
        """Lightning's trainer of a phase, whose files lie in `folder`."""
        config, run, module = self.config, self.run, self.module
        name = run.name if folder is run else f"{run.name}: {phase}"
        callbacks: list[Any] = [
            KernelSettings(run, name, phase, wished_kernels(config.trainer)),
            EpochSeeds(config.seed),
            History(folder),
            *judges,
            EpochProgress(name, config.monitor),
            StatusWriter(run, phase, self.phases, config.monitor),
            Dashboard(config.monitor),
            *([Figures()] if config.get("figures", True) else []),
            FrozenFeatures(),
            self.writer,
            *instantiate(list((config.get("callbacks") or {}).values())),
            *ending_callbacks(config),  # after those that look at the validating net
            LostProcess(),
            Stopping(folder),
            *checkpoints(folder, config.monitor, config.mode, config.top_k),
        ]
        epochs = module.phase_epochs(phase, config.epochs) if hasattr(module, "phase_epochs") else config.epochs
        logger = build_logger(folder, run, config) or False
        return instantiate(
            config.trainer, max_epochs=epochs, callbacks=callbacks, logger=logger, default_root_dir=str(folder.path)
        )

    def _count_parameters(self, phase: str) -> None:
        """Logs how much of the module is trained in a phase, and writes it to the table `phases`."""
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in self.module.parameters()]
        trained = [size for size, is_trained in sizes if is_trained]
        row = {"phase": phase, "tensors": len(trained), "of_tensors": len(sizes)}
        row |= {"numbers": sum(trained), "of_numbers": sum(size for size, _ in sizes)}
        name = f"{self.run.name} ({phase})" if len(self.phases) > 1 else self.run.name
        counts = "trains {tensors} of {of_tensors} tensors, {numbers:,} of {of_numbers:,} numbers".format(**row)
        rest = "; features of the others are computed once" if phase == "head" else ""
        log.info("%s: %s%s", name, counts, rest)
        rows = [before for before in self.run.table_rows("phases") if before["phase"] != phase]
        self.run.write_table("phases", pd.DataFrame([*rows, row]))

    def _warn_of_random_backbone(self) -> None:
        model = self.config.get("model") or {}
        if not (self.config.get("start") or model.get("weights") or model.get("pretrained")):
            advice = "give model.weights=FILE or model.pretrained=true" if "weights" in model else "tune=all trains it"
            log.info("note: the frozen backbone has random weights; %s.", advice)
