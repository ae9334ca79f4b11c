"""Latents, class scores and reconstruction errors of light curves, written into the folder of a run as they come."""

from collections.abc import Iterator, Sequence
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from galaxyml.data.catalog import as_text
from galaxyml.data.light_curves.data_module import CurveData
from galaxyml.data.light_curves.features import features
from galaxyml.data.light_curves.inputs import BANDS
from galaxyml.evaluation.curve_plots import Curve
from galaxyml.models.light_curves.vae import LightCurveVAE
from galaxyml.runs.errors import diverged
from galaxyml.runs.progress import track
from galaxyml.runs.run_dir import RunDir
from galaxyml.training import projector
from galaxyml.training.predictions import gather
from galaxyml.training.streamed_tables import StreamedTables

AT_ONCE = 20_000  # objects whose predictions are written together
MOMENTS = 300  # at which a reconstruction is drawn
WINDOW = 10.0  # days within which deviations are taken together


def encode_light_curves(net: LightCurveVAE, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Encodes a batch and measures its reconstruction from the mean of each latent.

    Returns:
        `index` (B,); `latent` (B, Z); `class` (B, K), scores of the classes; `reconstruction` (B, 3): the natural
        logarithm of the mean squared deviation of the fluxes, in units of their error and of the spread that the
        decoder claims, the asinh of the largest deviation in one passband within 10 days, and the deviation of the
        luminosity; and `worst_mjd` (days) and `worst_band` (B,), where that largest deviation is.
    """
    scales, properties = net.known(batch)
    latent = net.encode(batch, scales, properties).mean
    model = net.decode(latent, properties, batch)
    mask = batch["mask"]
    variance = (batch["error"] / scales[:, None]) ** 2 + model.spread**2
    pull = torch.where(mask, (batch["flux"] / scales[:, None] - model.flux) / variance.sqrt(), 0.0)
    mean_square = (pull**2).sum(1) / mask.sum(1).clamp(min=1)
    largest, worst = gathered(pull, batch).abs().max(1)
    luminosity = (net.decode_luminosity(latent, properties) - properties[:, -1]).abs()
    return {
        "index": batch["index"],
        "latent": latent,
        "class": net.classes(latent).float(),  # half precision cannot be written
        "reconstruction": torch.stack([mean_square.clamp(min=1e-6).log(), largest.asinh(), luminosity], 1),
        "worst_mjd": batch["reference"] + batch["time"].gather(1, worst[:, None])[:, 0],
        "worst_band": batch["band"].gather(1, worst[:, None])[:, 0],
    }


def gathered(pull: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Deviations taken together in each passband and window of 10 days, at the place of their largest member.

    The sum over n observations is divided by the root of n, so that noise keeps a standard deviation of 1.

    Args:
        pull: Deviations in units of their standard deviation, 0 where there is no observation, (B, L).
        batch: With `time`, `band` and `mask`.
    """
    time = batch["time"]
    window = ((time - time.amin(1, keepdim=True)) / WINDOW).long()
    cell = batch["band"] * (int(window.max()) + 1) + window
    size = BANDS * (int(window.max()) + 1)
    total, count = (
        torch.zeros(len(time), size, dtype=pull.dtype, device=pull.device).scatter_add_(1, cell, values)
        for values in (pull, batch["mask"].to(pull.dtype))
    )
    return torch.where(batch["mask"], (total / count.clamp(min=1).sqrt()).gather(1, cell), 0.0)


@torch.no_grad()
def reconstructed(
    net: LightCurveVAE, batch: dict[str, Tensor], titles: Sequence[str], ringed: bool = False
) -> list[Curve]:
    """Light curves of a batch with what an autoencoder makes of them, to be drawn.

    Args:
        net: The autoencoder, in evaluation mode.
        batch: B objects.
        titles: Of each.
        ringed: Whether the observation of the largest deviation is marked.
    """
    scales, properties = net.known(batch)
    latent = net.encode(batch, scales, properties).mean
    time, mask = batch["time"], batch["mask"]
    first, last = time.amin(1), time.amax(1)
    moments = first[:, None] + (last - first)[:, None] * torch.linspace(0, 1, MOMENTS, device=time.device)
    queried = {
        "condition": batch["condition"],
        "time": moments.repeat(1, BANDS),
        "band": torch.arange(BANDS, device=time.device).repeat_interleave(MOMENTS).expand(len(time), -1),
    }
    decoded = net.decode(latent, properties, queried)
    flux, spread = ((values * scales[:, None]).view(-1, BANDS, MOMENTS).cpu().numpy() for values in decoded)
    encoded = encode_light_curves(net, batch) if ringed else {}
    curves = []
    for row, title in enumerate(titles):
        observed = {name: batch[name][row][mask[row]].cpu().numpy() for name in ("time", "band", "flux", "error")}
        model = (moments[row].cpu().numpy(), flux[row], spread[row])
        marked = None
        if ringed:
            day = float(encoded["worst_mjd"][row]) - float(batch["reference"][row])
            marked = day, int(encoded["worst_band"][row])
        curves.append(Curve(**observed, title=title, model=model, marked=marked))
    return curves


class LightCurveTables(StreamedTables):
    """Writes what `encode_light_curves` gives of every object, and the plain features that it is compared with.

    The tables `predictions/encoded/<split>.parquet` have the objects of the catalog in its order.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: RunDir) -> None:
        super().__init__(run, AT_ONCE)

    def split_of(self, data: CurveData, dataloader_idx: int) -> str:
        return data.predicted[dataloader_idx]

    def rows(self, predicted: dict[str, Tensor], data: CurveData) -> pd.DataFrame:
        return with_features(predicted, data, self.run)

    def show(self, trainer: lightning.Trainer, module: Any, data: CurveData) -> None:
        _show_latents(trainer, module, data)


def with_features(predicted: dict[str, Tensor], data: CurveData, run: RunDir) -> pd.DataFrame:
    """A table of predictions with the plain features of the same objects.

    Returns:
        `id`, the columns of `as_table`, and one column `feature_<name>` for each plain feature.
    """
    assert data.catalog is not None
    rows = predicted["index"]
    table = as_table(predicted, data.catalog["id"].to_numpy())
    if not np.isfinite(table.to_numpy(np.float64)).all():
        raise diverged(run.path)
    plain = features(data.batches.curves(rows), data.catalog.iloc[rows.numpy()])
    return pd.concat([table, plain.drop(columns="id").add_prefix("feature_")], axis=1)


@torch.no_grad()
def _show_latents(trainer: lightning.Trainer, module: Any, data: Any) -> None:
    """Shows validation objects in TensorBoard's projector, where they lie in the latent space."""
    if boards := projector.boards(trainer):
        rows = data.rows("val")
        rows = rows[projector.drawn(len(rows))]
        batch = data.batches[rows]
        latents = module(trainer.strategy.batch_to_device(batch, module.device)).mean.float().cpu()
        metadata = as_text(data.catalog.iloc[rows.numpy()], ["id", "name"])
        for board in boards:
            board.add_features(projector.principal(latents), metadata, projector.sparks(batch), trainer.global_step)


def encoded_tables(
    trainer: lightning.Trainer, module: Any, data: CurveData, run: RunDir, rows: Tensor | None = None
) -> Iterator[pd.DataFrame]:
    """The same tables of the objects of the survey, 20,000 objects at a time.

    Args:
        trainer: Predicts.
        module: A fitted VAEModule.
        data: Set up.
        run: The module's, for the progress bar and errors.
        rows: Of the catalog, without a progress bar; None for all.
    """
    chunks = (data.rows("survey") if rows is None else rows).split(AT_ONCE)
    tracked = track(chunks, f"{run.name}: predicting survey", len(chunks)) if rows is None else chunks
    for some in tracked:
        yield with_features(gather(trainer.predict(module, data.plain_batches(some))), data, run)


def as_table(prediction: dict[str, Tensor], ids: np.ndarray) -> pd.DataFrame:
    """Predictions with one column a number: `latent_0`, `latent_1` and so on."""
    columns: dict[str, np.ndarray] = {}
    for name, values in prediction.items():
        numbers = values.cpu().numpy()
        if name == "index":
            columns["id"] = ids[numbers]
        elif numbers.ndim == 1:
            columns[name] = numbers
        else:
            columns |= {f"{name}_{number}": column for number, column in enumerate(numbers.T)}
    return pd.DataFrame(columns)
