"""Files of several surveys of one sky."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.coordinates import angular_separation
from PIL import Image

from galaxyml.data.duplicates import nearest
from galaxyml.runs.errors import UserError
from galaxyml.sky import render, surveys, write_surveys
from galaxyml.sky.camera import Frame, stretch
from galaxyml.sky.campaigns import expected_shares, through
from galaxyml.sky.population import population, rows
from galaxyml.sky.render import observe, scene
from galaxyml.sky.survey import GZD, SDSS, TYPICAL, UKIDSS, Survey, one_thing_changed
from galaxyml.sky.surveys import members
from galaxyml.sky.visibility import seen_clearly
from galaxyml.trees import DecisionTree

COUNT = 40
CAUSES = ("sdss", "psf", "depth", "bands", "ukidss")
CAMERAS = (SDSS, GZD, UKIDSS, *one_thing_changed(SDSS, UKIDSS).values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("surveys") / "sky"
    write_surveys(path, COUNT, seed=2, overlap=0.4, size=32, causes=True)
    return path


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    return {
        "gz2": pd.read_csv(folder / "sdss" / "gz2_hart16.csv"),
        "gzd12": pd.read_csv(folder / "decals" / "gz_decals_volunteers_1_and_2.csv"),
        "gzd5": pd.read_csv(folder / "decals" / "gz_decals_volunteers_5.csv"),
        "ukidss": pd.read_csv(folder / "ukidss" / "ukidss_catalog.csv"),
    }


def test_tables_have_the_columns_and_rows_of_the_releases(folder: Path) -> None:
    found = tables(folder)
    assert {name: table.shape for name, table in found.items()} == {
        "gz2": (COUNT, 231),
        "gzd12": (COUNT // 2, 115),
        "gzd5": (COUNT // 4, 127),
        "ukidss": (COUNT // 2, 4 + 2 * 30 + 10),
    }
    assert found["gz2"]["dr7objid"].astype(str).str.fullmatch(r"\d{18}").all()
    assert found["gzd12"]["iauname"].str.fullmatch(r"J\d{6}\.\d\d[+-]\d{6}\.\d").all()


def test_headers_are_those_of_the_real_tables(folder: Path, real: Path) -> None:
    for name in ("sdss/gz2_hart16.csv", "decals/gz_decals_volunteers_1_and_2.csv", "decals/gz_decals_volunteers_5.csv"):
        own, theirs = (list(pd.read_csv(root / name, nrows=1)) for root in (folder, real / "surveys"))
        assert own == theirs


@pytest.mark.parametrize("campaign", ["gz2", "gzd12", "gzd5", "ukidss"])
def test_fractions_are_counts_over_the_votes_of_their_question(folder: Path, campaign: str) -> None:
    table, tree = tables(folder)[campaign], DecisionTree.load(campaign)
    suffix = "_count" if campaign == "gz2" else ""
    for question in tree.questions:
        counts = table[[column + suffix for column in question.columns]].to_numpy()
        total = counts.sum(1)
        if campaign != "gz2":
            np.testing.assert_array_equal(table[f"{question.name}_total-votes"], total)
        fractions = table[[f"{column}_fraction" for column in question.columns]].to_numpy()
        asked = total > 0
        np.testing.assert_allclose(fractions[asked], counts[asked] / total[asked, None], atol=6e-4)
        unasked = fractions[~asked]
        assert np.isnan(unasked).all() if campaign == "gzd5" else (unasked == 0).all()


def test_every_row_has_its_image(folder: Path) -> None:
    mapping = pd.read_csv(folder / "sdss" / "gz2_filename_mapping.csv")
    assert set(mapping["objid"]) == set(tables(folder)["gz2"]["dr7objid"])
    paths = [folder / "sdss" / "images" / f"{asset}.jpg" for asset in mapping["asset_id"]]
    for name in (*tables(folder)["gzd12"]["iauname"], *tables(folder)["gzd5"]["iauname"]):
        paths.append(folder / "decals" / "gz_decals_dr5_png_part1" / name[:4] / f"{name}.png")
    for place in ("ukidss", *(f"causes/{name}" for name in CAUSES)):
        table = pd.read_csv(folder / place / "ukidss_catalog.csv")
        named = zip(table["subfolder"], table["filename"], strict=True)
        paths += [folder / place / "images" / subfolder / file for subfolder, file in named]
    for path in paths:
        with Image.open(path) as image:
            assert image.size == (32, 32)


def test_surveys_share_as_many_galaxies_as_asked_for(folder: Path) -> None:
    sdss = tables(folder)["gz2"]
    for name, place in (("gzd12", ""), ("ukidss", "ukidss/ukidss_positions.csv")):
        other = pd.read_csv(folder / place) if place else tables(folder)[name]
        near = nearest(other, sdss)[1] < 1.0
        assert near.sum() == round(0.4 * len(other))
    truth = pd.read_csv(folder / "truth.csv", low_memory=False)
    both = truth[truth["survey"].isin(["sdss", "ukidss"])].groupby("galaxy").size()
    assert (both == 2).sum() == round(0.4 * COUNT / 2)


def test_decals_galaxies_that_were_seen_again_have_one_name(folder: Path) -> None:
    found = tables(folder)
    again = found["gzd5"][found["gzd5"]["in_gzd_ab"]]
    assert len(again) > 0
    assert set(again["iauname"]) <= set(found["gzd12"]["iauname"])


@pytest.mark.parametrize("overlap", [0.0, 0.25, 1.0])
def test_members_are_distinct_and_shared_as_asked_for(overlap: float) -> None:
    found = members(200, overlap, seed=0)
    assert [len(found[name]) for name in ("sdss", "decals12", "decals5", "ukidss")] == [200, 100, 50, 100]
    for name, part in found.items():
        assert len(set(part)) == len(part)
        if name != "sdss":
            assert (part < 200).sum() == round(overlap * len(part))


def test_causes_differ_in_their_images_alone(folder: Path) -> None:
    found = {name: pd.read_csv(folder / "causes" / name / "ukidss_catalog.csv") for name in CAUSES}
    for table in found.values():
        votes = [column for column in map(str, table) if "-ukidss" in column]
        pd.testing.assert_frame_equal(table[votes], found["sdss"][votes])
    ids = [name for table in found.values() for name in table["subject_id"]]
    assert len(set(ids)) == len(ids)


def test_noise_and_seeing_are_the_surveys_own() -> None:
    galaxy = next(rows(population(30, 4).assign(seeing=1.25, depth=1.0)))
    for survey in CAMERAS:
        frame = scene(galaxy, np.random.default_rng(0), survey)
        light = observe(galaxy, frame, np.random.default_rng(1))
        rim = torch.cat([light[:, :12].flatten(1), light[:, -12:].flatten(1)], 1)
        binned = survey.camera_pixel / frame.pixel
        noise = 1.4826 * (rim - rim.median(1, keepdim=True).values).abs().median(1).values
        assert noise.numpy() == pytest.approx(np.array(survey.sky_noise) * binned, rel=0.1), survey.name


@pytest.mark.parametrize("survey", CAMERAS, ids=lambda survey: survey.name)
def test_a_star_is_as_wide_as_the_seeing_of_the_survey(survey: Survey) -> None:
    """Where it is half as bright as in its middle, after the noise is taken away; the pixels widen it a little."""
    still = {f"shift_{band}_{axis}": 0.0 for band in "gi" for axis in "xy"}
    galaxy = next(rows(population(1, 4).assign(seeing=1.25, r90=5.0).assign(**still)))
    dark = replace(survey, sky_noise=(0.0, 0.0, 0.0), photon_noise=0.0)
    frame = Frame.of(dark.cutout * dark.cutout_pixel(galaxy.r90), dark)
    middle = frame.x.shape[0] // 2
    frame.add_points(frame.x[0, middle : middle + 1].numpy(), frame.x[0, middle : middle + 1].numpy(), np.ones((3, 1)))
    for light, factor in zip(observe(galaxy, frame, np.random.default_rng(0)), survey.seeing, strict=True):
        peak = light.argmax().item()
        line = light[peak // light.shape[1], peak % light.shape[1] :].numpy()
        half = np.interp(-line[0] / 2, -line, np.arange(len(line))) * frame.pixel
        assert 2 * half == pytest.approx(1.25 * factor, rel=0.08)


def test_with_the_depth_of_ukidss_a_galaxy_stands_as_far_above_the_noise_as_there() -> None:
    galaxy = next(rows(population(200, 4, "smooth").assign(seeing=1.25, depth=1.0, color=TYPICAL)))
    changed = one_thing_changed(SDSS, UKIDSS)
    above = {}
    for survey in (SDSS, UKIDSS, changed["depth"], changed["bands"]):
        # The same light within 2 arcsec, in units of the noise of as many square arcsec.
        frame = scene(galaxy, np.random.default_rng(0), replace(survey, extinction=SDSS.extinction))
        inside = torch.hypot(frame.x, frame.y) < 2
        noise = survey.sky_noise[1] / survey.camera_pixel
        above[survey.name] = float(frame.light[1][inside].sum()) / noise
    assert above[changed["depth"].name] == pytest.approx(above["UKIDSS"], rel=0.03)
    assert above[changed["bands"].name] == pytest.approx(above["SDSS"], rel=0.03)
    assert above["SDSS"] > 4 * above["UKIDSS"]


def test_images_with_the_depth_of_ukidss_show_less_and_are_as_dark() -> None:
    galaxies = population(40, 3, "spiral").query("r90 > 6").head(12)
    changed = one_thing_changed(SDSS, UKIDSS)
    seen = {}
    for survey in (SDSS, changed["depth"], changed["bands"], UKIDSS):
        images = render(galaxies, 424, 1, survey).float().mean(3)
        rim = torch.cat([images[:, :60].flatten(1), images[:, -60:].flatten(1)], 1)
        disk = images[:, 170:254, 170:254].flatten(1).mean(1) - rim.median(1).values
        seen[survey.name] = (float(rim.median()), float(disk.median()))
    sky = [level for level, _ in seen.values()]
    assert max(sky) < 9
    assert seen[changed["depth"].name][1] < 0.5 * seen["SDSS"][1]
    assert seen["UKIDSS"][1] < 0.5 * seen["SDSS"][1]
    assert seen[changed["bands"].name][1] > 0.6 * seen["SDSS"][1]


def test_real_images_are_as_bright_as_simulated_ones(real: Path) -> None:
    """Medians over images of the sky's level, of its noise, and of the brightest hundredth of the middle."""
    folders = {
        SDSS: "spirals/images/*.jpg",
        GZD: "surveys/decals/gz_decals_dr5_png_part*/J*/*.png",
        UKIDSS: "surveys/ukidss/examples/*.jpg",
    }
    galaxies = population(30, 5).query("kind != 'artifact'")
    for survey, where in folders.items():
        images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(real.glob(where))[:40]]
        theirs, own = (
            np.median([_brightness(image) for image in some], axis=0)
            for some in (
                [image for image in images if image.shape == (424, 424, 3)],
                render(galaxies, 424, 0, survey).numpy(),
            )
        )
        assert np.abs(own[0] - theirs[0]).max() < 4, (survey.name, own[0], theirs[0])
        assert np.abs(own[1] - theirs[1]).max() < 4, (survey.name, own[1], theirs[1])
        assert np.abs(own[2] - theirs[2]).max() < 50, (survey.name, own[2], theirs[2])


