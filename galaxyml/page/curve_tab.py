"""The tab of a run of light curves: upload or example at the left, score and figures at the right."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from galaxyml.page import markup
from galaxyml.page.controls import TO_ANSWER, example_buttons, pressed
from galaxyml.page.curves import Curves
from galaxyml.page.events import TURNS, refusal
from galaxyml.page.examples import Example
from galaxyml.page.upload_field import upload_field

LIMITS = (
    "A CSV with the columns object_id, mjd, passband (0 to 5 for ugrizy), flux, flux_err and detected; metadata "
    "(hostgal_photoz, hostgal_photoz_err, mwebv, ddf) as further columns or in a second CSV."
)
SURE = (
    "How sure: the score is how rare one as high is among known objects, in nats: 3 is one in 20, 5 one in 150. A high "
    "score is a reason to look, not a discovery."
)


def curve_tab(model: Curves, shown: Sequence[Example]) -> None:
    """Adds it to the page that is being built."""
    with gr.Row(elem_classes="gx-row"):
        with gr.Column(scale=4, min_width=300):
            upload = upload_field("Upload light curves", several=True)
            gr.HTML(markup.paragraph(LIMITS, "gx-note"))
            buttons = example_buttons(shown, pictures=False)
        with gr.Column(scale=7, min_width=300):
            said = gr.HTML(
                markup.paragraph("Upload a light curve, or choose an example.", "gx-empty"), elem_classes="gx-said"
            )
            gr.HTML(markup.paragraph(SURE, "gx-note"))
            figures = gr.HTML()

    def answered(paths: Sequence[Path]) -> Iterator[tuple[Any, ...]]:
        """The numbers first, then the figures."""
        try:
            asked = model.ask(paths)
            yield model.shown(asked), markup.waiting("A moment …")
            yield gr.skip(), model.drawn(asked)
        except Exception as error:  # a visitor gets a sentence, whatever it is
            yield refusal(error, *paths), ""

    def ask(paths: list[str] | None) -> Iterator[tuple[Any, ...]]:
        if paths:
            yield from ((None, *answer) for answer in answered([Path(path) for path in paths]))

    def ask_example(event: gr.EventData) -> Iterator[tuple[Any, ...]]:
        with pressed(event, shown) as path:
            yield from answered([path])

    upload.upload(ask, upload, [upload, said, figures], api_name="rank", **TURNS)
    buttons.click(ask_example, None, [said, figures], api_visibility="private", **TURNS)
    buttons.click(js=TO_ANSWER, api_visibility="private")
