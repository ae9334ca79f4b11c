"""The launcher that runs one run after another, and the parts that all launchers share."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from galaxyml.runs import signals
from galaxyml.runs.errors import UserError
from galaxyml.runs.files import in_name, write_text
from galaxyml.runs.progress import heartbeat
from galaxyml.runs.provenance import COMMAND, command_line
from galaxyml.runs.run_lock import LAUNCH, folder_lock

if TYPE_CHECKING:
    from galaxyml.runs.run_dir import RunDir
    from galaxyml.sweeps.checks import Job
    from galaxyml.sweeps.run_job import Outcome


class SerialLauncher(Launcher):
    """Runs one after another, in this process, each with all of the machine."""

    @property
    def slots(self) -> int:
        """How many runs go on at once, at most."""
        return 1

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def refusal(self, jobs: "Sequence[Job]") -> str | None:
        """Why one of some runs cannot begin where this launcher runs them, in a sentence; None if all can."""
        from galaxyml.sweeps import checks

        return checks.refusal(jobs)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs all.

        Raises:
            UserError: If the launcher's settings do not fit together, or this machine; if another command has them run.
        """
        setup_globals()
        configs = [self.composed(words, number) for number, words in enumerate(job_overrides, start=initial_job_idx)]
        with self._claimed(configs):
            self.plan(configs)
            return self.launch_all(configs)

    def launch_all(self, configs: Sequence[DictConfig]) -> list[JobReturn]:
        """Runs all; gives the result of each, None for those that failed.

        Raises:
            UserError: If the launcher's settings do not fit together, or this machine.
        """
        if len(configs) == 1:
            return [self.returned(configs[0], run_by_itself(configs[0]).value)]
        from galaxyml.runs.run_dir import RunDir
        from galaxyml.sweeps.live_table import Board

        board = Board([RunDir(folder_of(config)) for config in configs], table=False)

        def line() -> str:
            board.read()
            return board.summary()

        results = []
        with heartbeat(line, of_all=True):
            for number, config in enumerate(configs):
                outcome = run_by_itself(config)
                board.ended(number, outcome.state, "")  # why it failed was printed by the run
                results.append(self.returned(config, outcome.value))
        return results

    def _claimed(self, configs: Sequence[DictConfig]) -> AbstractContextManager[None]:
        """A block in which no other command has the same runs made; trials of a search have owners of their own."""
        if trial_of(configs[0]) is not None:
            return nullcontext()
        return folder_lock(Path(self.config.hydra.sweep.dir) if len(configs) > 1 else folder_of(configs[0]), LAUNCH)

    def composed(self, overrides: Sequence[str], number: int) -> DictConfig:
        """The configuration of one run, as Hydra's own launchers make it."""
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
            folder = Path(config.hydra.sweep.dir) / str(config.hydra.sweep.subdir)
            config.hydra.runtime.output_dir = str(folder.absolute())
        return config

    def plan(self, configs: Sequence[DictConfig]) -> None:
        """Keeps in the sweep's folder which runs it consists of, and the command's configuration as Hydra does."""
        from galaxyml.runs.run_dir import PlannedJob, RunDir

        jobs = {
            folder_of(config).name: PlannedJob(
                list(config.hydra.overrides.task), config.fold, group_of(config), trial_of(config)
            )
            for config in configs
        }
        folder = Path(self.config.hydra.sweep.dir)
        RunDir(folder).plan(jobs)
        write_text(folder / "multirun.yaml", OmegaConf.to_yaml(self.config))

    def returned(self, config: DictConfig, value: float | None) -> JobReturn:
        """Hydra's record of a run that has ended, which its callbacks receive as well."""
        result = JobReturn(
            overrides=list(config.hydra.overrides.task),
            hydra_cfg=config,
            task_name=config.hydra.job.name,
            status=JobStatus.COMPLETED,
        )
        result.return_value = value
        self.hydra_context.callbacks.on_job_end(config=config, job_return=result)
        return result


def job(config: DictConfig) -> float | None:
    """Runs one run, for launchers that are not ours: Hydra calls it with a composed configuration."""
    from hydra.core.hydra_config import HydraConfig

    with_hydra = config.copy()
    OmegaConf.set_struct(with_hydra, False)
    with_hydra.hydra = HydraConfig.get()
    return run_by_itself(with_hydra).value


