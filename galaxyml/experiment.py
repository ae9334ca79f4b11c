"""One run: a catalog, a module fitted to it, predictions, and the stages that turn them into numbers and figures."""

import logging
import math
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pandas as pd
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from galaxyml.kinds import of_config, stages_of
from galaxyml.models.symmetry import view_set
from galaxyml.reports import run_report
from galaxyml.runs import ranks, signals
from galaxyml.runs.errors import UserError
from galaxyml.runs.progress import track
from galaxyml.runs.provenance import host_info
from galaxyml.runs.run_dir import RunDir
from galaxyml.runs.seeds import seed_all
from galaxyml.training.averaging import EarlyStopping, WeightEMA
from galaxyml.training.callbacks import EpochProgress, EpochSeeds, History, StatusWriter, checkpoints
from galaxyml.training.dashboard import Dashboard
from galaxyml.training.figure_logging import Figures
from galaxyml.training.frozen_features import FrozenFeatures
from galaxyml.training.hardware import KernelSettings, LostProcess, connect, keep_memory, wished_kernels
from galaxyml.training.loggers import build_logger, check, log_final
from galaxyml.training.predictions import FINAL
from galaxyml.training.pruning import Pruned, pruning
from galaxyml.training.stopping import Stopping

log = logging.getLogger(__name__)


def run(config: DictConfig, folder: Path) -> float:
    """Makes a run, or carries on with one: what is finished is kept, what is broken resumes from its last checkpoint.

    Args:
        config: The composed configuration.
        folder: The run's folder.

    Returns:
        The metric that the configuration monitors; of a run of a search that is ended early, its last value.

    Raises:
        UserError: If something that the user gave cannot be used.
    """
    quiet()
    keep_memory()
    here = RunDir(folder)
    _check(config)
    module, data = _parts(config)
    stages_of(config)  # before the fit: a mistake in a stage shows at once
    if here.finished:
        if data.source.path.is_dir():
            here.check_data(data.source.name, data.digests())
        log.info("%s: finished before, kept.", here.name)
        return _reached(here.metrics(), config, here)
    here.update_status(state="preparing", began=time.time(), ended=None, reason=None, left=None, **host_info())
    trainer = _trainer(config, here, here, module, _phases(module)[-1], pruning(config, here))
    connect(trainer, module, config.batch_size)
    try:
        with ranks.rank_zero_first():
            data.setup()
        for note in data.notes:
            log.info("note: %s", note)
        _learn(config, here, module, data, trainer)
    except Pruned as ended:
        log.info("%s: ended early, %s", here.name, ended)
        here.update_status(state="pruned", value=ended.value, left=None, ended=time.time())
        return ended.value
    if not ranks.is_rank_zero():
        return math.nan
    metrics = run_stages(config, here)
    reached = _reached(metrics, config, here)
    run_report.write(here, metrics)
    log_final(trainer.loggers, {f"reached/{config.monitor}": reached})
    here.write_metrics(metrics)  # last: it marks the run as finished
    here.update_status(state="finished", value=reached, monitor=config.monitor, left=None, ended=time.time())
    return reached


def _parts(config: DictConfig) -> tuple[Any, Any]:
    """A run's LightningModule and its DataModule."""
    module = build_module(config)  # before the data: missing weights show at once
    data = instantiate(config.data)
    if hasattr(module, "check_data"):
        module.check_data(data)
    return module, data


def build_module(config: DictConfig) -> Any:
    """The LightningModule of a configuration, its weights as the seed draws them."""
    seed_all(config.seed, "weights")
    # Its parts stay mappings, so that its checkpoints can be loaded without the configuration.
    return instantiate(config.module, _recursive_=False)


def _phases(module: Any) -> tuple[str, ...]:
    """What is fitted, one after the other; of a module that tells none, all at once."""
    return getattr(module, "phases", ("all",))


def _learn(config: DictConfig, here: RunDir, module: Any, data: Any, trainer: lightning.Trainer) -> None:
    """Fits a run's module, phase by phase, and writes predictions: what all processes of a job do together."""
    *first, last = _phases(module)
    if ranks.is_rank_zero():
        here.write_provenance(config.seed, _device(trainer), data.describe())
        here.write_catalog(data.catalog)
        for name, table in data.artifacts.items():
            here.write_table(name, table)
        counts = data.catalog["split"].value_counts()
        log.info("%s: %s", here.name, ", ".join(f"{counts[split]:,} {split}" for split in counts.index))
    for phase in first:
        part = here.phase(phase)
        _fit_phase(phase, _trainer(config, here, part, module, phase), config, module, data, here, part)
    _fit_phase(last, trainer, config, module, data, here, here)
    _predict(trainer, module, data)


