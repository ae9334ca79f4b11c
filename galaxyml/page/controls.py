"""Parts that all tabs have: where files are dropped, buttons of examples, and errors as sentences."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from galaxyml.data.images.decode import open_image
from galaxyml.page import markup
from galaxyml.page.examples import Example
from galaxyml.runs.errors import UserError

log = logging.getLogger(__name__)

# Of Gradio: what a visitor asks for waits until all others' is done, since all use the same processor.
TURNS: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "answers", "show_progress": "minimal"}
HEIGHT = 150  # of the field for files, pixels
SIDE = 96  # of an example, pixels
# Hands on which of the buttons was pressed.
PRESSED = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-example]');
  if (button) trigger('click', {example: Number(button.dataset.example)});
});
"""
# Where the answer stands below the examples, as on a phone, it is brought into sight.
TO_ANSWER = """() => {
  const answer = [...document.querySelectorAll('.gx-answer')].find((element) => element.offsetParent);
  if (answer && window.innerWidth < 700) answer.scrollIntoView();
}"""


def upload_field(label: str, several: bool = False) -> gr.File:
    """Gradio's field for files, which would else fetch whatever address a program gives it in the place of a file.

    Args:
        label: What it asks for.
        several: Whether several files may be given together.
    """
    field = gr.File(
        label=label, file_count="multiple" if several else "single", height=HEIGHT, elem_classes="gx-upload"
    )
    keep = field.async_move_resource_to_block_cache

    async def keep_files(url_or_file_path: str | Path | None) -> str | None:
        if "://" in str(url_or_file_path):
            raise UserError("The page takes files, and fetches none from elsewhere.")
        return await keep(url_or_file_path)

    # A subclass would be cleaner, but Gradio writes a file of types beside the source of each.
    field.async_move_resource_to_block_cache = keep_files  # type: ignore[method-assign]
    return field


def example_buttons(examples: Sequence[Example], thumbnails: bool) -> gr.HTML:
    """A list of buttons, a row of thumbnails or of names."""
    items = "".join(
        f'<li><button type="button" data-example="{number}">{_thumbnail(example) if thumbnails else ""}'
        f"<span>{markup.text(example.caption)}</span></button></li>"
        for number, example in enumerate(examples)
    )
    kind = "gx-examples" if thumbnails else "gx-examples gx-names"
    return gr.HTML(
        f'<h3>Or try one of the simulated sky</h3><ul class="{kind}">{items}</ul>',
        js_on_load=PRESSED,
        visible=bool(examples),
    )


@contextmanager
def pressed(event: gr.EventData, examples: Sequence[Example]) -> Iterator[Path]:
    """The example that was pressed, as a file; the first one, whatever else a browser may send."""
    number = getattr(event, "example", 0)
    example = examples[number if isinstance(number, int) and 0 <= number < len(examples) else 0]
    with _as_file(example) as path:
        yield path


@contextmanager
def _as_file(example: Example) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="galaxyml-example-") as folder:
        path = Path(folder) / example.name
        path.write_bytes(example.content)
        yield path


def refusal(error: Exception, *paths: Path) -> str:
    """The HTML of an error: a sentence, without names of this machine's folders, and no traceback."""
    if not isinstance(error, UserError):
        log.error("The page could not answer.", exc_info=error)
        return markup.refusal("Something went wrong here, and it is not your fault. The reason is in the page's log.")
    message = str(error)
    for path in paths:
        message = message.replace(str(path), path.name)
    return markup.refusal(message)


def _thumbnail(example: Example) -> str:
    with _as_file(example) as path:
        image = Image.fromarray(open_image(path))
    side = min(image.size) // 2  # the galaxy is in the middle
    left, upper = (image.width - side) // 2, (image.height - side) // 2
    small = image.resize((SIDE, SIDE), box=(left, upper, left + side, upper + side))
    return markup.image(small, "")  # its name stands beside it
