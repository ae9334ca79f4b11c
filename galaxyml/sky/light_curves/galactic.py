"""Stars of the Galaxy that pulsate, flare, pass before each other, or are magnified by one or two masses that pass."""

import numpy as np
from numpy.typing import NDArray

from galaxyml.sky.light_curves.laws import LAWS, Model, Parameters, draw
from galaxyml.sky.light_curves.observation import FIRST, LAST
from galaxyml.sky.light_curves.photometry import WAVELENGTH, Bands, Values, flux, planck

Points = NDArray[np.complex128]

# Fourier terms of magnitudes in g: amplitude over that of the first, and phase against it, of types ab and c
# (Simon & Teays 1982, ApJ 261, 586; Jurcsik & Kovacs 1996, A&A 312, 111: sine series in V).
RR_AB = ((1.0, 0.0), (0.50, 2.4), (0.36, 5.0), (0.23, 1.5), (0.13, 4.2))
RR_C = ((1.0, 0.0), (0.14, 3.1), (0.06, 5.5))
# Amplitudes by band over that in g, and mean colors against r (Sesar et al. 2010, ApJ 708, 717, tables 2 and 3).
RR_SWING = np.array([0.95, 1.0, 0.71, 0.57, 0.52, 0.50])
RR_COLOR = np.array([1.30, 0.18, 0.0, -0.03, -0.02, -0.01])
# Oxygen-rich giants at 3000 K: the bluer, the fainter and the larger the swing, as titanium oxide comes and goes
# (Iwanek et al. 2021, ApJS 257, 23, for amplitudes that fall with wavelength; colors as in PLAsTiCC).
MIRA_COLOR = np.array([8.5, 5.2, 3.6, 1.5, 0.5, 0.0])  # against y
MIRA_SWING = np.array([2.6, 2.2, 1.9, 1.45, 1.1, 1.0])  # peak to peak, over that in y
# Light of a flare over that at its peak, from times in units of its width at half of it (Davenport et al. 2014,
# ApJ 797, 122, eqs. 1 and 4).
FLARE_RISE = (1.0, 1.941, -0.175, -2.246, -1.125)
FLARE_FALL = ((0.6890, -1.600), (0.3030, -0.2783))
FLARE_HEAT = 10_000.0  # Kelvin
TIDE = 0.9  # strength of the ellipsoidal variation (Morris 1985, ApJ 295, 143, eq. 1, for linear limb darkening of 0.5)
# How far an image may be from where the lens equation sends it, Einstein radii: roots that are no images are farther.
TOLERANCE = 1e-5


class RRLyrae(Model):
    """Pulsators of types ab (a quick rise, a slow fall) and c (nearly a sine)."""

    def draw(self, rng: np.random.Generator) -> Parameters:
        """Parameters of one star: `period` in days, `swing` peak to peak in g."""
        overtone = float(rng.random() < 0.25)
        p = draw(LAWS["RRL-c" if overtone else "RRL-ab"], rng) | {"overtone": overtone}
        # The longer the period of type ab, the smaller the swing (Bailey's diagram).
        return p if overtone else p | {"swing": max(1.05 - 3.2 * (p["period"] - 0.57) + p["swing"], 0.25)}

    def curve(self, p: Parameters, mjd: Values, band: Bands) -> tuple[Values, Values]:
        terms = RR_C if p["overtone"] else RR_AB
        swing = p["swing"] * RR_SWING[band]
        mean = p["magnitude"] + RR_COLOR[band]
        seen = flux(mean + swing * pulsation((mjd - FIRST) / p["period"] + p["at"], terms))
        # The template is one exposure a band, each at its own time.
        turn = np.asarray(p["template_at"] + 0.37 * band, dtype=np.float64)
        template = flux(mean + swing * pulsation(turn, terms))
        return seen - template, template


class Mira(Model):
    """Long-period giants of huge swings, the larger the bluer."""

    laws = LAWS["Mira"]

    def curve(self, p: Parameters, mjd: Values, band: Bands) -> tuple[Values, Values]:
        turn = (mjd - FIRST) / p["period"] + p["at"]
        mean, swing = p["magnitude"] + p["redness"] * MIRA_COLOR[band], p["swing"] * MIRA_SWING[band] / 2

        def light(turn: Values | float) -> Values:
            wave = np.cos(2 * np.pi * turn + p["skew"] * np.sin(2 * np.pi * turn))
            # Cycles differ: the golden ratio has no period in common with the star.
            return flux(mean + swing * wave * (1 + p["unrest"] * np.cos(2 * np.pi * turn / 1.618)))

        template = light(p["template_at"])
        return light(turn) - template, template


