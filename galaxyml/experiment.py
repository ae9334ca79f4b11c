"""One run: a catalog, a module fitted to it, predictions, and the stages that turn them into numbers and figures."""

import copy
import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from galaxyml import report
from galaxyml.data.features import open_features
from galaxyml.data.module import ImageData
from galaxyml.data.views import plain
from galaxyml.errors import UserError, diverged
from galaxyml.losses import ClassLoss
from galaxyml.models.parts import TwoParts
from galaxyml.novelty import Familiar, appearance
from galaxyml.runs import RunDir, check_same, flat
from galaxyml.seeds import seed_all
from galaxyml.training.callbacks import EpochProgress, EpochSeeds, History, checkpoints
from galaxyml.training.hardware import keep_memory
from galaxyml.training.pictures import Pictures
from galaxyml.training.supervised import SupervisedModule

log = logging.getLogger(__name__)

FLAGGED = 0.01  # share of validation pictures that `galaxyml.predict` would call unlike the training set
AT_ONCE = 256  # pictures that are looked at together


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
    _check(config)
    _check_siblings(here, config)
    asked = copy.deepcopy(config)  # instantiate puts values in the place of interpolations
    seed_all(config.seed, "weights")
    module: SupervisedModule = instantiate(config.module)  # before the data: missing weights show at once
    data: ImageData = instantiate(config.data)
    _check_weighing(module, data, config)
    here.start(asked, overrides)
    if here.finished:
        if data.source.path.is_dir():
            here.check_data(data.source.name, data.digests())
        log.info("%s: finished before, kept.", here.name)
        return _reached(here.metrics(), config, here)
    data.setup()
    assert data.catalog is not None
    _probe(module, data, config)
    _weigh_classes(module, data)
    trainer = _trainer(config, here)
    here.write_provenance(config.seed, _device(trainer), data.provenance())
    here.write_catalog(data.catalog)
    for name, table in data.made.items():
        here.write_table(name, table)
    counts = data.catalog["split"].value_counts()
    log.info("%s: %s", here.name, ", ".join(f"{counts[split]:,} {split}" for split in counts.index))
    if module.tune == "head":
        _freeze(trainer, module, data, config, here)
    _fit(trainer, module, data, here)
    load_weights(module, here, config.predict_with)
    predict(trainer, module, data, here)
    metrics = run_stages(config, here)
    reached = _reached(metrics, config, here)
    report.write(here, metrics)
    _log_hyperparameters(trainer, config, reached)
    here.write_metrics(metrics)  # last: it marks the run as finished
    return reached


def run_stages(config: DictConfig, here: RunDir) -> dict[str, float]:
    """Runs a configuration's stages, one after the other, on the predictions of a run or of a sweep."""
    metrics: dict[str, float] = {}
    for stage in instantiate(config.stages):
        metrics |= stage(here)
    return metrics


def load_weights(module: SupervisedModule, here: RunDir, which: str) -> None:
    """Gives a module the weights of a run's `best` or `last` epoch."""
    state = torch.load(here.checkpoints / f"{which}.ckpt", map_location="cpu", weights_only=True)
    module.load_state_dict(state["state_dict"])


def predict(trainer: lightning.Trainer, module: SupervisedModule, data: ImageData, here: RunDir) -> None:
    """Writes what the net says of validation and test pictures, and keeps what the training set looks like to it."""
    assert data.catalog is not None
    val, train, *test = (gather(batches) for batches in trainer.predict(module, datamodule=data) or [])
    for split, said in zip(("val", "test"), (val, *test), strict=False):
        table = pd.DataFrame(said["output"].numpy(), columns=data.outputs)
        if not np.isfinite(table.to_numpy()).all():
            raise diverged(here.path)
        table.insert(0, "id", data.catalog["id"].to_numpy()[said["index"].numpy()])
        here.write_predictions(split, table, by="net")
        here.write_predictions(split, table)
    looks = [_looks(data, said["index"]) for said in (train, val)]
    features = (train["feature"].numpy(), val["feature"].numpy()) if "feature" in val else None
    here.write_arrays("familiar", Familiar.fit((looks[0], looks[1]), features, FLAGGED).arrays())


def _looks(data: ImageData, rows: torch.Tensor) -> np.ndarray:
    """What some rows' pictures look like, shape (N, A)."""
    parts = [appearance(plain(data.store.gather(part), data.framing.size)) for part in rows.split(AT_ONCE)]
    return np.concatenate(parts)


def gather(batches: Any) -> dict[str, torch.Tensor]:
    """What `predict_step` said of all batches, on the CPU."""
    return {name: torch.cat([batch[name].cpu() for batch in batches]) for name in batches[0]}


def load_run(here: RunDir) -> SupervisedModule:
    """The net of a finished run, with the weights that it predicted with.

    Raises:
        UserError: If the folder is no run's, or the run is not finished.
    """
    config = here.config
    here.metrics()  # only of a finished run
    for key in ("weights", "pretrained"):  # the run has its own weights
        if key in (config.get("model") or {}):
            config.model[key] = None if key == "weights" else False
    module: SupervisedModule = instantiate(config.module)
    load_weights(module, here, config.predict_with)
    return module.eval()


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
    for key in ("views", "predict_views"):
        if config[key] not in range(1, 9):
            raise UserError(f"{key}={config[key]}: it must be a whole number from 1 (plain) to 8 (all symmetries).")
    if config.tune == "head" and config.predict_views > config.views:
        raise UserError(f"predict_views={config.predict_views}: with tune=head it may be at most views={config.views}.")
    for key, choices in {"predict_with": ("best", "last"), "mode": ("min", "max")}.items():
        if config[key] not in choices:
            raise UserError(f"{key}={config[key]}: it must be {' or '.join(choices)}.")
    name = str(config.name or "")
    if not name.strip("./ ") or ".." in name.split("/") or name.startswith("/"):
        raise UserError(f"name={name}: it must be a name for a folder, such as name=baseline.")
    if config.callbacks is not None and not isinstance(config.callbacks, DictConfig):
        raise UserError("callbacks must be a mapping, such as callbacks={stop: {_target_: …}}.")


