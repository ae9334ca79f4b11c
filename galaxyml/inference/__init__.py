"""Finished runs, sweeps, ensembles and bundles that predict new objects."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from galaxyml.inference.predictor import Predictor


def load(path: Path | str) -> "Predictor":
    """The predictor of a finished run, of a sweep whose folds were joined, of an ensemble, or of a bundle.

    Args:
        path: Folder of a run, sweep or ensemble, or the `.zip` of a bundle.

    Returns:
        `.predict(inputs)` gives a table, as `galaxyml predict` writes it.

    Raises:
        UserError: If it is none of these, not finished, or a bundle that cannot be used.
    """
    from galaxyml.inference.loading import load_predictor

    return load_predictor(Path(path))
