"""How well galaxyml and what people would use instead predict the same held-out objects of the same files.

    python benchmarks/peers/accuracy.py --data FOLDER                       # all tasks and peers, three seeds
    python benchmarks/peers/accuracy.py --data FOLDER --tasks galaxyzoo --peers frozen recipes
    python benchmarks/peers/accuracy.py --data FOLDER --quick               # minutes, only whether it works

`FOLDER` has a folder a task, and `weights/` with `tf_efficientnet_lite0.pth` and `resnet50.pth` of ImageNet. For each
task and seed galaxyml's own command makes five folds (of plasticc, a part that is held out); each peer learns from the
same objects of each, and predicts the others, whose targets it is not given. Both are measured by galaxyml's metrics,
and their differences by its paired bootstrap, over objects and seeds.

Peers' settings were not chosen by their scores here, but for Zoobot's (see there); galaxyml's are those of
docs/measured.md, which were measured on these objects, but for surveys and galaxy10, whose small net has
galaxyzoo_small's settings, and was tried on the first fold of seed 0, and on two seeds, before. Each piece is kept in
the work folder, so that the same command carries on. Peers `frozen` and `recipes` need nothing more than galaxyml does;
`zoobot` and `parsnip` need these packages: pip install zoobot galaxy-datasets astro-parsnip lcdata.
"""

import argparse
import datetime
import importlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lesson import ALLOWED, Lesson, Peer
from table import accuracy_tables
from turns import setting

from galaxyml.evaluation import paired
from galaxyml.evaluation.scored import ScoredPredictions, lower_is_better
from galaxyml.kinds import load_scored
from galaxyml.runs.files import atomic_write, write_json
from galaxyml.runs.run_dir import RunDir

MODULES = {"frozen": "frozen", "zoobot": "zoobot_tools", "parsnip": "parsnip_tools", "recipes": "recipes"}
WEIGHTS = ("tf_efficientnet_lite0.pth", "resnet50.pth")
FOLDS = 5
# By task, the main one first.
METRICS = {
    "galaxyzoo": ("rmse", "pearson"),
    "spirals": ("macro_f1", "accuracy", "ece", "nll"),
    "galaxy10": ("accuracy", "macro_f1"),
    "surveys": ("pearson/sdss", "mae/sdss"),  # means over 37 features
    "plasticc": ("roc_auc", "pr_auc"),
}


@dataclass(frozen=True)
class Recipe:
    """One of galaxyml's documented commands.

    Attributes:
        name: In the table of results.
        task: What it is for.
        words: Of the command.
        start: What its weights begin from.
        size: Side of the images that its net sees, in pixels; None where there are none.
        epochs: Of its fit.
        about: What it is, in a sentence.
        seeds: How many seeds it is trained with at most.
    """

    name: str
    task: str
    words: tuple[str, ...]
    start: str
    size: int | None
    epochs: int
    about: str
    seeds: int = 3

    @property
    def key(self) -> str:
        """The name in names of files."""
        return slug(self.name)


SKY = "simulated sky"
SPIRALS = ("experiment=spirals_votes", "model=winner_small", "size=64", "epochs=20", "optim.lr=2e-3")
PLASTICC = ("task=plasticc", "leave_out=[6,53,95]", "top=0", "embedded=0")
# What peers are compared with; from scratch they are in docs/measured.md.
RECIPES = (
    Recipe(
        "galaxyml, sky",
        "galaxyzoo",
        ("experiment=galaxyzoo_small", "epochs=40", "start=sky"),
        SKY,
        64,
        40,
        "winner_small, mean of 8 views, fractions that obey the decision tree",
    ),
    Recipe(
        "galaxyml, sky",
        "galaxy10",
        ("experiment=galaxy10_small",),
        SKY,
        64,
        40,
        "winner_small with galaxyzoo_small's settings, tried on two seeds before; mean of 8 views",
    ),
    Recipe(
        "galaxyml, sky",
        "spirals",
        (*SPIRALS, "start=sky"),
        SKY,
        64,
        20,
        "winner_small, mean of 8 views, temperature by the other folds",
    ),
    Recipe(
        "galaxyml, sky",
        "plasticc",
        (*PLASTICC, "start=sky"),
        SKY,
        None,
        60,
        "autoencoder and classes of light curves, blend of detectors",
    ),
    Recipe(
        "galaxyml, sky",
        "surveys",
        (
            "experiment=surveys_small",
            "model=winner_small",
            "start=sky",
            "tune=all",
            "views=1",
            "size=64",
            "epochs=40",
            "optim.lr=2e-3",
            "ema=0.99",
        ),
        SKY,
        64,
        40,
        "winner_small with galaxyzoo_small's settings, tried on one fold before; mean of 8 views",
    ),
)


