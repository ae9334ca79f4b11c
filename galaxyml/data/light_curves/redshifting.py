"""Extragalactic objects as the same survey would see them at other redshifts (Boone 2019, AJ 158, 257, section 3).

Each light curve becomes a Gaussian process in time and wavelength, is read at the wavelengths that the passbands would
show from another redshift, stretched in time, dimmed, and observed again with the survey's noise. Numbers are those of
the paper's code, avocado; comments say where this differs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from astropy.cosmology import FlatLambdaCDM
from astropy.stats import biweight_location
from torch import Tensor

from galaxyml.data.light_curves.columns import LightCurves
from galaxyml.data.light_curves.gaussian_process import GaussianProcess
from galaxyml.data.light_curves.inputs import WAVELENGTHS
from galaxyml.data.light_curves.survey_noise import Survey
from galaxyml.data.light_curves.views import DETECTIONS, KEPT, PADDING, Batch, detection_probability
from galaxyml.runs.errors import UserError
from galaxyml.runs.files import atomic_write, digest, file_lock
from galaxyml.runs.progress import track
from galaxyml.runs.seeds import derive

FORMAT = 2  # to be raised when the versions of the same objects would come out different
ATTEMPTS = 10  # at each version of an object that the survey does not detect
TO_MAIN = 0.8  # share of versions of deep-field objects that the main survey observes; it is most of the sky
ANGSTROM = 10 * np.array(WAVELENGTHS)
_BASELINE_COUNT = 10  # observations of a passband below which its quiet level is not known
_COSMOLOGY = FlatLambdaCDM(H0=70, Om0=0.3)
_OBJECT = ["photoz", "specz", "photoz_err", "mwebv", "galactic", "ddf"]


def redshift_limits(redshift: float) -> tuple[float, float]:
    """Redshifts to which an object may be moved.

    Hardly nearer, where the noise of the original would show, and not to 5 times its redshift or more, where few are
    detected; nor so far that passbands show wavelengths shorter by 1.5 than observed, which the process does not know.
    """
    return 0.95 * redshift, min(5 * redshift, 1.5 * (1 + redshift) - 1)


def dimming(redshift: float, new: float) -> float:
    """Factor of the flux density at the same rest-frame frequency: `(1 + z') / (1 + z) (dL(z) / dL(z'))**2`.

    Hogg 1999 (astro-ph/9905116), eq. 22, for fluxes per unit frequency, as FLUXCAL is. Avocado follows the distance
    modulus alone, without `(1 + z') / (1 + z)`.
    """
    near, far = _COSMOLOGY.luminosity_distance([redshift, new]).value
    return float((1 + new) / (1 + redshift) * (near / far) ** 2)


@dataclass(frozen=True)
class Source:
    """An object as its light curve tells it, at any time and wavelength.

    Attributes:
        redshift: Its own.
        pivot: MJD of its brightest moment.
        quiet: Level of the flux in each passband when little happens, FLUXCAL, shape (6,).
        process: Of the flux above that level.
    """

    redshift: float
    pivot: float
    quiet: np.ndarray
    process: GaussianProcess

    @classmethod
    def fit(cls, mjd: np.ndarray, band: np.ndarray, flux: np.ndarray, error: np.ndarray, redshift: float) -> "Source":
        """The source behind a light curve, columns of shape (M,).

        Raises:
            np.linalg.LinAlgError: If no Gaussian process fits it.
        """
        flux, error = flux.astype(np.float64), error.astype(np.float64)
        levels = {
            number: biweight_location(flux[band == number])
            for number in np.unique(band)
            if (band == number).sum() >= _BASELINE_COUNT
        }
        quiet = np.interp(ANGSTROM, ANGSTROM[list(levels)], list(levels.values())) if levels else np.zeros(6)
        process = GaussianProcess.fit(mjd, ANGSTROM[band], flux - quiet[band], error)
        return cls(redshift, float(mjd[flux.argmax()]), quiet, process)

    def seen(self, moment: np.ndarray, band: np.ndarray, redshift: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Flux from another redshift, without noise, and how uncertain it is (a standard deviation), shape (M,) each.

        Args:
            moment: MJD at which the light curve shows that moment, shape (M,).
            band: Passbands, shape (M,).
            redshift: Of the version, or of each observation, shape (M,).
        """
        redshifts, which = np.unique(redshift, return_inverse=True)
        wavelength = ANGSTROM[band] * (1 + self.redshift) / (1 + redshift)
        mean, variance = self.process.predict(moment, wavelength)
        factor = np.array([dimming(self.redshift, new) for new in redshifts])[which]
        # Avocado leaves the quiet level out; an active nucleus has one, relative to the template image.
        return factor * (mean + np.interp(wavelength, ANGSTROM, self.quiet)), factor * np.sqrt(variance)


