"""What a run says of uploaded light curves: score, threshold, rank, reconstruction and place in the latent space."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from galaxyml.data.light_curves.data_module import CurveData
from galaxyml.evaluation.curve_plots import Curve
from galaxyml.inference.light_curve_predictor import LightCurvePredictor
from galaxyml.kinds.anomalies.detect import seen
from galaxyml.page import markup
from galaxyml.page.curve_figures import curve_figure, latent_figure
from galaxyml.page.curve_uploads import lay_out
from galaxyml.runs.errors import DataError, UserError
from galaxyml.training.light_curve_predictions import reconstructed

DRAWN = 3  # objects of an upload, those with the highest scores
MOST_POINTS = 3000  # of the survey in the figure of the latent space


@dataclass(frozen=True)
class Asked:
    """What a run says of uploaded light curves.

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


class Plane:
    """The two principal axes of the latents of a survey's objects, on which others can be placed exactly.

    Args:
        latents: Of the survey's objects, shape (N, Z).
        above: Whether each is above the threshold, shape (N,).

    Attributes:
        points: The objects on the axes, shape (N, 2).
        share: Of the latents' variance that the axes have.
    """

    def __init__(self, latents: np.ndarray, above: np.ndarray) -> None:
        self.mean = latents.mean(axis=0)
        _, lengths, axes = np.linalg.svd(latents - self.mean, full_matrices=False)
        self.axes = axes[:2]
        self.share = float((lengths[:2] ** 2).sum() / max((lengths**2).sum(), 1e-30))
        self.points = self.place(latents)
        self.above = above

    def place(self, latents: np.ndarray) -> np.ndarray:
        """Latents on the axes, (n, Z) -> (n, 2)."""
        return (latents - self.mean) @ self.axes.T


class Curves:
    """A run of light curves that can be asked.

    Args:
        predictor: The run, or the sweep.
    """

    def __init__(self, predictor: LightCurvePredictor) -> None:
        self.predictor = predictor
        run = predictor.run
        self.split = "survey" if run.has_predictions("survey") else "test"
        scores = run.predictions(self.split)
        assert scores is not None  # of a finished run
        self.scores = scores.set_index("id")["score"]
        self.plane = self._plane()

    def ask(self, paths: Sequence[Path]) -> Asked:
        """What the run says of uploaded files.

        Raises:
            UserError: If they cannot be used; the message has the user's own names of them.
        """
        with tempfile.TemporaryDirectory(prefix="galaxyml-upload-") as name:
            folder = Path(name) / "survey"
            folder.mkdir()
            laid_out = lay_out(paths, folder)
            try:
                data = self.predictor.open(folder, Path(name) / "cache")
            except DataError as error:
                raise UserError(laid_out.in_users_words(str(error))) from None
            table = self.predictor.rank(data)
            curves, latents = self._drawn(data, table)
            return Asked(table, curves, latents, (*laid_out.notes, *data.notes))

    def shown(self, asked: Asked) -> str:
        """The HTML of what is said."""
        saved = markup.download(asked.table.to_csv(index=False), "anomalies.csv", "All numbers as CSV")
        notes = "".join(markup.paragraph(note, "gx-note") for note in asked.notes)
        rows: list[dict[str, Any]] = [
            {str(name): value for name, value in row.items()} for row in asked.table.to_dict("records")
        ]
        return f'<div role="status">{self._verdict(rows[0])}{notes}{self._table(rows)}{saved}</div>'

    def drawn(self, asked: Asked) -> str:
        """The HTML of the figures."""
        found = []
        for number, curve in enumerate(asked.curves):
            alt = f"Light curve of object {curve.title} in six passbands, with the net's reconstruction"
            found.append(_figure(curve_figure(curve), alt, f"curve{number}", f"Object {curve.title}"))
        alt = f"The uploaded objects among {len(self.plane.points):,} of the survey, on two axes"
        titles = [curve.title for curve in asked.curves]
        figure = latent_figure(self.plane.points, self.plane.above, self.plane.place(asked.latents), titles)
        caption = (
            "Where they lie in the latent space of the net: its two principal axes, which have "
            f"{100 * self.plane.share:.0f} % of the variance. Distances along the others do not show."
        )
        return "".join(found) + _figure(figure, alt, "latents", caption)

    def _verdict(self, row: dict[str, Any]) -> str:
        threshold, rank = self.predictor.threshold, 1 + int((self.scores > row["score"]).sum())
        if threshold is None:
            word, said = "No verdict", "the run was validated on too few objects for a threshold"
        else:
            word = "Unlike the known classes" if row["score"] > threshold else "Like the known classes"
            share = self.predictor.run.fitted_values("threshold")["false_alarms"]
            said = f"the threshold is {threshold:.2f}, which at most {100 * share:g} % of known objects should exceed"
        return (
            f'<h3 class="gx-verdict">{word} <small>object {markup.text(row["object_id"])}</small></h3>'
            f'<p>Anomaly score <strong><data value="{float(row["score"])!r}">{row["score"]:.2f}</data></strong> nats; '
            f"{markup.text(said)}. It would be number <strong>{rank:,}</strong> of {len(self.scores) + 1:,} among the "
            f"{'survey' if self.split == 'survey' else 'test'} objects of the run.</p>"
        )

    def _table(self, rows: list[dict[str, Any]]) -> str:
        names = {
            "object_id": "object",
            "score": "score",
            "nearest_known_class": "nearest class",
            "reason": "because of",
            "passband": "worst passband",
            "mjd": "at MJD",
        }
        head = "".join(f'<th scope="col">{markup.text(shown)}</th>' for shown in names.values())
        digits = {"score": ".2f", "mjd": ".1f"}
        cells = [[markup.text(format(row[name], digits.get(name, ""))) for name in names] for row in rows]
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in cells)
        return (
            '<div class="gx-scroll"><table class="gx-table"><caption>All objects, the highest score first</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def _drawn(self, data: CurveData, table: pd.DataFrame) -> tuple[list[Curve], np.ndarray]:
        """The first objects' light curves with the first net's reconstruction, and their latents."""
        first = table["object_id"].head(DRAWN).to_numpy()
        batch = data.batches[data.rows_of(first)]
        net = self.predictor.members[0].module.net.cpu()
        with torch.inference_mode():
            latents = net.encode(batch, *net.known(batch)).mean.numpy()
        return reconstructed(net, batch, [str(name) for name in first]), latents

    def _plane(self) -> Plane:
        ids, latents = [], []
        for table in self.predictor.members[0].run.predictions_in_batches(self.split, by="encoded"):
            ids.append(table["id"].to_numpy())
            latents.append(seen(table, ["latent"]))
        every, rows = np.concatenate(latents), np.concatenate(ids)
        if len(rows) > MOST_POINTS:
            kept = np.sort(np.random.default_rng(0).choice(len(rows), MOST_POINTS, replace=False))
            every, rows = every[kept], rows[kept]
        level = np.inf if self.predictor.threshold is None else self.predictor.threshold
        return Plane(every, self.scores.loc[rows].to_numpy() > level)


def _figure(figure: Figure, alt: str, salt: str, caption: str) -> str:
    drawn = markup.drawing(figure, alt, salt)
    return f"<figure>{drawn}<figcaption>{markup.text(caption)}</figcaption></figure>"
