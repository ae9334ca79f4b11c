"""How zoobot and galaxy-datasets read, learn from and predict images, with their default settings but for the workers.

As a script it fine-tunes a small net on a folder of JPEGs as zoobot's documentation does, so that it can be measured:

    python benchmarks/peers/zoobot_views.py FOLDER
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from galaxy_datasets import transforms
from galaxy_datasets.pytorch.galaxy_datamodule import CatalogDataModule
from lightning.pytorch.callbacks import LambdaCallback
from plain import small_net
from torch import Tensor, nn
from turns import BATCH, QUIET, Way, script_arguments
from zoobot.pytorch.predictions import predict_on_catalog
from zoobot.pytorch.training import finetune

VIEWS = {
    "default": transforms.default_view_config,
    "fast": transforms.fast_view_config,
    "minimal": transforms.minimal_view_config,
}


def catalog(paths: list[Path]) -> pd.DataFrame:
    """A table of images as galaxy-datasets takes it, with two classes."""
    rows = range(len(paths))
    return pd.DataFrame({"id_str": map(str, rows), "file_loc": map(str, paths), "label": [row % 2 for row in rows]})


def view(name: str, size: int) -> Any:
    """A transform by the name of its settings, for images of one size."""
    config = VIEWS[name]()
    config.output_size = size
    return transforms.get_galaxy_transform(config)


def data_module(paths: list[Path], size: int, name: str, workers: int, batch: int = BATCH) -> Any:
    """All images to train on, the first to validate."""
    table = catalog(paths)
    return CatalogDataModule(
        label_cols=["label"],
        train_catalog=table,
        val_catalog=table[:batch],
        test_catalog=table[:batch],
        train_transform=view(name, size),
        test_transform=view("minimal", size),
        batch_size=batch,
        num_workers=workers,
    )


def zoobot_epoch(paths: list[Path], size: int, name: str, workers: int, step: Callable[[Tensor, Tensor], None]) -> Way:
    """An epoch of the batches of galaxy-datasets; its workers live on between epochs."""
    data = data_module(paths, size, name, workers)
    data.setup("fit")
    batches = data.train_dataloader()

    def epoch() -> None:
        for batch in batches:
            step(batch["image"], batch["label"])

    return epoch


def fine_tuned(encoder: nn.Module, classes: int = 2) -> Any:
    """A classifier of zoobot with an encoder of one's own."""
    return finetune.FinetuneableZoobotClassifier(num_classes=classes, encoder=encoder)


def zoobot_predictions(encoder: nn.Module, outputs: int, paths: list[Path], size: int, workers: int) -> Way:
    """One view of each image, as zoobot predicts a catalog."""
    model, columns = fine_tuned(encoder, outputs), [f"column{number}" for number in range(outputs)]

    def predict() -> None:
        with tempfile.TemporaryDirectory() as folder:
            predict_on_catalog.predict(
                catalog(paths),
                model,
                save_loc=os.path.join(folder, "predictions.csv"),
                label_cols=columns,
                inference_transform=view("minimal", size),
                datamodule_kwargs={"batch_size": BATCH, "num_workers": workers},
                trainer_kwargs=QUIET,
            )

    return predict


def main() -> None:
    """Fine-tunes for some epochs."""
    given, paths = script_arguments(__doc__)
    model = fine_tuned(small_net()[:-4])
    with tempfile.TemporaryDirectory() as folder:
        quiet = {name: value for name, value in QUIET.items() if name.startswith("enable_pro")}
        trainer: Any = finetune.get_trainer(
            folder, max_epochs=given.epochs, accelerator="cpu", default_root_dir=folder, **quiet
        )
        if given.first:
            trainer.callbacks.append(LambdaCallback(on_train_batch_end=lambda *_: os._exit(0)))
        trainer.fit(model, data_module(paths, given.size, "default", given.workers, given.batch))


if __name__ == "__main__":
    main()
