"""How a survey observes: its noise, its cadence and its photometric redshifts, measured on the objects at hand."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from galaxyml.data.light_curves.columns import LightCurves

# Mean and standard deviation of ln(error) in u g r i z y: Boone's fits to PLAsTiCC's main survey and deep drilling
# fields (avocado). They stand in where a passband has too few observations.
PUBLISHED_ERRORS = np.array(
    [
        [(2.34, 0.43), (0.94, 0.41), (1.30, 0.41), (1.82, 0.42), (2.56, 0.36), (3.33, 0.37)],
        [(0.68, 0.26), (0.25, 0.50), (0.16, 0.36), (0.53, 0.27), (0.88, 0.22), (1.76, 0.23)],
    ]
)
ENOUGH = 100  # observations that tell the errors of a passband
BACKGROUND = 3.0  # signal-to-noise up to which the error is the sky's, not the object's
NEIGHBOURS = 50  # hosts nearest in redshift, among which the error of a photometric redshift is drawn
LEAST_PHOTOZ = 0.01  # the least of PLAsTiCC's tables; 0 would say galactic

MOVED = 50.0  # days by which the visits are moved at most (this and the next three: avocado)
BLOCK = 250.0  # days, about a season, that are left out
MARGIN = 100.0  # days before the first and after the last visit in which there may still be one
DROPPED = 0.1  # share of visits that are left out at least


@dataclass(frozen=True)
class Survey:
    """What a survey does to whatever it observes.

    Attributes:
        errors: Mean and standard deviation of the natural logarithm of the sky's error, shape (2, 6, 2), by field (main
            survey, deep drilling) and passband.
        counts: Numbers of observations of the objects of each field.
        hosts: Spectroscopic redshift, photometric redshift and its error of hosts that have all three, shape (H, 3),
            by the first.
    """

    errors: np.ndarray
    counts: tuple[np.ndarray, np.ndarray]
    hosts: np.ndarray

    @classmethod
    def measured(cls, curves: LightCurves, objects: pd.DataFrame) -> "Survey":
        """What the extragalactic objects of a table tell about the survey that observed them.

        Args:
            curves: Their light curves and others', in the order of `objects`.
            objects: With `galactic`, `ddf`, `specz`, `photoz` and `photoz_err`; the last three may be NaN.
        """
        # Fluxes of PLAsTiCC are corrected for dust, so galactic objects have far larger errors in the blue.
        outside, deep = ~objects["galactic"].to_numpy(bool), objects["ddf"].to_numpy(bool)
        lengths = np.diff(curves.offsets)
        sky = np.repeat(outside, lengths) & (np.abs(curves.flux) < BACKGROUND * curves.error)
        of_deep, logs = np.repeat(deep, lengths), np.log(curves.error, dtype=np.float64)
        errors = PUBLISHED_ERRORS.copy()
        for field in range(2):
            for band in range(6):
                seen = logs[sky & (of_deep == field) & (curves.band == band)]
                if len(seen) >= ENOUGH:
                    middle = np.median(seen)
                    errors[field, band] = middle, 1.4826 * np.median(np.abs(seen - middle))
        hosts = objects.loc[outside & (objects["specz"] > 0).to_numpy(), ["specz", "photoz", "photoz_err"]].dropna()
        return cls(
            errors,
            (lengths[outside & ~deep], lengths[outside & deep]),
            hosts.sort_values("specz", kind="stable").to_numpy(np.float64),
        )

    def sky(self, band: np.ndarray, deep: bool, dice: np.random.Generator) -> np.ndarray:
        """Errors of observations that the sky makes, log-normal; FLUXCAL units, shape (M,)."""
        mean, spread = self.errors[int(deep), band].T
        return dice.lognormal(mean, spread)

    def photoz(self, redshift: float, dice: np.random.Generator) -> tuple[float, float]:
        """A photometric redshift and its error for a host at a redshift.

        It errs as one of the 50 known hosts nearest in redshift does, relative to 1 + z; avocado draws among all hosts,
        and in either direction.
        """
        middle = int(np.searchsorted(self.hosts[:, 0], redshift))
        begin = max(min(middle - NEIGHBOURS // 2, len(self.hosts) - NEIGHBOURS), 0)
        true, measured, error = dice.choice(self.hosts[begin : begin + NEIGHBOURS])
        ratio = (1 + redshift) / (1 + true)
        smeared = error * ratio * abs(dice.normal(1, 0.05))  # so that an error does not tell its host
        return max(ratio * (1 + measured) - 1, LEAST_PHOTOZ), smeared

    def visits(
        self, mjd: np.ndarray, band: np.ndarray, pivot: float, stretch: float, deep: bool, dice: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """When an object is observed whose time runs slower by a factor, as avocado draws it.

        Visits are stretched about the pivot and moved together; a season is left out, and what falls far outside
        the survey. Stretched curves are filled up by repeated visits in other passbands; then visits are left out, at
        least a tenth, until there are as many as the field usually has.

        Args:
            mjd: Of the real observations, shape (M,).
            band: Theirs.
            pivot: MJD of the brightest moment.
            stretch: Factor of time.
            deep: Whether the version lies in a deep drilling field.
            dice: Random numbers.

        Returns:
            MJD, passband, and the MJD at which the original curve shows the same moment, shape (K,) each, by MJD.
        """
        usual = int(dice.choice(self.counts[int(deep)]))
        moved = pivot + stretch * (mjd - pivot) + dice.uniform(-MOVED, MOVED)
        begin = dice.uniform(mjd[0] - BLOCK, mjd[-1])
        stay = (moved < begin) | (moved > begin + BLOCK)
        rows = np.flatnonzero(stay & (moved > mjd[0] - MARGIN) & (moved < mjd[-1] + MARGIN))
        bands = band[rows]
        more = int(usual * (stretch - 1)) if len(rows) else 0
        if more > 0:
            rows = np.concatenate([rows, dice.choice(rows, more)])
            bands = np.concatenate([bands, dice.choice(np.unique(band), more)])
        left_out = max(len(rows) - usual, int(np.ceil(DROPPED * len(rows))))
        kept = dice.permutation(len(rows))[left_out:]
        rows, bands = rows[kept], bands[kept]
        order = np.lexsort((bands, moved[rows]))
        return moved[rows][order], bands[order], mjd[rows][order]
