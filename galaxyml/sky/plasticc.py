"""Writes simulated light curves in the files of the Kaggle challenge PLAsTiCC."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd

from galaxyml.runs.errors import UserError
from galaxyml.runs.files import atomic_write
from galaxyml.runs.progress import track
from galaxyml.sky.light_curves.photometry import distance_modulus
from galaxyml.sky.light_curves.population import KINDS, KNOWN, UNKNOWN, member
from galaxyml.sky.writers import allot, begin, check

CURVES_HEADER = "object_id,mjd,passband,flux,flux_err,detected\n"
CURVES_ROW = "%d,%.4f,%d,%.6f,%.6f,%d\n"
# Columns of the metadata and their formats, as the challenge has them; NaN is written as nan.
METADATA = {
    "object_id": "%d",
    "ra": "%.6f",
    "decl": "%.6f",
    "gal_l": "%.6f",
    "gal_b": "%.6f",
    "ddf": "%d",
    "hostgal_specz": "%.4f",
    "hostgal_photoz": "%.4f",
    "hostgal_photoz_err": "%.4f",
    "distmod": "%.4f",
    "mwebv": "%.3f",
}
POSITION = ["ra", "decl", "ddf", "mwebv"]
FILES = {"train": "training_set", "test": "test_set"}
FARTHER = 1.08  # distance of the test objects over that of the training objects
FEW = 3  # objects of each unknown class, where that is no more than a fifth of the test objects
ALL_CLASSES, LEAST = 60, 2  # from so many training objects on, each class has at least so many
# Photometric redshifts: error over 1 + z of most, and its logarithm's spread; share of those that are far off, which
# lie anywhere up to `OFF_TO`, and their error.
PHOTOZ, PHOTOZ_SPREAD, OFF, OFF_TO, OFF_ERROR = 0.018, 0.5, 0.1, 3.0, 0.6
SPECTRA = 0.03  # share of the test objects' hosts with a spectrum


def write_plasticc(
    folder: Path | str, count: int, seed: int, test_count: int | None = None, unknown: float = 0.05
) -> None:
    """Writes a folder with light curves and metadata as the challenge has them, and the truth.

    Files: `training_set.csv`, `training_set_metadata.csv`, `test_set.csv`, `test_set_metadata.csv`; beyond these
    `test_set_truth.csv` (object_id, true_target) and `truth.csv` (all objects, with every parameter of their models).
    Fluxes and their errors are corrected for the Milky Way's dust, and objects have two detections or more, as in the
    challenge. Unlike there, training objects are no bright sample: both sets have known classes in the proportions
    of the challenge's training set and the same share in the deep fields; test objects are 8 percent farther.

    Args:
        folder: Appears when all is written, or not at all; one that exists already is kept as it is.
        count: Training objects, of the 14 known classes; each class has 2 or more if there are 60 or more.
        seed: Of all of it.
        test_count: Test objects; None for twice as many.
        unknown: Share of the test objects that are of the classes 991 to 994, a quarter each; if it is not 0, each
            class has at least 3, or all together a fifth of the test objects if that is less.

    Raises:
        UserError: If a number is too small, or the share is none.
    """
    wanted = 2 * count if test_count is None else test_count
    check(count=(count, 1), seed=(seed, 0), test_count=(wanted, 1))
    if not 0 <= unknown <= 1:
        raise UserError(f"simulate.unknown={unknown}: it must be a share, 0 to 1.")
    plan = catalogue(count, wanted, unknown, seed)
    with atomic_write(Path(folder)) as draft:
        begin(draft)
        drawn = _write_curves(draft, plan, seed)
        truth = plan.drop(columns="number").join(drawn.drop(columns=POSITION))
        truth.to_csv(draft / "truth.csv", index=False)
        table = metadata(plan, drawn, seed)
        for split, name in FILES.items():
            rows, formats = table[plan.file == split], METADATA | ({"target": "%d"} if split == "train" else {})
            written = {column: [pattern % value for value in rows[column]] for column, pattern in formats.items()}
            pd.DataFrame(written).to_csv(draft / f"{name}_metadata.csv", index=False)
        test = truth[truth.file == "test"]
        test[["object_id", "true_target"]].to_csv(draft / "test_set_truth.csv", index=False)


def catalogue(objects: int, test_objects: int, unknown: float, seed: int) -> pd.DataFrame:
    """The objects to draw: `object_id`, `true_target`, `file` (train or test) and `number` within class and file.

    A share `unknown` of the test objects is of no known class. One row an object, by ascending id, which tells nothing
    of the class.
    """
    frequencies = [KINDS[number].training for number in KNOWN]
    strange = round(unknown * test_objects)
    if unknown > 0:
        strange = max(strange, min(FEW * len(UNKNOWN), test_objects // 5))
    counts = {
        "train": dict(zip(KNOWN, allot(objects, frequencies, LEAST if objects >= ALL_CLASSES else 0), strict=True)),
        "test": dict(zip(KNOWN, allot(test_objects - strange, frequencies), strict=True))
        | dict(zip(UNKNOWN, allot(strange, [1] * len(UNKNOWN)), strict=True)),
    }
    rows = [
        (target, file, number)
        for file, by_class in counts.items()
        for target, count in by_class.items()
        for number in range(count)
    ]
    rng = np.random.default_rng([seed, 30])
    ids = 1 + rng.choice(max(10_000_000, 10 * len(rows)), len(rows), replace=False)
    plan = pd.DataFrame(rows, columns=["true_target", "file", "number"])
    plan.insert(0, "object_id", ids)
    return plan.sort_values("object_id", ignore_index=True)


def metadata(plan: pd.DataFrame, drawn: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Metadata of the objects, known without their light curves, one row an object, with the columns of the challenge.

    Args:
        plan: The `catalogue`.
        drawn: `ra`, `decl` (degrees), `ddf`, `mwebv` and the true `redshift` of its objects, in its order.
        seed: Of the errors of photometric redshifts.
    """
    redshift = drawn.redshift.to_numpy()
    from astropy import units
    from astropy.coordinates import SkyCoord

    galactic = SkyCoord(drawn.ra.to_numpy() * units.deg, drawn.decl.to_numpy() * units.deg).galactic
    photoz, photoz_err, unseen = photometric(redshift, seed)
    inside = redshift == 0
    # Distances are those of the photometric redshifts, as in the challenge.
    distmod = np.where(inside, np.nan, distance_modulus(np.where(inside, 1.0, photoz)))
    specz = np.where((plan.file == "test") & unseen, np.nan, redshift)
    return drawn[POSITION].assign(
        object_id=plan.object_id,
        target=plan.true_target,
        gal_l=galactic.l.deg,
        gal_b=galactic.b.deg,
        hostgal_specz=specz,
        hostgal_photoz=photoz,
        hostgal_photoz_err=photoz_err,
        distmod=distmod,
    )


