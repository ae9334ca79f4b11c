"""Votes in a table's columns, against a simulation of volunteers who walk the tree."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from galaxyml.data.tables.reading import Rows
from galaxyml.data.tables.vote_columns import (
    COUNTS,
    PATHS,
    SHARES,
    find_votes,
    matching_trees,
    path_fractions,
    vote_form,
)
from galaxyml.runs.errors import DataError
from galaxyml.trees import DecisionTree, tree_names, violation

TREES = [name for name in tree_names() if name != "kaggle"]  # whose columns are fractions of paths


def volunteers(tree: DecisionTree, seed: int = 0, galaxies: int = 20, each: int = 40) -> pd.DataFrame:
    """Counts of the answers of volunteers who are each asked what their answers lead to."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(galaxies):
        answered: Counter[str] = Counter()
        chances = [rng.dirichlet(np.ones(len(question.columns))) for question in tree.questions]
        for _ in range(each):
            given: set[str] = set()
            for question, chance in zip(tree.questions, chances, strict=True):
                if not question.after or given & set(question.after):
                    answer = question.columns[rng.choice(len(chance), p=chance)]
                    given.add(answer)
                    answered[answer] += 1
        rows.append([answered[column] for column in tree.columns])
    return pd.DataFrame(rows, columns=tree.columns)


def named(tree: DecisionTree, counts: pd.DataFrame, *kinds: str, suffix: str = "") -> pd.DataFrame:
    """Columns of a catalogue: `counts`, `totals`, `fractions`."""
    columns = {}
    for question in tree.questions:
        total = counts[list(question.columns)].sum(axis=1)
        if "totals" in kinds:
            columns[f"{question.name}{suffix}_total-votes"] = total
        for answer, column in zip(question.answers, question.columns, strict=True):
            name = f"{question.name}{suffix}_{answer}" if suffix else column
            if "counts" in kinds:
                columns[name + ("_count" if tree.name == "gz2" else "")] = counts[column]
            if "fractions" in kinds:
                columns[f"{name}_fraction"] = counts[column] / total.where(total > 0)
    return pd.DataFrame(columns)


