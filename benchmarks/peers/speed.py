"""How fast galaxyml is beside what one would use instead: plain torch, a Lightning template, zoobot, ParSNIP.

All ways of a row run in turns in one process on the same files, so that a noisy machine is unfair to none; what is told
is the ratio of each pair in the same turn, and its smallest and largest value:

    .venv-peers/bin/python benchmarks/peers/speed.py
    .venv-peers/bin/python benchmarks/peers/speed.py --rows batches epoch --quick

Peers have their default settings, and as many workers as there are cores or none. Everything in this process has the
settings of memory and threads that galaxyml's command makes, which help the peers as well. Rows of a run before are
kept in the file of results if they are not measured again. Ways of a peer that is not installed are left out. Linux
only.
"""

import argparse
import copy
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command does

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from sklearn.ensemble import IsolationForest
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1]))

from data_path import DIHEDRAL, FREE, constant_epoch, only_load, own_epoch, tiny, training_step
from plain import padded_curves, plain_epoch, plain_predictions, turned_predictions
from surveys import BATCH as HEAD_BATCH
from surveys import EPOCHS, SIZES, every_epoch, learning, once
from surveys import targets as votes_like_ukidss
from template import GalaxyDataModule, GalaxyModule, template_epoch
from turns import BATCH, QUIET, Comparison, Way, setting, told

from galaxyml import GalaxyZoo, Plasticc, SupervisedModule, VAEModule, load
from galaxyml.data.images.store import Framing, open_store
from galaxyml.data.light_curves.columns import open_curves
from galaxyml.kinds.anomalies.detectors import Forest, cross_fitted_scores
from galaxyml.kinds.losses import MSELoss
from galaxyml.models.astrocnn import AstroCNN
from galaxyml.models.backbones import timm_net
from galaxyml.models.galaxycnn import GalaxyCNN
from galaxyml.sky import write_galaxyzoo, write_plasticc
from galaxyml.training.hardware import keep_memory
from galaxyml.training.quiet import quiet

HERE = Path(__file__).resolve().parent
WORKERS = (0, 2)
HAS_ZOOBOT = find_spec("zoobot") is not None and find_spec("galaxy_datasets") is not None
HAS_PARSNIP = find_spec("parsnip") is not None and find_spec("lcdata") is not None
NEVER, ROTATED = "galaxyml, dihedral", "galaxyml, free rotation"
SMOKE = ["task=galaxyzoo", "model=tiny", "source=simulated", "scale=smoke"]
# What ways do, by the beginnings of their names.
WAYS = {
    "galaxyml, dihedral": "batches from a store of decoded images (the central half), flips, quarter turns, no workers",
    "galaxyml, free rotation": "the same with any angle, by bilinear interpolation",
    "galaxyml, bare loop": "batches with any angle in a loop of torch",
    "galaxyml, Trainer": "GalaxyZoo or Plasticc, SupervisedModule or VAEModule, and Lightning's Trainer",
    "galaxyml, 1 view": "load(run).predict(paths), which gives a table",
    "galaxyml, 8 views": "the same of a run with predict_views=8",
    "galaxyml, the command": f"python -m galaxyml {' '.join(SMOKE)}",
    "galaxyml, first time": "the store of light curves is made and padded batches are gathered from it",
    "galaxyml, later": "padded batches from the store that is there",
    "galaxyml, five parts": "cross-fitted scores, five forests of 500 trees",
    "plain, batches turned": "images are opened once, and the eight symmetries of each batch pass the net",
    "plain": "a Dataset that opens files by Pillow, resizes, flips, turns by any angle; a pass for each view",
    "template": "as lightning-hydra-template has it: ImageFolder, transforms v2 on tensors, a LightningModule",
    "zoobot, default views": "CatalogDataModule, default_view_config: RandomAffine, resize, flips, erasing",
    "zoobot, fast views": "CatalogDataModule, fast_view_config: a crop of the centre, nothing random",
    "zoobot, Trainer": "FinetuneableZoobotClassifier, the same net as encoder, default views, Lightning's Trainer",
    "zoobot": "predict_on_catalog.predict with minimal_view_config",
    "zoobot script": "fine-tuning as in zoobot's documentation, default views, 2 workers",
    "pandas": "read_csv, groupby once, pad_sequence",
    "ParSNIP": "lcdata.from_observations, preprocess_light_curve and the batches of ParsnipModel",
    "constant batch": "the same net, loss and optimizer on one batch in memory again and again",
}
# Ends the command after its first training step.
FIRST_STEP = """
import os, sys
from galaxyml.__main__ import main
from galaxyml.training.supervised import SupervisedModule
SupervisedModule.on_train_batch_end = lambda *_: os._exit(0)
main()
"""


