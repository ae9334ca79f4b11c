"""Light curves by the names that surveys give to columns, in PLAsTiCC's units: FLUXCAL, MJD, passbands ugrizy."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import torch
import yaml

from galaxyml.data.light_curves.features import ZERO_POINT
from galaxyml.data.light_curves.inputs import distance_modulus
from galaxyml.data.light_curves.reader import BANDS, MJD, Rows
from galaxyml.data.light_curves.survey_tables import SurveyTable
from galaxyml.data.tables.plasticc import CLASSES, OTHER
from galaxyml.data.tables.reading import CORRECT, more, shown
from galaxyml.runs.errors import DataError, UsageError, did_you_mean, shorten

NAMES: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("surveys.yaml").read_text(encoding="utf-8"))
KEYS = ("object", "time", "band", "flux", "flux_err", "mag", "mag_err", "detected")  # of what users say
KEYS_OF_OBJECTS = ("redshift", "redshift_err", "mwebv", "ddf", "class")
DETECTED = 5.0  # flux in units of its error above which an object counts as detected, where a table does not say
OBJECT_COLUMNS = ("photoz", "photoz_err", "specz", "distmod", "mwebv", "ddf", "ra", "dec")
_OF_OBJECTS = ("specz", "distmod", "mwebv", "ddf", "ra", "dec", "class")
_JD = 2_400_000.5
_FAINTEST = 90.0  # magnitudes; catalogues write 99, 100 or -999 where there is none
_EMPTY = ("", "nan", "none", "null", "na", "n/a", "<na>", "--")
_BAND = re.compile(r"(?:(?:lsst|ztf|sdss|des|decam|ps1|panstarrs)[ _.:-]*)?([ugrizyY])|z([gri])", re.IGNORECASE)
_SIGNS = dict.fromkeys(("1", "1.0", "t", "true", "+"), 1.0) | dict.fromkeys(
    ("-1", "-1.0", "0", "0.0", "f", "false", "-"), -1.0
)
SAY = (
    "Say what columns are by curves.columns={time: BJD, flux: counts, …} "
    "(galaxyml predict: --columns time=BJD,flux=counts)"
)


@dataclass(frozen=True)
class CurveNames:
    """What a user says of tables whose names are not known.

    Args:
        columns: Names of columns by what they are: `object`, `time` (MJD or JD), `band`, `flux` and `flux_err`, or
            `mag` and `mag_err`, `detected`; and of objects `redshift`, `redshift_err`, `mwebv`, `ddf`, `class`.
        bands: One of u, g, r, i, z, y for each name of a passband; None to leave its observations out.
        zero_point: AB magnitude of a flux of 1; None for what is known of the columns.

    Raises:
        UsageError: If a key or a value is not allowed.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    bands: Mapping[str, str | None] = field(default_factory=dict)
    zero_point: float | None = None

    def __post_init__(self) -> None:
        keys = (*KEYS, *KEYS_OF_OBJECTS)
        if wrong := [key for key in self.columns if key not in keys]:
            raise UsageError(f"curves.columns has the key '{wrong[0]}'. {did_you_mean(wrong[0], keys)}")
        if wrong := [name for name, band in self.bands.items() if band is not None and band not in BANDS]:
            raise UsageError(
                f"curves.bands={{{wrong[0]}: {self.bands[wrong[0]]}}}: a passband is one of {', '.join(BANDS)}, or "
                "null to leave its observations out."
            )
        if self.zero_point is not None and not (
            isinstance(self.zero_point, int | float) and np.isfinite(self.zero_point)
        ):
            raise UsageError(f"curves.zero_point={self.zero_point}: it must be a number, the magnitude of a flux of 1.")
        if "flux" in self.columns and "mag" in self.columns:
            raise UsageError("curves.columns has flux and mag; light curves are read from one of them.")

    def wanted(self) -> frozenset[str]:
        """Names of all columns that may be used, in small letters."""
        names = {name.lower() for name in _leaves(NAMES)}
        return frozenset(names | {str(name).lower() for name in self.columns.values()})


