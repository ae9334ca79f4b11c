"""Surveys mixed for training and judged on others: numbers, overlap, quality and the audit."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from galaxyml.data.splits import Folds, Holdout
from galaxyml.data.tables.vote_catalogue import SurveyTable
from galaxyml.runs.errors import DataError, UserError
from galaxyml.tasks.surveys import Survey, Surveys
from galaxyml.trees import DecisionTree

COUNTS = {"sdss": 60, "decals": 30, "ukidss": 24}
CAMPAIGNS = {"sdss": "gz2", "decals": "gzd12", "ukidss": "ukidss"}
SHARED, TWICE = 10, 4  # of DECaLS that SDSS has seen; of UKIDSS that SDSS has seen


class Written:
    """A catalogue of random votes and images, some of which other surveys have, too."""

    def __init__(self, name: str, same_image: bool = False) -> None:
        self.name, self.campaign, self.same_image = name, CAMPAIGNS[name], same_image

    def files(self, root: Path) -> list[str]:
        return []

    def read(
        self, root: Path, kinds: Sequence[str], notes: list[str], steps: Callable[[str, int, int], None]
    ) -> SurveyTable:
        count = COUNTS[self.name]
        tree, rng = DecisionTree.load(self.campaign), np.random.default_rng(len(self.name))
        number = np.arange(count, dtype=float)
        # Positions 1 degree apart along the equator; the surveys' own ranges do not meet but where they are to.
        start = {"sdss": 0, "decals": 60 - SHARED, "ukidss": 0}[self.name]
        ra = start + number + (0.5 / 3600 if self.name != "sdss" else 0)
        if self.name == "ukidss":
            ra[TWICE:] += 200
        votes = np.zeros((count, len(tree.questions)))
        votes[:, 0] = rng.integers(2, 12, count)
        fractions = np.full((count, len(tree.columns)), np.nan)
        fractions[:, :3] = rng.dirichlet(np.ones(3), count)
        images = []
        for place in range(count):
            path = root / self.name / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            if self.same_image and place == count - 1:
                pixels = np.asarray(Image.open(root / "sdss" / "30.png"))
            Image.fromarray(pixels).save(path)
            images.append(f"{self.name}/{place}.png")
        galaxies = pd.DataFrame(
            {"id": [str(place) for place in range(count)], "image": images, "ra": ra % 360, "dec": 0.0}
        )
        galaxies["id"] = f"{self.name}-" + galaxies["id"]
        return SurveyTable(galaxies.assign(votes=votes[:, 0]), votes, {"fraction": fractions})


class Folder:
    name = "written files"

    def __init__(self, path: Path) -> None:
        self.path = path

    def folder(self) -> Path:
        return self.path


def made(path: Path, same_image: bool = False, **options: Any) -> Surveys:
    catalogues: dict[str, Any] = {name: Written(name, same_image and name == "ukidss") for name in COUNTS}
    surveys = {name: Survey(name.upper(), catalogue) for name, catalogue in catalogues.items()}
    given = {"train": ["sdss", "decals"], "test": ["ukidss"], **options}
    arguments: dict[str, Any] = {
        "features": "common",
        "source": Folder(path),
        "cache_dir": str(path / "cache"),
        "fold": 0,
        "split": Folds(4),
        "seed": 0,
        "size": 8,
        "crop": 1.0,
        "margin": 1.0,
        "separation": 3.0,
        "batch_size": 8,
        "workers": 0,
    }
    return Surveys(surveys=surveys, **{**arguments, **given})


def ready(path: Path, **options: Any) -> Surveys:
    data = made(path, **options)
    data.setup()
    return data


def table(data: Surveys) -> pd.DataFrame:
    assert data.catalog is not None
    return data.catalog


def test_held_out_galaxies_are_of_the_surveys_trained_on_and_test_galaxies_never(tmp_path: Path) -> None:
    catalog = table(ready(tmp_path))
    counts = pd.crosstab(catalog["survey"], catalog["split"])
    assert (counts.loc[["sdss", "decals"], ["train", "val"]] > 0).all(axis=None)
    assert counts.loc["ukidss"].to_dict() == {"test": COUNTS["ukidss"], "train": 0, "val": 0}
    assert counts.loc["sdss"].sum() == COUNTS["sdss"] - TWICE
    assert catalog["id"].is_unique
    assert (catalog.loc[catalog["survey"] == "ukidss", "fold"] == -1).all()


def test_no_galaxy_that_is_judged_is_trained_on_and_the_audit_names_each(tmp_path: Path) -> None:
    data = ready(tmp_path)
    catalog = table(data)
    judged, trained = catalog[catalog["split"] == "test"], catalog[catalog["split"] != "test"]
    away = np.abs(judged["ra"].to_numpy()[:, None] - trained["ra"].to_numpy()[None]) * 3600
    assert away.min() > 3
    audit = data.artifacts["audit"]
    assert set(audit["trained"]) == {f"sdss:sdss-{place}" for place in range(TWICE)}
    assert (audit["trained"].str.rpartition("-")[2] == audit["judged"].str.rpartition("-")[2]).all()
    np.testing.assert_allclose(audit["separation_arcsec"], 0.5, atol=1e-6)
    assert any("audit: left out of training" in note for note in data.notes)


def test_what_is_one_galaxy_with_one_that_is_judged_is_not_trained_on_either(tmp_path: Path) -> None:
    # UKIDSS's is 2 arcsec from DECaLS's, and that 2 arcsec from SDSS's, on its other side.
    data = made(tmp_path)
    data.separation = 2.5

    def shifted(name: str, place: int, arcsec: float) -> None:
        catalogue: Any = data.surveys[name].catalogue
        read = catalogue.read

        def moved(*arguments: Any) -> SurveyTable:
            table = read(*arguments)
            table.galaxies.loc[place, "ra"] = 300 + arcsec / 3600
            return table

        catalogue.read = moved

    shifted("sdss", 40, 0.0)
    shifted("decals", 20, 2.0)
    shifted("ukidss", 10, 4.0)
    data.setup()
    trained = set(table(data)["id"])
    assert not {"sdss:sdss-40", "decals:decals-20"} & trained
    audit = data.artifacts["audit"].set_index("trained")["judged"]
    assert audit["decals:decals-20"] == "ukidss:ukidss-10"
    assert audit["sdss:sdss-40"] == "decals:decals-20"


def test_galaxies_without_a_position_cannot_be_vouched_for(tmp_path: Path) -> None:
    def blind() -> Surveys:
        data = made(tmp_path, leakage=leakage)
        catalogue: Any = data.surveys["ukidss"].catalogue
        read = catalogue.read

        def without(*arguments: Any) -> SurveyTable:
            table = read(*arguments)
            table.galaxies[["ra", "dec"]] = np.nan
            return table

        catalogue.read = without
        return data

    leakage = "remove"
    data = blind()
    data.setup()
    assert any(note.startswith("audit: galaxies have no position (24 of ukidss)") for note in data.notes)
    assert any(step.what == "sdss: not among ukidss, by id, and position where it is known" for step in data.steps)
    leakage = "error"
    with pytest.raises(DataError, match=r"leakage=error: galaxies have no position \(24 of ukidss\)"):
        blind().setup()


def test_an_image_that_is_judged_is_not_trained_on(tmp_path: Path) -> None:
    data = ready(tmp_path, same_image=True)
    catalog = table(data).set_index("id")
    assert catalog.loc["sdss:sdss-30", "split"] == "left out"
    assert catalog.loc["ukidss:ukidss-23", "split"] == "test"
    assert data.artifacts["audit"].iloc[-1][["trained", "judged", "by"]].tolist() == [
        "sdss:sdss-30",
        "ukidss:ukidss-23",
        "image",
    ]
    assert int(data.rows("train").shape[0] + data.rows("val").shape[0] + data.rows("test").shape[0]) == len(catalog) - 1


def test_leaks_can_be_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"leakage=error: .* judged as well \(4\): sdss:sdss-0 = ukidss:ukidss-0"):
        ready(tmp_path, leakage="error")
    ready(tmp_path, leakage="error", train=["decals"])  # nothing of it is judged


def test_a_galaxy_that_two_surveys_have_seen_is_in_one_fold(tmp_path: Path) -> None:
    catalog = table(ready(tmp_path))
    pairs = catalog[catalog["survey"] != "ukidss"].assign(place=catalog["ra"].round(2)).groupby("place")
    both = [part for _, part in pairs if len(part) == 2]
    assert len(both) == SHARED
    assert all(len(set(part["fold"])) == 1 for part in both)


def test_overlap_keeps_what_all_surveys_have_seen(tmp_path: Path) -> None:
    counts = table(ready(tmp_path, overlap=True)).groupby("survey").size()
    assert (counts["sdss"], counts["decals"]) == (SHARED, SHARED)
    with pytest.raises(UserError, match="overlap=true needs two surveys to train on"):
        made(tmp_path, overlap=True, train=["sdss"])
    with pytest.raises(UserError, match=r"numbers.sdss=5: with overlap=true all surveys keep the same galaxies"):
        made(tmp_path, overlap=True, numbers={"sdss": 5})


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"sdss": 20}, (20, 30, 24)),
        ({"sdss": "decals"}, (30, 30, 24)),
        ({"sdss": "decals", "decals": 12}, (12, 12, 24)),
        ({"ukidss": 5, "sdss": 1000}, (56, 30, 5)),
    ],
)
def test_numbers_of_each_survey_are_as_asked_for(
    tmp_path: Path, numbers: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    data = ready(tmp_path, numbers=numbers)
    counts = table(data).groupby("survey").size()
    assert tuple(counts[name] for name in COUNTS) == expected
    assert any("has only 56 galaxies" in note for note in data.notes) == (1000 in numbers.values())


def test_draws_depend_on_the_seed_alone(tmp_path: Path) -> None:
    first, again, other = (set(table(ready(tmp_path, numbers={"sdss": 20}, seed=seed))["id"]) for seed in (0, 0, 1))
    assert first == again != other


def test_galaxies_with_few_votes_are_left_out(tmp_path: Path) -> None:
    data = ready(tmp_path, least_votes=8)
    catalog = table(data)
    assert catalog["votes"].min() >= 8
    assert 0 < len(catalog) < len(table(ready(tmp_path)))
    with pytest.raises(DataError, match="no galaxy of sdss has a vote on any of"):
        ready(tmp_path, least_votes=100)


def test_balanced_batches_have_as_many_of_each_survey(tmp_path: Path) -> None:
    data = ready(tmp_path, balance=1.0)
    rows = data.rows("train")
    weights = data.row_weights(rows)
    assert weights is not None
    survey = table(data)["survey"].to_numpy()[rows.numpy()]
    assert weights[survey == "sdss"].sum() == pytest.approx(float(weights[survey == "decals"].sum()))
    assert ready(tmp_path).row_weights(rows) is None


def test_targets_stand_beside_their_images(tmp_path: Path) -> None:
    data = ready(tmp_path, numbers={"sdss": 20})
    catalog = table(data)
    batch = data.images[torch.arange(len(catalog))]
    first = data.vocabulary.features[:3]
    np.testing.assert_allclose(batch["target"][:, :3, 0], catalog[first], rtol=1e-6)
    np.testing.assert_allclose(batch["target"][:, :3, 1], np.repeat(catalog[["votes"]].to_numpy(), 3, axis=1))
    assert torch.isnan(batch["target"][:, 3:, 0]).all()  # not asked
    assert data.kind.caption(np.ones(len(data.kind.outputs)), batch["target"][0].numpy()).startswith("true: ")


@pytest.mark.parametrize("heads", ["shared", "own"])
def test_captions_name_the_answers(tmp_path: Path, heads: str) -> None:
    data = made(tmp_path, features=9, heads=heads)
    said, true = np.zeros(len(data.kind.outputs)), np.full((len(data.kind.outputs), 2), np.nan)
    for question, best in (("smooth", 0), ("edge", 1)):
        size = {"smooth": 3, "edge": 2}[question]
        at = 0 if question == "smooth" else data.vocabulary.sizes[0] * (2 if heads == "own" else 1)
        true[at : at + size, 0], said[at + best] = 1 / size, 0.9
    lines = data.kind.caption(said, true).splitlines()
    assert lines[1] == "predicted: smooth 1.00, not edge-on 1.00"


def test_what_the_surveys_have_in_common_is_told(tmp_path: Path) -> None:
    data = ready(tmp_path)
    told = data.artifacts["features"].set_index("feature")
    assert len(told) == 26
    assert [told.loc["bar_yes", name] for name in ("sdss", "decals", "ukidss")] == [
        "t03_bar_a06_bar",
        "bar_yes",
        "bar-ukidss_yes",
    ]
    assert told.loc["smooth_or_features_smooth", "decals_asked"] == str(COUNTS["decals"])
    assert any(note.startswith("features that sdss, decals, ukidss have in common (26 of 26)") for note in data.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"leakage": "maybe"}, "leakage=maybe: it must be remove or error"),
        ({"least_votes": 0}, "least_votes=0: it must be a whole number, 1 or more"),
        ({"numbers": {"hst": 3}}, "numbers.hst: this run has no such survey"),
        ({"numbers": {"sdss": 0}}, "numbers.sdss=0: it must be a whole number"),
        ({"numbers": {"sdss": "sdss"}}, "numbers.sdss=sdss: give a number, or another survey of"),
        ({"numbers": {"sdss": "decals", "decals": "sdss"}}, "give a number, or another survey of"),
        ({"balance": 2.0}, "balance=2.0: it must be a number in"),
        ({"separation": None}, "separation=null: a number of arcseconds is needed"),
        ({"split": Holdout(0.2, 0.2, 1)}, "split=holdout: test galaxies of this task are those of other surveys"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(tmp_path, **options)
