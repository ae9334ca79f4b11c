"""What a net says of pictures, written into the folder of its run."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch

from galaxyml.data.images.data_module import ImageData
from galaxyml.data.images.views import plain
from galaxyml.evaluation.out_of_distribution import OutOfDistribution, appearance
from galaxyml.runs import ranks
from galaxyml.runs.errors import diverged
from galaxyml.runs.run_dir import RunDir
from galaxyml.training import projector
from galaxyml.training.loggers import TensorBoard

if TYPE_CHECKING:
    from galaxyml.training.supervised import SupervisedModule

FLAGGED = 0.01  # share of validation pictures that `galaxyml.inference.predict` would call unlike the training set
AT_ONCE = 256  # pictures that are looked at together


def write_predictions(trainer: lightning.Trainer, module: "SupervisedModule", data: ImageData, here: RunDir) -> None:
    """Writes what the net says of validation and test pictures, and keeps what the training set looks like to it."""
    said = write_tables(trainer, module, data, here, by="net")
    if not ranks.is_rank_zero():
        return
    val, train, *test = said
    here.write_fitted("outputs", {"columns": data.outputs})
    for split in ("val", "test"):
        if (table := here.predictions(split, by="net")) is not None:
            here.write_predictions(split, table)
    if module.embedded and "feature" in val:
        here.write_arrays("embedding", _embedding(data, [val, train, *test], module.embedded))
    if "feature" in val:
        _project(trainer, data, val)
    looks = [_looks(data, said["index"]) for said in (train, val)]
    features = (train["feature"].numpy(), val["feature"].numpy()) if "feature" in val else None
    here.write_arrays("familiar", OutOfDistribution.fit((looks[0], looks[1]), features, FLAGGED).arrays())


def write_tables(
    trainer: lightning.Trainer, module: "SupervisedModule", data: ImageData, here: RunDir, by: str
) -> list[dict[str, torch.Tensor]]:
    """Writes what the net says of validation and test pictures as the tables of `by`.

    What the last phase says over several views has its standard deviation over them in the tables of `spread`.

    Returns:
        What `predict_step` said of validation, of training and, if there are any, of test objects; of several
        processes, the leader alone has and writes it.
    """
    assert data.catalog is not None
    with nullcontext() if module.predicts_from_features else data.pictures_shown():
        found = [gather(batches) for batches in trainer.predict(module, datamodule=data) or []]
    if not ranks.is_rank_zero():
        return []
    for split, said in zip(("val", "test"), (found[0], *found[2:]), strict=False):
        if not np.isfinite(said["output"].numpy()).all():
            raise diverged(here.path)
        ids = data.catalog["id"].to_numpy()[said["index"].numpy()]
        for name, key in ((by, "output"), ("spread", "spread")):
            if key in said and (key == "output" or by == "net"):
                table = pd.DataFrame(said[key].numpy(), columns=data.outputs)
                table.insert(0, "id", ids)
                here.write_predictions(split, table, by=name)
    return found


def _embedding(data: ImageData, said: list[dict[str, torch.Tensor]], most: int) -> dict[str, np.ndarray]:
    """Features of at most so many validation and test objects of each survey, and their ids."""
    assert data.catalog is not None
    rows = np.concatenate([part["index"].numpy() for part in (said[0], *said[2:])])
    features = np.concatenate([part["feature"].numpy() for part in (said[0], *said[2:])])
    group = data.catalog["survey"] if "survey" in data.catalog else data.catalog["split"]
    drawn = np.random.default_rng(0).permutation(len(rows))
    kept = np.sort(pd.Series(drawn).groupby(group.to_numpy()[rows[drawn]]).head(most).to_numpy())
    return {"id": data.catalog["id"].to_numpy()[rows[kept]].astype(str), "feature": features[kept]}


def _project(trainer: lightning.Trainer, data: ImageData, val: dict[str, torch.Tensor]) -> None:
    """Shows validation objects in TensorBoard's projector, as the net sees them."""
    boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)]
    if not boards:
        return
    assert data.catalog is not None
    at = projector.drawn(len(val["index"]))
    rows = val["index"][at]
    known = data.shown_of(data.catalog.iloc[rows.numpy()])
    pictures = projector.thumbnails(data.store.gather(rows))
    for board in boards:
        board.add_features(projector.principal(val["feature"][at]), known, pictures, trainer.global_step)


def gather(batches: Any) -> dict[str, torch.Tensor]:
    """What `predict_step` said of all batches, on the CPU.

    Where several processes have said a part each, the leader gets all, in the order of their rows; the others nothing.
    """
    mine = {name: torch.cat([batch[name].cpu() for batch in batches]) for name in batches[0]}
    parts = ranks.gather_objects(mine)
    if len(parts) < 2:
        return mine if parts else {}
    every = {name: torch.cat([part[name] for part in parts]) for name in mine}
    _, first = np.unique(every["index"].numpy(), return_index=True)  # of a last batch, all may have said the same
    return {name: values[first] for name, values in every.items()}


def _looks(data: ImageData, rows: torch.Tensor) -> np.ndarray:
    """What some rows' pictures look like, shape (N, A)."""
    parts = [appearance(plain(data.store.gather(part), data.framing.size)) for part in rows.split(AT_ONCE)]
    return np.concatenate(parts)
