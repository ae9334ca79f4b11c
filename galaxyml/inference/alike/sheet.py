"""Contact sheets of objects with those that are most like them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from galaxyml.evaluation.nearest import SAME
from galaxyml.inference.alike.searched import SearchedSet
from galaxyml.inference.summary.sheets import GROUND, INK

SIDE, GAP, CAPTION = 112, 8, 34  # pixels: of an image, between two, and of the two lines below one
ACROSS = 10  # nearest objects in a line
LINES = 50  # of a sheet
QUIET, FRAME = (96, 104, 120), (64, 81, 181)


@dataclass(frozen=True)
class Answer:
    """An object, and those of a set that are most like it.

    Attributes:
        name: What the object is called.
        picture: Shows it in so many pixels a side.
        rows: Where the others are in the set, the most alike first.
        similarities: Of these.
        names: What they are called.
    """

    name: str
    picture: Callable[[int], Image.Image]
    rows: np.ndarray
    similarities: np.ndarray
    names: Sequence[str]


def similarity(value: float, digits: int = 2) -> str:
    """A similarity in words: 1.00 is the same and nothing else.

    >>> similarity(1.0), similarity(0.9985), similarity(-0.25)
    ('1.00, the same', '0.99', '-0.25')
    """
    if value >= SAME:
        return f"{1:.{digits}f}, the same"
    return f"{min(value, 1 - 10**-digits):.{digits}f}"


def shown(answers: Sequence[Answer]) -> tuple[int, int]:
    """How many of the answers a sheet shows, and how many of the nearest of each."""
    count = min(len(answers), LINES)
    return count, ACROSS * max(LINES // max(count, 1), 1)


def sheet(answers: Sequence[Answer], searched: SearchedSet) -> Image.Image:
    """Objects at the left, their nearest in order at the right of each.

    Args:
        answers: At least one; see `shown` for how many have a place.
        searched: The set that was searched.
    """
    count, most = shown(answers)
    lines = [max(-(-min(len(answer.rows), most) // ACROSS), 1) for answer in answers[:count]]
    across = max(min(len(answer.rows), ACROSS) for answer in answers[:count])
    step, high = SIDE + GAP, SIDE + CAPTION + GAP
    left = step + 2 * GAP
    result = Image.new("RGB", (left + across * step + GAP, sum(lines) * high + GAP), GROUND)
    pen, font = ImageDraw.Draw(result), ImageFont.load_default(12)
    top = GAP
    for answer, own in zip(answers, lines, strict=False):
        result.paste(answer.picture(SIDE), (GAP, top))
        pen.rectangle((GAP - 3, top - 3, GAP + SIDE + 2, top + SIDE + 2), outline=FRAME, width=2)
        _caption(pen, font, (GAP, top + SIDE), answer.name, "")
        for number, row in enumerate(answer.rows[:most]):
            x, y = left + number % ACROSS * step, top + number // ACROSS * high
            result.paste(searched.picture(int(row), SIDE), (x, y))
            below = similarity(float(answer.similarities[number]))
            _caption(pen, font, (x, y + SIDE), below, answer.names[number])
        top += own * high
    return result


def _caption(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    at: tuple[int, int],
    first: str,
    second: str,
) -> None:
    """Two lines below an image."""
    x, y = at
    pen.text((x, y + 4), _fitting(pen, font, first), INK, font)
    pen.text((x, y + 18), _fitting(pen, font, second), QUIET, font)


def _fitting(pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> str:
    """The end of a text, as much of it as there is room for below an image."""
    if pen.textlength(text, font) <= SIDE:
        return text
    while text and pen.textlength(f"…{text}", font) > SIDE:
        text = text[1:]
    return f"…{text}"