def slug(name: str) -> str:
    """A name in names of files."""
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())


def say(line: str) -> None:
    """Prints a line at once."""
    print(f"{datetime.datetime.now():%H:%M:%S}  {line}", flush=True)


@dataclass(frozen=True)
class Bench:
    """What is compared, and where.

    Attributes:
        data: Folder with a folder a task.
        weights: Folder of ImageNet's weights.
        work: Folder of all that is kept.
        seeds: Of folds and fits.
        quick: Whether to try only that it works.
        workers: Folds of peers at a time, one core each.
    """

    data: Path
    weights: Path
    work: Path
    seeds: tuple[int, ...]
    quick: bool
    workers: int

    def folds(self, task: str) -> list[int]:
        """Folds of a task; of plasticc one, whose test part is held out."""
        return [0] if task == "plasticc" else list(range(2 if self.quick else FOLDS))

    def seeds_of(self, system: Recipe | Peer) -> tuple[int, ...]:
        """Seeds that a system is trained with."""
        return self.seeds[: system.seeds]

    def sweep(self, recipe: Recipe, seed: int) -> RunDir:
        """Folder of a command of galaxyml's."""
        return RunDir(self.work / "multirun" / recipe.task / f"{recipe.key}_{seed}")

    def peer_folder(self, peer: Peer, seed: int) -> Path:
        """Folder of a peer's predictions, which `galaxyml compare` takes as well."""
        return self.work / "peers" / peer.task / slug(peer.name) / str(seed)

    def piece(self, peer: Peer, seed: int, fold: int) -> Path:
        """File of a peer's predictions of a fold."""
        return self.work / "pieces" / peer.task / f"{slug(peer.name)}_{seed}_{fold}.parquet"


def split_of(task: str) -> str:
    """The split that is measured."""
    return "test" if task == "plasticc" else "val"


def run_recipe(bench: Bench, recipe: Recipe, seed: int) -> None:
    """Runs a command of galaxyml's, unless it is finished; the same name for another command is refused by itself."""
    sweep, about = bench.sweep(recipe, seed), bench.work / "seconds" / f"{recipe.task}_{recipe.key}_{seed}.json"
    folds = ",".join(map(str, bench.folds(recipe.task)))
    smaller = ["epochs=2", *([] if recipe.task in ("galaxy10", "plasticc") else ["limit=80"])] if bench.quick else []
    words = [
        *(word for word in recipe.words if not (bench.quick and word.startswith("epochs="))),
        f"data_dir={bench.data}",
        "figures=false",
        f"seed={seed}",
        f"name={sweep.name}",
        *smaller,
        "-m",
        f"fold={folds}",
    ]
    if sweep.finished and about.is_file() and json.loads(about.read_text(encoding="utf-8"))["words"] == words:
        return
    began = time.monotonic()
    command = [sys.executable, "-m", "galaxyml", *words]
    ended = subprocess.run(command, cwd=bench.work, capture_output=True, text=True, check=False)
    if ended.returncode or not sweep.finished:
        raise SystemExit(f"galaxyml {' '.join(words)}\n{ended.stdout}{ended.stderr}")
    seconds = time.monotonic() - began
    write_json(about, {"wall": seconds, "words": words})
    say(f"{recipe.task}, {recipe.name}, seed {seed}: {seconds:.0f} s")