def curve_names(
    columns: Mapping[str, Any] | None = None, bands: Mapping[Any, Any] | None = None, zero_point: float | None = None
) -> CurveNames:
    """`CurveNames` from what configurations and command lines hold; None where nothing is said.

    Raises:
        UsageError: If a key or a value is not allowed.
    """
    if empty := [key for key, name in (columns or {}).items() if name is None]:
        raise UsageError(f"curves.columns: {empty[0]} has no name. Give the column's, or leave {empty[0]} out.")
    return CurveNames(
        {str(key): str(name) for key, name in (columns or {}).items()},
        {str(name): None if band is None else str(band) for name, band in (bands or {}).items()},
        zero_point,
    )


def _text(value: Any) -> str:
    """A cell as text, whole numbers without a point."""
    number = float(value) if isinstance(value, float | np.floating) else np.nan
    return str(int(number)) if abs(number) < 2**53 and number == round(number) else str(value).strip()


def _leaves(entry: Any) -> Iterable[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, Mapping):
        for value in entry.values():
            yield from _leaves(value)
    elif isinstance(entry, list):
        for value in entry:
            yield from _leaves(value)


@dataclass
class Interpreted:
    """What had to be interpreted, for a sentence to the user."""

    times: set[str] = field(default_factory=set)
    bands: set[str] = field(default_factory=set)
    brightness: dict[str, None] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    used: set[str] = field(default_factory=set)  # keys of `CurveNames.columns`
    observations: int = 0
    guessed: bool = False
    skipped: list[str] = field(default_factory=list)

    def note(self, where: str, objects: pd.DataFrame) -> str:
        """One line of all of it."""
        said = [
            f"{where}: {self.observations:,} observations of {len(objects):,} objects",
            f"in {', '.join(self.times)} and {', '.join(sorted(self.bands, key=BANDS.index))}",
            f"from {' and '.join(self.brightness)}, as FLUXCAL (zero point {ZERO_POINT:g})",
        ]
        parts = [" ".join(said)]
        if self.guessed:
            parts.append(f"detected where the flux is {DETECTED:g} times its error or more")
        if self.left_out:
            reasons = [f"{count:,} {why}" for why, count in self.left_out.most_common()]
            parts.append(f"left out: {', '.join(reasons)}")
        missing = [f"{called} of {int(lacks):,} objects" for called, lacks in _lacking(objects) if lacks]
        if missing:
            parts.append(f"not given, and taken as 0: {', '.join(missing)}")
        if self.skipped:
            parts.append(f"no light curves, and not read: {shorten(self.skipped)}")
        return "; ".join(parts) + "."


def _lacking(objects: pd.DataFrame) -> list[tuple[str, int]]:
    return [("E(B-V)", objects["mwebv"].isna().sum()), ("ddf", objects["ddf"].isna().sum())]


@dataclass(frozen=True)
class SurveyCurves:
    """Light curves and objects in the units of PLAsTiCC.

    Attributes:
        rows: As `COLUMNS` has them, in any order.
        objects: One row an object that has observations, by ascending `id`: `name`, `class` ('' where not known), and
            `OBJECT_COLUMNS`, NaN where not known.
        note: What had to be interpreted, in one line.
    """

    rows: Rows
    objects: pd.DataFrame
    note: str


def read_curves(tables: Iterable[SurveyTable], names: CurveNames, where: str) -> SurveyCurves:
    """Light curves from tables of any of the known forms.

    Ids are the objects' names where all are whole numbers, and otherwise their places among all names.

    Args:
        tables: Of observations, and of objects.
        names: What the user says of them.
        where: What the tables are called in messages.

    Raises:
        DataError: If no table has observations, or a value is not allowed; the message names file, row, column and
            value.
    """
    told = Interpreted()
    numbers: dict[str, int] = {}
    rows: list[Rows] = []
    objects: list[pd.DataFrame] = []
    others: list[tuple[SurveyTable, str]] = []
    seen: set[str] = set()
    for table in tables:
        seen |= set(table.columns)
        columns = Columns(table, names, told)
        if lacks := columns.lacks():
            known = columns.objects()
            objects += [] if known is None else [known.assign(order=0)]
            others += [(table, lacks)] if known is None else []
        else:
            rows.append(columns.observations(numbers))
            known = columns.objects()
            objects += [] if known is None else [known.assign(order=1)]
    if absent := [f"{key}: {name}" for key, name in names.columns.items() if key not in told.used]:
        name = absent[0].partition(": ")[2]
        raise DataError(
            f"{where}: no table has a column '{name}' (curves.columns={{{absent[0]}}}). {did_you_mean(name, seen)}"
        )
    told.skipped = [table.path.name for table, _ in others]
    if not rows:
        raise DataError(others[0][1] if others else f"{where}: no table has observations.")
    joined = {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}
    if not len(joined["object"]):
        raise DataError(f"{where}: no observation is left. Left out: {_counts(told.left_out)}.")
    return _finished(joined, numbers, objects, told, where)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {why}" for why, count in counter.most_common()) or "none"


