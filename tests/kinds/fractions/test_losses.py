"""Losses of numbers against torch's own, scipy's entropies and sums written out."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import entr, rel_entr
from torch import Tensor, nn
from torch.distributions import Bernoulli

from galaxyml.kinds.fractions.losses import BinaryCrossEntropyLoss
from galaxyml.kinds.losses import MSELoss, RMSELoss, SmoothL1Loss
from galaxyml.runs.errors import UserError
from galaxyml.trees import TreeHead

Loss = Callable[[Tensor, Tensor], Tensor]

# Ours and torch's, of targets that are all known.
PAIRS: list[Any] = [
    pytest.param(MSELoss, F.mse_loss, id="mse"),
    pytest.param(RMSELoss, lambda x, y: F.mse_loss(x, y).sqrt(), id="rmse"),
    pytest.param(SmoothL1Loss, lambda x, y: F.smooth_l1_loss(x, y, beta=0.1), id="smooth_l1"),
    pytest.param(lambda: SmoothL1Loss(0), F.l1_loss, id="l1"),
    pytest.param(BinaryCrossEntropyLoss, F.binary_cross_entropy, id="bce"),
]
LOSSES: list[Any] = [pytest.param(pair.values[0], id=pair.id) for pair in PAIRS]
# What one known value adds, and what becomes of the mean.
BY_HAND: list[Any] = [
    pytest.param(MSELoss, lambda p, f: (p - f) ** 2, float, id="mse"),
    pytest.param(RMSELoss, lambda p, f: (p - f) ** 2, math.sqrt, id="rmse"),
    pytest.param(
        SmoothL1Loss,
        lambda p, f: (p - f) ** 2 / 0.2 if abs(p - f) < 0.1 else abs(p - f) - 0.05,
        float,
        id="smooth_l1",
    ),
    pytest.param(
        BinaryCrossEntropyLoss,
        lambda p, f: -f * math.log(p) - (1 - f) * math.log(1 - p),
        float,
        id="bce",
    ),
]


def pair(seed: int = 0, kind: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Fractions that a net says and those that are true, shape (20, 5)."""
    torch.manual_seed(seed)
    return torch.rand(20, 5).to(kind), torch.rand(20, 5).to(kind)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize(("make", "torchs"), PAIRS)
def test_losses_of_known_targets_are_torchs_with_their_gradients(make: Any, torchs: Loss, kind: torch.dtype) -> None:
    outputs, targets = pair(kind=kind)
    ours, theirs = outputs.clone().requires_grad_(), outputs.clone().requires_grad_()
    found, expected = make()(ours, targets), torchs(theirs, targets)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize(("make", "term", "of_mean"), BY_HAND)
def test_what_is_not_known_counts_nowhere(make: Any, term: Any, of_mean: Any) -> None:
    outputs, targets = pair()
    targets[3:9, 2], targets[17], targets[0, 0] = torch.nan, torch.nan, torch.nan
    outputs[17, 1], outputs[0, 0] = torch.nan, 7.0  # nor what is said there
    terms = [
        term(p, f)
        for said, true in zip(outputs.tolist(), targets.tolist(), strict=True)
        for p, f in zip(said, true, strict=True)
        if not math.isnan(f)
    ]
    assert len(terms) == 100 - 6 - 5 - 1
    outputs.requires_grad_()
    found = make()(outputs, targets)
    assert found.item() == pytest.approx(of_mean(sum(terms) / len(terms)), rel=1e-12)
    found.backward()
    assert outputs.grad is not None
    assert ((outputs.grad == 0) == targets.isnan()).all()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("make", LOSSES)
def test_no_known_target_is_no_loss_and_no_gradient(make: Any, kind: torch.dtype) -> None:
    outputs = torch.full((4, 3), 0.5, dtype=kind, requires_grad=True)
    found = make()(outputs, torch.full((4, 3), torch.nan))
    found.backward()
    assert found.item() == 0
    assert outputs.grad is not None
    assert (outputs.grad == 0).all()


@pytest.mark.parametrize("make", LOSSES)
def test_no_object_is_no_loss(make: Any) -> None:
    assert make()(torch.zeros(0, 5), torch.zeros(0, 5)).item() == 0


