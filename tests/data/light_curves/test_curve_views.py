import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from galaxyml.data.light_curves.views import (
    GALACTIC,
    PADDING,
    Batch,
    CurveAugment,
    chosen,
    detection_probability,
    log_uniform,
    noisier,
    reflagged,
)
from galaxyml.runs.errors import UserError

COLUMNS = ("time", "band", "flux", "error", "mask", "detected")


def batch_of(count: int = 40, longest: int = 60, bright: float = 30.0, seed: int = 0) -> Batch:
    """Objects of 5 to `longest` observations, in the order of time, padded as real batches are."""
    dice = torch.Generator().manual_seed(seed)
    lengths = torch.randint(5, longest + 1, (count,), generator=dice)
    lengths[0] = longest
    mask = torch.arange(longest) < lengths[:, None]
    time = (1000 * torch.rand(count, longest, generator=dice) - 500).masked_fill(~mask, torch.inf).sort(1).values
    error = (0.5 + torch.rand(count, longest, generator=dice)).masked_fill(~mask, 1.0)
    flux = (bright * torch.randn(count, longest, generator=dice)).masked_fill(~mask, 0.0)
    return {
        "index": torch.arange(count),
        "target": torch.arange(count) % 3,
        "time": time.masked_fill(~mask, 0.0),
        "band": torch.randint(6, (count, longest), generator=dice).masked_fill(~mask, 0),
        "flux": flux,
        "error": error,
        "mask": mask,
        "detected": ((flux / error).abs() > 5.5) & mask,
        "condition": torch.rand(count, 5, generator=dice),
    }


def identical(count: int, flux: float, error: float) -> Batch:
    """One object of many equal observations."""
    whole = torch.ones(1, count)
    return {
        "time": torch.arange(count)[None].float(),
        "band": torch.zeros(1, count, dtype=torch.long),
        "flux": flux * whole,
        "error": error * whole,
        "mask": whole.bool(),
        "detected": whole.bool(),
    }


EVERYTHING = CurveAugment(shift=30, drop=0.5, drop_band=0.3, drop_block=0.3, scale=3, renoise=2)


def rows_of(batch: Batch, row: int) -> set[tuple[float, int]]:
    there = batch["mask"][row]
    return set(zip(batch["time"][row, there].tolist(), batch["band"][row, there].tolist(), strict=True))


def test_nothing_asked_is_nothing_done() -> None:
    batch = batch_of()
    view = CurveAugment()(batch)
    assert all(torch.equal(view[name], batch[name]) for name in batch)


def test_the_batch_given_stays_as_it_is() -> None:
    batch = batch_of()
    before = {name: values.clone() for name, values in batch.items()}
    EVERYTHING(batch)
    assert all(torch.equal(batch[name], before[name]) for name in batch)


def test_the_same_seed_draws_the_same_view() -> None:
    views = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        views.append(EVERYTHING(batch_of()))
    assert all(torch.equal(views[0][name], views[1][name]) for name in views[0])
    assert not torch.equal(views[0]["flux"], views[2]["flux"])


def test_padding_follows_the_observations_and_is_empty() -> None:
    view = EVERYTHING(batch_of())
    lengths = view["mask"].sum(1)
    assert view["mask"].shape[1] == lengths.max()
    assert torch.equal(view["mask"], torch.arange(int(lengths.max())) < lengths[:, None])
    for name, empty in PADDING.items():
        assert (view[name][~view["mask"]] == empty).all()
    later = view["time"].diff(dim=1)[view["mask"][:, 1:]]
    assert (later >= 0).all()


def test_kinds_of_numbers_and_what_else_there_is_stay() -> None:
    batch = batch_of()
    view = EVERYTHING(batch)
    assert {name: values.dtype for name, values in view.items()} == {name: v.dtype for name, v in batch.items()}
    assert all(torch.equal(view[name], batch[name]) for name in ("index", "target", "condition"))


def test_a_shift_is_the_same_for_all_observations_of_an_object_and_uniform_over_objects() -> None:
    batch = batch_of(count=2000, longest=10)
    moved = (CurveAugment(shift=30)(batch)["time"] - batch["time"]).masked_fill(~batch["mask"], torch.nan)
    first = moved[:, 0]
    assert (moved - first[:, None]).abs().nan_to_num(0).max() < 1e-3
    assert stats.kstest(first.numpy(), stats.uniform(-30, 60).cdf).pvalue > 1e-3


def test_the_share_left_out_is_uniform_up_to_the_largest() -> None:
    batch = batch_of(count=2000, longest=300, bright=0.5)
    before = batch["mask"].sum(1)
    share = 1 - CurveAugment(drop=0.4)(batch)["mask"].sum(1) / before
    long = (before > 200).numpy()
    assert share.max() <= 0.4 + 0.01
    assert stats.kstest(share.numpy()[long], stats.uniform(0, 0.4).cdf).pvalue > 1e-3


