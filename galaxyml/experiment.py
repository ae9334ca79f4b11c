"""One run: data, a module fitted to it, predictions, the stages that turn them into numbers, and a report."""

import logging
import math
import time
from pathlib import Path
from typing import Any

from hydra.utils import get_class, instantiate
from omegaconf import DictConfig

from galaxyml.data.catalog import SPLITS
from galaxyml.kinds import of_config, stages_of
from galaxyml.models.lora import check_peft
from galaxyml.models.origin import Origin
from galaxyml.models.symmetry import view_set
from galaxyml.reports import run_report, verdict
from galaxyml.runs import ranks
from galaxyml.runs.errors import UserError
from galaxyml.runs.progress import track
from galaxyml.runs.provenance import host_info
from galaxyml.runs.run_dir import RunDir
from galaxyml.runs.seeds import seed_all
from galaxyml.training.averaging import ending_callbacks
from galaxyml.training.checks import check_config, check_monitor
from galaxyml.training.hardware import check_trainer, keep_memory
from galaxyml.training.kernels import wished_kernels
from galaxyml.training.loggers import check_logger, log_final
from galaxyml.training.optimizers import check_optimizer
from galaxyml.training.phased_fit import PhasedFit
from galaxyml.training.pruning import Pruned
from galaxyml.training.quiet import quiet
from galaxyml.training.start import member
from galaxyml.training.transfer import Taken, overlap

LARGE = 5_000_000  # parameters
log = logging.getLogger(__name__)


def run(config: DictConfig, folder: Path) -> float:
    """Makes a run, or carries on with one: a finished run stays as it is, a broken one resumes.

    Args:
        config: The composed configuration.
        folder: The run's folder.

    Returns:
        The metric that the configuration monitors; of a run of a search that is ended early, its last value; NaN in all
        but the first of several processes.

    Raises:
        UserError: If something that the user gave cannot be used.
    """
    quiet()
    keep_memory()
    run = RunDir(folder)
    module, data = build(config, begun=run.has_progress)
    writer = of_config(config).prediction_writer(run)
    if run.finished:
        if hasattr(data, "digests") and data.source.path.is_dir():
            run.check_data(data.source.name, data.digests())
        log.info("%s: finished before, kept.", run.name)
        if (missing := run.missing_weights(config.predict_with)) and ranks.is_rank_zero():
            log.warning("note: %s", missing)
        return _monitored(config, run, run.metrics())

    run.update_status(
        state="preparing",
        doing="reading the data",
        began=time.time(),
        ended=None,
        reason=None,
        left=None,
        **host_info(),
    )
    fit = PhasedFit(config, run, module, writer)
    try:
        with ranks.rank_zero_first():
            data.prepare_data()
            data.setup("fit")
        if ranks.is_rank_zero():
            _write_data(config, run, data, fit.device, getattr(module, "origin", None))
            if (taken := getattr(module, "taken", None)) is not None:
                _write_start(run, data, taken)
            elif not run.has_progress:
                _say_net(config, run, module, data)
            run.update_status(doing="beginning the fit")
        fit.fit(data)
        fit.predict(data)
    except Pruned as pruned:
        log.info("%s: ended early, %s", run.name, pruned)
        run.update_status(state="pruned", value=pruned.value, left=None, ended=time.time())
        return pruned.value
    if not ranks.is_rank_zero():
        return math.nan

    metrics = verdict.judge(run, run_stages(config, run))
    value = _monitored(config, run, metrics)
    run_report.write(run, metrics)
    log_final(fit.loggers, {f"reached/{config.monitor}": value})
    run.write_metrics(metrics)  # last: it marks the run as finished
    run.update_status(state="finished", value=value, monitor=config.monitor, left=None, ended=time.time())
    return value


def check(config: DictConfig, run: RunDir, on_this_machine: bool = True) -> int:
    """Makes sure, as far as that shows without reading data, that a run can begin; writes nothing.

    Args:
        config: The composed configuration.
        run: Its folder, which need not exist yet.
        on_this_machine: Whether it will run here, so that there must be the device that it asks for.

    Returns:
        Bytes that its checkpoints take at least: the best and the last, each with the weights and a moment of them.

    Raises:
        UserError: If it cannot; the message names what stands in the way.
    """
    quiet()
    module, data = build(config, begun=run.has_progress)
    if run.finished:  # it stays as it is, whether its files and this device are there or not
        return 0
    if hasattr(data, "check_files"):
        data.check_files()
    if on_this_machine:
        check_trainer(config.trainer, config.batch_size)
    if hasattr(module, "rehearse"):
        module.rehearse()
    if hasattr(module, "logged_names"):
        check_monitor(config, module.logged_names())
    if hasattr(module, "optimizer"):
        check_optimizer(module.optimizer, module.schedule)
    instantiate(list((config.callbacks or {}).values()))
    weights = sum(parameter.nbytes for parameter in module.parameters())
    return 2 * (weights + sum(parameter.nbytes for parameter in module.parameters() if parameter.requires_grad))


