"""Models of light curves, and distributions as data that their parameters are drawn from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import yaml

from galaxyml.sky.light_curves.photometry import Bands, Values

Law = Callable[[np.random.Generator], float]
Parameters = dict[str, float]


def fixed(value: float) -> Law:
    """Always the same value."""
    return lambda rng: value


def uniform(low: float, high: float) -> Law:
    """Evenly distributed in [low, high)."""
    return lambda rng: rng.uniform(low, high)


def normal(mean: float, spread: float) -> Law:
    """Normally distributed, cut at 3 standard deviations."""
    return lambda rng: mean + spread * min(max(rng.standard_normal(), -3.0), 3.0)


def lognormal(median: float, spread: float) -> Law:
    """Positive, with a natural logarithm of standard deviation `spread`, cut at 3 of them."""
    logarithm = normal(float(np.log(median)), spread)
    return lambda rng: float(np.exp(logarithm(rng)))


def exponential(mean: float) -> Law:
    """Exponentially distributed."""
    return lambda rng: mean * rng.standard_exponential()


def gamma(median: float) -> Law:
    """Gamma distributed with shape 3: rises as a volume does, and falls where a survey loses what is far."""
    # 2.674 is the median of the gamma distribution of shape 3 and scale 1.
    return lambda rng: rng.standard_gamma(3.0) * median / 2.674


def seed() -> Law:
    """Seeds of generators."""
    return lambda rng: float(rng.integers(2**31))


def draw(laws: Mapping[str, Law], rng: np.random.Generator) -> Parameters:
    """One value a law, in their order."""
    return {name: float(law(rng)) for name, law in laws.items()}


_BY_NAME: dict[str, Callable[..., Law]] = {
    law.__name__: law for law in (fixed, uniform, normal, lognormal, exponential, gamma, seed)
}
# By class: the laws of its parameters.
LAWS: dict[str, dict[str, Law]] = {
    kind: {parameter: _BY_NAME[law](*numbers) for parameter, (law, *numbers) in laws.items()}
    for kind, laws in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")).items()
}


class Model(ABC):
    """Draws parameters of objects of one class and gives their light.

    Attributes:
        laws: Of the parameters.
    """

    laws: Mapping[str, Law]

    def draw(self, rng: np.random.Generator) -> Parameters:
        """Parameters of one object, without its redshift."""
        return draw(self.laws, rng)

    @abstractmethod
    def curve(self, p: Parameters, mjd: Values, band: Bands) -> tuple[Values, Values]:
        """Flux above the template, and the template's, outside of the Milky Way's dust, FLUXCAL units, shape (N,) each.

        Args:
            p: Parameters of one object; for what is outside the Galaxy also its `redshift`.
            mjd: Days, shape (N,).
            band: Passbands, 0 to 5, shape (N,).
        """
