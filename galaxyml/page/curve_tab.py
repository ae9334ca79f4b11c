"""The tab of a run of light curves: upload or example at the left, score and figures at the right."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from galaxyml.page import markup
from galaxyml.page.controls import TO_ANSWER, TURNS, example_buttons, pressed, refusal, upload_field
from galaxyml.page.curves import CurveModel
from galaxyml.page.examples import Example
from galaxyml.page.provenance import how_sure

LIMITS = (
    "A CSV with the columns object_id, mjd, passband (0 to 5 for ugrizy), flux, flux_err and detected; metadata "
    "(hostgal_photoz, hostgal_photoz_err, mwebv, ddf) as further columns or in a second CSV. Or CSVs with "
    "the columns of ALeRCE, ZTF, ANTARES or Rubin."
)
SURE = (
    "How sure: the score is how rare one as high is among known objects, in nats: 3 is one in 20, 5 one in 150. A high "
    "score is a reason to look, not a discovery."
)


def curve_tab(model: CurveModel, examples: Sequence[Example]) -> None:
    """Adds it to the page that is being built."""
    with gr.Row(elem_classes="gx-row"):
        with gr.Column(scale=4, min_width=300):
            upload = upload_field("Upload light curves", several=True)
            gr.HTML(markup.paragraph(LIMITS, "gx-note"))
            buttons = example_buttons(examples, thumbnails=False)
        with gr.Column(scale=7, min_width=300):
            invitation = markup.paragraph("Upload a light curve, or choose an example.", "gx-empty")
            scores = gr.HTML(invitation, elem_classes="gx-answer")
            gr.HTML(markup.paragraph(how_sure(model.predictor, SURE), "gx-note"))
            figures = gr.HTML()

    def answer_files(paths: Sequence[Path]) -> Iterator[tuple[Any, ...]]:
        """The numbers first, then the figures."""
        try:
            answer = model.ask(paths)
            yield model.scores_html(answer), markup.waiting("A moment …")
            yield gr.skip(), model.figures_html(answer)
        except Exception as error:  # a visitor gets a sentence, whatever it is
            yield refusal(error, *paths), ""

    def ask(paths: list[str] | None) -> Iterator[tuple[Any, ...]]:
        if paths:
            yield from ((None, *values) for values in answer_files([Path(path) for path in paths]))

    def ask_example(event: gr.EventData) -> Iterator[tuple[Any, ...]]:
        with pressed(event, examples) as path:
            yield from answer_files([path])

    upload.upload(ask, upload, [upload, scores, figures], api_name="rank", **TURNS)
    buttons.click(ask_example, None, [scores, figures], api_visibility="private", **TURNS)
    buttons.click(js=TO_ANSWER, api_visibility="private")
