import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from galaxyml.errors import UserError
from galaxyml.trees import DecisionTree, TreeHead, constrain, gaps, violation

TREE = DecisionTree.load("kaggle")

# The challenge's header, and the column that each question's answers sum to.
SIZES = {1: 3, 2: 2, 3: 2, 4: 2, 5: 4, 6: 2, 7: 3, 8: 7, 9: 3, 10: 3, 11: 6}
PARENTS = {2: "1.2", 3: "2.2", 4: "2.2", 5: "2.2", 7: "1.1", 8: "6.1", 9: "2.1", 10: "4.1", 11: "4.1"}


def by_hand(row: np.ndarray) -> np.ndarray:
    """Divisive normalisation of one galaxy, written out question by question."""
    value = dict(zip(TREE.columns, np.maximum(row, 0), strict=True))
    for question in (1, 6, 2, 7, 8, 3, 4, 5, 9, 10, 11):
        names = [f"Class{question}.{answer}" for answer in range(1, SIZES[question] + 1)]
        parent = value[f"Class{PARENTS[question]}"] if question in PARENTS else 1.0
        total = sum(value[name] for name in names)
        for name in names:
            value[name] = parent * (value[name] / total if total > 0 else 1 / len(names))
    return np.array([value[name] for name in TREE.columns])


def test_columns_are_the_challenges_header() -> None:
    assert TREE.columns == [f"Class{q}.{a}" for q, size in SIZES.items() for a in range(1, size + 1)]


def test_each_question_hangs_on_the_challenges_parent() -> None:
    found = {int(q.name.removeprefix("Class")): q.after for q in TREE.questions}
    assert found == {q: ((f"Class{PARENTS[q]}",) if q in PARENTS else ()) for q in SIZES}


def test_true_rows_obey_the_tree(real: object) -> None:
    table = pd.read_csv(f"{real}/galaxyzoo/training_solutions_rev1.csv").set_index("GalaxyID")
    true = torch.tensor(table.loc[[100008, 100023, 100053], TREE.columns].to_numpy())
    assert violation(true, TREE) < 1e-7
    torch.testing.assert_close(constrain(true, TREE), true, atol=1e-7, rtol=0)
    every = torch.tensor(table[TREE.columns].to_numpy())
    assert 0.01 < violation(every, TREE) < 0.021  # the catalogue rounds to three decimals
    assert (constrain(every, TREE) - every).abs().max() < 0.021


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, (3, 37), elements=st.floats(-2, 2)))
def test_constrain_agrees_with_the_rule_written_out(values: np.ndarray) -> None:
    found = constrain(torch.tensor(values), TREE).numpy()
    np.testing.assert_allclose(found, np.stack([by_hand(row) for row in values]), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e4])
def test_constrained_values_obey_the_tree(dtype: torch.dtype, scale: float) -> None:
    values = scale * torch.randn(500, 37, dtype=dtype, generator=torch.Generator().manual_seed(0))
    found = constrain(values, TREE)
    assert violation(found, TREE) < 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    torch.testing.assert_close(constrain(found, TREE), found)  # nothing is left to do


def test_gaps_are_sums_minus_parents() -> None:
    values = torch.zeros(1, 37)
    values[0, TREE.columns.index("Class1.1")] = 0.75
    values[0, TREE.columns.index("Class7.2")] = 0.5
    names = [question.name for question in TREE.questions]
    expected = {"Class1": -0.25, "Class6": -1.0, "Class7": -0.25}
    assert dict(zip(names, gaps(values, TREE)[0].tolist(), strict=True)) == {n: expected.get(n, 0.0) for n in names}
    assert violation(values, TREE) == 1.0


def test_odd_sums_to_one_whatever_the_artifacts() -> None:
    values = torch.zeros(1, 37)
    values[0, TREE.columns.index("Class1.3")] = 1.0  # a star: no questions but `odd` follow
    values[0, TREE.columns.index("Class6.2")] = 1.0
    assert violation(values, TREE) == 0


def test_head_is_a_softmax_times_its_parent() -> None:
    scores = torch.randn(50, 37, generator=torch.Generator().manual_seed(1))
    found = TreeHead("kaggle")(scores)
    assert violation(found, TREE) < 1e-6
    edge_on = scores[:, :3].softmax(1)[:, 1] * scores[:, 3:5].softmax(1)[:, 0]
    torch.testing.assert_close(found[:, TREE.columns.index("Class2.1")], edge_on)
    boxy = edge_on * scores[:, 25:28].softmax(1)[:, 1]
    torch.testing.assert_close(found[:, TREE.columns.index("Class9.2")], boxy)


def test_head_keeps_its_sums_in_half_precision() -> None:
    assert violation(TreeHead("kaggle")(torch.randn(50, 37).bfloat16()), TREE) < 1e-6


def test_a_question_may_follow_several_answers() -> None:
    questions = [
        {"name": "shape", "answers": ["smooth", "disk", "artifact"]},
        {"name": "merging", "after": ["shape_smooth", "shape_disk"], "answers": ["yes", "no"]},
    ]
    tree = DecisionTree.parse("own", {"column": "{name}_{answer}", "questions": questions}, "own.yaml")
    found = constrain(torch.tensor([[0.5, 0.3, 0.2, 3.0, 1.0]]), tree)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.3, 0.2, 0.6, 0.2]]))
    assert violation(found, tree) < 1e-6


def test_errors_say_what_there_is() -> None:
    with pytest.raises(UserError, match=r"No decision tree 'kagle'\. Did you mean kaggle"):
        DecisionTree.load("kagle")
    with pytest.raises(UserError, match=r"has 37 columns.*found \(2, 36\)"):
        constrain(torch.zeros(2, 36), TREE)
    early = {"column": "{name}.{number}", "questions": [{"name": "a", "after": "b.1", "answers": ["x", "y"]}]}
    with pytest.raises(UserError, match=r"a comes after b\.1, which no earlier question has"):
        DecisionTree.parse("own", early, "own.yaml")
    with pytest.raises(UserError, match=r"own.yaml: 'questions' is missing"):
        DecisionTree.parse("own", {"column": "x"}, "own.yaml")
