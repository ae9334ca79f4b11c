"""Numbers that say how good predicted fractions are, each beside the trivial predictor's."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from galaxyml.evaluation.baselines import out_of_fold_means
from galaxyml.kinds.fractions import metrics
from galaxyml.kinds.fractions.constrain import constrained
from galaxyml.runs.errors import diverged
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees import DecisionTree, violation


class ScoreFractions:
    """RMSE, Pearson's correlation and tree violation: as predicted, under each constraint, and of the column means.

    Args:
        tree: Name of the decision tree whose columns were predicted.
    """

    def __init__(self, tree: str) -> None:
        self.tree = DecisionTree.load(tree)

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Measures the predictions of every split whose truth is known.

        Returns:
            Numbers by `<split>/<metric>[/<column>]`; `net_` marks a metric without constraint, `normalised_` and
            `projected_` one after divisive normalisation and after projection, and `mean_` that of the column means.

        Raises:
            UserError: If a prediction is not finite.
        """
        found: dict[str, float] = {}
        columns = self.tree.columns
        catalog = run.catalog()
        for split in ("val", "test"):
            final, net = run.predictions(split), run.predictions(split, by="net")
            if final is None or net is None:
                continue
            rows = pd.Index(catalog["id"]).get_indexer(final["id"])
            targets = catalog[columns].to_numpy()[rows]
            if np.isnan(targets).all():
                continue  # the challenge keeps the test set's fractions to itself
            alone = net[columns].to_numpy()
            if not np.isfinite(alone).all():
                raise diverged(run.path)
            for prefix, outputs in (
                ("", final[columns].to_numpy()),
                ("net_", alone),
                ("normalised_", constrained(alone, self.tree, "normalise")),
                ("projected_", constrained(alone, self.tree, "project")),
                ("mean_", out_of_fold_means(catalog[columns].to_numpy(), catalog["fold"].to_numpy(), rows)),
            ):
                found |= {
                    f"{split}/{prefix}{name}": value
                    for name, value in self._score(outputs, targets)
                    if "/" not in name or prefix in ("", "net_", "mean_")
                }
            # Within a fold means are constant; joined over folds they only anticorrelate with what they leave out.
            found |= {key: 0.0 for key in found if key.startswith(f"{split}/mean_pearson")}
        return found

    def _score(self, outputs: np.ndarray, targets: np.ndarray) -> Iterator[tuple[str, float]]:
        yield "rmse", metrics.rmse(outputs, targets)
        yield "pearson", float(metrics.pearson(outputs, targets).mean())
        yield "violation", float(violation(torch.from_numpy(outputs.astype(np.float64)), self.tree))
        for name, values in (
            ("rmse", metrics.column_rmse(outputs, targets)),
            ("pearson", metrics.pearson(outputs, targets)),
        ):
            yield from (
                (f"{name}/{column}", float(value)) for column, value in zip(self.tree.columns, values, strict=True)
            )
