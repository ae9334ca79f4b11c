"""Callbacks that fill loggers: the trivial predictor's metrics, throughput, figures, and TensorBoard's charts."""

import time
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as lightning
import matplotlib.pyplot as plt
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.data import extract_batch_size

from galaxyml.runs import ranks
from galaxyml.training.loggers import BASELINE, SHOWING, TensorBoard


class Dashboard(Callback):
    """Logs, each epoch, the metrics of the trivial predictor, and the training objects a second.

    Names are the same in all tasks: `train/loss`, `val/loss`, `val/<metric>`, `baseline/<metric>` (in TensorBoard a
    second line of `val/<metric>`), `learning_rate`, and `throughput` (training objects a second, validation not
    counted). The trivial predictor is the module's `baseline(data)`, if it has one.

    Args:
        monitor: The metric that counts.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.baseline: dict[str, float] = {}

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it without declaring it
        self.baseline = pl_module.baseline(data) if hasattr(pl_module, "baseline") else {}
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoard):
                logger.experiment.add_custom_scalars(layout(logger.config.task, self.monitor, self.baseline))

    def on_train_start(self, *_: Any, **__: Any) -> None:
        self.began = self.ended = time.monotonic()
        self.seen = 0

    on_train_epoch_start = on_train_start  # both, as a fit that goes on within an epoch does not begin it

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        rows = len(batch["index"]) if isinstance(batch, Mapping) and "index" in batch else extract_batch_size(batch)
        self.seen += rows * ranks.world_size()
        self.ended = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        throughput = {"throughput": self.seen / max(self.ended - self.began, 1e-9)}
        step = trainer.global_step
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoard):
                logger.log_baseline({f"val/{name}": value for name, value in self.baseline.items()}, step)
                logger.log_metrics(throughput, step)
            else:
                beside = {f"{BASELINE}/{name}": value for name, value in self.baseline.items()}
                logger.log_metrics(beside | throughput, step)


class Figures(Callback):
    """Logs figures of validation about 5 times a run, and at its end, of modules that have `figures(trainer)`.

    Args:
        times: How often figures are drawn; of a run of fewer epochs once, as drawing would take longer than training.
    """

    def __init__(self, times: int = 5) -> None:
        self.times = times

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        epochs, reached = trainer.max_epochs or 1, trainer.current_epoch + 1
        interval = epochs if 0 < epochs < self.times else max(epochs // self.times, 1)
        last = reached == epochs
        showing = [logger for logger in trainer.loggers if isinstance(logger, SHOWING)]
        if not hasattr(pl_module, "figures") or (reached % interval and not last):
            return
        if not ranks.broadcast(bool(showing)):
            return
        figures = pl_module.figures(trainer)  # before the module resets what it collected; of all processes
        for name, figure in figures.items():
            for logger in showing:
                logger.add_figure(f"val/{name}", figure, trainer.global_step)
            plt.close(figure)


def layout(task: str, monitor: str, baseline: dict[str, float]) -> dict[str, dict[str, list[Any]]]:
    """Charts by category as TensorBoard's custom scalars take them, tags as regular expressions.

    TensorBoard puts together what runs of all tasks ask for, so that categories name theirs.

    Args:
        task: Name.
        monitor: The metric that counts, whose chart comes first.
        baseline: The trivial predictor's metrics, by name.
    """

    def chart(*tags: str) -> list[Any]:
        return ["Multiline", [f"^{tag}$" for tag in tags]]

    names = [monitor, *sorted(tag for name in baseline if (tag := f"val/{name}") != monitor)]
    return {
        f"{task}: metrics, beside those of a predictor that sees no object": {
            name.removeprefix("val/"): chart(name) for name in names
        },
        f"{task}: losses": {"loss": chart("train/loss", "val/loss")},
        f"{task}: training": {"learning rate": chart("learning_rate"), "objects a second": chart("throughput")},
    }