@dataclass(frozen=True)
class Version:
    """An object at another redshift: columns of its light curve, by MJD, and what is known of it."""

    redshift: float
    deep: bool
    mjd: np.ndarray
    band: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    detected: np.ndarray


def versions(
    source: Source, band: np.ndarray, deep: bool, survey: Survey, count: int, dice: np.random.Generator
) -> Iterator[Version]:
    """Versions of a source that the survey detects, up to `count`: fewer where 10 attempts at each do not suffice.

    Args:
        source: The object.
        band: Passbands of its observations, in their order.
        deep: Whether it lies in a deep drilling field.
        survey: Which observes it.
        count: How many versions.
        dice: Random numbers.
    """
    lowest, highest = np.log(redshift_limits(source.redshift))
    for _ in range(ATTEMPTS):
        attempts = []
        for redshift in np.exp(dice.uniform(lowest, highest, count)):
            # A main-survey object cannot be observed deeper than it was.
            to_deep = deep and not (len(survey.counts[0]) and dice.random() < TO_MAIN)
            stretch = (1 + redshift) / (1 + source.redshift)
            visits = survey.visits(source.process.time, band, source.pivot, stretch, to_deep, dice)
            attempts.append((redshift, to_deep, *visits))
        lengths = [len(mjd) for _, _, mjd, _, _ in attempts]
        moments, bands = (np.concatenate([attempt[column] for attempt in attempts]) for column in (4, 3))
        model, uncertain = source.seen(moments, bands, np.repeat([attempt[0] for attempt in attempts], lengths))
        ends = np.cumsum(lengths)
        for (redshift, to_deep, mjd, bands, _), length, end in zip(attempts, lengths, ends, strict=True):
            part = slice(end - length, end)
            sky = survey.sky(bands, to_deep, dice)
            flux, error = model[part] + dice.normal(0, sky), np.hypot(sky, uncertain[part])
            detected = dice.random(length) < detection_probability(torch.from_numpy(flux / error)).numpy()
            if detected.sum() >= DETECTIONS and length >= KEPT:
                count -= 1
                yield Version(float(redshift), to_deep, mjd, bands, flux, error, detected)
        if not count:
            return