@pytest.mark.parametrize("make", LOSSES)
def test_gradients_are_the_numerical_ones(make: Any) -> None:
    outputs, targets = pair(1)
    outputs = 0.1 + 0.8 * outputs
    targets[::3, 1] = torch.nan
    assert torch.autograd.gradcheck(lambda said: make()(said, targets), (outputs.requires_grad_(),))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", LOSSES)
def test_losses_are_of_single_precision_under_autocast(make: Any, kind: torch.dtype) -> None:
    outputs, targets = pair(2, torch.float32)
    outputs = outputs.to(kind)
    targets[4] = torch.nan
    with torch.autocast("cpu", kind):
        found = make()(outputs, targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, make()(outputs.float(), targets), rtol=0, atol=0)
    torch.testing.assert_close(found, make()(outputs.double(), targets.double()).float())


@pytest.mark.parametrize("make", LOSSES)
def test_a_layer_learns_the_same_under_autocast(make: Any) -> None:
    torch.manual_seed(3)
    layer, images, targets = nn.Linear(6, 5), torch.randn(20, 6), torch.rand(20, 5)
    gradients = []
    for half in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = make()(layer(images).sigmoid(), targets)
        loss.backward()
        assert layer.weight.grad is not None
        gradients.append(layer.weight.grad.clone())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.05, atol=0.05 * gradients[0].abs().max().item())


def test_rmse_has_no_gradient_where_nothing_is_wrong() -> None:
    outputs = torch.rand(4, 3, requires_grad=True)
    loss = RMSELoss()(outputs, outputs.detach().clone())
    loss.backward()
    assert loss.item() == 0
    assert outputs.grad is not None
    assert (outputs.grad == 0).all()


@pytest.mark.parametrize("size", [1e-1, 1e-5, 1e-10])
def test_the_gradient_of_rmse_does_not_fade(size: float) -> None:
    torch.manual_seed(0)
    errors = size * torch.randn(8, 5)
    outputs = errors.clone().requires_grad_()
    RMSELoss()(outputs, torch.zeros(8, 5)).backward()
    assert outputs.grad is not None
    assert outputs.grad.norm().item() == pytest.approx(40**-0.5, rel=1e-5)
    torch.testing.assert_close(outputs.grad / outputs.grad.norm(), errors / errors.norm())


@settings(deadline=None)
@given(arrays(np.float64, (3, 4), elements=st.floats(-3, 3)), st.floats(1e-3, 2))
def test_smooth_l1_lies_between_half_a_beta_below_the_mean_error_and_it(errors: np.ndarray, beta: float) -> None:
    found = SmoothL1Loss(beta)(torch.from_numpy(errors), torch.zeros(3, 4, dtype=torch.float64)).item()
    mean = np.abs(errors).mean()
    assert mean - beta / 2 - 1e-12 <= found <= mean + 1e-12
    assert found <= (errors**2).mean() / (2 * beta) + 1e-12


@pytest.mark.parametrize("beta", [-0.1, math.inf, math.nan])
def test_other_betas_are_refused(beta: float) -> None:
    with pytest.raises(UserError, match=rf"loss\.beta={beta:g}: beta is finite and at least 0"):
        SmoothL1Loss(beta)


FRACTIONS = st.floats(0, 1, allow_subnormal=False)


@settings(deadline=None)
@given(arrays(np.float64, (3, 4), elements=st.floats(1e-9, 1 - 1e-9)), arrays(np.float64, (3, 4), elements=FRACTIONS))
def test_bce_is_a_divergence_and_the_entropy_of_the_fractions(p: np.ndarray, f: np.ndarray) -> None:
    found = BinaryCrossEntropyLoss()(torch.from_numpy(p), torch.from_numpy(f)).item()
    entropy = entr(f) + entr(1 - f)
    assert found == pytest.approx(float((rel_entr(f, p) + rel_entr(1 - f, 1 - p) + entropy).mean()), rel=1e-7)
    assert found >= entropy.mean() - 1e-12


