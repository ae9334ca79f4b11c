"""Figures of predicted fractions: against the baseline, against the truth, over the epochs, and galaxy by galaxy."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from galaxyml.evaluation.baselines import column_means
from galaxyml.evaluation.plots import LOSS_CURVES, MODEL, bars, central_part, loss_curves, picture_grid
from galaxyml.kinds.fractions.metrics import column_rmse
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees import DecisionTree

SHOWN = 8  # galaxies among the best and among the worst


class FractionFigures:
    """Draws what a person looks at first.

    Args:
        tree: Name of the decision tree whose columns were predicted.
        main: Columns whose predictions are shown against the truth; None for the first answer of the first questions.
    """

    def __init__(self, tree: str, main: list[str] | None = None) -> None:
        self.tree = DecisionTree.load(tree)
        first = [question.columns[0] for question in self.tree.questions[:SHOWN]]
        self.main = list(main) if main is not None else first

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the figures; has no numbers of its own."""
        catalog, predictions = run.catalog(), run.predictions("val")
        assert predictions is not None
        rows = pd.Index(catalog["id"]).get_indexer(predictions["id"])
        columns = self.tree.columns
        outputs, targets = predictions[columns].to_numpy(), catalog[columns].to_numpy()[rows]
        means = column_means(catalog, columns, rows)
        names = [f"{self.tree.labels[column]}  {column}" for column in columns]
        errors, trivial = column_rmse(outputs, targets), column_rmse(means, targets)
        run.write_figure(
            "1_rmse_by_column",
            bars(names, errors, trivial, "RMSE of the vote fraction"),
            "Error of each vote fraction of validation galaxies (blue) beside that of the column's mean (grey), which "
            "sees no picture.",
        )
        run.write_figure(
            "2_predicted_against_true",
            self._scatter(outputs, targets),
            "Predicted against true vote fractions of validation galaxies, one point a galaxy, for the first answer of "
            "the first questions. A perfect model lies on the line.",
        )
        run.write_figure("3_loss_curves", loss_curves(run.histories()), LOSS_CURVES)
        each = np.sqrt(((outputs - targets) ** 2).mean(axis=1))
        order = np.argsort(each)
        for name, title, extreme, chosen in (
            ("4_best_galaxies", "Predicted best", "smallest", order[:SHOWN]),
            ("5_worst_galaxies", "Predicted worst", "largest", order[::-1][:SHOWN]),
        ):
            pictures = [central_part(run, catalog["image"].iloc[rows[at]]) for at in chosen]
            captions = [
                f"{predictions['id'].iloc[at]}, RMSE {each[at]:.3f}\n{caption(outputs[at], targets[at], self.tree)}"
                for at in chosen
            ]
            told = f"{title}: the validation galaxies with the {extreme} error over all fractions, and their paths."
            run.write_figure(name, picture_grid(pictures, captions, title), told)
        return {}

    def _scatter(self, outputs: np.ndarray, targets: np.ndarray) -> Figure:
        wide = min(4, len(self.main))
        high = -(-len(self.main) // wide)
        figure = Figure(figsize=(3 * wide, 3.2 * high), layout="constrained")
        for place, column in enumerate(self.main, start=1):
            at = self.tree.columns.index(column)
            axes = figure.add_subplot(high, wide, place)
            axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
            axes.scatter(
                targets[:, at],
                outputs[:, at],
                s=6,
                alpha=min(1.0, 300 / len(outputs) + 0.05),
                color=MODEL,
                linewidths=0,
            )
            axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=f"{column}\n{self.tree.labels[column]}")
            axes.title.set_fontsize(9)
        figure.supxlabel("true vote fraction")
        figure.supylabel("predicted vote fraction")
        return figure


def caption(said: np.ndarray, true: np.ndarray, tree: DecisionTree) -> str:
    """The true and the predicted path of one galaxy in a few short lines; both of shape (K,)."""
    parts = ("true: " + path_said(true, tree), "said: " + path_said(said, tree))
    return "\n".join(textwrap.fill(part, 44, subsequent_indent="  ") for part in parts)


def path_said(values: np.ndarray, tree: DecisionTree) -> str:
    """The first three steps down the tree that most would take, with the fraction of each answer.

    >>> tree = DecisionTree.load("kaggle")
    >>> values = np.zeros(37)
    >>> values[[0, 15, 14]] = 0.9
    >>> path_said(values, tree)
    'smooth 0.90, completely round 0.90'
    """
    said: list[str] = []
    following = [0]
    while following and len(said) < 3:
        answers = [tree.columns.index(column) for column in tree.questions[following[0]].columns]
        at = max(answers, key=lambda column: values[column])
        said.append(f"{tree.labels[tree.columns[at]]} {values[at]:.2f}")
        following = [number for number, leads in enumerate(tree.leads) if at in leads and values[at] > 0]
    return ", ".join(said)
