"""Runs from a notebook or a script: `galaxyml.run(["task=galaxyzoo", "model=tiny"])`."""

import json
import os
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galaxyml.cli import conf
from galaxyml.cli.overrides import Override
from galaxyml.cli.train import train
from galaxyml.runs.errors import UserError
from galaxyml.runs.provenance import COMMAND

if TYPE_CHECKING:
    import pandas as pd


class Run:
    """The results in the folder of a finished run, or of a sweep whose folds were joined.

    Args:
        path: The folder.

    Attributes:
        path: The same.
    """

    def __init__(self, path: Path | str) -> None:
        from galaxyml.runs.run_dir import RunDir

        self.path = Path(path)
        self._files = RunDir(path)

    def __repr__(self) -> str:
        return f"Run('{self.path}')"

    @property
    def metrics(self) -> dict[str, Any]:
        """As `metrics.json` has them: numbers by `<split>/<metric>[/<column>]`, `verdict`; of a sweep also `folds`."""
        return self._files.metrics()

    def predictions(self, split: str) -> "pd.DataFrame":
        """Predictions of a split (`val`, `test`; of light curves also `survey`): `id` and one column an output.

        Raises:
            UserError: If there are none.
        """
        table = self._files.predictions(split)
        if table is None:
            raise UserError(f"{self.path} has no predictions of '{split}'.")
        return table


def run(overrides: str | Sequence[str] = ()) -> Run:
    """Makes a run or a sweep exactly as the command does, in this process, and gives its folder.

    Args:
        overrides: The words after `python -m galaxyml`, as one text or one by one; without `name=…` the folder is
            called by the time.

    Raises:
        UserError: If they cannot be used, or a run fails; what is finished stays.
        Stop: If a signal ended it.
    """
    words = shlex.split(overrides) if isinstance(overrides, str) else list(overrides)
    read = [Override.read(word) for word in words if not word.startswith("-")]
    name = next((override.plain for override in reversed(read) if override.key == "name"), None)
    if name is None:
        name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
        words.append(f"name={name}")
    task = conf.tasks_of({override.key: override.choices for override in read})[0]
    before = os.environ.get(COMMAND)
    os.environ[COMMAND] = json.dumps(["python", "-m", "galaxyml", *words])
    try:
        train(words)
    except SystemExit as ending:
        if ending.code:
            reason = ending.code if isinstance(ending.code, str) else "a run has failed; the reason is printed above"
            raise UserError(reason.removeprefix("error: ")) from None
    finally:
        if before is None:
            del os.environ[COMMAND]
        else:
            os.environ[COMMAND] = before
    return Run(Path("multirun") / task / str(name))
