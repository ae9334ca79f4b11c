"""What a net sees of images that are ranked, written into the folder of the run."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from galaxyml.runs import ranks
from galaxyml.runs.errors import diverged
from galaxyml.runs.run_dir import RunDir
from galaxyml.training import projector
from galaxyml.training.predictions import gather

SPLIT, BY = "survey", "encoded"
AT_ONCE = 4096  # images whose numbers are held before they are written
LISTS = ("features", "thumbnail")  # columns of which a cell holds several numbers


class ImageEncodings(BasePredictionWriter):
    """Writes what `EncodingModule.predict_step` gives of all images as the table `encoded` of the split `survey`.

    One row an image, `id` first, with `bytes` of its file; NaN where a file holds several images. Of several processes
    the first writes.

    Args:
        run: The run's folder.

    Raises:
        UserError: If a number is not finite.
    """

    def __init__(self, run: RunDir) -> None:
        super().__init__("batch")
        self.run = run
        self.table = ExitStack()
        self.waiting: list[dict[str, Tensor]] = []
        self.shown: list[dict[str, Tensor]] = []  # that the projector shows

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self.waiting, self.shown = [], []
        if ranks.is_rank_zero():
            self.write = self.table.enter_context(self.run.predictions_writer(SPLIT, by=BY))

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
        self.waiting.append({name: values.cpu() for name, values in prediction.items()})
        if sum(len(rows["index"]) for rows in self.waiting) * ranks.world_size() >= AT_ONCE:
            self._flush(trainer.datamodule)  # type: ignore[attr-defined]  # Lightning sets it without declaring it

    def on_predict_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]  # as above
        self._flush(data)
        self.table.close()
        self._show(trainer, data)

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.table.__exit__(type(exception), exception, exception.__traceback__)  # leaves no half table

    def _flush(self, data: Any) -> None:
        if not self.waiting:
            return
        predicted, self.waiting = gather(self.waiting), []
        if not ranks.is_rank_zero():
            return
        rows = data.catalog.iloc[predicted["index"].numpy()]
        if not all(bool(values.isfinite().all()) for values in predicted.values()):
            raise diverged(self.run.path)
        columns: dict[str, Any] = {"id": rows["id"].to_numpy()}
        for name, values in predicted.items():
            if name != "index":
                columns[name] = list(values.float().numpy()) if name in LISTS else values.float().numpy()
        columns["bytes"] = [_bytes(data.source.path, image) for image in rows["image"]]
        self.write(pd.DataFrame(columns))
        room = projector.MOST - sum(len(some["index"]) for some in self.shown)
        self.shown.append({name: predicted[name][:room] for name in ("index", "features")})

    def _show(self, trainer: lightning.Trainer, data: Any) -> None:
        """Shows the first images in TensorBoard's projector, where they lie as the net sees them."""
        if (boards := projector.boards(trainer)) and self.shown:
            rows, features = (torch.cat([some[name] for some in self.shown]) for name in ("index", "features"))
            metadata = data.kind.describe(data.catalog.iloc[rows.numpy()])
            images = projector.thumbnails(data.store.gather(rows))
            for board in boards:
                board.add_features(projector.principal(features), metadata, images, trainer.global_step)


def _bytes(folder: Path, image: str) -> float:
    """Size of an image's file; NaN of one inside another file."""
    try:
        return float((folder / image).stat().st_size)
    except OSError:
        return np.nan
