"""Communication of the processes of one run, on top of torch.distributed; a run in one process is a group of one.

Rank 0 alone writes, prints and judges. Lightning brings the processes together (`galaxyml.training.hardware.connect`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

T = TypeVar("T")

PATIENCE = timedelta(days=30)  # a survey takes long to decode, while the other processes wait


class _Shared:
    """State of this process as a member of its group."""

    group: Any = None  # on CPUs, and patient; made when it is first needed
    vote: tuple[Any, Tensor] | None = None  # the last question of `any_rank`, under way, and its answer
    stream: Tensor | None = None  # where the random numbers stand that all processes draw alike


def world_size() -> int:
    """Processes of the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0; as its environment says before the processes have met."""
    return dist.get_rank() if world_size() > 1 else int(getattr(rank_zero_only, "rank", None) or 0)


def is_rank_zero() -> bool:
    """Whether this process is the one that writes, prints and judges."""
    return rank() == 0


# --- messages


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """A block that rank 0 runs before the others do, so that they find what it has made."""
    if not is_rank_zero():
        barrier()
    yield
    if is_rank_zero():
        barrier()


def barrier() -> None:
    """Waits until all processes have come here, for as long as it takes."""
    if world_size() > 1:
        dist.barrier(group=_patient())


def broadcast(value: T) -> T:
    """Rank 0's value of something that each process may see otherwise, such as whether a file is there yet."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, group=_patient())
    return values[0]


def gather_objects(value: T) -> list[T]:
    """The values of all processes, by rank, in rank 0; an empty list in the others."""
    if world_size() == 1:
        return [value]
    values: list[Any] | None = [None] * world_size() if is_rank_zero() else None
    dist.gather_object(value, values, dst=0, group=_patient())
    return values or []


def any_rank(flag: bool) -> bool:
    """Whether the flag is set in any process; all have to ask, equally often and in one order.

    Of several processes it is the answer to their question before this one, so that none waits for the others.
    """
    if world_size() == 1:
        return flag
    before, answer = _Shared.vote, torch.tensor([int(flag)])
    _Shared.vote = dist.all_reduce(answer, dist.ReduceOp.MAX, group=_patient(), async_op=True), answer
    if before is None:
        return False
    before[0].wait()
    return bool(before[1])


def _patient() -> Any:
    """A group for tensors on CPUs that waits for as long as it takes; all processes make it at the same moment."""
    if _Shared.group is None:
        _Shared.group = dist.new_group(backend="gloo", timeout=PATIENCE)
    return _Shared.group


# --- batches that are shared out


def share(of: int) -> slice:
    """Rows of a batch that this process works on: equally many each, the first ones one more where it does not divide.

    Args:
        of: Rows of the batch; one with fewer rows than processes is given whole to each.
    """
    return _share(of, rank()) if _is_shared(of) else slice(0, of)


def counted(of: int) -> slice:
    """Rows of its share of a batch that this process counts in a metric, so that every row counts once."""
    return slice(0, of if is_rank_zero() or _is_shared(of) else 0)


def gather(rows: Tensor, of: int) -> Tensor:
    """The rows of a whole batch, in its order, from the shares of all processes.

    A gradient goes to the process's own rows. Of a function of all rows that every process computes, each then has the
    part of the gradient that its own rows cause; the sum over the processes is the gradient of the whole.

    Args:
        rows: This process's share, shape (B, ...).
        of: Rows of the batch, N.

    Returns:
        Shape (N, ...).
    """
    if not _is_shared(of):
        return rows
    rows_of = [_share(of, number) for number in range(world_size())]
    longest = rows_of[0].stop
    padded = rows.new_zeros(longest, *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    gathered = rows.new_empty(world_size() * longest, *rows.shape[1:])
    dist.all_gather_into_tensor(gathered, padded)
    shares = [share[: own.stop - own.start] for share, own in zip(gathered.split(longest), rows_of, strict=True)]
    shares[rank()] = rows
    return torch.cat(shares)


def scale_for_mean(loss: Tensor, of: int) -> Tensor:
    """The loss that a process has to return, so that DDP's mean of all gradients is that of the whole batch.

    Args:
        loss: Of the whole batch, of rows that came from `gather`.
        of: Rows of the batch.
    """
    return loss * world_size() if _is_shared(of) else loss


def _is_shared(of: int) -> bool:
    return 1 < world_size() <= of


def _share(of: int, number: int) -> slice:
    least, more = divmod(of, world_size())
    start = number * least + min(number, more)
    return slice(start, start + least + (number < more))


# --- random numbers


def start_shared_rng(state: Tensor | None = None) -> None:
    """Begins the random numbers that all processes draw alike.

    Args:
        state: As `shared_rng_state` has it; None for torch's random numbers on the CPU as they stand.
    """
    if world_size() > 1:
        _Shared.stream = torch.get_rng_state() if state is None else state.cpu()


def shared_rng_state() -> Tensor | None:
    """State of the random numbers that all processes draw alike; None in one process by itself."""
    return _Shared.stream


@contextmanager
def shared_rng() -> Iterator[None]:
    """A block whose random numbers, drawn on the CPU, are the same in all processes: those for a whole batch."""
    if _Shared.stream is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(_Shared.stream)
        yield
        _Shared.stream = torch.get_rng_state()