@dataclass(frozen=True)
class Files:
    """What all ways read.

    Attributes:
        folder: For everything; `sky` in it has the images.
        paths: The images.
        quick: Whether to try rows with as little work as there can be.
    """

    folder: Path
    paths: list[Path]
    quick: bool

    @property
    def cache(self) -> Path:
        """Folder of galaxyml's stores."""
        return self.folder / "cache"

    @property
    def votes(self) -> Tensor:
        """Targets of all images, which speed does not depend on."""
        return torch.zeros(len(self.paths), 37)


class EpochEnds(Callback):
    """Notes when each epoch has ended."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.seconds.append(time.perf_counter())


def trained(module: Any, data: Any, **options: Any) -> Way:
    """The second of two epochs of a fit, when workers are there and nothing is done for the first time."""

    def fit() -> float:
        ends = EpochEnds()
        trainer = lightning.Trainer(**QUIET, max_epochs=2, callbacks=[ends], num_sanity_val_steps=0, **options)
        trainer.fit(module, datamodule=data)
        first, second = ends.seconds
        return second - first

    return fit


# --- images


def batches(files: Files) -> Iterator[Comparison]:
    """Images to batches at two sizes, without a net."""
    for size in (224, 128):
        ways: dict[str, Way] = {
            NEVER: own_epoch(files.paths, size, DIHEDRAL, only_load, files.cache, files.votes),
            ROTATED: own_epoch(files.paths, size, FREE, only_load, files.cache, files.votes),
        }
        for workers in WORKERS:
            ways[f"plain, {workers} workers"] = plain_epoch(files.paths, size, workers, only_load)
            ways[f"template, {workers} workers"] = template_epoch(files.paths, size, workers, only_load)
            if HAS_ZOOBOT:
                from zoobot_views import zoobot_epoch

                for view in ("default", "fast"):
                    name = f"zoobot, {view} views, {workers} workers"
                    ways[name] = zoobot_epoch(files.paths, size, view, workers, only_load)
        zoobot = "zoobot, default views, 2 workers"
        goals = {
            (NEVER, "plain, 0 workers"): 20.0,
            (ROTATED, "plain, 0 workers"): 8.0,
            (NEVER, zoobot): 30.0,
            (ROTATED, zoobot): 12.0,
        }
        note = "galaxyml has decoded each image before; the others decode it every time."
        yield Comparison(f"images to batches, {size} px", ways, goals if size == 224 else {}, note=note)
    others = {name: way for name, way in ways.items() if name.endswith("2 workers")}
    fresh = files.folder / "fresh"

    def first() -> None:
        shutil.rmtree(fresh, ignore_errors=True)
        own_epoch(files.paths, size, FREE, only_load, fresh, files.votes)()

    note = "With all decoding and the writing of galaxyml's store; the others' workers are there already."
    ways = {"galaxyml, nothing kept": first, **others}
    yield Comparison(f"images to batches, {size} px, the first time", ways, note=note)


def epoch(files: Files) -> Iterator[Comparison]:
    """An epoch of a tiny net."""
    size, loop, fit = 128, "galaxyml, bare loop", "galaxyml, Trainer"
    data: Any = GalaxyZoo(files.folder / "sky", size=size, fold=0, batch_size=BATCH, cache_dir=str(files.cache))
    data.setup()
    data.catalog = data.catalog.iloc[: len(files.paths)].assign(split="train")
    ways: dict[str, Way] = {
        loop: own_epoch(files.paths, size, FREE, training_step(tiny(), MSELoss()), files.cache, files.votes),
        fit: trained(SupervisedModule.for_data(data, net="tiny"), data),
    }
    goals = {(loop, "plain, 0 workers"): 6.0, (loop, "zoobot, Trainer, 2 workers"): 15.0}
    for workers in WORKERS:
        step = training_step(tiny(), MSELoss())
        ways[f"plain, {workers} workers"] = plain_epoch(files.paths, size, workers, step)
        name = f"template, Trainer, {workers} workers"
        ways[name] = trained(GalaxyModule(tiny(), 37), GalaxyDataModule(files.paths, size, workers))
        if HAS_ZOOBOT:
            from zoobot_views import data_module, fine_tuned

            encoder: Any = tiny().features
            data = data_module(files.paths, size, "default", workers)
            ways[f"zoobot, Trainer, {workers} workers"] = trained(fine_tuned(encoder), data)
    note = "Free rotation; zoobot's own default views. Without validation and checkpoints."
    yield Comparison("epoch of a tiny net, 128 px", ways, goals, note=note)


def nets(files: Files) -> Iterator[Comparison]:
    """Epochs of two larger nets beside one constant batch, which is the limit."""
    size, limit = 128, "constant batch"
    makers: dict[str, Callable[[], nn.Module]] = {"GalaxyCNN": lambda: GalaxyCNN(37), "AstroCNN": lambda: AstroCNN(37)}
    for name, make in makers.items():
        steps = [training_step(make(), MSELoss()) for _ in range(5)]
        ways: dict[str, Way] = {
            NEVER: own_epoch(files.paths, size, DIHEDRAL, steps[0], files.cache, files.votes),
            ROTATED: own_epoch(files.paths, size, FREE, steps[1], files.cache, files.votes),
            limit: constant_epoch(size, steps[2], files.votes),
            "plain, 0 workers": plain_epoch(files.paths, size, 0, steps[3]),
            "plain, 2 workers": plain_epoch(files.paths, size, 2, steps[4]),
        }
        goals = {(NEVER, limit): 0.98, (ROTATED, limit): 0.98}
        yield Comparison(f"epoch of {name}, 128 px", ways, goals, note="Of the constant batch: share of the limit.")


def frozen(files: Files) -> Iterator[Comparison]:
    """A new head on a frozen ResNet-50."""
    size, paths = 128, files.paths[: 32 if files.quick else 96]
    root = paths[0].parent
    framing = Framing(size, crop=0.5, margin=1.42)
    store = open_store(root, [path.name for path in paths], framing, files.cache)
    net: Any = timm_net("resnet50", outputs=sum(SIZES), size=size).eval()
    votes = votes_like_ukidss()[: len(paths)]
    head = learning(net)

    def step(images: Tensor, _: Tensor) -> None:
        with torch.no_grad():
            features = net.features(images)
        head(features, votes[: len(images)])

    epoch = plain_epoch(paths, size, 2, step)

    def plain_phase() -> None:
        for _ in range(EPOCHS):
            epoch()

    ways: dict[str, Way] = {
        "galaxyml, features once": once(net, store, votes, files.folder, size),
        "features every epoch": every_epoch(net, store, votes, size),
        "plain, features every epoch, 2 workers": plain_phase,
    }
    note = f"{len(paths)} images, batches of {HEAD_BATCH} (plain: {BATCH}). Features computed once are of one view."
    yield Comparison(f"{EPOCHS} epochs of a head on a frozen ResNet-50, 128 px", ways, note=note)


def prediction(files: Files) -> Iterator[Comparison]:
    """Predictions by two nets, of one view and of eight."""
    size, paths = 160, files.paths
    for model in ("tf_efficientnet_lite0", "tiny"):
        for views in (1, 8):
            name = f"{model}_{views}"
            settings = [f"model={model}", f"size={size}", "epochs=1", f"predict_views={views}", f"name={name}"]
            settings += ["model.pretrained=false"] if model != "tiny" else []
            command(files, ["task=galaxyzoo", "source=simulated", "scale=smoke", "figures=false", *settings])
            predictor: Any = load(files.folder / "multirun" / "galaxyzoo" / name)
            net = copy.deepcopy(predictor.members[0].model.net).to(memory_format=torch.contiguous_format)
            own = f"galaxyml, {views} view{'s' * (views > 1)}"
            ways: dict[str, Way] = {own: predicts(predictor, paths)}
            for workers in WORKERS:
                ways[f"plain, {workers} workers"] = plain_predictions(net, paths, size, views, workers)
                if views > 1:
                    ways[f"plain, batches turned, {workers} workers"] = turned_predictions(net, paths, size, workers)
                if HAS_ZOOBOT and views == 1:
                    from zoobot_views import zoobot_predictions

                    encoder = copy.deepcopy(net.features) if model == "tiny" else lite_encoder()
                    ways[f"zoobot, {workers} workers"] = zoobot_predictions(encoder, 37, paths, size, workers)
            goals = {(own, "plain, 0 workers"): 4.0} if views == 8 else {}
            net_name = "a tiny net" if model == "tiny" else "EfficientNet-Lite0"
            note = "galaxyml also gives intervals and what is unlike the training set; zoobot starts workers anew."
            work = f"predictions by {net_name}, {own.partition(', ')[2]}, {size} px"
            yield Comparison(work, ways, goals, note=note, enough=3 if views > 1 else None)


def predicts(predictor: Any, paths: list[Path]) -> Way:
    """A table of predictions by a finished run."""

    def predict() -> None:
        predictor.predict(paths)

    return predict


def lite_encoder() -> nn.Module:
    """EfficientNet-Lite0 without its head."""
    import timm

    encoder: nn.Module = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    return encoder


# --- whole processes


def command(files: Files, words: list[str]) -> None:
    """Runs the command in the folder of everything."""
    finished(files, [sys.executable, "-m", "galaxyml", *words])


def finished(files: Files, words: list[str]) -> None:
    """Waits for a process, and shows what it wrote if it fails.

    It writes to a file: a pipe is only closed when its workers have noticed, seconds later, that it has ended.
    """
    with tempfile.TemporaryFile("w+") as written:
        done = subprocess.run(
            words, cwd=files.folder, env=environment(files), stdout=written, stderr=subprocess.STDOUT, check=False
        )
        if done.returncode:
            written.seek(0)
            sys.exit(f"{' '.join(words)}\n{written.read()[-6000:]}")


def environment(files: Files) -> dict[str, str]:
    """Of processes: galaxyml's cache is that of this measurement, and all are compiled in the turn that warms up."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "GALAXYML_CACHE": str(files.cache), "PYTHONPYCACHEPREFIX": str(files.folder / "bytecode")}


