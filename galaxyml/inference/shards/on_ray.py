"""Shards made by actors of a Ray cluster, each with a predictor of its own; its nodes share the folder."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from galaxyml.inference.shards.engine import ADVICE, LOOK_SECONDS, TRIES, Engine
from galaxyml.inference.shards.folder import Result
from galaxyml.inference.shards.worker import Order, ShardWorker, worker_of
from galaxyml.runs import signals
from galaxyml.runs.errors import UserError
from galaxyml.sweeps.ray import RayLauncher
from galaxyml.sweeps.worker import Slot

ENVIRONMENT = ("GALAXYML_*", "HF_*")
OPTIONS = {"address": "--engine address", "GPU": "--engine gpus", "CPU": "--engine cpus"}  # as errors call them


class Actor:
    """Makes shards one after the other.

    Args:
        order: See there.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.worker: ShardWorker | None = None

    def predict(self, shard: int) -> Result:
        """Makes a shard; the predictor is loaded for the first one."""
        if self.worker is None:
            self.order.set_up_process()
            self.worker = worker_of(self.order)
        return self.worker.predict(shard)


class OnRay(Engine):
    """Actors of the cluster that is running, or of one of this machine alone.

    Args:
        workers: How many actors; None for as many as the cluster has room for.
        address: Of the cluster; `auto` for the one that this machine belongs to, `local` to start one here.
        cpus: Cores of an actor, which are its threads.
        gpus: GPUs of an actor, or a share of one.
        environment: Names or patterns of this shell's variables that an actor has, too.
    """

    def __init__(
        self,
        workers: int | None = None,
        address: str = "auto",
        cpus: float = 1,
        gpus: float = 0,
        environment: Sequence[str] = ENVIRONMENT,
    ) -> None:
        self.launcher = RayLauncher(address, gpus, cpus, environment=environment)
        self.launcher.options = OPTIONS
        self.workers, self.threads = workers, max(1, int(cpus))
        self.waiting: deque[int] = deque()
        self.stopping = False
        self.running: dict[Any, tuple[Any, int]] = {}  # actors and shards by what they will answer

    def make(self, order: Order, shards: Sequence[int]) -> Iterator[Result | None]:
        self.waiting = deque(shards)
        self.tries: Counter[int] = Counter()
        self.launcher.check_room()
        count = min(self.workers or self.launcher.slots, len(shards))
        signals.install()  # Ray's own handler of SIGTERM aborts this process
        order = replace(order, slot=Slot("Ray", None, self.threads), environment=self.launcher.variables)
        try:
            for _ in range(count):
                self._hand_out(self._actor(order))
            while self.running:
                ready = self._wait()
                if not ready:
                    yield None
                for reference in ready:
                    if (result := self._result(reference, order)) is not None:
                        yield result
        finally:
            self.kill()

    def stop(self) -> None:
        self.stopping = True
        self.waiting.clear()

    def kill(self) -> None:
        for actor, _ in self.running.values():
            self.launcher.ray.kill(actor)
        self.running.clear()

    def _wait(self) -> list[Any]:
        """What is answered, after a moment."""
        try:
            return list(self.launcher.ray.wait([*self.running], timeout=LOOK_SECONDS)[0])
        except SystemError as error:  # as which Ray tells of what a handler of signals raises
            if isinstance(error.__cause__, signals.Stop):
                raise error.__cause__ from None
            raise

    def _actor(self, order: Order) -> Any:
        requested: Mapping[str, Any] = {**self.launcher.requested, "max_restarts": 0}
        return self.launcher.ray.remote(**requested)(Actor).remote(order)

    def _hand_out(self, actor: Any) -> None:
        """Gives an actor the next shard; one that has none left goes."""
        if not self.waiting:
            self.launcher.ray.kill(actor)
            return
        shard = self.waiting.popleft()
        self.running[actor.predict.remote(shard)] = actor, shard

    def _result(self, reference: Any, order: Order) -> Result | None:
        actor, shard = self.running.pop(reference)
        errors = self.launcher.ray.exceptions
        try:
            result: Result = self.launcher.ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from None
            raise UserError(f"A process that predicts has failed:\n{error}") from None
        except errors.RayError as error:  # its process or its node is gone
            self.tries[shard] += 1
            if self.tries[shard] >= TRIES:
                raise UserError(f"The process that makes shard {shard} was lost {TRIES} times. {ADVICE}") from error
            if not self.stopping:
                self.waiting.appendleft(shard)
                self._hand_out(self._actor(order))
            return None
        self._hand_out(actor)
        return result
