"""Fits a variational autoencoder of light curves to objects of known classes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import lightning.pytorch as lightning
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim import Optimizer

from galaxyml.data.batches import rows_of_all
from galaxyml.data.light_curves import inputs
from galaxyml.data.light_curves.data_module import CurveData
from galaxyml.evaluation.curve_plots import curves_figure
from galaxyml.models import build_model
from galaxyml.models.light_curves.vae import Latent, LightCurveVAE
from galaxyml.runs import ranks
from galaxyml.runs.errors import UserError
from galaxyml.training.light_curve_predictions import encode_light_curves, reconstructed
from galaxyml.training.optimizers import optimization
from galaxyml.training.specs import ADAMW, COSINE, adamw, arguments, build
from galaxyml.training.start import read_start
from galaxyml.training.transfer import take

SHOWN = 8  # light curves in a figure


class VAEModule(lightning.LightningModule):
    """A variational autoencoder, the weights of its loss and its optimizer.

    The loss of an object is the mean over its observations of the negative log-likelihood of the flux (a Gaussian whose
    variance is that of the measurement plus the one that the decoder claims), plus the squared error of its
    standardised luminosity, plus `beta` times the divergence of its latent from a standard Gaussian (Kingma & Welling
    2014, eq. 10; beta as in Higgins et al. 2017, but relative to the mean of the observations, not to their sum), plus
    the cross-entropy of its class.

    Args:
        net: The autoencoder; a module, a mapping `{_target_: …}`, or a name as `galaxyml.models.build_model` takes it.
        optimizer: Takes parameter groups.
        schedule: Takes the optimizer and `total_steps`, and is stepped every step; None for a constant learning rate.
        beta: Weight of the divergence.
        beta_warmup: Share of the steps over which `beta` rises from 0.
        capacity: Nats of divergence that are free at the end, rising with the steps from 0: what counts is the distance
            to them (Burgess et al. 2018, eq. 8); None for the divergence itself.
        reconstruction: Weight of flux and luminosity; with 0 and `beta` 0 the net is a classifier.
        classes: Weight of the known classes; 0 to fit without them.
        decoded: Observations of each object that a step decodes, drawn at random; None for all. Most of a step's
            time goes there.
        outputs: Number of classes, for a net that is given by name.
        class_names: Of these classes.
        start: What the net begins with, as for SupervisedModule.

    Attributes:
        taken: What the net has taken of the start.

    Raises:
        UserError: If the net is no autoencoder of light curves, or a weight is negative.

    Example:
        Fitted to the known classes of a survey::

            data = Plasticc("data/plasticc")
            lightning.Trainer(max_epochs=60, gradient_clip_val=5.0).fit(VAEModule.for_data(data), datamodule=data)
    """

    def __init__(
        self,
        net: nn.Module | Mapping[str, Any] | str = "light_curve_vae",
        optimizer: Callable[..., Optimizer] | Mapping[str, Any] = ADAMW | {"lr": 2e-3},
        schedule: Callable[..., Any] | Mapping[str, Any] | None = COSINE,
        beta: float = 0.02,
        beta_warmup: float = 0.2,
        capacity: float | None = None,
        reconstruction: float = 1.0,
        classes: float = 0.2,
        decoded: int | None = 96,
        outputs: int | None = None,
        class_names: Sequence[str] | None = None,
        start: Path | str | None = None,
    ) -> None:
        given = arguments(locals()) | {"start": None}
        super().__init__()
        self.save_hyperparameters(given, logger=False)
        net = net if isinstance(net, nn.Module) else build_model(net, outputs)
        if not isinstance(net, LightCurveVAE):
            raise UserError(
                f"model: {type(net).__name__} takes no light curves. Choose model=light_curve_vae, or another whose "
                "name begins with light_curve."
            )
        weights = {"beta": beta, "beta_warmup": beta_warmup, "capacity": capacity or 0.0}
        for name, weight in (weights | {"reconstruction": reconstruction, "classes": classes}).items():
            if not weight >= 0:
                raise UserError(f"module.{name}={weight}: it must be 0 or more.")
        if not (reconstruction or classes):
            raise UserError("module.reconstruction=0 and module.classes=0 leave nothing to learn. Set one of them.")
        self.taken = take(net, read_start(start, type(net).__name__), class_names) if start is not None else None
        self.net = net
        self.optimizer, self.schedule = build(optimizer), build(schedule)
        self.beta, self.beta_warmup, self.capacity = beta, beta_warmup, capacity
        self.reconstruction, self.classes = reconstruction, classes
        net.classes.requires_grad_(bool(classes))  # several processes would wait for gradients that do not come
        self.decoded = decoded

    @classmethod
    def for_data(
        cls,
        data: CurveData,
        net: nn.Module | Mapping[str, Any] | str = "light_curve_vae",
        lr: float | None = None,
        **options: Any,
    ) -> Self:
        """A module for the classes of a DataModule; arguments as for VAEModule, and `lr`, AdamW's learning rate."""
        own = {"class_names": data.classes} | ({} if lr is None else {"optimizer": adamw(lr)})
        return cls(net, outputs=len(data.classes), **{**own, **options})

    def setup(self, stage: str) -> None:
        if stage != "fit":
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it without declaring it
        if not hasattr(data, "batches"):
            raise UserError(
                "VAEModule learns the scale of the objects' properties: call trainer.fit(model, datamodule=data) with "
                "a DataModule such as galaxyml.Plasticc."
            )
        self.check_data(data)
        self.fit_statistics(data)

    def check_data(self, data: CurveData) -> None:
        """Refuses data of more or fewer classes than the net has.

        Raises:
            UserError: If they differ.
        """
        scores = self.net.classes[-1].out_features
        if scores != len(data.classes):
            raise UserError(
                f"outputs={scores}: there are {len(data.classes)} classes. Set outputs={len(data.classes)}."
            )

    @torch.no_grad()
    def fit_statistics(self, data: CurveData) -> None:
        """Takes mean and spread of the objects' known properties from the training objects."""
        batches = [data.batches[rows] for rows in data.rows("train").split(512)]
        self.net.standard.fit(torch.cat([inputs.known(batch, inputs.scale(batch)) for batch in batches]))

    def forward(self, batch: dict[str, Tensor]) -> Latent:
        """Distributions of the latents of a batch."""
        return self.net.encode(batch, *self.net.known(batch))

    def losses(self, batch: dict[str, Tensor], sample: bool) -> dict[str, Tensor]:
        """The terms of the loss, each (B,), and `class_scores` (B, K).

        Args:
            batch: As `galaxyml.data.light_curves.data_module.CurveBatches` has it.
            sample: Whether to decode a sample of the latent; its mean otherwise.
        """
        scales, properties = self.net.known(batch)
        mean, log_variance = self.net.encode(batch, scales, properties)
        latent = mean + noise(mean, rows_of_all(batch)) * (0.5 * log_variance).exp() if sample else mean
        decoded = draw_observations(batch, self.decoded) if sample and self.decoded else batch
        model = self.net.decode(latent, properties, decoded)
        flux, error = decoded["flux"] / scales[:, None], decoded["error"] / scales[:, None]
        likelihood = nll(flux, error, model.flux, model.spread)
        return {
            "nll": (likelihood * decoded["mask"]).sum(1) / decoded["mask"].sum(1).clamp(min=1),
            "luminosity": (self.net.decode_luminosity(latent, properties) - properties[:, -1]) ** 2,
            "kl": divergence(mean, log_variance),
            "class_scores": self.net.classes(latent),
        }

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return ranks.scale_for_mean(self._log_loss(batch, "train"), rows_of_all(batch))

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._log_loss(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._log_loss(batch, "test")

    def _log_loss(self, batch: dict[str, Tensor], split: str) -> Tensor:
        """The loss of a batch, logged with its terms; in training with a sample of the latent."""
        loss, terms = self._loss(batch, sample=split == "train")
        of = rows_of_all(batch)
        self.log(f"{split}/loss", loss, on_step=False, on_epoch=True, prog_bar=split != "test", batch_size=of)
        self.log_dict(
            {f"{split}/{name}": value for name, value in terms.items()}, on_step=False, on_epoch=True, batch_size=of
        )
        return loss

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Numbers of each object, see `galaxyml.training.light_curve_predictions.encode_light_curves`."""
        return encode_light_curves(self.net, batch)

    def logged_names(self) -> set[str]:
        """Names of the numbers that each epoch logs, any of which can be monitored."""
        terms = ("loss", "nll", "luminosity", "kl", *(["cross_entropy"] if self.classes else []))
        return {f"{split}/{term}" for split in ("train", "val") for term in terms}

    @torch.no_grad()
    def baseline(self, data: CurveData) -> dict[str, float]:
        """The log-likelihood of validation objects under a decoder that predicts no flux at any time, by name."""
        likelihoods = []
        for rows in data.rows("val").split(512):
            batch = data.batches[rows]
            scales = inputs.scale(batch)[:, None]
            none = torch.zeros_like(batch["flux"])
            values = nll(batch["flux"] / scales, batch["error"] / scales, none, none)
            likelihoods.append((values * batch["mask"]).sum(1) / batch["mask"].sum(1).clamp(min=1))
        return {"nll": float(torch.cat(likelihoods).mean())}

    @torch.no_grad()
    def figures(self, trainer: lightning.Trainer) -> dict[str, Figure]:
        """Some validation objects, with what the autoencoder makes of them."""
        data: CurveData = trainer.datamodule  # type: ignore[attr-defined]  # as above
        assert data.catalog is not None
        rows = data.rows("val")[:SHOWN]
        batch = trainer.strategy.batch_to_device(data.batches[rows], self.device)
        names = data.catalog["name"].to_numpy()[rows.numpy()]
        return {"objects": curves_figure(reconstructed(self.net, batch, names))}

    def configure_optimizers(self) -> Any:
        return optimization(self, self.optimizer, self.schedule)

    def _loss(self, batch: dict[str, Tensor], sample: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a whole batch, of which other processes may have their share, and the means of its terms."""
        of = rows_of_all(batch)
        terms = {name: ranks.gather(term, of) for name, term in self.losses(batch, sample).items()}
        scores, target = terms.pop("class_scores"), ranks.gather(batch["target"], of)
        labelled = target >= 0
        means = {name: term.mean() for name, term in terms.items()}
        kl = means["kl"] if self.capacity is None else (means["kl"] - self.capacity * self._done()).abs()
        loss = self.reconstruction * (means["nll"] + means["luminosity"]) + self._risen() * kl
        if self.classes and labelled.any():
            means["cross_entropy"] = nn.functional.cross_entropy(scores[labelled], target[labelled])
            loss = loss + self.classes * means["cross_entropy"]
        return loss, means

    def _done(self) -> float:
        """Share of the steps that are done; 1 in validation."""
        if not self.training:
            return 1.0
        return self.trainer.global_step / max(float(self.trainer.estimated_stepping_batches), 1.0)

    def _risen(self) -> float:
        """`beta` as it stands; validation has its last value, so that epochs compare."""
        return self.beta * min(self._done() / self.beta_warmup, 1.0) if self.beta_warmup else self.beta


def noise(mean: Tensor, of: int) -> Tensor:
    """Standard normal numbers of the shape of `mean`, this process's share of those for a whole batch of `of` rows."""
    with ranks.shared_rng():
        if len(mean) == of:
            return torch.randn_like(mean)
        return torch.randn(of, *mean.shape[1:], dtype=mean.dtype, device=mean.device)[ranks.share(of)]


def draw_observations(batch: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """At most so many observations of each object, drawn from torch's global random numbers; (B, L) -> (B, count)."""
    mask = batch["mask"]
    if count >= mask.shape[1]:
        return batch
    chosen = (torch.rand(mask.shape, device=mask.device) + mask).topk(count, dim=1).indices
    return batch | {name: batch[name].gather(1, chosen) for name in ("time", "band", "flux", "error", "mask")}


def nll(flux: Tensor, error: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Negative log-likelihood of fluxes, less ln(2 pi) / 2: a Gaussian of variance error**2 + spread**2."""
    variance = error**2 + spread**2
    return 0.5 * ((flux - mean) ** 2 / variance + variance.log())


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of Gaussians from the standard one, in nats; (B, Z) -> (B,).

    Kingma & Welling 2014, appendix B.
    """
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
