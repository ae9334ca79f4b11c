"""Callbacks beside the fitting: seeds, history, status, progress and checkpoints."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from galaxyml.runs import ranks
from galaxyml.runs.errors import UserError
from galaxyml.runs.progress import SECONDS_BETWEEN_LINES, bar, heartbeat, live, pace, say_progress
from galaxyml.runs.run_dir import RunDir
from galaxyml.runs.seeds import seed_all


class EpochSeeds(Callback):
    """Starts all random numbers anew with each epoch, so that a resumed run draws what an unbroken one would.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        seed_all(self.seed, "epoch", trainer.current_epoch, 0)
        if trainer.world_size > 1:
            ranks.start_shared_rng()  # views of images, as one process draws them; dropout is each one's own
            seed_all(self.seed, "epoch", trainer.current_epoch, "rank", trainer.global_rank)


class History(Callback):
    """Keeps one row an epoch of what was logged, in the run's folder and in its checkpoints.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        logged = {name: float(value) for name, value in trainer.callback_metrics.items() if name.count("/") == 1}
        if not math.isfinite(logged.get("train/loss", 0.0)):
            raise UserError(
                f"{self.run.path}: the loss of epoch {trainer.current_epoch + 1} is not finite: training has diverged. "
                "Lower optim.lr or set trainer.gradient_clip_val=1."
            )
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.rows.append({"epoch": trainer.current_epoch, **logged, "learning_rate": rate})
        for logger in trainer.loggers:
            logger.log_metrics({"learning_rate": rate}, step=trainer.global_step)
        if trainer.is_global_zero:
            self.run.write_history(self.rows)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]


class StatusWriter(Callback):
    """Keeps in the run's folder how far a fit is, for whoever looks on.

    Args:
        run: The folder of the run.
        phase: What is fitted.
        phases: All that will be.
        monitor: The metric that is shown.
    """

    BETWEEN = 1.0  # seconds at least

    def __init__(self, run: RunDir, phase: str, phases: Sequence[str], monitor: str) -> None:
        self.run, self.monitor = run, monitor
        self.about = {"state": "training", "phase": phase, "phases": list(phases), "monitor": monitor}
        self.last_update = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.began, self.first = time.monotonic(), trainer.global_step
        self._update(trainer, epoch=trainer.current_epoch, epochs=trainer.max_epochs, **self.about)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        now = time.monotonic()
        if now - self.last_update > self.BETWEEN and (done := trainer.global_step - self.first) > 0:
            left = trainer.estimated_stepping_batches - trainer.global_step
            self._update(trainer, left=(now - self.began) / done * left)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        value = trainer.callback_metrics.get(self.monitor)
        changes = {} if value is None else {"value": float(value)}
        self._update(trainer, epoch=trainer.current_epoch + 1, **changes)

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._update(trainer, state="predicting", left=None)

    def _update(self, trainer: lightning.Trainer, **changes: Any) -> None:
        self.last_update = time.monotonic()
        if trainer.is_global_zero:
            self.run.update_status(**changes)


class EpochProgress(Callback):
    """One bar over all epochs, and one while predicting, in a terminal; a plain line now and then elsewhere.

    Args:
        name: What is fitted, such as `fold-0`.
        monitor: The metric that is shown.
    """

    def __init__(self, name: str, monitor: str) -> None:
        self.name, self.monitor = name, monitor
        self.shown = bar()
        self.last_line = 0.0
        self.beating = ExitStack()  # while training, or predicting

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.epoch, self.epochs = trainer.current_epoch + 1, trainer.max_epochs or 0
        self.note = self.validating = ""
        self._begin("training", trainer.global_step, int(trainer.estimated_stepping_batches), " steps", self._line)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.epoch = trainer.current_epoch + 1

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._advance(trainer.global_step)

    def on_validation_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any, **__: Any
    ) -> None:
        self.validating = f", validating batch {batch_idx + 1:,} of {sum(trainer.num_val_batches):,.0f}"

    def on_validation_end(self, *_: Any) -> None:
        self.validating = ""

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        value = trainer.callback_metrics.get(self.monitor)
        note = f"{self.monitor} {float(value):.4f}" if value is not None else ""
        self.note = f", {note}" if note else ""
        self.shown.update(self.task, note=note)
        now = time.monotonic()
        if not live() and (self.epoch == self.epochs or now - self.last_line > SECONDS_BETWEEN_LINES):
            self.last_line = now
            say_progress(f"{self.name}: epoch {self.epoch} of {self.epochs}{self.note}{self._pace()}")

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        total = sum(int(count) for count in trainer.num_predict_batches)
        self._begin(
            "predicting",
            0,
            total,
            " batches",
            lambda: f"{self.name}: predicting, batch {self.done:,} of {total:,}{self._pace()}",
        )

    def on_predict_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._advance(self.done + 1)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.shown.stop()
        self.beating.close()

    on_predict_end = on_exception = on_train_end

    def _begin(self, what: str, done: int, total: int, unit: str, line: Callable[[], str]) -> None:
        """Shows work of which some is done already."""
        self.shown = bar()
        self.task = self.shown.add_task(f"{self.name}: {what}", total=total, completed=done, unit=unit, note="")
        self.shown.start()
        self.began, self.first, self.done, self.total, self.unit = time.monotonic(), done, done, total, unit
        self.beating.enter_context(heartbeat(line))

    def _advance(self, done: int) -> None:
        self.done = done
        self.shown.update(self.task, completed=done)

    def _line(self) -> str:
        """How far the fit is, within an epoch."""
        steps = f"step {self.done:,} of {self.total:,}"
        return f"{self.name}: epoch {self.epoch} of {self.epochs}, {steps}{self.validating}{self.note}{self._pace()}"

    def _pace(self) -> str:
        seconds = time.monotonic() - self.began
        return pace(self.done - self.first, self.total - self.done, seconds, self.unit)


class TopCheckpoints(ModelCheckpoint):
    """Keeps the best epochs of a run besides the very best; a name of its own keeps its state apart from that one's."""

    @property
    def state_key(self) -> str:
        return f"top {super().state_key}"


def checkpoints(run: RunDir, monitor: str, mode: str, top_k: int = 1) -> list[ModelCheckpoint]:
    """Checkpoints: the best epoch's, the last one's to carry on from, and where wanted the best few.

    Args:
        run: The run's folder.
        monitor: The metric that decides which epoch is best.
        mode: Whether it is to be `min` or `max`.
        top_k: How many of the best are kept; more than one go to `checkpoints/top/`, named by epoch and metric.
    """
    folder = run.checkpoints
    best = ModelCheckpoint(folder, "best", monitor=monitor, mode=mode, enable_version_counter=False)
    # save_last of the first would write only when a best is saved.
    last = ModelCheckpoint(folder, "last", enable_version_counter=False, save_on_train_epoch_end=True)
    if top_k == 1:
        return [best, last]
    name = "epoch-{epoch:03d}_{" + monitor + ":.4f}"
    top = TopCheckpoints(
        folder / "top", name, monitor=monitor, mode=mode, save_top_k=top_k, auto_insert_metric_name=False
    )
    return [best, top, last]
