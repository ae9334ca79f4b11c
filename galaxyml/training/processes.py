"""Brings together the processes that work on one job: starts them, or meets those that torchrun or srun started.

The process that the user's command runs in leads. The others know nothing of the command line or of a sweep: they wait
for jobs, which are a composed configuration and a folder, and do of them what the leader does, but for writing.
"""

import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, NoReturn

import torch
import torch.distributed as dist
from omegaconf import DictConfig, OmegaConf

from galaxyml.runs import ranks
from galaxyml.runs.errors import UserError
from galaxyml.runs.files import read_only
from galaxyml.runs.ranks import Place
from galaxyml.runs.signals import Stop
from galaxyml.training.hardware import on_gpu
from galaxyml.training.pruning import Pruned

log = logging.getLogger(__name__)

PATIENCE = timedelta(days=30)  # a survey takes long to decode
COLLECTIVE = timedelta(minutes=30)  # after which a step that one process does not take is given up
GRACE = 5.0  # seconds in which the leader should see by itself that another process has ended
# What a started process runs; the path first, so that it imports what the leader does.
CODE = """\
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from galaxyml.training.processes import serve
serve()
"""


@contextmanager
def together(config: DictConfig, folder: Path) -> Iterator[Callable[[], None]]:
    """A job that as many processes work on as its configuration asks for; this one leads.

    They are started at the beginning of the block, and have ended with it, however it ends. If one of them ends before,
    the leader does, too.

    Args:
        config: With `trainer` and `batch_size`.
        folder: The run's folder.

    Yields:
        What calls the others to the job, once what is made only once has been made; from then on, all of them have to
        do the same.

    Raises:
        UserError: If the job cannot be dealt out so, or one of the processes has failed.
    """
    asked, found = ranks.requested_world(config.trainer), ranks.rank_from_env()
    _check(config, asked, found)
    if asked.size == 1:
        yield lambda: None
        return
    job = pickle.dumps((OmegaConf.to_container(config, resolve=True), folder.resolve()))
    threads = torch.get_num_threads()
    with _Met() if found.size > 1 else _Started(asked) as others:
        try:
            yield lambda: others.call(job)
            others.release()
        except BaseException as error:
            others.gone_with(error)
            raise
        finally:
            torch.set_num_threads(threads)


def _check(config: DictConfig, asked: Place, found: Place) -> None:
    """Refuses what cannot be dealt out.

    Raises:
        UserError: If there are fewer rows in a batch than processes, or other processes than were asked for.
    """
    size = asked.size
    if found.size > 1 and (found.size, found.local_size) != (size, asked.local_size):
        raise UserError(
            f"{found.size} processes were started, {found.local_size} on each of {found.nodes} machines, but the "
            f"trainer is for {asked.local_size} on each of {asked.nodes}. Set trainer=ddp, "
            f"trainer.devices={found.local_size} and trainer.num_nodes={found.nodes}."
        )
    if found.size == 1 and asked.nodes > 1:
        raise UserError(
            f"trainer.num_nodes={asked.nodes}: start a process for each GPU of each machine by srun or torchrun, such "
            f"as srun --nodes={asked.nodes} --ntasks-per-node={asked.local_size} python -m galaxyml …"
        )
    if config.batch_size < size:
        raise UserError(
            f"batch_size={config.batch_size}: it is dealt out to {size} processes; give {size} or more, or set "
            "trainer.devices to fewer."
        )
    if size > 1 and on_gpu(config.trainer.accelerator) and torch.cuda.device_count() < asked.local_size:
        raise UserError(
            f"trainer.devices={asked.local_size}: this process sees {torch.cuda.device_count()} GPUs. Set fewer, or "
            "give it all of them (with SLURM, --gpus-per-node and no --gpus-per-task)."
        )


# --- the leader's view of the others


class _Others:
    """The other processes of a job."""

    store: Any
    place: Place
    number = 0

    def call(self, job: bytes) -> None:
        """Calls them to a job."""
        self.store.set(f"job/{self.number}", job)
        _join(self.store, self.place, self.number, job)

    def release(self) -> None:
        """Lets them go: what they have said last has arrived, which their end could have cut off."""
        self.store.set(f"over/{self.number}", b"")

    def gone_with(self, error: BaseException) -> None:
        """Explains an error by one of another process, if it follows from that; the leader's own error stays.

        Raises:
            UserError: The other one's.
        """


