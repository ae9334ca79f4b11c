"""The processes that work on one job together: which of them this one is, and what they tell each other.

A job that runs in one process is a group of one, for which nothing here does or costs anything. The process that the
user's command runs in has rank 0; it leads: it alone writes, prints and judges. `galaxyml.training.processes` brings
the group together. torch is imported only where there are several.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from galaxyml.runs.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where a process stands among those of a job; all machines have equally many.

    Attributes:
        rank: From 0 to size - 1.
        size: Processes of the job.
        local_rank: Rank among the processes of the same machine, and so the number of its GPU.
        local_size: Processes of the same machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def nodes(self) -> int:
        """Machines of the job."""
        return self.size // self.local_size


class _Group:
    """The group that this process belongs to now."""

    def __init__(self) -> None:
        self.place = Place()
        self.patient: Any = None  # a process group on CPUs that waits for as long as it takes
        self.asked: Any = None  # the answer to the last question of `any`, under way
        self.stream: Tensor | None = None  # where the random numbers stand that all processes draw alike


_group = _Group()


def enter(place: Place, patient: Any) -> None:
    """Makes this process one of several.

    Args:
        place: Where it stands.
        patient: A process group of all of them, for tensors on CPUs, that waits for as long as it takes.
    """
    _group.place, _group.patient = place, patient


def leave() -> None:
    """Makes this process one by itself again."""
    global _group
    _group = _Group()


def place() -> Place:
    """Where this process stands."""
    return _group.place


def size() -> int:
    """Processes of the job."""
    return _group.place.size


def is_rank_zero() -> bool:
    """Whether this process is the one that writes, prints and judges, as one by itself is."""
    return _group.place.rank == 0


# --- before there is a group


def rank_from_env() -> Place:
    """Where another program has put this process, which has started several: torchrun, or SLURM's srun.

    Raises:
        UserError: If it did not start equally many on all machines.
    """
    found = os.environ
    if "TORCHELASTIC_RUN_ID" in found:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        place = Place(*(int(found[name]) for name in names))
    elif int(found.get("SLURM_STEP_NUM_TASKS", 1)) > 1:  # SLURM_NTASKS is there in a batch script, too
        tasks, nodes = int(found["SLURM_STEP_NUM_TASKS"]), int(found["SLURM_STEP_NUM_NODES"])
        place = Place(int(found["SLURM_PROCID"]), tasks, int(found["SLURM_LOCALID"]), -(-tasks // nodes))
    else:
        return Place()
    if place.size % place.local_size:
        raise UserError(
            f"{place.size} processes are not equally many on each machine. Start as many as a machine has GPUs: "
            "srun --ntasks-per-node=N, or torchrun --nproc-per-node=N."
        )
    return place


def first_host(hosts: str) -> str:
    """The first of SLURM's list of machines.

    >>> first_host("gpu[03-05,9],login1"), first_host("a-1,a-2")
    ('gpu03', 'a-1')
    """
    found = re.match(r"([^,\[]+)(?:\[(\w+))?", hosts)
    assert found is not None
    return found.group(1) + (found.group(2) or "")


def requested_world(trainer: Mapping[str, Any]) -> Place:
    """What a configuration asks for: the place of its leader.

    Args:
        trainer: The configuration's `trainer`: `accelerator`, `devices` (a number; auto or -1 for all GPUs that are
            there, or one CPU; or a list of GPUs) and, if there are several machines, `num_nodes`.

    Raises:
        UserError: If `devices` or `num_nodes` is none of these.
    """
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    if devices in ("auto", -1, "-1"):
        count = _gpus() if trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda") else 1
    elif isinstance(devices, int) and not isinstance(devices, bool):
        count = devices
    elif isinstance(devices, str | bool):
        count = 0
    else:
        count = len(devices)
    if count < 1:
        raise UserError(f"trainer.devices={devices}: it must be a whole number, 1 or more, auto, or a list of GPUs.")
    if not isinstance(nodes, int) or isinstance(nodes, bool) or nodes < 1:
        raise UserError(f"trainer.num_nodes={nodes}: it must be a whole number, 1 or more.")
    return Place(size=count * nodes, local_size=count)


def _gpus() -> int:
    """GPUs that this process can see, or 1 where there is none."""
    import torch

    return max(torch.cuda.device_count(), 1)


# --- what they tell each other


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """A block that the leader runs before the others do, so that they find what it has made."""
    if not is_rank_zero():
        barrier()
    yield
    if is_rank_zero():
        barrier()


def barrier() -> None:
    """Waits until all processes have come here, for as long as it takes."""
    if size() > 1:
        import torch.distributed as dist

        dist.barrier(group=_group.patient)


def broadcast(value: T) -> T:
    """What the leader says of something that each may see otherwise, such as whether a file is there yet."""
    if size() == 1:
        return value
    import torch.distributed as dist

    said = [value]
    dist.broadcast_object_list(said, src=0, group=_group.patient)
    return said[0]


def gather_objects(value: T) -> list[T]:
    """What each process has, by rank; for the leader alone, and nothing for the others."""
    if size() == 1:
        return [value]
    import torch.distributed as dist

    found: list[Any] | None = [None] * size() if is_rank_zero() else None
    dist.gather_object(value, found, dst=0, group=_group.patient)
    return found or []


def any_rank(flag: bool) -> bool:
    """Whether any process has said yes; the same for all of them, which all have to ask, as often and in one order.

    Of several processes, it is what they said the time before, so that none of them waits for the others.
    """
    if size() == 1:
        return flag
    import torch
    import torch.distributed as dist

    before, said = _group.asked, torch.tensor([int(flag)])
    _group.asked = dist.all_reduce(said, dist.ReduceOp.MAX, group=_group.patient, async_op=True), said
    if before is None:
        return False
    before[0].wait()
    return bool(before[1])


# --- a batch that is dealt out


def dealt(of: int) -> bool:
    """Whether a batch of so many rows is dealt out; one with fewer rows than processes is given whole to each."""
    return 1 < size() <= of


def share(of: int) -> slice:
    """Which rows of a batch this process works on: equally many each, the first ones one more where it does not go.

    Args:
        of: Rows of the batch.
    """
    return _share(of, _group.place.rank) if dealt(of) else slice(0, of)


def counted(of: int) -> slice:
    """Which of its rows of a batch this process counts, so that every row counts once."""
    return slice(0, of if is_rank_zero() or dealt(of) else 0)


def gather(rows: "Tensor", of: int) -> "Tensor":
    """The rows of a whole batch, in its order, from those of all processes.

    A gradient goes to the process's own rows. Of a function of all rows that every process computes, each then has the
    part of the gradient that its own rows cause; the sum over the processes is the gradient of the whole.

    Args:
        rows: This process's share, shape (B, ...).
        of: Rows of the batch, N.

    Returns:
        Shape (N, ...).
    """
    if not dealt(of):
        return rows
    import torch
    import torch.distributed as dist

    most = -(-of // size())
    mine = rows.new_zeros(most, *rows.shape[1:])
    mine[: len(rows)] = rows.detach()
    every = rows.new_empty(size() * most, *rows.shape[1:])
    dist.all_gather_into_tensor(every, mine)
    shares = (_share(of, rank) for rank in range(size()))
    parts = [part[: share.stop - share.start] for part, share in zip(every.split(most), shares, strict=True)]
    parts[_group.place.rank] = rows
    return torch.cat(parts)


def scale_for_mean(loss: "Tensor", of: int) -> "Tensor":
    """What a process has to return as its loss, so that the mean of all gradients is that of the whole batch.

    Args:
        loss: Of the whole batch, of rows that were `gather`.
        of: Rows of the batch.
    """
    return loss * size() if dealt(of) else loss


def _share(of: int, rank: int) -> slice:
    least, more = divmod(of, size())
    start = rank * least + min(rank, more)
    return slice(start, start + least + (rank < more))


# --- random numbers


def draw_alike(state: "Tensor | None" = None) -> None:
    """Begins the random numbers that all processes draw alike.

    Args:
        state: As `alike_state` has it; None for torch's random numbers on the CPU as they stand.
    """
    if size() > 1:
        import torch

        _group.stream = torch.get_rng_state() if state is None else state.cpu()


def alike_state() -> "Tensor | None":
    """Where the random numbers stand that all processes draw alike; None in one process by itself."""
    return _group.stream


@contextmanager
def shared_rng() -> Iterator[None]:
    """A block whose random numbers, drawn on the CPU, are the same in all processes: those for a whole batch."""
    if _group.stream is None:
        yield
        return
    import torch

    own = torch.get_rng_state()
    torch.set_rng_state(_group.stream)
    yield
    _group.stream = torch.get_rng_state()
    torch.set_rng_state(own)
