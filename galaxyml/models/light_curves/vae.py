"""A variational autoencoder of light curves (Kingma & Welling 2014)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from galaxyml.data.light_curves import inputs
from galaxyml.data.light_curves.inputs import KNOWN, Standardise
from galaxyml.models.light_curves.decoder import DecodedFlux, FluxDecoder
from galaxyml.models.light_curves.encoders import Encoder, GridEncoder

CONDITIONING = [0, 2, 3, 4]  # of `known`: redshift, dust, galactic or not, field


class Latent(NamedTuple):
    """A Gaussian in the latent space.

    Attributes:
        mean: Shape (B, Z).
        log_variance: Shape (B, Z).
    """

    mean: Tensor
    log_variance: Tensor


class LightCurveVAE(nn.Module):
    """Encodes observations, and decodes fluxes at given times and passbands, the luminosity, and the class.

    The decoder is given redshift, dust, whether the object is galactic and in which kind of field it lies, so that
    latents need not hold these. Fluxes are decoded in units of the object's scale; how luminous that is has to be
    decoded from the latent as well.

    Args:
        encoder: Of observations; None for `GridEncoder()`.
        classes: Number of classes.
        latent: Length of the latent vector, Z.
        hidden: Width of the layers after the encoder and of the decoder.
        dropout: Before the classes.
    """

    def __init__(
        self,
        encoder: Encoder | None = None,
        classes: int = 14,
        latent: int = 16,
        hidden: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        encoder = encoder if encoder is not None else GridEncoder()
        self.encoder = encoder
        self.latent = latent
        self.standard = Standardise(KNOWN)
        self.mix = nn.Sequential(nn.Linear(encoder.width + KNOWN, hidden), nn.GELU(), nn.Linear(hidden, 2 * latent))
        self.decoder = FluxDecoder(latent, len(CONDITIONING), hidden)
        self.luminosity = nn.Sequential(nn.Linear(latent + len(CONDITIONING), 32), nn.GELU(), nn.Linear(32, 1))
        self.classes = nn.Sequential(
            nn.Linear(latent, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, classes)
        )

    def known(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The objects' scales, (B,), and what is known of them, standardised, (B, 7)."""
        scales = inputs.scale(batch)
        return scales, self.standard(inputs.known(batch, scales))

    def encode(self, batch: dict[str, Tensor], scales: Tensor, known: Tensor) -> Latent:
        """Where the objects lie in the latent space."""
        scaled = {**batch, "flux": batch["flux"] / scales[:, None], "error": batch["error"] / scales[:, None]}
        scaled["error"] = torch.where(batch["mask"], scaled["error"], 1.0)
        mean, log_variance = self.mix(torch.cat([self.encoder(scaled), known], 1)).float().chunk(2, 1)
        return Latent(mean, log_variance.clamp(-10, 4))

    def decode(self, latent: Tensor, known: Tensor, batch: dict[str, Tensor]) -> DecodedFlux:
        """Fluxes at the times and in the passbands of a batch, in units of the objects' scales."""
        redshift = torch.where(batch["condition"][:, 3] > 0, 0.0, batch["condition"][:, 0])
        return self.decoder(latent, known[:, CONDITIONING], redshift, batch["time"], batch["band"])

    def decode_luminosity(self, latent: Tensor, known: Tensor) -> Tensor:
        """The luminosity, standardised, (B,)."""
        return self.luminosity(torch.cat([latent, known[:, CONDITIONING]], 1))[:, 0].float()
