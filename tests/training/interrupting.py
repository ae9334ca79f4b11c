"""A callback that ends its own process in the middle of an epoch, as a power cut or a person would."""

import os
import signal
from typing import Any

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Callback


class InterruptAt(Callback):
    """Sends the signal named by INTERRUPT_WITH to this process in the second batch of epoch `epoch`; none, no effect.

    Where INTERRUPT_PHASE names a phase of a fit, only in that one.

    Args:
        epoch: Epoch, counted from 0.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        name = os.environ.get("INTERRUPT_WITH")
        phase = getattr(arguments[0], "phase", None)
        if phase != os.environ.get("INTERRUPT_PHASE", phase):
            return
        if name and trainer.current_epoch == self.epoch and arguments[-1] == 1:
            os.kill(os.getpid(), getattr(signal, name))
