"""The end of a sweep: its folds joined, its tables printed. Imports nothing heavy before there is something to join."""

import json
import logging
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from galaxyml.runs.files import atomic_write, digest, file_digest, in_name, write_json
from galaxyml.runs.progress import heartbeat, quiet, say
from galaxyml.sweeps.run_job import user_error

if TYPE_CHECKING:
    from galaxyml.reports.sweep_report import Verdict
    from galaxyml.reports.sweep_table import Job
    from galaxyml.runs.run_dir import RunDir

log = logging.getLogger(__name__)

JOINED = "joined.json"  # the sources of a joined folder
SHOWN = 12  # combinations that a terminal has room for
JOINED_FILES = ("*.json", "*.parquet", "*.csv", "predictions/**/*", "figures/*", "tables/*", "fitted/*")


def run_folder(fold: int, overrides: str, trial: int | None = None) -> str:
    """Name of a run's folder in its sweep: the fold, then whatever else was swept, or a search's trial."""
    if trial is not None:
        return f"fold-{fold}_trial-{trial:03d}"
    return f"fold-{fold}" + (f"_{in_name(overrides)}" if overrides else "")


class Finish(Callback):
    """Hydra's callback: when all runs of a command have ended, joins them and prints the result."""

    def __init__(self) -> None:
        self.requested: list[str] = []
        self.failed: list[str] = []

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Reads the clock, of which the name may be made: else the configuration of each run would read it anew."""
        _ = config.hydra.sweep.dir

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Records the name of a run of this command, and whether it gave no number."""
        self.requested.append(Path(config.hydra.runtime.output_dir).name)
        if job_return.return_value is None:
            self.failed.append(self.requested[-1])

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Ends the sweep, and the command with its status."""
        from galaxyml.sweeps import forkserver

        folder = Path(config.hydra.sweep.dir)
        if status := forkserver.call(partial(end, folder, self.requested, self.failed)):
            sys.exit(status)


def end(folder: Path, requested: Sequence[str], failed: Sequence[str] = ()) -> int:
    """Joins the runs of a sweep, writes its table and report, and prints the result.

    Where a run of this command has failed nothing is joined; the table and the report are partial.

    Args:
        folder: The sweep's folder.
        requested: Names of the folders of this command's runs.
        failed: Names of those that are known to have failed; a run that is finished from before may have been refused,
            as its configuration has changed, which its folder does not show.

    Returns:
        The status for the shell: 1 if a run has failed, or if the runs cannot be joined.
    """
    from galaxyml.reports import sweep_report, sweep_table
    from galaxyml.reports.verdict import SMOKE
    from galaxyml.runs.run_dir import RunDir

    sweep = RunDir(folder)
    jobs = sweep_table.read_jobs(sweep, requested)
    search, ended = is_search(sweep), sweep_table.ENDED
    refused = {job.name for job in jobs if job.name in failed and job.state != "pruned"}
    broken = [job for job in jobs if job.name in refused or (job.name in requested and job.state not in ended)]
    broken = [] if search else broken
    try:
        with heartbeat(lambda: f"{sweep.path}: joining its runs and writing the report"):
            joined = _joined_before(sweep) if broken else [] if search else join(sweep)
            verdict = sweep_report.judge(jobs, joined)
            report = sweep_report.write(sweep, jobs, joined, verdict)
    except Exception as error:  # Hydra would turn it into a warning, and the status into 0
        if (cause := user_error(error)) is not None:
            print(f"error: {cause}", file=sys.stderr)
        else:
            log.exception("%s: its runs have ended, but joining them failed", sweep.path)
        return 1
    if broken:
        print(f"\n{sweep.path}: failed: {', '.join(job.name for job in broken)}; nothing was joined.", file=sys.stderr)
        for job in broken:
            if job.state == "finished":
                why = "refused, and kept as it was"
            elif job.state in sweep_table.RUNNING and job.name in refused:
                why = "refused, as another process works on it"
            else:
                why = " ".join(job.why().split()) or job.state
            print(f"  {job.name}: {why.rstrip('.')}; log: {job.log or 'none'}", file=sys.stderr)
        if count := sum(job.state != "finished" for job in broken):
            which = "it" if count == 1 else "them"
            advice = f"The same command finishes {which} and keeps the others, once the reason is gone."
            print(advice, file=sys.stderr)
        print(f"partial report: {report}", file=sys.stderr)
        return 1
    if search or quiet():
        if sweep_report.is_smoke_test(jobs):
            say(f"\n{SMOKE}\n")
        print(f"report      {report}")
    elif len(joined) == 1:
        show(joined[0])
    else:
        _show_ranking(sweep, jobs, joined, verdict)
    say(f"jobs        {sweep.path / 'sweep.csv'}")
    if unfinished := [job.name for job in jobs if job.state not in ended]:
        print(f"not joined, as not finished: {', '.join(unfinished)}")
    return 0


def report(folder: "RunDir") -> Path:
    """Writes the report of a run or a sweep again, joins a sweep whose runs have all ended; returns the page's path.

    Of a sweep that is not finished, what was joined before is shown as long as its runs are there.

    Raises:
        UserError: If the runs cannot be joined, or the run is not finished.
    """
    from galaxyml.reports import run_report, sweep_report, sweep_table, verdict
    from galaxyml.training.quiet import quiet

    if not folder.children() and not folder.jobs():  # no sweep
        return run_report.write(folder, verdict.judge(folder, folder.metrics()))
    quiet()
    jobs = sweep_table.read_jobs(folder)
    complete = all(job.state in sweep_table.ENDED for job in jobs)
    joined = [] if is_search(folder) else join(folder) if complete else _joined_before(folder)
    return sweep_report.write(folder, jobs, joined, sweep_report.judge(jobs, joined))


def is_search(sweep: "RunDir") -> bool:
    """Whether a sweep's jobs are the trials of a search, which are not joined: the best is to be run on all folds."""
    return any(job.trial is not None for job in sweep.jobs().values())


