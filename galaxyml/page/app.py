"""The page of one or more runs: title, a tab a run, and whom to cite."""

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from galaxyml.inference.bundle import opened
from galaxyml.page import examples, markup
from galaxyml.page.curve_tab import curve_tab
from galaxyml.page.curves import Curves
from galaxyml.page.picture_tab import picture_tab
from galaxyml.page.pictures import Pictures
from galaxyml.page.provenance_tab import CITE, about
from galaxyml.runs.run_dir import RunDir

SWEEP = (60, 600)  # seconds between looks for old uploads, and from when on they are old
TITLE = "galaxyml: try a trained run"
REMOVED = "Uploads are looked at on the machine that serves this page, and removed within minutes."


def build(sources: Sequence[Path]) -> gr.Blocks:
    """The page of some runs.

    Args:
        sources: Folders of finished runs, of sweeps whose folds were joined, or bundles.

    Raises:
        UserError: If one is none of these, or not finished.
    """
    runs = [opened(source) for source in sources]
    for run in runs:
        run.metrics()  # all of them before the first is loaded
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=SWEEP) as page:
        gr.HTML(f'<h1 class="gx-title">{TITLE}</h1>')
        if len(sources) == 1:
            _tab(sources[0], runs[0])
        else:
            with gr.Tabs():
                for source, run, title in zip(sources, runs, titles(sources, runs), strict=True):
                    with gr.Tab(title):
                        _tab(source, run)
    return page


def titles(sources: Sequence[Path], runs: Sequence[RunDir]) -> list[str]:
    """What tabs are called: the runs' tasks, and the names of runs where tasks do not tell them apart."""
    tasks = [str(run.config.task) for run in runs]
    return [
        task if tasks.count(task) == 1 else f"{task}: {source.stem if source.is_file() else source.resolve().name}"
        for task, source in zip(tasks, sources, strict=True)
    ]


def _tab(source: Path, run: RunDir) -> None:
    told = about(run)
    gr.HTML(told.shown())
    shown = _examples(source, run)
    if "framing" in run.config.data:
        picture_tab(Pictures(source), shown)
    else:
        curve_tab(Curves(run), shown)
    cite = markup.paragraph(f"Data: {told.cite}. Please cite that and {CITE}.")
    gr.HTML(f'<div class="gx-footer">{cite}{markup.paragraph(REMOVED)}</div>')


def _examples(source: Path, run: RunDir) -> list[examples.Example]:
    """Those beside a bundle, or else of the simulated sky."""
    beside = source.with_name(examples.FOLDER)
    if source.is_file() and beside.is_dir():
        return examples.read(beside)
    return examples.galaxies(run.config.task) if "framing" in run.config.data else examples.light_curves()