def scripts(files: Files) -> dict[str, list[str]]:
    """Commands that train a tiny net on 200 images for three epochs."""
    folder = str(files.paths[0].parent)
    found = {
        "plain script": [sys.executable, str(HERE / "plain.py"), folder],
        "template script": [sys.executable, str(HERE / "template.py"), folder],
    }
    if HAS_ZOOBOT:
        found["zoobot script"] = [sys.executable, str(HERE / "zoobot_views.py"), folder]
    return found


def memory(files: Files) -> Iterator[Comparison]:
    """Largest memory of a process that trains a tiny net."""
    words = {"galaxyml, the command": [sys.executable, "-m", "galaxyml", *SMOKE], **scripts(files)}
    ways = {name: peak(files, each) for name, each in words.items()}
    note = "VmHWM of the process itself, not of its workers: the peers' two come on top. galaxyml also writes a report."
    yield Comparison("memory of a training run of a tiny net, 112 px", ways, unit="MB", note=note, enough=2)


def peak(files: Files, words: list[str]) -> Way:
    """Largest resident memory of a process, MB."""

    def measure() -> float:
        most, null = 0.0, subprocess.DEVNULL
        process = subprocess.Popen(words, cwd=files.folder, env=environment(files), stdout=null, stderr=null)
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))
            most = max(most, int(found.group(1)) / 1024 if found else 0.0)
            time.sleep(0.02)
        assert process.returncode == 0, words
        return most

    return measure


