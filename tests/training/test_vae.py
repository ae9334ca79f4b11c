from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from galaxyml.models.light_curves.encoders import GridEncoder
from galaxyml.models.light_curves.vae import LightCurveVAE
from galaxyml.runs.errors import UserError
from galaxyml.training.light_curve_predictions import as_table, encode_light_curves, gathered, reconstructed
from galaxyml.training.vae import VAEModule, divergence, draw_observations, nll


def bells(objects: int = 24, seed: int = 0) -> dict[str, Tensor]:
    """Bells of two classes, narrow and wide, with errors of a fiftieth of their height."""
    drawing = torch.Generator().manual_seed(seed)
    target = torch.arange(objects) % 2
    width = torch.where(target == 1, 60.0, 15.0)
    time = (torch.rand(objects, 40, generator=drawing) * 300 - 150).sort(1).values
    flux = 100 * torch.exp(-0.5 * (time / width[:, None]) ** 2) + 2 * torch.randn(objects, 40, generator=drawing)
    return {
        "index": torch.arange(objects),
        "time": time,
        "band": torch.randint(6, (objects, 40), generator=drawing),
        "flux": flux,
        "error": torch.full((objects, 40), 2.0),
        "mask": torch.ones(objects, 40, dtype=torch.bool),
        "condition": torch.tensor([0.2, 0.01, 0.05, 0.0, 0.0]).repeat(objects, 1),
        "target": target,
        "reference": torch.full((objects,), 60000.0, dtype=torch.float64),
    }


def module(**options: Any) -> VAEModule:
    torch.manual_seed(0)
    net = LightCurveVAE(GridEncoder(width=32, bins=24, channels=(16,), dropout=0.0), classes=2, latent=4, hidden=32)
    return VAEModule(net, partial(torch.optim.AdamW, lr=3e-3), **options)


def fitted(steps: int = 150, **options: Any) -> tuple[VAEModule, dict[str, Tensor]]:
    model, batch = module(beta_warmup=0, **options), bells()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        model._loss(batch, sample=True)[0].backward()
        optimizer.step()
    return model.eval(), batch


def test_the_divergence_is_that_of_torch() -> None:
    mean, log_variance = torch.randn(7, 3), torch.randn(7, 3)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(divergence(mean, log_variance), expected)


def test_the_likelihood_is_a_gaussian_of_both_variances() -> None:
    flux, error, mean, spread = torch.randn(9), torch.rand(9) + 0.1, torch.randn(9), torch.rand(9) + 0.1
    expected = -Normal(mean, (error**2 + spread**2).sqrt()).log_prob(flux)
    constant = 0.5 * torch.log(torch.tensor(2 * torch.pi))
    torch.testing.assert_close(nll(flux, error, mean, spread) + constant, expected)


def test_observations_that_are_not_there_do_not_count() -> None:
    model, batch = module().eval(), bells()
    whole = model.losses(batch, sample=False)
    more = batch | {
        name: nn.functional.pad(batch[name], (0, 5), value=value)
        for name, value in {"time": 0.0, "band": 0, "flux": 0.0, "error": 1.0, "mask": False}.items()
    }
    for name, term in model.losses(more, sample=False).items():
        torch.testing.assert_close(term, whole[name], atol=1e-4, rtol=1e-4)


def test_a_fit_reconstructs_tells_classes_and_luminosity() -> None:
    model, batch = fitted(classes=0.5)
    with torch.no_grad():
        before, after = (net.losses(batch, sample=False) for net in (module().eval(), model))
        scores = after["class_scores"]
    assert after["nll"].mean() < before["nll"].mean() - 1
    assert (scores.argmax(1) == batch["target"]).all()
    assert after["kl"].mean() > 0.5  # the latent is used


def test_what_is_told_is_the_same_each_time_and_of_the_mean() -> None:
    model, batch = fitted(5)
    with torch.no_grad():
        one, two = encode_light_curves(model.net, batch), encode_light_curves(model.net, batch)
        mean = model(batch).mean
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(one["latent"], mean)


def test_an_unlike_curve_is_decoded_worse_where_it_is_unlike() -> None:
    model, batch = fitted(300)
    strange = {name: values.clone() for name, values in batch.items()}
    late = strange["time"][0] > 100
    strange["flux"][0, late] += 60
    with torch.no_grad():
        usual, unlike = encode_light_curves(model.net, batch), encode_light_curves(model.net, strange)
    assert unlike["reconstruction"][0, 0] > usual["reconstruction"][0, 0] + 1
    assert unlike["reconstruction"][0, 1] > usual["reconstruction"][0, 1]
    assert float(unlike["worst_mjd"][0]) > 60100