def join(sweep: "RunDir") -> list["RunDir"]:
    """Joins the folds of a sweep; where more than the fold was swept, those of each combination by themselves.

    What was joined before from the same runs, by the same code, is kept as it is.

    Args:
        sweep: Folder of the runs; those that are not finished are left out.

    Returns:
        The folders of the joined runs.
    """
    from galaxyml.evaluation import joined

    groups = _groups(sweep)
    if len(groups) > 1:
        (sweep.path / "metrics.json").unlink(missing_ok=True)  # of the time when there was one combination
    for into, runs in groups:
        if not _is_current(into, runs):
            (into.path / JOINED).unlink(missing_ok=True)
            into.copy_config(runs)
            joined.join([runs], into)
            only = runs[0] if len(runs) == 1 else None
            finish(into, {"folds": joined.spread(runs)}, drawn=only, report=into is not sweep)
            write_json(into.path / JOINED, _sources(into, runs))
    return [into for into, _ in groups]


def _groups(sweep: "RunDir") -> list[tuple["RunDir", list["RunDir"]]]:
    """Finished runs by what was swept besides the fold, each group after the folder that it is joined in."""
    from galaxyml.runs.run_dir import RunDir

    groups: dict[str, list[RunDir]] = {}
    for run in sweep.children():
        if run.finished:
            groups.setdefault(run.group, []).append(run)
    if len(groups) == 1:
        return [(sweep, next(iter(groups.values())))]
    return [(RunDir(sweep.path / "joined" / (group or "no-other-key")), runs) for group, runs in groups.items()]


def _joined_before(sweep: "RunDir") -> list["RunDir"]:
    """The folders of what was joined earlier, if that is all runs that are finished now."""
    groups = _groups(sweep)
    for into, runs in groups:
        if not into.finished or {run.name for run in into.members()} != {run.name for run in runs}:
            return []
    return [into for into, _ in groups]


def _is_current(into: "RunDir", runs: Sequence["RunDir"]) -> bool:
    """Whether runs were joined to a folder as they are now, by this very code, and all files are still there."""
    path = into.path / JOINED
    if not into.finished or not path.is_file():
        return False
    before, now = json.loads(path.read_text(encoding="utf-8")), _sources(into, runs)
    return {**now, "files": before["files"]} == before and all((into.path / name).is_file() for name in before["files"])


