"""Files of several surveys of one sky."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from galaxyml.data.leakage import nearest
from galaxyml.errors import UserError
from galaxyml.sky import render, write_surveys
from galaxyml.sky.population import population
from galaxyml.sky.render import observe, scene
from galaxyml.sky.survey import GZD, SDSS, UKIDSS, one_thing_changed
from galaxyml.sky.surveys import CAUSES, members
from galaxyml.trees import DecisionTree

COUNT = 40


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


def test_every_row_has_its_picture(folder: Path) -> None:
    mapping = pd.read_csv(folder / "sdss" / "gz2_filename_mapping.csv")
    assert set(mapping["objid"]) == set(tables(folder)["gz2"]["dr7objid"])
    paths = [folder / "sdss" / "images" / f"{asset}.jpg" for asset in mapping["asset_id"]]
    for name in (*tables(folder)["gzd12"]["iauname"], *tables(folder)["gzd5"]["iauname"]):
        paths.append(folder / "decals" / "gz_decals_dr5_png_part1" / name[:4] / f"{name}.png")
    for place in ("ukidss", *(f"causes/{name}" for name in CAUSES)):
        table = pd.read_csv(folder / place / "ukidss_catalog.csv")
        paths += [folder / place / "images" / row.subfolder / row.filename for row in table.itertuples()]
    for path in paths:
        with Image.open(path) as picture:
            assert picture.size == (32, 32)


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
    for name, rows in found.items():
        assert len(set(rows)) == len(rows)
        if name != "sdss":
            assert (rows < 200).sum() == round(overlap * len(rows))


def test_causes_differ_in_their_pictures_alone(folder: Path) -> None:
    found = {name: pd.read_csv(folder / "causes" / name / "ukidss_catalog.csv") for name in CAUSES}
    for table in found.values():
        votes = [column for column in table if "-ukidss" in column]
        pd.testing.assert_frame_equal(table[votes], found["sdss"][votes])
    ids = [name for table in found.values() for name in table["subject_id"]]
    assert len(set(ids)) == len(ids)


def test_noise_and_seeing_are_the_surveys_own() -> None:
    galaxy = next(population(30, 4).assign(seeing=1.25, depth=1.0).itertuples(index=False, name="Galaxy"))
    for survey in (SDSS, GZD, UKIDSS, *one_thing_changed(SDSS, UKIDSS).values()):
        frame = scene(galaxy, np.random.default_rng(0), survey)
        light = observe(galaxy, frame, np.random.default_rng(1))
        rim = torch.cat([light[:, :12].flatten(1), light[:, -12:].flatten(1)], 1)
        binned = survey.camera_pixel / frame.pixel
        noise = 1.4826 * (rim - rim.median(1, keepdim=True).values).abs().median(1).values
        assert noise.numpy() == pytest.approx(np.array(survey.sky_noise) * binned, rel=0.1), survey.name


def test_pictures_of_the_surveys_are_told_apart() -> None:
    galaxies = population(12, 6)
    levels = {survey.name: render(galaxies, 64, 0, survey).float().mean((0, 1, 2)) for survey in (SDSS, GZD, UKIDSS)}
    red, _, blue = levels["UKIDSS"]
    assert blue > red  # infrared pictures look blue
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
