"""Device, processes and precision of training."""

import ctypes
import logging
import os
import signal
import sys
import time
from datetime import timedelta
from typing import Any

import lightning.pytorch as lightning
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import ClusterEnvironment, TorchSyncBatchNorm
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import DictConfig
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # torch has no public name for batch norm of any dimension

from galaxyml.runs.errors import UserError
from galaxyml.training.kernels import KERNELS
from galaxyml.training.stopping import WholeCheckpoints

log = logging.getLogger(__name__)

UNUSED = "ddp_find_unused_parameters_true"  # as Lightning calls it, which asks for it where it is needed
STRATEGIES = ("auto", "ddp", UNUSED)
ACCELERATORS = ("auto", "cpu", "gpu", "cuda")
PRECISIONS = ("auto", "32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true")
COLLECTIVE = timedelta(minutes=30)  # after which a step that one process does not take is given up


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

    On a CPU half precision may win or lose: without matrix units it took 16.7 s against 3.4 s for the same epochs; with
    them (AMX) a step of GalaxyCNN takes 0.43 of the time, and one of EfficientNet-Lite0 1.5 times as much.
    """
    if on_gpu(accelerator):
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return "32-true"


def trainer(
    accelerator: str = "auto",
    precision: Any = "auto",
    strategy: str = "auto",
    devices: Any = 1,
    num_nodes: int = 1,
    **options: Any,
) -> lightning.Trainer:
    """Lightning's trainer with the precision that the hardware is best at.

    Args:
        accelerator: One of `ACCELERATORS`; the last two are the same.
        precision: One of `PRECISIONS`, or as Lightning takes it for short: 16, bf16, 32 or 64.
        strategy: `ddp` (or `auto`) where several processes work on the run, each with the whole net.
            `ddp_find_unused_parameters_true` is for nets with weights on which their outputs do not depend.
        devices: As Lightning takes them: a number; auto or -1 for all GPUs, or one CPU; or a list of GPUs.
        num_nodes: Machines, each with equally many processes.
        **options: The trainer's other arguments; those of `KERNELS` are not Lightning's, but `KernelSettings`'s.

    Raises:
        UserError: If there is no such strategy, device or precision, or not as many processes as it takes.
    """
    for key, value, choices in (
        ("strategy", strategy, STRATEGIES),
        ("accelerator", accelerator, ACCELERATORS),
        ("precision", str(precision), (*PRECISIONS, "16", "bf16", "32", "64")),
    ):
        if value not in choices:
            raise UserError(f"trainer.{key}={value}: it must be one of {', '.join(choices)}.")
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise UserError(
            f"trainer.accelerator={accelerator}: this machine has no GPU that PyTorch can use. Leave it out "
            "(trainer=auto takes a GPU where there is one), or set trainer=cpu."
        )
    options = {key: value for key, value in options.items() if key not in KERNELS}
    if accelerator == "auto" and not torch.cuda.is_available():
        accelerator = "cpu"  # a Mac's GPU has no double precision, in which metrics are summed
    if devices in ("auto", -1, "-1"):
        devices = torch.cuda.device_count() if on_gpu(accelerator) else 1
    _check_devices(devices, num_nodes, accelerator)
    environment = _environment()
    by_lightning = isinstance(environment, LightningEnvironment)
    if num_nodes > 1 and by_lightning:
        raise UserError(
            f"trainer.num_nodes={num_nodes}: start a process for each GPU of each machine by srun or torchrun, such as "
            f"srun --nodes={num_nodes} --ntasks-per-node=N python -m galaxyml job FOLDER, with this run's folder."
        )
    if (devices if isinstance(devices, int) else len(devices)) * num_nodes > 1:
        options["num_nodes"] = num_nodes
        options["strategy"] = DDPStrategy(
            find_unused_parameters=strategy == UNUSED, gradient_as_bucket_view=True, timeout=COLLECTIVE
        )
    built = lightning.Trainer(
        accelerator=accelerator,
        devices=devices,
        precision=best_precision(accelerator) if precision == "auto" else precision,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        plugins=[WholeCheckpoints(), environment, *([SyncBatchNorms()] if on_gpu(accelerator) else [])],
        **options,
    )
    if not by_lightning and (started := environment.world_size()) not in (1, built.world_size):
        raise UserError(
            f"{started} processes were started, but the trainer is for {built.world_size}. Set trainer=ddp, "
            "trainer.devices=N for N processes on each machine, and trainer.num_nodes."
        )
    _leave_signals(built)
    return built


def check_trainer(config: DictConfig, batch_size: int) -> None:
    """Makes sure that this machine has what a trainer asks for, and that Lightning takes its arguments.

    Args:
        config: The trainer's; for several machines nothing is checked, as others start its processes.
        batch_size: Rows of a batch, in all processes.

    Raises:
        UserError: If it does not.
    """
    if config.get("num_nodes", 1) == 1:
        _check_shares(instantiate(config, logger=False), batch_size)


def connect(first: lightning.Trainer, module: nn.Module, batch_size: int) -> None:
    """Starts the other processes of a run, or meets those that torchrun or srun started; nothing where there are none.

    Lightning does so when a fit begins; here what comes before it, such as decoding images, is shared as well.

    Args:
        first: The run's first trainer.
        module: What it will fit.
        batch_size: Rows of a batch, in all processes.

    Raises:
        UserError: If a batch cannot be shared out.
    """
    _check_shares(first, batch_size)
    strategy = first.strategy
    if first.world_size > 1 and strategy.launcher is not None:
        strategy.launcher.launch(strategy.setup_environment)
        if strategy.root_device.type != "cuda" and any(isinstance(layer, _BatchNorm) for layer in module.modules()):
            log.info("note: on CPUs each process normalises its own share of a batch (torch.nn.SyncBatchNorm: GPUs).")


class LostProcess(Callback):
    """Explains an error that follows from the end of another process of the run."""

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        processes = getattr(trainer.strategy.launcher, "procs", [])  # those that Lightning has started
        until = time.monotonic() + 2  # connections break a little before a process has ended
        while isinstance(exception, RuntimeError) and processes and time.monotonic() < until:
            for number, process in enumerate(processes, 2):
                if code := process.poll():
                    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
                    raise UserError(
                        f"process {number} of {trainer.world_size} {how}. Give the same command again."
                    ) from exception
            time.sleep(0.1)


class SyncBatchNorms(TorchSyncBatchNorm):
    """Batch norm over the rows of all processes, by torch's SyncBatchNorm, which there is for GPUs alone.

    timm's converter keeps the activation that some of its layers have. Layers of other classes, which do more than
    batch norm, stay as they are. A fitted net keeps the layers: in evaluation they are plain batch norm.
    """

    KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d)

    def apply(self, model: nn.Module) -> nn.Module:
        for module in list(model.modules()):
            for name, layer in module.named_children():
                if type(layer) in self.KINDS:
                    setattr(module, name, convert_sync_batchnorm(layer))
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        return model


def _check_shares(built: lightning.Trainer, batch_size: int) -> None:
    if built.world_size > batch_size:
        raise UserError(
            f"batch_size={batch_size}: it is shared out to {built.world_size} processes; give {built.world_size} or "
            "more, or set trainer.devices to fewer."
        )


def _check_devices(devices: Any, num_nodes: Any, accelerator: str) -> None:
    count = devices if isinstance(devices, int) and not isinstance(devices, bool) else 0
    if count < 1 if isinstance(devices, int | str) else not devices:
        raise UserError(f"trainer.devices={devices}: it must be a whole number, 1 or more, auto, or a list of GPUs.")
    if not isinstance(num_nodes, int) or isinstance(num_nodes, bool) or num_nodes < 1:
        raise UserError(f"trainer.num_nodes={num_nodes}: it must be a whole number, 1 or more.")
    if on_gpu(accelerator) and count > torch.cuda.device_count():
        raise UserError(
            f"trainer.devices={count}: this process sees {torch.cuda.device_count()} GPUs. Set fewer, or give it all "
            "of them (with SLURM, --gpus-per-node and no --gpus-per-task)."
        )


def _environment() -> ClusterEnvironment:
    """Starter of the processes: torchrun, a step of SLURM with several tasks, or Lightning."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:  # Lightning would also take a batch script for several
        try:
            return SLURMEnvironment(auto_requeue=False)
        except RuntimeError as error:  # processes that are not equally many on each machine
            raise UserError(str(error)) from error
    return LightningEnvironment()


def _leave_signals(trainer: lightning.Trainer) -> None:
    """Leaves signals to `galaxyml.training.stopping`.

    Lightning 2.6 lets a run end with status 0, and talks to other processes from within the signal's handler, in the
    middle of whatever they do, waiting for the GPU at each step. It has no public way to leave signals alone.
    """
    connector: Any = trainer._signal_connector
    loop: Any = trainer.fit_loop.epoch_loop
    connector.register_signal_handlers = loop._broadcast_sigterm_tensor = lambda: None
