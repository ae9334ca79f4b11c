"""Redshifts of galaxies from their images: a task of one's own, with its data, loss, metric and stage.

`galaxyml --config-dir examples/redshift/conf task=redshift data_dir=FOLDER` runs it, from any folder.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from galaxyml.data.images.data_module import ImageData
from galaxyml.data.tables.reading import Rows, check_columns, finite_numbers, read_csv
from galaxyml.evaluation.baselines import out_of_fold_means
from galaxyml.evaluation.scored import under
from galaxyml.kinds.kind import Stage
from galaxyml.kinds.numbers import Numbers
from galaxyml.runs.run_dir import RunDir

OUTLIER = 0.05  # relative error from which a redshift is called wrong (Pasquet et al. 2019)


def relative_error(predicted: Tensor, true: Tensor) -> Tensor:
    """Error of redshifts in units of 1 + z."""
    return (predicted - true) / (1 + true)


def quality(predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
    """How good redshifts are, from two tensors of one shape; the best value of each is 0.

    - `nmad`: 1.4826 times the median absolute deviation of the relative errors (Pasquet et al. 2019).
    - `outliers`: share of relative errors above `OUTLIER`.
    """
    error = relative_error(predicted, true)
    nmad = 1.4826 * (error - error.quantile(0.5)).abs().quantile(0.5)
    return {"nmad": nmad, "outliers": (error.abs() > OUTLIER).double().mean()}


class RedshiftLoss(nn.Module):
    """Relative error, squared where it is small and as it is above `beta`, so that outliers count for less."""

    def __init__(self, beta: float = 0.02) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs and targets of shape (N, 1)."""
        error = relative_error(outputs, targets)
        return nn.functional.smooth_l1_loss(error, torch.zeros_like(error), beta=self.beta) / self.beta


class RedshiftMetrics(Metric):
    """The `quality` of an epoch's redshifts."""

    predicted: list[Tensor]
    true: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("predicted", [], dist_reduce_fx="cat")
        self.add_state("true", [], dist_reduce_fx="cat")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.predicted.append(outputs.detach().double())
        self.true.append(targets.double())

    def compute(self) -> dict[str, Tensor]:
        return quality(dim_zero_cat(self.predicted), dim_zero_cat(self.true))


def score(run: RunDir) -> dict[str, float]:
    """A stage: the `quality` of a run's redshifts, and beside it that of the training objects' mean redshift."""
    catalog = run.catalog()
    scores: dict[str, float] = {}
    true, fold = catalog[["redshift"]].to_numpy(np.float64), catalog["fold"].to_numpy()
    for split in ("val", "test"):
        if (table := run.predictions(split)) is not None:
            rows = pd.Index(catalog["id"]).get_indexer(table["id"])
            predicted = {"": table[["redshift"]].to_numpy(np.float64), "mean_": out_of_fold_means(true, fold, rows)}
            for prefix, values in predicted.items():
                measured = quality(torch.tensor(values), torch.tensor(true[rows]))
                scores |= under(split, {prefix + name: float(value) for name, value in measured.items()})
    return scores


class Redshifts(Numbers):
    """Numbers with intervals and figures, as galaxyml has them, learnt and judged by their relative errors."""

    def __init__(self, crop: float = 1.0) -> None:
        super().__init__(["redshift"], crop=crop)

    def loss(self, chosen: nn.Module | None = None) -> nn.Module:
        return chosen if chosen is not None else RedshiftLoss()

    def metrics(self) -> Metric:
        return RedshiftMetrics()

    def stages(self) -> list[Stage]:
        return [*super().stages(), score]


class RedshiftData(ImageData):
    """Galaxies of `labels.csv`: `id`, `path`, `ra`, `dec` and `redshift`, those beyond `highest` left out."""

    task = "redshift"
    tables = ("labels.csv",)

    def __init__(self, source: Any = None, *, highest: float = 0.3, kind: Any = None, **options: Any) -> None:
        super().__init__(source, kind=kind if kind is not None else Redshifts(), **options)
        self.highest = highest

    def load_tables(self, root: Path) -> pd.DataFrame:
        path, numbers = root / "labels.csv", ["ra", "dec", "redshift"]
        table = read_csv(path)
        check_columns(path, list(table.columns), ["id", "path", *numbers])
        table = table[["id", "path"]].join(finite_numbers(Rows(path, "id", table), numbers))
        near = table[table["redshift"].between(0, self.highest)].reset_index(drop=True)
        self.log_step(f"redshift up to {self.highest:g}", len(table), len(near))
        return near.rename(columns={"path": "image"}).assign(split="train")
