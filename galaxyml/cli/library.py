"""Runs from a notebook or a script: `galaxyml.run(["task=galaxyzoo", "model=tiny"])`."""

import json
import os
import shlex
from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galaxyml.cli import conf
from galaxyml.cli.overrides import typed
from galaxyml.cli.train import train
from galaxyml.runs.errors import UserError
from galaxyml.runs.provenance import COMMAND
from galaxyml.training.quiet import ignore_warnings

if TYPE_CHECKING:
    import pandas as pd


class Run:
    """The results in the folder of a finished run, or of a sweep whose folds were joined.

    A notebook shows its metrics beside the baseline's.

    Args:
        path: The folder.

    Attributes:
        path: The same.

    Example:
        What was predicted for the objects of the validation split, and how well::

            run = galaxyml.Run("multirun/galaxyzoo/demo")
            run.metrics["val/rmse"]
            run.predictions("val").set_index("id")
    """

    def __init__(self, path: Path | str) -> None:
        from galaxyml.runs.run_dir import RunDir

        self.path = Path(path)
        self._files = RunDir(path)

    def __repr__(self) -> str:
        return f"Run('{self.path}')"

    def _repr_html_(self) -> str | None:
        if not self._files.finished:
            return None
        import pandas as pd

        from galaxyml.kinds import of_run
        from galaxyml.reports.run_report import TITLES, summary, title

        words, noun = of_run(self._files).words, self._files.provenance()["data"].get("things", "galaxies")
        shown = [f"<p><code>{escape(str(self.path))}</code></p>"]
        for split in TITLES:
            if cells := summary(self.metrics, split, words):
                table = pd.DataFrame(cells[1:], columns=cells[0]).to_html(index=False, border=0)
                shown.append(f"<p>{escape(title(split, noun))}</p>{table}")
        return "".join(shown)

    @property
    def metrics(self) -> dict[str, Any]:
        """As `metrics.json` has them: numbers by `<split>/<metric>[/<column>]`, `verdict`; of a sweep also `folds`.

        Raises:
            UserError: If the run is not finished.
        """
        return self._files.metrics()

    @property
    def report(self) -> Path:
        """The report as one web page, which any browser opens.

        Raises:
            UserError: If there is none.
        """
        path = self.path / "report.html"
        if not path.is_file():
            written = f"galaxyml report {shlex.quote(str(self.path))}"
            raise UserError(f"{self.path} has no report.html. `{written}` writes it.")
        return path

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

    Example:
        Two folds on the simulated sky, joined::

            run = galaxyml.run("task=galaxyzoo model=tiny scale=smoke name=first -m fold=0,1")
            run.metrics["val/rmse"], run.report
    """
    words = shlex.split(overrides) if isinstance(overrides, str) else list(overrides)
    name = next((override.plain for override in reversed(typed(words)) if override.key == "name"), None)
    if name is None:
        name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
        words.append(f"name={name}")
    ignore_warnings()
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
    task = conf.tasks_of({override.key: override.choices for override in typed(words)})[0]
    return Run(Path("multirun") / task / str(name))