class _Started(_Others):
    """Processes that this one starts on its own machine for one job."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.over = threading.Event()
        self.lost = threading.Event()
        self.lost_rank, self.lost_status = 0, 0

    def __enter__(self) -> "_Started":
        # Port 0 is any that is free.
        self.store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=PATIENCE)
        self.said: list[IO[bytes]] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        for rank in range(1, self.place.size):
            said = tempfile.TemporaryFile()  # it lives as long as the process
            process = subprocess.Popen(
                [sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
            )
            self.said.append(said)
            self.processes.append(process)
            place = Place(rank, self.place.size, rank, self.place.size)
            assert process.stdin is not None
            # Left open: a process ends when its own end closes, which it does however this process ends.
            process.stdin.write(pickle.dumps(sys.path) + pickle.dumps((self.store.port, place)))
            process.stdin.flush()
            threading.Thread(target=self._watch, args=(rank, process), daemon=True).start()
        return self

    def gone_with(self, error: BaseException) -> None:
        if not isinstance(error, RuntimeError | KeyboardInterrupt | Stop):  # of a broken connection, or from `_watch`
            return
        # Its connections break a little before a process has ended.
        if self.lost.wait(GRACE if isinstance(error, RuntimeError) and ranks.size() > 1 else 0):
            raise self._reason() from error

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.over.set()
        deadline = time.monotonic() + (GRACE if error is None else 0)
        for process in self.processes:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()
        _part(broken=error is not None)
        for said in self.said:
            said.close()

    def _watch(self, rank: int, process: "subprocess.Popen[bytes]") -> None:
        """Waits for a process to end; ends the job with it if that is too early."""
        status = process.wait()
        if status == 0 or self.over.is_set() or self.lost.is_set():
            return
        self.lost_rank, self.lost_status = rank, status
        self.lost.set()
        if self.over.wait(GRACE):
            return
        import _thread

        _thread.interrupt_main()  # it is not on its way to meet the others
        if not self.over.wait(GRACE):  # it waits for them on a GPU, where nothing reaches it
            log.error("error: %s", self._reason())
            for other in self.processes:
                other.kill()
            os._exit(1)

    def _reason(self) -> Exception:
        """Why the first process that was lost has ended."""
        which = f"process {self.lost_rank + 1} of {self.place.size}"
        if self.store.check([key := f"failed/{self.lost_rank}"]):
            kind, text = pickle.loads(self.store.get(key))
            return kind(text) if issubclass(kind, UserError) else RuntimeError(f"{which} failed:\n{text}")
        said = self.said[self.lost_rank - 1]
        said.seek(0)
        last = said.read().decode(errors="replace").strip().splitlines()[-5:]
        if self.lost_status < 0:
            name = signal.Signals(-self.lost_status).name
            why = " (the system does so where memory is short)" if name == "SIGKILL" else ""
            return UserError(f"{which} was ended by {name}{why}. The same command carries on.")
        return RuntimeError("\n".join([f"{which} ended with status {self.lost_status}:", *last]))


class _Met(_Others):
    """Processes that torchrun or srun has started beside this one; they stay for the next job."""

    store: Any = None
    jobs = 0

    def __enter__(self) -> "_Met":
        if ranks.size() > 1:
            raise UserError("An earlier run of this command has failed, and its processes with it. Start it again.")
        self.place = ranks.rank_from_env()
        self.store = meet()
        self.number = _Met.jobs
        return self

    def call(self, job: bytes) -> None:
        _Met.jobs += 1
        super().call(job)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, Stop | Pruned):
            _part(broken=False)


def meet() -> Any:
    """The store by which processes that were started from outside find each other; the same at each call."""
    if _Met.store is None:
        place = ranks.rank_from_env()
        if "SLURM_STEP_NODELIST" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
            job = int(os.environ["SLURM_JOB_ID"]) * 100 + int(os.environ["SLURM_STEP_ID"])
            os.environ["MASTER_ADDR"] = ranks.first_host(os.environ["SLURM_STEP_NODELIST"])
            os.environ["MASTER_PORT"] = str(20_000 + job % 10_000)
        rendezvous = dist.rendezvous("env://", place.rank, place.size, timeout=COLLECTIVE)
        _Met.store = next(iter(rendezvous))[0]
        _Met.store.set_timeout(PATIENCE)
    return _Met.store


def dismiss() -> None:
    """Tells processes that were started from outside that no job follows."""
    store = meet()
    store.set(f"job/{_Met.jobs}", b"")
    if ranks.size() > 1:  # they have failed
        return
    with suppress(RuntimeError):  # none of them may be there any more
        store.wait([f"left/{rank}" for rank in range(1, ranks.rank_from_env().size)], timedelta(seconds=GRACE))


# --- the others


def serve() -> None:
    """What a started process does: the leader's job, and nothing after it."""
    port, place = pickle.load(sys.stdin.buffer)
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # what the leader does about it is for it to say
    threading.Thread(target=_end_with_the_leader, daemon=True).start()
    store = dist.TCPStore("127.0.0.1", port, is_master=False, timeout=PATIENCE)
    _silence()
    try:
        _follow(store, place, 0)
    except (SystemExit, KeyboardInterrupt):  # all of them have agreed to stop
        os._exit(0)
    except BaseException as error:
        _fail(store, place, error)
    os._exit(0)  # at once: threads of torch may still wait for others


