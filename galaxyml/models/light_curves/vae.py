"""A variational autoencoder of light curves (Kingma & Welling 2014), whose decoder is asked for times and passbands."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from galaxyml.data.light_curves import inputs
from galaxyml.data.light_curves.inputs import BANDS, KNOWN, WAVELENGTHS, Standardise
from galaxyml.models.light_curves.encoders import Encoder, GridEncoder

CONDITIONING = [0, 2, 3, 4]  # of `known`: redshift, dust, galactic or not, field


class DecodedFlux(NamedTuple):
    """Decoded light curves, in units of each object's scale.

    Attributes:
        flux: Expected flux, (B, L).
        spread: Standard deviation of the true flux about it, positive, (B, L); errors of measurement come on top.
    """

    flux: Tensor
    spread: Tensor


class FluxDecoder(nn.Module):
    """A perceptron asked for one flux at a time, in the rest frame of the object.

    Time dilation and redshifted wavelengths are put in, not learnt: it sees time / (1 + z) and wavelength / (1 + z).

    Args:
        latent: Length of the latent vector.
        conditions: Number of known numbers an object.
        width: Of its two hidden layers.
        waves: Frequencies by which it sees time, from one turn in 1,000 days to one in 10.
        least_spread: Least standard deviation that it may claim, in units of the object's scale.
    """

    frequencies: Tensor
    colors: Tensor

    def __init__(
        self, latent: int, conditions: int, width: int = 128, waves: int = 8, least_spread: float = 0.02
    ) -> None:
        super().__init__()
        self.least_spread = least_spread
        self.register_buffer("frequencies", 2 * math.pi / torch.logspace(3, 1, waves))
        self.register_buffer("colors", torch.tensor(WAVELENGTHS).div(600).log())
        self.of_object = nn.Linear(latent + conditions, width)
        self.of_observation = nn.Linear(4 + BANDS + 2 * waves, width)
        self.layers = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 2))

    def forward(self, latent: Tensor, conditions: Tensor, redshift: Tensor, time: Tensor, band: Tensor) -> DecodedFlux:
        """Expected flux and its spread.

        Args:
            latent: Shape (B, Z).
            conditions: Known numbers, standardised, (B, C).
            redshift: 0 for galactic objects, (B,).
            time: Days since the object's reference time, (B, L).
            band: 0 to 5, (B, L).
        """
        stretch = 1 + redshift[:, None].clamp(min=0)
        rest = time / stretch
        color = self.colors[band] - stretch.log()
        phase = rest[..., None] * self.frequencies
        near, far = torch.asinh(rest / 2) / 4, torch.asinh(rest / 30) / 3
        numbers = torch.stack([near, far, color, color * near], -1)
        one_hot = nn.functional.one_hot(band, BANDS).to(time.dtype)
        observed = self.of_observation(torch.cat([numbers, one_hot, phase.sin(), phase.cos()], -1))
        output = self.layers(observed + self.of_object(torch.cat([latent, conditions], 1))[:, None]).float()
        return DecodedFlux(output[..., 0], self.least_spread + nn.functional.softplus(output[..., 1] - 2))


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
        """Gaussians of the objects in the latent space."""
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
