"""Inputs of nets for light curves: fluxes in units of the object's own scale, and numbers of the object.

A batch of B objects with up to L observations is a dict of tensors: `time` (B, L) in days since the object's reference
time; `band` (B, L), 0 to 5 for u g r i z y; `flux` and `error` (B, L) in FLUXCAL units; `mask` (B, L), True where there
is an observation; `condition` (B, 5): photometric redshift of the host, its error, Milky Way reddening E(B-V),
whether the object is galactic (1) or not (0), and whether it lies in a deep drilling field.
"""

import torch
from torch import Tensor, nn

BANDS = 6
# Mean wavelengths of LSST's passbands u g r i z y, nm (Ivezic et al. 2019, ApJ 873, 111, table 1 and fig. 3).
WAVELENGTHS = (367.1, 482.7, 622.3, 754.6, 869.1, 971.2)
HUBBLE_DISTANCE = 299_792.458 / 70.0  # Mpc, of a Hubble constant of 70 km/s/Mpc
MATTER = 0.3  # density of matter, of a flat universe
CONDITIONS = ("photoz", "photoz_err", "mwebv", "galactic", "ddf")
FAINT = 1e-3  # least scale of an object, FLUXCAL


def distance_modulus(redshift: Tensor) -> Tensor:
    """Distance moduli in magnitudes of a flat universe (H0 = 70 km/s/Mpc, matter 0.3), for redshifts up to 4.

    The comoving distance is integrated by Simpson's rule on 64 intervals (Hogg 1999, eqs. 15 to 25); redshifts below
    0.001, where peculiar motion rules, count as that.
    """
    z = redshift.clamp(0.001, 4.0)
    steps = torch.linspace(0, 1, 65, device=z.device, dtype=z.dtype)
    inverse = (MATTER * (1 + z[..., None] * steps) ** 3 + 1 - MATTER).rsqrt()
    weights = torch.ones_like(steps)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    comoving = HUBBLE_DISTANCE * z * (inverse * weights).sum(-1) / (3 * 64)
    return 5 * torch.log10((1 + z) * comoving) + 25


def scale(batch: dict[str, Tensor]) -> Tensor:
    """Each object's largest flux, in absolute value and less its error, but no less than its median error; (B,)."""
    largest = ((batch["flux"].abs() - batch["error"]) * batch["mask"]).amax(1)
    errors = batch["error"].masked_fill(~batch["mask"], torch.nan).nanmedian(1).values
    return torch.maximum(largest, errors).nan_to_num(FAINT).clamp(min=FAINT)


def luminosity(batch: dict[str, Tensor], scales: Tensor) -> Tensor:
    """Decimal logarithm of the scale as it would be at a redshift where the distance modulus is 40 mag; (B,).

    Galactic objects, whose distance is not known, keep their own.
    """
    redshift, galactic = batch["condition"][:, 0], batch["condition"][:, 3] > 0
    return scales.log10() + torch.where(galactic, 0.0, 0.4 * (distance_modulus(redshift) - 40))


class Standardise(nn.Module):
    """Standardises numbers of an object to mean 0 and standard deviation 1 over the training objects.

    Args:
        count: How many numbers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("std", torch.ones(count))

    def fit(self, values: Tensor) -> None:
        """Takes mean and standard deviation over the training objects, (N, count); 1 for what does not vary."""
        std, mean = torch.std_mean(values.double(), 0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6, std, 1.0))

    def forward(self, values: Tensor) -> Tensor:
        """Standardised numbers, within 5 standard deviations, so that a wrong redshift is not taken at its word."""
        return ((values - self.mean) / self.std).clamp(-5, 5)


def known(batch: dict[str, Tensor], scales: Tensor) -> Tensor:
    """Numbers of each object beside the shape of its curve, (B, 7): conditions, scale and luminosity."""
    redshift, error, dust, galactic, deep = batch["condition"].unbind(1)
    numbers = (torch.log1p(redshift), error, dust.clamp(min=0).sqrt(), galactic, deep)
    return torch.stack([*numbers, scales.log10(), luminosity(batch, scales)], 1)


KNOWN = len(CONDITIONS) + 2