def photometric(redshift: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photometric redshifts of hosts, their errors, and which hosts have no spectrum where few have; each shape (N,).

    A true redshift of 0 stays 0 with error 0.
    """
    rng = np.random.default_rng([seed, 31])
    n = len(redshift)
    off = rng.random(n) < OFF
    error = np.where(off, OFF_ERROR, PHOTOZ * (1 + redshift)) * rng.lognormal(0, PHOTOZ_SPREAD, n)
    photoz = np.where(off, rng.uniform(0, OFF_TO, n), np.abs(redshift + error * rng.standard_normal(n)))
    outside = redshift > 0
    # A redshift that is written as 0 would say that the object is within the Galaxy.
    return np.where(outside, np.maximum(photoz, 0.002), 0.0), np.where(outside, error, 0.0), rng.random(n) > SPECTRA


def _write_curves(draft: Path, plan: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Draws all objects, each with random numbers of its own, and writes their light curves.

    Returns:
        One row an object: the columns `POSITION` and the parameters of all models, NaN where a model has others.
    """
    drawn = []
    with ExitStack() as stack:
        files = {
            split: stack.enter_context((draft / f"{name}.csv").open("w", encoding="utf-8"))
            for split, name in FILES.items()
        }
        for file in files.values():
            file.write(CURVES_HEADER)
        rows = zip(plan.object_id, plan.true_target, plan.file, plan.number, strict=True)
        for object_id, target, split, number in track(rows, "Drawing light curves", len(plan)):
            rng = np.random.default_rng([seed, 32, target, split == "test", number])
            source = member(target, rng, FARTHER if split == "test" else 1.0)
            curve = source.curve
            columns = (curve.mjd, curve.band, curve.flux, curve.flux_err, curve.detected)
            observations = zip(*(column.tolist() for column in columns), strict=True)
            files[split].writelines(CURVES_ROW % (object_id, *observation) for observation in observations)
            position = {"ra": source.ra, "decl": source.decl, "ddf": source.deep, "mwebv": source.mwebv}
            drawn.append(position | source.parameters)
    return pd.DataFrame(drawn)
