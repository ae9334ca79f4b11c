import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from galaxyml.runs.errors import UserError
from galaxyml.trees import DecisionTree, TreeHead, constrain, gaps, normalise, project, violation
from galaxyml.trees.rules import FLOOR, divisive

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
    torch.testing.assert_close(normalise(true, TREE), true, atol=1e-7, rtol=0)
    every = torch.tensor(table[TREE.columns].to_numpy())
    assert 0.01 < violation(every, TREE) < 0.021  # the catalogue rounds to three decimals
    assert (normalise(every, TREE) - every).abs().max() < 0.021


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, (3, 37), elements=st.floats(-2, 2)))
def test_normalise_agrees_with_the_rule_written_out(values: np.ndarray) -> None:
    found = normalise(torch.tensor(values), TREE).numpy()
    np.testing.assert_allclose(found, np.stack([by_hand(row) for row in values]), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e4])
def test_normalised_values_obey_the_tree(dtype: torch.dtype, scale: float) -> None:
    values = scale * torch.randn(500, 37, dtype=dtype, generator=torch.Generator().manual_seed(0))
    found = normalise(values, TREE)
    assert violation(found, TREE) < 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    torch.testing.assert_close(normalise(found, TREE), found)  # nothing is left to do


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


@pytest.mark.parametrize("shares", ["softmax", "divisive"])
def test_head_keeps_its_sums_in_half_precision(shares: str) -> None:
    assert violation(TreeHead("kaggle", shares)(torch.randn(50, 37).bfloat16()), TREE) < 1e-6


def test_a_head_is_exported_for_any_number_of_galaxies() -> None:
    head = TreeHead("kaggle")
    exported = torch.export.export(head, (torch.rand(2, 37),), dynamic_shapes=({0: torch.export.Dim("galaxies")},))
    scores = torch.rand(5, 37)
    torch.testing.assert_close(exported.module()(scores), head(scores), atol=0, rtol=0)


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e6])
def test_divisive_head_obeys_the_tree_and_agrees_with_the_rule_written_out(scale: float) -> None:
    scores = scale * torch.randn(50, 37, generator=torch.Generator().manual_seed(2))
    found = TreeHead("kaggle", "divisive")(scores)
    assert violation(found, TREE) < 1e-6
    expected = [by_hand(np.maximum(row, 0) + FLOOR) for row in scores.double().numpy()]
    np.testing.assert_allclose(found.numpy(), np.stack(expected), atol=1e-6)


def test_divisive_head_normalises_positive_scores() -> None:
    scores = 100 * torch.rand(50, 37, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(TreeHead("kaggle", "divisive")(scores), normalise(scores, TREE), atol=1e-3, rtol=0)


def test_divisive_head_says_next_to_nothing_of_what_a_softmax_still_says() -> None:
    scores = torch.tensor([[1.0, -1.0, -1.0] + [0.0] * 34])
    assert TreeHead("kaggle", "divisive")(scores)[0, 1] < 1e-3 < TreeHead("kaggle")(scores)[0, 1]


def test_questions_without_a_score_above_zero_share_equally() -> None:
    scores = -10 * torch.rand(50, 37, generator=torch.Generator().manual_seed(4))
    for values in (scores, 0 * scores):
        found = TreeHead("kaggle", "divisive")(values)
        torch.testing.assert_close(found, normalise(torch.zeros(50, 37), TREE))


def test_divisive_shares_have_the_slopes_of_the_rule_where_scores_are_positive() -> None:
    scores = torch.rand(20, 4, dtype=torch.double, generator=torch.Generator().manual_seed(5)) + 0.01
    assert torch.autograd.gradcheck(divisive, scores.requires_grad_())


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-3, 1.0, 1e4])
def test_divisive_slopes_are_finite_everywhere(scale: float) -> None:
    generator = torch.Generator().manual_seed(6)
    scores = (scale * torch.randn(200, 4, generator=generator)).requires_grad_()
    slopes = torch.stack([torch.autograd.grad(divisive(scores)[:, k].sum(), scores)[0] for k in range(4)], dim=1)
    assert slopes.abs().max() <= 1 / FLOOR
    assert (slopes.diagonal(dim1=1, dim2=2)[scores > 0] >= 0).all()  # its own score raises each share


