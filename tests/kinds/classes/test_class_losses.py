import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from omegaconf import OmegaConf
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from galaxyml.kinds.classes.losses import ClassLoss, CrossEntropyLoss, FocalLoss, balanced_weights
from galaxyml.runs.errors import UserError

K = 4
WEIGHTS = [0.5, 1.0, 2.0, 4.0]
BOTH: list[Any] = [(FocalLoss, "alpha"), (CrossEntropyLoss, "weights")]


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return 3 * torch.randn(40, K), torch.randint(K, (40,))


@st.composite
def scores_and_classes(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    count, classes = draw(st.integers(1, 8)), draw(st.integers(2, 6))
    scores = draw(arrays(np.float64, (count, classes), elements=st.floats(-20, 20)))
    targets = draw(arrays(np.int64, count, elements=st.integers(0, classes - 1)))
    return torch.from_numpy(scores), torch.from_numpy(targets)


@settings(deadline=None)
@given(scores_and_classes())
def test_focal_loss_at_gamma_0_is_cross_entropy(case: tuple[Tensor, Tensor]) -> None:
    scores, targets = case
    expected = F.cross_entropy(scores, targets)
    torch.testing.assert_close(FocalLoss(gamma=0)(scores, targets), expected)
    torch.testing.assert_close(CrossEntropyLoss()(scores, targets), expected)


@settings(deadline=None)
@given(scores_and_classes(), st.floats(0, 5), st.floats(0, 5))
def test_more_gamma_is_less_loss(case: tuple[Tensor, Tensor], one: float, other: float) -> None:
    scores, targets = case
    low, high = (FocalLoss(gamma)(scores, targets) for gamma in sorted((one, other)))
    assert 0 <= high <= low * (1 + 1e-12)


@settings(deadline=None)
@given(scores_and_classes(), st.floats(-100, 100))
def test_only_differences_of_scores_count(case: tuple[Tensor, Tensor], shift: float) -> None:
    scores, targets = case
    for loss in (FocalLoss(), CrossEntropyLoss(label_smoothing=0.1)):
        torch.testing.assert_close(loss(scores + shift, targets), loss(scores, targets), rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(arrays(np.float64, 12, elements=st.floats(-15, 15)), st.floats(0, 5), st.floats(0.05, 0.95))
def test_focal_loss_of_two_classes_is_torchvisions(logits: np.ndarray, gamma: float, alpha: float) -> None:
    logit, targets = torch.from_numpy(logits), torch.arange(12) % 2
    expected = sigmoid_focal_loss(logit, targets.double(), alpha, gamma, reduction="mean")
    loss = FocalLoss(gamma, alpha=[1 - alpha, alpha]).double()
    scores = torch.stack([torch.zeros_like(logit), logit], dim=1)
    torch.testing.assert_close(loss(scores, targets), expected, rtol=1e-6, atol=1e-10)


def test_focal_loss_worked_by_hand() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]])
    targets = torch.tensor([0, 0, 1])
    terms = [0.1**2 * -math.log(0.9), 0.6**2 * -math.log(0.4), 3 * 0.8**2 * -math.log(0.2)]
    loss = FocalLoss(gamma=2, alpha=[1, 3])
    assert loss(probabilities.log(), targets).item() == pytest.approx(sum(terms) / 3)
    assert sum(terms) / 3 == pytest.approx(1.1404, abs=1e-4)


def test_cross_entropy_worked_by_hand() -> None:
    probabilities, targets = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0])
    expected = -(math.log(0.9) + math.log(0.2)) / 2
    assert CrossEntropyLoss()(probabilities.log(), targets).item() == pytest.approx(expected)
    smooth = -(0.95 * math.log(0.9) + 0.05 * math.log(0.1) + 0.95 * math.log(0.2) + 0.05 * math.log(0.8)) / 2
    found = CrossEntropyLoss(label_smoothing=0.1)(probabilities.log(), targets)
    assert found.item() == pytest.approx(smooth)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("alpha", [None, WEIGHTS])
def test_focal_gradient_is_the_numerical_one(gamma: float, alpha: list[float] | None) -> None:
    torch.manual_seed(0)
    scores = torch.randn(6, K, dtype=torch.double, requires_grad=True)
    targets = torch.tensor([0, 1, 2, 3, -1, 0])
    assert torch.autograd.gradcheck(lambda s: FocalLoss(gamma, alpha)(s, targets), (scores,))