def test_deviations_are_taken_together_by_passband_and_window() -> None:
    batch = {
        "time": torch.tensor([[0.0, 3.0, 4.0, 25.0, 0.0]]),
        "band": torch.tensor([[1, 1, 2, 1, 0]]),
        "mask": torch.tensor([[True, True, True, True, False]]),
    }
    pull = torch.tensor([[1.0, 3.0, 5.0, 7.0, 0.0]])
    expected = [4 / 2**0.5, 4 / 2**0.5, 5.0, 7.0, 0.0]
    torch.testing.assert_close(gathered(pull, batch), torch.tensor([expected]))


def test_without_a_weight_for_classes_nothing_is_learnt_of_them() -> None:
    model = module(classes=0.0, beta_warmup=0)
    loss, terms = model._loss(bells(), sample=True)
    loss.backward()
    assert all(parameter.grad is None for parameter in model.net.classes.parameters())
    assert "cross_entropy" not in terms


def test_objects_of_no_known_class_do_not_count_as_one() -> None:
    model, batch = module(classes=1.0).eval(), bells()
    half_labelled = batch | {"target": torch.where(torch.arange(24) < 12, batch["target"], -1)}
    expected = nn.functional.cross_entropy(model.losses(batch, False)["class_scores"][:12], batch["target"][:12])
    torch.testing.assert_close(model._loss(half_labelled, sample=False)[1]["cross_entropy"], expected)


def test_capacity_frees_that_much_divergence() -> None:
    batch = bells()
    plain, free = (module(beta=1.0, capacity=capacity).eval() for capacity in (None, 7.0))
    loss, terms = plain._loss(batch, sample=False)
    with_capacity, _ = free._loss(batch, sample=False)
    expected = loss - terms["kl"] + (terms["kl"] - 7).abs()
    torch.testing.assert_close(with_capacity, expected)


def test_reconstructions_are_in_units_of_flux_and_pass_through_the_curve() -> None:
    model, batch = fitted(300)
    curve = reconstructed(model.net, batch, ["an object"], ringed=True)[0]
    assert curve.model is not None
    times, fluxes, spreads = curve.model
    assert spreads is not None
    assert times[0] == pytest.approx(float(batch["time"][0].min()))
    assert fluxes.shape == spreads.shape == (6, len(times))
    assert 50 < fluxes.max() < 150
    assert curve.marked is not None
    assert abs(curve.time - curve.marked[0]).min() < 1e-2


def test_tables_have_a_column_a_number() -> None:
    table = as_table(
        {"index": torch.tensor([2, 0]), "latent": torch.tensor([[1.0, 2], [3, 4]])}, torch.tensor([7, 8, 9]).numpy()
    )
    assert table.to_dict("list") == {"id": [9, 7], "latent_0": [1.0, 3.0], "latent_1": [2.0, 4.0]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": -1}, "module.beta=-1"),
        ({"capacity": -3.0}, "module.capacity=-3"),
        ({"reconstruction": 0.0, "classes": 0.0}, "leave nothing to learn"),
    ],
)
def test_impossible_weights_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        module(**options)


def test_a_net_of_images_is_refused() -> None:
    with pytest.raises(UserError, match=r"takes no light curves.*light_curve_vae"):
        VAEModule(nn.Conv2d(3, 8, 3), partial(torch.optim.AdamW, lr=1e-3))


def test_a_step_decodes_some_of_the_observations_that_are_there() -> None:
    batch = bells()
    batch["mask"][:, 30:] = False
    batch["mask"][0, 3:] = False
    torch.manual_seed(0)
    chosen = draw_observations(batch, 10)
    assert chosen["flux"].shape == (24, 10)
    assert chosen["mask"].sum(1).tolist() == [3] + [10] * 23
    there = {(float(t), float(f)) for t, f in zip(batch["time"][1, :30], batch["flux"][1, :30], strict=True)}
    assert {(float(t), float(f)) for t, f in zip(chosen["time"][1], chosen["flux"][1], strict=True)} <= there
    assert draw_observations(batch, 99) is batch
