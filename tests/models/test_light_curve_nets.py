import math
from typing import Any

import numpy as np
import pytest
import torch
from astropy.cosmology import FlatLambdaCDM
from torch import Tensor, nn

from galaxyml.data.light_curves import inputs
from galaxyml.models.light_curves.encoders import GridEncoder, RecurrentEncoder, TransformerEncoder, pooled
from galaxyml.models.light_curves.vae import FluxDecoder, LightCurveVAE

Batch = dict[str, Tensor]
ENCODERS = [
    lambda: GridEncoder(width=16, bins=24, channels=(8, 8)),
    lambda: RecurrentEncoder(width=16),
    lambda: TransformerEncoder(width=16, layers=1, heads=2),
]


def batch(objects: int = 5, longest: int = 30, seed: int = 0) -> Batch:
    """Random light curves of different lengths, padded as batches are."""
    drawing = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, longest + 1, (objects,), generator=drawing)
    lengths[0] = longest
    mask = torch.arange(longest) < lengths[:, None]
    time = (torch.rand(objects, longest, generator=drawing) * 800 - 400).sort(1).values
    flux = torch.randn(objects, longest, generator=drawing) * 30 + 10
    error = torch.rand(objects, longest, generator=drawing) * 5 + 1
    band = torch.randint(6, (objects, longest), generator=drawing)
    galactic = torch.arange(objects) % 2
    condition = torch.stack(
        [0.4 * (1 - galactic), 0.05 * (1 - galactic), torch.full((objects,), 0.1), galactic, 0 * galactic], 1
    )
    return {
        "time": torch.where(mask, time, 0.0),
        "band": torch.where(mask, band, 0),
        "flux": torch.where(mask, flux, 0.0),
        "error": torch.where(mask, error, 1.0),
        "mask": mask,
        "condition": condition.float(),
    }


def padded(values: Batch, more: int) -> Batch:
    """The same light curves with more padding."""
    fill = {"time": 0.0, "band": 0, "flux": 0.0, "error": 1.0, "mask": False}
    return values | {name: nn.functional.pad(values[name], (0, more), value=value) for name, value in fill.items()}


def changed(values: Batch, name: str) -> Batch:
    """The same light curves, another value in one place of the first of them."""
    other = values[name].clone()
    if name == "mask":
        other[0, 7] = False
    elif name == "band":
        other[0, 7] = (other[0, 7] + 1) % 6
    else:
        other[0, 7] += {"time": 60.0, "flux": 40.0, "error": 20.0}[name]
    return values | {name: other}


@pytest.mark.parametrize("redshift", [0.01, 0.3, 1.0, 3.0])
def test_distance_moduli_are_astropys(redshift: float) -> None:
    expected = FlatLambdaCDM(70, 0.3).distmod(redshift).value
    assert float(inputs.distance_modulus(torch.tensor(redshift, dtype=torch.float64))) == pytest.approx(
        expected, abs=1e-3
    )


def test_redshifts_that_cannot_be_have_finite_distances() -> None:
    assert inputs.distance_modulus(torch.tensor([-1.0, 0.0, 99.0])).isfinite().all()


