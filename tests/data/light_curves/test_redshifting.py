import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import curve_fit

from galaxyml.data.light_curves import redshifting
from galaxyml.data.light_curves.columns import LightCurves
from galaxyml.data.light_curves.redshifting import ANGSTROM, Redshifted, Source, dimming, redshift_limits, versions
from galaxyml.data.light_curves.survey_noise import Survey
from galaxyml.data.light_curves.views import PADDING, Batch, CurveAugment
from galaxyml.runs.errors import UserError

PEAK, HEIGHT, WIDTH = 60100.0, 1000.0, 20.0
QUIET_SKY = np.stack([np.full((2, 6), math.log(0.5)), np.full((2, 6), 0.1)], 2)


def bell(mjd: np.ndarray, height: float = HEIGHT, width: float = WIDTH, peak: float = PEAK) -> np.ndarray:
    return height * np.exp(-(((mjd - peak) / width) ** 2) / 2)


def observed(seed: int, colour: bool = False, level: float = 0.0, error: float = 1.0, count: int = 200) -> list[Any]:
    """MJD, passband, flux and error of a bell that is equal in all passbands, or proportional to wavelength."""
    dice = np.random.default_rng(seed)
    mjd, band = np.sort(dice.uniform(60000, 60300, count)), np.arange(count) % 6
    flux = bell(mjd) * (ANGSTROM[band] / 6000 if colour else 1) + level
    return [mjd, band.astype(np.int8), flux + dice.normal(0, error, count), np.full(count, error)]


def catalog(count: int = 12, error: float = 10.0) -> tuple[LightCurves, pd.DataFrame]:
    """Objects of which every third is galactic and every fourth in a deep field."""
    parts = [observed(seed, error=error, count=60 + seed) for seed in range(count)]
    columns = [np.concatenate([part[column] for part in parts]) for column in range(4)]
    galactic = np.arange(count) % 3 == 2
    redshifts = np.where(galactic, 0, 0.1 + 0.02 * np.arange(count))
    objects = pd.DataFrame(
        {
            "id": 100 + np.arange(count),
            "photoz": redshifts,
            "specz": np.where(galactic, np.nan, redshifts),
            "photoz_err": np.where(galactic, 0, 0.02),
            "mwebv": 0.05,
            "galactic": galactic,
            "ddf": np.arange(count) % 4 == 0,
        },
        index=5 + 2 * np.arange(count),  # rows of a larger catalog
    )
    curves = LightCurves(
        ids=objects["id"].to_numpy(),
        offsets=np.concatenate([[0], np.cumsum([len(part[0]) for part in parts])]),
        mjd=columns[0],
        band=columns[1],
        flux=columns[2].astype(np.float32),
        error=columns[3].astype(np.float32),
        detected=np.abs(columns[2] / columns[3]) > 5,
    )
    return curves, objects


def first_times(curves: LightCurves) -> np.ndarray:
    return curves.mjd[curves.offsets[:-1]]


def fitted(curves: LightCurves, objects: pd.DataFrame, cache: Path, seed: int = 0, views: int = 2) -> Redshifted:
    return Redshifted.fit(curves, objects, seed, views, cache, first_times)


def counts(made: Redshifted, objects: pd.DataFrame) -> np.ndarray:
    """How many versions each object has."""
    return made.count[torch.tensor(objects.index.to_numpy())].numpy()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Redshifted:
    return fitted(*catalog(), tmp_path_factory.mktemp("cache"), views=4)


def batch_of(rows: np.ndarray) -> Batch:
    """Objects of `catalog` as a batch has them."""
    curves, objects = catalog()
    batch = curves.padded(rows)
    mjd = batch.pop("mjd")
    known = objects.iloc[rows][["photoz", "photoz_err", "mwebv", "galactic", "ddf"]].to_numpy(np.float32)
    return batch | {
        "time": (mjd - torch.tensor(first_times(curves)[rows])[:, None]).float().masked_fill(~batch["mask"], 0),
        "condition": torch.from_numpy(known),
        "index": torch.tensor(objects.index.to_numpy()[rows]),
        "target": torch.arange(len(rows)),
    }


def survey() -> Survey:
    hosts = np.stack([np.linspace(0.05, 2, 100)] * 2 + [np.full(100, 0.02)], 1)
    return Survey(QUIET_SKY, (np.array([150]), np.array([200])), hosts)


