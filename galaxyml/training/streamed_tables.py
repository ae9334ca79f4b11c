"""Predictions written into the folder of a run as they come."""

from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import Any

import lightning.pytorch as lightning
import pandas as pd
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from galaxyml.runs import ranks
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.predictions import gather


class StreamedTables(BasePredictionWriter, ABC):
    """Writes what `predict_step` gives as the tables `encoded` of splits, so that millions of rows take little memory.

    Of several processes the first writes.

    Args:
        run: The run's folder.
        at_once: Rows that are held before they are written.
    """

    def __init__(self, run: RunDir, at_once: int) -> None:
        super().__init__("batch")
        self.run, self.at_once = run, at_once
        self.table = ExitStack()  # of the split that is predicted
        self.split = ""
        self.waiting: list[dict[str, Tensor]] = []

    @abstractmethod
    def split_of(self, data: Any, dataloader_idx: int) -> str:
        """The split that a loader of predictions has."""

    @abstractmethod
    def rows(self, predicted: dict[str, Tensor], data: Any) -> pd.DataFrame:
        """A table of predictions, `id` first.

        Raises:
            UserError: If a number is not finite.
        """

    def show(self, trainer: lightning.Trainer, module: Any, data: Any) -> None:
        """Shows what was predicted, once all is written."""

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self.split, self.waiting = "", []

    def write_on_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: Any,
        prediction: dict[str, Tensor],
        batch_indices: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it without declaring it
        split = self.split_of(data, dataloader_idx)
        if split != self.split:
            self._flush(data)
            self.table.close()
            self.split = split
            if ranks.is_rank_zero():
                self.write = self.table.enter_context(self.run.predictions_writer(split, by="encoded"))
        self.waiting.append({name: values.cpu() for name, values in prediction.items()})
        if sum(len(rows["index"]) for rows in self.waiting) * ranks.world_size() >= self.at_once:
            self._flush(data)

    def on_predict_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]  # as above
        self._flush(data)
        self.table.close()
        self.show(trainer, pl_module, data)

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.table.__exit__(type(exception), exception, exception.__traceback__)  # leaves no half table

    def _flush(self, data: Any) -> None:
        if not self.waiting:
            return
        predicted, self.waiting = gather(self.waiting), []
        if ranks.is_rank_zero():
            self.write(self.rows(predicted, data))
