"""The tab of a run of pictures: upload or example at the left, numbers and reasons at the right."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from galaxyml.page import markup
from galaxyml.page.controls import TO_ANSWER, example_buttons, pressed
from galaxyml.page.events import TURNS, refusal
from galaxyml.page.examples import Example
from galaxyml.page.images import Asked, Pictures
from galaxyml.page.upload_field import upload_field
from galaxyml.page.uploads import MOST_BYTES, MOST_PIXELS, received

KEPT = 3600.0  # seconds that a visitor's last picture is kept, as small as the net sees it, to be explained further
LIMITS = (
    f"JPEG, PNG, TIFF, WebP, BMP, GIF or FITS, up to {MOST_BYTES / 1e6:.0f} MB and {MOST_PIXELS / 1e6:.0f} million "
    "pixels, with the galaxy in the middle."
)


def image_tab(model: Pictures, shown: Sequence[Example]) -> None:
    """Adds it to the page that is being built."""
    choices = [(name, column) for column, name in model.outputs.items()]
    with gr.Row(elem_classes="gx-row"):
        with gr.Column(scale=4, min_width=300):
            upload = upload_field("Upload a picture of a galaxy")
            gr.HTML(markup.paragraph(LIMITS, "gx-note"))
            buttons = example_buttons(shown, pictures=True)
        with gr.Column(scale=7, min_width=300):
            said = gr.HTML(
                markup.paragraph("Upload a picture, or choose an example.", "gx-empty"), elem_classes="gx-said"
            )
            gr.HTML(markup.paragraph(model.predictor.kind.promise, "gx-note"))
            with gr.Column(visible=False, elem_classes="gx-why") as why:
                gr.HTML("<h3>Where the net looked</h3>")
                output = gr.Dropdown(choices, label="for the answer", elem_classes="gx-output")
                looked = gr.HTML()
                gr.HTML("<h3>The most alike galaxies of the training set</h3>")
                alike = gr.HTML()
    kept = gr.State(time_to_live=KEPT)
    results = [said, why, output, looked, alike, kept]

    def answered(path: Path) -> Iterator[tuple[Any, ...]]:
        """The numbers first, then where the net looked, then the neighbours."""
        try:
            asked = model.ask(received(path))
            column, wait = model.explained(asked), markup.waiting("A moment …")
            yield model.shown(asked), gr.Column(visible=True), gr.Dropdown(value=column), wait, wait, asked
            same = (gr.skip(), gr.skip(), gr.skip())
            yield *same, model.looked(asked, column), gr.skip(), gr.skip()
            yield *same, gr.skip(), model.alike(asked), gr.skip()
        except Exception as error:  # a visitor gets a sentence, whatever it is
            yield refusal(error, path), gr.Column(visible=False), gr.skip(), "", "", None

    def ask(path: str | None) -> Iterator[tuple[Any, ...]]:
        if path is not None:
            yield from ((None, *answer) for answer in answered(Path(path)))

    def ask_example(event: gr.EventData) -> Iterator[tuple[Any, ...]]:
        with pressed(event, shown) as path:
            yield from answered(path)

    def explain(column: str, asked: Asked | None) -> str:
        if asked is None:
            return markup.paragraph("The picture is not kept any more: upload it again.", "gx-note")
        try:
            return model.looked(asked, column)
        except Exception as error:  # a visitor gets a sentence, whatever it is
            return refusal(error)

    upload.upload(ask, upload, [upload, *results], api_name="ask", **TURNS)
    buttons.click(ask_example, None, results, api_visibility="private", **TURNS)
    buttons.click(js=TO_ANSWER, api_visibility="private")
    output.input(explain, [output, kept], looked, api_visibility="private", **TURNS)