def test_the_scale_is_the_largest_flux_less_its_error() -> None:
    values = batch()
    found = inputs.scale(values)
    for row in range(len(found)):
        kept = values["mask"][row]
        flux, error = values["flux"][row][kept].numpy(), values["error"][row][kept].numpy()
        middle = np.sort(error)[(len(error) - 1) // 2]  # torch's median is the lower of the two in the middle
        assert float(found[row]) == pytest.approx(max((np.abs(flux) - error).max(), middle))


def test_the_scale_of_an_object_without_observations_is_positive() -> None:
    values = batch(2)
    values["mask"][1] = False
    assert inputs.scale(values)[1] > 0


def test_luminosity_falls_with_the_square_of_the_distance() -> None:
    values = batch(2)
    values["condition"][:, 3] = 0
    values["condition"][:, 0] = torch.tensor([0.1, 0.5])
    cosmology = FlatLambdaCDM(70, 0.3)
    ratio = (cosmology.luminosity_distance(0.5) / cosmology.luminosity_distance(0.1)).value ** 2
    found = inputs.luminosity(values, torch.ones(2))
    assert float(found[1] - found[0]) == pytest.approx(math.log10(ratio), abs=1e-3)


def test_standardised_numbers_have_mean_0_and_deviation_1_and_stay_within_bounds() -> None:
    standard = inputs.Standardise(3)
    values = torch.randn(500, 3) * torch.tensor([5.0, 0.1, 0.0]) + 7
    standard.fit(values)
    found = standard(values)
    torch.testing.assert_close(found.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[:, :2].std(0, correction=0), torch.ones(2), atol=0.02, rtol=0)
    assert standard(torch.full((1, 3), 1e9)).abs().max() <= 5


def test_the_grid_has_the_weighted_means_of_a_loop_over_observations() -> None:
    encoder, values = GridEncoder(width=8, bins=12, core=20, span=500, channels=(4,)), batch(seed=3)
    found = encoder.grid(values).view(len(values["flux"]), 4, 6, 12)
    edges = 20 * np.sinh(np.linspace(-1, 1, 13) * math.asinh(500 / 20))
    for row in range(len(found)):
        kept = values["mask"][row].numpy()
        time, band, flux, error = (values[name][row].numpy()[kept] for name in ("time", "band", "flux", "error"))
        place = np.clip(np.searchsorted(edges, time, side="right") - 1, 0, 11)
        for cell in {(int(b), int(p)) for b, p in zip(band, place, strict=True)}:
            inside = (band == cell[0]) & (place == cell[1])
            weight = 1 / error[inside].astype(np.float64) ** 2
            mean = np.average(flux[inside], weights=weight)
            chi2 = (weight * (flux[inside] - mean) ** 2).sum() / max(inside.sum() - 1, 1)
            expected = [mean, math.log1p(weight.sum()) / 12, math.log1p(chi2) / 12, 1]
            np.testing.assert_allclose(found[row, :, cell[0], cell[1]].numpy(), expected, rtol=2e-3, atol=2e-3)
    assert int(found[:, 3].sum()) <= int(values["mask"].sum())


@pytest.mark.parametrize("make", ENCODERS)
def test_padding_says_nothing(make: Any) -> None:
    encoder, values = make().eval(), batch()
    with torch.no_grad():
        torch.testing.assert_close(encoder(values), encoder(padded(values, 11)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", ENCODERS)
@pytest.mark.parametrize("name", ["time", "band", "flux", "error", "mask"])
def test_encoders_see_time_passband_flux_error_and_mask(make: Any, name: str) -> None:
    encoder, values = make().eval(), batch()
    with torch.no_grad():
        difference = (encoder(changed(values, name)) - encoder(values)).abs().amax(1)
    assert difference[0] > 1e-5
    assert difference[1:].max() < 1e-5  # and of the object alone


@pytest.mark.parametrize("make", ENCODERS)
def test_objects_of_one_or_no_observation_give_numbers(make: Any) -> None:
    encoder, values = make().eval(), batch(3)
    values["mask"][1] = False
    values["mask"][2] = torch.arange(30) == 0
    for name, value in (("time", 0.0), ("band", 0), ("flux", 0.0), ("error", 1.0)):
        values[name] = torch.where(values["mask"], values[name], value)
    with torch.no_grad():
        assert encoder(values).isfinite().all()


def test_pooling_takes_what_is_there() -> None:
    states = torch.tensor([[[1.0], [3.0], [100.0]], [[-2.0], [50.0], [60.0]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert pooled(states, mask).tolist() == [[2.0, 3.0], [-2.0, -2.0]]


def test_the_decoder_works_in_the_rest_frame() -> None:
    torch.manual_seed(0)
    decoder = FluxDecoder(latent=3, conditions=2, width=16)
    decoder.of_observation.weight.data[:, 4:10] = 0  # leaves the passband's wavelength, takes its name
    latent, conditions = torch.randn(1, 3), torch.zeros(1, 2)
    time, band = torch.tensor([[-20.0, 0.0, 35.0]]), torch.tensor([[2, 2, 2]])
    near = decoder(latent, conditions, torch.tensor([0.0]), time, band)
    # r at redshift z shows what g shows at 0, where 1 + z is the ratio of their wavelengths.
    stretch = inputs.WAVELENGTHS[2] / inputs.WAVELENGTHS[1]
    blue = decoder(latent, conditions, torch.tensor([0.0]), time, torch.tensor([[1, 1, 1]]))
    far = decoder(latent, conditions, torch.tensor([stretch - 1]), time * stretch, band)
    torch.testing.assert_close(far.flux, blue.flux, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(far.flux, near.flux, atol=1e-4)
    assert (near.spread > 0).all()


def test_latents_do_not_depend_on_the_unit_of_flux_but_for_the_scale() -> None:
    torch.manual_seed(0)
    net = LightCurveVAE(GridEncoder(width=16, bins=24, channels=(8,)), classes=3, latent=4, hidden=16).eval()
    values = batch()
    scales, known = net.known(values)
    tenfold = values | {"flux": values["flux"] * 10, "error": torch.where(values["mask"], values["error"] * 10, 1.0)}
    with torch.no_grad():
        one = net.encode(values, scales, known)
        ten = net.encode(tenfold, net.known(tenfold)[0], known)  # the same knowledge of the object
    torch.testing.assert_close(one.mean, ten.mean, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("make", ENCODERS)
def test_every_parameter_of_the_net_is_used(make: Any) -> None:
    net = LightCurveVAE(make(), classes=3, latent=4, hidden=16)
    values = batch()
    scales, known = net.known(values)
    latent = net.encode(values, scales, known)
    said = net.decode(latent.mean, known, values)
    parts = (latent.log_variance, *said, net.decode_luminosity(latent.mean, known), net.classes(latent.mean))
    torch.stack([part.square().sum() for part in parts]).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())
