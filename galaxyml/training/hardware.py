"""Where training runs, and in which precision."""

import ctypes
import sys
from typing import Any

import lightning.pytorch as lightning
import torch

from galaxyml.training.stopping import WholeCheckpoints
from galaxyml.training.trials import WAYS


def keep_memory() -> None:
    """Lets this process reuse large blocks of memory instead of giving each back to the system (glibc only).

    A batch's activations are tens of megabytes, which glibc maps and unmaps anew at every step; the page faults take a
    third of a training step on a CPU (`benchmarks/data_path.py` measures with it).
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(mmap_threshold, 2**30)
        libc.mallopt(trim_threshold, 2**31 - 1)


def best_precision(accelerator: str) -> Any:
    """bf16-mixed on GPUs that have it, 16-mixed on older ones, and single precision elsewhere.

    Half precision loses on a CPU: 16.7 s against 3.4 s for the same epochs.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return "32-true"


def device_name(device: torch.device) -> str:
    """A device in words, such as `NVIDIA H100` or `CPU, 2 threads`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device)


def trainer(accelerator: str = "auto", precision: Any = "auto", **options: Any) -> lightning.Trainer:
    """Lightning's trainer with the precision that the hardware is best at.

    Args:
        accelerator: As Lightning takes it: auto, cpu, gpu, …
        precision: As Lightning takes it, or `auto`.
        **options: The trainer's other arguments; what `WAYS` names is not Lightning's, but `Tempo`'s.
    """
    options = {key: value for key, value in options.items() if key not in WAYS}
    if accelerator == "auto" and not torch.cuda.is_available():
        accelerator = "cpu"  # a Mac's GPU has no double precision, in which metrics are summed
    return lightning.Trainer(
        accelerator=accelerator,
        precision=best_precision(accelerator) if precision == "auto" else precision,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        plugins=[WholeCheckpoints()],
        **options,
    )
