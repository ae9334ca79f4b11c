"""How fast nets learn: the real training loop, from the store of images, against the limit of one constant batch.

Both run alternately in one process, and medians are compared, so that a noisy machine is unfair to none:

    .venv/bin/python benchmarks/throughput.py
    .venv/bin/python benchmarks/throughput.py --models test_resnet test_vit --size 56 --batch 16 --images 256

The loop is Lightning's with all that a run hangs into it, on random views of stored images. The limit is the same
net, loss, optimizer and precision in a bare loop over one batch on the device. Further arguments are the command's,
such as trainer.compile=true. No network is used.
"""

import argparse
import copy
import json
import logging
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command does

import lightning.pytorch as lightning
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from galaxyml import sweeps
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.callbacks import EpochSeeds, History, StatusWriter
from galaxyml.training.hardware import keep_memory
from galaxyml.training.kernels import KERNELS, KernelSettings, wished_kernels
from galaxyml.training.quiet import quiet
from galaxyml.training.stopping import Stopping

FIRST = 4  # batches of an epoch that are not timed, while processes that gather begin


class Limit:
    """Training steps of a copy of a module on one batch, in a bare loop.

    Args:
        trainer: Of the fit.
        module: On its device.
        batch: As its `training_step` takes it, on the device.
        compiled: Whether its net is compiled.
    """

    def __init__(self, trainer: lightning.Trainer, module: Any, batch: dict[str, torch.Tensor], compiled: bool) -> None:
        self.plugin, self.clip, self.batch = trainer.precision_plugin, trainer.gradient_clip_val, batch
        self.module = copy.deepcopy(module).train()
        self.module.trainer = trainer
        self.module.log = lambda *_, **__: None  # the fit's own sums must not have it
        if compiled:
            self.module.net.compile(dynamic=False)
        configured = self.module.configure_optimizers()
        self.optimizer = configured["optimizer"] if isinstance(configured, dict) else configured
        # At the usual scale the first steps would overflow and be left out.
        scaled = getattr(self.plugin, "scaler", None) is not None
        self.scaler = torch.amp.GradScaler(trainer.strategy.root_device.type, init_scale=1.0, enabled=scaled)

    def step(self) -> None:
        """One step of the optimizer."""
        with self.plugin.train_step_context():
            loss = self.module.training_step(self.batch, 0)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        if self.clip:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def seconds(self, steps: int) -> float:
        """Seconds a step takes, over some of them."""
        wait()
        began = time.perf_counter()
        for _ in range(steps):
            self.step()
        wait()
        return (time.perf_counter() - began) / steps


class Pace(Callback):
    """Times the steps of each epoch, and after it as many of the limit; ends the fit after some epochs.

    Args:
        settings: Knows the kernels that the fit uses.
        rounds: Epochs that are timed; one before them warms up.
    """

    def __init__(self, settings: KernelSettings, rounds: int) -> None:
        self.settings, self.rounds = settings, rounds
        self.loop: list[float] = []  # images a second
        self.limit: list[float] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        batches: Any = trainer.train_dataloader
        rows = batches.sampler.rows[: batches.sampler.batch_size]
        batch = trainer.strategy.batch_to_device(batches.dataset[rows])
        self.batch = len(batch["index"])
        self.bare = Limit(trainer, pl_module, batch, self.settings.compiled)

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        done = arguments[-1] + 1
        if done == FIRST:
            wait()
            self.began = time.perf_counter()
        elif done == trainer.num_training_batches:
            wait()
            steps = done - FIRST
            self.loop.append(steps * self.batch / (time.perf_counter() - self.began))
            self.limit.append(self.batch / self.bare.seconds(steps))
            trainer.should_stop = len(self.loop) > self.rounds

    def medians(self) -> tuple[float, float, float]:
        """Images a second of the loop and of the limit, and the loop's share of the limit, over all rounds."""
        pairs = list(zip(self.loop[1:], self.limit[1:], strict=True))
        shares = [loop / limit for loop, limit in pairs]
        return (*(statistics.median(found) for found in zip(*pairs, strict=True)), statistics.median(shares))


def wait() -> None:
    """Waits for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def configuration(model: str, given: argparse.Namespace, more: list[str]) -> DictConfig:
    """The configuration of a fit of one model on the simulated sky."""
    known = (CONF / "model" / f"{model}.yaml").is_file()
    line = [f"model={model}"] if known else ["model=timm", f"model.name={model}"]
    labelled = given.images // given.batch * given.batch
    line += [f"size={given.size}", f"batch_size={given.batch}", "source=simulated", f"simulate.count={labelled}"]
    line += ["split=holdout", "epochs=1", f"cache_dir={given.cache}"]
    sweeps.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [*line, *more])
    if "pretrained" in config.model:
        config.model.pretrained = False  # speed does not depend on it
    return config


def measure(config: DictConfig, rounds: int, folder: Path) -> dict[str, Any]:
    """Fits one model for some epochs, and times it."""
    module: Any = instantiate(config.module)
    data: Any = instantiate(config.data)
    data.setup()
    # No image is held out: a short last batch would count as a whole one.
    data.catalog["split"] = "train"
    data.catalog = data.catalog.iloc[: len(data.catalog) // config.batch_size * config.batch_size]
    here = RunDir(folder)
    here.write_provenance(0, "", data.provenance())
    module.prepare(None, data, here)
    settings = KernelSettings(here, "throughput", "all", wished_kernels(config.trainer))
    pace = Pace(settings, rounds)
    trainer = instantiate(
        config.trainer,
        max_epochs=rounds + 1,
        limit_val_batches=0,
        logger=False,
        default_root_dir=str(folder),
        callbacks=[
            settings,
            EpochSeeds(config.seed),
            History(here),
            StatusWriter(here, "all", ["all"], config.monitor),
            pace,
            Stopping(here),
        ],
    )
    trainer.fit(module, datamodule=data)
    loop, limit, share = pace.medians()
    record = here.provenance()["hardware"]["all"]
    return {
        "model": config.model.get("name", type(module.net).__name__),
        "size": config.size,
        "batch": config.batch_size,
        "loop": loop,
        "limit": limit,
        "share": share,
        **record,
    }


def main() -> None:
    """Measures some models, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet50", "dinov2_small"])
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=64, help="images a step")
    parser.add_argument("--images", type=int, default=2048, help="images an epoch")
    parser.add_argument("--rounds", type=int, default=5, help="epochs that are timed")
    parser.add_argument("--cache", default=str(Path(tempfile.gettempdir()) / "galaxyml-throughput"))
    parser.add_argument("--out", type=Path, help="a .json file for all numbers")
    given, more = parser.parse_known_args()
    if given.images // given.batch <= FIRST:
        parser.error(f"--images={given.images}: more than {FIRST} batches of {given.batch} are needed.")
    warnings.filterwarnings("ignore")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    quiet()
    keep_memory()
    found = []
    for model in given.models:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(configuration(model, given, more), given.rounds, Path(folder)))
    print(f"\nMedians of {given.rounds} rounds, training, images a second")
    print(f"{'net':<30}{'px':>5}{'batch':>7}{'loop':>10}{'limit':>10}{'loop/limit':>12}  how")
    for row in found:
        kernels = [name for name in KERNELS if row[name]]
        print(
            f"{row['model']:<30}{row['size']:>5}{row['batch']:>7}{row['loop']:>10.1f}{row['limit']:>10.1f}"
            f"{row['share']:>12.3f}  {', '.join([row['device'], row['precision'], *kernels])}"
        )
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