def lesson_of(bench: Bench, recipe: Recipe, seed: int, fold: int) -> Lesson:
    """What a peer learns and predicts of a fold of a finished run of galaxyml's."""
    sweep = bench.sweep(recipe, seed)
    run = next(child for child in sweep.children() if int(child.config.fold) == fold)
    catalog = run.catalog()
    split = split_of(recipe.task)
    held = catalog[catalog["split"] == split]
    predicted = run.predictions(split)
    assert predicted is not None
    held = held[held["id"].isin(predicted["id"])]
    learnt = ["train", "val"] if split == "test" else ["train"]  # galaxyml calibrates by the validation objects
    return Lesson(
        task=recipe.task,
        columns=tuple(str(name) for name in predicted if name != "id") if recipe.task != "plasticc" else (),
        seed=seed,
        fold=fold,
        train=catalog[catalog["split"].isin(learnt)].reset_index(drop=True),
        held=held[[name for name in ALLOWED if name in held]].reset_index(drop=True),
        data=Path(run.provenance()["data"]["folder"]),
        weights=bench.weights,
        work=bench.work,
        quick=bench.quick,
    )


def learn(peer: Peer, lesson: Lesson, file: Path) -> float:
    """Has a peer learn and predict a fold in this process, on one core, and writes its predictions; its seconds."""
    import torch

    torch.set_num_threads(1)
    began = time.monotonic()
    values = np.asarray(peer.predict(lesson), np.float64)
    seconds = time.monotonic() - began
    expected = (len(lesson.held), len(lesson.columns)) if lesson.columns else (len(lesson.held),)
    if values.shape != expected or not np.isfinite(values).all():
        raise ValueError(f"{peer.name}: predictions of shape {values.shape}, not {expected}, or not finite.")
    table = pd.DataFrame(values, columns=list(lesson.columns) or ["score"])
    table.insert(0, "id", lesson.held["id"])
    with atomic_write(file) as draft:
        table.to_parquet(draft, index=False)
    write_json(file.with_suffix(".json"), {"seconds": seconds, "peer": peer.settings})
    return seconds


def is_done(peer: Peer, file: Path) -> bool:
    """Whether a fold's predictions are there, made by the peer as it is now."""
    about = file.with_suffix(".json")
    if not (file.is_file() and about.is_file()):
        return False
    made_by: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))["peer"]
    return made_by == peer.settings


def run_peer(bench: Bench, peer: Peer, recipe: Recipe, pool: ProcessPoolExecutor) -> None:
    """Has a peer learn all folds and seeds that it has not, and puts each seed's together."""
    jobs = {}
    for seed in bench.seeds_of(peer):
        for fold in bench.folds(peer.task):
            file = bench.piece(peer, seed, fold)
            if not is_done(peer, file):
                jobs[pool.submit(learn, peer, lesson_of(bench, recipe, seed, fold), file)] = (seed, fold)
    for job in as_completed(jobs):
        seed, fold = jobs[job]
        say(f"{peer.task}, {peer.name}, seed {seed}, fold {fold}: {job.result():.0f} s")
    for seed in bench.seeds_of(peer):
        pieces = [pd.read_parquet(bench.piece(peer, seed, fold)) for fold in bench.folds(peer.task)]
        as_run(bench.sweep(recipe, seed), bench.peer_folder(peer, seed), pd.concat(pieces, ignore_index=True), peer)


def as_run(sweep: RunDir, folder: Path, predictions: pd.DataFrame, peer: Peer) -> None:
    """Writes predictions into a folder like that of a run of the same objects, so that both can be compared."""
    run, split = RunDir(folder), split_of(peer.task)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(sweep.path / "catalog.parquet", folder / "catalog.parquet")
    shutil.copytree(sweep.path / ".hydra", folder / ".hydra", dirs_exist_ok=True)
    run.write_predictions(split, predictions)
    if peer.task in ("spirals", "galaxy10"):  # what stands in for outputs before calibration
        logits = predictions.set_index("id").clip(lower=1e-12).apply(np.log).reset_index()
        run.write_predictions(split, logits, by="net")
    run.write_metrics({"peer": peer.name})


def scored(run: RunDir, task: str) -> ScoredPredictions:
    """Predictions beside their targets."""
    found = load_scored(run, split_of(task))
    if found is None:
        raise SystemExit(f"{run.path} has no predictions whose truth is known.")
    if task == "plasticc":  # only the score that ranks, not the other detectors'
        return replace(found, columns=found.columns[:1], predicted=found.predicted[:, :1])
    return found


def value(objects: ScoredPredictions, metric: str) -> float:
    """A metric of objects."""
    numbers = objects.measure(np.ones((1, len(objects.ids)), np.uint8), [metric.partition("/")[0]])
    return float(numbers[metric][0]) if metric in numbers else float("nan")


