from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from galaxyml.data.light_curves import features as feature_module
from galaxyml.data.light_curves.columns import LightCurves
from galaxyml.data.light_curves.features import COLOURS, NAMES, PERCENTILES, features
from galaxyml.data.light_curves.reader import BANDS
from galaxyml.runs.errors import UserError

CATALOG = ["photoz", "photoz_err", "mwebv", "galactic", "ddf"]


def joined(parts: list[dict[str, np.ndarray]]) -> LightCurves:
    """Light curves of objects that are given one by one, with ids 10, 11 and so on."""
    counts = [len(part["mjd"]) for part in parts]
    mjd, band, flux, error, detected = (
        np.concatenate([part[name] for part in parts]) for name in ("mjd", "band", "flux", "error", "detected")
    )
    return LightCurves(10 + np.arange(len(parts)), np.cumsum([0, *counts]), mjd, band, flux, error, detected)


def drawn(n: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Ragged curves, each with a bump: of 0 to 150 observations, some bands missing, some of a single observation."""
    rng = np.random.default_rng(seed)
    parts = []
    for k in range(n):
        count = [0, 1, 2, 3][k] if k < 4 else int(rng.integers(4, 150))
        bands = rng.choice(6, size=rng.integers(1, 7), replace=False)
        mjd = np.sort(59580 + (800 * rng.random(count)).round(1 if k % 2 else 4))  # with equal times and without
        band = rng.choice(bands, count)
        error = np.exp(rng.normal(1, 0.5, count)) + 0.1
        peak, width = 59580 + 800 * rng.random(), rng.uniform(5, 60)
        light = rng.choice([-30, 60, 400]) * np.exp(-0.5 * ((mjd - peak) / width) ** 2) * (1 + 0.3 * band)
        flux = (light + error * rng.normal(size=count)).astype(np.float32)
        order = np.lexsort((band, mjd))
        part = {"mjd": mjd, "band": band.astype(np.int8), "flux": flux, "error": error.astype(np.float32)}
        parts.append({name: part[name][order] for name in part} | {"detected": (flux / error > 3)[order]})
    return parts


def catalog(curves: LightCurves, seed: int = 0) -> pd.DataFrame:
    rng, n = np.random.default_rng(seed), len(curves)
    galactic = rng.random(n) < 0.3
    return pd.DataFrame(
        {
            "id": curves.ids,
            "photoz": np.where(galactic, 0, rng.uniform(0.1, 1, n)),
            "photoz_err": rng.random(n),
            "distmod": np.where(galactic, np.nan, rng.uniform(38, 44, n)),
            "mwebv": rng.random(n),
            "galactic": galactic,
            "ddf": rng.random(n) < 0.5,
        }
    )


def log_days(days: float) -> float:
    return float(np.arcsinh(days / 10))


def log_chi2(away: np.ndarray, error: np.ndarray) -> float:
    return float(np.log10(max(np.sum((away / error) ** 2) / (len(away) - 1), 1e-3))) if len(away) > 1 else np.nan


def one_by_one(part: dict[str, np.ndarray], row: pd.Series) -> dict[str, float]:
    """The features of one object, band by band and straight from their definitions."""
    t, b, d = part["mjd"], part["band"], part["detected"]
    f, e = part["flux"].astype(float), part["error"].astype(float)
    found: dict[str, float] = dict.fromkeys(NAMES, np.nan)
    level, tops = np.full(len(t), np.nan), {}
    for number, name in enumerate(BANDS):
        inside = np.flatnonzero(b == number)
        flux, error, n = f[inside], e[inside], len(inside)
        if not n:
            continue
        mean = np.average(flux, weights=1 / error**2)
        level[inside] = mean
        tops[number] = inside[np.argmax(flux - error)]
        for key, value in {"mean": mean, "max": flux.max(), "min": flux.min()}.items():
            found[f"{key}_{name}"] = np.arcsinh(value / 10)
        if n < 2:
            continue
        beyond = max(flux.var(ddof=1) - np.mean(error**2), 0)
        found[f"excess_{name}"] = np.arcsinh(np.sqrt(beyond) / 10)
        found[f"skew_{name}"] = stats.skew(flux)
        found[f"kurtosis_{name}"] = np.arcsinh(stats.kurtosis(flux))
        found[f"chi2_{name}"] = log_chi2(flux - mean, error)
        found[f"eta_{name}"] = np.sum(np.diff(flux) ** 2) / (n * flux.var())
    found["count"], found["detections"] = len(t), d.sum()
    found |= {name: float(row[name]) for name in CATALOG}
    if not len(t):
        return found

    peak = max(tops.values(), key=lambda top: f[top] / e[top])
    since = t - t[peak]
    found["snr_max"] = np.arcsinh(f[peak] / e[peak])
    clear = {band: top for band, top in tops.items() if f[top] / e[top] >= 5}
    for band, top in clear.items():
        found[f"delay_{BANDS[band]}"] = log_days(since[top])
    if f[peak] > 0:
        found["absolute_peak"] = 27.5 - 2.5 * np.log10(f[peak]) - row["distmod"]
    for key, near in {"peak": np.abs(since) <= 10, "later": (since >= 20) & (since <= 60)}.items():
        for blue, red in COLOURS:
            sides = [near & (b == BANDS.index(band)) for band in (blue, red)]
            if all(side.any() for side in sides):
                one, two = (np.average(f[side], weights=1 / e[side] ** 2) for side in sides)
                noise = sum(1 / np.sum(1 / e[side] ** 2) for side in sides)
                found[f"{key}_{blue}_{red}"] = (one - two) / np.sqrt(one**2 + two**2 + noise)

    away = f - level
    for share in PERCENTILES:
        found[f"snr_{share:02d}"] = np.arcsinh(np.percentile(f / e, share))
    found["chi2"] = log_chi2(away, e)
    if away.any():
        found["stetson_k"] = np.mean(np.abs(away / e)) / np.sqrt(np.mean((away / e) ** 2))
        found["mad_std"] = stats.median_abs_deviation(away) / away.std()
    pairs = [away[i] * away[i + 1] / e[i] / e[i + 1] for i in range(len(t) - 1) if t[i + 1] - t[i] < 1]
    if pairs:
        found["stetson_j"] = np.arcsinh(np.mean(np.sign(pairs) * np.sqrt(np.abs(pairs))))
    found["detected"], found["negative"] = d.mean(), np.mean(f / e < -5)
    if d.any():
        found["span"] = log_days(np.ptp(t[d]))
        found["first_to_peak"], found["peak_to_last"] = log_days(-since[d][0]), log_days(since[d][-1])
    if d.sum() > 1:
        found["longest_gap"] = log_days(np.diff(t[d]).max())

    shown = np.isin(b, list(clear))
    if shown.any():
        days = since[shown]
        light = f[shown] / np.array([f[clear[band]] for band in b[shown]])
        for key, limit in {"half": 0.5, "tenth": 0.1}.items():
            before, after = days[(light < limit) & (days < 0)], days[(light < limit) & (days > 0)]
            found[f"{key}_before"] = log_days(-(before.max() if len(before) else days.min()))
            found[f"{key}_after"] = log_days(after.min() if len(after) else days.max())
        for key, near in {"rise": (days <= 0) & (days >= -50), "fall": (days >= 0) & (days <= 50)}.items():
            if near.any():
                x = days[near] - days[near].mean()
                found[key] = np.sum(x * light[near]) / (np.sum(x**2) + len(x))
        if (light > 0.5).any():
            found["bright_elsewhere"] = np.mean(np.abs(days[light > 0.5]) > 100)
    return found


@pytest.fixture(scope="module")
def parts() -> list[dict[str, np.ndarray]]:
    return drawn(100, seed=1)


def test_every_feature_is_what_its_definition_gives_object_by_object(parts: list[dict[str, np.ndarray]]) -> None:
    curves = joined(parts)
    objects = catalog(curves)
    found = features(curves, objects)
    assert list(found.columns) == ["id", *NAMES]
    assert (found.dtypes[1:] == np.float32).all()
    np.testing.assert_array_equal(found["id"], curves.ids)
    expected = pd.DataFrame([one_by_one(part, row) for part, (_, row) in zip(parts, objects.iterrows(), strict=True)])
    for name in NAMES:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-4, atol=2e-5, err_msg=name)
    assert found[list(NAMES)].notna().sum().min() > 2  # each is compared somewhere


@pytest.mark.parametrize("at_once", [1, 200, 1000])
def test_chunks_change_nothing(
    parts: list[dict[str, np.ndarray]], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = joined(parts)
    whole = features(curves, catalog(curves))
    monkeypatch.setattr(feature_module, "OBSERVATIONS", at_once)
    sizes = np.diff(feature_module._chunks(curves.offsets))
    assert len(sizes) > 1
    assert sizes.max() < len(parts)
    pd.testing.assert_frame_equal(features(curves, catalog(curves)), whole)


def test_objects_keep_their_features_in_any_order(parts: list[dict[str, np.ndarray]]) -> None:
    curves = joined(parts)
    objects = catalog(curves)
    order = np.random.default_rng(0).permutation(len(parts))
    shuffled = features(curves.take(order), objects.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(shuffled, features(curves, objects).iloc[order].reset_index(drop=True))


def test_only_differences_of_time_matter(parts: list[dict[str, np.ndarray]]) -> None:
    curves = joined(parts)
    later = replace(curves, mjd=curves.mjd + 64)
    pd.testing.assert_frame_equal(features(later, catalog(curves)), features(curves, catalog(curves)), rtol=1e-4)


def test_a_brighter_object_with_larger_errors_differs_in_its_brightness_only(
    parts: list[dict[str, np.ndarray]],
) -> None:
    curves = joined(parts)
    brighter = replace(curves, flux=4 * curves.flux, error=4 * curves.error)
    one, other = features(curves, catalog(curves)), features(brighter, catalog(curves))
    scaled = [name for name in NAMES if name.split("_")[0] in ("mean", "max", "min", "excess")]
    same = [name for name in NAMES if name not in (*scaled, "absolute_peak")]
    pd.testing.assert_frame_equal(one[same], other[same], rtol=1e-4)
    np.testing.assert_allclose(np.sinh(other[scaled]), 4 * np.sinh(one[scaled]), rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(other["absolute_peak"], one["absolute_peak"] - 2.5 * np.log10(4), rtol=1e-5)


def bell(rise: float, fall: float) -> dict[str, np.ndarray]:
    """Six bands every half a day, without noise."""
    t = np.arange(-300, 300.5, 0.5)
    light = 1000 * np.exp(-0.5 * np.where(t < 0, t / rise, t / fall) ** 2)
    n = len(t) * 6
    made = {"mjd": np.repeat(60000 + t, 6), "band": np.tile(np.arange(6, dtype=np.int8), len(t))}
    return made | {
        "flux": np.repeat(light, 6).astype(np.float32),
        "error": np.ones(n, np.float32),
        "detected": np.repeat(light > 5, 6),
    }


def test_widths_and_slopes_are_those_of_a_bell() -> None:
    curves = joined([bell(10, 30)])
    found = features(curves, catalog(curves)).iloc[0]
    for name, share in {"half": 0.5, "tenth": 0.1}.items():
        reach = np.sqrt(-2 * np.log(share))
        assert 10 * np.sinh(found[f"{name}_before"]) == pytest.approx(10 * reach, abs=0.6)
        assert 10 * np.sinh(found[f"{name}_after"]) == pytest.approx(30 * reach, abs=0.6)
    assert found["rise"] > -found["fall"] > 0
    assert found["bright_elsewhere"] == 0
    np.testing.assert_allclose(found[["delay_u", "delay_y", "peak_g_r", "later_g_r"]].to_numpy(float), 0, atol=1e-6)


def test_of_equal_peaks_the_first_counts() -> None:
    part = bell(10, 10)
    part["flux"][(part["mjd"] == 60020) & (part["band"] == 2)] = part["flux"].max()
    curves = joined([part])
    found = features(curves, catalog(curves)).iloc[0]
    assert found["delay_r"] == 0


@pytest.mark.parametrize("parts_given", [drawn(1, 0), drawn(4, 0)])
def test_objects_without_observations_have_none_of_the_features_of_light(
    parts_given: list[dict[str, np.ndarray]],
) -> None:
    curves = joined(parts_given)
    found = features(curves, catalog(curves)).iloc[0]
    told = found.drop(["id", "count", "detections", *CATALOG])
    assert told.isna().all()
    assert found["count"] == found["detections"] == 0


def test_constant_fluxes_have_no_shape_but_a_level() -> None:
    part = bell(10, 10)
    part["flux"] = np.full_like(part["flux"], 0.1)
    curves = joined([part])
    found = features(curves, catalog(curves)).iloc[0]
    assert found["mean_r"] == pytest.approx(np.arcsinh(0.01))
    assert found[["skew_r", "kurtosis_r", "eta_r"]].isna().all()
    assert found["excess_r"] == 0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda objects: objects.drop(columns="distmod"), "the column 'distmod'.*there are: id, photoz"),
        (lambda objects: objects.iloc[2:], "2 of 100 light curves have no row.*id 10, 11"),
    ],
)
def test_what_is_missing_is_named(
    parts: list[dict[str, np.ndarray]], spoil: Callable[[pd.DataFrame], pd.DataFrame], said: str
) -> None:
    curves = joined(parts)
    with pytest.raises(UserError, match=said):
        features(curves, spoil(catalog(curves)))


def test_no_light_curves_are_refused() -> None:
    curves = joined(drawn(1, 0)).take(np.zeros(0, np.int64))
    with pytest.raises(UserError, match="no light curves"):
        features(curves, catalog(curves))


def test_features_tell_real_classes_apart(real: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_score

    table = pd.read_csv(real / "plasticc" / "training_set.csv").sort_values(["object_id", "mjd", "passband"])
    known = pd.read_csv(real / "plasticc" / "training_set_metadata.csv")
    ids, counts = np.unique(table["object_id"], return_counts=True)
    curves = LightCurves(
        ids,
        np.cumsum([0, *counts]),
        table["mjd"].to_numpy(),
        table["passband"].to_numpy(np.int8),
        table["flux"].to_numpy(np.float32),
        table["flux_err"].to_numpy(np.float32),
        table["detected"].to_numpy(bool),
    )
    objects = known.rename(columns={"object_id": "id", "hostgal_photoz": "photoz", "hostgal_photoz_err": "photoz_err"})
    objects = objects.assign(galactic=objects["photoz"] == 0)
    found = features(curves, objects)
    labels = objects.set_index("id")["target"].loc[found["id"]].to_numpy()
    forest = RandomForestClassifier(100, class_weight="balanced_subsample", min_samples_leaf=2, random_state=0)
    scores = cross_val_score(forest, found[list(NAMES)].to_numpy(), labels, cv=3, scoring="balanced_accuracy")
    assert scores.mean() > 0.55  # 0.65 of 500 trees in 5 folds; 1/14 by chance
