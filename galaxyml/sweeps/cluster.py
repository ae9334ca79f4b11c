"""The runs of a sweep as jobs of a cluster, whose nodes share the folders of this machine."""

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from galaxyml.runs import signals
from galaxyml.sweeps.serial import SerialLauncher, folder_of
from galaxyml.sweeps.worker import Slot, Task

if TYPE_CHECKING:
    from galaxyml.runs.run_dir import RunDir
    from galaxyml.sweeps.live_table import Board


class ClusterLauncher(SerialLauncher):
    """Hands all runs to a cluster, shows how far they are, and waits for their end.

    A run tells of itself in its folder, which this machine and the nodes share.
    """

    every = 2.0  # seconds between two looks

    def submit(self, tasks: dict[int, Task]) -> None:
        """Hands runs to the cluster, by their place in the sweep."""
        raise NotImplementedError  # each kind of cluster has its own way

    def ended(self, at: int) -> str | None:
        """Why a run does not go on, in words, "" if it ended of itself; None while it waits or runs."""
        raise NotImplementedError  # as for `submit`

    def stop(self, number: int) -> None:
        """Hands a signal on to all runs that are not ended."""
        raise NotImplementedError  # as for `submit`

    def launch_all(self, configs: Sequence[DictConfig]) -> list[JobReturn]:
        from galaxyml.runs.run_dir import RunDir
        from galaxyml.sweeps.live_table import Board

        self.folders = folders = [RunDir(folder_of(config)) for config in configs]
        self.begun = time.time()
        self.submit({at: self._task(config) for at, config in enumerate(configs)})
        board = Board([folder.path for folder in folders])
        values: dict[int, float | None] = {}
        stopping: int | None = None
        with signals.watched(), board.shown():
            while len(values) < len(configs):
                try:
                    for at, folder in enumerate(folders):
                        if at not in values and (why := self.ended(at)) is not None:
                            values[at] = self._value(folder, board, at, why)
                    board.look()
                    time.sleep(self.every)
                except signals.Stop as stop:
                    if stopping is not None:
                        break
                    stopping = stop.number
                    board.say("stopping: each run keeps what it has reached; a second signal does not wait for it")
                    self.stop(stop.number)
        if stopping is not None:
            board.say(f"The same command with name={configs[0].name} carries on.")
            raise signals.Stop(stopping)
        return [self.returned(config, values[at]) for at, config in enumerate(configs)]

    def told_end(self, at: int) -> bool:
        """Whether a run's folder tells that it has come to an end since this command began, or is finished."""
        status = self.folders[at].status()
        new = (status.get("ended") or 0) > self.begun
        return self.folders[at].finished or (new and status["state"] in ("failed", "pruned", "stopped"))

    def _value(self, folder: "RunDir", board: "Board", at: int, why: str) -> float | None:
        """The monitored metric of a run that has ended; None if it failed."""
        if not self.told_end(at):
            folder.update_status(state="failed", reason=why or "it ended and said nothing", ended=time.time())
        status = folder.status()
        state = "finished" if folder.finished else status["state"]
        well = state in ("finished", "pruned")
        board.ended(at, state, "" if well else str(status.get("reason") or ""))
        if "value" in status or not well:
            return status["value"] if well else None
        return folder.metrics().get(folder.config.monitor)  # of a run from before there was a status

    def _task(self, config: DictConfig) -> Task:
        slot = Slot("", None, None)
        return Task(config, self.task_function, None, os.getcwd(), list(sys.path), list(sys.orig_argv), slot)


def extra(package: str, name: str) -> Any:
    """A package that only one launcher needs.

    Raises:
        UserError: If it is not installed.
    """
    from importlib import import_module

    from galaxyml.runs.errors import UserError

    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(f"hydra/launcher={name} needs the package {package}: pip install 'galaxyml[{name}]'") from error