def _brightness(image: np.ndarray) -> np.ndarray:
    rim = np.concatenate([image[:70].reshape(-1, 3), image[-70:].reshape(-1, 3)]).astype(float)
    level = np.median(rim, axis=0)
    noise = 1.4826 * np.median(np.abs(rim - level), axis=0)
    return np.stack([level, noise, np.percentile(image[192:232, 192:232].reshape(-1, 3), 90, axis=0)])


def test_infrared_images_are_bluer_than_optical_ones() -> None:
    old = population(20, 8, "smooth").query("r90 > 6")
    tints = {}
    for survey in (SDSS, one_thing_changed(SDSS, UKIDSS)["bands"], UKIDSS):
        middle = render(old, 106, 0, survey).float()[:, 48:58, 48:58].mean((0, 1, 2))
        tints[survey.name] = float(middle[2] / middle[0])
    optical, changed, infrared = tints.values()
    assert optical < 0.8
    assert changed > 1.05
    assert infrared > 1.05


def test_colours_of_decals_are_muted_and_its_greys_are_not_changed() -> None:
    light = torch.from_numpy(np.random.default_rng(0).lognormal(-2, 0.3, (3, 20, 20))).float()
    muted, full = (stretch(light, survey) for survey in (GZD, replace(GZD, saturation=1.0)))
    assert muted.max() < 1
    torch.testing.assert_close(muted.mean(2), full.mean(2))
    torch.testing.assert_close(muted - muted.mean(2, keepdim=True), 0.45 * (full - full.mean(2, keepdim=True)))


