"""Surveys as data: what a camera, its site and its pictures are like."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Survey:
    """A survey in three bands; what has three numbers has one a band, from blue to red.

    Attributes:
        name: As people call it.
        bands: The middle one is r-like: a galaxy's magnitude is its magnitude there.
        camera_pixel: Side of a pixel, arcsec.
        cutout: Side of a picture, pixels.
        pixel: Of a cutout, arcsec, where all cutouts have the same; else 0.
        pixel_per_r90: Of a cutout, in units of the galaxy's R90, where a cutout is scaled to its galaxy; else 0.
        seeing: Full width at half maximum in units of the `seeing` of a population's galaxy (median 1.25 arcsec).
        registration: Error between the bands in units of that of a population's galaxy.
        sky_noise: Of the sky in a camera pixel, nanomaggies.
        noise_mixed: Share of a pixel's noise that is its neighbour's, in each direction, where pictures are resampled.
        photon_noise: Variance that a nanomaggie of light adds, nanomaggies squared.
        extinction: Of dust, in units of that in r.
        red_color: Zero and slope of a galaxy's second colour (r minus the reddest band) against g - r.
        field_color: Likewise, of the far galaxies in the field.
        star_color: Slope of a star's second colour against g - r.
        dwarf_color: The second colour of an M dwarf in units of its r - i.
        deeper: How much fainter than in SDSS the faintest stars and galaxies of a field are, magnitudes.
        weights: Of red, green and blue, which are the bands from red to blue.
        pedestal: Taken from the light of red, green and blue, nanomaggies; where negative, the sky is not black.
        softening: Weighed light where the picture turns from linear to logarithmic.
        range: Value of the asinh that is white.
        keeps_hue: Whether a pixel too bright for one colour is dimmed in all; else the colours are cut off one by one.
        quality: Of the JPEG that the survey hands out, 0 to 100.
    """

    name: str
    bands: tuple[str, str, str]
    camera_pixel: float
    cutout: int
    pixel: float
    pixel_per_r90: float
    seeing: tuple[float, float, float]
    registration: float
    sky_noise: tuple[float, float, float]
    noise_mixed: float
    photon_noise: float
    extinction: tuple[float, float, float]
    red_color: tuple[float, float]
    field_color: tuple[float, float]
    star_color: float
    dwarf_color: float
    deeper: float
    weights: tuple[float, float, float]
    pedestal: tuple[float, float, float]
    softening: float
    range: float
    keeps_hue: bool
    quality: int

    def cutout_pixel(self, r90: float) -> float:
        """Side of a pixel of the cutout around a galaxy with that R90, both in arcsec."""
        return self.pixel + self.pixel_per_r90 * r90

    def fluxes(self, flux: float, color: float) -> tuple[float, float, float]:
        """Fluxes of a galaxy in the three bands from that in r and g - r; the second colour follows from the first."""
        zero, slope = self.red_color
        return flux * 10 ** (-0.4 * color), flux, flux * 10 ** (0.4 * (zero + slope * color))


SDSS = Survey(
    name="SDSS",
    bands=("g", "r", "i"),
    camera_pixel=0.396,  # Gunn et al. 1998, AJ 116, 3040
    cutout=424,  # this and the scale: Willett et al. 2013, MNRAS 435, 2835
    pixel=0.0,
    pixel_per_r90=0.02,
    seeing=(1.06, 1.0, 0.96),  # better in red light (Kolmogorov: wavelength to the power -1/5)
    registration=1.0,
    sky_noise=(0.021, 0.029, 0.043),  # 5 sigma for a point of 23.2, 22.8, 22.4 mag
    noise_mixed=0.0,
    photon_noise=0.004,
    extinction=(1.44, 1.0, 0.74),  # Schlafly & Finkbeiner 2011, ApJ 737, 103, table 6, R_V = 3.1
    red_color=(0.03, 0.48),
    field_color=(0.03, 0.48),
    star_color=0.4,
    dwarf_color=1.0,
    deeper=0.0,
    weights=(1.0, 1.2, 1.8),  # so that the colours are SkyServer's
    pedestal=(0.010, 0.010, 0.010),
    softening=0.10,
    range=6.5,
    keeps_hue=True,
    quality=75,
)
DECALS = Survey(
    name="DECaLS",
    bands=("g", "r", "z"),
    camera_pixel=0.262,  # Dey et al. 2019, AJ 157, 168
    cutout=256,
    pixel=0.262,
    pixel_per_r90=0.0,
    seeing=(1.03, 0.94, 0.89),  # medians of 1.29, 1.18, 1.11 arcsec: Dey et al. 2019
    registration=0.3,
    sky_noise=(0.0024, 0.0040, 0.0066),
    noise_mixed=0.3,
    photon_noise=0.0004,
    extinction=(1.44, 1.0, 0.56),
    red_color=(0.12, 0.52),
    field_color=(-0.12, 0.82),
    star_color=0.6,
    dwarf_color=1.6,
    deeper=1.5,
    # The Legacy Survey viewer's (legacysurvey/imagine, sdss_rgb with the scales of dr2_rgb): 0.03 is added to the
    # weighed light x, whose picture is asinh(20 x) / sqrt(20).
    weights=(2.2, 3.4, 6.0),
    pedestal=(-0.03 / 2.2, -0.03 / 3.4, -0.03 / 6.0),
    softening=1 / 20,
    range=math.sqrt(20),
    keeps_hue=False,
    quality=75,
)