def test_bce_at_its_best_is_the_entropy_of_torchs_bernoulli() -> None:
    _, targets = pair()
    found = BinaryCrossEntropyLoss()(targets, targets)
    torch.testing.assert_close(found, Bernoulli(targets).entropy().mean())  # type: ignore[no-untyped-call, unused-ignore]
    certain = torch.tensor([[0.0, 1.0]])
    assert BinaryCrossEntropyLoss()(certain, certain).item() == 0


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_bce_is_cut_as_torchs(kind: torch.dtype) -> None:
    outputs = torch.tensor([[0.0, 1.0, 0.0, 1.0, 1e-30, 1e-40, 1e-44]], dtype=kind)
    targets = torch.tensor([[0.3, 0.3, 1.0, 0.0, 0.3, 0.3, 0.3]], dtype=kind)
    for column in range(outputs.shape[1]):
        said, true = outputs[:, [column]].requires_grad_(), targets[:, [column]]
        found = BinaryCrossEntropyLoss()(said, true)
        torch.testing.assert_close(found, F.binary_cross_entropy(said, true))
        found.backward()
        assert said.grad is not None
        assert said.grad.isfinite().all()  # which 1 / 1e-40 is not
    assert BinaryCrossEntropyLoss()(outputs[:, :1], targets[:, :1]).item() == pytest.approx(30)


def test_bce_of_scores_has_torchs_gradient_with_logits_even_where_it_is_nearly_certain() -> None:
    # torch's own of fractions loses it below 1e-12, a score of -28.
    scores = torch.tensor([[-80.0, -40.0, -20.0, -3.0, 0.0, 3.0, 12.0]], requires_grad=True)
    targets = torch.full((1, 7), 0.3)
    BinaryCrossEntropyLoss()(scores.sigmoid(), targets).backward()
    expected = scores.detach().clone().requires_grad_()
    F.binary_cross_entropy_with_logits(expected, targets).backward()
    torch.testing.assert_close(scores.grad, expected.grad, rtol=5e-3, atol=0)


@pytest.mark.parametrize("score", [-200.0, -100.0, -88.0, 17.0, 200.0])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_certain_fractions_have_finite_loss_and_gradient(score: float, kind: torch.dtype) -> None:
    scores = torch.full((2, 2), score, dtype=kind, requires_grad=True)
    loss = BinaryCrossEntropyLoss()(scores.sigmoid(), torch.tensor([[0.0, 1.0], [0.3, 0.7]]))
    loss.backward()
    assert 0 < loss.item() <= 100
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_bce_takes_what_a_tree_says() -> None:
    torch.manual_seed(0)
    scores = (8 * torch.randn(50, 37, dtype=torch.float32)).requires_grad_()
    head, loss = TreeHead("kaggle"), BinaryCrossEntropyLoss()
    targets = head(torch.randn(50, 37))
    said = head(scores)
    found = loss(said, targets)
    found.backward()
    expected = F.binary_cross_entropy(said.detach().double().clamp(0, 1), targets.double().clamp(0, 1))
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_bce_bears_rounding_above_1() -> None:
    outputs = torch.tensor([[1 + 1e-6, -1e-7]], requires_grad=True)
    loss = BinaryCrossEntropyLoss()(outputs, torch.tensor([[0.9, 0.2]]))
    loss.backward()
    assert loss.item() == pytest.approx((100 * 0.1 + 100 * 0.2) / 2, rel=1e-4)
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize("worst", [-0.7, 1.2, -3.0, 40.0])
def test_scores_are_no_fractions(worst: float) -> None:
    outputs = torch.full((3, 4), 0.5)
    outputs[1, 2], outputs[2, 3] = worst, 1.1
    message = rf"loss=bce takes fractions in \[0, 1\], but the net says {worst:g}; give head=sigmoid or head=tree"
    with pytest.raises(UserError, match=message):
        BinaryCrossEntropyLoss()(outputs, torch.full((3, 4), 0.5))


def test_only_the_first_outputs_are_looked_at() -> None:
    loss, targets = BinaryCrossEntropyLoss(), torch.full((3, 4), 0.5)
    loss(targets, targets)
    assert loss(torch.full((3, 4), 3.0), targets).isfinite()


@pytest.mark.parametrize("make", LOSSES)
def test_outputs_that_are_no_numbers_are_a_loss_that_is_none(make: Any) -> None:
    outputs, targets = pair()
    outputs[3, 2] = torch.nan
    assert make()(outputs, targets).isnan()


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("shape", [(20,), (20, 4), (20, 5, 2), (5, 20)])
def test_targets_of_another_shape_are_refused(make: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"compares numbers, but outputs have shape \(20, 5\) and targets \(.*loss="):
        make()(torch.rand(20, 5), torch.rand(shape))


@pytest.mark.parametrize("make", LOSSES)
def test_losses_have_no_state_to_carry(make: Any) -> None:
    assert not make().state_dict()
