"""The runs of a sweep as tasks of a Ray cluster."""

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from galaxyml.runs import signals
from galaxyml.runs.errors import UserError
from galaxyml.sweeps.cluster import ClusterLauncher, extra, run_on_node
from galaxyml.sweeps.worker import Job

CONNECT_SECONDS = 10
RESOURCES = {"GPU": "num_gpus", "CPU": "num_cpus"}  # what a cluster has, and what a task asks of it
OPTIONS = {  # of a launcher, as errors call them
    "address": "hydra.launcher.address",
    "GPU": "hydra.launcher.gpus_per_job",
    "CPU": "hydra.launcher.cpus_per_job",
}


def on_node(job: Job, variables: Mapping[str, str]) -> float | None:
    """Runs a run in a process of Ray, which ends with it."""
    os.environ.update(variables)
    try:
        return run_on_node(job)
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

    Attributes:
        options: What errors call the options of Ray.
    """

    options: Mapping[str, str] = OPTIONS

    def __init__(
        self,
        address: str = "auto",
        gpus_per_job: float = 1,
        cpus_per_job: float = 4,
        resources: Mapping[str, float] | None = None,
        environment: Sequence[str] = (),
    ) -> None:
        self.variables = {
            name: value
            for name, value in os.environ.items()
            if any(fnmatchcase(name, pattern) for pattern in environment)
        }
        self.address = address
        self.requested = {"num_gpus": gpus_per_job, "num_cpus": cpus_per_job, "resources": dict(resources or {})}

    @cached_property
    def ray(self) -> Any:
        """The package."""
        return extra("ray", "ray")

    @property
    def slots(self) -> int:
        self.connect()
        available = self.ray.cluster_resources()
        wanted = {name: self.requested[key] for name, key in RESOURCES.items() if self.requested[key]}
        return max(1, min((int(available.get(name, 0) / count) for name, count in wanted.items()), default=1))

    def check_room(self) -> None:
        """Makes sure that the cluster can take a run.

        Raises:
            UserError: If there is none, or it has too little.
        """
        self.connect()
        resources = self.ray.cluster_resources()
        for name, key in RESOURCES.items():
            wanted, available = self.requested[key], resources.get(name, 0)
            if wanted > available:
                raise UserError(f"{self.options[name]}={wanted:g}: the cluster has {available:g}. Give less.")

    def submit(self, jobs: dict[int, Job]) -> None:
        self.check_room()
        # A fresh process for each run; one that dies counts as failed, and is not tried again.
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

    def stop(self) -> None:
        for reference in self.references.values():
            self.ray.cancel(reference)  # as a SIGINT would

    def connect(self) -> None:
        if self.ray.is_initialized():
            return
        try:
            _reach(self.address)
            self.ray.init(
                None if self.address == "local" else self.address,
                log_to_driver=False,
                logging_level="error",
                include_dashboard=False if self.address == "local" else None,
            )
        except OSError as error:  # a ConnectionError, or that no such machine is known
            option = self.options["address"]
            raise UserError(
                f"{option}={self.address}: no Ray cluster answers. Start one with `ray start --head`, or give "
                f"{option}=local; for a cluster that asks for a token, set RAY_AUTH_MODE=token."
            ) from error
        except getattr(self.ray.exceptions, "AuthenticationError", ()) as error:  # older versions have no tokens
            raise UserError(
                "RAY_AUTH_MODE=token, and there is no token. Put the Ray cluster's into ~/.ray/auth_token, or into "
                "RAY_AUTH_TOKEN."
            ) from error


def _reach(address: str) -> None:
    """Makes sure that something listens where a cluster should, for which Ray itself waits a quarter of an hour.

    Args:
        address: Such as `10.0.0.1:6379`; anything without a port is Ray's to find.

    Raises:
        OSError: If nothing does.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