def test_cross_entropy_gradient_is_the_numerical_one() -> None:
    torch.manual_seed(0)
    scores = torch.randn(6, K, dtype=torch.double, requires_grad=True)
    targets = torch.tensor([0, 1, 2, 3, -1, 0])
    loss = CrossEntropyLoss(WEIGHTS, label_smoothing=0.1)
    assert torch.autograd.gradcheck(lambda s: loss(s, targets), (scores,))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_are_torchs(pair: tuple[Tensor, Tensor], smoothing: float) -> None:
    scores, targets = pair
    weight = torch.tensor(WEIGHTS)
    targets[::5] = -1
    expected = F.cross_entropy(scores, targets, weight, ignore_index=-1, label_smoothing=smoothing)
    torch.testing.assert_close(CrossEntropyLoss(WEIGHTS, smoothing)(scores, targets), expected)
    known = targets >= 0
    each = F.cross_entropy(scores[known], targets[known], weight, reduction="none")
    torch.testing.assert_close(FocalLoss(0.0, WEIGHTS)(scores, targets), each.mean())


@pytest.mark.parametrize("small", [1e-3, 1e-30])
def test_small_class_weights_still_average(small: float) -> None:
    scores, targets = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    expected = F.cross_entropy(scores, targets)
    torch.testing.assert_close(CrossEntropyLoss([small, 1.0])(scores, targets), expected)


@pytest.mark.parametrize(("kind", "key"), BOTH)
def test_unknown_classes_count_nowhere(kind: Any, key: str, pair: tuple[Tensor, Tensor]) -> None:
    scores, targets = pair
    loss = kind(classes=K, **{key: WEIGHTS})
    gaps = targets.clone()
    gaps[25:] = -1
    torch.testing.assert_close(loss(scores, gaps), loss(scores[:25], targets[:25]))
    scores.requires_grad_()
    loss(scores, gaps).backward()
    assert scores.grad is not None
    assert not scores.grad[25:].any()
    assert scores.grad[:25].any()


@pytest.mark.parametrize(("kind", "key"), BOTH)
def test_no_known_class_is_no_loss_and_no_gradient(kind: Any, key: str, pair: tuple[Tensor, Tensor]) -> None:
    scores = pair[0].requires_grad_()
    loss = kind(classes=K, **{key: WEIGHTS})(scores, torch.full((len(scores),), -1))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_certain_scores_have_finite_loss_and_gradient(gamma: float, dtype: torch.dtype) -> None:
    scores = torch.tensor([[300.0, -300.0], [-300.0, 300.0], [17.0, -17.0], [0.0, 0.0]], dtype=dtype)
    scores.requires_grad_()
    loss = FocalLoss(gamma)(scores, torch.tensor([0, 0, 0, 1]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx((600 + 0.5**gamma * math.log(2)) / 4, rel=1e-3)
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_half_precision_scores_are_summed_in_single(pair: tuple[Tensor, Tensor]) -> None:
    scores, targets = pair
    for loss in (FocalLoss(), CrossEntropyLoss(label_smoothing=0.1)):
        torch.testing.assert_close(loss(scores.half(), targets), loss(scores.half().float(), targets), rtol=0, atol=0)


@settings(deadline=None)
@given(st.integers(2, 6), st.lists(st.integers(0, 5), max_size=30))
def test_balanced_is_scikit_learns(classes: int, more: list[int]) -> None:
    labels = [*range(classes), *(label % classes for label in more)]
    expected = compute_class_weight("balanced", classes=np.arange(classes), y=np.array(labels))
    found = balanced_weights(torch.tensor([-1, *labels, -1]), classes)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))
    torch.testing.assert_close(found[torch.tensor(labels)].mean(), torch.tensor(1.0))


@pytest.mark.parametrize(("kind", "key"), BOTH)
def test_balancing_sets_the_weights(kind: Any, key: str, pair: tuple[Tensor, Tensor]) -> None:
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 1, 2, 2, 3, -1])
    loss = kind(classes=K, **{key: "balanced"})
    loss.fit_targets(labels)
    expected = kind(classes=K, **{key: [0.5, 1.25, 1.25, 2.5]})
    torch.testing.assert_close(loss(*pair), expected(*pair))


@pytest.mark.parametrize(("kind", "key"), BOTH)
def test_only_balanced_weights_are_balanced(kind: Any, key: str) -> None:
    labels = torch.tensor([0, 0, 1, 2, 3])
    unweighted, weighted = kind(classes=K), kind(classes=K, **{key: WEIGHTS})
    for loss in (unweighted, weighted):
        loss.fit_targets(labels)
    assert unweighted.class_weights is None
    assert torch.equal(weighted.class_weights, torch.tensor(WEIGHTS))


