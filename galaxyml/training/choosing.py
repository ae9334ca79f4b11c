"""Which way a fit uses its hardware best: measured once for fits of a kind, and kept for all of them."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from galaxyml.runs.errors import UserError
from galaxyml.runs.files import digest, file_lock, write_json
from galaxyml.training.hardware import device_name
from galaxyml.training.prediction_module import PredictionModule
from galaxyml.training.trials import WARM_UP, WAYS, Trial, Ways, alternately, shape_of, steps_of_pair

TIMED = ("channels_last", "fused")  # on any device; compiling takes long, and is tried apart
GAIN = 1.03  # times as fast as before that a change must make a step; less is within the noise of the measurement
SHARE = 0.02  # of the steps of a fit that measuring may take
SHORT = 60.0  # seconds of training steps; in a shorter fit there is too little to gain
WORTH_COMPILING = 300.0  # likewise; trying takes tens of seconds, which are lost if it does not pay
ALIKE = 0.25  # relative difference in the number of batches up to which fits choose alike, as folds do
FORMAT = 1  # raised when what was kept would not be chosen any more


def wishes(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration's trainer says of each way: true, false or `auto`.

    Raises:
        UserError: If it is none of these.
    """
    found = {key: trainer.get(key, "auto") for key in WAYS}
    for key, value in found.items():
        if value != "auto" and not isinstance(value, bool):
            raise UserError(f"trainer.{key}={value}: it must be auto, true or false.")
    return found


@dataclass
class Measured:
    """What was measured of a net, on a device and with batches of a size.

    Attributes:
        step: Seconds of a training step on the usual ways; None if nothing was measured.
        speed: How many times as fast a step is with a way as without it.
        compilation: Seconds that the first step of a compiled net takes longer than others.
        notes: What could not be measured, and why.
    """

    step: float | None = None
    speed: dict[str, float] = field(default_factory=dict)
    compilation: float | None = None
    notes: list[str] = field(default_factory=list)

    def pays(self, key: str, default: bool) -> bool:
        """Whether to go a way: where it is the usual one, unless a step without it is faster by more than noise."""
        speed = self.speed.get(key, 1.0)
        return speed > 1 / GAIN if default else speed >= GAIN

    def compiling_pays(self, batches: float) -> bool:
        """Whether compiling saves more time over so many batches than it takes."""
        if self.step is None or self.compilation is None:
            return False
        saved = self.step * batches * (1 - 1 / self.speed["compile"])
        return self.pays("compile", default=False) and saved > self.compilation


@dataclass(frozen=True)
class Choice:
    """The ways that a fit goes.

    Attributes:
        ways: All of them.
        about: What they were chosen for.
        measured: What they were chosen by.
        how: Since when that is known, such as `measured`; '' if nothing is.
    """

    ways: Ways
    about: dict[str, Any]
    measured: Measured = field(default_factory=Measured)
    how: str = ""

    def record(self) -> dict[str, Any]:
        """All of it, as a run keeps it."""
        return {"ways": asdict(self.ways), "measured": asdict(self.measured), "about": self.about}


class Fit:
    """A fit that is about to begin, and what is asked of it.

    Args:
        trainer: With its optimizers and its loaders.
        module: On its device.
        wished: Of each way true, false or `auto`; see `wishes`.

    Attributes:
        batch: Its first batch, on the device, as the module's `training_step` takes it.
        shape: Of the batch's pictures, where the net is called on pictures.
        hindrances: Ways that cannot be gone, and why.
        usual: The ways that a fit goes where nothing is asked or measured.
    """

    def __init__(self, trainer: lightning.Trainer, module: Any, wished: Mapping[str, Any]) -> None:
        self.trainer, self.module, self.wished = trainer, module, wished
        self.device = trainer.strategy.root_device
        if trainer.train_dataloader is None:
            trainer.fit_loop.setup_data()
        self.batch = self._first_batch()
        self.shape = shape_of(self.batch) if isinstance(module, PredictionModule) else None
        self.hindrances = self._hindrances()
        self.usual = Ways(tf32="tf32" not in self.hindrances, channels_last=getattr(module, "channels_last", True))
        asked = {key: wish for key, wish in wished.items() if wish != "auto" and not (wish and key in self.hindrances)}
        self.asked = replace(self.usual, **asked)

    @property
    def batches(self) -> float:
        """How many batches it has."""
        return float(self.trainer.num_training_batches) * (self.trainer.max_epochs or 0)

    @property
    def open(self) -> set[str]:
        """Ways that are to be chosen by their times."""
        if self.trainer.world_size > 1:  # which would have to make all trials together
            return set()
        compiling = ["compile"] if self.device.type == "cuda" else []  # on a CPU it is slower even when it is done
        return {key for key in (*TIMED, *compiling) if self.wished[key] == "auto" and key not in self.hindrances}

    def trial(self, ways: Ways) -> Trial:
        """A trial of some ways."""
        return Trial(self.trainer, self.module, self.batch, ways)

    def about(self) -> dict[str, Any]:
        """What times depend on: fits of which it is the same go the same ways."""
        made = self.trainer.optimizers
        weights = [(name, *weight.shape, weight.requires_grad) for name, weight in self.module.named_parameters()]
        shapes = [list(self.batch[key].shape[1:]) for key in ("image", "features") if key in self.batch]
        return {
            "format": FORMAT,
            "device": device_name(self.device),
            "torch": torch.__version__,
            "processes": self.trainer.world_size,
            "precision": str(self.trainer.precision),
            "net": f"{type(self.module.net).__name__} {digest([self.module, *weights])}",
            "batch": [len(self.batch["index"]), *shapes],
            "optimizers": [type(optimizer).__name__ for optimizer in made],
            "flags": [key for one in made for key, value in one.defaults.items() if value is True],
            "clipped": bool(self.trainer.gradient_clip_val),
            "wished": dict(self.wished),
        }

    def _first_batch(self) -> dict[str, Tensor]:
        batches: Any = self.trainer.train_dataloader
        with isolate_rng():  # its views are drawn
            rows = batches.sampler.rows[: batches.sampler.batch_size]
            return self.trainer.strategy.batch_to_device(batches.dataset[rows], self.device)

    def _hindrances(self) -> dict[str, str]:
        found = {}
        if self.device.type != "cuda" or torch.cuda.get_device_capability(self.device) < (8, 0):
            found["tf32"] = "this device does not have it"
        if self.shape is None:
            found |= dict.fromkeys(("channels_last", "compile"), "the net is not called on pictures")
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        for optimizer in self.trainer.optimizers:
            defaults = optimizer.defaults
            if "fused" not in defaults:
                found["fused"] = f"{type(optimizer).__name__} has no such kernel"
            elif defaults["fused"] is not None or defaults.get("foreach"):
                found["fused"] = "the optimizer was told another way"
            elif self.device.type not in ("cpu", "cuda"):
                found["fused"] = "this device does not have it"
            elif scaled and self.trainer.gradient_clip_val:
                # Such a kernel unscales gradients itself, too late for clipping them; Lightning refuses both together.
                found["fused"] = "in 16-mixed gradients are not clipped with it"
        return found


