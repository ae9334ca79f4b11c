"""What an autoencoder tells of light curves, written into the folder of its run as it comes."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

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
from galaxyml.runs import ranks
from galaxyml.runs.errors import diverged
from galaxyml.runs.progress import track
from galaxyml.runs.run_dir import RunDir
from galaxyml.training import projector
from galaxyml.training.loggers import TensorBoard
from galaxyml.training.predictions import gather

if TYPE_CHECKING:
    from galaxyml.training.vae import VAEModule

AT_ONCE = 20_000  # objects whose numbers are held together
MOMENTS = 300  # at which a reconstruction is drawn
WINDOW = 10.0  # days within which deviations are taken together


def told(net: LightCurveVAE, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What an autoencoder tells of each object, from the mean of its latent.

    Returns:
        `index` (B,); `latent` (B, Z); `class` (B, K), scores of the classes; `reconstruction` (B, 3): the natural
        logarithm of the mean squared deviation of the fluxes, in units of their error and of the spread that the
        decoder claims, the asinh of the largest deviation in one passband within 10 days, and the deviation of the
        luminosity; and `worst_mjd` (days) and `worst_band` (B,), where that largest deviation is.
    """
    scales, known = net.known(batch)
    latent = net.encode(batch, scales, known).mean
    said = net.decode(latent, known, batch)
    mask = batch["mask"]
    variance = (batch["error"] / scales[:, None]) ** 2 + said.spread**2
    pull = torch.where(mask, (batch["flux"] / scales[:, None] - said.flux) / variance.sqrt(), 0.0)
    mean_square = (pull**2).sum(1) / mask.sum(1).clamp(min=1)
    largest, worst = gathered(pull, batch).abs().max(1)
    luminosity = (net.decode_luminosity(latent, known) - known[:, -1]).abs()
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
    scales, known = net.known(batch)
    latent = net.encode(batch, scales, known).mean
    time, mask = batch["time"], batch["mask"]
    first, last = time.amin(1), time.amax(1)
    moments = first[:, None] + (last - first)[:, None] * torch.linspace(0, 1, MOMENTS, device=time.device)
    asked = {
        "condition": batch["condition"],
        "time": moments.repeat(1, BANDS),
        "band": torch.arange(BANDS, device=time.device).repeat_interleave(MOMENTS).expand(len(time), -1),
    }
    said = net.decode(latent, known, asked)
    flux, spread = ((part * scales[:, None]).view(-1, BANDS, MOMENTS).cpu().numpy() for part in said)
    worst = told(net, batch)
    curves = []
    for row, title in enumerate(titles):
        kept, start = mask[row], float(batch["reference"][row])
        time_of, band, flux_of, error = (
            batch[name][row][kept].cpu().numpy() for name in ("time", "band", "flux", "error")
        )
        marked = (float(worst["worst_mjd"][row]) - start, int(worst["worst_band"][row])) if ringed else None
        model = (moments[row].cpu().numpy(), flux[row], spread[row])
        curves.append(Curve(time_of, band, flux_of, error, title, model, marked))
    return curves


def write_predictions(trainer: lightning.Trainer, module: "VAEModule", data: CurveData, here: RunDir) -> None:
    """Writes what the autoencoder tells of every object, and the plain features beside which it is judged.

    The tables `predictions/told/<split>.parquet` have the objects of the catalog in its order. They are written as they
    come, so that millions of objects pass through little memory.

    Raises:
        UserError: If a number is not finite.
    """
    for split in data.predicted:
        with here.predictions_writer(split, by="told") as write:
            for table in told_parts(trainer, module, data, split, here):
                write(table)
    _project(trainer, module, data)


@torch.no_grad()
def _project(trainer: lightning.Trainer, module: "VAEModule", data: CurveData) -> None:
    """Shows validation objects in TensorBoard's projector, where they lie in the latent space."""
    boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)]
    if not boards:
        return
    assert data.catalog is not None
    rows = data.rows("val")
    rows = rows[projector.drawn(len(rows))]
    batch = data.batches[rows]
    there = trainer.strategy.batch_to_device(batch, module.device)
    latents = module(there).mean.float().cpu()
    known = as_text(data.catalog.iloc[rows.numpy()], ["id", "name"])
    for board in boards:
        board.add_features(projector.principal(latents), known, projector.sparks(batch), trainer.global_step)


def told_parts(
    trainer: lightning.Trainer, module: "VAEModule", data: CurveData, split: str, here: RunDir
) -> Iterator[pd.DataFrame]:
    """What a run's net tells of the objects of a split, and their plain features, 20,000 objects at a time.

    Of several processes, the leader alone gets it.

    Yields:
        `id`, the columns of `as_table`, and one column `feature_<name>` for each plain feature.
    """
    assert data.catalog is not None
    ids = data.catalog["id"].to_numpy()
    parts = data.rows(split).split(AT_ONCE)
    for rows in track(parts, f"{here.name}: predicting {split}", len(parts)):
        said = gather(trainer.predict(module, data.plain_batches(rows)))
        if not ranks.is_rank_zero():
            continue
        table = as_table(said, ids)
        if not np.isfinite(table.to_numpy(np.float64)).all():
            raise diverged(here.path)
        plain = features(data.batches.curves(rows), data.catalog.iloc[rows.numpy()])
        yield pd.concat([table, plain.drop(columns="id").add_prefix("feature_")], axis=1)


def as_table(prediction: dict[str, Tensor], ids: np.ndarray) -> pd.DataFrame:
    """Predictions with one column a number: `latent_0`, `latent_1` and so on."""
    columns: dict[str, np.ndarray] = {"id": ids[prediction["index"].cpu().numpy()]}
    for name, values in prediction.items():
        found = values.cpu().numpy()
        if name == "index":
            continue
        if found.ndim == 1:
            columns[name] = found
        else:
            columns |= {f"{name}_{place}": column for place, column in enumerate(found.T)}
    return pd.DataFrame(columns)