@dataclass(frozen=True)
class Redshifted:
    """Versions of extragalactic objects at other redshifts, drawn for a batch in the place of the objects.

    Attributes:
        curves: Of the versions, an object's one after the other; `ids` are the objects'.
        redshift: Of each version, shape (W,).
        condition: What a batch's `condition` has of each version, float32 of shape (W, 5).
        origin: MJD that is `time` 0 for each version, shape (W,).
        begin: For each number that a batch's `index` may have, its first version, shape (I + 1,).
        count: How many versions it has; 0 where none, such as galactic objects, shape (I + 1,).
        notes: What a user should know about them, in sentences.
    """

    curves: LightCurves
    redshift: np.ndarray
    condition: Tensor
    origin: np.ndarray
    begin: Tensor
    count: Tensor
    notes: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        curves: LightCurves,
        objects: pd.DataFrame,
        seed: int,
        views: int,
        cache: Path,
        reference: Callable[[LightCurves], np.ndarray],
    ) -> "Redshifted":
        """Makes versions of the training objects, or takes them from the last time.

        Args:
            curves: Of the training objects.
            objects: The same objects in the same order, with `photoz`, `specz`, `photoz_err`, `mwebv`, `galactic` and
                `ddf`. The index is what a batch's `index` says of them: rows of the catalog that they are taken from.
            seed: Of the random numbers.
            views: How many versions an object gets, at least 1.
            cache: Folder where versions are kept.
            reference: MJD of each object that batches count `time` from, shape (N,).

        Raises:
            UserError: If `views` is no whole number of at least 1.
        """
        if not isinstance(views, int) or views < 1:
            raise UserError(
                f"redshifts is {views}; it must be a whole number: how many versions each extragalactic object gets, "
                "or 0 for none."
            )
        parts = (curves.ids, curves.offsets, curves.mjd, curves.band, curves.flux, curves.error)
        known = objects[_OBJECT].to_numpy(np.float64)
        content = [sha256(part.tobytes()).hexdigest() for part in (*parts, known)]
        path = cache / "redshifted" / f"{digest([FORMAT, seed, views, *content])}.npz"
        if not path.is_file():
            with file_lock(path):
                if not path.is_file():
                    made = _made(curves, objects, seed, views)
                    with atomic_write(path) as draft:
                        np.savez(draft, **made)
        with np.load(path) as stored:
            found = dict(stored)
        owner, notes = found.pop("owner"), tuple(found.pop("notes").tolist())
        redshift, condition = found.pop("redshift"), torch.from_numpy(found.pop("condition"))
        moved = LightCurves(ids=np.asarray(curves.ids)[owner], **found)
        labels = torch.from_numpy(objects.index.to_numpy(np.int64).copy())
        counts = np.bincount(owner, minlength=len(objects))
        count = torch.zeros(int(labels.max()) + 2, dtype=torch.long)
        begin = torch.zeros_like(count)
        count[labels] = torch.from_numpy(counts)
        begin[labels] = torch.from_numpy(np.cumsum(counts) - counts)
        origin = reference(moved) if len(moved) else np.zeros(0)
        return cls(moved, redshift, condition, origin, begin, count, notes)

    def draw(self, index: Tensor) -> Tensor:
        """A random version of each object, or the object itself, all equally likely.

        Args:
            index: Rows of the catalog, shape (B,).

        Returns:
            Rows of `curves`, -1 for the object itself, shape (B,).
        """
        place = index.cpu().clamp(max=len(self.count) - 1)
        chosen = (torch.rand(len(place)) * (self.count[place] + 1)).long() - 1
        return torch.where(chosen < 0, -1, self.begin[place] + chosen)

    def padded(self, rows: Tensor) -> Batch:
        """Versions as a batch has them: `time`, `band`, `flux`, `error`, `mask`, `detected` and `condition`."""
        batch = self.curves.padded(rows.numpy())
        mjd = batch.pop("mjd") - torch.from_numpy(self.origin[rows.numpy()])[:, None]
        time = mjd.float().masked_fill(~batch["mask"], PADDING["time"])
        return batch | {"time": time, "condition": self.condition[rows]}

    def __call__(self, batch: Batch) -> Batch:
        """Puts versions in the place of objects, drawn from torch's global random numbers.

        Args:
            batch: As for `CurveAugment`, with `index`.

        Returns:
            The same, with columns as long as the longest curve needs.
        """
        rows = self.draw(batch["index"])
        moved = (rows >= 0).nonzero()[:, 0]
        if not len(moved):
            return dict(batch)
        versions = self.padded(rows[moved])
        device, longest = batch["flux"].device, max(batch["flux"].shape[1], versions["flux"].shape[1])
        view = dict(batch)
        for name, values in versions.items():
            if name == "condition":
                view[name] = batch[name].index_copy(0, moved.to(device), values.to(batch[name]))
                continue
            wide = batch[name].new_full((len(rows), longest), PADDING[name])
            wide[:, : batch[name].shape[1]] = batch[name]
            wide[moved.to(device)] = PADDING[name]
            wide[moved.to(device), : values.shape[1]] = values.to(wide)
            view[name] = wide
        return view


