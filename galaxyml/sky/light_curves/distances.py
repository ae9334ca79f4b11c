"""Distances in the universe that PLAsTiCC assumes."""

import functools

import numpy as np
from astropy.cosmology import FlatLambdaCDM

from galaxyml.sky.light_curves.bands import Values

H0, MATTER = 70.0, 0.3  # km/s/Mpc; share of the critical density (Kessler et al. 2019, PASP 131, 094501)
NEAREST, FARTHEST = 1e-4, 5.0  # redshifts that the table holds


def distance_modulus(redshift: float | Values) -> Values:
    """Distance modulus in magnitudes, of the shape of the redshifts, which lie between `NEAREST` and `FARTHEST`."""
    grid, moduli = _table()
    # Against log z the modulus is nearly straight, so that interpolation errs by less than 1e-5 mag.
    return np.asarray(np.interp(np.log(redshift), grid, moduli))


@functools.cache
def _table() -> tuple[Values, Values]:
    redshifts = np.geomspace(NEAREST, FARTHEST, 4000)
    return np.log(redshifts), FlatLambdaCDM(H0, MATTER).distmod(redshifts).value