def test_dimming_is_that_of_a_flat_universe() -> None:
    def luminosity_distance(redshift: float) -> float:
        return (1 + redshift) * quad(lambda z: (0.3 * (1 + z) ** 3 + 0.7) ** -0.5, 0, redshift)[0]

    for near, far in ((0.1, 0.5), (0.3, 0.29), (0.8, 1.7)):
        expected = (1 + far) / (1 + near) * (luminosity_distance(near) / luminosity_distance(far)) ** 2
        assert dimming(near, far) == pytest.approx(expected, rel=1e-3)  # astropy's universe has some radiation
    assert dimming(0.4, 0.4) == 1


def test_redshifts_stay_where_the_process_knows() -> None:
    assert redshift_limits(0.05) == pytest.approx((0.0475, 0.25))
    assert redshift_limits(1.0) == pytest.approx((0.95, 2.0))


@pytest.mark.parametrize("level", [0.0, 300.0])
def test_at_its_own_redshift_an_object_looks_as_observed(level: float) -> None:
    mjd, band, flux, error = observed(0, colour=True, level=level, error=5.0)
    source = Source.fit(mjd, band, flux, error, 0.3)
    seen, uncertain = source.seen(mjd, band, 0.3)
    truth = bell(mjd) * ANGSTROM[band] / 6000 + level
    assert np.mean(((seen - flux) / error) ** 2) < 1.0
    assert np.sqrt(np.mean((seen - truth) ** 2)) < 5.0  # better than the observations
    assert 0.4 < np.mean(((seen - truth) / uncertain) ** 2) < 2.0


def test_an_achromatic_object_is_only_dimmed() -> None:
    mjd, band, flux, error = observed(0)
    source = Source.fit(mjd, band, flux, error, 0.2)
    moment, band = np.linspace(60050, 60150, 200), np.arange(200) % 5 + 1
    for redshift in (0.19, 0.35, 0.5):
        seen, uncertain = source.seen(moment, band, redshift)
        np.testing.assert_allclose(seen, dimming(0.2, redshift) * bell(moment), atol=20 * dimming(0.2, redshift))
        assert (uncertain < 0.03 * dimming(0.2, redshift) * HEIGHT).all()


def test_passbands_show_shorter_wavelengths_from_further_away() -> None:
    mjd, band, flux, error = observed(0, colour=True)
    source = Source.fit(mjd, band, flux, error, 0.2)
    moment, band = np.linspace(60080, 60120, 120), np.arange(120) % 5 + 1
    for redshift in (0.3, 0.5):
        wavelength = ANGSTROM[band] * 1.2 / (1 + redshift)
        expected = dimming(0.2, redshift) * bell(moment) * wavelength / 6000
        seen, _ = source.seen(moment, band, np.full(120, redshift))
        np.testing.assert_allclose(seen, expected, rtol=0.03)


def test_each_observation_has_the_redshift_of_its_version() -> None:
    mjd, band, flux, error = observed(0, colour=True)
    source = Source.fit(mjd, band, flux, error, 0.2)
    moment, band = np.full(4, PEAK), np.array([1, 3, 1, 3])
    together = source.seen(moment, band, np.array([0.5, 0.3, 0.3, 0.5]))
    for number, redshift in enumerate((0.5, 0.3, 0.3, 0.5)):
        alone = source.seen(moment[number : number + 1], band[number : number + 1], redshift)
        np.testing.assert_allclose([part[number] for part in together], [part[0] for part in alone], rtol=1e-9)


def test_versions_are_stretched_and_dimmed_as_an_expanding_universe_asks() -> None:
    mjd, band, flux, error = observed(0)
    source = Source.fit(mjd, band, flux, error, 0.2)
    noise = Survey(
        QUIET_SKY + np.array([math.log(10), 0]), survey().counts, survey().hosts
    )  # 5, more than the process's
    found = list(versions(source, band, True, noise, 12, np.random.default_rng(0)))
    assert len(found) == 12
    whole = 0
    for version in found:
        assert 0.19 <= version.redshift <= 0.8
        start = [version.flux.max(), WIDTH, version.mjd[version.flux.argmax()]]
        fitted, spread = curve_fit(bell, version.mjd, version.flux, start, version.error)
        peak = fitted[2]
        if min(((sign * (version.mjd - peak) > 0) & (np.abs(version.mjd - peak) < 40)).sum() for sign in (-1, 1)) < 8:
            continue  # a side of it was left out
        whole += 1
        expected = [dimming(0.2, version.redshift) * HEIGHT, WIDTH * (1 + version.redshift) / 1.2]
        np.testing.assert_array_less(np.abs(fitted[:2] - expected), 5 * np.sqrt(np.diag(spread)[:2]) + [0, 0.3])
        assert 0.6 < np.mean(((version.flux - bell(version.mjd, *fitted)) / version.error) ** 2) < 1.4
    assert whole >= 4