def start_up(files: Files) -> Iterator[Comparison]:
    """Seconds until the first training step is done."""
    words = {"galaxyml, the command": [sys.executable, "-c", FIRST_STEP, *SMOKE]}
    words |= {name: [*each, "--first"] for name, each in scripts(files).items()}
    note = "The simulated sky and its store were there already."
    yield Comparison("start: until the first training step", processes(files, words), note=note)


def processes(files: Files, words: dict[str, list[str]]) -> dict[str, Way]:
    """Ways that are processes."""

    def way(each: list[str]) -> Way:
        return lambda: finished(files, each)

    return {name: way(each) for name, each in words.items()}


# --- light curves


def light_curves(files: Files) -> Iterator[Comparison]:
    """Light curves from CSV to padded tensors."""
    folder = plasticc(files)
    path, stores, batch = folder / "training_set.csv", files.folder / "curves", 256

    def from_store() -> None:
        curves = open_curves([path], stores)
        for start in range(0, len(curves), batch):
            curves.padded(np.arange(start, min(start + batch, len(curves))))

    def from_csv() -> None:
        shutil.rmtree(stores, ignore_errors=True)
        from_store()

    def by_pandas() -> None:
        padded_curves(path, batch)

    ways: dict[str, Way] = {"galaxyml, first time": from_csv, "galaxyml, later": from_store, "pandas": by_pandas}
    if HAS_PARSNIP:
        from parsnip_curves import parsnip_batches

        def by_parsnip() -> None:
            parsnip_batches(path, folder / "training_set_metadata.csv")

        ways["ParSNIP"] = by_parsnip
    note = (
        "ParSNIP also aligns and scales the curves, and puts them on a grid of days. galaxyml also checks every value."
    )
    yield Comparison("light curves from CSV to padded tensors", ways, note=note)