def _predict(trainer: lightning.Trainer, module: Any, data: Any, by: str | None = None) -> None:
    """Predicts with a module; the trainer's writer keeps the tables, of those before and between phases as `by`."""
    attached: Any = trainer  # Lightning does not declare its callbacks
    writers: list[Any] = [callback for callback in attached.callbacks if isinstance(callback, BasePredictionWriter)]
    for writer in writers:
        if by is not None:
            writer.by = by
        elif hasattr(writer, "by"):
            writer.by = FINAL
    trainer.predict(module, datamodule=data, return_predictions=False)


def run_stages(config: DictConfig, here: RunDir) -> dict[str, float]:
    """Runs a configuration's stages, one after the other, on the predictions of a run or of a sweep."""
    metrics: dict[str, float] = {}
    stages = stages_of(config)
    for stage in track(stages, f"{here.name}: judging and drawing", len(stages)):
        metrics |= stage(here)
    return metrics


def load_weights(module: Any, here: RunDir, which: str) -> None:
    """Gives a module the weights of a run's `best` or `last` epoch."""
    module.load_state_dict(here.weights(which))


def load_run(here: RunDir) -> Any:
    """The module of a run that has been fitted, with the weights that it predicts with.

    Raises:
        UserError: If the folder is no run's, or the run is not fitted.
    """
    config = _fitted(here)
    module = instantiate(config.module, _recursive_=False)
    if hasattr(module, "start_phase"):
        module.start_phase(module.phases[-1])
    load_weights(module, here, config.predict_with)
    return module.eval()


def _fitted(here: RunDir) -> DictConfig:
    """The configuration of a run that is fitted, with nothing to be fetched or loaded for its net."""
    config = here.config
    if not here.fitted.is_file():
        raise UserError(f"{here.path} has no fitted net: the run is not finished. The same command carries on with it.")
    for key in ("weights", "pretrained"):  # the run has its own weights
        if key in (config.get("model") or {}):
            config.model[key] = None if key == "weights" else False
    return config


def quiet() -> None:
    """Silences what the libraries say in a normal run; warnings that matter still show."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.handlers.clear()  # Lightning adds its own, which would print every line a second time
        logger.propagate = True
    for message in (
        ".*does not have many workers.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*LeafSpec.*",
        ".*isinstance.*treespec.*",
        ".*`lr_scheduler.step\\(\\)` before `optimizer.step\\(\\)`.*",
        ".*was already called earlier.*",
        ".*GPU available but not used.*",
        ".*`srun` command is available.*",
        ".*infer the batch indices.*",  # which predictions have as `index`
        ".*sync_dist=True.*",  # what is logged is the same in all processes
        ".*module\\(s\\) in eval mode.*",  # of a frozen backbone, which is meant to be
    ):
        warnings.filterwarnings("ignore", message=message)


def _check(config: DictConfig) -> None:
    """Refuses impossible values before any work is done."""
    for key, lowest in {"seed": 0, "epochs": 1, "batch_size": 1, "size": 1, "limit": 1, "top_k": 1}.items():
        value = config[key]
        if key == "limit" and value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
            raise UserError(f"{key}={value}: it must be a whole number, {lowest} or more.")
    if config.views not in range(1, 9):
        raise UserError(f"views={config.views}: it must be a whole number from 1 (plain) to 8 (all symmetries).")
    _ending(config)
    check(config)
    wished_kernels(config.trainer)
    view_set(config.predict_views)
    if config.symmetry is not None:
        view_set(config.symmetry, "symmetry")
    for key, choices in {"predict_with": ("best", "last"), "mode": ("min", "max")}.items():
        if config[key] not in choices:
            raise UserError(f"{key}={config[key]}: it must be {' or '.join(choices)}.")
    name = str(config.name or "")
    if not name.strip("./ ") or ".." in name.split("/") or name.startswith("/"):
        raise UserError(f"name={name}: it must be a name for a folder, such as name=baseline.")
    if config.callbacks is not None and not isinstance(config.callbacks, DictConfig):
        raise UserError("callbacks must be a mapping, such as callbacks={stop: {_target_: …}}.")


def _reached(metrics: dict[str, Any], config: DictConfig, here: RunDir) -> float:
    found = here.reached(metrics, config.monitor, config.mode, config.predict_with)
    assert found is not None  # checkpoints were chosen by it
    return found


def _ending(config: DictConfig) -> list[Any]:
    """Callbacks that decide how a fit ends; they stand after those that look at the validating net."""
    average = [WeightEMA(config.ema)] if config.ema is not None else []
    patience = [EarlyStopping(config.monitor, config.mode, config.patience)] if config.patience is not None else []
    return [*average, *patience]


def _trainer(
    config: DictConfig, here: RunDir, part: RunDir, module: Any, phase: str, judges: Sequence[Any] = ()
) -> lightning.Trainer:
    """Lightning's trainer of a phase of a run, whose files are in `part`."""
    name = here.name if part is here else f"{here.name}: {phase}"
    callbacks: list[Any] = [
        KernelSettings(here, name, phase, wished_kernels(config.trainer)),
        EpochSeeds(config.seed),
        History(part),
        *judges,
        EpochProgress(name, config.monitor),
        StatusWriter(here, phase, _phases(module), config.monitor),
        Dashboard(config.monitor),
        Figures(),
        FrozenFeatures(),
        of_config(config).prediction_writer(here),
        *instantiate(list((config.get("callbacks") or {}).values())),
        *_ending(config),
        LostProcess(),
        Stopping(part),
        *checkpoints(part, config.monitor, config.mode, config.top_k),
    ]
    epochs = module.phase_epochs(phase, config.epochs) if hasattr(module, "phase_epochs") else config.epochs
    logger = build_logger(part, here, config) or False
    return instantiate(
        config.trainer, max_epochs=epochs, callbacks=callbacks, logger=logger, default_root_dir=str(part.path)
    )