def build(config: DictConfig, begun: bool = False) -> tuple[Any, Any]:
    """The module and the data of a configuration, made sure to be possible and to go together.

    Args:
        config: The composed configuration.
        begun: Whether the run has weights already, so that what it began with is not needed.

    Raises:
        UserError: If they are not.
    """
    check_config(config)
    check_logger(config)
    ending_callbacks(config)
    if "lora" in str(config.tune):
        check_peft()
    wished_kernels(config.trainer)
    view_set(config.predict_views)
    if config.symmetry is not None:
        view_set(config.symmetry, "symmetry")
    module = build_module(config, begun)  # before the data: missing weights show at once
    data = instantiate(config.data)
    if hasattr(module, "check_data"):
        module.check_data(data)
    stages_of(config)  # before the fit: a mistake in a stage shows at once
    return module, data


def build_module(config: DictConfig, begun: bool = False) -> Any:
    """The LightningModule of a configuration, its weights as the seed draws them, or those of its start."""
    seed_all(config.seed, "weights")
    start = {}
    if (path := config.get("start")) is not None:
        if "start" not in config.module:
            raise UserError(f"start={path}: the module of task={config.task} takes no weights to begin with.")
        keeps_head = getattr(get_class(config.module._target_), "keeps_head", False)
        start = {"start": None if begun and not keeps_head else member(path, config.fold)}
    # Its parts stay mappings, so that its checkpoints can be loaded without the configuration.
    return instantiate(config.module, _recursive_=False, **start)


def run_stages(config: DictConfig, run: RunDir) -> dict[str, float]:
    """Runs a configuration's stages, one after the other, on the predictions of a run or of a sweep.

    Args:
        config: The configuration.
        run: Whose predictions; without those that only draw where it does not.

    Returns:
        Their metrics.
    """
    metrics: dict[str, float] = {}
    stages = stages_of(config, run.draws)
    for stage in track(stages, f"{run.name}: judging and drawing", len(stages)):
        metrics |= stage(run)
    return metrics


def _write_data(config: DictConfig, run: RunDir, data: Any, device: str, origin: Origin | None) -> None:
    """Writes what the data are: provenance, the catalog, and tables beside it."""
    for note in getattr(data, "notes", ()):
        log.info("note: %s", note)
    counts = data.catalog["split"].value_counts()
    if hasattr(data, "describe"):
        description = data.describe()
    else:
        objects = {split: int(counts.get(split, 0)) for split in SPLITS}
        description = {"source": type(data).__name__, "folder": "", "sha256": {}, "objects": objects, "notes": []}
    run.write_provenance(config.seed, device, description, models=[origin.record()] if origin else [])
    if origin is not None and origin.weights is not None:
        log.info("%s: %s", run.name, origin.sentence())
    run.write_catalog(data.catalog)
    for name, table in getattr(data, "artifacts", {}).items():
        run.write_table(name, table)
    log.info("%s: %s", run.name, ", ".join(f"{counts[split]:,} {split}" for split in counts.index))


def _say_net(config: DictConfig, run: RunDir, module: Any, data: Any) -> None:
    """Says what net begins with nothing; of a large one on few objects also what would suit them better."""
    origin = getattr(module, "origin", None)
    if "model" not in config or (origin is not None and origin.weights is not None):
        return
    count = sum(parameter.numel() for parameter in module.parameters())
    name = config.model.get("name") or str(config.model._target_).rpartition(".")[2]
    log.info("%s: %s, %.2g million parameters, from scratch", run.name, name, count / 1e6)
    train = int((data.catalog["split"] == "train").sum())
    if count > LARGE and train < verdict.FEW and "start" in config.module and not config.smoke:
        log.warning(
            "note: a net of that size learns little from %s objects. Try start=sky, model=tiny, or weights of ImageNet "
            "(model.pretrained=true).",
            f"{train:,}",
        )


def _write_start(run: RunDir, data: Any, taken: Taken) -> None:
    """Writes what the net has taken of its start, and says it."""
    log.info("%s: %s", run.name, taken)
    run.write_start(taken.record())
    if note := overlap(taken, data):
        log.warning("note: %s", note)


def _monitored(config: DictConfig, run: RunDir, metrics: dict[str, Any]) -> float:
    """The monitored metric of a run, from its stages or the epoch that predicts."""
    value = run.reached(metrics, config.monitor, config.mode, config.predict_with)
    assert value is not None  # checkpoints were chosen by it
    return value
