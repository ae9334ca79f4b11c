"""Encoders: a batch of observations at any times and in any passbands -> one vector an object.

All of them see time, flux, error, passband and mask. `batch` is as in `inputs`, its fluxes and errors already divided
by the object's scale.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from galaxyml.data.light_curves.inputs import BANDS

DEEP = 12.0  # natural logarithm of the largest inverse variance that is told apart


class Encoder(nn.Module):
    """Takes a batch, gives a vector of length `width` for each object, (B, width)."""

    width: int


class GridEncoder(Encoder):
    """Convolutions over a grid of time bins, fine at the reference time and coarse far from it.

    Each passband has four numbers a bin: the mean flux weighted by inverse variance, its inverse variance, the scatter
    beyond what the errors allow, and whether there are observations.

    Args:
        width: Of the vector.
        bins: Of time; their edges are spaced evenly in asinh(time / core).
        core: Time in days within which bins are nearly even.
        span: Days from the reference time that the outermost edges have.
        channels: Of each convolution; all but the first halve the number of bins.
        dropout: Of the last layer.
    """

    def __init__(
        self,
        width: int = 128,
        bins: int = 96,
        core: float = 20.0,
        span: float = 1100.0,
        channels: Sequence[int] = (64, 64, 96),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.width = width
        self.bins, self.core, self.reach = bins, core, math.asinh(span / core)
        layers: list[nn.Module] = []
        before, length = 4 * BANDS, bins
        for depth, after in enumerate(channels):
            stride = 2 if depth else 1
            layers += [nn.Conv1d(before, after, 5, stride, padding=2), nn.BatchNorm1d(after), nn.GELU()]
            before, length = after, -(-length // stride)
        self.convolutions = nn.Sequential(*layers)
        self.last = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(before * length, width), nn.GELU())

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.last(self.convolutions(self.grid(batch)))

    def grid(self, batch: dict[str, Tensor]) -> Tensor:
        """The grid, shape (B, 24, bins)."""
        position = (torch.asinh(batch["time"] / self.core) / self.reach + 1) / 2 * self.bins
        cell = batch["band"] * self.bins + position.long().clamp(0, self.bins - 1)
        weight = batch["mask"] / batch["error"] ** 2
        count, total, first, second = (
            torch.zeros(len(cell), BANDS * self.bins, device=cell.device).scatter_add_(1, cell, values)
            for values in (
                batch["mask"].to(weight.dtype),
                weight,
                weight * batch["flux"],
                weight * batch["flux"] ** 2,
            )
        )
        mean = first / total.clamp(min=1e-12)
        chi2 = (second - total * mean**2).clamp(min=0) / (count - 1).clamp(min=1)
        cells = torch.stack([mean, torch.log1p(total) / DEEP, torch.log1p(chi2) / DEEP, (count > 0).float()], 1)
        return cells.view(len(cell), 4 * BANDS, self.bins)


class Tokens(nn.Module):
    """Observations as vectors: flux, error and signal-to-noise, passband, and time by sines and cosines.

    Args:
        width: Of each vector.
        waves: Number of frequencies, from one turn in 2,000 days to one in 2 days.
    """

    frequencies: Tensor

    def __init__(self, width: int, waves: int = 16) -> None:
        super().__init__()
        periods = torch.logspace(math.log10(2000.0), math.log10(2.0), waves)
        self.register_buffer("frequencies", 2 * math.pi / periods)
        self.embed = nn.Linear(4 + BANDS + 2 * waves, width)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Shape (B, L, width)."""
        flux, error, time = batch["flux"], batch["error"], batch["time"]
        phase = time[..., None] * self.frequencies
        numbers = [flux, error.log() / DEEP, torch.asinh(flux / error) / 4, torch.asinh(time / 20) / 4]
        band = nn.functional.one_hot(batch["band"], BANDS).to(flux.dtype)
        return self.embed(torch.cat([torch.stack(numbers, -1), band, phase.sin(), phase.cos()], -1))


class RecurrentEncoder(Encoder):
    """A gated recurrent unit (Cho et al. 2014) over the observations in the order of time, both ways.

    Args:
        width: Of the vector.
        layers: How many.
        dropout: Between layers and of the vector.
    """

    def __init__(self, width: int = 128, layers: int = 1, dropout: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.tokens = Tokens(width)
        between = dropout if layers > 1 else 0.0
        self.recurrent = nn.GRU(width, width // 2, layers, batch_first=True, dropout=between, bidirectional=True)
        self.last = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * width, width), nn.GELU())

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        lengths = batch["mask"].sum(1).clamp(min=1)
        packed = nn.utils.rnn.pack_padded_sequence(
            nn.functional.gelu(self.tokens(batch)), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(
            self.recurrent(packed)[0], batch_first=True, total_length=batch["mask"].shape[1]
        )
        return self.last(pooled(states, batch["mask"]))


class TransformerEncoder(Encoder):
    """Attention among the observations (Vaswani et al. 2017), their times encoded by sines and cosines.

    Args:
        width: Of the vector, and of each token.
        layers: How many.
        heads: Of attention.
        dropout: Of the layers and of the vector.
    """

    def __init__(self, width: int = 128, layers: int = 3, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.tokens = Tokens(width)
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.last = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * width, width), nn.GELU())

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        # An object without observations would attend to nothing, which is not a number.
        mask = batch["mask"] | ~batch["mask"].any(1, keepdim=True)
        states = self.layers(self.tokens(batch), src_key_padding_mask=~mask)
        return self.last(pooled(states, mask))


def pooled(states: Tensor, mask: Tensor) -> Tensor:
    """Mean and maximum over what is there; (B, L, F) and (B, L) -> (B, 2 F)."""
    observed = mask[..., None]
    mean = (states * observed).sum(1) / observed.sum(1).clamp(min=1)
    largest = states.masked_fill(~observed, -torch.inf).amax(1)
    return torch.cat([mean, largest.masked_fill(largest == -torch.inf, 0.0)], 1)
