"""Contact sheets: small images of the objects that a summary shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from galaxyml.data.images.decode import file_of, open_image
from galaxyml.data.images.visible import visible
from galaxyml.runs.errors import DataError

SIDE = 80  # pixels of a small image
ACROSS = 10  # in a row
MOST = 100  # on a sheet
TITLE = 20  # pixels of a line above the images of an answer
GROUND, INK = (255, 255, 255), (28, 35, 48)


@dataclass
class Thumbnails:
    """Reads small images.

    Args:
        folders: Where relative paths may begin, besides where the command runs.

    Attributes:
        asked: How many images were asked for.
        gone: How many of these are not there.
        bad: How many cannot be read.
    """

    folders: Sequence[Path]
    asked: int = 0
    gone: int = 0
    bad: int = 0

    def read(self, path: str) -> Image.Image | None:
        """The middle of an image, square and small; None if it cannot be shown."""
        self.asked += 1
        found = self.find(path)
        if found is None:
            self.gone += 1
            return None
        try:
            pixels = visible(open_image(found))
        except DataError:
            self.bad += 1
            return None
        height, width = pixels.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
        return Image.fromarray(square).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)

    def find(self, path: str) -> Path | None:
        """Where an image is."""
        name = Path(path).expanduser()
        places = [name, *(folder / name for folder in self.folders if not name.is_absolute())]
        return next((place for place in places if Path(file_of(str(place))).is_file()), None)


def places_of(inputs: Sequence[str], begun_in: Path) -> list[Path]:
    """Folders in which relative paths of images may begin, from what the command was given, and where."""
    folders: dict[Path, None] = {begun_in: None}
    for given in inputs:
        path = begun_in / Path(given).expanduser()
        folders[path if path.is_dir() else path.parent] = None
    return list(folders)


def sheet(parts: Mapping[str, Sequence[str]], thumbnails: Thumbnails) -> Image.Image | None:
    """A sheet of small images.

    Args:
        parts: Paths of images, by what stands above them; '' for nothing. Where they are too many, each part has the
            same number of rows.
        thumbnails: Reads them.

    Returns:
        None if none can be shown.
    """
    rows = max(MOST // ACROSS // max(len(parts), 1), 1)
    read = {}
    for label, paths in parts.items():
        opened = (thumbnails.read(path) for path in paths[: rows * ACROSS])
        if shown := [image for image in opened if image is not None]:
            read[label] = shown
    if not read:
        return None
    heights = [bool(label) * TITLE + -(-len(images) // ACROSS) * SIDE for label, images in read.items()]
    result = Image.new("RGB", (ACROSS * SIDE, sum(heights)), GROUND)
    pen, font = ImageDraw.Draw(result), ImageFont.load_default(13)
    top = 0
    for (label, images), height in zip(read.items(), heights, strict=True):
        if label:
            pen.text((4, top + TITLE // 2), label, INK, font, anchor="lm")
        below = top + bool(label) * TITLE
        for number, image in enumerate(images):
            result.paste(image, (number % ACROSS * SIDE, below + number // ACROSS * SIDE))
        top += height
    return result