def _finished(
    rows: Rows, numbers: Mapping[str, int], tables: Sequence[pd.DataFrame], told: Interpreted, where: str
) -> SurveyCurves:
    """Whole numbers for objects in the order of their names, and what is known of each."""
    used = np.unique(rows["object"])
    names = np.array(list(numbers), dtype=object)[used]
    whole = all(re.fullmatch(r"0|[1-9]\d{0,17}", name) for name in names)
    ids = names.astype(np.int64) if whole else np.argsort(np.argsort(names.astype(str), kind="stable")) + 1
    rows["object"] = ids[np.searchsorted(used, rows["object"])]
    order = np.argsort(ids)
    objects = pd.DataFrame({"id": ids[order], "name": names[order]})
    columns = [*OBJECT_COLUMNS, "class"]
    known = (
        pd.concat(tables).sort_values("order", kind="stable")
        if tables
        else pd.DataFrame({"name": pd.Series(dtype=object)})
    )
    first = known.reindex(columns=["name", *columns]).groupby("name", sort=False).first()
    objects = objects.join(first, on="name")
    objects["class"] = objects["class"].astype(object).where(objects["class"].notna(), "")
    objects[list(OBJECT_COLUMNS)] = objects[list(OBJECT_COLUMNS)].astype(np.float64)
    lacks = objects["distmod"].isna() & (objects["photoz"] > 0)
    redshifts = torch.tensor(objects.loc[lacks, "photoz"].tolist(), dtype=torch.float64)
    objects.loc[lacks, "distmod"] = distance_modulus(redshifts).numpy()
    told.observations = len(rows["object"])
    return SurveyCurves(rows, objects, told.note(where, objects))