def _fit_phase(
    phase: str, trainer: lightning.Trainer, config: DictConfig, module: Any, data: Any, here: RunDir, part: RunDir
) -> None:
    """Fits one phase, whose files are in `part`, or takes over what was fitted before."""
    between = part is not here
    seed_all(config.seed, "phase", phase)  # what a phase draws at its beginning does not depend on what came before
    if between and ranks.broadcast(part.finished):
        module.start_phase(phase)
        load_weights(module, part, config.predict_with)
        return
    if hasattr(module, "start_phase"):
        module.start_phase(phase)
        if module.phases != ("all",):
            _count(module, here)
        if phase == module.phases[0] and module.tuning.progression:
            _predict(trainer, module, data, by="net_untrained")
        if phase == "head":
            _warn_of_random_backbone(config)
    _fit(trainer, module, data, part, here.name)
    load_weights(module, part, config.predict_with)
    if between:
        if module.tuning.progression:
            _predict(trainer, module, data, by=f"net_{phase}")
        if ranks.is_rank_zero():
            history = part.history()
            assert history is not None
            log_final(trainer.loggers, {})
            part.write_metrics({str(name): value for name, value in history.iloc[-1].items()})


def _count(module: Any, here: RunDir) -> None:
    """Says, and keeps, how much is trained in a phase."""
    tuned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    every = list(module.parameters())
    numbers, of = (sum(parameter.numel() for parameter in part) for part in (tuned, every))
    once = "; features of the others are computed once" if module.phase == "head" else ""
    phase = f" ({module.phase})" if len(module.phases) > 1 else ""
    log.info(
        "%s%s: trains %s of %s tensors, %s of %s numbers%s",
        here.name,
        phase,
        len(tuned),
        len(every),
        f"{numbers:,}",
        f"{of:,}",
        once,
    )
    row = {"phase": module.phase, "tensors": len(tuned), "of_tensors": len(every), "numbers": numbers, "of_numbers": of}
    before = [kept for kept in here.table_rows("phases") if kept["phase"] != module.phase]
    here.write_table("phases", pd.DataFrame([*before, row]))


def _warn_of_random_backbone(config: DictConfig) -> None:
    model = config.get("model") or {}
    if not (model.get("weights") or model.get("pretrained")):
        advice = "give model.weights=FILE or model.pretrained=true" if "weights" in model else "tune=all trains it"
        log.info("note: the frozen backbone has random weights; %s.", advice)


def _fit(trainer: lightning.Trainer, module: Any, data: Any, here: RunDir, name: str) -> None:
    if ranks.broadcast(here.fitted.is_file()):
        return
    resume = ranks.broadcast(here.last_checkpoint)
    if resume is not None:
        log.info("%s: carries on from its last checkpoint.", name)
    try:
        with signals.held():
            trainer.fit(module, datamodule=data, ckpt_path=str(resume) if resume else None, weights_only=True)
            if ranks.is_rank_zero():
                here.fitted.touch()
    except MisconfigurationException as error:  # a monitored metric that nobody logs, most of all
        raise UserError(str(error)) from error


def _device(trainer: lightning.Trainer) -> str:
    many = f"{ranks.world_size()} x " if ranks.world_size() > 1 else ""
    if trainer.strategy.root_device.type == "cuda":
        return f"{many}{torch.cuda.get_device_name()} ({trainer.precision})"
    return f"{many}CPU, {torch.get_num_threads()} threads ({trainer.precision})"
