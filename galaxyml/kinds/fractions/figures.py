"""Figures of predicted fractions: against the baseline, against the truth, over the epochs, and galaxy by galaxy."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from galaxyml.evaluation.baselines import out_of_fold_means
from galaxyml.evaluation.plots import (
    LOSS_CURVES,
    bars,
    loss_curves,
    scatter_grid,
    without_duplicates,
    write_images,
)
from galaxyml.kinds.fractions.metrics import column_rmse
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees import DecisionTree

CROP = 0.5  # central part of an image that is shown
SHOWN = 8  # galaxies among the best and among the worst


@dataclass(frozen=True)
class FractionFigures:
    """Draws what a person looks at first.

    Attributes:
        tree: The decision tree whose columns were predicted.
    """

    only_draws: ClassVar[bool] = True
    tree: DecisionTree

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the figures; has no numbers of its own."""
        catalog, table = run.catalog(), run.predictions("val")
        assert table is not None
        rows = pd.Index(catalog["id"]).get_indexer(table["id"])
        columns, labels = self.tree.columns, self.tree.labels
        outputs, targets = table[columns].to_numpy(), catalog[columns].to_numpy()[rows]
        means = out_of_fold_means(catalog[columns].to_numpy(), catalog["fold"].to_numpy(), rows)
        run.write_figure(
            "1_rmse_by_column",
            bars(
                named(self.tree),
                column_rmse(outputs, targets),
                column_rmse(means, targets),
                "RMSE of the vote fraction",
            ),
            "Error of each vote fraction of validation galaxies (blue) beside that of the column's mean (grey), which "
            "sees no image.",
        )
        firsts = [question.columns[0] for question in self.tree.questions[:SHOWN]]
        shown = [columns.index(name) for name in firsts]
        titles = [f"{labels[name]}  {name}" for name in firsts]
        run.write_figure(
            "2_predicted_against_true",
            scatter_grid(outputs[:, shown], targets[:, shown], titles, (0, 1)),
            "Predicted against true vote fractions of validation galaxies, one point a galaxy, for the first answer of "
            "the first questions. A perfect model lies on the line.",
        )
        run.write_figure("3_loss_curves", loss_curves(run.histories()), LOSS_CURVES)
        if "image" not in catalog:
            return {}
        rmse = np.sqrt(((outputs - targets) ** 2).mean(axis=1))
        order = without_duplicates(np.argsort(rmse), catalog, rows)
        for name, title, extreme, chosen in (
            ("4_best_galaxies", "Predicted best", "smallest", order[:SHOWN]),
            ("5_worst_galaxies", "Predicted worst", "largest", order[::-1][:SHOWN]),
        ):
            captions = [
                f"{table['id'].iloc[row]}, RMSE {rmse[row]:.3f}\n{caption(outputs[row], targets[row], self.tree)}"
                for row in chosen
            ]
            description = (
                f"{title}: the validation galaxies with the {extreme} error over all fractions, and their most likely "
                "paths through the tree."
            )
            write_images(run, name, title, description, catalog["image"].iloc[rows[chosen]], captions, CROP)
        return {}


def named(tree: DecisionTree) -> list[str]:
    """What figures call the columns of a tree."""
    return [f"{label}  {column}" for column, label in tree.labels.items()]


def caption(output: np.ndarray, target: np.ndarray, tree: DecisionTree) -> str:
    """The true and the predicted path of one galaxy, a line each; both of shape (K,)."""
    return f"true: {path(target, tree)}\npredicted: {path(output, tree)}"


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
        likeliest = max(answers, key=lambda column: values[column])
        steps.append(f"{tree.labels[tree.columns[likeliest]]} {values[likeliest]:.2f}")
        following = [k for k, leads in enumerate(tree.leads) if likeliest in leads and values[likeliest] > 0]
    return ", ".join(steps)