class Columns:
    """A table's columns by what they are.

    Args:
        table: The table.
        names: What the user says.
        told: Gets what is interpreted.
    """

    def __init__(self, table: SurveyTable, names: CurveNames, told: Interpreted) -> None:
        self.table, self.names, self.told = table, names, told
        self.by_name = {name.lower(): name for name in reversed(list(table.frame.columns))}
        self.frame = table.frame
        self.object = self._find("object", NAMES["object"])
        self.time = self._find("time", NAMES["time"])
        codes: dict[str, dict[str, str]] = {entry["column"]: entry.get("codes", {}) for entry in NAMES["band"]}
        self.band = self._find("band", list(codes))
        self.codes = next((codes[name] for name in codes if self.band and name == self.band.lower()), {})
        self.brightness = self._brightness()

    def _find(self, key: str, known: Sequence[str]) -> str | None:
        """The column that is something, by the user's word or else by a known name."""
        said = self.names.columns.get(key)
        if said is not None and str(said).lower() in self.by_name:
            self.told.used.add(key)
            return self.by_name[str(said).lower()]
        if said is not None:
            return None
        return next((self.by_name[name.lower()] for name in known if name.lower() in self.by_name), None)

    def _brightness(self) -> dict[str, Any] | None:
        """Fluxes or magnitudes, their errors, and what they mean."""
        for kind in ("flux", "mag"):
            if kind in self.names.columns:
                value, key = self._find(kind, []), f"{kind}_err"
                errors = [name for entry in NAMES["brightness"] if kind in entry for name in entry["error"]]
                error = self._find(key, [*errors, f"{self.names.columns[kind]}_err"])
                if value is None or error is None:
                    return None
                units = {"zero_point": ZERO_POINT} if kind == "flux" else {}
                return {
                    "what": f"{value} ({'fluxes' if kind == 'flux' else 'magnitudes'})",
                    kind: value,
                    "error": error,
                } | units
        for entry in NAMES["brightness"]:
            kind = "flux" if "flux" in entry else "mag"
            value, error = (self._find(key, entry[name]) for key, name in ((kind, kind), (f"{kind}_err", "error")))
            if value is not None and error is not None:
                return {**entry, kind: value, "error": error}
        return None

    def lacks(self) -> str:
        """A sentence on what a table of observations has, and this one lacks; '' if it has all of it."""
        path, has = self.table.path, f"it has {shorten(list(self.table.columns), shown=12)}"
        if self.brightness is None:
            flux = [name for entry in NAMES["brightness"] for name in entry.get("flux", entry.get("mag"))]
            known = ", ".join(dict.fromkeys(flux))
            return f"{path}: no fluxes or magnitudes with their errors ({known}); {has}. {SAY}."
        if self.time is None:
            if any(name in self.by_name for name in NAMES["visit"]):
                return (
                    f"{path}: there is no time; {has}. Forced photometry has the visit instead: join its table with "
                    "Visit by visit, to have expMidptMJD."
                )
            return f"{path}: no column of times ({', '.join(NAMES['time'])}); {has}. {SAY}."
        if self.band is None:
            known = ", ".join(entry["column"] for entry in NAMES["band"])
            return f"{path}: no column of passbands ({known}); {has}. {SAY}."
        if self.object is None and not self.table.object:
            return f"{path}: no column of the objects' names ({', '.join(NAMES['object'])}); {has}. {SAY}."
        return ""

    # --- observations

    def observations(self, numbers: dict[str, int]) -> Rows:
        """The observations of a table.

        Args:
            numbers: A number for each name of an object that occurred so far; gets new ones.
        """
        assert self.time is not None
        assert self.brightness is not None
        time = self.numbers(self.time)
        flux, error, unmeasured = self._fluxes(self.brightness)
        band, dropped = self._bands()
        keep = np.ones(len(time), bool)
        reasons = {"separators": np.isin(time, NAMES["separators"]), "": np.isnan(time) & np.isnan(flux)}
        for rule in NAMES["left_out"]:
            if (column := self.by_name.get(rule["column"])) is not None:
                values = np.nan_to_num(self.numbers(column)).astype(np.int64)
                flagged = (values & rule["bits"]) > 0 if "bits" in rule else values == rule["equals"]
                reasons[rule["why"]] = flagged
        reasons |= {f"in {name}": mask for name, mask in dropped.items()} | {
            unmeasured: np.isnan(flux) | np.isnan(error)
        }
        for why, mask in reasons.items():
            count = int((mask & keep).sum())
            if count and why not in ("separators", ""):
                self.told.left_out[why] += count
            keep &= ~mask
        julian = bool(keep.any() and np.nanmedian(time[keep]) > MJD[0] + _JD)
        mjd = np.round(time - _JD, 8) if julian else time
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            small_flux, small_error = flux.astype(np.float32), error.astype(np.float32)
        self._check(
            ~((mjd >= MJD[0]) & (mjd <= MJD[1])) & keep, self.time, f"an MJD from {MJD[0]:,} to {MJD[1]:,}, or a JD"
        )
        self._check((band < 0) & keep, str(self.band), self._allowed_bands())
        value = str(self.brightness.get("flux", self.brightness.get("mag")))
        self._check(~np.isfinite(small_flux) & keep, value, "a finite number")
        self._check(
            ~(np.isfinite(small_error) & (small_error > 0)) & keep, self.brightness["error"], "a finite number above 0"
        )
        detected = self._detected(flux, error)
        objects = self._objects(numbers, keep)
        self.told.times.add(f"{self.time} ({'JD' if julian else 'MJD'})")
        self.told.bands |= {BANDS[number] for number in np.unique(band[keep])}
        self.told.brightness[self._described(self.brightness)] = None
        return {
            "object": objects,
            "mjd": mjd[keep],
            "band": band[keep].astype(np.int8),
            "flux": small_flux[keep],
            "error": small_error[keep],
            "detected": detected[keep],
        }

    def _fluxes(self, entry: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, str]:
        """Fluxes and errors in FLUXCAL units, shape (N,) each, and what it means if one is missing."""
        if "flux" in entry:
            zero_point = self.names.zero_point if self.names.zero_point is not None else entry["zero_point"]
            column = next((self.by_name[name] for name in entry.get("zero_points", ()) if name in self.by_name), None)
            zero_points = zero_point if column is None or self.names.zero_point is not None else self.numbers(column)
            factor = 10 ** (0.4 * (ZERO_POINT - np.asarray(zero_points)))
            return (
                self.numbers(entry["flux"]) * factor,
                self.numbers(entry["error"]) * factor,
                "without a flux or its error",
            )
        if self.names.zero_point is not None:
            raise DataError(
                f"{self.table.path}: curves.zero_point is of fluxes, and {entry['mag']} are magnitudes. Leave it out."
            )
        magnitude, error = self.numbers(entry["mag"]), self.numbers(entry["error"])
        sign: np.ndarray = np.ones(len(magnitude))
        if (column := self.by_name.get(entry.get("sign", ""))) is not None:
            texts = self.texts(column).str.lower()
            sign = texts.map(_SIGNS).to_numpy(float)
            self._check(np.isnan(sign) & ~np.isnan(magnitude), column, "1 or -1, t or f")
        better = entry.get("corrected")
        if better is not None and {better["where"], better["mag"], better["error"]} <= set(self.by_name):
            total, its_error = (self.numbers(self.by_name[better[name]]) for name in ("mag", "error"))
            corrected = self.texts(self.by_name[better["where"]]).str.lower().map(_SIGNS).to_numpy(float) > 0
            corrected &= (total < _FAINTEST) & (its_error < _FAINTEST)
            magnitude, error = np.where(corrected, total, magnitude), np.where(corrected, its_error, error)
            sign = np.where(corrected, 1.0, sign)
        magnitude = np.where(np.abs(magnitude) < _FAINTEST, magnitude, np.nan)
        flux = 10 ** (0.4 * (ZERO_POINT - magnitude))
        return sign * flux, flux * error * np.log(10) / 2.5, "upper limits (no magnitude)"

    def _described(self, entry: Mapping[str, Any]) -> str:
        if "flux" not in entry or self.names.zero_point is None:
            return str(entry["what"])
        return f"{entry['flux']} (fluxes, zero point {self.names.zero_point:g})"

    def _bands(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Numbers of passbands, -1 for unknown ones, and where those stand that the user leaves out."""
        names = self.texts(str(self.band)).str.replace(r"^(-?\d+)\.0*$", r"\1", regex=True)
        codes, spellings = pd.factorize(names)
        said = {str(name): band for name, band in self.names.bands.items()}
        numbers = np.array([self._band(spelling, said) for spelling in spellings], np.int64)
        dropped = {str(name): (names == str(name)).to_numpy() for name, band in said.items() if band is None}
        return numbers[codes] if len(numbers) else np.zeros(0, np.int64), {k: m for k, m in dropped.items() if m.any()}

    def _band(self, spelling: str, said: Mapping[str, str | None]) -> int:
        if spelling in said:
            return BANDS.index(str(said[spelling])) if said[spelling] is not None else -1
        known = {str(code): band for code, band in self.codes.items()}
        if spelling in known:
            return BANDS.index(known[spelling])
        found = _BAND.fullmatch(spelling)
        letter = (found[1] or found[2].lower()) if found else ""
        # R and I alone are other passbands than r and i; Y and y are LSST's.
        return BANDS.index(letter.lower()) if letter and (letter in BANDS or letter == "Y") else -1

    def _allowed_bands(self) -> str:
        codes = f" or {', '.join(f'{code} ({band})' for code, band in self.codes.items())}" if self.codes else ""
        return (
            f"one of {', '.join(BANDS)}, alone or as in ZTF_g, zg and lsstg{codes}; or say which of these it is by "
            "curves.bands={V: g} (galaxyml predict: --bands V=g; V= leaves its observations out)"
        )

    def _detected(self, flux: np.ndarray, error: np.ndarray) -> np.ndarray:
        column = self._find("detected", NAMES["detected"])
        if column is None:
            self.told.guessed = True
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.asarray(flux / error >= DETECTED)
        values = self.texts(column).str.lower().map(_SIGNS).to_numpy(float)
        self._check(np.isnan(values), column, "0 or 1")
        return values > 0

    def _objects(self, numbers: dict[str, int], keep: np.ndarray) -> np.ndarray:
        names = self._names()[keep]
        codes, uniques = pd.factorize(names)
        return np.array([numbers.setdefault(name, len(numbers)) for name in uniques], np.int64)[codes]

    def _names(self) -> np.ndarray:
        """Names of objects, of all rows."""
        if self.object is None:
            return np.full(len(self.frame), self.table.object, dtype=object)
        names = self.texts(self.object).str.replace(r"^(\d+)\.0*$", r"\1", regex=True)
        lost = names.str.fullmatch(r"[\d.]+e\+?\d+", case=False)
        self._check(lost.to_numpy(bool), self.object, "a whole number or a name; as a float it has lost digits")
        self._check((names.str.lower().isin(_EMPTY)).to_numpy(bool), self.object, "a name")
        return names.to_numpy(object)

    # --- objects

    def objects(self) -> pd.DataFrame | None:
        """What the table tells of objects, one row each: `name` and some of `OBJECT_COLUMNS` and `class`."""
        found = {name: self._find(name, NAMES[name]) for name in _OF_OBJECTS}
        pairs = NAMES["redshift"]
        said = self._find("redshift", []) if "redshift" in self.names.columns else None
        redshifts: list[tuple[str | None, str | None]] = []
        if said:
            redshifts.append((said, self._find("redshift_err", [])))
        redshifts += [(self._find("", [z]), self._find("", [error])) for z, error in pairs]
        present = [(z, error) for z, error in redshifts if z is not None]
        if self.object is None or not (present or any(found.values())):
            return None
        names = self._names()
        first = ~pd.Series(names).duplicated().to_numpy()
        columns: dict[str, Any] = {"name": names[first]}
        columns |= {
            name: self._known(column, name)[first] for name, column in found.items() if column and name != "class"
        }
        photoz, photoz_err = (np.full(len(names), np.nan) for _ in range(2))
        for z, error in present:
            values = self._known(z, "photoz")
            errors = self._known(error, "photoz_err") if error else np.zeros(len(names))
            take = np.isnan(photoz) & ~np.isnan(values)
            photoz, photoz_err = np.where(take, values, photoz), np.where(take, errors, photoz_err)
        columns |= {"photoz": photoz[first], "photoz_err": photoz_err[first]}
        if found["class"]:
            texts = self.texts(found["class"]).str.replace(r"^(-?\d+)\.0*$", r"\1", regex=True)
            if found["class"].lower() in ("target", "true_target"):
                texts = texts.replace({str(code): name for code, name in {**CLASSES, OTHER: "other"}.items()})
            columns["class"] = texts.where(~texts.str.lower().isin([*_EMPTY, "-9"])).to_numpy(object)[first]
        return pd.DataFrame(columns)

    def _known(self, column: str, name: str) -> np.ndarray:
        """Numbers of objects; NaN where they are marked as not known, which negative numbers do."""
        values = self.flags(column) if name == "ddf" else self.numbers(column)
        return values if name in ("dec", "ra", "specz") else np.where(values < 0, np.nan, values)

    # --- cells

    def texts(self, column: str) -> pd.Series:
        """Cells as text."""
        codes, values = pd.factorize(self.frame[column], use_na_sentinel=False)
        texts = pd.Series([_text(value) for value in values], dtype=object)
        return pd.Series(texts.to_numpy()[codes], index=self.frame.index, dtype=object)

    def flags(self, column: str) -> np.ndarray:
        """Cells as 1 or 0, NaN where empty."""
        texts = self.texts(column).str.lower()
        values = texts.map(_SIGNS).to_numpy(float)
        self._check(np.isnan(values) & ~texts.isin([*_EMPTY, "-9", "-9.0"]).to_numpy(), column, "0 or 1")
        return np.where(np.isnan(values), np.nan, np.maximum(values, 0))

    def numbers(self, column: str) -> np.ndarray:
        """Cells as numbers, NaN where empty."""
        cells = self.frame[column]
        if cells.dtype.kind in "fiub":
            return cells.to_numpy(np.float64)
        values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        if (bad := np.isnan(values)).any():
            texts = cells.astype(str).str.strip().str.lower()
            self._check(bad & ~texts.isin(_EMPTY).to_numpy(), column, "a number")
        return np.asarray(values)

    def _check(self, wrong: np.ndarray, column: str, allowed: str) -> None:
        if wrong.any():
            self._refuse(int(wrong.argmax()), int(wrong.sum()), column, allowed)

    def _refuse(self, row: int, count: int, column: str, allowed: str) -> NoReturn:
        name = self.table.object if self.object is None else self.texts(self.object).iloc[row]
        raise DataError(
            f"{self.table.place(int(self.frame.index[row]))}, object {name}: {column} is "
            f"{shown(self.frame[column].iloc[row])}; it must be {allowed}{more(count)}. {CORRECT}"
        )
