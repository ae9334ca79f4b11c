"""The decoder: what flux a latent vector stands for, at any time and in any passband."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from galaxyml.data.light_curves.inputs import BANDS, WAVELENGTHS


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