def read(tree: DecisionTree, table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    votes = find_votes(tree, list(table.columns))
    assert votes is not None
    text = table.astype(object).where(table.notna(), "").astype(str)
    notes: list[str] = []
    assert vote_form(text, votes) != PATHS
    rows = Rows(Path("labels.csv"), "id", text.assign(id=[f"g{row}" for row in range(len(text))]))
    return path_fractions(rows, tree, votes, notes), notes


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("kinds", [("counts",), ("counts", "totals", "fractions"), ("fractions",)])
def test_fractions_are_of_all_volunteers(name: str, kinds: tuple[str, ...]) -> None:
    tree = DecisionTree.load(name)
    counts = volunteers(tree)
    found, _ = read(tree, named(tree, counts, *kinds))
    first = counts[list(tree.questions[0].columns)].sum(axis=1)
    # Everybody who gives an answer is asked what follows it, so that a path has as many votes as its last answer.
    np.testing.assert_allclose(found, counts.div(first, axis=0), atol=1e-12)
    assert violation(torch.tensor(found.to_numpy()), tree) < 1e-9


@pytest.mark.parametrize("name", TREES)
def test_a_tree_is_found_by_its_columns(name: str) -> None:
    tree = DecisionTree.load(name)
    counts = volunteers(tree, galaxies=2)
    for kinds in (("counts",), ("fractions",), ("counts", "totals", "fractions")):
        fitting = matching_trees([*named(tree, counts, *kinds).columns, "id_str", "ra", "dec"])
        assert set(fitting) == ({"gzd5", "gz_desi"} if name in ("gzd5", "gz_desi") else {name})
    assert matching_trees([*named(tree, counts, "counts").columns][:-1]) == []
    assert matching_trees(["bar_yes", "bar_no"]) == []


def test_campaigns_of_one_tree_are_put_together() -> None:
    tree = DecisionTree.load("gzd5")
    one, other = volunteers(tree, 1), volunteers(tree, 2)
    one[::2], other[1::2] = 0, 0
    table = pd.concat([named(tree, one, "counts", suffix="-dr5"), named(tree, other, "counts", suffix="-dr8")], axis=1)
    votes = find_votes(tree, list(table.columns))
    assert votes is not None
    assert votes.suffixes == ["-dr5", "-dr8"]
    both = one + other
    expected = both.div(both[list(tree.questions[0].columns)].sum(axis=1), axis=0)
    np.testing.assert_allclose(read(tree, table)[0], expected, atol=1e-12)


def test_whole_numbers_above_one_are_counts_and_fractions_stay() -> None:
    tree = DecisionTree.load("ukidss")
    counts = volunteers(tree)
    first = counts[list(tree.questions[0].columns)].sum(axis=1)
    votes = find_votes(tree, tree.columns)
    assert votes is not None
    assert vote_form(counts.astype(str), votes) == COUNTS
    assert vote_form(counts.div(first, axis=0).astype(str), votes) == PATHS
    shares = find_votes(tree, list(named(tree, counts, "fractions").columns))
    assert shares is not None
    assert shares.form == SHARES


def test_what_was_not_asked_is_not_known_and_said() -> None:
    tree = DecisionTree.load("gzd5")
    counts = volunteers(tree)
    table = named(tree, counts, "counts")
    bar, edge = list(tree.questions[3].columns), counts["disk-edge-on_no"]
    assert edge.iloc[0] > 0
    table.loc[0, bar] = 0
    found, notes = read(tree, table)
    assert found.loc[0, bar].isna().all()
    assert found.drop(columns=bar).notna().all(axis=None)
    assert any(
        "1 of 20 galaxies have no votes on a question that an answer of theirs leads to" in note for note in notes
    )


def test_votes_for_answers_that_the_table_lacks_mask_their_question() -> None:
    tree = DecisionTree.load("gzd5")
    table = named(tree, volunteers(tree), "counts", "totals")
    table["merging_total-votes"] += 3
    found, notes = read(tree, table)
    assert found[list(tree.questions[-1].columns)].isna().all(axis=None)
    assert any("votes on merging for answers that the table does not have" in note for note in notes)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("bar_no", -1, r"galaxy g0: bar_no is '-1'; it must be a number of votes"),
        ("bar_no", "many", r"galaxy g0: bar_no is 'many'; it must be a number of votes"),
        ("bar_no", 99, r"galaxy g0: the votes on bar sum to \d+, but bar_total-votes is"),
    ],
)
def test_bad_votes_are_told_with_their_place(column: str, value: object, message: str) -> None:
    tree = DecisionTree.load("gzd5")
    table = named(tree, volunteers(tree), "counts", "totals").astype(object)
    table[column] = [value, *table[column].iloc[1:]]
    with pytest.raises(DataError, match=message):
        read(tree, table)


def test_shares_that_do_not_sum_to_one_are_refused() -> None:
    tree = DecisionTree.load("gzd5")
    table = named(tree, volunteers(tree), "fractions")
    table.loc[3, "bar_no_fraction"] = 0.0
    table.loc[3, "bar_weak_fraction"] = 0.0
    table.loc[3, "bar_strong_fraction"] = 0.3
    with pytest.raises(DataError, match=r"line 5, galaxy g3: the shares of bar .* sum to 0\.3000"):
        read(tree, table)


def test_real_catalogues_are_read(real: Path) -> None:
    for name, file in (("gzd12", "gz_decals_volunteers_1_and_2"), ("gzd5", "gz_decals_volunteers_5")):
        table, tree = pd.read_csv(real / "surveys" / "decals" / f"{file}.csv"), DecisionTree.load(name)
        assert matching_trees(list(table.columns))[0] == name
        found, _ = read(tree, table)
        first = tree.questions[0]
        np.testing.assert_allclose(
            found[list(first.columns)], table[[f"{c}_fraction" for c in first.columns]], atol=2e-3
        )
        known = found.fillna(0).to_numpy()
        assert (known >= 0).all()
        assert (known <= 1).all()
