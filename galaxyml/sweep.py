"""The end of a sweep: its folds joined, one table printed. Imports nothing heavy before there is something to join."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from galaxyml.errors import UserError

if TYPE_CHECKING:
    from galaxyml.runs import RunDir

log = logging.getLogger(__name__)


def run_folder(fold: int, overrides: str, trial: int | None = None) -> str:
    """Name of a run's folder in its sweep: the fold, then whatever else was swept, or a search's trial."""
    if trial is not None:
        return f"fold-{fold}_trial-{trial:03d}"
    return f"fold-{fold}" + (f"_{overrides.replace('/', '-')}" if overrides else "")


OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)


class Finish(Callback):
    """Hydra's callback: when all runs of a command have ended, joins them and prints what came out."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Keeps the names of the runs that gave no number; a search goes on without them."""
        if job_return.return_value is None and OmegaConf.select(config, "hydra.sweeper.trial") is None:
            self.failed.append(Path(config.hydra.runtime.output_dir).name)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Exits with status 1 if a run has failed, in which case nothing is joined, or if the runs cannot be joined."""
        from galaxyml.runs import RunDir

        if "trial" in config.hydra.sweeper:  # a search tells its best by itself, and its trials are not to be joined
            return
        sweep = RunDir(Path(config.hydra.sweep.dir))
        if self.failed:
            again = [name for name in self.failed if RunDir(sweep.path / name).last_checkpoint]
            more = " The same command carries on with them and keeps the others." if again == self.failed else ""
            sys.exit(f"\n{sweep.path}: failed: {', '.join(self.failed)}; nothing was joined.{more}")
        try:
            for folder in join(sweep):
                show(folder)
        except UserError as error:
            sys.exit(f"error: {error}")
        except Exception:  # Hydra would turn it into a warning, and the status into 0
            log.exception("%s: the runs are finished, but joining them failed", sweep.path)
            sys.exit(1)
        if unfinished := [run.name for run in sweep.children() if run.worth_keeping and not run.finished]:
            print(f"not joined, as not finished: {', '.join(unfinished)}")


def join(sweep: "RunDir") -> list["RunDir"]:
    """Joins the folds of a sweep; where more than the fold was swept, those of each combination by themselves.

    Args:
        sweep: Folder of the runs; those that are not finished are left out.

    Returns:
        The folders of the joined runs.
    """
    from galaxyml import joined, report
    from galaxyml.runs import RunDir

    groups: dict[str, list[RunDir]] = {}
    for run in sweep.children():
        if run.finished:
            groups.setdefault(run.group, []).append(run)
    folders = []
    for group, runs in groups.items():
        into = RunDir(sweep.path / "joined" / (group or "no-other-key")) if len(groups) > 1 else sweep
        into.adopt(runs)
        joined.join([runs], into)
        finish(into, {"folds": joined.spread(runs)})
        folders.append(into)
    if len(folders) > 1:
        report.compare(sweep, folders, folders[0].config.monitor)
    return folders


def finish(into: "RunDir", more: dict[str, Any]) -> None:
    """Runs the stages on joined predictions, and writes the report and the numbers.

    Args:
        into: Where runs were joined.
        more: What its metrics have besides those of the stages.
    """
    from galaxyml import report
    from galaxyml.experiment import run_stages

    metrics = {**run_stages(into.config, into), **more}
    report.write(into, metrics)
    into.write_metrics(metrics)


def show(run: "RunDir") -> None:
    """Prints a finished run's numbers and where its files are."""
    from rich.console import Console
    from rich.table import Table

    from galaxyml import report

    metrics = run.metrics()
    console = Console(highlight=False)
    print(f"\n{run.path}, on {run.provenance()['data']['source']}\n")
    things = run.provenance()["data"].get("things", "galaxies")
    for split in report.TITLES:
        if rows := report.turned(report.summary(metrics, split, False, left_out=report.CONSTRAINED)):
            table = Table(title=report.title(split, things), title_justify="left")
            for place, name in enumerate(rows[0]):
                table.add_column(name, justify="right" if place else "left", no_wrap=not place)
            for row in rows[1:]:
                table.add_row(*row)
            console.print(table)
    print(f"report      {run.path / 'report.md'}")
    print(f"figures     {run.path / 'figures'}/")
    if any(member.arrays("familiar") for member in run.nets()):
        print(f"elsewhere   python -m galaxyml.predict {run.path} PICTURES… --out predictions.csv")
    for name in ("submission", "anomalies"):
        if (run.path / f"{name}.csv").is_file():
            print(f"{name:<12}{run.path / f'{name}.csv'}")
