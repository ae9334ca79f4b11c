"""What a net sees of images that are ranked, written into the folder of the run."""

from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from galaxyml.runs.errors import diverged
from galaxyml.runs.run_dir import RunDir
from galaxyml.training import projector
from galaxyml.training.streamed_tables import StreamedTables

AT_ONCE = 4096  # images whose numbers are held before they are written
LISTS = ("features", "thumbnail")  # columns of which a cell holds several numbers


class ImageEncodings(StreamedTables):
    """Writes what `EncodingModule.predict_step` gives of all images as the table `encoded` of the split `survey`.

    One row an image, `id` first, with `bytes` of its file; NaN where a file holds several images.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: RunDir) -> None:
        super().__init__(run, AT_ONCE)
        self.shown: list[dict[str, Tensor]] = []  # that the projector shows

    def split_of(self, data: Any, dataloader_idx: int) -> str:
        return "survey"

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        super().on_predict_start(trainer, pl_module)
        self.shown = []

    def rows(self, predicted: dict[str, Tensor], data: Any) -> pd.DataFrame:
        rows = data.catalog.iloc[predicted["index"].numpy()]
        if not all(bool(values.isfinite().all()) for values in predicted.values()):
            raise diverged(self.run.path)
        room = projector.MOST - sum(len(some["index"]) for some in self.shown)
        self.shown.append({name: predicted[name][:room] for name in ("index", "features")})
        columns: dict[str, Any] = {"id": rows["id"].to_numpy()}
        for name, values in predicted.items():
            if name != "index":
                columns[name] = list(values.float().numpy()) if name in LISTS else values.float().numpy()
        return pd.DataFrame({**columns, "bytes": [_bytes(data.source.path, image) for image in rows["image"]]})

    def show(self, trainer: lightning.Trainer, module: Any, data: Any) -> None:
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
