"""Galaxies in five bands, whose colours tell how far away they are: as SDSS sees them in u, g, r, i and z."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from galaxyml.sky.population import Galaxy
from galaxyml.sky.render import expose_galaxy
from galaxyml.sky.survey import SDSS, Survey

NAMES = "ugriz"
WAVELENGTH = (3551.0, 4686.0, 6166.0, 7480.0, 8932.0)  # of these bands, angstrom (Fukugita et al. 1996, AJ 111, 1748)
MIDDLE = 2  # the band of the magnitudes
# Spectrum of a galaxy by rest wavelength (angstrom): how much fainter than in r it is there, in units of its g - r
# where it is at rest. The break at 4000 angstrom is deeper the older, and so redder, the stars are. Made by hand such
# that u - r is 2.2 between early and late types (g - r of 0.65; Strateva et al. 2001, AJ 122, 1861).
REST = (2600.0, 3000.0, 3551.0, 3800.0, 3980.0, 4330.0, 4686.0, 5200.0, 5660.0, 6166.0, 7480.0, 8932.0, 10500.0)
FAINTER = (4.7, 4.1, 3.4, 2.75, 2.2, 1.55, 1.0, 0.62, 0.32, 0.0, -0.48, -0.78, -0.95)


@dataclass(frozen=True)
class FiveBands(Survey):
    """A survey in five bands that sees galaxies at a redshift.

    Attributes:
        redshift: Of the galaxy whose spectrum is seen.
    """

    redshift: float = 0.0

    def fluxes(self, flux: float, color: float) -> tuple[float, ...]:
        """Fluxes in the bands from that in r and the g - r that the light has at rest."""
        rest = np.array(WAVELENGTH) / (1 + self.redshift)
        fainter = np.interp(np.log(rest), np.log(REST), FAINTER)
        return tuple(flux * 10 ** (-0.4 * color * (fainter - fainter[MIDDLE])))


UGRIZ = FiveBands(
    **{
        **{name: getattr(SDSS, name) for name in SDSS.__dataclass_fields__},
        "name": "SDSS in five bands",
        "seeing": (1.10, 1.06, 1.0, 0.96, 0.95),
        "sky_noise": (0.048, 0.021, 0.029, 0.043, 0.180),  # 5 sigma for a point of 22.3, 23.2, 22.8, 22.4, 20.8 mag
        "extinction": (1.86, 1.44, 1.0, 0.74, 0.55),  # Schlafly & Finkbeiner 2011, ApJ 737, 103, table 6, R_V = 3.1
        # What else is in the field is drawn in g, r and i.
        "field_mix": ((0.5, -0.12, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, -0.6, 1.75)),
    }
)


def write_cube(galaxy: Galaxy, file: Path | BinaryIO, seed: int, size: int, survey: FiveBands = UGRIZ) -> None:
    """Writes one galaxy as a FITS cube, nanomaggies a camera pixel, shape (5, size, size), first row lowest.

    The header names the bands as the Legacy Survey's cutouts do: `BANDS` has all, and `BAND0`, `BAND1`, … one each.

    Args:
        galaxy: A row of a `population` with its `redshift`.
        file: Its path, or where it is written to.
        seed: As for `galaxyml.sky.render`.
        size: Side, pixels; the field of view is the same for all sizes.
        survey: That takes the images.
    """
    from astropy.io import fits

    light = expose_galaxy(galaxy, seed, replace(survey, redshift=float(galaxy.redshift))).numpy()
    resized = [np.asarray(Image.fromarray(band).resize((size, size), Image.Resampling.BICUBIC)) for band in light]
    header = fits.Header([("BUNIT", "nanomaggy"), ("BANDS", NAMES)])
    header.extend((f"BAND{number}", name) for number, name in enumerate(NAMES))
    fits.PrimaryHDU(np.stack(resized)[:, ::-1], header).writeto(file)