def _sources(into: "RunDir", runs: Sequence["RunDir"]) -> dict[str, Any]:
    """Digests of the runs that a joined folder follows from, the version of the code, and the files of the folder."""
    from galaxyml.runs.provenance import origin

    code = origin(0, "")
    # Of code that has changed since its commit nothing is known, but that it may change again.
    version = {name: code[name] for name in ("versions", "commit")} if not code["dirty"] else {"time": time.time()}
    marks = ("metrics.json", "provenance.json", ".hydra/config.yaml")  # a finished run's tables change with them
    files = [path for pattern in JOINED_FILES for path in sorted(into.path.glob(pattern)) if path.is_file()]
    return {
        "runs": {run.name: digest(file_digest(run.path / name) for name in marks) for run in runs},
        "code": version,
        "files": [path.relative_to(into.path).as_posix() for path in files],
    }


def finish(into: "RunDir", more: dict[str, Any], drawn: "RunDir | None" = None, report: bool = True) -> None:
    """Runs the stages on joined predictions, and writes the report and the numbers.

    Args:
        into: Where runs were joined.
        more: What its metrics have besides those of the stages.
        drawn: The only run that was joined, if there is one: its figures are taken, as they would be drawn again.
        report: Whether to write the report; that of a sweep of one combination is written with the table of its jobs.
    """
    from galaxyml.experiment import run_stages
    from galaxyml.reports import run_report, verdict
    from galaxyml.runs.run_dir import RunDir

    metrics = run_stages(into.config, into if drawn is None else RunDir(into.path, draws=False))
    for figure in drawn.figures() if drawn is not None else []:
        with atomic_write(into.path / "figures" / figure.name) as draft:
            shutil.copyfile(figure, draft)
    metrics = {**verdict.judge(into, metrics), **more}
    if report:
        run_report.write(into, metrics)
    into.write_metrics(metrics)


def show(run: "RunDir") -> None:
    """Prints a finished run's numbers and where its files are."""
    from galaxyml.kinds import of_run
    from galaxyml.reports import run_report, verdict
    from galaxyml.reports.terminal import print_table

    metrics, words, data = run.metrics(), of_run(run).words, run.provenance()["data"]
    print(f"\n{run.path}, on {data['source']}\n")
    for split in run_report.TITLES:
        cells = run_report.summary(metrics, split, words, intervals=False, left_out=words.wide)
        if cells:
            title = run_report.title(split, data.get("things", "galaxies"))
            print_table(title, run_report.turned(cells, words), wrap=True)
    if said := verdict.sentence(metrics):
        print(f"{said}\n")
    print(f"report      {run.path / 'report.html'}, report.md")
    if run.draws and run.figures():  # the learning curves alone are in the report
        print(f"figures     {run.path / 'figures'}/")
    if any(member.arrays("familiar") for member in run.nets()):
        print(f"predict new images: galaxyml predict {shlex.quote(str(run.path))} IMAGES… --out predictions.csv")
    for name in ("submission", "anomalies"):
        if (run.path / f"{name}.csv").is_file():
            print(f"{name:<12}{run.path / f'{name}.csv'}")


def _show_ranking(sweep: "RunDir", jobs: Sequence["Job"], joined: Sequence["RunDir"], verdict: "Verdict") -> None:
    """Prints which combination is best, and where the files are."""
    from galaxyml.reports.sweep_report import ranking_table, sentence
    from galaxyml.reports.terminal import print_table

    print(f"\n{sweep.path}, {len(jobs)} jobs\n")
    for split, ranking in verdict.by_split.items():
        cells = ranking_table(split, ranking, jobs, intervals=False)
        print_table(f"{ranking.objects:,} {split} {ranking.called}", cells[: 1 + SHOWN], left=1)
        if len(cells) > 1 + SHOWN:
            print(f"and {len(cells) - 1 - SHOWN} more, see the report")
    if verdict.by_split:
        print("Above the first: paired over the same objects, 95 % interval in brackets.\n")
    if said := sentence(jobs, joined, verdict):
        print(f"{said}\n")
    for note in verdict.notes:
        print(note)
    print(f"report      {sweep.path / 'report.html'}, report.md")
    print(f"joined      {sweep.path / 'joined'}/")
    if joined:
        best = joined[0].path
        print(f"predict     galaxyml predict {shlex.quote(str(best))} …, or another of these, --out predictions.csv")