def serve_met() -> None:
    """What a process does that torchrun or srun has started beside the leader: one job after the other."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)  # the leader gets them, too
    place, number = ranks.rank_from_env(), 0
    store = meet()
    _silence()
    try:
        while _follow(store, place, number):
            _part(broken=False)
            number += 1
    except Exception:  # whatever it is, the leader must not wait for this process
        logging.basicConfig()
        log.exception("process %s of %s failed", place.rank + 1, place.size)
        os._exit(1)
    store.set(f"left/{place.rank}", b"")


def _follow(store: Any, place: Place, number: int) -> bool:
    """Waits for a job and does it; whether there was one."""
    from galaxyml import experiment

    store.wait([f"job/{number}"], PATIENCE)
    if not (job := store.get(f"job/{number}")):
        return False
    config, folder = pickle.loads(job)
    _join(store, place, number, job)
    with read_only(folder):
        experiment.follow(OmegaConf.create(config), folder)
    store.wait([f"over/{number}"], PATIENCE)
    return True


def _end_with_the_leader() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _fail(store: Any, place: Place, error: BaseException) -> NoReturn:
    """Leaves word of an error and ends."""
    import traceback

    told = error
    while told.__cause__ is not None and not isinstance(told, UserError):  # Hydra wraps what a constructor raises
        told = told.__cause__
    said = (type(told), str(told)) if isinstance(told, UserError) else (RuntimeError, traceback.format_exc())
    store.set(f"failed/{place.rank}", pickle.dumps(said))
    os._exit(1)


def _silence() -> None:
    """Leaves it to the leader to say what there is to say."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives


# --- all of them


def _join(store: Any, place: Place, number: int, job: bytes) -> None:
    """Makes a group of all processes of a job."""
    config, _ = pickle.loads(job)
    backend, device = "gloo", None
    if on_gpu(config["trainer"]["accelerator"]):
        backend, device = "cpu:gloo,cuda:nccl", torch.device("cuda", place.local_rank)
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend,
        timeout=COLLECTIVE,
        store=dist.PrefixStore(f"group/{number}", store),
        rank=place.rank,
        world_size=place.size,
        device_id=device,
    )
    ranks.enter(place, dist.new_group(backend="gloo", timeout=PATIENCE))
    if "OMP_NUM_THREADS" not in os.environ:  # else each process would use all cores
        torch.set_num_threads(max((os.cpu_count() or 1) // place.local_size, 1))


def _part(broken: bool) -> None:
    """Leaves the group."""
    if not dist.is_initialized():
        return
    if broken and dist.get_backend() != "gloo":
        dist.distributed_c10d._abort_process_group()  # others that are gone would be waited for
    else:
        dist.destroy_process_group()
    ranks.leave()
