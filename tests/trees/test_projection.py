"""The projection against answers known by construction, brute force, and a QP solver."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize

from galaxyml.runs.errors import UserError
from galaxyml.trees import DecisionTree, gaps, normalise, project, projection, violation

KAGGLE = DecisionTree.load("kaggle")
# `merging` has parents in two questions, and shape.disk leads to two questions.
OWN = DecisionTree.parse(
    "own",
    {
        "column": "{name}.{answer}",
        "questions": [
            {"name": "shape", "answers": ["smooth", "disk", "artifact"]},
            {"name": "edge", "after": "shape.disk", "answers": ["yes", "no"]},
            {"name": "merging", "after": ["shape.smooth", "edge.no"], "answers": ["yes", "no"]},
            {"name": "odd", "answers": ["yes", "no"]},
            {"name": "bar", "after": ["shape.disk", "odd.yes"], "answers": ["yes", "no"]},
        ],
    },
    "own.yaml",
)
TREES = {name: DecisionTree.load(name) for name in ("kaggle", "gz2", "gzd12", "gzd5", "ukidss")} | {"own": OWN}
every_tree = pytest.mark.parametrize("tree", TREES.values(), ids=TREES)


def matrix(tree: DecisionTree) -> tuple[np.ndarray, np.ndarray]:
    """The rules A x = b, from the questions' names: A of shape (Q, K), b of shape (Q,)."""
    rules = np.zeros((len(tree.questions), len(tree.columns)))
    for row, question in zip(rules, tree.questions, strict=True):
        row[[tree.columns.index(column) for column in question.columns]] = 1
        row[[tree.columns.index(column) for column in question.after]] = -1
    return rules, np.array([0.0 if question.after else 1.0 for question in tree.questions])


def projected(values: np.ndarray, tree: DecisionTree) -> np.ndarray:
    return project(torch.from_numpy(values), tree).numpy()


def consistent(rng: np.random.Generator, tree: DecisionTree, rows: int, zeros: float) -> np.ndarray:
    """Fractions that obey the tree; of each question's answers about a share `zeros` is exactly 0, never all."""
    shares = rng.exponential(size=(rows, len(tree.columns))) * (rng.random((rows, len(tree.columns))) >= zeros)
    question_of = np.array(tree.question_of)
    for number in range(len(tree.questions)):
        shares[np.arange(rows), rng.choice(np.flatnonzero(question_of == number), rows)] += 1e-3
    return normalise(torch.from_numpy(shares), tree).numpy()


def hostile(tree: DecisionTree) -> np.ndarray:
    """Rows that are hard in different ways, of shape (N, K)."""
    rng = np.random.default_rng(3)
    rows = len(tree.columns)
    truth = consistent(rng, tree, 2, 0.3)
    corner = consistent(rng, tree, 2, 1.0)  # one answer a question holds all
    one_out = np.repeat(truth[:1], 2, axis=0)
    one_out[:, np.array(tree.question_of) == 1] += [[1e3], [-1e3]]
    no_parent = rng.random((2, rows))
    no_parent[:, tree.columns.index(tree.questions[1].after[0] if tree.questions[1].after else tree.columns[0])] = -9
    return np.concatenate(
        [
            np.zeros((1, rows)),
            np.full((1, rows), 0.5),
            np.full((1, rows), -1e5),
            rng.integers(-1, 2, (4, rows)),
            corner,
            corner + 1e-9 * rng.normal(size=corner.shape),
            truth + 1e-12 * rng.normal(size=truth.shape),
            truth + 1e-3 * rng.normal(size=truth.shape),
            one_out,
            no_parent,
            rng.random((4, rows)),
            *(scale * rng.normal(size=(4, rows)) for scale in (0.1, 1, 1e3, 1e5)),
        ]
    )


@every_tree
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3, 1e5])
@pytest.mark.parametrize("zeros", [0.0, 0.5, 1.0])
def test_undoes_any_move_along_the_normals(tree: DecisionTree, scale: float, zeros: float) -> None:
    rng = np.random.default_rng(0)
    rules, _ = matrix(tree)
    truth = consistent(rng, tree, 200, zeros)
    away = scale * rng.normal(size=(200, len(rules))) @ rules
    below = scale * rng.exponential(size=truth.shape) * (truth == 0) * rng.integers(0, 2, truth.shape)
    np.testing.assert_allclose(projected(truth + away - below, tree), truth, atol=1e-14 + 1e-15 * 10 * scale)


