"""How the values of an image file become pixels of 8 bits: which of them, how many channels, by which stretch."""

from collections.abc import Sequence
from dataclasses import dataclass

from galaxyml.runs.errors import UserError

STRETCHES = ("asinh", "linear", "zscale", "percentile", "none")


@dataclass(frozen=True)
class Decoding:
    """How image files are decoded; a run keeps it, and predicts new images by the same.

    Attributes:
        channels: Channels of an image: 1 is grey, 3 is RGB, any other number bands in their order.
        stretch: How brightness that is no colour of 8 bits becomes one, of `STRETCHES`.
        hdu: Name or number (from 0) of the HDU of a FITS file that holds the image; None to find it.
        bands: Names or numbers (from 0) of the bands that are read, from blue to red; None for all.
    """

    channels: int = 3
    stretch: str = "asinh"
    hdu: str | int | None = None
    bands: tuple[str | int, ...] | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.channels) or self.channels < 1:
            raise UserError(
                f"channels={'null' if self.channels is None else self.channels}: it must be a whole number: 1 for "
                "grey, 3 for RGB, or as many bands as the images have."
            )
        if self.stretch not in STRETCHES:
            raise UserError(f"stretch={self.stretch}: it must be one of {', '.join(STRETCHES)}.")
        if self.bands is not None and len({*self.bands}) < len(self.bands):
            raise UserError(f"bands=[{','.join(map(str, self.bands))}]: give each band once.")
        if self.bands is not None and self.channels != 3 and len(self.bands) != self.channels:  # any make RGB
            raise UserError(
                f"bands=[{','.join(map(str, self.bands))}] are {len(self.bands)}, but channels={self.channels}. Set "
                f"channels={len(self.bands)}."
            )


def as_decoding(
    channels: int = 3,
    stretch: str = "asinh",
    hdu: str | int | None = None,
    bands: str | int | Sequence[str | int] | None = None,
) -> Decoding:
    """A decoding as a configuration has it, where one band need not be a list.

    Raises:
        UserError: If it is not possible.
    """
    names = [bands] if isinstance(bands, str | int) else bands
    return Decoding(channels, stretch, hdu, tuple(names) if names is not None else None)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
