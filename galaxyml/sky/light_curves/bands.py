"""The passbands ugrizy of LSST, numbered 0 to 5, and the flux scale of PLAsTiCC."""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Bands = NDArray[np.int64]

NAMES = "ugrizy"
WAVELENGTH = np.array([3671.0, 4827.0, 6223.0, 7546.0, 8691.0, 9712.0])  # effective, Angstrom (LSST SMTN-002)
# Extinction in magnitudes for E(B-V) = 1 (Schlafly & Finkbeiner 2011, ApJ 737, 103, table 6, R_V = 3.1).
DUST = np.array([4.145, 3.237, 2.273, 1.684, 1.323, 1.088])
ZERO_POINT = 27.5  # magnitude (AB) of a flux of 1, the FLUXCAL unit of SNANA (Kessler et al. 2009, PASP 121, 1028)


def flux(magnitude: float | Values) -> Values:
    """Flux in FLUXCAL units of an AB magnitude.

    >>> float(flux(25.0))
    10.0
    """
    return np.asarray(10 ** (0.4 * (ZERO_POINT - np.asarray(magnitude))))