def plasticc(files: Files) -> Path:
    """A folder of simulated light curves."""
    folder = files.folder / "plasticc"
    write_plasticc(folder, count=200 if files.quick else 2000, seed=0, test_count=20)
    return folder


def vae(files: Files) -> Iterator[Comparison]:
    """An epoch of the autoencoder of light curves."""
    data: Any = Plasticc(plasticc(files), batch_size=BATCH, cache_dir=str(files.cache))
    data.setup()
    module = VAEModule.for_data(data, beta_warmup=0.0)  # so that its loss needs no trainer
    module.fit_statistics(data)
    same = list(data.train_dataloader())
    alone: Any = copy.deepcopy(module).train()
    alone.log = alone.log_dict = lambda *_, **__: None
    optimizer = torch.optim.AdamW(alone.parameters(), lr=2e-3)

    def loop() -> None:
        for number, batch in enumerate(same):
            optimizer.zero_grad()
            alone.training_step(batch, number).backward()
            optimizer.step()

    ways: dict[str, Way] = {"galaxyml, Trainer": trained(module, data), "bare loop over constant batches": loop}
    note = "Share of the limit: the bare loop neither reads nor varies light curves."
    yield Comparison("epoch of the autoencoder of light curves", ways, note=note)


def detectors(files: Files) -> Iterator[Comparison]:
    """Scores of known objects by an isolation forest."""
    rng = np.random.default_rng(0)
    count = 500 if files.quick else 3000
    x, labels = rng.normal(size=(count, 40)), rng.integers(0, 14, count)

    def crossed() -> None:
        cross_fitted_scores(Forest(), x, labels, parts=5, seed=0)

    def single() -> None:
        Forest().fit(x, labels).score(x)

    def sklearn() -> None:
        IsolationForest(n_estimators=500, max_samples=256, random_state=0).fit(x).score_samples(x)

    ways: dict[str, Way] = {"galaxyml, five parts": crossed, "galaxyml, one forest": single, "scikit-learn": sklearn}
    note = "Five forests score each object by one that has not learnt from it, so that known and new objects compare."
    yield Comparison("scores of known objects by isolation forests", ways, note=note)


