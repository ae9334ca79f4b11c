"""Views of one image that show the same galaxy, and a net that answers by the mean over them.

A galaxy has no up, and what it is does not depend on where in the frame it lies. A mean over views is closer to the
truth than one view (Dieleman et al. 2015, MNRAS 450, 1441, average over 60); over all symmetries of the square it is
the same however the image is turned by quarter turns or mirrored.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from galaxyml.data.images.views import affine, central, scaled, symmetric, symmetries
from galaxyml.models.backbone_with_head import BackboneWithHead
from galaxyml.runs.errors import UserError, did_you_mean

MOST = 1_000  # views of an image


@dataclass(frozen=True)
class Symmetries:
    """The first few symmetries of the square, by exact copies.

    Attributes:
        count: How many, 1 (the plain view) to 8.
        frame: Side of a view as a fraction of the image's.
    """

    count: int
    frame: float = 1.0
    begins_plain: ClassVar[bool] = True

    def __len__(self) -> int:
        return self.count

    def see(self, images: Tensor, size: int) -> Iterator[Tensor]:
        """Central squares of the images under each symmetry: (N, C, S, S) -> (N, C, size, size), size at most S."""
        plain = central(images, size)
        yield from (symmetric(plain, number) for number in range(self.count))

    def see_stored(self, pixels: Tensor, size: int) -> Iterator[Tensor]:
        """The same of stored images, uint8 of shape (N, S, S, C), which are smaller to turn than views in [0, 1]."""
        return symmetries(pixels, size, self.count)


@dataclass(frozen=True)
class Views:
    """Every turn at every zoom and shift, plain and mirrored.

    What lies beyond an image's edge repeats its last pixel. Quarter turns without zoom and shift are exact copies, all
    other views one bilinear resampling.

    Attributes:
        rotations: How many turns, evenly spread over the circle from 0, or angles in degrees.
        mirrored: Whether each view is seen mirrored, too.
        zooms: Factors of enlargement, above 0.
        shifts: What is seen is shifted by these fractions of the view's side along x and y.
        frame: Side of a view as a fraction of the image's, where a net sees views of its own images; 0.7 leaves
            room for any turn. Predictions are made from stored images, which have a rim, and do not need it.

    Raises:
        UserError: If a value is not possible.
    """

    rotations: int | Sequence[float] = 1
    mirrored: bool = False
    zooms: Sequence[float] = (1.0,)
    shifts: Sequence[Sequence[float]] = ((0.0, 0.0),)
    frame: float = 1.0

    def __post_init__(self) -> None:
        turns = self.rotations if isinstance(self.rotations, int) else 1
        angles = [self.rotations] if isinstance(self.rotations, int) else self.rotations
        pairs = _several(self.shifts) and all(_numbers(shift) and len(shift) == 2 for shift in self.shifts)
        zooms = _numbers(self.zooms) and all(zoom > 0 for zoom in self.zooms)
        for name, ok, allowed in (
            ("rotations", _numbers(angles) and turns >= 1, "a number of turns, or angles such as [0,45]"),
            ("mirrored", isinstance(self.mirrored, bool), "true or false"),
            ("zooms", zooms, "factors above 0, such as [1,1.2]"),
            ("shifts", pairs, "pairs of fractions, such as [[0,0],[0.1,0]]"),
            ("frame", _numbers([self.frame]) and 0 < self.frame <= 1, "a fraction in (0, 1]"),
        ):
            if not ok:
                raise UserError(f"{name}={getattr(self, name)}: of views it must be {allowed}.")
        if len(self) > MOST:
            raise UserError(f"rotations, zooms, …: these are {len(self):,} views of an image; {MOST:,} are the most.")

    @property
    def begins_plain(self) -> bool:
        """Whether the first view is the plain one."""
        return self.angles[0] % 360 == 0 and self.zooms[0] == 1 and tuple(self.shifts[0]) == (0, 0)

    @property
    def angles(self) -> list[float]:
        """Turns in degrees."""
        if isinstance(self.rotations, int):
            return [360 * number / self.rotations for number in range(self.rotations)]
        return [float(angle) for angle in self.rotations]

    def __len__(self) -> int:
        return len(self.angles) * (1 + self.mirrored) * len(self.zooms) * len(self.shifts)

    def see(self, images: Tensor, size: int) -> Iterator[Tensor]:
        """Views of the images' central squares, turned and mirrored, for each zoom and shift."""
        plain = central(images, size)
        for zoom, (x, y), mirrored, angle in product(
            self.zooms, self.shifts, (False, True) if self.mirrored else (False,), self.angles
        ):
            if zoom == 1 and x == y == 0 and angle % 90 == 0:
                turned = plain.rot90(-round(angle / 90), (2, 3))
                yield turned.flip(3) if mirrored else turned
                continue
            cos, sin = math.cos(math.radians(angle)) / zoom, math.sin(math.radians(angle)) / zoom
            sign = -1 if mirrored else 1
            yield affine(images, [[sign * cos, sin, 2 * x], [-sign * sin, cos, 2 * y]], size)

    def see_stored(self, pixels: Tensor, size: int) -> Iterator[Tensor]:
        """The same of stored images, uint8 of shape (N, S, S, C)."""
        return self.see(scaled(pixels), size)


