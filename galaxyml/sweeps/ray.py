"""The runs of a sweep as tasks of a Ray cluster."""

import os
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from galaxyml.runs import signals
from galaxyml.runs.errors import UserError
from galaxyml.sweeps.cluster import ClusterLauncher, extra
from galaxyml.sweeps.serial import run_prepared
from galaxyml.sweeps.worker import Job


def on_node(job: Job, variables: Mapping[str, str]) -> Any:
    """Runs a run in a process of Ray, which ends with it."""
    os.environ.update(variables)
    signals.install()
    job.settle()
    try:
        from galaxyml.runs.run_dir import RunDir

        return run_prepared(RunDir(job.run)).value
    except signals.Stop as stop:
        sys.exit(stop.status)


class RayLauncher(ClusterLauncher):
    """Each run a task of Ray, in a process of its own, on the cluster that is running or on this machine alone.

    If this process ends, Ray ends its tasks; the same command goes on with them.

    Args:
        address: Of the cluster; `auto` for the one that this machine belongs to, `local` to start one here.
        gpus_per_job: GPUs of a run, or a share of one; 0 for none.
        cpus_per_job: Cores of a run.
        resources: More that a run asks for, by the names that the cluster gives them.
        environment: Names or patterns of this shell's variables that a run has, too; the others are those of the shell
            that has started Ray.
    """

    def __init__(
        self,
        address: str = "auto",
        gpus_per_job: float = 1,
        cpus_per_job: float = 4,
        resources: Mapping[str, float] | None = None,
        environment: Sequence[str] = (),
    ) -> None:
        self.variables = {
            name: value for name, value in os.environ.items() if any(fnmatchcase(name, each) for each in environment)
        }
        self.address = address
        self.requested = {"num_gpus": gpus_per_job, "num_cpus": cpus_per_job, "resources": dict(resources or {})}

    @cached_property
    def ray(self) -> Any:
        """The package."""
        return extra("ray", "ray")

    @property
    def slots(self) -> int:
        self._connect()
        available = self.ray.cluster_resources()
        pairs = (("GPU", "num_gpus"), ("CPU", "num_cpus"))
        return max(
            1, min(int(available.get(name, 0) / self.requested[key]) for name, key in pairs if self.requested[key])
        )

    def submit(self, jobs: dict[int, Job]) -> None:
        self._connect()
        available = self.ray.cluster_resources()
        for name, key in (("GPU", "num_gpus"), ("CPU", "num_cpus")):
            if self.requested[key] > available.get(name, 0):
                raise UserError(
                    f"hydra.launcher.{name.lower()}s_per_job={self.requested[key]:g}: the cluster has "
                    f"{available.get(name, 0):g}. Give less."
                )
        # A fresh process for each run; one that dies is told as failed, and not tried again.
        remote = self.ray.remote(max_calls=1, max_retries=0, **self.requested)(on_node)
        self.references = {number: remote.remote(job, self.variables) for number, job in jobs.items()}

    def ended(self, number: int) -> str | None:
        ready, _ = self.ray.wait([self.references[number]], timeout=0)
        if not ready:
            return None
        try:
            self.ray.get(self.references[number])
        except Exception as error:  # whatever Ray makes of it
            return f"Ray says {type(error).__name__}"
        return ""

    def stop(self, number: int) -> None:
        for reference in self.references.values():
            self.ray.cancel(reference)  # as a SIGINT would

    def _connect(self) -> None:
        if self.ray.is_initialized():
            return
        try:
            self.ray.init(
                None if self.address == "local" else self.address,
                log_to_driver=False,
                logging_level="error",
                **({"include_dashboard": False} if self.address == "local" else {}),
            )
        except ConnectionError as error:
            raise UserError(
                f"hydra.launcher.address={self.address}: there is no Ray cluster. Start one with `ray start --head`, "
                "or give hydra.launcher.address=local."
            ) from error