def values_of(runs: dict[int, RunDir], task: str, metric: str) -> dict[str, Any]:
    """A metric of one system: out of fold and mean over folds for each seed, and their spreads."""
    out_of_fold, of_folds = {}, {}
    for seed, run in runs.items():
        objects = scored(run, task)
        out_of_fold[seed] = value(objects, metric)
        if task != "plasticc":
            catalog = run.catalog()
            fold = catalog["fold"].to_numpy()[pd.Index(catalog["id"].astype(str)).get_indexer(pd.Index(objects.ids))]
            parts = [value(objects.take(np.flatnonzero(fold == number)), metric) for number in np.unique(fold)]
            of_folds[seed] = {"mean": float(np.mean(parts)), "std": float(np.std(parts, ddof=1))}
    several = list(out_of_fold.values())
    return {
        "value": float(np.mean(several)),
        "std_over_seeds": float(np.std(several, ddof=1)) if len(several) > 1 else None,
        "std_over_folds": float(np.mean([each["std"] for each in of_folds.values()])) if of_folds else None,
        "by_seed": {str(seed): {"held_out": out_of_fold[seed], "folds": of_folds.get(seed)} for seed in runs},
    }


def difference(ours: dict[int, RunDir], theirs: dict[int, RunDir], task: str, metric: str) -> dict[str, Any]:
    """A metric of galaxyml's less that of a peer on the same objects, over objects and the seeds of both."""
    models = {
        name: {seed: scored(run, task) for seed, run in runs.items()}
        for name, runs in (("peer", theirs), ("ours", ours))
    }
    ranking = paired.rank(models, metric, split_of(task), order=["peer", "ours"])
    gap = ranking.rows[1].behind
    assert gap is not None
    better = (gap.value < 0) == lower_is_better(metric)
    return {
        "ours_less_peer": gap.value,
        "low": gap.low,
        "high": gap.high,
        "p": gap.p,
        "seeds": ranking.seeds,
        "objects": ranking.objects,
        "verdict": ("better" if better else "worse") if gap.clear else "no clear difference",
    }


def seconds_of(bench: Bench, system: Recipe | Peer) -> dict[str, float]:
    """Seconds of a fold on one core, the mean and the most; that one may have computed features for all others."""
    if isinstance(system, Recipe):
        tables = [pd.read_csv(bench.sweep(system, seed).path / "sweep.csv") for seed in bench.seeds_of(system)]
        each = pd.concat(tables)["seconds"].tolist()
        return {"fold": float(np.mean(each)), "slowest_fold": float(max(each))}
    files = [bench.piece(system, seed, fold) for seed in bench.seeds_of(system) for fold in bench.folds(system.task)]
    each = [json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["seconds"] for file in files]
    return {"fold": float(np.mean(each)), "slowest_fold": float(max(each))}


def row(bench: Bench, system: Recipe | Peer, runs: dict[int, RunDir]) -> dict[str, Any]:
    """What is said of a system: where it begins, what it took, and each metric."""
    return {
        "system": system.name,
        "start": system.start,
        "size": system.size,
        "epochs": system.epochs,
        "about": system.about,
        "seeds": list(runs),
        "seconds": seconds_of(bench, system),
        "metrics": {metric: values_of(runs, system.task, metric) for metric in METRICS[system.task]},
    }


def add(found: dict[str, Any], bench: Bench, system: Recipe | Peer, first: Recipe) -> None:
    """Adds what has been measured of a system to the results of its task.

    Args:
        found: Results by task.
        bench: Where its runs are.
        system: All of its seeds have been run.
        first: galaxyml's recipe that peers of this task are compared with.
    """
    ours = {seed: bench.sweep(first, seed) for seed in bench.seeds_of(first)}
    if isinstance(system, Recipe):
        runs = {seed: bench.sweep(system, seed) for seed in bench.seeds_of(system)}
    else:
        runs = {seed: RunDir(bench.peer_folder(system, seed)) for seed in bench.seeds_of(system)}
    measured = row(bench, system, runs)
    if isinstance(system, Peer):
        for metric, numbers in measured["metrics"].items():
            numbers["difference"] = difference(ours, runs, system.task, metric)
    else:
        measured["command"] = " ".join(["python -m galaxyml", *system.words])
    task = found.setdefault(
        system.task, {"objects": len(scored(ours[bench.seeds[0]], system.task).ids), "best_peer": {}, "rows": []}
    )
    task["rows"].append(measured)
    peers = [each for each in task["rows"] if "command" not in each]
    task["best_peer"] = {metric: best_of(peers, metric) for metric in METRICS[system.task]} if peers else {}


