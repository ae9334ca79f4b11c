"""The ways of using its hardware that a fit goes: asked for or chosen, told, and left again at its end."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

from galaxyml.runs.run_dir import RunDir
from galaxyml.training.choosing import Choice, Fit, Measured, choose, compiles
from galaxyml.training.hardware import device_name
from galaxyml.training.trials import Ways, use

log = logging.getLogger(__name__)


class Tempo(Callback):
    """Lets a fit go the ways that a configuration asks for, or else the fastest; what follows goes the usual ones.

    The last bits of a result depend on them. So a run goes on as it began, whatever would be chosen now.

    Args:
        run: The folder of the run.
        name: What is fitted, such as `fold-0`.
        phase: Of the fit.
        cache: Folder in which choices are kept.
        wished: Of each way true, false or `auto`; see `galaxyml.training.choosing.wishes`.
    """

    def __init__(self, run: RunDir, name: str, phase: str, cache: Path, wished: Mapping[str, Any]) -> None:
        self.run, self.name, self.phase, self.cache, self.wished = run, name, phase, cache, wished
        self.fit: Fit | None = None
        self.ways = Ways()
        self.flags: tuple[str, bool] | None = None  # of products in single precision, before the fit

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.fit = fit = Fit(trainer, pl_module, self.wished)
        self._use_tf32(fit)
        choice = None
        if trainer.is_global_zero:  # others may see other files
            choice = (self._begun(fit) if trainer.ckpt_path else None) or choose(fit, self.cache)
        choice = trainer.strategy.broadcast(choice)
        assert choice is not None
        notes = [
            f"trainer.{key}=true does not apply: {why}"
            for key, why in fit.hindrances.items()
            if self.wished[key] is True
        ]
        self.ways = choice.ways
        if self.ways.compile and (reason := compiles(fit, self.ways)) is not None:
            notes.append(f"torch.compile failed ({reason}); the net is not compiled")
            self.ways = replace(self.ways, compile=False)
        use(pl_module, self.ways, fit.shape)
        if self.ways.fused:
            trainer.strategy.setup_optimizers(trainer)
        if trainer.is_global_zero:
            for note in [*notes, *(choice.measured.notes if choice.how == "measured" else [])]:
                log.info("note: %s.", note)
            self.run.write_hardware(self.phase, replace(choice, ways=self.ways).record())
            log.info("%s: %s", self.name, told(fit, self.ways, choice))

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        for optimizer in trainer.optimizers:
            settle(optimizer, self.ways.fused)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        self._put_back(pl_module)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._put_back(pl_module)

    def _begun(self, fit: Fit) -> Choice | None:
        """The choice that a run began with, if it was for the same hardware and wishes."""
        record = self.run.provenance().get("hardware", {}).get(self.phase)
        if record is None or record["about"] != fit.about():
            return None
        return Choice(Ways(**record["ways"]), record["about"], Measured(**record["measured"]), "as it began")

    def _use_tf32(self, fit: Fit) -> None:
        """Lets all products of this process go the way that is asked for; other ways are timed with it."""
        if fit.device.type == "cuda":
            self.flags = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
            torch.set_float32_matmul_precision("high" if fit.asked.tf32 else "highest")
            torch.backends.cudnn.allow_tf32 = fit.asked.tf32

    def _put_back(self, module: Any) -> None:
        if self.fit is None:
            return
        use(module, Ways(channels_last=self.fit.usual.channels_last), self.fit.shape)
        if self.ways.compile:
            torch._dynamo.reset()  # else nets of later runs in this process would reach the limit of recompilations
        if self.flags is not None:
            torch.set_float32_matmul_precision(self.flags[0])
            torch.backends.cudnn.allow_tf32 = self.flags[1]
        self.fit = self.flags = None


def settle(optimizer: Optimizer, fused: bool) -> None:
    """Makes an optimizer whose state came from a checkpoint go the way of this fit, whichever that one's went.

    A kernel that updates all weights at once goes through memory without looking how it is laid out: on a CPU it takes
    moments that lie otherwise than their weights for those of other weights, and says nothing (torch 2.15).

    Args:
        optimizer: Its state is changed in place.
        fused: Whether it has such a kernel.
    """
    for group in optimizer.param_groups:
        was = bool(group.get("fused"))
        if was != fused and "fused" in group:
            group["fused"] = True if fused else None
        for weight in group["params"]:
            state = optimizer.state.get(weight, {})
            for key, value in state.items():
                if type(value) is not Tensor:
                    continue
                if key == "step" and was != fused:
                    state[key] = value.float().to(weight.device if fused else "cpu")
                elif value.shape == weight.shape and value.stride() != weight.stride():
                    state[key] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def told(fit: Fit, ways: Ways, choice: Choice) -> str:
    """The ways of a fit in one line, and what they were chosen by."""
    found = [str(fit.trainer.precision)]
    found += ["TF32"] if ways.tf32 else []
    if fit.shape is not None:
        found += ["channels_last" if ways.channels_last else "channels first"]
    found += ["fused optimizer" if ways.fused else "plain optimizer"]
    found += ["compiled"] if ways.compile else []
    speeds = [f"{key} {speed:.2f}x" for key, speed in choice.measured.speed.items()]
    if choice.measured.compilation is not None:
        speeds[-1] += f" after {choice.measured.compilation:.0f} s"
    why = f" ({choice.how}: {', '.join(speeds)})" if speeds else ""
    return f"{device_name(fit.device)}; {', '.join(found)}{why}"
