"""A run's answers about uploaded light curves, as HTML: score, threshold, rank, reconstruction, place among others."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA

from galaxyml.data.light_curves.data_module import CurveData
from galaxyml.evaluation.curve_plots import Curve
from galaxyml.inference.light_curve_predictor import LightCurvePredictor
from galaxyml.kinds.anomalies.detect import seen
from galaxyml.page import markup
from galaxyml.page.curve_figures import curve_figure, latent_figure
from galaxyml.page.curve_uploads import check_count, lay_out
from galaxyml.runs.errors import DataError, UserError
from galaxyml.training.light_curve_predictions import reconstructed

DRAWN = 3  # objects of an upload, those with the highest scores
MOST_POINTS = 3000  # of the survey in the figure of the latent space
# Columns of the table by their headings, and how their numbers are shown.
TABLE = {
    "object": ("object_id", ""),
    "score": ("score", ".2f"),
    "nearest class": ("nearest_known_class", ""),
    "because of": ("reason", ""),
    "worst passband": ("passband", ""),
    "at MJD": ("mjd", ".1f"),
}


@dataclass(frozen=True)
class CurveAnswer:
    """A run's answer about uploaded light curves.

    Attributes:
        table: The objects, the highest score first, as `galaxyml.inference.predict` writes them.
        curves: Of the first few, with the net's reconstruction.
        latents: Of these, shape (n, Z).
        notes: What was taken for granted, in sentences.
    """

    table: pd.DataFrame
    curves: list[Curve]
    latents: np.ndarray
    notes: tuple[str, ...]


class CurveModel:
    """A run of light curves that can be asked.

    Args:
        predictor: The run, or the sweep.

    Attributes:
        scores: Of the objects of the run's survey, or else of its test split.
        axes: The principal axes of the latents of these objects, on which others can be placed exactly; None
            where they span no plane.
        points: Some of the objects on the first two of them, shape (N, 2).
        above: Whether each of these is above the threshold, shape (N,).
    """

    def __init__(self, predictor: LightCurvePredictor) -> None:
        self.predictor = predictor
        run = predictor.run
        self.split = "survey" if run.has_predictions("survey") else "test"
        scores = run.predictions(self.split)
        assert scores is not None  # of a finished run
        self.scores = scores.set_index("id")["score"]
        encoded = list(predictor.members[0].run.predictions_in_batches(self.split, by="encoded"))
        ids = np.concatenate([table["id"].to_numpy() for table in encoded])
        latents = np.concatenate([seen(table, ["latent"]) for table in encoded])
        if len(ids) > MOST_POINTS:
            rows = np.sort(np.random.default_rng(0).choice(len(ids), MOST_POINTS, replace=False))
            ids, latents = ids[rows], latents[rows]
        # None of latents that lie on a point or a line.
        self.axes = PCA(n_components=2, svd_solver="full").fit(latents) if np.linalg.matrix_rank(latents) > 1 else None
        self.points = self.axes.transform(latents) if self.axes is not None else np.zeros((len(ids), 2))
        threshold = np.inf if predictor.threshold is None else predictor.threshold
        self.above = self.scores.loc[ids].to_numpy() > threshold

    def ask(self, paths: Sequence[Path]) -> CurveAnswer:
        """Scores and reconstructions of uploaded files.

        Raises:
            UserError: If they cannot be used; the message has the user's own names of them.
        """
        with tempfile.TemporaryDirectory(prefix="galaxyml-upload-") as name:
            folder = Path(name) / "survey"
            folder.mkdir()
            survey = lay_out(paths, folder)
            try:
                data = self.predictor.open(folder, cache=Path(name) / "cache")
            except DataError as error:
                raise UserError(survey.in_users_words(str(error))) from None
            assert data.catalog is not None
            check_count("The upload", len(data.catalog), 0)
            table = self.predictor.rank(data)
            curves, latents = self._reconstruct(data, table["object_id"].head(DRAWN).to_numpy())
            notes = [survey.in_users_words(note) for note in data.notes]
            return CurveAnswer(table, curves, latents, (*survey.notes, *notes))

    def scores_html(self, answer: CurveAnswer) -> str:
        """The HTML of the scores."""
        saved = markup.download(answer.table.to_csv(index=False), "anomalies.csv", "All numbers as CSV")
        notes = "".join(markup.paragraph(note, "gx-note") for note in answer.notes)
        first = {str(name): value for name, value in answer.table.iloc[0].items()}
        return f'<div role="status">{self._verdict(first)}{notes}{_table(answer.table)}{saved}</div>'

    def figures_html(self, answer: CurveAnswer) -> str:
        """The HTML of the figures."""
        figures = []
        for number, curve in enumerate(answer.curves):
            alt = f"Light curve of object {curve.title} in six passbands, with the net's reconstruction"
            drawing = markup.drawing(curve_figure(curve), alt, f"curve{number}")
            figures.append(markup.figure(drawing, f"Object {curve.title}"))
        if self.axes is None:
            return "".join(figures)
        alt = f"The uploaded objects among {len(self.points):,} of the survey, on two axes"
        titles = [curve.title for curve in answer.curves]
        figure = latent_figure(self.points, self.above, self.axes.transform(answer.latents), titles)
        caption = (
            "Where they lie in the latent space of the net: its two principal axes, which have "
            f"{100 * self.axes.explained_variance_ratio_.sum():.0f} % of the variance. Distances along the others do "
            "not show."
        )
        return "".join(figures) + markup.figure(markup.drawing(figure, alt, "latents"), caption)

    def _verdict(self, row: dict[str, Any]) -> str:
        threshold, rank = self.predictor.threshold, 1 + int((self.scores > row["score"]).sum())
        if threshold is None:
            verdict, reason = "No verdict", "the run was validated on too few objects for a threshold"
        else:
            verdict = "Unlike the known classes" if row["score"] > threshold else "Like the known classes"
            share = self.predictor.run.fitted_values("threshold")["false_alarms"]
            reason = f"the threshold is {threshold:.2f}, which at most {100 * share:g} % of known objects should exceed"
        return (
            f'<h3 class="gx-verdict">{verdict} <small>object {markup.text(row["object_id"])}</small></h3>'
            f'<p>Anomaly score <strong><data value="{float(row["score"])!r}">{row["score"]:.2f}</data></strong> nats; '
            f"{markup.text(reason)}. It would be number <strong>{rank:,}</strong> of {len(self.scores) + 1:,} among "
            f"the {self.split} objects of the run.</p>"
        )

    def _reconstruct(self, data: CurveData, ids: np.ndarray) -> tuple[list[Curve], np.ndarray]:
        """Light curves of some objects with the first net's reconstruction, and their latents."""
        batch = data.batches[data.rows_of(ids)]
        net = self.predictor.members[0].module.net.cpu()
        with torch.inference_mode():
            latents = net.encode(batch, *net.known(batch)).mean.numpy()
        return reconstructed(net, batch, [str(name) for name in ids]), latents


def _table(table: pd.DataFrame) -> str:
    head = "".join(f'<th scope="col">{heading}</th>' for heading in TABLE)
    rows = [
        "".join(f"<td>{markup.text(format(row[name], digits))}</td>" for name, digits in TABLE.values())
        for row in table.to_dict("records")
    ]
    body = "".join(f"<tr>{cells}</tr>" for cells in rows)
    return (
        '<div class="gx-scroll"><table class="gx-table"><caption>All objects, the highest score first</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