def nearest_by_faces(values: np.ndarray, tree: DecisionTree) -> np.ndarray:
    """The nearest of all consistent points that are projections with some columns held at 0; good to 1e-9."""
    rules, ones = matrix(tree)
    nearest, least = np.full_like(values, np.nan), np.full(len(values), np.inf)
    for free in product([False, True], repeat=len(tree.columns)):
        face = rules * free
        points = values * free + (ones - values @ face.T) @ np.linalg.pinv(face).T
        inside = (np.abs(points @ rules.T - ones) < 1e-7).all(axis=1) & (points >= -1e-9).all(axis=1)
        distance = np.where(inside, np.linalg.norm(points - values, axis=1), np.inf)
        closer = distance < least
        nearest[closer], least[closer] = points[closer], distance[closer]
    return nearest


def test_is_the_nearest_point_of_all_faces() -> None:
    values = hostile(OWN)
    np.testing.assert_allclose(projected(values, OWN), nearest_by_faces(values, OWN), atol=1e-8)


def test_ends_where_newtons_method_alone_goes_in_circles() -> None:
    questions = [
        {"name": "a", "answers": [1, 2]},
        {"name": "b", "answers": [1, 2, 3], "after": "a1"},
        {"name": "c", "answers": [1, 2], "after": ["b1", "a2"]},
        {"name": "d", "answers": [1], "after": ["b2", "c2"]},
        {"name": "e", "answers": [1], "after": ["b2", "d1"]},
        {"name": "f", "answers": [1], "after": ["e1", "c2"]},
    ]
    tree = DecisionTree.parse("circles", {"column": "{name}{answer}", "questions": questions}, "circles.yaml")
    values = np.array([[0.0, 2, -1, 1, 2, -3, 3, -1, 2, -1]])
    np.testing.assert_allclose(projected(values, tree), nearest_by_faces(values, tree), atol=1e-8)


def test_steps_are_judged_by_the_rise_of_the_dual() -> None:
    """Of max(v, 0)^2 / 2, what its tangent misses."""
    v, step = 2 * torch.randn(2, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tangent = v.relu().square() / 2 + v.relu() * step
    torch.testing.assert_close(projection._curb(v.relu(), v + step), (v + step).relu().square() / 2 - tangent)


@every_tree
def test_agrees_with_a_qp_solver(tree: DecisionTree) -> None:
    rules, ones = matrix(tree)
    rng = np.random.default_rng(1)
    shape = (3, len(tree.columns))
    values = np.concatenate([hostile(tree)[[0, 1, 3, 7, 9, 13]], rng.random(shape), rng.normal(size=shape)])
    for row, found in zip(values, projected(values, tree), strict=True):
        expected = minimize(
            lambda x, row=row: ((x - row) ** 2).sum() / 2,
            np.full(len(row), 0.1),
            jac=lambda x, row=row: x - row,
            bounds=[(0, None)] * len(row),
            constraints={"type": "eq", "fun": lambda x: rules @ x - ones, "jac": lambda x: rules},
            method="SLSQP",
            options={"ftol": 1e-15, "maxiter": 1000},
        )
        np.testing.assert_allclose(found, expected.x, atol=1e-6)


@every_tree
def test_no_consistent_point_lies_in_the_direction_of_the_values(tree: DecisionTree) -> None:
    """If (v - x) (z - x) <= 0 for all consistent z, x is the projection of v."""
    values = np.concatenate([hostile(tree), np.random.default_rng(2).normal(size=(2000, len(tree.columns)))])
    found = projected(values, tree)
    toward = values - found
    # The largest toward . z: each question that is asked takes its best answer, with what follows from it.
    best = np.zeros((len(values), len(tree.questions)))
    worth = toward.copy()
    for number in reversed(range(len(tree.questions))):
        best[:, number] = worth[:, np.array(tree.question_of) == number].max(axis=1)
        for lead in tree.leads[number]:
            worth[:, lead] += best[:, number]
    most = best[:, [not leads for leads in tree.leads]].sum(axis=1)
    assert (most - (toward * found).sum(axis=1) <= 1e-13 * np.maximum(1, np.abs(values).max(axis=1))).all()


@every_tree
def test_gaps_are_rounding_errors(tree: DecisionTree) -> None:
    found = project(torch.from_numpy(hostile(tree)), tree)
    assert violation(found, tree) < 1e-14
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-14 or tree is OWN  # where two answers of 1 may lead to one question


@every_tree
def test_consistent_values_stay_and_nothing_is_left_to_do_twice(tree: DecisionTree) -> None:
    truth = consistent(np.random.default_rng(4), tree, 500, 0.3)
    np.testing.assert_allclose(projected(truth, tree), truth, atol=1e-14)
    once = projected(hostile(tree), tree)
    np.testing.assert_allclose(projected(once, tree), once, atol=1e-14)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(TREES)),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1e-9, 1e-2, 1.0, 1e3]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_brings_values_nearer_to_every_truth(name: str, seed: int, scale: float, zeros: float) -> None:
    tree, rng = TREES[name], np.random.default_rng(seed)
    truth, start = consistent(rng, tree, 20, zeros), consistent(rng, tree, 20, zeros)
    values = start + scale * rng.normal(size=truth.shape)
    found = projected(values, tree)
    # The three points make an obtuse angle at the projection.
    before, after, moved = (((a - b) ** 2).sum(1) for a, b in ((values, truth), (found, truth), (values, found)))
    assert (after + moved <= before + 1e-13 * (1 + before)).all()
    normalised = normalise(torch.from_numpy(values), tree).numpy()
    assert (moved <= ((values - normalised) ** 2).sum(1) + 1e-13 * (1 + before)).all()


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64, (2, 37), elements=st.floats(-10, 10)))
def test_is_firmly_nonexpansive(values: np.ndarray) -> None:
    (one, other), (one_found, other_found) = values, projected(values, KAGGLE)
    apart, left = one - other, one_found - other_found
    assert left @ left <= left @ apart + 1e-12


