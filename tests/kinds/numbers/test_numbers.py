import pytest
import torch
from torch.nn.functional import mse_loss

from galaxyml.kinds.fractions.losses import BinaryCrossEntropyLoss
from galaxyml.kinds.losses import MSELoss
from galaxyml.kinds.numbers.scaling import ScaledLoss, TargetScaler, moments
from galaxyml.runs.errors import UserError


def test_scores_of_zero_are_the_means_and_of_one_a_deviation_more() -> None:
    targets = torch.randn(500, 2) * torch.tensor([3.0, 1e-3]) + torch.tensor([100.0, -1.0])
    head = TargetScaler(2)
    head.fit_targets(targets)
    torch.testing.assert_close(head(torch.zeros(1, 2))[0], targets.mean(0))
    torch.testing.assert_close(head(torch.ones(1, 2))[0], targets.mean(0) + targets.std(0, correction=0))


def test_what_was_learnt_travels_with_the_weights() -> None:
    head, other = TargetScaler(2), TargetScaler(2)
    head.fit_targets(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    other.load_state_dict(head.state_dict())
    torch.testing.assert_close(other(torch.ones(1, 2)), torch.tensor([[3.0, 6.0]]))


def test_unknown_and_constant_numbers_do_no_harm() -> None:
    nan = float("nan")
    mean, deviation = moments(torch.tensor([[1.0, 5.0, nan], [nan, 5.0, nan], [3.0, 5.0, nan]]))
    assert mean.tolist() == [2.0, 5.0, 0.0]
    assert deviation.tolist() == [1.0, 1.0, 1.0]


def test_a_loss_that_compares_no_numbers_is_refused() -> None:
    with pytest.raises(UserError, match="kind=numbers takes loss=mse, rmse or smooth_l1"):
        ScaledLoss(BinaryCrossEntropyLoss(), 2)


def test_torchs_losses_compare_the_numbers_that_are_known() -> None:
    targets, outputs = torch.randn(64, 3) * 1e5 + 7, torch.randn(64, 3) * 1e5
    loss = ScaledLoss(torch.nn.HuberLoss(delta=0.5), 3)
    loss.fit_targets(targets)
    deviation = targets.std(0, correction=0)
    expected = torch.nn.functional.huber_loss(outputs / deviation, targets / deviation, delta=0.5)
    torch.testing.assert_close(loss(outputs, targets), expected)
    targets[3, 1] = targets[60, 2] = float("nan")
    known = ~targets.isnan()
    scaled = (outputs / deviation)[known], (targets / deviation)[known]
    torch.testing.assert_close(loss(outputs, targets), torch.nn.functional.huber_loss(*scaled, delta=0.5))


def test_a_scaled_loss_is_that_of_standardised_numbers() -> None:
    targets, outputs = torch.randn(64, 3) * 1e5 + 7, torch.randn(64, 3) * 1e5
    loss = ScaledLoss(MSELoss(), 3)
    loss.fit_targets(targets)
    mean, deviation = targets.mean(0), targets.std(0, correction=0)
    expected = mse_loss((outputs - mean) / deviation, (targets - mean) / deviation)
    torch.testing.assert_close(loss(outputs, targets), expected)
