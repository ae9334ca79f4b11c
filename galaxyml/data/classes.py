"""Pictures of one class each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from galaxyml.data.catalog import as_text
from galaxyml.data.images.data_module import ImageData
from galaxyml.runs.errors import DataError, UserError

UNKNOWN = -1  # the label of an object whose class is not known


def check_balance(balance: float) -> None:
    """Refuses what is no number in [0, 1].

    Raises:
        UserError: If it is not.
    """
    if not 0 <= balance <= 1:
        raise UserError(f"balance={balance}: it must be a number in [0, 1]; 0 is as they come, 1 is all alike.")


def row_weights(labels: Tensor, balance: float) -> Tensor:
    """How often objects are drawn: their class' frequency to the power of -balance.

    Args:
        labels: Shape (N,), 0 or more.
        balance: 0 as they come, 1 all classes equally often.
    """
    counts = torch.bincount(labels).double()
    return counts[labels] ** -balance


class ClassData(ImageData):
    """Pictures whose target is a class: the column `label`, 0 to K - 1.

    Args:
        classes: Names of the classes, K of them, in the order of the labels.
        balance: How evenly classes are drawn for training: 0 deals each object once an epoch, 1 draws all classes
            equally often, 0.5 lies between (each object's weight is its class's frequency to the power of -balance).
        **options: As for ImageData.

    Raises:
        UserError: If `balance` is not in [0, 1].
    """

    def __init__(self, classes: Sequence[str], balance: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        check_balance(balance)
        self.targets, self.outputs = ["label"], list(classes)
        self.balance = balance

    def caption(self, said: np.ndarray, true: np.ndarray) -> str:
        chances = np.exp(said - said.max())
        chances /= chances.sum()
        order = np.argsort(-chances)[:2]
        said_of = ", ".join(f"{self.outputs[at]} {chances[at]:.2f}" for at in order)
        name = self.outputs[int(true)] if true >= 0 else "not known"
        return f"true: {name}\nsaid: {said_of}"

    def shown_of(self, catalog: pd.DataFrame) -> pd.DataFrame:
        """Their id and the name of their class."""
        names = pd.Series([*self.outputs, "?"]).iloc[catalog["label"]].to_numpy()
        return as_text(catalog.assign(label=names), ["id", "label"])

    def alike(self, catalog: pd.DataFrame) -> np.ndarray:
        """One column a class, 1 for its objects."""
        return np.eye(len(self.outputs))[catalog["label"].to_numpy()]

    def trivial(self) -> Tensor:
        """Logarithms of the classes' frequencies among the training objects, shape (K,)."""
        counts = torch.bincount(self.targets_of_rows[self.rows("train")], minlength=len(self.outputs))
        return (counts / counts.sum()).clamp_min(1e-9).log()

    def target_tensor(self, catalog: pd.DataFrame) -> Tensor:
        """Labels, int64 of shape (N,)."""
        return torch.tensor(catalog["label"].to_numpy(np.int64))

    def row_weights(self, rows: Tensor) -> Tensor | None:
        return row_weights(self.targets_of_rows[rows], self.balance) if self.balance else None

    def check_counts(self, catalog: pd.DataFrame, where: str, advice: str) -> None:
        """Makes sure that there is something to learn from.

        Args:
            catalog: The labelled objects.
            where: The file that they come from.
            advice: What the user can do.

        Raises:
            DataError: If there are no objects, or fewer than two classes have any.
        """
        if catalog.empty:
            raise DataError(f"{where}: no galaxies are left after the cuts. {advice}")
        counts = np.bincount(catalog["label"], minlength=len(self.outputs))
        if (counts > 0).sum() < 2:
            only = self.outputs[int(counts.argmax())]
            raise DataError(f"{where}: all {len(catalog):,} galaxies that are left are of the class '{only}'. {advice}")
        if missing := [name for name, count in zip(self.outputs, counts, strict=True) if not count]:
            self.notes.append(f"no galaxy is of the class {', '.join(missing)}.")