@pytest.mark.parametrize(("kind", "key"), BOTH)
def test_it_says_whether_it_weighs_classes(kind: Any, key: str) -> None:
    assert not kind(classes=K).reweights
    assert kind(classes=K, **{key: WEIGHTS}).reweights
    assert kind(classes=K, **{key: "balanced"}).reweights


@pytest.mark.parametrize(("kind", "key"), BOTH)
def test_checkpoints_bring_the_weights(kind: Any, key: str, pair: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    trained = kind(classes=K, **{key: "balanced"})
    fresh = kind(classes=K, **{key: "balanced"})
    untouched = {name: value.clone() for name, value in fresh.state_dict().items()}
    trained.fit_targets(torch.tensor([0, 0, 0, 1, 2, 3]))
    torch.save(trained.state_dict(), tmp_path / "loss.ckpt")
    fresh.load_state_dict(torch.load(tmp_path / "loss.ckpt"), strict=True)
    assert torch.equal(fresh(*pair), trained(*pair))
    trained.load_state_dict(untouched, strict=True)  # and from before the labels were seen
    kind(classes=K).load_state_dict(kind(classes=K).state_dict(), strict=True)


@pytest.mark.parametrize(("kind", "key"), BOTH)
def test_lists_of_the_configuration_are_weights(kind: Any, key: str) -> None:
    loss: ClassLoss = kind(classes=K, **{key: OmegaConf.create(WEIGHTS)})
    assert loss.class_weights is not None
    assert loss.class_weights.tolist() == WEIGHTS


@pytest.mark.parametrize(("kind", "key"), BOTH)
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], r"has 2 numbers for 4 classes; give one for each class"),
        ([1.0, 0.0, 1.0, 1.0], r"the weight of class 1 is 0; weights are positive and finite"),
        ([1.0, 1.0, -2.0, 1.0], r"the weight of class 2 is -2"),
        ([1.0, 1.0, 1.0, math.nan], r"the weight of class 3 is nan"),
        ("balance", r"=balance: give null, balanced, or a positive number for each class"),
        (0.25, r"=0.25: give null, balanced, or a positive number for each class"),
    ],
)
def test_other_weights_are_refused(kind: Any, key: str, weights: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"loss\.{key}.*{message}"):
        kind(classes=K, **{key: weights})


@pytest.mark.parametrize("gamma", [-0.1, math.inf, math.nan])
def test_other_gammas_are_refused(gamma: float) -> None:
    with pytest.raises(UserError, match=rf"loss\.gamma={gamma}: gamma is finite and at least 0"):
        FocalLoss(gamma)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
def test_other_smoothings_are_refused(smoothing: float) -> None:
    with pytest.raises(
        UserError, match=rf"loss\.label_smoothing={smoothing:g}: the smoothing is at least 0 and below 1"
    ):
        CrossEntropyLoss(label_smoothing=smoothing)


def test_classes_without_objects_are_named() -> None:
    with pytest.raises(UserError, match=r"No training object has class 1, 3, so it cannot be balanced"):
        balanced_weights(torch.tensor([0, 0, 2, -1]), K)


@pytest.mark.parametrize("label", [-2, 4])
def test_labels_that_are_no_class_are_refused(label: int) -> None:
    with pytest.raises(UserError, match=r"Labels go from .* but there are 4 classes; give 0 to 3, or -1"):
        balanced_weights(torch.tensor([0, 1, 2, 3, label]), K)


def test_another_number_of_classes_is_refused(pair: tuple[Tensor, Tensor]) -> None:
    for weights in (None, [1.0] * 10):
        with pytest.raises(UserError, match=r"loss\.classes=10, but the net has 4 outputs"):
            FocalLoss(alpha=weights, classes=10)(*pair)


def test_the_number_of_classes_is_needed_for_balanced_weights_alone(pair: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(FocalLoss(2.0, WEIGHTS)(*pair), FocalLoss(2.0, WEIGHTS, classes=K)(*pair))
    with pytest.raises(UserError, match=r"loss\.alpha=balanced needs the number of classes"):
        FocalLoss(alpha="balanced")


@pytest.mark.parametrize(("kind", "key"), BOTH)
def test_weights_that_were_never_balanced_are_refused(kind: Any, key: str, pair: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(UserError, match=rf"loss\.{key}=balanced follows from training labels"):
        kind(classes=K, **{key: "balanced"})(*pair)


@pytest.mark.parametrize("targets", [torch.rand(40, K), torch.rand(40), torch.zeros(40, 1, dtype=torch.long)])
def test_targets_that_are_no_classes_are_refused(pair: tuple[Tensor, Tensor], targets: Tensor) -> None:
    with pytest.raises(UserError, match=r"takes class indices, one an object, but the targets have shape"):
        CrossEntropyLoss()(pair[0], targets)