@pytest.mark.parametrize("rows", [1, 7, 30])
def test_a_rows_result_does_not_depend_on_its_company(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.from_numpy(np.concatenate([hostile(KAGGLE), np.random.default_rng(5).random((60, 37))]))
    together = project(values, KAGGLE)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    assert torch.equal(project(values[order], KAGGLE), together[order])
    assert torch.equal(torch.cat([project(part, KAGGLE) for part in values.split(rows)]), together)
    monkeypatch.setattr(projection, "ROWS", rows)
    assert torch.equal(project(values, KAGGLE), together)


def test_order_in_memory_does_not_matter() -> None:
    values = torch.from_numpy(hostile(KAGGLE))
    turned = values.T.contiguous().T
    assert turned.stride() != values.stride()
    assert torch.equal(project(turned, KAGGLE), project(values, KAGGLE))


def test_values_are_left_alone_and_gradients_do_not_flow() -> None:
    values = torch.randn(5, 37, generator=torch.Generator().manual_seed(0), requires_grad=True)
    before = values.detach().clone()
    assert not project(values, KAGGLE).requires_grad
    assert torch.equal(values, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_only_the_result_is_rounded_to_the_type_of_the_values(dtype: torch.dtype) -> None:
    values = torch.randn(200, 37, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(project(values, KAGGLE), project(values.double(), KAGGLE).to(dtype))


def test_rows_without_a_projection_are_nan_and_spoil_no_others() -> None:
    values = torch.rand(6, 37, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = project(values, KAGGLE)
    values[:3, 20] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    values[4, [13, 20]] = 1.7e308  # Class6.1 and Class8.3, which follows from it
    found = project(values, KAGGLE)
    assert found[[0, 1, 2, 4]].isnan().all()
    assert torch.equal(found[[3, 5]], expected[[3, 5]])
    assert project(values[:3], KAGGLE).isnan().all()


def test_numbers_as_large_as_a_float_have_their_projection() -> None:
    values = torch.full((1, 37), -1e38)
    values[0, [0, 14]] = 1e38  # Class1.1 and Class6.2
    values[0, 15] = 0.0  # Class7.1, the best answer to what follows from Class1.1
    found = project(values, KAGGLE)
    expected = torch.zeros(37)
    expected[[0, 14, 15]] = 1
    torch.testing.assert_close(found[0], expected, atol=1e-15, rtol=0)


def test_zero_rows_in_are_zero_rows_out() -> None:
    assert project(torch.empty(0, 37), KAGGLE).shape == (0, 37)


def test_many_rows_agree_with_themselves_in_small_parts() -> None:
    """More rows than are projected at a time."""
    values = torch.randn(projection.ROWS + 5, 37, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = project(values, KAGGLE)
    assert gaps(found, KAGGLE).abs().max() < 1e-14
    assert torch.equal(found[-10:], project(values[-10:], KAGGLE))


def test_a_row_that_does_not_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "PASSES", 1)
    with pytest.raises(ArithmeticError, match="4 rows could not be projected in 1 passes"):
        project(torch.from_numpy(hostile(KAGGLE)[-4:]), KAGGLE)


def test_errors_say_what_to_give() -> None:
    with pytest.raises(UserError, match=r"has 37 columns.*found \(2, 36\)"):
        project(torch.zeros(2, 36), KAGGLE)
    with pytest.raises(UserError, match=r"floating-point numbers; found torch.int64"):
        project(torch.zeros(2, 37, dtype=torch.long), KAGGLE)
