"""The page of one or more runs: title, a tab a run, and whom to cite."""

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from galaxyml.inference import load
from galaxyml.inference.alike.searched import open_set
from galaxyml.inference.image_predictor import ImagePredictor
from galaxyml.inference.light_curve_predictor import LightCurvePredictor
from galaxyml.inference.predictor import Predictor
from galaxyml.page import examples, markup
from galaxyml.page.curve_tab import curve_tab
from galaxyml.page.curves import CurveModel
from galaxyml.page.image_tab import image_tab
from galaxyml.page.images import ImageModel
from galaxyml.page.provenance import CITE, about
from galaxyml.runs.errors import UsageError

SWEEP = (60, 600)  # seconds between looks for old uploads, and from when on they are old
TITLE = "galaxyml: try a trained run"
REMOVED = "Uploads are looked at on the machine that serves this page, and removed within minutes."


def build(sources: Sequence[Path], among: Sequence[str] = ()) -> gr.Blocks:
    """The page of some runs.

    Args:
        sources: Folders of finished runs, of sweeps whose folds were joined, or bundles.
        among: What names a set in which the most alike are found, too, as of `galaxyml alike`; nothing for none.

    Raises:
        UserError: If one is none of these, or not finished; or the set cannot be used.
    """
    predictors = [load(source) for source in sources]
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=SWEEP) as page:
        gr.HTML(f'<h1 class="gx-title">{TITLE}</h1>')
        if len(sources) == 1:
            _tab(sources[0], predictors[0], among)
        else:
            with gr.Tabs():
                for source, predictor, title in zip(sources, predictors, titles(sources, predictors), strict=True):
                    with gr.Tab(title):
                        _tab(source, predictor, among)
    return page


def titles(sources: Sequence[Path], predictors: Sequence[Predictor]) -> list[str]:
    """Titles of the tabs: the runs' tasks, and the names of runs where tasks do not tell them apart."""
    tasks = [predictor.task for predictor in predictors]
    return [
        task if tasks.count(task) == 1 else f"{task}: {source.stem if source.is_file() else source.resolve().name}"
        for task, source in zip(tasks, sources, strict=True)
    ]


def _tab(source: Path, predictor: Predictor, among: Sequence[str]) -> None:
    facts = about(predictor)
    gr.HTML(facts.html())
    beside = source.with_name(examples.FOLDER)
    of_bundle = examples.read(beside) if source.is_file() and beside.is_dir() else []
    if isinstance(predictor, ImagePredictor):
        searched = open_set(predictor, source, among, bad=[]) if among else None
        model = ImageModel(predictor, source, searched)
        image_tab(model, of_bundle or examples.galaxies(predictor.task, predictor.decodings[0]))
    elif isinstance(predictor, LightCurvePredictor):
        if among:
            raise UsageError(
                f"{source} is a run of light curves: --among is of runs of images. galaxyml alike takes both."
            )
        curve_tab(CurveModel(predictor), of_bundle or examples.light_curves())
    cite = markup.paragraph(f"Data: {facts.cite}. Please cite that and {CITE}.")
    gr.HTML(f'<div class="gx-footer">{cite}{markup.paragraph(REMOVED)}</div>')
