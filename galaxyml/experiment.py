"""One run: a catalog, a module fitted to it, predictions, and the stages that turn them into numbers and figures."""

import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pandas as pd
import torch
from hydra.utils import instantiate
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig

from galaxyml import report
from galaxyml.data.module import ImageData
from galaxyml.errors import UserError
from galaxyml.runs import RunDir, check_same, flat
from galaxyml.seeds import seed_all
from galaxyml.training.callbacks import EpochProgress, EpochSeeds, History, checkpoints
from galaxyml.training.hardware import keep_memory
from galaxyml.training.pictures import Pictures

log = logging.getLogger(__name__)


def run(config: DictConfig, folder: Path, overrides: list[str]) -> float:
    """Makes a run, or carries on with one: what is finished is kept, what is broken resumes from its last checkpoint.

    Args:
        config: The composed configuration.
        folder: The run's folder.
        overrides: What the user changed, for the record.

    Returns:
        The metric that the configuration monitors.

    Raises:
        UserError: If something that the user gave cannot be used.
    """
    quiet()
    keep_memory()
    here = RunDir(folder)
    if not isinstance(config.seed, int) or config.seed < 0:
        raise UserError(f"seed={config.seed}: it must be a whole number, 0 or more.")
    _check_siblings(here, config)
    here.start(config, overrides)
    if here.finished:
        log.info("%s: finished before, kept.", here.name)
        return here.metrics()[config.monitor]
    seed_all(config.seed, "weights")
    module = instantiate(config.module)  # before the data: missing weights show at once
    data: ImageData = instantiate(config.data)
    data.setup()
    assert data.catalog is not None
    trainer = _trainer(config, here)
    here.write_provenance(config.seed, _device(trainer), data.provenance())
    here.write_catalog(data.catalog)
    counts = data.catalog["split"].value_counts()
    log.info("%s: %s", here.name, ", ".join(f"{counts[split]:,} {split}" for split in counts.index))
    _fit(trainer, module, data, here)
    load_weights(module, here, config.predict_with)
    predict(trainer, module, data, here)
    metrics = run_stages(config, here)
    here.write_metrics(metrics)
    report.write(here)
    _log_hyperparameters(trainer, config, metrics[config.monitor])
    return metrics[config.monitor]


def run_stages(config: DictConfig, here: RunDir) -> dict[str, float]:
    """Runs a configuration's stages, one after the other, on the predictions of a run or of a sweep."""
    metrics: dict[str, float] = {}
    for stage in instantiate(config.stages):
        metrics |= stage(here)
    return metrics


def load_weights(module: lightning.LightningModule, here: RunDir, which: str) -> None:
    """Gives a module the weights of a run's `best` or `last` epoch."""
    if which not in ("best", "last"):
        raise UserError(f"predict_with={which}: it must be best or last.")
    state = torch.load(here.checkpoints / f"{which}.ckpt", map_location="cpu", weights_only=True)
    module.load_state_dict(state["state_dict"])


def predict(trainer: lightning.Trainer, module: lightning.LightningModule, data: ImageData, here: RunDir) -> None:
    """Writes what the net says of the validation and the test split."""
    assert data.catalog is not None
    batches: Any = trainer.predict(module, datamodule=data)
    rows = torch.cat([batch["index"] for batch in batches]).numpy()
    table = pd.DataFrame(torch.cat([batch["output"] for batch in batches]).cpu().numpy(), columns=data.targets)
    table.insert(0, "id", data.catalog["id"].to_numpy()[rows])
    for split, part in table.groupby(data.catalog["split"].to_numpy()[rows]):
        here.write_predictions(str(split), part.reset_index(drop=True), by="net")
        here.write_predictions(str(split), part.reset_index(drop=True))


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
    ):
        warnings.filterwarnings("ignore", message=message)


def _check_siblings(here: RunDir, config: DictConfig) -> None:
    """Folds that will be joined must be made alike."""
    group = here.name.partition("_")[2]
    for sibling in RunDir(here.path.parent).children():
        if sibling.worth_keeping and sibling.name != here.name and sibling.name.partition("_")[2] == group:
            check_same(sibling, config, besides=("fold",))


def _trainer(config: DictConfig, here: RunDir) -> lightning.Trainer:
    callbacks: list[Any] = [
        EpochSeeds(config.seed),
        History(here),
        EpochProgress(here.name, config.monitor),
        Pictures(),
        *instantiate(list((config.get("callbacks") or {}).values())),
        *checkpoints(here, config.monitor, config.mode),
    ]
    logger = TensorBoardLogger(here.path, name="", version="tensorboard", default_hp_metric=False)
    return instantiate(
        config.trainer, max_epochs=config.epochs, callbacks=callbacks, logger=logger, default_root_dir=str(here.path)
    )


def _fit(trainer: lightning.Trainer, module: lightning.LightningModule, data: ImageData, here: RunDir) -> None:
    resume = here.last_checkpoint
    if resume is not None:
        log.info("%s: carries on from its last checkpoint.", here.name)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=str(resume) if resume else None, weights_only=True)
    except SystemExit as error:  # Lightning's answer to a signal; its own status would be 0 for SIGTERM
        if trainer.received_sigterm:
            sys.exit(128 + signal.SIGTERM)
        if trainer.interrupted:
            raise KeyboardInterrupt from error
        raise


def _log_hyperparameters(trainer: lightning.Trainer, config: DictConfig, reached: float) -> None:
    """Fills TensorBoard's table of runs: every number and word of the configuration, and what it led to."""
    values = {key: value for key, value in flat(config).items() if isinstance(value, int | float | str | bool)}
    own = {key: value for key, value in values.items() if "${" not in str(value) and "_target_" not in key}
    board = trainer.logger
    assert isinstance(board, TensorBoardLogger)
    board.log_hyperparams(own, {config.monitor: reached})
    board.finalize("success")


def _device(trainer: lightning.Trainer) -> str:
    if trainer.strategy.root_device.type == "cuda":
        return f"{torch.cuda.get_device_name()} ({trainer.precision})"
    return f"CPU, {torch.get_num_threads()} threads ({trainer.precision})"
