"""Device, processes, precision and kernels of training."""

import ctypes
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import ClusterEnvironment, TorchSyncBatchNorm
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # torch has no public name for batch norm of any dimension

from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.optimizers import restore_optimizer_state
from galaxyml.training.stopping import WholeCheckpoints

log = logging.getLogger(__name__)

UNUSED = "ddp_find_unused_parameters_true"  # as Lightning calls it, which asks for it where it is needed
STRATEGIES = ("auto", "ddp", UNUSED)
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


# Ways of a fit to use its device; its numbers depend on them in the last bits, with TF32 from the fourth digit.
KERNELS = (
    "tf32",  # products of single precision keep 10 bits of their factors' mantissas, which tensor cores take
    "channels_last",  # convolutions see channels last
    "fused",  # the optimizer, if it has such a kernel, updates all weights in one
    "compile",  # torch.compile makes kernels of the net
)


def kernels_for(device: torch.device, wished: Mapping[str, Any]) -> dict[str, bool]:
    """Whether each of `KERNELS` is used: as is asked for, and else as is usual on a device.

    Args:
        device: On which a net is fitted.
        wished: Of each kernel true, false or `auto`; see `wished_kernels`.
    """
    cuda = device.type == "cuda"
    has_tf32 = cuda and torch.cuda.get_device_capability(device) >= (8, 0)
    usual = {"tf32": has_tf32, "channels_last": True, "fused": cuda, "compile": False}
    chosen = {key: usual[key] if wish == "auto" else bool(wish) for key, wish in wished.items()}
    return chosen | {"tf32": chosen["tf32"] and has_tf32}


def wished_kernels(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Reads what a configuration's trainer says of each of `KERNELS`: true, false or `auto`.

    Raises:
        UserError: If it is none of these.
    """
    wished = {key: trainer.get(key, "auto") for key in KERNELS}
    for key, value in wished.items():
        if value != "auto" and not isinstance(value, bool):
            raise UserError(f"trainer.{key}={value}: it must be auto, true or false.")
    return wished


class KernelSettings(Callback):
    """Fits with the kernels that a configuration asks for, or that are usual on the device, and says so in a line.

    Evaluation is never compiled: its batches have other shapes, each of which would take longer than it saves. What
    follows the fit uses the usual kernels.

    Args:
        run: The folder of the run.
        name: What is fitted, such as `fold-0`.
        phase: Of the fit.
        wished: Of each kernel true, false or `auto`; see `wished_kernels`.
    """

    def __init__(self, run: RunDir, name: str, phase: str, wished: Mapping[str, Any]) -> None:
        self.run, self.name, self.phase, self.wished = run, name, phase, wished
        self.compiled = False
        self.products: tuple[str, bool] | None = None  # precision of matrix products and convolutions before the fit

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        device = trainer.strategy.root_device
        self.kernels = kernels_for(device, self.wished)
        if device.type == "cuda":
            self.products = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
            torch.set_float32_matmul_precision("high" if self.kernels["tf32"] else "highest")
            torch.backends.cudnn.allow_tf32 = self.kernels["tf32"]
        # A fused kernel unscales gradients itself, too late for clipping them; Lightning refuses both together.
        clips_scaled = getattr(trainer.precision_plugin, "scaler", None) and trainer.gradient_clip_val
        pl_module.fused = self.kernels["fused"] and not clips_scaled
        if not hasattr(pl_module, "channels_last"):
            return
        _lay_out(pl_module, self.kernels["channels_last"])
        self.compiled = self.kernels["compile"]
        if self.compiled:
            warnings.filterwarnings("ignore", module=r"torch\.(_dynamo|_inductor|_functorch)")
            for name in ("torch._dynamo", "torch._inductor", "torch.utils.cpp_extension"):  # advice on other ways
                logging.getLogger(name).setLevel(logging.ERROR)
            pl_module.net.compile(dynamic=False)  # in place, which leaves the names of its weights as they are

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        for optimizer in trainer.optimizers:
            restore_optimizer_state(optimizer)
        if not trainer.is_global_zero:
            return
        images = hasattr(pl_module, "channels_last")
        used = self.kernels | {"fused": bool(trainer.optimizers[0].param_groups[0].get("fused"))}
        used |= {} if images else {"channels_last": False, "compile": False}
        for key, wish in self.wished.items():
            if wish is True and not used[key]:
                log.info("note: trainer.%s=true does not apply: %s.", key, WHY_UNUSED[key])
        device, precision = device_name(trainer.strategy.root_device), str(trainer.precision)
        self.run.write_hardware(self.phase, {"device": device, "precision": precision, **used})
        words = [precision, *(key for key in KERNELS if used[key])]
        log.info("%s: %s; %s", self.name, device, ", ".join(words))

    def on_validation_start(self, *_: Any, **__: Any) -> None:
        self._compile(False)

    on_predict_start = on_validation_start

    def on_validation_end(self, *_: Any) -> None:
        self._compile(True)

    def teardown(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        self._compile(True)
        if hasattr(pl_module, "channels_last"):
            _lay_out(pl_module, True)
        if self.products is not None:
            torch.set_float32_matmul_precision(self.products[0])
            torch.backends.cudnn.allow_tf32 = self.products[1]
            self.products = None

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")

    def _compile(self, wanted: bool) -> None:
        if self.compiled:  # torch takes a second to find its compiler
            torch.compiler.set_stance("default" if wanted else "force_eager")


WHY_UNUSED = {  # for the kernels that were asked for
    "tf32": "this device does not have it",
    "channels_last": "the net is not called on images",
    "fused": "the optimizer has no such kernel, or was given another, or clips gradients in 16-mixed",
    "compile": "the net is not called on images",
}


def _lay_out(module: Any, channels_last: bool) -> None:
    if module.channels_last != channels_last:
        module.channels_last = channels_last
        module.net.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


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
        accelerator: As Lightning takes it: auto, cpu, gpu, …
        precision: As Lightning takes it, or `auto`.
        strategy: `ddp` (or `auto`) where several processes work on the run, each with the whole net.
            `ddp_find_unused_parameters_true` is for nets with weights on which their outputs do not depend.
        devices: As Lightning takes them: a number; auto or -1 for all GPUs, or one CPU; or a list of GPUs.
        num_nodes: Machines, each with equally many processes.
        **options: The trainer's other arguments; those of `KERNELS` are not Lightning's, but `KernelSettings`'s.

    Raises:
        UserError: If there is no such strategy, or not as many processes as it takes.
    """
    if strategy not in STRATEGIES:
        raise UserError(f"trainer.strategy={strategy}: it must be one of {', '.join(STRATEGIES)}.")
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
    if first.world_size > batch_size:
        raise UserError(
            f"batch_size={batch_size}: it is shared out to {first.world_size} processes; give {first.world_size} or "
            "more, or set trainer.devices to fewer."
        )
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
                        f"process {number} of {trainer.world_size} {how}. The same command carries on."
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