def best_of(rows: Sequence[dict[str, Any]], metric: str) -> str:
    """Name of the peer with the best value."""
    sign = -1 if lower_is_better(metric) else 1
    return max(rows, key=lambda each: sign * each["metrics"][metric]["value"])["system"]


def in_order(found: dict[str, Any]) -> dict[str, Any]:
    """Results by task, in the order of the tasks."""
    return {task: found[task] for task in METRICS if task in found}


def peers_of(name: str, left_out: dict[str, str]) -> tuple[Peer, ...]:
    """The peers of a module; none, which `left_out` tells, where the packages that it needs are not installed."""
    try:
        peers: tuple[Peer, ...] = importlib.import_module(MODULES[name]).PEERS
    except ImportError as error:
        left_out[name] = str(error)
        say(f"{name} is left out: {error}. Install it, or give --peers without it.")
        return ()
    return peers


def main() -> None:
    """Runs what has not been run, and writes all results after each system."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder a task, and weights/")
    parser.add_argument("--tasks", nargs="+", choices=METRICS, default=list(METRICS), metavar="TASK")
    parser.add_argument(
        "--peers", nargs="*", choices=MODULES, default=list(MODULES), metavar="NAME", help=", ".join(MODULES)
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("accuracy_work"), help="where pieces are kept")
    parser.add_argument("--out", type=Path, help="results/accuracy.json beside this file; with --quick, in --work")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 2), help="folds of peers at a time")
    parser.add_argument("--quick", action="store_true", help="tiny limits: whether it works")
    given = parser.parse_args()
    data = given.data.resolve()
    work = given.work.resolve() / ("quick" if given.quick else "whole")
    work.mkdir(parents=True, exist_ok=True)
    seeds = tuple(given.seeds[:1] if given.quick else given.seeds)
    bench = Bench(data, data / "weights", work, seeds, given.quick, given.workers)
    out: Path = given.out or (work if given.quick else Path(__file__).parent / "results") / "accuracy.json"
    if missing := [name for name in WEIGHTS if not (bench.weights / name).is_file()]:
        parser.error(
            f"{bench.weights} has no {' and no '.join(missing)}: put timm's weights of ImageNet there, by which most "
            "peers begin."
        )
    os.environ["OMP_NUM_THREADS"] = "1"  # of each process; there are as many as there are cores

    first = {recipe.task: recipe for recipe in RECIPES if recipe.task in given.tasks}
    before = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {"tasks": {}, "left_out": {}}
    found: dict[str, Any] = {task: content for task, content in before["tasks"].items() if task not in given.tasks}
    left_out = {name: why for name, why in before["left_out"].items() if name.partition(",")[0] in found}
    about = {**setting(), "quick": given.quick}

    def finished(system: Recipe | Peer) -> None:
        add(found, bench, system, first[system.task])
        write_json(out, about | {"left_out": left_out, "tasks": in_order(found)})

    for task in given.tasks:
        for seed in bench.seeds_of(first[task]):
            run_recipe(bench, first[task], seed)
        finished(first[task])
    for name in given.peers:
        for peer in peers_of(name, left_out):
            if peer.task not in given.tasks:
                continue
            try:
                # A pool of its own: where a process is killed, that is the end of its pool.
                with ProcessPoolExecutor(given.workers, multiprocessing.get_context("spawn")) as pool:
                    run_peer(bench, peer, first[peer.task], pool)
            except Exception as error:  # of another package: the rest of an hour's work goes on
                left_out[f"{peer.task}, {peer.name}"] = f"{type(error).__name__}: {error}"
                say(f"{peer.task}, {peer.name} is left out: {error}")
            else:
                finished(peer)
    write_json(out, about | {"left_out": left_out, "tasks": in_order(found)})
    print("\n".join(accuracy_tables(in_order(found))))
    print(f"\nWritten to {out}.")


if __name__ == "__main__":
    main()
