"""Which answers of different campaigns mean the same."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from galaxyml.runs.errors import UserError
from galaxyml.trees import DecisionTree
from galaxyml.trees.ontology import FILE, Ontology

CAMPAIGNS = ["gz2", "gzd12", "gzd5", "ukidss"]
LATER = ["gz2_hub", "gz_hubble", "gz_candels", "gz_desi", "gz_euclid", "gz_jwst", "gz_h2o"]
# The published comparison's mapping, column by column (its own file; suffix _fraction left out).
MAPPING = """
smooth_or_features_smooth t01_smooth_or_features_a01_smooth smooth-or-featured_smooth smooth-or-featured-ukidss_smooth
edge_on_yes t02_edgeon_a04_yes disk-edge-on_yes disk-edge-on-ukidss_yes
edge_on_no t02_edgeon_a05_no disk-edge-on_no disk-edge-on-ukidss_no
bar_yes t03_bar_a06_bar bar_yes bar-ukidss_yes
spiral_arms_no t04_spiral_a09_no_spiral has-spiral-arms_no has-spiral-arms-ukidss_no
bulge_size_none t05_bulge_prominence_a10_no_bulge bulge-size_none bulge-size-ukidss_no
bulge_size_dominant t05_bulge_prominence_a13_dominant bulge-size_dominant bulge-size-ukidss_dominant
rounded_completely_round t07_rounded_a16_completely_round how-rounded_completely how-rounded-ukidss_round
rounded_cigar_shaped t07_rounded_a18_cigar_shaped how-rounded_cigar-shaped how-rounded-ukidss_cigar
spiral_winding_loose t10_arms_winding_a30_loose spiral-winding_loose spiral-winding-ukidss_loose
bulge_shape_no_bulge t09_bulge_shape_a27_no_bulge edge-on-bulge_none bulge-shape-ukidss_no-bulge
"""


@pytest.mark.parametrize(
    ("name", "answers", "questions"), [("gz2", 37, 11), ("gzd12", 30, 10), ("gzd5", 34, 10), ("ukidss", 30, 10)]
)
def test_trees_have_the_answers_of_their_campaigns(name: str, answers: int, questions: int) -> None:
    tree = DecisionTree.load(name)
    assert (len(tree.columns), len(tree.questions)) == (answers, questions)


def test_bar_arms_and_bulge_hang_on_disks_that_are_not_edge_on() -> None:
    for name in CAMPAIGNS:
        leads = {question.name: question.after for question in DecisionTree.load(name).questions}
        below = [
            after
            for question, after in leads.items()
            if question.startswith(("t03", "t04", "t05", "bar", "has-s", "bulge-size"))
        ]
        assert len(below) == 3
        assert all(
            len(after) == 1 and after[0].endswith(("a05_no", "disk-edge-on_no", "disk-edge-on-ukidss_no"))
            for after in below
        )


def test_features_are_the_published_mapping() -> None:
    ontology = Ontology.load()
    for line in MAPPING.strip().splitlines():
        feature, *columns = line.split()
        for campaign, column in zip(("gz2", "gzd12", "ukidss"), columns, strict=True):
            matrix = ontology.matrix(campaign, [feature])[:, 0]
            assert [DecisionTree.load(campaign).columns[at] for at in np.flatnonzero(matrix)] == [column]


def test_each_answer_belongs_to_one_feature_of_its_own_question() -> None:
    ontology = Ontology.load()
    for campaign in (*CAMPAIGNS, *LATER):
        matrix = ontology.matrix(campaign, ontology.features)
        assert (matrix.sum(axis=1) == 1).all()
        tree = DecisionTree.load(campaign)
        for feature, column in zip(ontology.features, matrix.T, strict=True):
            assert len({tree.question_of[at] for at in np.flatnonzero(column)}) <= 1, feature


def test_the_published_lists_have_their_lengths_and_the_intersection_has_26() -> None:
    ontology = Ontology.load()
    lengths = {name: len(found.features) * len(found.values) for name, found in ontology.lists.items()}
    assert lengths == {"9": 9, "11": 11, "26": 26, "52": 52, "74": 74}
    assert set(ontology.common(["gz2", "gzd12", "ukidss"])) == set(ontology.lists["26"].features)
    assert {"odd_yes", "odd_no"} <= set(ontology.common(["gz2", "ukidss"])) - set(ontology.common(["gzd12"]))


def test_later_campaigns_share_what_they_ask_alike() -> None:
    ontology = Ontology.load()
    assert ontology.has("gz2_hub") == ontology.has("ukidss")
    assert ontology.has("gz_desi") == ontology.has("gzd5")
    assert set(ontology.has("gz_euclid")) - set(ontology.has("gz_h2o")) == {"artifact_kind_ghost"}
    published = set(ontology.lists["26"].features)
    for campaign in set(LATER) - {"gz_candels"}:
        assert published <= set(ontology.has(campaign)), campaign
    assert published - set(ontology.has("gz_candels")) == {
        f"bulge_shape_{shape}" for shape in ("rounded", "boxy", "no_bulge")
    }
    for campaign in LATER:
        labels = [ontology.label(feature) for feature in ontology.has(campaign)]
        assert len(set(labels)) == len(labels), campaign  # figures tell them apart


def test_an_answer_that_belongs_nowhere_or_is_unknown_is_refused(tmp_path: Path) -> None:
    content = yaml.safe_load(FILE.read_text())
    del content["questions"][2]["features"]["bar_no"]["gz2"]
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(UserError, match="the answer t03_bar_a07_no_bar of gz2 belongs to 0 features"):
        Ontology.load(path)
    content["questions"][2]["features"]["bar_no"]["gz2"] = "a07_no_baar"
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(UserError, match=r"gz2 has no answer 'a07_no_baar'\. Did you mean a07_no_bar"):
        Ontology.load(other)
    with pytest.raises(UserError, match="there is no feature 'bar_maybe'"):
        Ontology.load().question_of("bar_maybe")
