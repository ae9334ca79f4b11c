"""Random views of light curves for training: moved in time, thinned out, fainter, noisier."""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from galaxyml.data.light_curves.inputs import CONDITIONS
from galaxyml.runs.errors import UserError

KEPT = 3  # observations that an object keeps, if it has as many
DETECTIONS = 2  # detections below which the survey has no object: the least number in PLAsTiCC's tables
BLOCK = 250.0  # days, about a season (Boone 2019, as in avocado)
GALACTIC = CONDITIONS.index("galactic")
PADDING = {"time": 0.0, "band": 0, "flux": 0.0, "error": 1.0, "detected": False, "mask": False}

Batch = dict[str, Tensor]


def detection_probability(significance: Tensor) -> Tensor:
    """How likely an observation is flagged as detected, from flux / error, of any sign.

    Boone's fit to PLAsTiCC (avocado): half at 5.5, and 0.24 and 0.76 one to either side. The flag follows from no
    threshold: of 230,089 observations of the training set, 0.11 are flagged at |S/N| 3 to 4 (0.08 by this formula),
    0.46 at 5 to 5.5 (0.43), 0.73 at 6 to 7 (0.76), 0.95 at 8 to 10 (0.98). Those at negative flux are flagged alike.
    """
    return (1 + torch.erf((significance.abs() - 5.5) / 2)) / 2


@dataclass(frozen=True)
class CurveAugment:
    """How far random views of light curves may differ from what was observed.

    An object keeps at least 3 observations and 2 detections (or as many as it has), as all objects of the survey do.

    Attributes:
        shift: Largest shift in time of a whole curve, days.
        drop: Largest share of the observations that are left out; the share is drawn for each object.
        drop_band: How often one passband is left out.
        drop_block: How often all observations within 250 days, about a season, are left out.
        scale: Largest factor, at least 1, by which a galactic object is fainter under the same sky. The flux of others
            tells, with their redshift, the luminosity.
        renoise: Largest factor, at least 1, by which errors are larger.

    Raises:
        UserError: If a number lies outside its range.
    """

    shift: float = 0.0
    drop: float = 0.0
    drop_band: float = 0.0
    drop_block: float = 0.0
    scale: float = 1.0
    renoise: float = 1.0

    def __post_init__(self) -> None:
        for setting in fields(self):
            name, value = setting.name, getattr(self, setting.name)
            lowest = getattr(CurveAugment, name)  # the default
            highest = 1.0 if name.startswith("drop") else math.inf
            if not (isinstance(value, int | float) and math.isfinite(value) and lowest <= value <= highest):
                allowed = f"of {lowest:g} or above" if math.isinf(highest) else f"from {lowest:g} to {highest:g}"
                raise UserError(
                    f"data.augment.{name} is {value}; it must be a number {allowed}, where {lowest:g} changes nothing."
                )

    def __call__(self, batch: Batch) -> Batch:
        """Draws one view of each object from torch's global random numbers.

        Args:
            batch: `time` in days, `band`, `flux`, `error`, `mask`, `detected`, each of shape (B, L), and `condition`,
                (B, 5); what else it has passes through. It stays as it is.

        Returns:
            The same of the view, observations first, shape (B, L') where L' is the most of an object.
        """
        view = dict(batch)
        if self.scale > 1 or self.renoise > 1:
            count = len(view["flux"])
            outside = view["condition"][:, GALACTIC] == 0
            fainter = (1 / log_uniform(count, self.scale)).to(view["flux"]).masked_fill(outside, 1.0)
            view = noisier(view, fainter, log_uniform(count, self.renoise))
        if self.drop or self.drop_band or self.drop_block:
            view = keep(view, self._kept(view))
        if self.shift:
            days = self.shift * (2 * torch.rand(len(view["time"]), 1) - 1)
            view["time"] = torch.where(view["mask"], view["time"] + days.to(view["time"]), view["time"])
        return view

    def _kept(self, batch: Batch) -> Tensor:
        """Mask of the observations that stay, bool of shape (B, L)."""
        mask, count = batch["mask"], len(batch["mask"])
        lost = torch.zeros_like(mask)
        if self.drop_band:
            lost |= (batch["band"] == torch.randint(6, (count, 1)).to(mask.device)) & chance(self.drop_band, mask)
        if self.drop_block:
            first = batch["time"].masked_fill(~mask, torch.inf).amin(1, keepdim=True)
            last = batch["time"].masked_fill(~mask, -torch.inf).amax(1, keepdim=True)
            begin = first - BLOCK + (last - first + BLOCK) * torch.rand(count, 1).to(first)
            after = batch["time"] - begin
            lost |= (after >= 0) & (after <= BLOCK) & chance(self.drop_block, mask)
        share = self.drop * torch.rand(count, 1).to(batch["flux"])
        return chosen(torch.rand(mask.shape).to(batch["flux"]), mask, batch["detected"], lost & mask, share)