def choose(fit: Fit, cache: Path) -> Choice:
    """The best ways for a fit; nothing is measured for one that is short.

    They are kept with what was measured, so that other fits of the kind, such as the folds of a sweep, go the same.

    Args:
        fit: It stays as it is.
        cache: Folder in which choices are kept.
    """
    about = fit.about()
    # A step that is timed after the first ones, and a pair of trials for each way.
    needed = WARM_UP + 1 + len(fit.open & set(TIMED)) * steps_of_pair(fit.device)
    if not fit.open or not math.isfinite(fit.batches) or needed > SHARE * fit.batches:
        return Choice(fit.asked, about)
    path = cache / "hardware" / f"{digest([json.dumps(about, sort_keys=True)])}.json"
    with file_lock(path):
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"measured": {}, "chosen": []}
        measured = Measured(**kept["measured"])
        for before in kept["chosen"]:
            if abs(before["batches"] / fit.batches - 1) <= ALIKE:
                return Choice(Ways(**before["ways"]), about, measured, "measured before")
        with isolate_rng():
            ways = _measure(fit, measured)
        kept["chosen"].append({"batches": fit.batches, "ways": asdict(ways)})
        write_json(path, {"about": about, "measured": asdict(measured), "chosen": kept["chosen"]})
    return Choice(ways, about, measured, "measured")


def compiles(fit: Fit, ways: Ways) -> str | None:
    """Why a net cannot be compiled here; None if it can, and then it is in the compiler's memory."""
    if fit.trainer.world_size > 1:
        return None
    with isolate_rng():
        try:
            fit.trial(ways).seconds(1)
        except Exception as error:  # anything, from a missing C compiler to a bug of the tracer's
            return _first_line(error)
    return None


def _measure(fit: Fit, measured: Measured) -> Ways:
    """The best ways for a fit, by what was measured before and what is measured now."""
    try:
        return _compare(fit, measured)
    except torch.OutOfMemoryError:
        measured.notes.append("there was too little memory to try others")
        return fit.asked
    finally:
        if fit.device.type == "cuda":
            torch.cuda.empty_cache()


def _compare(fit: Fit, measured: Measured) -> Ways:
    ways = fit.asked
    if measured.step is None:
        first = fit.trial(ways)
        first.seconds(WARM_UP)
        measured.step = first.seconds(1)
        del first
    if measured.step * fit.batches < SHORT:
        return ways
    for key in TIMED:
        if key not in fit.open:
            continue
        default = getattr(ways, key)
        if key not in measured.speed:
            without, with_it = (fit.trial(replace(ways, **{key: value})) for value in (False, True))
            seconds = alternately(without, with_it)
            measured.speed[key] = round(seconds[0] / seconds[1], 3)
            measured.step = seconds[default]
        ways = replace(ways, **{key: measured.pays(key, default)})
    if "compile" in fit.open and measured.step * fit.batches > WORTH_COMPILING:
        if "compile" not in measured.speed and not measured.notes:
            _try_compiling(fit, ways, measured)
        ways = replace(ways, compile=measured.compiling_pays(fit.batches))
    return ways


def _try_compiling(fit: Fit, ways: Ways, measured: Measured) -> None:
    compiled = fit.trial(replace(ways, compile=True))
    try:
        first = compiled.seconds(1)
        plain, fast = alternately(fit.trial(ways), compiled)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # anything, from a missing C compiler to a bug of the tracer's
        measured.notes.append(f"torch.compile failed ({_first_line(error)})")
        return
    measured.speed["compile"] = round(plain / fast, 3)
    measured.compilation = first - fast
    measured.step = plain


def _first_line(error: Exception) -> str:
    error = getattr(error, "inner_exception", error)  # the compiler's own begins with the name of its backend alone
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
