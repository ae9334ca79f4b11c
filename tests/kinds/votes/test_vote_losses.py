"""Losses of votes against scipy, torch's distributions and sums written out."""

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from galaxyml.kinds.votes.heads import Answers, Concentrations
from galaxyml.kinds.votes.losses import DirichletMultinomialLoss, FractionLoss, MultinomialLoss
from galaxyml.runs.errors import UserError

SIZES = [3, 2, 5]
STARTS = [0, 3, 5]
VOCABULARY: Any = SimpleNamespace(sizes=SIZES, question_of=[0] * 3 + [1] * 2 + [2] * 5)


def drawn(rows: int, most: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Counts of votes, (N, 10), and concentrations, (N, 10)."""
    rng = np.random.default_rng(seed)
    alpha = rng.uniform(1, 100, (rows, 10))
    parts = []
    for start, size in zip(STARTS, SIZES, strict=True):
        shares = rng.dirichlet(np.ones(size), rows)
        parts.append(rng.multinomial(rng.integers(1, most + 1, rows), shares))
        assert start == sum(part.shape[1] for part in parts[:-1])
    return np.concatenate(parts, 1), alpha


def as_targets(counts: np.ndarray, kind: torch.dtype = torch.float64) -> Tensor:
    """Fractions and votes; NaN and 0 where a question got no votes."""
    votes = np.concatenate(
        [
            np.repeat(counts[:, start : start + size].sum(1, keepdims=True), size, 1)
            for start, size in zip(STARTS, SIZES, strict=True)
        ],
        1,
    )
    with np.errstate(invalid="ignore"):
        return torch.tensor(np.stack([counts / votes, votes], 2), dtype=kind)


def by_scipy(counts: np.ndarray, alpha: np.ndarray) -> list[float]:
    """Minus log-probability of each asked (galaxy, question)."""
    return [
        -float(stats.dirichlet_multinomial.logpmf(x, a, x.sum()))
        for row in range(len(counts))
        for start, size in zip(STARTS, SIZES, strict=True)
        for x, a in [(counts[row, start : start + size], alpha[row, start : start + size])]
        if x.sum()
    ]


@pytest.mark.parametrize("most", [1, 40, 1000])
def test_dirichlet_is_scipys_dirichlet_multinomial(most: int) -> None:
    counts, alpha = drawn(20, most)
    counts[::3, 3:5] = 0  # not asked
    loss = DirichletMultinomialLoss(VOCABULARY)
    found = loss(torch.tensor(alpha), as_targets(counts))
    assert float(found) == pytest.approx(np.mean(by_scipy(counts, alpha)), rel=1e-9)
    single = loss(torch.tensor(alpha, dtype=torch.float32), as_targets(counts, torch.float32))
    assert single.dtype == torch.float32
    assert float(single) == pytest.approx(np.mean(by_scipy(counts, alpha)), rel=1e-5)


@pytest.mark.parametrize("votes", [1, 2, 4])
@pytest.mark.parametrize("question", [0, 1, 2])
def test_probabilities_of_all_outcomes_sum_to_1_and_their_mean_is_that_of_the_shares(question: int, votes: int) -> None:
    start, size = STARTS[question], SIZES[question]
    alpha = drawn(1, 1, seed=question)[1] / 10
    outcomes = np.array([way for way in itertools.product(range(votes + 1), repeat=size) if sum(way) == votes])
    assert len(outcomes) == math.comb(votes + size - 1, votes)
    loss, probabilities = DirichletMultinomialLoss(VOCABULARY), []
    for outcome in outcomes:
        counts = np.zeros((1, 10), int)
        counts[0, start : start + size] = outcome
        probabilities.append(math.exp(-float(loss(torch.tensor(alpha), as_targets(counts)))))
    assert sum(probabilities) == pytest.approx(1, rel=1e-9)
    part = alpha[0, start : start + size]
    np.testing.assert_allclose(probabilities @ outcomes, votes * part / part.sum(), rtol=1e-9)


def test_answers_that_a_campaign_lacks_are_left_out_with_their_votes() -> None:
    counts, alpha = drawn(8, 30)
    targets = as_targets(counts)
    targets[:, 9, 0] = torch.nan  # the last question's last answer
    parts = [(0, 3), (3, 5), (5, 9)]
    expected = [
        -stats.dirichlet_multinomial.logpmf(counts[row, a:b], alpha[row, a:b], counts[row, a:b].sum())
        for row in range(8)
        for a, b in parts
        if counts[row, a:b].sum()
    ]
    found = DirichletMultinomialLoss(VOCABULARY)(torch.tensor(alpha), targets)
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-9)


def test_a_part_of_the_answers_given_their_votes_is_dirichlet_multinomial_itself() -> None:
    # All counts of 3 answers to 4 votes, given that the first two answers got n of them: by enumeration.
    alpha = np.array([2.0, 5.0, 3.0])
    for first, second in [(0, 2), (1, 1), (2, 1), (3, 1)]:
        given = first + second

        def p(a: int, b: int) -> float:
            return float(stats.dirichlet_multinomial.pmf([a, b, 4 - a - b], alpha, 4))

        conditional = p(first, second) / sum(p(a, given - a) for a in range(given + 1))
        targets = torch.full((1, 10, 2), torch.nan, dtype=torch.float64)
        targets[..., 1] = 0
        targets[0, :2] = torch.tensor([[first / 4, 4], [second / 4, 4]])
        outputs = torch.ones(1, 10, dtype=torch.float64)
        outputs[0, :3] = torch.tensor(alpha)
        found = DirichletMultinomialLoss(VOCABULARY)(outputs, targets)
        assert float(found) == pytest.approx(-np.log(conditional), rel=1e-9)


def test_counts_need_not_be_whole() -> None:
    loss = DirichletMultinomialLoss(VOCABULARY)
    alpha = torch.full((1, 10), 5.0)
    targets = as_targets(np.array([[10, 10, 0, 5, 5, 4, 4, 4, 4, 4]]))
    values = []
    for votes in (20.0, 20.5, 21.0):
        targets[0, :3, 1] = votes
        values.append(float(loss(alpha, targets)))
    assert values[0] < values[1] < values[2]
    assert values[1] == pytest.approx((values[0] + values[2]) / 2, abs=1e-3)


@pytest.mark.parametrize("votes", [1, 1000])
@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1000.0])
def test_dirichlet_is_stable_in_single_precision(votes: int, alpha: float) -> None:
    # Without double precision inside, lgamma of thousands would be off by 1e-3, and the slope by percents.
    counts = np.array([[votes, 0, 0, votes, 0, 0, votes, 0, 0, 0]])
    outputs = torch.full((1, 10), alpha, requires_grad=True)
    loss = DirichletMultinomialLoss(VOCABULARY)(outputs, as_targets(counts, torch.float32))
    loss.backward()
    gradient = outputs.grad
    assert gradient is not None
    assert float(loss.detach()) == pytest.approx(np.mean(by_scipy(counts, np.full((1, 10), alpha))), rel=1e-6)
    # The derivative of log G(n + A) - log G(A) is a sum over votes; all went to the first of three answers.
    steps = np.arange(votes)
    others = (1 / (3 * alpha + steps)).sum()
    expected = np.array([others - (1 / (alpha + steps)).sum(), others, others])
    np.testing.assert_allclose(gradient[0, :3].numpy(), expected / 3, rtol=1e-4)


@pytest.mark.parametrize("kind", [DirichletMultinomialLoss, MultinomialLoss])
def test_gradients_match_finite_differences(kind: type) -> None:
    counts, alpha = drawn(4, 12, seed=3)
    counts[1, 3:5] = 0
    targets = as_targets(counts)
    targets[2, 9, 0] = torch.nan
    outputs = torch.tensor(alpha, requires_grad=True)
    loss = kind(VOCABULARY)
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), outputs)


def test_multinomial_is_the_cross_entropy_of_votes() -> None:
    counts, _ = drawn(12, 30)
    counts[::4, 5:] = 0
    torch.manual_seed(0)
    scores = torch.randn(12, 10, dtype=torch.float64)
    found = MultinomialLoss(VOCABULARY)(Answers(VOCABULARY)(scores), as_targets(counts))
    # Each vote by itself is one label.
    summed = torch.zeros((), dtype=torch.float64)
    for start, size in zip(STARTS, SIZES, strict=True):
        for row in range(12):
            labels = torch.arange(size).repeat_interleave(torch.tensor(counts[row, start : start + size]))
            part = scores[row, start : start + size].expand(len(labels), -1)
            summed = summed + torch.nn.functional.cross_entropy(part, labels, reduction="sum")
    assert float(found) == pytest.approx(float(summed) / counts.sum(), rel=1e-9)


def test_multinomial_takes_any_head_and_shares_out_what_is_known() -> None:
    counts, alpha = drawn(6, 9)
    targets = as_targets(counts)
    targets[:, 0, 0] = torch.nan
    loss = MultinomialLoss(VOCABULARY)
    kept = counts.copy()
    kept[:, 0] = 0
    share = np.concatenate(
        [
            np.zeros((6, 1)),
            alpha[:, 1:3] / alpha[:, 1:3].sum(1, keepdims=True),
            *[alpha[:, a:b] / alpha[:, a:b].sum(1, keepdims=True) for a, b in ((3, 5), (5, 10))],
        ],
        1,
    )
    expected = -(kept[:, 1:] * np.log(share[:, 1:])).sum() / kept.sum()
    assert float(loss(torch.tensor(alpha), targets)) == pytest.approx(expected, rel=1e-9)
    # Concentrations and their multiples are the same shares; what is negative counts as none.
    assert float(loss(torch.tensor(3 * alpha), targets)) == pytest.approx(expected, rel=1e-9)
    raw = torch.tensor(alpha, requires_grad=True)
    negative = torch.where(torch.arange(10) == 6, -1.0, raw)
    value = loss(negative, targets)
    value.backward()
    assert value.isfinite()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()


def test_the_best_shares_are_the_fractions() -> None:
    counts, _ = drawn(5, 30)
    targets = as_targets(counts)
    fractions = targets[..., 0]
    multinomial = MultinomialLoss(VOCABULARY)
    best = multinomial(fractions, targets)
    torch.manual_seed(0)
    for _ in range(10):
        assert multinomial(fractions + 0.05 * torch.rand_like(fractions), targets) > best
    assert FractionLoss()(fractions, targets) == 0


def test_fraction_loss_weighs_by_votes() -> None:
    counts, alpha = drawn(7, 50)
    counts[2, :3] = 0
    targets, outputs = as_targets(counts), torch.tensor(alpha / 100)
    f, v = targets[..., 0].numpy(), targets[..., 1].numpy()
    known = ~np.isnan(f)
    expected = np.average((alpha / 100 - f)[known] ** 2, weights=v[known])
    assert float(FractionLoss()(outputs, targets)) == pytest.approx(expected, rel=1e-9)
    plain = np.mean((alpha / 100 - f)[known] ** 2)
    assert float(FractionLoss(weighted=False)(outputs, targets)) == pytest.approx(plain, rel=1e-9)


LOSSES = [DirichletMultinomialLoss(VOCABULARY), MultinomialLoss(VOCABULARY), FractionLoss(), FractionLoss(False)]


@pytest.mark.parametrize("loss", LOSSES)
def test_what_was_not_asked_counts_nowhere(loss: torch.nn.Module) -> None:
    counts, alpha = drawn(6, 20)
    targets = as_targets(counts)
    expected = float(loss(torch.tensor(alpha[:3]), targets[:3]))
    targets[3:, :, 0], targets[3:, :, 1] = torch.nan, 0
    outputs = torch.tensor(alpha, requires_grad=True)
    found = loss(outputs, targets)
    found.backward()
    assert float(found.detach()) == pytest.approx(expected, rel=1e-12)
    assert outputs.grad is not None
    assert (outputs.grad[3:] == 0).all()
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES[:2])
def test_no_vote_or_a_single_answer_counts_nowhere(loss: torch.nn.Module) -> None:
    counts, alpha = drawn(1, 20)
    targets = as_targets(counts)
    only = targets.clone()
    only[:, 3:, 0], only[:, 3:, 1] = torch.nan, 0
    expected = float(loss(torch.tensor(alpha), only))
    targets[0, 3:5] = torch.tensor([[0.5, 0.0], [0.5, 0.0]])
    targets[0, 5:, 0] = torch.tensor([1.0] + [torch.nan] * 4)
    assert float(loss(torch.tensor(alpha), targets)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_asked_is_no_loss_and_no_gradient(loss: torch.nn.Module) -> None:
    targets = torch.full((2, 10, 2), torch.nan)
    targets[..., 1] = 0
    outputs = torch.full((2, 10), 2.0, requires_grad=True)
    found = loss(outputs, targets)
    found.backward()
    assert float(found.detach()) == 0
    assert outputs.grad is not None
    assert (outputs.grad == 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_of_single_precision_under_autocast(loss: torch.nn.Module) -> None:
    counts, alpha = drawn(6, 20)
    outputs, targets = torch.tensor(alpha, dtype=torch.bfloat16), as_targets(counts, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(outputs, targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(outputs.float(), targets))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", [(4, 10), (4,), (4, 10, 3), (4, 9, 2)])
def test_targets_of_another_shape_are_refused(loss: torch.nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"shape \(N, K, 2\).* but targets have shape \(4"):
        loss(torch.ones(4, 10), torch.zeros(shape))


def test_outputs_of_another_number_are_refused() -> None:
    for loss in LOSSES[:2]:
        with pytest.raises(UserError, match="outputs=9: the questions of this task have 10 answers"):
            loss(torch.ones(4, 9), torch.zeros(4, 9, 2))


def test_scores_are_no_concentrations() -> None:
    counts, _ = drawn(4, 9)
    with pytest.raises(
        UserError, match=r"takes concentrations above 0, but the net says -3\. Give head=concentrations"
    ):
        DirichletMultinomialLoss(VOCABULARY)(torch.full((4, 10), -3.0), as_targets(counts))


def test_losses_have_no_state_to_carry() -> None:
    assert all(not loss.state_dict() for loss in LOSSES)


def test_concentrations_find_what_volunteers_agree_on() -> None:
    # The shares of a Dirichlet with concentrations (8, 2) have the mean 0.8 and the variance 0.8 x 0.2 / 11.
    rng = np.random.default_rng(0)
    first = rng.binomial(40, rng.beta(8, 2, 4000))
    counts = np.zeros((4000, 10), int)
    counts[:, 3], counts[:, 4] = first, 40 - first
    targets, head, loss = as_targets(counts), Concentrations(), DirichletMultinomialLoss(VOCABULARY)
    scores = torch.zeros(10, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = loss(head(scores[None]).expand(4000, -1), targets)
        found.backward()
        return found

    optimizer.step(closure)  # type: ignore[no-untyped-call, unused-ignore]
    np.testing.assert_allclose(head(scores)[3:5].detach().numpy(), [8, 2], rtol=0.08)


def test_a_share_of_a_vote_counts_as_that() -> None:
    targets = torch.tensor([[[0.25, 0.8], [0.75, 0.8]]])
    alpha = torch.tensor([[3.0, 5.0]])
    two: Any = SimpleNamespace(question_of=[0, 0], sizes=[2])
    found = MultinomialLoss(two)(alpha, targets)
    expected = -(0.25 * math.log(3 / 8) + 0.75 * math.log(5 / 8))
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_shares_are_no_concentrations() -> None:
    two: Any = SimpleNamespace(question_of=[0, 0], sizes=[2])
    shares = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    targets = torch.tensor([[[0.25, 8.0], [0.75, 8.0]]] * 2)
    with pytest.raises(UserError, match="what the net says are shares"):
        DirichletMultinomialLoss(two)(shares, targets)
