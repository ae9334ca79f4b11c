"""Writers of light curves in the forms of surveys, from PLAsTiCC's two tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits

BANDS = "ugrizy"
Write = Callable[[Path, pd.DataFrame, pd.DataFrame], None]


def letters(curves: pd.DataFrame) -> list[str]:
    return [BANDS[number] for number in curves["passband"]]


def magnitudes(curves: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """AB magnitudes of FLUXCAL, and their errors (Pogson 1856)."""
    flux = curves["flux"].abs().to_numpy()
    return 27.5 - 2.5 * np.log10(flux), 2.5 / np.log(10) * curves["flux_err"].to_numpy() / flux


def ztf_name(object_id: int) -> str:
    return f"ZTF18a{object_id:07d}"


def alerce(folder: Path, curves: pd.DataFrame, metadata: pd.DataFrame) -> None:
    """Detections as ALeRCE's client gives them; every second object is corrected, and there are no other columns."""
    mag, error = magnitudes(curves)
    corrected = (curves["object_id"] % 2 == 0) & (curves["flux"] > 0)
    pd.DataFrame(
        {
            "oid": curves["object_id"].map(ztf_name),
            "mjd": curves["mjd"],
            "candid": [str(1_000_000_000_000 + row) for row in range(len(curves))],
            "fid": curves["passband"],  # 1 g, 2 r, 3 i
            "diffmaglim": 20.5,
            "isdiffpos": np.where(curves["flux"] > 0, 1, -1),
            "magpsf": np.where(corrected, mag + 1, mag),
            "sigmapsf": error,
            "magpsf_corr": np.where(corrected, mag, 100),
            "sigmapsf_corr": np.where(corrected, error, 100),
            "corrected": corrected,
            "dubious": False,
        }
    ).to_csv(folder / "detections.csv", index=False)


def irsa(folder: Path, curves: pd.DataFrame, metadata: pd.DataFrame) -> None:
    """ZTF's light curves from IRSA, a file an object."""
    mag, error = magnitudes(curves)
    table = pd.DataFrame(
        {
            "oid": curves["object_id"],
            "expid": range(len(curves)),
            "hjd": curves["mjd"] + 2_400_000.5 + 0.003,
            "mjd": curves["mjd"],
            "mag": mag,
            "magerr": error,
            "catflags": 0,
            "filtercode": [f"z{letter}" for letter in letters(curves)],
            "ra": 12.5,
            "dec": 3.25,
            "limitmag": 20.5,
            "programid": 1,
        }
    )
    for name, rows in table.groupby("oid"):
        rows.to_csv(folder / f"field_{name}.csv", index=False)


def ztf_release(folder: Path, curves: pd.DataFrame, metadata: pd.DataFrame) -> None:
    """ZTF's data releases: a row an object and band, with lists."""
    mag, error = magnitudes(curves)
    table = curves.assign(mag=mag, magerr=error, catflags=0, hmjd=curves["mjd"])
    rows = [
        {
            "objectid": object_id,
            "filterid": band,
            "objra": 12.5,
            "objdec": 3.25,
            "nepochs": len(some),
            **{name: some[name].tolist() for name in ("hmjd", "mag", "magerr", "catflags")},
        }
        for (object_id, band), some in table.groupby(["object_id", "passband"])
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "ztf_000202_zg.parquet")


def antares(folder: Path, curves: pd.DataFrame, metadata: pd.DataFrame) -> None:
    """Light curves of ANTARES' loci, a file each; its R is ZTF's r."""
    mag, error = magnitudes(curves)
    names = {1: "g", 2: "R", 3: "i"}
    table = pd.DataFrame(
        {
            "alert_id": [f"ztf_candidate:{row}" for row in range(len(curves))],
            "ant_mjd": curves["mjd"],
            "ant_survey": 1,
            "ant_passband": curves["passband"].map(names),
            "ant_mag": mag,
            "ant_magerr": error,
            "ant_maglim": 20.5,
        }
    )
    for name, rows in table.groupby(curves["object_id"]):
        limit = rows.head(1).assign(
            ant_survey=2, ant_mag=np.nan, ant_magerr=np.nan, ant_mjd=lambda t: t["ant_mjd"] + 0.1
        )
        pd.concat([rows, limit]).to_csv(folder / f"ANT2020{name:07d}.csv", index=False)


