"""The contract of predictors of new objects, whatever they were fitted to."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import pandas as pd
from torch import Tensor, nn

from galaxyml.inference.interval import ALL
from galaxyml.kinds import Kind
from galaxyml.runs.errors import UsageError
from galaxyml.runs.run_dir import RunDir


class Predictor(ABC):
    """A finished run, the joined folds of a sweep, or an ensemble, whose models' outputs are averaged.

    Args:
        run: Where it was fitted, or a bundle that is read as such.
        description: What it is made of, as `galaxyml.training.description.describe` has it.
        kind: The kind of its targets.

    Attributes:
        run: See above.
        description: See above.
        kind: See above.
        task: Name of the task.
    """

    def __init__(self, run: RunDir, description: Mapping[str, Any], kind: Kind) -> None:
        self.run, self.description, self.kind = run, description, kind
        self.task = str(description["task"])

    @abstractmethod
    def predict(self, inputs: Any, bad: list[str] | None = None, interval: int | str = ALL) -> pd.DataFrame:
        """Predictions for new objects, one row each, as `galaxyml predict` writes them.

        Args:
            inputs: What `galaxyml predict` takes: files and folders of images, patterns, tables of paths; or one folder
                of light curves. Also what is there already: arrays, Pillow's images, a DataFrame of paths; or light
                curves and metadata as DataFrames.
            bad: Gets a sentence for each input that cannot be read, which is then left out; None to raise.
            interval: Which intervals it has, of a run that has some, as `--interval` of the command: 95, 80 or 50 (per
                cent), `all` or `none`.

        Raises:
            UserError: If there is nothing there, or the run has no such interval.
            DataError: If an input cannot be read and `bad` is None.
        """

    @property
    @abstractmethod
    def networks(self) -> list[nn.Module]:
        """The nets that predict."""

    @abstractmethod
    def summary(self, table: pd.DataFrame) -> str:
        """Predictions in a few words."""

    def say_names(self, curves: Mapping[str, Any]) -> None:
        """Takes what a user says of the columns of light curves.

        Raises:
            UsageError: If the run is of none.
        """
        raise UsageError(
            f"{self.run.path} is a run of {self.task}: --columns, --bands and --zero-point are of light curves."
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.run.path}: {self.task}, {self.model}>"

    @property
    def model(self) -> str:
        """The (first) model in a few words."""
        net = self.description["nets"][0]["net"]
        size = f", {net['size']} px" if net.get("size") else ""
        return f"{net.get('name') or str(net['_target_']).rpartition('.')[2]}{size}"


def fitted_weights(run: RunDir) -> dict[str, Tensor]:
    """The weights that a fitted run predicts with, by name.

    Raises:
        UserError: If the folder is no run's, the run is not fitted, or its weights are not there any more.
    """
    config = run.config
    if not (run.finished or run.fitted.is_file()):
        raise UsageError(f"{run.path} has no fitted net: the run is not finished. Its command finishes it.")
    return run.weights(config.predict_with)
