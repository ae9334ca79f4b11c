"""Where training runs, and in which precision."""

import ctypes
import inspect
import sys
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.plugins import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch.nn.parallel import DistributedDataParallel

from galaxyml.runs import ranks
from galaxyml.runs.errors import UserError
from galaxyml.training.batch_norm import GroupBatchNorm
from galaxyml.training.sharding import Sharded
from galaxyml.training.stopping import WholeCheckpoints
from galaxyml.training.trials import WAYS

UNUSED = "ddp_find_unused_parameters_true"  # as Lightning calls it, which asks for it where it is needed
STRATEGIES = ("auto", "ddp", UNUSED, "fsdp")


def keep_memory() -> None:
    """Lets this process reuse large blocks of memory instead of giving each back to the system (glibc only).

    A batch's activations are tens of megabytes, which glibc maps and unmaps anew at every step; the page faults take a
    third of a training step on a CPU (`benchmarks/data_path.py` measures with it).
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(mmap_threshold, 2**30)
        libc.mallopt(trim_threshold, 2**31 - 1)


def on_gpu(accelerator: str) -> bool:
    """Whether training runs on a GPU of CUDA, given what the configuration says."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def best_precision(accelerator: str) -> Any:
    """bf16-mixed on GPUs that have it, 16-mixed on older ones, and single precision elsewhere.

    Half precision loses on a CPU: 16.7 s against 3.4 s for the same epochs.
    """
    if on_gpu(accelerator):
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return "32-true"


def device_name(device: torch.device) -> str:
    """A device in words, such as `NVIDIA H100` or `CPU, 2 threads`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device)


def trainer(
    accelerator: str = "auto",
    precision: Any = "auto",
    strategy: str = "auto",
    devices: Any = 1,
    num_nodes: int = 1,
    **options: Any,
) -> lightning.Trainer:
    """Lightning's trainer with the precision that the hardware is best at, for all processes that work on this job.

    Args:
        accelerator: As Lightning takes it: auto, cpu, gpu, …
        precision: As Lightning takes it, or `auto`.
        strategy: What several processes do: `ddp` (or `auto`) has the whole net in each, `fsdp` a part of its weights.
            `ddp_find_unused_parameters_true` is for nets with weights on which their outputs do not depend.
        devices: As `galaxyml.runs.ranks.requested_world` takes it; how many processes there are is decided by then.
        num_nodes: Machines; likewise.
        **options: The trainer's other arguments; what `WAYS` names is not Lightning's, but `Tempo`'s.

    Raises:
        UserError: If there is no such strategy.
    """
    if strategy not in STRATEGIES:
        raise UserError(f"trainer.strategy={strategy}: it must be one of {', '.join(STRATEGIES)}.")
    options = {key: value for key, value in options.items() if key not in WAYS}
    if accelerator == "auto" and not torch.cuda.is_available():
        accelerator = "cpu"  # a Mac's GPU has no double precision, in which metrics are summed
    place = ranks.place()
    plugins: list[Any] = [WholeCheckpoints(), Joined()]
    if place.size > 1:
        count = devices if isinstance(devices, list) else place.local_size
        options |= {"devices": count, "num_nodes": place.nodes, "strategy": _strategy(strategy)}
        plugins.append(GroupBatchNorm())
    else:
        options["devices"] = devices if isinstance(devices, list) else 1
    made = lightning.Trainer(
        accelerator=accelerator,
        precision=best_precision(accelerator) if precision == "auto" else precision,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        plugins=plugins,
        **options,
    )
    _leave_signals(made)
    return made


def _strategy(name: str) -> Strategy:
    if name == "fsdp":
        return Sharded()
    # Layers of batch norm share their statistics, so that no buffer differs.
    known = inspect.signature(DistributedDataParallel).parameters
    buffers = (
        "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    )  # its name in older torch
    options: Any = {buffers: False, "find_unused_parameters": name == UNUSED, "gradient_as_bucket_view": True}
    return DDPStrategy(**options)


def _leave_signals(made: lightning.Trainer) -> None:
    """Leaves signals to `galaxyml.training.stopping`.

    Lightning 2.6 lets a run end with status 0, and talks to other processes from within the signal's handler, in the
    middle of whatever they do, waiting for the GPU at each step.
    """
    connector: Any = made._signal_connector
    loop: Any = made.fit_loop.epoch_loop
    connector.register_signal_handlers = loop._broadcast_sigterm_tensor = lambda: None


class Joined(ClusterEnvironment):
    """Tells Lightning of processes that have found each other, so that it neither starts nor looks for any.

    Nor does it then see SLURM, whose jobs it would put back into the queue in a way of its own.
    """

    main_address, main_port = "", 0  # of no use, as they are connected

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return ranks.size()

    def set_world_size(self, size: int) -> None: ...

    def global_rank(self) -> int:
        return ranks.place().rank

    def set_global_rank(self, rank: int) -> None: ...

    def local_rank(self) -> int:
        return ranks.place().local_rank

    def node_rank(self) -> int:
        return ranks.place().rank // ranks.place().local_size