class MDwarf(Model):
    """Cool dwarfs whose hot flares last minutes to hours."""

    laws = LAWS["M-dwarf"]

    def curve(self, p: Parameters, mjd: Values, band: Bands) -> tuple[Values, Values]:
        rng = np.random.default_rng(int(p["flares"]))
        number = rng.poisson(p["rate"] * (LAST - FIRST))
        times = rng.uniform(FIRST, LAST, number)
        # Numbers of flares fall as a power of about 1 of their peaks (Hawley et al. 2014, ApJ 797, 121).
        peaks = p["energy"] * np.minimum(1 / (1 - rng.random(number)), 300.0) ** (1 / 1.1)
        widths = p["width"] * (peaks / p["energy"]) ** 0.3
        light = (peaks * flare((mjd[:, None] - times) / widths)).sum(axis=1)
        quiet = flux(p["magnitude"]) * planck(WAVELENGTH, p["temperature"]) / planck(WAVELENGTH[2], p["temperature"])
        hot = quiet[0] * planck(WAVELENGTH, FLARE_HEAT) / planck(WAVELENGTH[0], FLARE_HEAT)
        return light * hot[band], quiet[band]


class EclipsingBinary(Model):
    """Circular orbits; eclipses, and tides that make the stars brightest from the side.

    The template is the mean light out of eclipse.
    """

    laws = LAWS["EB"]

    def curve(self, p: Parameters, mjd: Values, band: Bands) -> tuple[Values, Values]:
        small = p["radius"] * p["radius_ratio"]
        tilt = p["impact"] * (p["radius"] + small)
        angle = 2 * np.pi * ((mjd - FIRST) / p["period"] + p["at"])
        apart = np.sqrt(np.sin(angle) ** 2 + (tilt * np.cos(angle)) ** 2)
        hidden = overlap(apart, p["radius"], small)
        light = planck(WAVELENGTH[band], p["temperature"])
        other_light = planck(WAVELENGTH[band], p["temperature"] * p["temperature_ratio"])
        total = np.pi * (p["radius"] ** 2 * light + small**2 * other_light)
        # At angle 0 the larger star is behind.
        lost = hidden * np.where(np.cos(angle) > 0, light, other_light) / total
        tides = -TIDE * p["radius"] ** 3 * (1 - tilt**2) * np.cos(2 * angle) / 2
        reference = planck(WAVELENGTH[2], p["temperature"]) * p["radius"] ** 2
        reference = reference + planck(WAVELENGTH[2], p["temperature"] * p["temperature_ratio"]) * small**2
        template = flux(p["magnitude"]) * total / (np.pi * reference)
        return template * ((1 + tides) * (1 - lost) - 1), template


def pulsation(turn: Values | float, terms: tuple[tuple[float, float], ...]) -> Values:
    """Magnitude against its mean, of a swing of 1 from brightest to faintest.

    Args:
        turn: Phase in periods.
        terms: Amplitude and phase of each term of a sine series.
    """

    def series(turn: Values | float) -> Values:
        angle = 2 * np.pi * np.asarray(turn)
        return np.asarray(sum(size * np.sin(k * angle + phase) for k, (size, phase) in enumerate(terms, start=1)))

    return series(turn) / np.ptp(series(np.linspace(0, 1, 200)))


def flare(time: Values) -> Values:
    """Light of a flare over that at its peak, at times in units of its width at half of it (Davenport et al. 2014)."""
    rising = (time > -1) & (time <= 0)
    falling = (time > 0) & (time < 40)
    light = np.zeros_like(time)
    light[rising] = np.polynomial.polynomial.polyval(time[rising], FLARE_RISE)
    light[falling] = sum(size * np.exp(pace * time[falling]) for size, pace in FLARE_FALL)
    return np.maximum(light, 0)


def overlap(apart: Values, radius: float, other: float) -> Values:
    """Area that two disks have in common, whose centres are `apart`; the radius of the other is not 0."""
    apart = np.maximum(apart, 1e-12)
    # The cosines leave [-1, 1] where the disks are apart or within each other, and the areas are then right if cut.
    cosine = np.clip((apart**2 + radius**2 - other**2) / (2 * apart * radius), -1, 1)
    other_cosine = np.clip((apart**2 + other**2 - radius**2) / (2 * apart * other), -1, 1)
    kite = (radius + other - apart) * (apart + radius - other) * (apart - radius + other) * (apart + radius + other)
    sectors = radius**2 * np.arccos(cosine) + other**2 * np.arccos(other_cosine)
    return sectors - 0.5 * np.sqrt(np.maximum(kite, 0))