ViewSet = Symmetries | Views


def view_set(given: Any, key: str = "predict_views") -> ViewSet:
    """The views that a configuration names: 1 to 8 symmetries, or a mapping with what `Views` takes.

    Args:
        given: A number, a mapping, or a set of views, which is taken as it is.
        key: What the configuration calls it, for messages.

    Raises:
        UserError: If it is none of these.
    """
    if isinstance(given, ViewSet):
        return given
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= 8:
        return Symmetries(given)
    if isinstance(given, Mapping):
        fields = list(Views.__dataclass_fields__)
        if unknown := [str(name) for name in given if name not in fields]:
            raise UserError(f"{key}.{unknown[0]}: there is no such key. {did_you_mean(unknown[0], fields)}")
        try:
            return Views(**{str(name): value for name, value in given.items()})
        except UserError as error:
            raise UserError(f"{key}.{error}") from error
    raise UserError(
        f"{key}={given}: it must be a whole number from 1 (plain) to 8 (all symmetries of the square), or views such "
        f"as {key}={{rotations:10,mirrored:true,zooms:[1,1.2]}}."
    )


def _several(given: Any) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, str) and len(given) > 0


def _numbers(given: Any) -> bool:
    """Whether it is a list of finite numbers, one or more."""
    return _several(given) and all(
        isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number) for number in given
    )


class Symmetric(BackboneWithHead):
    """A net whose features are the mean over views of an image.

    Over all 8 symmetries of the square they are the same for each of them, in training too: the net is invariant by
    construction. Predictions cost as many times more as there are views, and training rather more, as the activations
    of all views are kept (`benchmarks/views.py`).

    Args:
        net: In two parts.
        views: The views.

    Raises:
        UserError: If the net has no separate head.
    """

    def __init__(self, net: nn.Module, views: ViewSet) -> None:
        super().__init__()
        if not isinstance(net, BackboneWithHead):
            raise UserError(f"symmetry: {type(net).__name__} has no separate head. Set symmetry=null.")
        self.net = net
        self.views = views

    def features(self, images: Tensor) -> Tensor:
        """Images in [0, 1], shape (N, C, H, H) -> (N, F)."""
        size = central_side(images.shape[-1], self.views.frame)
        features = [
            self.net.features(view.contiguous(memory_format=torch.channels_last))
            for view in self.views.see(images, size)
        ]
        return torch.stack(features).mean(0)

    @property
    def head(self) -> nn.Module:  # type: ignore[override] # read-only, as it is the wrapped net's
        """The net's head."""
        return self.net.head

    def extra_repr(self) -> str:
        return str(self.views)  # features that are kept are known by it


def central_side(side: int, frame: float) -> int:
    """Side of a central square in pixels that leaves an even rim; `frame` is its share of the side."""
    return side - 2 * round(side * (1 - frame) / 2)
