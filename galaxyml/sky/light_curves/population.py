"""The classes of PLAsTiCC and their members: what an object is, where it is, and what a survey sees of it."""

from dataclasses import dataclass

import numpy as np

from galaxyml.sky.light_curves.extragalactic import EXPLOSIONS, ActiveNucleus
from galaxyml.sky.light_curves.galactic import BinaryLens, EclipsingBinary, MDwarf, Mira, RRLyrae, SingleLens
from galaxyml.sky.light_curves.laws import Law, Model, Parameters, gamma
from galaxyml.sky.light_curves.observation import DEEP_FIELDS, LightCurve, deep, observe, wide
from galaxyml.sky.light_curves.photometry import FARTHEST
from galaxyml.sky.positions import galactic_latitude

SOUTH, NORTH = -64.0, 4.0  # declinations of the survey, degrees
DEEP = 0.18  # share of objects in the deep fields, before the faint ones elsewhere are lost: then about a quarter
DETECTIONS = 2  # that an object has at least
PLANE = 12.0  # degrees around the plane of the Galaxy in which galaxies are hidden
CLOSEST = 0.003  # redshift


@dataclass(frozen=True)
class Kind:
    """A class of objects.

    Attributes:
        name: Short, as in PLAsTiCC.
        model: Of its light.
        training: Objects in PLAsTiCC's training set.
        redshift: Of those that explode, not only of those that are detected; None within the Galaxy.
        height: Mean angle to the plane of the Galaxy, degrees, within it.
    """

    name: str
    model: Model
    training: int
    redshift: Law | None = None
    height: float = 0.0


# By the number of the class; those from 991 on are in the test set alone.
KINDS = {
    90: Kind("SNIa", EXPLOSIONS["SNIa"], 2313, gamma(0.42)),
    67: Kind("SNIa-91bg", EXPLOSIONS["SNIa-91bg"], 208, gamma(0.26)),
    52: Kind("SNIax", EXPLOSIONS["SNIax"], 183, gamma(0.26)),
    42: Kind("SNII", EXPLOSIONS["SNII"], 1193, gamma(0.30)),
    62: Kind("SNIbc", EXPLOSIONS["SNIbc"], 484, gamma(0.30)),
    95: Kind("SLSN-I", EXPLOSIONS["SLSN-I"], 175, gamma(1.05)),
    15: Kind("TDE", EXPLOSIONS["TDE"], 495, gamma(0.30)),
    64: Kind("KN", EXPLOSIONS["KN"], 100, gamma(0.09)),
    88: Kind("AGN", ActiveNucleus(), 370, gamma(0.85)),
    92: Kind("RRL", RRLyrae(), 239, height=35.0),
    65: Kind("M-dwarf", MDwarf(), 981, height=45.0),
    16: Kind("EB", EclipsingBinary(), 924, height=25.0),
    53: Kind("Mira", Mira(), 30, height=12.0),
    6: Kind("MicroLens-Single", SingleLens(), 151, height=12.0),
    991: Kind("MicroLens-Binary", BinaryLens(), 0, height=12.0),
    992: Kind("ILOT", EXPLOSIONS["ILOT"], 0, gamma(0.012)),
    993: Kind("CaRT", EXPLOSIONS["CaRT"], 0, gamma(0.08)),
    994: Kind("PISN", EXPLOSIONS["PISN"], 0, gamma(0.75)),
}
KNOWN = tuple(number for number, kind in KINDS.items() if kind.training)
UNKNOWN = tuple(number for number, kind in KINDS.items() if not kind.training)


@dataclass(frozen=True)
class Member:
    """An object of a class.

    Attributes:
        ra: Right ascension, degrees.
        decl: Declination, degrees.
        deep: Whether it is in a deep drilling field.
        mwebv: E(B-V) of the Milky Way's dust.
        parameters: Of its model, and its `redshift` (0 within the Galaxy).
        curve: What is measured of it.
    """

    ra: float
    decl: float
    deep: bool
    mwebv: float
    parameters: Parameters
    curve: LightCurve


def member(number: int, rng: np.random.Generator, farther: float = 1.0) -> Member:
    """Draws objects of a class, `farther` than usual in distance or redshift, until one is detected often enough."""
    kind = KINDS[number]
    while True:
        is_deep = bool(rng.random() < DEEP)
        ra, decl, mwebv = _place(kind, is_deep, rng)
        parameters = kind.model.draw(rng)
        if kind.redshift is None:
            fainter = parameters["magnitude"] + 5 * np.log10(farther)
            parameters |= {"redshift": 0.0, "magnitude": float(fainter)}
        else:
            parameters["redshift"] = float(np.clip(farther * kind.redshift(rng), CLOSEST, FARTHEST))
        visits = (deep if is_deep else wide)(ra, rng)
        light, template = kind.model.curve(parameters, visits.mjd, visits.band)
        curve = observe(light, template, visits, mwebv, rng)
        if curve.detected.sum() >= DETECTIONS:
            return Member(ra, decl, is_deep, mwebv, parameters, curve)


def _place(kind: Kind, is_deep: bool, rng: np.random.Generator) -> tuple[float, float, float]:
    """Right ascension and declination in degrees, and E(B-V) of the Milky Way there."""
    if is_deep:
        ra, decl = DEEP_FIELDS[rng.integers(len(DEEP_FIELDS))] + rng.normal(0, 0.9, 2)
        return float(ra % 360), float(decl), float(rng.lognormal(np.log(0.014), 0.35))
    # One of so many places is nearly always where the class is; the first is taken.
    ras = rng.uniform(0, 360, 200)
    lowest, highest = np.sin(np.radians([SOUTH, NORTH]))
    decls = np.degrees(np.arcsin(rng.uniform(lowest, highest, 200)))
    away = np.abs(galactic_latitude(ras, decls))
    chance = np.exp(-away / kind.height) if kind.redshift is None else -np.expm1(-((away / PLANE) ** 2))
    first = int(np.argmax(rng.random(200) < chance))
    column = 0.022 / max(np.sin(np.radians(away[first])), 0.02)
    return float(ras[first]), float(decls[first]), float(column * rng.lognormal(0, 0.5))