def test_the_error_is_the_skys_and_the_processs() -> None:
    mjd, band, flux, error = observed(0, error=20.0)
    source = Source.fit(mjd, band, flux, error, 0.2)
    exact = Survey(QUIET_SKY * np.array([1, 0]), survey().counts, survey().hosts)  # all skies 0.5
    for version in versions(source, band, False, exact, 5, np.random.default_rng(1)):
        assert (version.error >= 0.5).all()
        own = np.sqrt(version.error**2 - 0.25) / dimming(0.2, version.redshift)
        assert 1 < np.median(own) < 20  # better known than one observation tells


def test_an_object_that_no_survey_detects_has_no_version() -> None:
    mjd, band, flux, error = observed(0)
    source = Source.fit(mjd, band, flux * 1e-3, error * 1e-3, 0.2)
    blind = Survey(QUIET_SKY + np.array([9, 0]), survey().counts, survey().hosts)
    assert len(list(versions(source, band, False, blind, 3, np.random.default_rng(0)))) <= 1  # by luck of the noise


def test_main_survey_objects_are_never_observed_deeper() -> None:
    mjd, band, flux, error = observed(0)
    source = Source.fit(mjd, band, flux, error, 0.2)
    dice = np.random.default_rng(0)
    assert not any(version.deep for version in versions(source, band, False, survey(), 30, dice))
    deep = [version.deep for version in versions(source, band, True, survey(), 100, dice)]
    assert np.mean(deep) == pytest.approx(0.2, abs=0.12)
    only_deep = Survey(QUIET_SKY, (np.array([], np.int64), np.array([200])), survey().hosts)
    assert all(version.deep for version in versions(source, band, True, only_deep, 10, dice))


def test_extragalactic_objects_have_versions_and_galactic_ones_have_none(made: Redshifted) -> None:
    curves, objects = catalog()
    galactic = objects["galactic"].to_numpy()
    count = counts(made, objects)
    assert made.notes == ()
    assert (count[galactic] == 0).all()
    assert (count[~galactic] == 4).all()
    assert made.count.sum() == len(made.curves)
    np.testing.assert_array_equal(made.curves.ids, np.repeat(curves.ids[~galactic], 4))
    assert (made.condition[:, 0] > 0).all()
    assert (made.condition[:, 3] == 0).all()


def test_versions_are_curves_that_the_survey_would_keep(made: Redshifted) -> None:
    starts = made.curves.offsets[:-1]
    assert (np.diff(made.curves.offsets) >= 3).all()
    assert (np.add.reduceat(made.curves.detected.astype(int), starts) >= 2).all()
    later = np.diff(made.curves.mjd)
    assert (np.delete(later, starts[1:] - 1) >= 0).all()
    assert (made.curves.error > 0).all()
    assert set(np.unique(made.curves.band)) <= set(range(6))
    kinds = [getattr(made.curves, name).dtype for name in ("mjd", "band", "flux", "error", "detected")]
    assert kinds == [np.float64, np.int8, np.float32, np.float32, bool]


def test_versions_know_their_own_redshift(made: Redshifted) -> None:
    gap = np.abs(made.condition[:, 0].numpy() - made.redshift)
    assert gap.max() < 1e-6  # hosts of the catalog have exact photometric redshifts
    assert len(np.unique(made.redshift)) == len(made.redshift)


def test_the_same_seed_makes_the_same_versions(made: Redshifted, tmp_path: Path) -> None:
    again, other = (fitted(*catalog(), tmp_path, seed, views=4) for seed in (0, 1))
    np.testing.assert_array_equal(again.curves.flux, made.curves.flux)
    assert torch.equal(again.condition, made.condition)
    assert not np.array_equal(other.redshift, made.redshift)