def test_small_galaxies_of_decals_have_pixels_of_a_tenth_of_an_arcsecond() -> None:
    assert GZD.cutout_pixel(3.0) == 0.1
    assert GZD.cutout_pixel(12.0) == pytest.approx(0.24)


def test_weighted_fractions_count_careless_votes_less_and_sum_to_one(folder: Path) -> None:
    table, tree = tables(folder)["gz2"], DecisionTree.load("gz2")
    first = tree.questions[0].columns
    raw, weighted = (table[[f"{column}_{kind}" for column in first]] for kind in ("fraction", "weighted_fraction"))
    np.testing.assert_allclose(weighted.sum(axis=1), 1, atol=2e-3)
    assert 0 < np.abs(raw.to_numpy() - weighted.to_numpy()).mean() < 0.03
    counts, weights = (
        table[[f"{column}_{kind}" for column in tree.columns]].to_numpy() for kind in ("count", "weight")
    )
    assert (weights <= counts).all()
    assert (weights >= 0.3 * counts - 1e-9).all()
    assert weights.sum() / counts.sum() == pytest.approx(1 - 0.7 * 0.04, abs=0.01)


def test_totals_and_flags_of_galaxy_zoo_2_follow_from_its_columns(folder: Path) -> None:
    table, tree = tables(folder)["gz2"], DecisionTree.load("gz2")
    counts = table[[f"{column}_count" for column in tree.columns]].to_numpy()
    np.testing.assert_array_equal(table["total_votes"], counts.sum(1))
    np.testing.assert_array_equal(table["total_classifications"], counts[:, :3].sum(1))
    for column in tree.columns:
        np.testing.assert_array_equal(table[f"{column}_flag"] == 1, table[f"{column}_debiased"] >= 0.8)