def noisier(batch: Batch, fainter: Tensor, noisier: Tensor) -> Batch:
    """Objects with less signal, or with more noise, so that the error remains the standard deviation of the noise.

    The flux `s + e n`, with the signal s, the error e and standard normal n, becomes `a s + f e n'`: a times the flux
    has noise a e, and what lacks to f e is added. Flags of detection change as little as `detection_probability` at
    the new signal-to-noise allows. An object that would be left with fewer than 2 detections stays as it was.

    Args:
        batch: As for `CurveAugment`.
        fainter: Factors a in (0, 1], shape (B,).
        noisier: Factors f of the errors, at least 1, shape (B,).
    """
    flux, error, mask = batch["flux"], batch["error"], batch["mask"]
    a, f = fainter[:, None].to(flux), noisier[:, None].to(flux)
    added = (f**2 - a**2).clamp(min=0).sqrt() * error * torch.randn(flux.shape).to(flux)
    fluxes, errors = torch.where(mask, a * flux + added, flux), torch.where(mask, f * error, error)
    detected = reflagged(batch["detected"], flux / error, fluxes / errors) & mask
    enough = detected.sum(1, keepdim=True) >= batch["detected"].sum(1, keepdim=True).clamp(max=DETECTIONS)
    changed = {"flux": fluxes, "error": errors, "detected": detected}
    return batch | {name: torch.where(enough, values, batch[name]) for name, values in changed.items()}


def reflagged(detected: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Flags of detection after the signal-to-noise has changed.

    A flag says that a uniform number lies below the probability of detection. Drawing that number given the flag
    leaves flags as they are where nothing changes, and gives them the right probability everywhere.

    Args:
        detected: Flags, bool.
        before: Signal-to-noise that they belong to, the same shape.
        after: New signal-to-noise, the same shape.
    """
    chance_before, uniform = detection_probability(before), torch.rand(detected.shape).to(before)
    level = torch.where(detected, uniform * chance_before, chance_before + uniform * (1 - chance_before))
    return torch.where(before == after, detected, level < detection_probability(after))


def chosen(order: Tensor, mask: Tensor, detected: Tensor, lost: Tensor, share: Tensor) -> Tensor:
    """Mask of the observations that stay when some are left out.

    Args:
        order: Random numbers in [0, 1), shape (B, L): the largest are left out first.
        mask: Where there is an observation.
        detected: Which are detections.
        lost: Which are left out whatever their number, so far as 3 observations and 2 detections remain.
        share: Of the others that are left out, shape (B, 1).

    Returns:
        Bool of shape (B, L).
    """
    order = order + lost
    least = _rank(order.masked_fill(~(detected & mask), torch.inf)) < DETECTIONS
    rank = _rank((order - 3.0 * (least & detected)).masked_fill(~mask, torch.inf))
    total = mask.sum(1, keepdim=True)
    stay = ((1 - share) * (mask & ~lost).sum(1, keepdim=True)).round().long()
    return (rank < torch.maximum(stay, total.clamp(max=KEPT))) & mask


def keep(batch: Batch, kept: Tensor) -> Batch:
    """The observations of a batch that are `kept`, bool (B, L), in their order and before the padding."""
    order = (~kept).to(torch.int8).sort(dim=1, stable=True).indices[:, : max(int(kept.sum(1).max()), 1)]
    observed = kept.gather(1, order)
    return batch | {name: batch[name].gather(1, order).masked_fill(~observed, empty) for name, empty in PADDING.items()}


def log_uniform(count: int, largest: float) -> Tensor:
    """Factors from 1 to `largest` whose logarithms are uniform, shape (count,)."""
    return torch.exp(math.log(largest) * torch.rand(count))


def chance(probability: float, mask: Tensor) -> Tensor:
    """True for some of the objects, shape (B, 1)."""
    return (torch.rand(len(mask), 1) < probability).to(mask.device)


def _rank(values: Tensor) -> Tensor:
    return values.argsort(1).argsort(1)
