"""Pieces of the page's HTML. Whatever people named their files, it is text and no markup here."""

import base64
import io
import re
from html import escape
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#123456"  # of a figure's text and axes: takes the colour of the page's text, light or dark


def text(value: object) -> str:
    """Something as text, harmless in elements and attributes, and to the page's templates (`${…}`, `{{…}}`)."""
    return escape(str(value)).replace("$", "&#36;").replace("{", "&#123;").replace("}", "&#125;")


def paragraph(sentence: object, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{text(sentence)}</p>' if kind else f"<p>{text(sentence)}</p>"


def refusal(sentence: object) -> str:
    """A sentence in the place of an answer; screen readers read it at once."""
    return f'<div class="gx-refusal" role="alert">{paragraph(sentence)}</div>'


def waiting(what: str) -> str:
    """A sentence until something comes."""
    return f'<p class="gx-waiting" aria-live="polite">{text(what)}</p>'


def number(value: float) -> str:
    """A share in per cent; the element's `value` has it to the last bit.

    >>> number(0.25)
    '<data value="0.25">25.0 %</data>'
    """
    shown = f"{100 * value:.1f} %" if value == value else "not known"
    return f'<data value="{float(value)!r}">{shown}</data>'


def bar(share: float, low: float | None = None, high: float | None = None) -> str:
    """A bar of a share in [0, 1], with an interval where there is one; the number beside it says the same."""
    inner = f'<span class="gx-fill" style="width:{_percent(share)}"></span>'
    if low is not None and high is not None:
        inner += f'<span class="gx-span" style="left:{_percent(low)};width:{_percent(high - low)}"></span>'
    return f'<span class="gx-bar" aria-hidden="true">{inner}</span>'


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"


def details(summary: str, inside: str) -> str:
    """Something that can be unfolded."""
    return f"<details><summary>{text(summary)}</summary>{inside}</details>"


def image(pixels: Image.Image, alt: str) -> str:
    """An image in the page itself, so that no file of it lies on the server."""
    file = io.BytesIO()
    pixels.save(file, "JPEG", quality=90)
    return encoded_image(file.getvalue(), alt)


def encoded_image(content: bytes, alt: str) -> str:
    """The same of a JPEG file's bytes."""
    return f'<img alt="{text(alt)}" src="data:image/jpeg;base64,{base64.b64encode(content).decode()}">'


def figure(inside: str, caption: str) -> str:
    """An image or a drawing, and what it shows."""
    return f"<figure>{inside}<figcaption>{text(caption)}</figcaption></figure>"


def download(content: str, name: str, what: str) -> str:
    """A link that saves a text file, which is in the page itself."""
    encoded = base64.b64encode(content.encode()).decode()
    return f'<a class="gx-download" download="{text(name)}" href="data:text/csv;base64,{encoded}">{text(what)}</a>'


def drawing(figure: "Figure", alt: str, salt: str) -> str:
    """A figure as SVG whose text and axes have the page's own colour.

    Args:
        figure: What is drawn in `INK` takes that colour.
        alt: What it shows, in words.
        salt: Another one for each figure of a page, since names within SVGs hold for the whole page.
    """
    import matplotlib as mpl

    file = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace(INK, "currentColor")
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", drawn, count=1)
    return drawn.replace("<svg", f'<svg role="img" aria-label="{text(alt)}" class="gx-drawing"', 1)
