"""How the values of an image file become pixels of 8 bits: which of them, how many channels, by which stretch."""

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
        if self.channels < 1:
            raise UserError(f"channels={self.channels}: an image has 1 channel or more.")
        if self.stretch not in STRETCHES:
            raise UserError(f"stretch={self.stretch}: it must be one of {', '.join(STRETCHES)}.")