def test_observations_left_out_take_nothing_else_with_them() -> None:
    batch = batch_of()
    view = CurveAugment(drop=0.9)(batch)
    for row in range(len(batch["mask"])):
        assert rows_of(view, row) < rows_of(batch, row) or rows_of(view, row) == rows_of(batch, row)
        known = {
            time: (flux, error, flag)
            for time, flux, error, flag in zip(
                *(batch[name][row].tolist() for name in ("time", "flux", "error", "detected")), strict=True
            )
        }
        there = view["mask"][row]
        for time, *rest in zip(
            *(view[name][row, there].tolist() for name in ("time", "flux", "error", "detected")), strict=True
        ):
            assert known[time] == tuple(rest)


@pytest.mark.parametrize("blocks", [0.0, 1.0])
def test_three_observations_and_two_detections_remain(blocks: float) -> None:
    batch = batch_of(count=500, longest=40)
    batch["detected"] &= torch.rand(batch["mask"].shape) < 0.1
    batch["mask"][1, 2:] = False  # two observations only
    batch["detected"] &= batch["mask"]
    for _ in range(5):
        view = CurveAugment(scale=10, renoise=10, drop=1.0, drop_band=blocks, drop_block=blocks)(batch)
        assert (view["mask"].sum(1) >= batch["mask"].sum(1).clamp(max=3)).all()
        assert (view["detected"].sum(1) >= batch["detected"].sum(1).clamp(max=2)).all()


def test_one_band_is_lost_as_often_as_asked() -> None:
    batch = batch_of(count=1500, longest=60, bright=0.1)
    view = CurveAugment(drop_band=0.3)(batch)
    missing = torch.tensor(
        [[(values["band"][values["mask"]] == band).sum() for band in range(6)] for values in objects(view)]
    )
    full = torch.tensor(
        [[(values["band"][values["mask"]] == band).sum() for band in range(6)] for values in objects(batch)]
    )
    changed = missing != full
    assert (missing[changed] == 0).all()
    assert changed.sum(1).max() == 1
    assert changed.any(1).float().mean() == pytest.approx(0.3, abs=0.04)


def test_a_block_is_250_days_without_observations() -> None:
    batch = batch_of(count=1000, longest=100, bright=0.1)
    view = CurveAugment(drop_block=1.0)(batch)
    for before, after in zip(objects(batch), objects(view), strict=True):
        lost = torch.tensor(
            sorted(set(before["time"][before["mask"]].tolist()) - set(after["time"][after["mask"]].tolist()))
        )
        if len(lost):
            assert lost.max() - lost.min() <= 250
            kept = after["time"][after["mask"]]
            between = (kept > lost.min()) & (kept < lost.max())
            assert not between.any() or len(kept) == 3


def objects(batch: Batch) -> list[Batch]:
    return [{name: batch[name][row] for name in COLUMNS} for row in range(len(batch["mask"]))]


@pytest.mark.parametrize(("fainter", "factor"), [(1.0, 3.0), (0.25, 1.0), (0.5, 2.0), (1.0, 1.0)])
def test_the_error_stays_the_standard_deviation_of_the_noise(fainter: float, factor: float) -> None:
    dice = torch.Generator().manual_seed(1)
    batch = identical(200_000, 100.0, 2.0)
    batch["flux"] = batch["flux"] + 2.0 * torch.randn(batch["flux"].shape, generator=dice)
    view = noisier(batch, torch.tensor([fainter]), torch.tensor([factor]))
    assert view["flux"].mean().item() == pytest.approx(100 * fainter, abs=0.05)
    assert torch.allclose(view["error"], torch.tensor(2.0 * factor))
    assert view["flux"].std().item() == pytest.approx(2.0 * factor, rel=0.01)


def test_each_object_has_its_own_factors() -> None:
    batch = batch_of(count=3)
    view = noisier(batch, torch.ones(3), torch.tensor([1.0, 2.0, 4.0]))
    ratio = (view["error"] / batch["error"]).masked_fill(~batch["mask"], 0).amax(1)
    torch.testing.assert_close(ratio, torch.tensor([1.0, 2.0, 4.0]))
    assert torch.equal(view["flux"][0], batch["flux"][0])


def test_factors_are_uniform_in_the_logarithm() -> None:
    torch.manual_seed(0)
    found = torch.log(log_uniform(5000, 7.0)).numpy()
    assert stats.kstest(found, stats.uniform(0, math.log(7)).cdf).pvalue > 1e-3


