"""Kernels of a fit: TF32, channels last, fused optimizers, compiled nets."""

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback

from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.optimizers import restore_optimizer_state

log = logging.getLogger(__name__)

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


def device_name(device: torch.device) -> str:
    """A device in words, such as `NVIDIA H100` or `CPU, 2 threads`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else str(device)