def test_debiased_fractions_are_given_for_whole_galaxies_and_sum_to_one(folder: Path) -> None:
    for name in ("gzd12", "gzd5"):
        table, tree = tables(folder)[name], DecisionTree.load(name)
        given = table[[f"{column}_debiased" for column in tree.questions[0].columns]]
        assert (given.isna().all(axis=1) | given.notna().all(axis=1)).all()
        np.testing.assert_allclose(given.dropna().sum(axis=1), 1)
        every = table.loc[given.notna().all(axis=1), [f"{column}_debiased" for column in tree.columns]]
        assert every.notna().all(axis=None) == (name == "gzd12")  # unasked ones are 0 in the first, empty in the fifth


def test_debiased_galaxies_have_more_features() -> None:
    galaxies = through(population(1500, 9), SDSS)
    tree = DecisionTree.load("gz2")
    plain, clear = (expected_shares(some, tree).mean(0) for some in (galaxies, seen_clearly(galaxies)))
    assert clear[1] > plain[1] + 0.01


def test_positions_of_a_galaxy_are_within_half_an_arcsecond(folder: Path) -> None:
    truth = pd.read_csv(folder / "truth.csv", low_memory=False)
    truth = truth[truth["survey"].isin(["sdss", "decals12", "decals5", "ukidss"])]
    seen = 0
    for _, same in truth.groupby("galaxy"):
        for one in range(len(same) - 1):
            a, b = same.iloc[one], same.iloc[one + 1]
            away = 3600 * np.degrees(angular_separation(*np.radians([a.ra, a.dec, b.ra, b.dec])))
            assert away < 0.5
            if {a.survey, b.survey} == {"decals12", "decals5"}:
                assert away == 0
            seen += 1
    assert seen > 10


def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        write_surveys(tmp_path / name, 8, seed=seed, size=16)
    one, same, other = (
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("one", "same", "other")
    )
    assert one == same
    assert one["sdss/gz2_hart16.csv"] != other["sdss/gz2_hart16.csv"]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(surveys, "draw_to_files", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_surveys(tmp_path / "sky", 8, seed=1, size=16)
    assert list(tmp_path.iterdir()) == []


def test_images_of_the_surveys_are_told_apart() -> None:
    galaxies = population(12, 6)
    levels = {survey.name: render(galaxies, 64, 0, survey).float().mean((0, 1, 2)) for survey in (SDSS, GZD, UKIDSS)}
    red, _, blue = levels["UKIDSS"]
    assert blue > red  # infrared images look blue
    assert levels["GZ DECaLS"].min() > levels["SDSS"].min()  # their sky is grey


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 3}, "simulate.count=3: it must be a whole number, 8 or more"),
        ({"overlap": 1.5}, "simulate.overlap=1.5: it must be a share"),
    ],
)
def test_impossible_skies_are_refused(tmp_path: Path, options: dict[str, float], message: str) -> None:
    given: dict[str, float] = {"count": 10, "seed": 0, **options}
    with pytest.raises(UserError, match=message):
        write_surveys(tmp_path / "sky", **given)  # type: ignore[arg-type] # numbers of either kind
    assert not (tmp_path / "sky").exists()
