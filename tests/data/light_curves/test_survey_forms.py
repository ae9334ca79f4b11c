"""Light curves in the forms of surveys are PLAsTiCC's own, in its units."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from survey_forms import FORMS, in_form, snana

from galaxyml.data.light_curves.columns import LightCurves, open_curves
from galaxyml.data.light_curves.survey_columns import CurveNames
from galaxyml.data.light_curves.survey_tables import find_tables
from galaxyml.data.light_curves.surveys import open_frames, open_survey
from galaxyml.runs.errors import DataError, UserError

BANDS = "ugrizy"


def opened(folder: Path, **said: Any) -> tuple[LightCurves, pd.DataFrame]:
    return open_survey(find_tables(folder), folder.parent / "cache", CurveNames(**said), str(folder))


@pytest.fixture
def some(plasticc_sky: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Five objects of the simulated survey."""
    curves, metadata = (pd.read_csv(plasticc_sky / f"test_set{end}.csv") for end in ("", "_metadata"))
    metadata = metadata.iloc[[3, 11, 20, 41, 60]]
    return curves[curves["object_id"].isin(metadata["object_id"])], metadata


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Writes a CSV table of a column each, and gives its folder."""

    def write(name: str = "night.csv", **columns: Any) -> Path:
        folder = tmp_path / "night"
        folder.mkdir(exist_ok=True)
        pd.DataFrame(columns).to_csv(folder / name, index=False)
        return folder

    return write


@pytest.mark.parametrize("form", FORMS)
def test_plasticc_rewritten_in_each_form_gives_the_same_store(
    form: str, some: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    said = in_form(form, tmp_path / "night", *some)
    said.to_csv(tmp_path / "test_set.csv", index=False)
    expected = open_curves([tmp_path / "test_set.csv"], tmp_path / "cache")
    curves, objects = opened(tmp_path / "night")
    np.testing.assert_array_equal(curves.offsets, expected.offsets)
    names = objects.set_index("id")["name"].loc[curves.ids]
    assert [int(name[-7:] if name.startswith("ZTF") else name.removeprefix("ANT2020")) for name in names] == list(
        expected.ids
    )
    np.testing.assert_allclose(curves.mjd, expected.mjd, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(curves.band, expected.band)
    np.testing.assert_allclose(curves.flux, expected.flux, rtol=3e-7)
    np.testing.assert_allclose(curves.error, expected.error, rtol=3e-7)
    np.testing.assert_array_equal(curves.detected, expected.detected)
    (note,) = curves.notes
    assert "zero point 27.5" in note
    assert f"{len(said):,} observations of 5 objects" in note


def test_magnitudes_are_fluxes_by_pogsons_law(written: Callable[..., Path]) -> None:
    folder = written(objectId="a", jd=[2_459_000.5, 2_459_001.5], filter=["ZTF_g", "r"], mag=[27.5, 20.0], magerr=0.1)
    curves, objects = opened(folder)
    np.testing.assert_allclose(curves.flux, [1.0, 1000.0], rtol=1e-6)
    np.testing.assert_allclose(curves.error, 0.1 * np.log(10) / 2.5 * curves.flux, rtol=1e-6)
    assert curves.mjd.tolist() == [59_000.0, 59_001.0]
    assert curves.band.tolist() == [1, 2]
    assert objects["name"].tolist() == ["a"]
    assert "jd (JD)" in curves.notes[0]
    assert "not given, and taken as 0: E(B-V) of 1 objects, ddf of 1 objects" in curves.notes[0]


def test_a_nanojansky_is_31_4_magnitudes_and_every_zero_point_can_be_said(written: Callable[..., Path]) -> None:
    columns = {"diaObjectId": 7, "midpointMjdTai": [60_000.5], "band": "y", "psfFlux": [3_630.78], "psfFluxErr": [1.0]}
    assert opened(written(**columns))[0].flux[0] == pytest.approx(
        10 ** (-0.4 * (31.4 - 2.5 * np.log10(3_630.78) - 27.5))
    )
    assert opened(written(**columns), zero_point=27.5)[0].flux[0] == pytest.approx(3_630.78)
    table = {"object_id": 7, "mjd": [60_000.5], "band": "y", "flux": [10.0], "fluxerr": [1.0], "zp": [25.0]}
    assert opened(written(**table))[0].flux[0] == pytest.approx(100.0)


@pytest.mark.parametrize("sign", [(1, -1), ("t", "f"), (True, False)])
def test_differences_are_signed_by_isdiffpos(sign: tuple[Any, Any], written: Callable[..., Path]) -> None:
    folder = written(oid="ZTF1", mjd=[59_000.0, 59_001.0], fid=[1, 2], isdiffpos=sign, magpsf=25.0, sigmapsf=0.2)
    np.testing.assert_allclose(opened(folder)[0].flux, [10.0, -10.0], rtol=1e-6)


def test_upper_limits_and_flagged_observations_are_left_out_and_counted(written: Callable[..., Path]) -> None:
    folder = written(
        oid="a", mjd=np.arange(5) + 59_000.0, filtercode="zg", mag=[20, None, None, 99, 20.5], magerr=0.1,
        catflags=[0, 0, 0, 0, 32769],
    )  # fmt: skip
    curves, _ = opened(folder)
    assert len(curves.flux) == 1
    assert "left out: 3 upper limits (no magnitude), 1 flagged as bad by catflags" in curves.notes[0]


BANDS_AS_WRITTEN = {
    "u": "u", "Y": "y", "lsstu": "u", "LSST_z": "z", "ztfr": "r", "ZTF_g": "g", "zi": "i", "sdssz": "z", "DES-g": "g"
}  # fmt: skip


@pytest.mark.parametrize(("name", "band"), BANDS_AS_WRITTEN.items())
def test_names_of_passbands_are_known(name: str, band: str, written: Callable[..., Path]) -> None:
    curves, _ = opened(written(object_id=1, mjd=[59_000.0], band=name, flux=1.0, flux_err=1.0))
    assert BANDS[curves.band[0]] == band


@pytest.mark.parametrize("name", ["V", "R", "G", "w", "6"])
def test_other_passbands_are_refused_with_the_key_that_says_them(name: str, written: Callable[..., Path]) -> None:
    folder = written(object_id=[1, 1], mjd=[59_000.0, 59_001.0], band=["g", name], flux=1.0, flux_err=1.0)
    with pytest.raises(
        DataError, match=rf"night\.csv, line 3, object 1: band is '{name}'; it must be one of u, g, r"
    ) as told:
        opened(folder)
    assert "curves.bands={V: g}" in str(told.value)
    assert BANDS[opened(folder, bands={name: "i"})[0].band[1]] == "i"
    curves, _ = opened(folder, bands={name: None})
    assert len(curves.band) == 1
    assert f"1 in {name}" in curves.notes[0]


def test_any_table_is_read_by_the_names_that_the_user_says(written: Callable[..., Path]) -> None:
    folder = written(star=["x", "y"], BJD=[2_459_000.5, 2_459_001.5], counts=2.0, noise=0.5, Filter="V")
    said = {"object": "star", "time": "BJD", "flux": "counts", "flux_err": "noise"}
    curves, objects = opened(folder, columns=said, bands={"V": "g"}, zero_point=25)
    np.testing.assert_allclose(curves.flux, 2 * 10 ** (0.4 * (27.5 - 25)), rtol=1e-6)
    assert objects["name"].tolist() == ["x", "y"]
    assert "counts (fluxes, zero point 25)" in curves.notes[0]
    with pytest.raises(DataError, match=r"no table has a column 'count' .*Did you mean counts"):
        opened(folder, columns={**said, "flux": "count"}, bands={"V": "g"})


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"columns": {"tme": "BJD"}}, "key 'tme'. Did you mean time"),
        ({"bands": {"V": "w"}}, "a passband is one of u, g, r, i, z, y"),
        ({"zero_point": "bright"}, "zero_point=bright: it must be a number"),
        ({"columns": {"flux": "a", "mag": "b"}}, "flux and mag"),
    ],
)
def test_impossible_words_of_the_user_are_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CurveNames(**said)


GOOD = {"object_id": [1, 1], "mjd": [59_000.0, 59_001.0], "band": "g", "flux": 1.0, "flux_err": 1.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flux": [1.0, "bright"]}, r"night\.csv, line 3, object 1: flux is 'bright'; it must be a number"),
        ({"flux": [1.0, "inf"]}, r"line 3, object 1: flux is 'inf'; it must be a finite number"),
        ({"flux_err": [1.0, 0]}, r"line 3, object 1: flux_err is '0(\.0)?'; it must be a finite number above 0"),
        ({"mjd": [59_000, 1.5]}, r"line 3, object 1: mjd is '1.5'; it must be an MJD from 15,000"),
        ({"mjd": [59_000, None]}, r"line 3, object 1: mjd is empty or nan"),
        ({"object_id": [1, None]}, r"line 3, .*object_id is .*; it must be a name"),
        ({"object_id": ["6.15e+17", 2]}, "as a float it has lost digits"),
        (
            {"mjd": 59_000.0, "flux": [1.0, 2.0]},
            r"object 1: two observations at mjd 59000.0 in passband 1 \(g\) differ",
        ),
    ],
)
def test_bad_rows_are_told_by_file_row_column_and_value(
    change: dict[str, Any], message: str, written: Callable[..., Path]
) -> None:
    with pytest.raises(DataError, match=message):
        opened(written(**{**GOOD, **change}))


@pytest.mark.parametrize(
    ("lacks", "message"),
    [
        ("flux", "no fluxes or magnitudes with their errors .*curves.columns"),
        ("flux_err", "no fluxes or magnitudes with their errors"),
        ("mjd", r"no column of times \(mjd, midpointMjdTai"),
        ("band", r"no column of passbands \(passband"),
    ],
)
def test_what_a_table_lacks_is_told(lacks: str, message: str, written: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=message) as told:
        opened(written(**{name: value for name, value in GOOD.items() if name != lacks}))
    assert "night.csv" in str(told.value)


def test_forced_photometry_without_times_is_to_be_joined_with_visit(tmp_path: Path) -> None:
    table = {"diaObjectId": [1], "visit": [5], "band": ["g"], "psfDiffFlux": [1.0], "psfDiffFluxErr": [0.5]}
    folder = tmp_path / "night"
    folder.mkdir()
    pd.DataFrame(table).to_parquet(folder / "ForcedSourceOnDiaObject.parquet")
    with pytest.raises(
        DataError, match=r"ForcedSourceOnDiaObject.parquet: there is no time.*join its table with Visit"
    ):
        opened(folder)
    pd.DataFrame({**table, "expMidptMJD": [60_000.0]}).to_parquet(folder / "ForcedSourceOnDiaObject.parquet")
    assert opened(folder)[0].flux[0] == pytest.approx(10 ** (0.4 * (27.5 - 31.4)))


def test_lists_in_structures_are_observations_and_padding_is_none(tmp_path: Path) -> None:
    cells: dict[str, list[Any]] = {
        "time": [59_000.0, 59_001.0, -99.0],
        "band": ["g", "r", "r"],
        "flux": [1.0, 2.0, 0.0],
        "flux_err": [1.0, 1.0, 0.0],
    }
    rows: list[dict[str, Any]] = [
        {"object_id": "a", "lightcurve": cells, "redshift": 0.5},
        {"object_id": "b", "lightcurve": cells, "redshift": 0.1},
    ]
    folder = tmp_path / "night"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    curves, objects = opened(folder)
    assert curves.flux.tolist() == [1.0, 2.0, 1.0, 2.0]
    assert objects["photoz"].tolist() == [0.5, 0.1]
    rows[1]["lightcurve"] = [{name: values[0] for name, values in cells.items()}]
    del rows[0]
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    assert opened(folder)[0].flux.tolist() == [1.0]


def test_lists_of_unequal_lengths_are_refused_by_their_row(tmp_path: Path) -> None:
    rows = [{"objectid": 1, "filterid": 1, "hmjd": [59_000.0, 59_001.0], "mag": [20.0], "magerr": [0.1, 0.1]}]
    folder = tmp_path / "night"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "ztf.parquet")
    with pytest.raises(DataError, match=r"ztf\.parquet, row 1: the lists hmjd and mag have 2 and 1 values"):
        opened(folder)


def test_snanas_pointers_and_missing_redshifts_are_read(
    some: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    curves, metadata = some
    metadata = metadata.assign(hostgal_photoz=[0.0, 0.3, np.nan, 1.2, 0.7])
    night = tmp_path / "night"
    night.mkdir()
    snana(night, curves, metadata)
    objects = opened(night)[1].set_index("id").loc[metadata["object_id"]]
    np.testing.assert_allclose(objects["photoz"], metadata["hostgal_photoz"], rtol=1e-6)
    np.testing.assert_allclose(objects["mwebv"], metadata["mwebv"], rtol=1e-6)
    (night / "NIGHT-01_HEAD.FITS.gz").rename(tmp_path / "elsewhere.gz")
    with pytest.raises(DataError, match=r"NIGHT-01_PHOT.FITS.gz: give NIGHT-01_HEAD.FITS"):
        opened(night)


def test_a_table_of_objects_tells_what_is_known_of_them(written: Callable[..., Path]) -> None:
    written(object_id=["b", "a"], mjd=59_000.0, band="g", flux=1.0, flux_err=1.0)
    folder = written(
        "hosts.csv", object_id=["a", "b", "c"], redshift=[0.2, -9, 0.3], mwebv=[0.1, 0.2, 0.3], class_name="x"
    )
    _, objects = opened(folder)
    assert objects["name"].tolist() == ["a", "b"]
    assert objects["photoz"].isna().tolist() == [False, True]
    assert objects["mwebv"].tolist() == [0.1, 0.2]
    assert objects["class"].tolist() == ["x", "x"]


def test_dataframes_are_tables_and_need_names_of_objects(tmp_path: Path) -> None:
    frame = pd.DataFrame(GOOD | {"object_id": ["a", "b"]})
    curves, objects = open_frames([frame], tmp_path, CurveNames())
    assert curves.flux.tolist() == [1.0, 1.0]
    assert objects["name"].tolist() == ["a", "b"]
    with pytest.raises(DataError, match="the table: no column of the objects' names"):
        open_frames([frame.drop(columns="object_id")], tmp_path, CurveNames())
    with pytest.raises(DataError, match="the table, row 2, object b: flux is 'x'"):
        open_frames([frame.assign(flux=[1.0, "x"])], tmp_path, CurveNames())
