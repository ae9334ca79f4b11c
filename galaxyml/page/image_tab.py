"""The tab of a run of images: upload or example at the left, numbers and reasons at the right."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from galaxyml.data.images.decoding import Decoding
from galaxyml.page import markup
from galaxyml.page.controls import TO_ANSWER, TURNS, example_buttons, pressed, refusal, upload_field
from galaxyml.page.examples import Example
from galaxyml.page.images import ImageAnswer, ImageModel
from galaxyml.page.provenance import how_sure
from galaxyml.page.uploads import MOST_BYTES, MOST_PIXELS, read_upload

KEPT = 3600.0  # seconds that a visitor's last image is kept, as small as the net sees it, to be explained further
LIMITS = (
    f"JPEG, PNG, TIFF, WebP, BMP, GIF, FITS or npy, up to {MOST_BYTES / 1e6:.0f} MB and {MOST_PIXELS / 1e6:.0f} "
    "million pixels, with the galaxy in the middle."
)


def _wanted(decoding: Decoding) -> str:
    """What an image has to have besides, where it is not RGB; shown is a part of it."""
    if decoding.channels in (1, 3):
        return ""
    return f"It needs {decoding.channels} bands (FITS, npy), three of which the page shows."


def image_tab(model: ImageModel, examples: Sequence[Example]) -> None:
    """Adds it to the page that is being built."""
    choices = [(name, column) for column, name in model.outputs.items()]
    with gr.Row(elem_classes="gx-row"):
        with gr.Column(scale=4, min_width=300):
            upload = upload_field("Upload an image of a galaxy")
            gr.HTML(markup.paragraph(f"{LIMITS} {_wanted(model.predictor.decodings[0])}".rstrip(), "gx-note"))
            buttons = example_buttons(examples, thumbnails=True)
        with gr.Column(scale=7, min_width=300):
            invitation = markup.paragraph("Upload an image, or choose an example.", "gx-empty")
            numbers = gr.HTML(invitation, elem_classes="gx-answer")
            gr.HTML(markup.paragraph(how_sure(model.predictor, model.predictor.kind.promise), "gx-note"))
            with gr.Column(visible=False, elem_classes="gx-why") as why:
                gr.HTML("<h3>Where the net looked</h3>")
                output = gr.Dropdown(choices, label="for the answer", elem_classes="gx-output")
                attribution = gr.HTML()
                gr.HTML("<h3>The most alike galaxies of the training set</h3>")
                neighbours = gr.HTML()
                searched = model.among is not None
                gr.HTML("<h3>The most alike of other objects</h3>", visible=searched)
                found = gr.HTML(visible=searched)
    last = gr.State(time_to_live=KEPT)
    results = [numbers, why, output, attribution, neighbours, found, last]

    def answer_file(path: Path) -> Iterator[tuple[Any, ...]]:
        """The numbers first, then where the net looked, then the neighbours."""
        try:
            answer = model.ask(read_upload(path, model.predictor.decodings))
            column, wait = model.explained(answer), markup.waiting("A moment …")
            shown = gr.Column(visible=True), gr.Dropdown(value=column)
            yield model.numbers_html(answer), *shown, wait, wait, wait, answer
            same = (gr.skip(), gr.skip(), gr.skip())
            yield *same, model.attribution_html(answer, column), gr.skip(), gr.skip(), gr.skip()
            yield *same, gr.skip(), model.neighbours_html(answer), model.found_html(answer), gr.skip()
        except Exception as error:  # a visitor gets a sentence, whatever it is
            yield refusal(error, path), gr.Column(visible=False), gr.skip(), "", "", "", None

    def ask(path: str | None) -> Iterator[tuple[Any, ...]]:
        if path is not None:
            yield from ((None, *values) for values in answer_file(Path(path)))

    def ask_example(event: gr.EventData) -> Iterator[tuple[Any, ...]]:
        with pressed(event, examples) as path:
            yield from answer_file(path)

    def explain(column: str, answer: ImageAnswer | None) -> str:
        if answer is None:
            return markup.paragraph("The image is not kept any more: upload it again.", "gx-note")
        try:
            return model.attribution_html(answer, column)
        except Exception as error:  # a visitor gets a sentence, whatever it is
            return refusal(error)

    upload.upload(ask, upload, [upload, *results], api_name="ask", **TURNS)
    buttons.click(ask_example, None, results, api_visibility="private", **TURNS)
    buttons.click(js=TO_ANSWER, api_visibility="private")
    output.input(explain, [output, last], attribution, api_visibility="private", **TURNS)
