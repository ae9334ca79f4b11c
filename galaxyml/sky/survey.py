"""Surveys as data: what a camera, its site and its images are like."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Survey:
    """A survey, mostly in three bands; what has three numbers has one a band, from blue to red.

    Attributes:
        name: As people call it.
        camera_pixel: Side of a pixel, arcsec.
        cutout: Side of an image, pixels.
        pixel: Of a cutout, arcsec, where all cutouts have the same; else 0.
        pixel_per_r90: Of a cutout, in units of the galaxy's R90, where a cutout is scaled to its galaxy; else 0.
        seeing: Full width at half maximum in units of the `seeing` of a population's galaxy (median 1.25 arcsec).
        registration: Error between the bands in units of that of a population's galaxy.
        sky_noise: Of the sky in a camera pixel, nanomaggies.
        noise_mixed: Share of a pixel's noise that is its neighbour's, in each direction, where images are resampled.
        photon_noise: Variance that a nanomaggie of light adds, nanomaggies squared.
        extinction: Of dust, in units of that in r.
        red_color: Zero and slope of a galaxy's second colour (middle minus reddest band) against g - r.
        field_color: Likewise, of the far galaxies in the field.
        star_color: Slope of a star's second colour against g - r.
        dwarf_color: The second colour of an M dwarf in units of its r - i.
        deeper: How much fainter than in SDSS the faintest stars and galaxies of a field are, magnitudes.
        weights: Of red, green and blue, which are the bands from red to blue.
        pedestal: Taken from the light of red, green and blue, nanomaggies; where negative, the sky is not black.
        softening: Weighed light where the image turns from linear to logarithmic.
        range: Value of the asinh that is white.
        keeps_hue: Whether a pixel too bright for one colour is dimmed in all; else the colours are cut off one by one.
        quality: Of the JPEG that the survey hands out, 0 to 100; 0 where it hands out none.
        least_pixel: Of a cutout that is scaled to its galaxy, arcsec: it never has less.
        blue_color: Zero and slope of a galaxy's first colour (bluest minus middle band) against g - r.
        middle_color: Likewise, of r minus the middle band; a galaxy's magnitude is that in r.
        field_mix: For each band the weights of g, r and i whose sum is the flux of another object of the field; None
            where these are drawn in the survey's own bands.
        saturation: Of the images' colours: 1 for those of the light, 0 for none.
    """

    name: str
    camera_pixel: float
    seeing: tuple[float, ...]
    registration: float
    sky_noise: tuple[float, ...]
    photon_noise: float
    extinction: tuple[float, ...]
    red_color: tuple[float, float]
    weights: tuple[float, float, float]
    pedestal: tuple[float, float, float]
    softening: float
    range: float
    quality: int
    cutout: int = 424  # this and the scale: Willett et al. 2013, MNRAS 435, 2835
    pixel: float = 0.0
    pixel_per_r90: float = 0.02
    least_pixel: float = 0.0
    noise_mixed: float = 0.0
    keeps_hue: bool = False
    field_color: tuple[float, float] = (0.0, 0.0)
    star_color: float = 0.0
    dwarf_color: float = 0.0
    deeper: float = 0.0
    blue_color: tuple[float, float] = (0.0, 1.0)
    middle_color: tuple[float, float] = (0.0, 0.0)
    field_mix: tuple[tuple[float, float, float], ...] | None = None
    saturation: float = 1.0

    def cutout_pixel(self, r90: float) -> float:
        """Side of a pixel of the cutout around a galaxy with that R90, both in arcsec."""
        return max(self.pixel + self.pixel_per_r90 * r90, self.least_pixel)

    @property
    def bands(self) -> int:
        """How many bands it has."""
        return len(self.seeing)

    def fluxes(self, flux: float, color: float) -> tuple[float, ...]:
        """Fluxes of a galaxy in the bands from that in r and g - r, which the other colours follow."""
        blue, middle, red = (
            zero + slope * color for zero, slope in (self.blue_color, self.middle_color, self.red_color)
        )
        flux = flux * 10 ** (0.4 * middle)
        return flux * 10 ** (-0.4 * blue), flux, flux * 10 ** (0.4 * red)


SDSS = Survey(
    name="SDSS",  # in g, r and i
    camera_pixel=0.396,  # Gunn et al. 1998, AJ 116, 3040
    seeing=(1.06, 1.0, 0.96),  # better in red light (Kolmogorov: wavelength to the power -1/5)
    registration=1.0,
    sky_noise=(0.021, 0.029, 0.043),  # 5 sigma for a point of 23.2, 22.8, 22.4 mag
    photon_noise=0.004,
    extinction=(1.44, 1.0, 0.74),  # Schlafly & Finkbeiner 2011, ApJ 737, 103, table 6, R_V = 3.1
    red_color=(0.03, 0.48),
    field_color=(0.03, 0.48),
    star_color=0.4,
    dwarf_color=1.0,
    weights=(1.0, 1.2, 1.8),  # so that the colours are SkyServer's
    pedestal=(0.010, 0.010, 0.010),
    softening=0.10,
    range=6.5,
    keeps_hue=True,
    quality=75,
)
DECALS = Survey(
    name="DECaLS",  # in g, r and z
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
    # weighed light x, whose image is asinh(20 x) / sqrt(20).
    weights=(2.2, 3.4, 6.0),
    pedestal=(-0.03 / 2.2, -0.03 / 3.4, -0.03 / 6.0),
    softening=1 / 20,
    range=math.sqrt(20),
    quality=75,
)
# DECaLS as Galaxy Zoo DECaLS shows it (Walmsley et al. 2022, MNRAS 509, 3966, section 3): cutouts scaled to the galaxy,
# made from the calibrated frames, with muted colours so that the noise of the sky is not a colourful speckle. Points
# are 5 sigma at 24.2, 23.8, 22.9 mag (Dey et al. 2019: 24.0, 23.5, 22.5 for small galaxies). The stretch is chosen so
# that sky, noise and galaxies are as bright as in its images.
GZD = replace(
    DECALS,
    name="GZ DECaLS",
    cutout=424,
    pixel=0.0,
    pixel_per_r90=0.02,
    least_pixel=0.1,
    sky_noise=(0.0052, 0.0080, 0.0190),
    weights=(0.75, 1.05, 1.75),
    pedestal=(-0.0092 / 0.75, -0.0092 / 1.05, -0.0092 / 1.75),
    softening=0.021,
    range=6.7,
    saturation=0.45,
    quality=0,
)
# The Large Area Survey of UKIDSS (Lawrence et al. 2007, MNRAS 379, 1599) as Galaxy Zoo UKIDSS shows it: seeing of 0.8
# to 1.2 arcsec, points 5 sigma at 20.9, 20.4, 20.1 mag. Magnitudes are AB: the survey's plus 0.634, 0.938 and 1.900
# (Hewett et al. 2006, MNRAS 367, 454). Old stars are red up to the infrared and young ones are not: r - J is 1.1 for a
# galaxy of g - r = 0.9 and 0.5 for one of 0.4. A star's r - J is 0.4 to 2, its J - K -0.5 to 0. The stretch is chosen
# so that sky, noise, galaxies and stars look as in its images.
UKIDSS = Survey(
    name="UKIDSS",  # in Y, J and K
    camera_pixel=0.4,
    seeing=(0.76, 0.74, 0.70),
    registration=0.5,
    sky_noise=(0.24, 0.38, 0.52),
    noise_mixed=0.15,
    photon_noise=0.004,
    extinction=(0.42, 0.31, 0.13),  # Schlafly & Finkbeiner 2011, table 6; that in Y lies between those in z and J
    blue_color=(0.15, 0.10),
    middle_color=(0.1, 1.1),
    red_color=(-0.05, 0.25),
    field_mix=((0.0, -2.1, 2.85), (0.0, -3.1, 3.6), (0.0, -3.0, 3.2)),
    weights=(0.85, 0.92, 1.65),
    pedestal=(0.14, -0.10, 0.06),
    softening=1.2,
    range=6.2,
    quality=90,
)
TYPICAL = 0.7  # g - r of a galaxy


def one_thing_changed(survey: Survey, other: Survey) -> dict[str, Survey]:
    """A survey with the PSF, the depth or the bands of another, to see what each does alone.

    Depth is the noise, against which a galaxy is as faint as in the other survey; an image's black, and the light that
    it shows well, go with the noise. Bands are fluxes, dust and colours of the images; the noise is then as far below
    a galaxy as the survey's own, and the images are as bright.
    """
    fluxes, other_fluxes = survey.fluxes(1.0, TYPICAL), other.fluxes(1.0, TYPICAL)
    # How many times fainter a galaxy is against the other survey's noise, in the middle bands and an equal area.
    signal, other_signal = (
        flux * each.camera_pixel / each.sky_noise[1] for each, flux in ((survey, fluxes[1]), (other, other_fluxes[1]))
    )
    noisier = signal / other_signal
    gained = [new / old for old, new in zip(fluxes, other_fluxes, strict=True)]
    noise = _times(survey.sky_noise, gained)
    finer = [new / old for new, old in zip(noise, other.sky_noise, strict=True)]
    colors = ("extinction", "blue_color", "middle_color", "red_color", "field_color", "field_mix")
    stretch = ("weights", "range", "keeps_hue", "saturation")
    changes: dict[str, dict[str, Any]] = {
        "psf": {"seeing": other.seeing, "registration": other.registration},
        "depth": {
            "sky_noise": _times(survey.sky_noise, (noisier,) * 3),
            "pedestal": _times(survey.pedestal, (noisier,) * 3),
            "softening": survey.softening * noisier,
        },
        "bands": {
            **{name: getattr(other, name) for name in (*colors, *stretch)},
            "sky_noise": noise,
            "photon_noise": survey.photon_noise * gained[1],
            "pedestal": _times(other.pedestal, finer[::-1]),
            "softening": other.softening * finer[1],
        },
    }
    words = {"psf": "with the PSF of", "depth": "with the depth of", "bands": "in the bands of"}
    return {
        cause: replace(survey, name=f"{survey.name} {words[cause]} {other.name}", **values)
        for cause, values in changes.items()
    }


def _times(values: Sequence[float], factors: Sequence[float]) -> tuple[float, float, float]:
    blue, middle, red = (value * factor for value, factor in zip(values, factors, strict=True))
    return blue, middle, red