def _made(curves: LightCurves, objects: pd.DataFrame, seed: int, views: int) -> dict[str, Any]:
    """Versions of all extragalactic objects whose redshift is known.

    Returns:
        Columns of the light curves, `owner` (W,), `redshift` (W,), `condition` (W, 5) and `notes`.
    """
    outside = ~objects["galactic"].to_numpy(bool)
    specz, photoz = (objects[name].to_numpy(np.float64) for name in ("specz", "photoz"))
    start = np.where(specz > 0, specz, photoz)
    survey = Survey.measured(curves, objects)
    rows = np.flatnonzero(outside & (start > 0) & (len(survey.hosts) > 0))
    found: list[tuple[int, Version]] = []
    conditions = []
    unfitted = 0
    for row in track(rows, "Redshifting light curves", len(rows)):
        part = slice(curves.offsets[row], curves.offsets[row + 1])
        mjd, band, flux, error = (
            np.asarray(column[part]) for column in (curves.mjd, curves.band, curves.flux, curves.error)
        )
        # Of the object alone, so that the others that are fitted with it matter little.
        dice = np.random.default_rng(derive(seed, "redshift", int(curves.ids[row])))
        try:
            source = Source.fit(mjd, band, flux, error, float(start[row]))
        except np.linalg.LinAlgError:
            unfitted += 1
            continue
        dust = float(objects["mwebv"].iloc[row])
        for version in versions(source, band, bool(objects["ddf"].iloc[row]), survey, views, dice):
            found.append((int(row), version))
            measured, measured_err = survey.photoz(version.redshift, dice)
            smeared = dust * abs(dice.normal(1, 0.1))  # so that dust does not tell one object from the others
            conditions.append((measured, measured_err, smeared, 0, version.deep))
    lengths = [len(version.mjd) for _, version in found]
    columns = {
        name: np.concatenate([getattr(version, name) for _, version in found] or [np.zeros(0)]).astype(kind)
        for name, kind in (("mjd", "f8"), ("band", "i1"), ("flux", "f4"), ("error", "f4"), ("detected", "?"))
    }
    return columns | {
        "offsets": np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        "owner": np.array([row for row, _ in found], np.int64),
        "redshift": np.array([version.redshift for _, version in found], np.float64),
        "condition": np.array(conditions, np.float32).reshape(-1, 5),
        "notes": np.array(_notes(outside, specz, start, len(survey.hosts), unfitted, len(found)), np.str_),
    }


def _notes(
    outside: np.ndarray, specz: np.ndarray, start: np.ndarray, hosts: int, unfitted: int, found: int
) -> list[str]:
    """What a user should know: which objects start from a photometric redshift, and which have no versions, and why.

    Args:
        outside: Which objects are extragalactic, shape (N,).
        specz: Spectroscopic redshifts, shape (N,).
        start: The redshifts that are used, shape (N,).
        hosts: How many objects tell the errors of photometric redshifts.
        unfitted: How many objects no Gaussian process fits.
        found: How many versions there are.
    """
    total, notes = int(outside.sum()), []
    if total and not hosts:
        notes.append(
            "no extragalactic training object has both a spectroscopic and a photometric redshift, so the errors of "
            "photometric redshifts are not known."
        )
    elif count := int((outside & ~(specz > 0) & (start > 0)).sum()):
        notes.append(
            f"extragalactic training objects without a spectroscopic redshift above 0: {count:,} of {total:,}; their "
            "photometric redshift is where versions at other redshifts start from."
        )
    if count := int((outside & ~(start > 0)).sum()):
        notes.append(
            f"extragalactic training objects without any redshift above 0: {count:,} of {total:,}; they have no "
            "versions at other redshifts."
        )
    if unfitted:
        notes.append(
            f"extragalactic training objects that no Gaussian process fits: {unfitted:,} of {total:,}; they have no "
            "versions at other redshifts. Observations at almost the same time with errors close to 0 do this."
        )
    if not found:
        why = "has a version that the survey would detect" if total else "is extragalactic"
        notes.append(f"redshifts changes nothing here: no training object {why}.")
    return notes