class SingleLens(Model):
    """A point mass (Paczynski 1986, ApJ 304, 1)."""

    laws = LAWS["MicroLens-Single"]

    def curve(self, p: Parameters, mjd: Values, band: Bands) -> tuple[Values, Values]:
        apart = np.hypot((mjd - p["peak"]) / p["crossing"], p["impact"])
        return _magnified(p, point_lens(apart), band)


class BinaryLens(Model):
    """Two point masses: at their caustics two images appear or vanish (Mao & Paczynski 1991, ApJ 374, L37)."""

    laws = LAWS["MicroLens-Binary"]

    def curve(self, p: Parameters, mjd: Values, band: Bands) -> tuple[Values, Values]:
        path = (mjd - p["peak"]) / p["crossing"] + 1j * p["impact"]
        source = path * np.exp(1j * p["angle"])
        return _magnified(p, binary_lens(source, p["mass_ratio"], p["separation"]), band)


def point_lens(apart: Values) -> Values:
    """Magnification of a point source, more than 0 Einstein radii from a point mass (Paczynski 1986, eq. 4)."""
    return (apart**2 + 2) / (apart * np.sqrt(apart**2 + 4))


def binary_lens(source: Points, mass_ratio: float, separation: float) -> Values:
    """Magnification of a point source by two point masses.

    With masses m at positions a the lens equation is source = z - sum m / conj(z - a) (Witt 1990, A&A 236, 311). Its
    conjugate gives conj(z), and put in, a polynomial of the fifth degree in z, whose roots are images if they solve the
    equation itself; each is magnified by 1 / |1 - |sum m / (z - a)^2|^2|.

    Args:
        source: Places relative to the centre of mass, in Einstein radii of the whole mass, the masses on the real axis;
            shape (N,).
        mass_ratio: Of the second mass to the first.
        separation: Of the masses, Einstein radii.

    Returns:
        Sum over the three or five images, shape (N,).
    """
    masses = np.array([1.0, mass_ratio]) / (1 + mass_ratio)
    positions = separation * np.array([-masses[1], masses[0]])
    images = _roots(_image_polynomial(source, masses, positions))
    pulls = masses / (images[..., None] - positions)
    missed = np.abs(images - pulls.conj().sum(axis=-1) - source[:, None])
    shear = np.abs((pulls / (images[..., None] - positions)).sum(axis=-1)) ** 2
    return np.asarray(np.where(missed < TOLERANCE, 1 / np.abs(1 - shear), 0.0).sum(axis=-1))


def _image_polynomial(source: Points, masses: Values, positions: Values) -> Points:
    """Coefficients in z, highest first, shape (N, 6), of a polynomial whose roots include the images."""
    first, second = masses
    # conj(z) = conj(source) + pull / product, with the two being polynomials in z.
    product = np.poly(positions).astype(complex)[None]
    pull = np.array([[first + second, -first * positions[1] - second * positions[0]]], dtype=complex)
    # conj(z) - position = gap / product.
    gaps = [_sum(_times((source.conj() - position)[:, None], product), pull) for position in positions]
    linear = np.stack([np.ones_like(source), -source], axis=1)
    total = _times(_times(linear, gaps[0]), gaps[1])
    total = _sum(total, -first * _times(product, gaps[1]))
    return _sum(total, -second * _times(product, gaps[0]))


def _times(first: Points, second: Points) -> Points:
    """Product of polynomials, coefficients along the last axis."""
    rows = max(len(first), len(second))
    product = np.zeros((rows, first.shape[1] + second.shape[1] - 1), dtype=complex)
    for power in range(second.shape[1]):
        product[:, power : power + first.shape[1]] += first * second[:, power, None]
    return product


def _sum(first: Points, second: Points) -> Points:
    """Sum of polynomials, highest power first, the first not the shorter."""
    total = first.copy()
    total[:, first.shape[1] - second.shape[1] :] += second
    return total


def _roots(polynomials: Points) -> Points:
    """Roots of N polynomials, as `numpy.roots` has them: eigenvalues of companion matrices; shape (N, degree)."""
    degree = polynomials.shape[1] - 1
    companions = np.zeros((len(polynomials), degree, degree), dtype=complex)
    companions[:, np.arange(1, degree), np.arange(degree - 1)] = 1
    companions[:, 0] = -polynomials[:, 1:] / polynomials[:, :1]
    return np.asarray(np.linalg.eigvals(companions), dtype=complex)


def _magnified(p: Parameters, magnification: Values, band: Bands) -> tuple[Values, Values]:
    """Flux above that of the unmagnified star, and that star's."""
    color = planck(WAVELENGTH[band], p["temperature"]) / planck(WAVELENGTH[2], p["temperature"])
    star = flux(p["magnitude"]) * color
    return star * (magnification - 1), star
