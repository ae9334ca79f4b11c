"""The end of a fit that a signal asks for: at the next step, with a checkpoint from which it goes on to the bit."""

import random
import signal
from pathlib import Path
from typing import Any, NoReturn

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from galaxyml.runs import ranks, signals
from galaxyml.runs.errors import UserError
from galaxyml.runs.files import atomic_write
from galaxyml.runs.run_dir import RunDir


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that appear whole or not at all.

    Lightning writes them to the system's temporary folder and moves them; from one disk to another that is a copy,
    which a kill cuts off.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        # By Python's file, as torch's own does not say that a disk is full.
        with atomic_write(Path(path)) as draft, draft.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # of torch's archive, which it cannot close then
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise


class Stopping(Checkpoint):
    """Ends a fit after the step of the optimizer in which a signal came; the same command goes on from there.

    `last.ckpt` then also has how many batches of the epoch were given, the state of all random numbers, and the sums of
    what the epoch has logged. In the last step of an epoch, while validating, and with a loader that has no
    `state_dict`, the fit goes on to the epoch's end.

    As a checkpoint callback it comes after all others, when they have seen the step.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.saved: dict[str, Any] = {}  # of an unfinished epoch
        self.announced = False

    def state_dict(self) -> dict[str, Any]:
        return self.saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.saved = state_dict

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.saved:
            # Lightning does so only if it has not asked for the loader before, as it does to count steps.
            batches: Any = trainer.train_dataloader
            if batches.sampler.batch_size != self.saved["batch_size"]:
                raise UserError(
                    f"{self.run.path} was stopped within an epoch of batches of {self.saved['batch_size']}, and cannot "
                    f"go on with batches of {batches.sampler.batch_size}. Give the same batch_size."
                )
            batches.load_state_dict(self.saved["loader"])
            _set_random_state(self.saved["random"], self.saved["shared"])

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self._stop_requested():
            self._stop()

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        # Lightning keeps the sums of what the epoch logs here alone, and leaves them out of its checkpoints.
        logged = trainer.fit_loop.epoch_loop._results
        if self.saved:
            for name, sums in self.saved["sums"].items():
                for state, value in sums.items():
                    setattr(logged[name], state, getattr(logged[name], state) + value.to(trainer.strategy.root_device))
            self.saved = {}
        done = arguments[-1] + 1
        within = done % trainer.accumulate_grad_batches == 0 and done < trainer.num_training_batches
        batches: Any = trainer.train_dataloader
        if not self._stop_requested() or not within or not hasattr(batches, "state_dict"):
            return
        states = ("value", "cumulated_batch_size")
        sums = {name: {state: getattr(entry, state) for state in states} for name, entry in logged.items()}
        self.saved = {
            "batch_size": batches.sampler.batch_size,
            "loader": batches.state_dict(),
            "random": ranks.gather_objects(_random_state()),
            "shared": ranks.shared_rng_state(),
            "sums": sums,
        }
        trainer.save_checkpoint(self.run.checkpoints / "last.ckpt")
        self._stop()

    def on_validation_batch_end(self, *_: Any) -> None:
        if signals.pending_signal() is not None and not self.announced:
            self.announced = True
            print(f"{self.run.name}: stops when the epoch is validated; a second signal stops at once.", flush=True)

    @staticmethod
    def _stop_requested() -> bool:
        """Whether a signal has come; all processes of the run say the same."""
        return ranks.any_rank(signals.pending_signal() is not None)

    @staticmethod
    def _stop() -> NoReturn:
        raise signals.Stop(signals.pending_signal() or signal.SIGTERM)


def _random_state() -> dict[str, Any]:
    """State of the global random numbers of Python, NumPy and torch (all devices), as a checkpoint can hold it."""
    version, numbers, gauss = random.getstate()
    numpy: Any = np.random.get_state()  # noqa: NPY002 - libraries draw from the global one
    name, keys, *rest = numpy
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [name, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_state(states: list[dict[str, Any]], shared: Tensor | None) -> None:
    """Sets the random numbers of this process, and those that all draw alike, from those of all that were stopped."""
    if len(states) != ranks.world_size():  # what several drew alike, one process draws from its own
        torch.set_rng_state((states[0]["torch"] if shared is None else shared).cpu())
        ranks.start_shared_rng()
        return
    ranks.start_shared_rng(shared)
    state = states[ranks.rank()]
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002 - as above
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([device_state.cpu() for device_state in state["cuda"]])
