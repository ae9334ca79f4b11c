"""The runs of a sweep as jobs of a cluster, whose nodes share the folders of this machine."""

import os
import time
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from galaxyml.runs import signals
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_lock import WAIT
from galaxyml.sweeps import checks, forkserver
from galaxyml.sweeps.run_job import Outcome, ended
from galaxyml.sweeps.serial import SerialLauncher, folder_of, prepare, run_prepared
from galaxyml.sweeps.worker import Job

POLL_SECONDS = 2.0  # between two looks at the runs


class ClusterLauncher(SerialLauncher):
    """Hands all runs to a cluster, shows how far they are, and waits for their end.

    A run writes its status into its folder, which this machine and the nodes share.
    """

    def connect(self) -> None:
        """Makes sure that there is a cluster, and the package that speaks with it.

        Raises:
            UserError: If there is not.
        """
        raise NotImplementedError  # as for `submit`

    def submit(self, jobs: dict[int, Job]) -> None:
        """Hands runs to the cluster, by their numbers in the sweep."""
        raise NotImplementedError  # each kind of cluster has its own way

    def ended(self, number: int) -> str | None:
        """Why a run does not go on, in words, "" if it ended of itself; None while it waits or runs."""
        raise NotImplementedError  # as for `submit`

    def stop(self) -> None:
        """Ends all runs that have not ended, so that they keep their checkpoints."""
        raise NotImplementedError  # as for `submit`

    def refusal(self, jobs: Sequence[checks.Job]) -> str | None:
        self.connect()
        return forkserver.ask(partial(checks.refusal, jobs, on_this_machine=False))

    def launch_all(self, configs: Sequence[DictConfig]) -> list[JobReturn]:
        from galaxyml.runs.run_dir import RunDir, next_time
        from galaxyml.sweeps.live_table import Board

        self.runs = [RunDir(folder_of(config)) for config in configs]
        self.began = time.time()
        board = Board(self.runs)
        outcomes: dict[int, Outcome] = {}
        jobs: dict[int, Job] = {}
        for number, config in enumerate(configs):
            try:
                jobs[number] = Job(prepare(config).path, environment=None)
            except UserError as error:
                outcomes[number] = Outcome("failed", None, str(error))
        self.submit(jobs)
        stopping: int | None = None
        with signals.watched(), board.shown():
            for number, outcome in outcomes.items():
                board.ended(number, outcome.state, outcome.reason)
            while len(outcomes) < len(configs):
                try:
                    for number in jobs:
                        if number not in outcomes and (reason := self.ended(number)) is not None:
                            outcomes[number] = outcome = self._outcome(number, reason)
                            board.ended(number, outcome.state, outcome.reason)
                    board.look()
                    time.sleep(POLL_SECONDS)
                except signals.Stop as stop:
                    if stopping is not None:
                        break
                    stopping = stop.number
                    board.say("stopping: each run keeps what it has reached; a second signal does not wait for it")
                    self.stop()
        if stopping is not None:
            board.say(next_time(configs[0].name, self.runs))
            raise signals.Stop(stopping)
        return [self.returned(config, outcomes[number].value) for number, config in enumerate(configs)]

    def has_ended(self, number: int) -> bool:
        """Whether a run's folder says that it has come to an end since this command began, or is finished."""
        status = self.runs[number].status()
        new = (status.get("ended") or 0) > self.began
        return self.runs[number].finished or (new and status["state"] in ("failed", "pruned", "stopped"))

    def _outcome(self, number: int, reason: str) -> Outcome:
        """How a run has ended; the reason is the cluster's, for one that wrote none itself."""
        run = self.runs[number]
        if not self.has_ended(number):
            run.update_status(state="failed", reason=reason or "it ended and said nothing", ended=time.time())
        succeeded = run.finished or run.status()["state"] == "pruned"
        return ended(run, 0 if succeeded else 1, self.began)


def run_on_node(job: Job) -> float | None:
    """Runs a run in this process of a node; gives the metric that it monitors."""
    from galaxyml.runs.run_dir import RunDir

    signals.install()
    job.set_up_process()
    # Where a node is lost, its folder is free only when it has given no sign of life for a while.
    os.environ[WAIT] = "1"
    return run_prepared(RunDir(job.run)).value


def extra(package: str, name: str) -> Any:
    """A package that only one launcher needs.

    Raises:
        UserError: If it is not installed.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(f"The package {package} is not installed: pip install 'galaxyml[{name}]'") from error