ROWS: dict[str, Callable[[Files], Iterator[Comparison]]] = {
    "batches": batches,
    "epoch": epoch,
    "nets": nets,
    "frozen": frozen,
    "prediction": prediction,
    "memory": memory,
    "start": start_up,
    "light_curves": light_curves,
    "vae": vae,
    "detectors": detectors,
}


def main() -> None:
    """Measures some rows, prints their ratios, and writes all numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=5, help="turns that are timed, at most")
    parser.add_argument("--images", type=int, default=384, help=f"of the simulated sky, a multiple of {BATCH}")
    parser.add_argument("--out", type=Path, help="results/speed.json beside this file; with --quick, none")
    parser.add_argument("--quick", action="store_true", help="one turn of as little as there can be: does it run?")
    given = parser.parse_args()
    rounds, images = (1, BATCH) if given.quick else (given.rounds, given.images)
    if images % BATCH:
        parser.error(f"--images={images}: it must be a multiple of {BATCH}, as zoobot leaves out a part of a batch.")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    quiet()
    keep_memory()
    for name, there in {"zoobot and galaxy-datasets": HAS_ZOOBOT, "ParSNIP and lcdata": HAS_PARSNIP}.items():
        if not there:
            print(f"{name} are not installed: their ways are left out.")
    print(f"{torch.get_num_threads()} threads, {images} images of 424 px, {rounds} turns")
    print("Ratios of what another way took to what galaxyml took, their smallest and largest, and the goal:")
    out = given.out or (None if given.quick else HERE / "results" / "speed.json")
    kept = json.loads(out.read_text(encoding="utf-8")) if out and out.is_file() else {"rows": [], "settings": {}}
    rows = [row for row in kept["rows"] if row["row"] not in given.rows]
    settings = {row: about for row, about in kept["settings"].items() if row not in given.rows}
    with tempfile.TemporaryDirectory() as name:
        write_galaxyzoo(Path(name) / "sky", count=images, test_galaxies=1, seed=0)
        files = Files(Path(name), sorted((Path(name) / "sky" / "images_training_rev1").glob("*.jpg")), given.quick)
        for row in given.rows:
            start = time.perf_counter()
            for comparison in ROWS[row](files):
                found = comparison.measure(rounds)
                rows += [{"row": row, "images": images, **pair} for pair in found]
                print(f"\n{comparison.work}")
                for pair in found:
                    print(f"  {pair['way']:<26}{told(pair):<44}{pair['against']}", flush=True)
            print(f"  ({row}: {time.perf_counter() - start:.0f} s)", flush=True)
            order = list(ROWS)
            rows.sort(key=lambda row: order.index(row["row"]))
            settings[row] = setting()
            if out is not None:
                out.parent.mkdir(parents=True, exist_ok=True)
                whole = {"settings": {name: settings[name] for name in order if name in settings}, "ways": WAYS}
                out.write_text(json.dumps({**whole, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