def test_versions_are_made_once(made: Redshifted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curves, objects = catalog()
    objects.loc[5, ["specz", "photoz"]] = np.nan
    first = fitted(curves, objects, tmp_path)
    calls: list[int] = []
    build = redshifting._made

    def counted(*given: Any) -> dict[str, np.ndarray]:
        calls.append(1)
        return build(*given)

    monkeypatch.setattr(redshifting, "_made", counted)
    again = fitted(curves, objects, tmp_path)
    assert not calls
    assert again.notes == first.notes != ()
    np.testing.assert_array_equal(again.curves.mjd, first.curves.mjd)
    assert torch.equal(again.begin, first.begin)
    dimmer = LightCurves(**{**vars(curves), "flux": curves.flux * np.float32(0.9)})
    fitted(dimmer, objects, tmp_path)
    fitted(curves, objects.assign(specz=objects["specz"] * 1.1), tmp_path)
    fitted(curves, objects, tmp_path, seed=1)
    fitted(curves, objects, tmp_path, views=3)
    assert len(calls) == 4


def test_an_object_or_one_of_its_versions_is_drawn_alike(made: Redshifted) -> None:
    torch.manual_seed(0)
    objects = catalog()[1]
    label = int(objects.index[3])
    drawn = made.draw(torch.full((5000,), label))
    begin = int(made.begin[label])
    share = [(drawn == row).float().mean().item() for row in (-1, *range(begin, begin + 4))]
    np.testing.assert_allclose(share, 0.2, atol=0.025)
    assert set(made.curves.ids[drawn[drawn >= 0]]) == {objects["id"].iloc[3]}
    elsewhere = torch.tensor([int(objects.index[2]), 0, 6, 10**6])  # galactic, or not fitted
    assert (made.draw(elsewhere.repeat(50)) == -1).all()


def test_a_batch_shows_versions_in_the_place_of_objects(made: Redshifted) -> None:
    batch = batch_of(np.arange(12))
    before = {name: values.clone() for name, values in batch.items()}
    torch.manual_seed(1)
    view = made(batch)
    torch.manual_seed(1)
    rows = made.draw(batch["index"])
    assert (rows >= 0).sum() > 3
    assert all(torch.equal(batch[name], before[name]) for name in batch)
    for place, row in enumerate(rows.tolist()):
        there = view["mask"][place]
        length = int(there.sum())
        assert there[:length].all()
        assert all((view[name][place, length:] == empty).all() for name, empty in PADDING.items())
        if row < 0:
            width = batch["mask"].shape[1]
            assert all(torch.equal(view[name][place, :width], batch[name][place]) for name in PADDING)
            assert torch.equal(view["condition"][place], batch["condition"][place])
            continue
        part = slice(made.curves.offsets[row], made.curves.offsets[row + 1])
        np.testing.assert_array_equal(view["flux"][place, :length].numpy(), made.curves.flux[part])
        np.testing.assert_array_equal(view["band"][place, :length].numpy(), made.curves.band[part])
        np.testing.assert_allclose(
            view["time"][place, :length].numpy(), made.curves.mjd[part] - made.origin[row], atol=1e-4
        )
        assert torch.equal(view["condition"][place], made.condition[row])
    assert torch.equal(view["index"], batch["index"])
    assert torch.equal(view["target"], batch["target"])
    assert {name: view[name].dtype for name in view} == {name: batch[name].dtype for name in batch}


def test_galactic_objects_pass_unchanged(made: Redshifted) -> None:
    batch = batch_of(np.array([2, 5, 8, 11]))
    view = CurveAugment(redshift=made)(batch)
    assert all(torch.equal(view[name], batch[name]) for name in batch)


def test_time_counts_from_the_reference(tmp_path: Path) -> None:
    made = fitted(*catalog(), tmp_path, views=1)
    batch = made.padded(torch.arange(len(made.curves)))
    assert (batch["time"][:, 0] == 0).all()
    assert (batch["time"] >= 0).all()


def test_objects_without_a_spectroscopic_redshift_start_from_their_photometric_one(tmp_path: Path) -> None:
    curves, objects = catalog()
    objects.loc[[5, 7], "specz"] = [np.nan, -0.01]
    objects.loc[5, "photoz"] = 0.5
    made = fitted(curves, objects, tmp_path)
    assert (counts(made, objects)[~objects["galactic"]] == 2).all()
    lowest, highest = redshift_limits(0.5)
    assert ((made.redshift[:2] >= lowest) & (made.redshift[:2] <= highest)).all()
    assert made.notes == (
        "extragalactic training objects without a spectroscopic redshift above 0: 2 of 8; their photometric redshift "
        "is where versions at other redshifts start from.",
    )


def test_objects_without_any_redshift_have_no_versions(tmp_path: Path) -> None:
    curves, objects = catalog()
    objects.loc[[5, 7, 11], "photoz"] = np.nan
    objects.loc[[5, 7, 11], "specz"] = [np.nan, -0.01, 0.16]
    made = fitted(curves, objects, tmp_path)
    np.testing.assert_array_equal(counts(made, objects)[:4], [0, 0, 0, 2])  # the third is galactic
    assert made.notes == (
        "extragalactic training objects without any redshift above 0: 2 of 8; they have no versions at other "
        "redshifts.",
    )


def test_no_condition_is_unknown_where_hosts_lack_photometric_redshifts(tmp_path: Path) -> None:
    curves, objects = catalog()
    objects.loc[[7, 11], "photoz"] = np.nan
    objects.loc[[5, 11], "photoz_err"] = np.nan
    made = fitted(curves, objects, tmp_path, views=6)
    assert made.notes == ()
    assert (counts(made, objects)[~objects["galactic"]] == 6).all()
    assert torch.isfinite(made.condition).all()
    assert np.abs(made.condition[:, 0].numpy() - made.redshift).max() < 1e-6  # as the hosts that are left tell


def test_an_object_that_no_process_fits_has_no_versions(tmp_path: Path) -> None:
    curves, objects = catalog()
    part = slice(curves.offsets[3], curves.offsets[4])
    for name, values in (("mjd", PEAK), ("band", 2), ("error", 1e-12)):  # all at once, and exact
        getattr(curves, name)[part] = values
    made = fitted(curves, objects, tmp_path)
    np.testing.assert_array_equal(counts(made, objects)[:5], [2, 2, 0, 0, 2])
    assert made.notes == (
        "extragalactic training objects that no Gaussian process fits: 1 of 8; they have no versions at other "
        "redshifts. Observations at almost the same time with errors close to 0 do this.",
    )


@pytest.mark.parametrize("views", [0, -1, 2.5])
def test_a_number_of_versions_that_cannot_be_is_refused(views: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"redshifts is {views}; it must be a whole number: .* or 0 for none\."):
        fitted(*catalog(), tmp_path, views=views)


@pytest.mark.parametrize("why", ["galactic", "undetected", "unknown", "no host"])
def test_without_versions_batches_stay_as_they_are(why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(curves: LightCurves) -> np.ndarray:
        raise AssertionError("there is no object to tell the reference time of")

    curves, objects = catalog()
    rows = np.flatnonzero(objects["galactic"] == (why == "galactic"))
    curves, objects = curves.take(rows), objects.iloc[rows].copy()
    notes = ["redshifts changes nothing here: no training object has a version that the survey would detect."]
    if why == "galactic":
        notes = ["redshifts changes nothing here: no training object is extragalactic."]
    elif why == "undetected":
        monkeypatch.setattr(redshifting, "DETECTIONS", 10**6)
    elif why == "unknown":
        objects["specz"] = -0.001
        objects["photoz"] = np.nan
    else:
        objects["specz"] = np.nan
    if why in ("unknown", "no host"):
        notes.insert(0, "no extragalactic training object has both a spectroscopic and a photometric redshift, so the")
    if why == "unknown":
        notes.insert(1, "extragalactic training objects without any redshift above 0: 8 of 8; they have no versions")
    made = Redshifted.fit(curves, objects, 0, 2, tmp_path, nothing)
    assert len(made.notes) == len(notes)
    assert all(told.startswith(note) for told, note in zip(made.notes, notes, strict=True))
    assert len(made.curves) == len(made.redshift) == len(made.origin) == 0
    batch = batch_of(rows)
    view = CurveAugment(redshift=made)(batch)
    assert all(torch.equal(view[name], batch[name]) for name in batch)


def test_observations_of_real_objects_that_are_held_out_lie_within_their_errors(real: Path) -> None:
    table = pd.read_csv(real / "plasticc" / "training_set.csv")
    known = pd.read_csv(real / "plasticc" / "training_set_metadata.csv").query("target == 90").head(25)
    dice, found = np.random.default_rng(0), []
    for number, redshift in zip(known["object_id"], known["hostgal_specz"], strict=True):
        part = table[table["object_id"] == number].sort_values("mjd")
        mjd, band, flux, error = (part[name].to_numpy() for name in ("mjd", "passband", "flux", "flux_err"))
        kept = dice.random(len(mjd)) < 0.8
        source = Source.fit(mjd[kept], band[kept], flux[kept], error[kept], redshift)
        seen, uncertain = source.seen(mjd[~kept], band[~kept], redshift)
        found.append(np.mean((flux[~kept] - seen) ** 2 / (error[~kept] ** 2 + uncertain**2)))
    assert 0.6 < np.median(found) < 1.3