def snana(folder: Path, curves: pd.DataFrame, metadata: pd.DataFrame) -> None:
    """SNANA's two files: pointers from 1 and inclusive, a separator after each object, -9 for no redshift."""
    parts, heads, row = [], [], 0
    known = metadata.set_index("object_id")
    for object_id, some in curves.groupby("object_id", sort=False):
        host = known.loc[object_id]
        photoz, its_error = (host[name] if np.isfinite(host["hostgal_photoz"]) else -9 for name in
                             ("hostgal_photoz", "hostgal_photoz_err"))  # fmt: skip
        heads.append((str(object_id), row + 1, row + len(some), host["mwebv"], photoz, its_error))
        parts += list(zip(some["mjd"], letters(some), some["flux"], some["flux_err"], strict=True))
        parts.append((-777.0, "-", -777.0, -777.0))
        row += len(some) + 1
    snid, first, last, mwebv, photoz, photoz_err = zip(*heads, strict=True)
    columns: list[tuple[str, str, Any]] = [
        ("SNID", "16A", snid),
        ("RA", "D", [12.5] * len(snid)),
        ("DEC", "D", [3.25] * len(snid)),
        ("SNTYPE", "J", [0] * len(snid)),
        ("PTROBS_MIN", "J", first),
        ("PTROBS_MAX", "J", last),
        ("MWEBV", "E", mwebv),
        ("HOSTGAL_PHOTOZ", "E", photoz),
        ("HOSTGAL_PHOTOZ_ERR", "E", photoz_err),
        ("REDSHIFT_FINAL", "E", [-9.0] * len(snid)),
        ("REDSHIFT_FINAL_ERR", "E", [-9.0] * len(snid)),
    ]
    _fits_table(columns, folder / "NIGHT-01_HEAD.FITS.gz")
    mjd, band, flux, error = zip(*parts, strict=True)
    phot: list[tuple[str, str, Any]] = [
        ("MJD", "D", mjd), ("BAND", "4A", band), ("FLUXCAL", "E", flux), ("FLUXCALERR", "E", error)
    ]  # fmt: skip
    _fits_table(phot, folder / "NIGHT-01_PHOT.FITS.gz")


def _fits_table(columns: list[tuple[str, str, Any]], path: Path) -> None:
    made = [fits.Column(name, format=kind, array=np.array(values)) for name, kind, values in columns]
    fits.BinTableHDU.from_columns(made).writeto(path)


def rubin(folder: Path, curves: pd.DataFrame, metadata: pd.DataFrame) -> None:
    """DiaSource of Rubin's data preview 1: difference fluxes in nJy."""
    nanojansky = 10 ** (0.4 * (31.4 - 27.5))
    table = {
        "diaSourceId": np.arange(len(curves)),
        "diaObjectId": curves["object_id"],
        "visit": np.arange(len(curves)),
        "band": letters(curves),
        "midpointMjdTai": curves["mjd"],
        "ra": 12.5,
        "dec": 3.25,
        "psfFlux": (curves["flux"] * nanojansky).astype(np.float32),
        "psfFluxErr": (curves["flux_err"] * nanojansky).astype(np.float32),
        "apFlux": np.float32(1),
        "snr": np.float32(1),
    }
    pd.DataFrame(table).to_parquet(folder / "DiaSource.parquet")


def julian(folder: Path, curves: pd.DataFrame, metadata: pd.DataFrame) -> None:
    """A table of nobody's, by semicolons, in JD."""
    table = {
        "SNID": curves["object_id"],
        "JD": curves["mjd"] + 2_400_000.5,
        "filter": [f"LSST-{letter}" for letter in letters(curves)],
        "Flux": curves["flux"],
        "FluxErr": curves["flux_err"],
    }
    pd.DataFrame(table).to_csv(folder / "night.csv", index=False, sep=";")


# Writers, and the passbands that they have; and whether fluxes may be negative.
FORMS: dict[str, tuple[Write, tuple[int, ...], bool]] = {
    "ALeRCE": (alerce, (1, 2, 3), True),
    "IRSA": (irsa, (1, 2, 3), False),
    "ZTF's data release": (ztf_release, (1, 2, 3), False),
    "ANTARES": (antares, (1, 2, 3), False),
    "SNANA": (snana, (0, 1, 2, 3, 4, 5), True),
    "Rubin": (rubin, (0, 1, 2, 3, 4, 5), True),
    "JD": (julian, (0, 1, 2, 3, 4, 5), True),
}


def in_form(form: str, folder: Path, curves: pd.DataFrame, metadata: pd.DataFrame) -> pd.DataFrame:
    """Writes what a form can say of PLAsTiCC's observations, and gives these."""
    write, bands, signed = FORMS[form]
    said = curves[curves["passband"].isin(bands) & (signed | (curves["flux"] > 0))].reset_index(drop=True)
    folder.mkdir(parents=True)
    write(folder, said, metadata)
    return said.assign(detected=(said["flux"] >= 5 * said["flux_err"]).astype(int))
