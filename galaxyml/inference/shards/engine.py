"""Engines, which have shards made: the contract, and the processes of this machine."""

import os
import signal
import sys
import traceback
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from galaxyml.inference.shards.folder import Result
from galaxyml.inference.shards.worker import Order, worker_of
from galaxyml.runs.errors import UserError
from galaxyml.sweeps import forkserver
from galaxyml.sweeps.pool import PoolLauncher
from galaxyml.sweeps.worker import Slot

TRIES = 2  # of a shard whose process dies
LOOK_SECONDS = 0.25


class Engine(ABC):
    """Has shards made, each by one process that has a predictor loaded.

    A shard whose process or machine is lost is made once more by another.
    """

    @abstractmethod
    def make(self, order: Order, shards: Sequence[int]) -> Iterator[Result | None]:
        """Has shards made.

        Args:
            order: For each process; its slot is the engine's to choose.
            shards: Their numbers.

        Yields:
            Shards that are done, in any order; None now and then meanwhile.

        Raises:
            UserError: If a shard cannot be made.
        """

    @abstractmethod
    def stop(self) -> None:
        """Begins no more shards; those that are being made come to their end."""

    @abstractmethod
    def kill(self) -> None:
        """Ends all of its processes at once."""


@dataclass
class _Process:
    process: BaseProcess
    connection: Connection
    slot: Slot
    shard: int | None = None  # that it makes
    ready: bool = False


class Here(Engine):
    """The processes of this machine: one a GPU, or without one as many as cores, each with one thread.

    Args:
        workers: How many; None for as many. Several may share a GPU, so that images are decoded by several processes.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers
        self.running: list[_Process] = []
        self.stopping = False

    def make(self, order: Order, shards: Sequence[int]) -> Iterator[Result | None]:
        self.waiting = deque(shards)
        self.tries: Counter[int] = Counter()
        slots = _shared(PoolLauncher(processes=self.workers or "auto").slots_for(len(shards)), self.workers)
        try:
            for slot in slots:
                self._start(order, slot)
            while self.running:
                yield from self._look(order)
        finally:
            self.kill()

    def stop(self) -> None:
        self.stopping = True
        self.waiting.clear()

    def kill(self) -> None:
        for own in self.running:
            own.process.kill()
            own.process.join()
        self.running.clear()

    def _start(self, order: Order, slot: Slot) -> None:
        context = forkserver.context()
        connection, other = context.Pipe()
        process = context.Process(
            target=_work, args=(replace(order, slot=slot, environment=dict(os.environ)), other), daemon=True
        )
        process.start()
        other.close()
        self.running.append(_Process(process, connection, slot))

    def _look(self, order: Order) -> Iterator[Result | None]:
        """Waits a moment for answers, and hands out shards."""
        waited: list[Any] = [own.connection for own in self.running]
        found = wait(waited, timeout=LOOK_SECONDS)
        if not found:
            yield None
        for own in [own for own in self.running if own.connection in found]:
            try:
                answer = own.connection.recv()
            except (EOFError, OSError):
                self._lost(own, order)
                continue
            if isinstance(answer, str):
                raise UserError(answer)
            if isinstance(answer, Result):
                yield answer
            own.shard = self.waiting.popleft() if self.waiting else None
            try:
                own.connection.send(own.shard)
            except OSError:
                if own.shard is not None:
                    self._lost(own, order)
                    continue
            if own.shard is None:
                own.process.join()
                self.running.remove(own)

    def _lost(self, own: _Process, order: Order) -> None:
        """A process has died: its shard goes to a new one."""
        own.process.join()
        self.running.remove(own)
        code = own.process.exitcode or 0
        how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with status {code}"
        if own.shard is None:
            raise UserError(f"A process that predicts {how} before it began. {ADVICE}")
        self.tries[own.shard] += 1
        if self.tries[own.shard] >= TRIES:
            raise UserError(f"The process that makes shard {own.shard} {how}, {TRIES} times. {ADVICE}")
        if not self.stopping:
            self.waiting.appendleft(own.shard)
            self._start(order, own.slot)


def _shared(slots: list[Slot], workers: int | None) -> list[Slot]:
    """Slots for so many processes, where there are fewer GPUs than that."""
    if workers is None or workers <= len(slots) or slots[0].gpus is None:
        return slots
    return [
        replace(slots[number % len(slots)], threads=max(1, (slots[0].threads or 1) * len(slots) // workers))
        for number in range(workers)
    ]


ADVICE = "There may be too little memory: give --workers fewer, then the same command goes on."


def _work(order: Order, connection: Connection) -> None:
    """Makes the shards whose numbers come, until None does; answers each, or the error that ends it."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the command decides when shards end
        signal.signal(number, signal.SIG_IGN)
    forkserver.end_with_parent(signal.SIGKILL)
    try:
        order.set_up_process()
        worker = worker_of(order)
        connection.send(None)
        while (shard := connection.recv()) is not None:
            connection.send(worker.predict(shard))
    except UserError as error:
        connection.send(str(error))
    except EOFError:
        pass
    except BaseException:
        with suppress(OSError):
            connection.send(f"A process that predicts has failed:\n{traceback.format_exc()}")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
