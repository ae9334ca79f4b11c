"""A callback that writes down where its job runs, and brings the trouble that a job's folder name asks for."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback


class TransientError(Callback):
    """In the second epoch `TROUBLE` comes to the folds that it names, such as `raise:1,kill:2,memory:3`.

    With `slow:0` each epoch takes a third of a second or more.
    """

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        seen = {"gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "threads": torch.get_num_threads(), "pid": os.getpid()}
        (self.folder(trainer) / "seen.json").write_text(json.dumps(seen))

    def on_train_epoch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        asked = dict(part.split(":")[::-1] for part in os.environ.get("TROUBLE", "").split(",") if part)
        kind = asked.get(self.folder(trainer).name.split("_")[0].removeprefix("fold-"))
        if kind == "slow":
            time.sleep(0.33)
        if trainer.current_epoch != 1 or kind is None:
            return
        if kind == "raise":
            raise RuntimeError("a bad day")
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        attached: Any = trainer
        if kind == "memory" and attached.datamodule.batch_size > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    @staticmethod
    def folder(trainer: lightning.Trainer) -> Path:
        return Path(trainer.default_root_dir)
