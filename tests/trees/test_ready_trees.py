"""The trees of Galaxy Zoo's later campaigns, against what galaxy-datasets 0.0.25 and the voting sites say."""

import pytest

from galaxyml.trees import DecisionTree, tree_names

# Question: answers < answers that lead there. Of smooth-or-featured the third answer differs.
ARTIFACT, PROBLEM, ZOOM = "artifact", "problem", "star-artifact-zoom"
LATER = """
disk-edge-on: yes no < smooth-or-featured_featured-or-disk
has-spiral-arms: yes no < disk-edge-on_no
bar: strong weak no < disk-edge-on_no
bulge-size: dominant large moderate small none < disk-edge-on_no
how-rounded: round in-between cigar-shaped < smooth-or-featured_smooth
edge-on-bulge: boxy none rounded < disk-edge-on_yes
spiral-winding: tight medium loose < has-spiral-arms_yes
spiral-arm-count: 1 2 3 4 more-than-4 cant-tell < has-spiral-arms_yes
merging: none minor-disturbance major-disturbance merger < smooth-or-featured_smooth smooth-or-featured_featured-or-disk
"""
EARLY = """
smooth-or-featured: smooth features artifact <
how-rounded: completely in-between cigar-shaped < smooth-or-featured_smooth
clumpy-appearance: yes no < smooth-or-featured_features
disk-edge-on: yes no < clumpy-appearance_no
bar: yes no < disk-edge-on_no
has-spiral-arms: yes no < disk-edge-on_no
spiral-winding: tight medium loose < has-spiral-arms_yes
spiral-arm-count: 1 2 3 4 5-plus cant-tell < has-spiral-arms_yes
"""
FACTS = {
    "gz_hubble": EARLY
    + """
bulge-shape: rounded boxy none < disk-edge-on_yes
bulge-size: none just-noticeable obvious dominant < disk-edge-on_no
galaxy-symmetrical: yes no < clumpy-appearance_yes
clumps-embedded-larger-object: yes no < clumpy-appearance_yes
""",
    "gz_candels": EARLY
    + """
edge-on-bulge: yes no < disk-edge-on_yes
bulge-size: none obvious dominant < disk-edge-on_no
merging: merger tidal-debris both neither < smooth-or-featured_smooth smooth-or-featured_features
""",
    "gz_desi": "smooth-or-featured: smooth featured-or-disk artifact <" + LATER,
    "gz_euclid": "smooth-or-featured: smooth featured-or-disk problem <"
    + LATER
    + """
clumps: yes no < disk-edge-on_no
problem: star artifact zoom < smooth-or-featured_problem
artifact: satellite scattered diffraction ray saturation other ghost < problem_artifact
""",
    "gz_jwst": "smooth-or-featured: smooth featured-or-disk star-artifact-zoom <"
    + LATER
    + """
clumps: yes no < smooth-or-featured_smooth smooth-or-featured_featured-or-disk
problem: star artifact bad-zoom < smooth-or-featured_star-artifact-zoom
""",
}
FACTS["gz_h2o"] = FACTS["gz_euclid"].replace(" ghost", "")
COUNTS = {"gz_hubble": 34, "gz_candels": 32, "gz_desi": 34, "gz_euclid": 46, "gz_jwst": 39, "gz_h2o": 45}
SUFFIXES = {"gz_desi": "", "gz_h2o": "-cd"}


def facts(name: str) -> dict[str, tuple[list[str], set[str]]]:
    """Columns of each question, and those that lead to it, with the campaign's suffix."""
    suffix = SUFFIXES.get(name, "-" + name.removeprefix("gz_"))
    found = {}
    for line in filter(None, FACTS[name].splitlines()):
        question, rest = line.split(":")
        answers, after = rest.split("<")
        columns = [f"{question}{suffix}_{answer}" for answer in answers.split()]
        found[question + suffix] = columns, {lead.replace("_", f"{suffix}_", 1) for lead in after.split()}
    return found


@pytest.mark.parametrize("name", FACTS)
def test_a_ready_tree_asks_what_its_campaign_asks(name: str) -> None:
    tree = DecisionTree.load(name)
    assert {question.name: (list(question.columns), set(question.after)) for question in tree.questions} == facts(name)
    assert len(tree.columns) == COUNTS[name]
    assert len(set(tree.labels.values())) == len(tree.columns)  # figures tell answers apart


def test_all_trees_are_named() -> None:
    assert set(tree_names()) == {*FACTS, "kaggle", "gz2", "gz2_hub", "gzd12", "gzd5", "ukidss"}
    assert DecisionTree.load("gz_desi").columns == DecisionTree.load("gzd5").columns  # the same campaign's questions
    names = [name.replace("-ukidss", "-gz2") for name in DecisionTree.load("ukidss").columns]
    assert DecisionTree.load("gz2_hub").columns == names  # those of Galaxy Zoo 2 on infrared images
