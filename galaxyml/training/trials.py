"""How long a training step takes, one way or another: timed on copies, so that the fit itself is not disturbed."""

import copy
import logging
import statistics
import time
import warnings
from dataclasses import dataclass, fields
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from galaxyml.runs import signals

ROUNDS = 5
WARM_UP = 2  # steps of each way before it is timed


@dataclass(frozen=True)
class Ways:
    """How a fit uses its hardware; which numbers it comes to depends on it in the last bits, and with TF32 in more.

    Attributes:
        tf32: Whether products of single precision keep 10 bits of their factors' mantissas, which tensor cores take.
        channels_last: Whether convolutions see channels last.
        fused: Whether the optimizer updates all weights in one kernel.
        compile: Whether torch.compile makes kernels of the net.
    """

    tf32: bool = False
    channels_last: bool = True
    fused: bool = False
    compile: bool = False


WAYS = tuple(way.name for way in fields(Ways))


def use(module: Any, ways: Ways, shape: torch.Size | None) -> None:
    """Makes a module go some way; its optimizer, made afterwards, does so too.

    Args:
        module: With a `net`.
        ways: TF32 belongs to the process, not to the module.
        shape: Of the pictures of a whole batch, where there are any.
    """
    module.fused = ways.fused
    if shape is None:
        return
    if module.channels_last != ways.channels_last:
        module.channels_last = ways.channels_last
        module.net.to(memory_format=torch.channels_last if ways.channels_last else torch.contiguous_format)
    module.compiled_for = shape if ways.compile else None
    if ways.compile:
        _quiet_compiler()
        module.net.compile(dynamic=False)  # in place, which leaves the names of its weights as they are
    else:
        module.net._compiled_call_impl = None  # what `compile` set; torch has no way back of its own


def _quiet_compiler() -> None:
    """Silences advice on how to compile otherwise."""
    warnings.filterwarnings("ignore", module=r"torch\.(_dynamo|_inductor|_functorch)")
    for name in ("torch._dynamo", "torch._inductor", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)


class Trial:
    """Training steps of a copy of a module, on one batch again and again, as Lightning makes them.

    Args:
        trainer: Of the fit that is about to begin.
        module: On its device; it stays as it is.
        batch: As the module's `training_step` takes it, on the device.
        ways: How the copy goes.
    """

    def __init__(self, trainer: lightning.Trainer, module: Any, batch: dict[str, Tensor], ways: Ways) -> None:
        self.plugin = trainer.precision_plugin
        self.device = trainer.strategy.root_device
        self.clip = trainer.gradient_clip_val
        self.batch = batch
        self.module: Any = copy.deepcopy(module)
        self.module.trainer = trainer
        self.module.log = _nothing  # the fit's own sums must not have it
        use(self.module, ways, shape_of(batch))
        self.module.train()
        configured = self.module.configure_optimizers()
        self.optimizer: Optimizer = configured["optimizer"] if isinstance(configured, dict) else configured
        # At the usual scale the first steps would overflow and be left out.
        scaled = getattr(self.plugin, "scaler", None) is not None
        self.scaler = torch.amp.GradScaler(self.device.type, init_scale=1.0, enabled=scaled)

    def step(self) -> None:
        """One step of the optimizer on one batch."""
        with self.plugin.train_step_context():
            loss = self.module.training_step(self.batch, 0)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        if self.clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def seconds(self, steps: int) -> float:
        """Seconds a step takes, over some of them.

        Raises:
            Stop: If a signal came.
        """
        if (number := signals.pending_signal()) is not None:
            raise signals.Stop(number)
        self._wait()
        began = time.perf_counter()
        for _ in range(steps):
            self.step()
        self._wait()
        return (time.perf_counter() - began) / steps

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def together(device: torch.device) -> int:
    """Steps that are timed as one: a GPU is asked for the next while it works on one."""
    return 3 if device.type == "cuda" else 1


def steps_of_pair(device: torch.device) -> int:
    """How many steps it takes to compare two trials."""
    return 2 * (WARM_UP + ROUNDS * together(device))


def alternately(*trials: Trial) -> list[float]:
    """Median seconds that a step of each takes; they take turns, so that a noisy machine is unfair to none."""
    times: list[list[float]] = [[] for _ in trials]
    for trial in trials:
        trial.seconds(WARM_UP)
    for _ in range(ROUNDS):
        for trial, found in zip(trials, times, strict=True):
            found.append(trial.seconds(together(trial.device)))
    return [statistics.median(found) for found in times]


def shape_of(batch: dict[str, Tensor]) -> torch.Size | None:
    """Shape of a batch's pictures; None where it has none, or their features in their place."""
    return batch["image"].shape if "image" in batch and "features" not in batch else None


def _nothing(*_: Any, **__: Any) -> None:
    """Takes the place of a module's `log`."""
