"""How fast nets learn: the real training loop, from the store of pictures, against the limit of one constant batch.

Both run alternately in one process, and medians are compared, so that a noisy machine is unfair to none:

    .venv/bin/python benchmarks/throughput.py
    .venv/bin/python benchmarks/throughput.py --models test_resnet test_vit --size 56 --batch 16 --pictures 256

The loop is Lightning's with all that a run hangs into it, on random views of stored pictures. The limit is the same
net, loss, optimizer and precision in a bare loop over one batch on the device. How the hardware is used is chosen as
for a fit of `PLANNED` pictures. Further arguments are the command's, such as trainer.compile=false. No network is used.
"""

import argparse
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

import galaxyml.sweeps.finish  # noqa: F401 - registers what the configuration refers to
from galaxyml.cli.conf import CONF
from galaxyml.experiment import quiet
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.callbacks import EpochSeeds, History, StatusWriter
from galaxyml.training.choosing import wishes
from galaxyml.training.hardware import device_name, keep_memory
from galaxyml.training.stopping import Stopping
from galaxyml.training.tempo import Tempo
from galaxyml.training.trials import Trial

PLANNED = 30 * 50_000  # pictures of a whole fit: 30 epochs of four folds of Galaxy Zoo
FIRST = 4  # batches of an epoch that are not timed, while processes that gather begin


class Pace(Callback):
    """Times the steps of each epoch, and after it as many of the limit; ends the fit after some epochs.

    Args:
        tempo: Knows the ways that the fit goes.
        rounds: Epochs that are timed; one before them warms up.
    """

    def __init__(self, tempo: Tempo, rounds: int) -> None:
        self.tempo, self.rounds = tempo, rounds
        self.loop: list[float] = []  # pictures a second
        self.limit: list[float] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert self.tempo.fit is not None
        self.batch = len(self.tempo.fit.batch["index"])
        self.trial = Trial(trainer, pl_module, self.tempo.fit.batch, self.tempo.ways)

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        done = arguments[-1] + 1
        if done == FIRST:
            wait()
            self.began = time.perf_counter()
        elif done == trainer.num_training_batches:
            wait()
            steps = done - FIRST
            self.loop.append(steps * self.batch / (time.perf_counter() - self.began))
            self.limit.append(self.batch / self.trial.seconds(steps))
            trainer.should_stop = len(self.loop) > self.rounds

    def medians(self) -> tuple[float, float, float]:
        """Pictures a second of the loop and of the limit, and the loop's share of the limit, over all rounds."""
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
    labelled = given.pictures // given.batch * given.batch
    line += [f"size={given.size}", f"batch_size={given.batch}", "source=simulated", f"simulate.count={labelled}"]
    line += ["split=holdout", "epochs=1", f"cache_dir={given.cache}"]
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
    # No picture is held out: a short last batch would count as a whole one.
    data.catalog["split"] = "train"
    data.catalog = data.catalog.iloc[: len(data.catalog) // config.batch_size * config.batch_size]
    here = RunDir(folder)
    here.write_provenance(0, "", data.provenance())
    module.prepare(None, data, here)
    tempo = Tempo(here, "throughput", "all", Path(config.cache_dir), wishes(config.trainer))
    pace = Pace(tempo, rounds)
    trainer = instantiate(
        config.trainer,
        max_epochs=max(PLANNED // len(data.catalog), rounds + 1),
        limit_val_batches=0,
        logger=False,
        default_root_dir=str(folder),
        callbacks=[
            tempo,
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
        "device": device_name(trainer.strategy.root_device),
        "precision": str(trainer.precision),
        **record["ways"],
        "measured": record["measured"],
    }


def main() -> None:
    """Measures some models, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet50", "dinov2_small"])
    parser.add_argument("--size", type=int, default=224, help="side of the pictures in pixels")
    parser.add_argument("--batch", type=int, default=64, help="pictures a step")
    parser.add_argument("--pictures", type=int, default=2048, help="pictures an epoch")
    parser.add_argument("--rounds", type=int, default=5, help="epochs that are timed")
    parser.add_argument("--cache", default=str(Path(tempfile.gettempdir()) / "galaxyml-throughput"))
    parser.add_argument("--out", type=Path, help="a .json file for all numbers")
    given, more = parser.parse_known_args()
    if given.pictures // given.batch <= FIRST:
        parser.error(f"--pictures={given.pictures}: more than {FIRST} batches of {given.batch} are needed.")
    warnings.filterwarnings("ignore")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    quiet()
    keep_memory()
    found = []
    for model in given.models:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(configuration(model, given, more), given.rounds, Path(folder)))
    print(f"\nMedians of {given.rounds} rounds, training, pictures a second")
    print(f"{'net':<30}{'px':>5}{'batch':>7}{'loop':>10}{'limit':>10}{'loop/limit':>12}  how")
    for row in found:
        ways = [name for name in ("tf32", "channels_last", "fused", "compile") if row[name]]
        print(
            f"{row['model']:<30}{row['size']:>5}{row['batch']:>7}{row['loop']:>10.1f}{row['limit']:>10.1f}"
            f"{row['share']:>12.3f}  {', '.join([row['device'], row['precision'], *ways])}"
        )
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
