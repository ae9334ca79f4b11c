"""Examples as buttons, and what happens when one is pressed."""

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
from PIL import Image

from galaxyml.page import markup
from galaxyml.page.examples import Example

SIDE = 96  # pixels
# Hands on which of the buttons was pressed.
PRESSED = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-place]');
  if (button) trigger('click', {place: Number(button.dataset.place)});
});
"""
# Where the answer stands below the examples, as on a phone, it is brought into sight.
TO_ANSWER = """() => {
  const said = [...document.querySelectorAll('.gx-said')].find((element) => element.offsetParent);
  if (said && window.innerWidth < 700) said.scrollIntoView();
}"""


def example_buttons(shown: Sequence[Example], pictures: bool) -> gr.HTML:
    """A list of buttons, a row of thumbnails or of names."""
    items = "".join(
        f'<li><button type="button" data-place="{place}">{_thumbnail(example) if pictures else ""}'
        f"<span>{markup.text(example.caption)}</span></button></li>"
        for place, example in enumerate(shown)
    )
    kind = "gx-examples" if pictures else "gx-examples gx-names"
    return gr.HTML(
        f'<h3>Or try one of the simulated sky</h3><ul class="{kind}">{items}</ul>',
        js_on_load=PRESSED,
        visible=bool(shown),
    )


@contextmanager
def pressed(event: gr.EventData, shown: Sequence[Example]) -> Iterator[Path]:
    """The example that was pressed, as a file; the first one, whatever else a browser may send."""
    place = getattr(event, "place", 0)
    example = shown[place if isinstance(place, int) and 0 <= place < len(shown) else 0]
    with tempfile.TemporaryDirectory(prefix="galaxyml-example-") as folder:
        path = Path(folder) / example.name
        path.write_bytes(example.content)
        yield path


def _thumbnail(example: Example) -> str:
    with Image.open(io.BytesIO(example.content)) as image:
        side = min(image.size) // 2  # the galaxy is in the middle
        left, upper = (image.width - side) // 2, (image.height - side) // 2
        small = image.convert("RGB").resize((SIDE, SIDE), box=(left, upper, left + side, upper + side))
    return markup.picture(small, "")  # its name stands beside it