def _check_siblings(here: RunDir, config: DictConfig) -> None:
    """Folds that will be joined must be made alike."""
    for sibling in RunDir(here.path.parent).children():
        if sibling.worth_keeping and sibling.name != here.name and sibling.group == here.group:
            check_same(sibling, config, besides=("fold",))


@torch.no_grad()
def _probe(module: SupervisedModule, data: ImageData, config: DictConfig) -> None:
    """Makes sure that the net takes pictures of the given size and says as much as there is to predict."""
    images = torch.zeros(2, 3, config.size, config.size)
    try:
        outputs = module.eval()(images)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"size={config.size}: this model cannot take it ({reason}). Choose another size=….") from error
    finally:
        module.train()
    if outputs.shape[1] != len(data.outputs):
        raise UserError(f"outputs={outputs.shape[1]}: this task predicts {len(data.outputs)} columns.")


def _check_weighing(module: SupervisedModule, data: ImageData, config: DictConfig) -> None:
    """Refuses to make rare classes count twice."""
    balance = getattr(data, "balance", 0.0)
    if balance and getattr(module.loss, "reweights", False) and not config.allow_double_weighting:
        raise UserError(
            f"balance={balance} draws rare classes more often, and the loss weighs them more as well: they count "
            "twice, and the net then sees them everywhere (recall 0.90 at precision 0.23 in a published run). Set "
            f"balance=0, or loss.{module.loss.key}=null; allow_double_weighting=true insists."
        )


def _weigh_classes(module: SupervisedModule, data: ImageData) -> None:
    """Gives a loss that balances classes the labels of the training split."""
    if isinstance(module.loss, ClassLoss):
        module.loss.balance(data.targets_of_rows[data.rows("train")], len(data.outputs))


def _freeze(
    trainer: lightning.Trainer, module: SupervisedModule, data: ImageData, config: DictConfig, here: RunDir
) -> None:
    """Puts features of the frozen backbone in the place of pictures."""
    assert isinstance(module.net, TwoParts)
    model = config.get("model") or {}
    if not (model.get("weights") or model.get("pretrained")):
        advice = "give model.weights=FILE or model.pretrained=true" if "weights" in model else "tune=all trains it"
        log.info("note: the backbone is frozen as it was drawn at random; %s.", advice)
    tuned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    every = list(module.parameters())
    log.info(
        "%s: trains %s of %s tensors, %s of %s numbers; features of the others are computed once",
        here.name,
        len(tuned),
        len(every),
        *(f"{sum(p.numel() for p in part):,}" for part in (tuned, every)),
    )
    with trainer.precision_plugin.forward_context():
        features = open_features(
            data.store,
            module.net,
            config.size,
            config.views,
            data.cache,
            trainer.strategy.root_device,
            trainer.precision,
        )
    data.use_features(features, config.predict_views)


def _reached(metrics: dict[str, Any], config: DictConfig, here: RunDir) -> float:
    """The monitored metric: a stage's, or else what the last epoch logged."""
    history = here.history()
    if config.monitor in metrics or history is None:
        return metrics[config.monitor]
    return float(history[config.monitor].iloc[-1])


def _trainer(config: DictConfig, here: RunDir) -> lightning.Trainer:
    callbacks: list[Any] = [
        EpochSeeds(config.seed),
        History(here),
        EpochProgress(here.name, config.monitor),
        Pictures(),
        *instantiate(list((config.get("callbacks") or {}).values())),
        *checkpoints(here, config.monitor, config.mode, config.top_k),
    ]
    logger = TensorBoardLogger(here.path, name="", version="tensorboard", default_hp_metric=False)
    return instantiate(
        config.trainer, max_epochs=config.epochs, callbacks=callbacks, logger=logger, default_root_dir=str(here.path)
    )


def _fit(trainer: lightning.Trainer, module: SupervisedModule, data: ImageData, here: RunDir) -> None:
    if here.fitted.is_file():
        return
    resume = here.last_checkpoint
    if resume is not None:
        log.info("%s: carries on from its last checkpoint.", here.name)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=str(resume) if resume else None, weights_only=True)
    except MisconfigurationException as error:  # a monitored metric that nobody logs, most of all
        raise UserError(str(error)) from error
    except SystemExit as error:  # Lightning's answer to a signal; its own status would be 0 for SIGTERM
        if trainer.received_sigterm:
            sys.exit(128 + signal.SIGTERM)
        if trainer.interrupted:
            raise KeyboardInterrupt from error
        raise
    here.fitted.touch()


def _log_hyperparameters(trainer: lightning.Trainer, config: DictConfig, reached: float) -> None:
    """Fills TensorBoard's table of runs: every number and word of the configuration, and what it led to."""
    values = {key: value for key, value in flat(config).items() if isinstance(value, int | float | str | bool)}
    own = {key: value for key, value in values.items() if "${" not in str(value) and "_target_" not in key}
    board = trainer.logger
    assert isinstance(board, TensorBoardLogger)
    board.log_hyperparams(own, {f"reached/{config.monitor}": reached})
    board.finalize("success")


def _device(trainer: lightning.Trainer) -> str:
    if trainer.strategy.root_device.type == "cuda":
        return f"{torch.cuda.get_device_name()} ({trainer.precision})"
    return f"CPU, {torch.get_num_threads()} threads ({trainer.precision})"