def run_by_itself(config: DictConfig) -> "Outcome":
    """Runs one run to its end.

    Raises:
        SystemExit: If the data's files cannot be used: all runs on them would fail alike.
        Stop: If a signal ended it.
    """
    from galaxyml.sweeps.run_job import Outcome

    try:
        outcome = run_prepared(prepare(config))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return Outcome("failed", None, str(error))
    if outcome.bad_data:
        sys.exit(1)
    return outcome


def run_prepared(run: "RunDir") -> "Outcome":
    """Runs a job: in this process, or in some of its own where several are to be started.

    Raises:
        Stop: If a signal ended it.
    """
    from galaxyml.sweeps.run_job import ended, run_job

    if not has_several_processes(run.config) or int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return run_job(run.path)
    began = time.time()
    environment = os.environ | {COMMAND: json.dumps(command_line())}
    process = subprocess.Popen(command(run), env=environment, start_new_session=True)
    outcome = ended(run, wait_for(process), began)
    if process.returncode < 0:
        print(f"{run.name}: {outcome.reason}", file=sys.stderr)
    return outcome


def wait_for(process: "subprocess.Popen[bytes]") -> int:
    """Waits for a job's end and hands signals on to it; gives its status.

    Raises:
        Stop: If a signal came, when the job has ended.
    """
    stop: signals.Stop | None = None
    with signals.watched():
        while process.returncode is None:
            try:
                process.wait()
            except signals.Stop as received:
                stop = stop or received
                process.send_signal(received.number)
    if stop is not None:
        raise stop
    return process.returncode


def prepare(config: DictConfig) -> "RunDir":
    """Writes the configuration of a run into its folder; on carrying on, makes sure that it is still the same.

    Raises:
        UserError: If it is not, or not that of the folds that it will be joined with; then nothing is written.
    """
    from galaxyml.runs.run_dir import RunDir

    run, own = RunDir(folder_of(config)), own_config(config)
    check_begun(own, run.path)
    run.start(own, list(config.hydra.overrides.task))
    return run


def own_config(config: DictConfig) -> DictConfig:
    """What a run keeps of its composed configuration: all but Hydra's part."""
    own, hydra = config.copy(), config.hydra
    OmegaConf.set_struct(own, False)
    del own["hydra"]
    own.name = str(config.name)  # it may be the time, which the job would read anew
    own.group = group_of(config)
    if (trial := trial_of(config)) is not None:
        study = {key: hydra.sweeper[key] for key in ("storage", "study_name")}
        own.search = {"trial": trial, **study, "pruner": OmegaConf.to_container(hydra.sweeper.pruner)}
    return own


def check_begun(own: DictConfig, folder: Path) -> None:
    """Makes sure that a run's configuration is that of its folder, and of the folds that it will be joined with.

    Raises:
        UserError: If another one has progress there.
    """
    from galaxyml.runs.run_config import check_same
    from galaxyml.runs.run_dir import RunDir

    for run in RunDir(folder.parent).children():
        if run.has_progress and (run.name == folder.name or run.group == own.group):
            check_same(run.path, run.config, own, besides=() if run.name == folder.name else ("fold",))


def has_several_processes(config: DictConfig) -> bool:
    """Whether a run may be the work of several processes, so that it needs some of its own."""
    usual = {"strategy": "auto", "devices": 1, "num_nodes": 1}
    return any(config.trainer.get(key, value) != value for key, value in usual.items())


def command(run: "RunDir") -> list[str]:
    """The command of a job that ends with this process."""
    return [sys.executable, "-m", "galaxyml", "job", str(run.path), "--attached"]


def folder_of(config: DictConfig) -> Path:
    """The folder of the run that a composed configuration is of."""
    return Path(config.hydra.runtime.output_dir)


def trial_of(config: DictConfig) -> int | None:
    """The number of the search's trial that a run belongs to."""
    return OmegaConf.select(config, "hydra.sweeper.trial")


def group_of(config: DictConfig) -> str:
    """The swept values besides the fold, such as `seed-1`; runs that differ in the fold alone share it."""
    trial = trial_of(config)
    return f"trial-{trial:03d}" if trial is not None else in_name(str(config.hydra.job.override_dirname))