def test_a_score_below_zero_learns_only_to_rise() -> None:
    # Of three dead answers the first is too rare, and of the others the second alone is alive and too common.
    scores = torch.tensor([[-1.0, -2.0, -1.0], [-0.5, 2.0, -0.5]], requires_grad=True)
    targets = torch.tensor([[0.8, 0.1, 0.1], [0.3, 0.7, 0.0]])
    (divisive(scores) - targets).square().sum().backward()
    assert scores.grad is not None
    assert torch.equal(scores.grad.sign(), torch.tensor([[-1.0, 0.0, 0.0], [-1.0, 1.0, -1.0]]))
    assert scores.grad[1, 0] < scores.grad[1, 2]  # the third is wanted for what it takes from the second


@pytest.mark.parametrize("start", [0.0, -1.0, -3.0])
def test_a_head_whose_scores_are_all_dead_learns(start: float) -> None:
    generator = torch.Generator().manual_seed(7)
    targets = normalise(torch.rand(1, 37, generator=generator), TREE).expand(8, -1)
    bias = torch.full((37,), start, requires_grad=True)
    head = TreeHead("kaggle", "divisive")
    optimizer = torch.optim.AdamW([bias], lr=0.02, weight_decay=0)
    first, last = None, None
    for _ in range(600):
        optimizer.zero_grad()
        loss = (head(bias.expand(8, -1)) - targets).square().mean().sqrt()
        loss.backward()
        optimizer.step()
        first, last = first or loss.item(), loss.item()
    assert first is not None
    assert last is not None
    assert last < 0.1 * first


def test_a_question_may_follow_several_answers() -> None:
    questions = [
        {"name": "shape", "answers": ["smooth", "disk", "artifact"]},
        {"name": "merging", "after": ["shape_smooth", "shape_disk"], "answers": ["yes", "no"]},
    ]
    tree = DecisionTree.parse("own", {"column": "{name}_{answer}", "questions": questions}, "own.yaml")
    found = normalise(torch.tensor([[0.5, 0.3, 0.2, 3.0, 1.0]]), tree)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.3, 0.2, 0.6, 0.2]]))
    assert violation(found, tree) < 1e-6


def test_errors_say_what_there_is() -> None:
    with pytest.raises(UserError, match=r"No decision tree 'kagle'\. Did you mean kaggle"):
        DecisionTree.load("kagle")
    with pytest.raises(UserError, match=r"head\.shares=divisiv: .*Did you mean divisive"):
        TreeHead("kaggle", "divisiv")
    with pytest.raises(UserError, match=r"has 37 columns.*found \(2, 36\)"):
        normalise(torch.zeros(2, 36), TREE)
    early = {"column": "{name}.{number}", "questions": [{"name": "a", "after": "b.1", "answers": ["x", "y"]}]}
    with pytest.raises(UserError, match=r"a comes after b\.1, which no earlier question has"):
        DecisionTree.parse("own", early, "own.yaml")
    with pytest.raises(UserError, match=r"own.yaml: 'questions' is missing"):
        DecisionTree.parse("own", {"column": "x"}, "own.yaml")


@pytest.mark.parametrize("how", ["project", "normalise", "none"])
def test_predictions_are_constrained_in_the_way_that_is_named(how: str) -> None:
    values = torch.rand(20, 37, generator=torch.Generator().manual_seed(3), dtype=torch.double) * 2 - 0.5
    expected = {"project": project(values, TREE), "normalise": normalise(values, TREE), "none": values}[how]
    assert torch.equal(constrain(values, TREE, how), expected)


def test_an_unknown_way_to_constrain_is_refused() -> None:
    with pytest.raises(UserError, match=r"constraint=projekt: .* Did you mean project\?"):
        constrain(torch.zeros(1, 37), TREE, "projekt")