def test_only_galactic_objects_are_dimmed() -> None:
    batch = batch_of(count=400, bright=100.0)
    batch["condition"][:, GALACTIC] = (torch.arange(400) % 2).float()
    view = CurveAugment(scale=4)(batch)
    changed = (view["flux"] != batch["flux"]).any(1)
    assert not changed[::2].any()
    assert changed[1::2].float().mean() > 0.9
    assert torch.equal(view["condition"], batch["condition"])
    widened = CurveAugment(renoise=4)(batch)
    assert (widened["error"] > batch["error"]).any(1).float().mean() > 0.9  # of all objects


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("shift", -1.0, "of 0 or above, where 0 changes nothing"),
        ("shift", math.inf, "of 0 or above"),
        ("drop", -0.1, "from 0 to 1, where 0 changes nothing"),
        ("drop", 1.5, "from 0 to 1"),
        ("drop_band", 2, "from 0 to 1"),
        ("drop_block", -1, "from 0 to 1"),
        ("drop_block", math.nan, "from 0 to 1"),
        ("scale", 0.5, "of 1 or above, where 1 changes nothing"),
        ("scale", None, "of 1 or above"),
        ("renoise", 0, "of 1 or above"),
        ("renoise", math.inf, "of 1 or above"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(UserError, match=rf"data\.augment\.{name} is {value}; it must be a number {allowed}"):
        CurveAugment(**{name: value})


def test_settings_may_lie_on_their_limits() -> None:
    CurveAugment(shift=0, drop=1, drop_band=1, drop_block=1, scale=1, renoise=1)


def test_scale_only_dims_and_renoise_only_widens() -> None:
    batch = batch_of(bright=1e5)
    batch["condition"][:, GALACTIC] = 1
    dimmed, widened = CurveAugment(scale=4)(batch), CurveAugment(renoise=4)(batch)
    there = batch["mask"] & (batch["flux"].abs() > 1e4)
    ratio = (dimmed["flux"] / batch["flux"])[there]
    assert torch.equal(dimmed["error"], batch["error"])
    assert all((widened[name][~batch["mask"]] == empty).all() for name, empty in PADDING.items())
    assert 0.249 < ratio.min() < 0.5
    assert 0.8 < ratio.max() < 1.001
    assert (widened["error"] / batch["error"]).max() > 2
    assert (widened["error"] / batch["error"]).max() <= 4.0001
    torch.testing.assert_close(widened["flux"][there], batch["flux"][there], rtol=5e-3, atol=0)


def test_flags_stay_where_nothing_changes() -> None:
    batch = batch_of(bright=5.0)
    significance = batch["flux"] / batch["error"]
    flags = torch.rand(significance.shape) < detection_probability(significance)
    assert torch.equal(reflagged(flags, significance, significance), flags)


@pytest.mark.parametrize(("before", "after"), [(8.0, 6.0), (4.0, 5.5), (-7.0, 5.0), (5.0, -5.0)])
def test_flags_have_the_probability_of_their_new_significance(before: float, after: float) -> None:
    torch.manual_seed(0)
    whole = torch.ones(100_000)
    flags = torch.rand(100_000) < detection_probability(before * whole)
    found = reflagged(flags, before * whole, after * whole)
    right = (1 + math.erf((abs(after) - 5.5) / 2)) / 2
    assert found.float().mean().item() == pytest.approx(right, abs=0.006)
    lower = abs(after) <= abs(before)
    assert not (found & ~flags).any() if lower else not (flags & ~found).any()  # none is changed without need


def test_flags_fade_with_the_object() -> None:
    batch = identical(50_000, 24.0, 3.0)
    batch["detected"] = torch.rand(1, 50_000) < detection_probability(batch["flux"] / batch["error"])
    view = noisier(batch, torch.tensor([0.5]), torch.tensor([1.0]))
    assert view["detected"].float().mean() < 0.4 * batch["detected"].float().mean()
    expected = detection_probability(view["flux"] / view["error"]).mean()
    assert view["detected"].float().mean().item() == pytest.approx(expected.item(), abs=0.02)


def test_the_most_random_numbers_go_first() -> None:
    order = torch.tensor([[0.9, 0.1, 0.5, 0.3, 0.7, 0.2]])
    mask = torch.tensor([[True, True, True, True, True, False]])
    nothing = torch.zeros_like(mask)
    kept = chosen(order, mask, nothing, nothing, torch.tensor([[0.4]]))
    assert kept.tolist() == [[False, True, True, True, False, False]]
    kept = chosen(order, mask, torch.tensor([[True] + [False] * 5]), nothing, torch.tensor([[0.4]]))
    assert kept.tolist() == [[True, True, False, True, False, False]]  # the only detection stays


def test_flags_of_real_observations_follow_the_probability(real: Path) -> None:
    table = pd.read_csv(real / "plasticc" / "training_set.csv")
    significance = (table["flux"] / table["flux_err"]).to_numpy()
    expected = detection_probability(torch.tensor(significance)).numpy()
    for low, high in ((0, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 10), (10, np.inf)):
        inside = (np.abs(significance) >= low) & (np.abs(significance) < high)
        for side in (significance > 0, significance < 0):
            assert table["detected"][inside & side].mean() == pytest.approx(expected[inside & side].mean(), abs=0.09)
