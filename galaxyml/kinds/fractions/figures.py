"""Figures of predicted fractions: against the baseline, against the truth, over the epochs, and galaxy by galaxy."""

import textwrap

import numpy as np
import pandas as pd

from galaxyml.evaluation.baselines import out_of_fold_means
from galaxyml.evaluation.plots import LOSS_CURVES, bars, loss_curves, scatter_grid, write_images
from galaxyml.kinds.fractions.metrics import column_rmse
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees import DecisionTree

CROP = 0.5  # central part of an image that is shown
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
        main = [columns.index(name) for name in self.main]
        means = out_of_fold_means(catalog[columns].to_numpy(), catalog["fold"].to_numpy(), rows)
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
            scatter_grid(
                outputs[:, main], targets[:, main], [f"{name}\n{self.tree.labels[name]}" for name in self.main], (0, 1)
            ),
            "Predicted against true vote fractions of validation galaxies, one point a galaxy, for the first answer of "
            "the first questions. A perfect model lies on the line.",
        )
        run.write_figure("3_loss_curves", loss_curves(run.histories()), LOSS_CURVES)
        if "image" not in catalog:
            return {}
        each = np.sqrt(((outputs - targets) ** 2).mean(axis=1))
        order = np.argsort(each)
        for name, title, extreme, chosen in (
            ("4_best_galaxies", "Predicted best", "smallest", order[:SHOWN]),
            ("5_worst_galaxies", "Predicted worst", "largest", order[::-1][:SHOWN]),
        ):
            captions = [
                f"{predictions['id'].iloc[at]}, RMSE {each[at]:.3f}\n{caption(outputs[at], targets[at], self.tree)}"
                for at in chosen
            ]
            told = f"{title}: the validation galaxies with the {extreme} error over all fractions, and their paths."
            write_images(run, name, title, told, catalog["image"].iloc[rows[chosen]], captions, CROP)
        return {}


def caption(output: np.ndarray, target: np.ndarray, tree: DecisionTree) -> str:
    """The true and the predicted path of one galaxy in a few short lines; both of shape (K,)."""
    parts = ("true: " + path(target, tree), "predicted: " + path(output, tree))
    return "\n".join(textwrap.fill(part, 44, subsequent_indent="  ") for part in parts)


def path(values: np.ndarray, tree: DecisionTree) -> str:
    """The first three steps down the tree that most would take, with the fraction of each answer.

    >>> tree = DecisionTree.load("kaggle")
    >>> values = np.zeros(37)
    >>> values[[0, 15, 14]] = 0.9
    >>> path(values, tree)
    'smooth 0.90, completely round 0.90'
    """
    steps: list[str] = []
    following = [0]
    while following and len(steps) < 3:
        answers = [tree.columns.index(column) for column in tree.questions[following[0]].columns]
        at = max(answers, key=lambda column: values[column])
        steps.append(f"{tree.labels[tree.columns[at]]} {values[at]:.2f}")
        following = [number for number, leads in enumerate(tree.leads) if at in leads and values[at] > 0]
    return ", ".join(steps)
