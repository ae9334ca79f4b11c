"""How many labels find the odd objects, by the order in which a person is asked: five seeds, a labeller who knows.

    .venv/bin/python benchmarks/labels.py                                   # the simulated sky alone
    .venv/bin/python benchmarks/labels.py --galaxyzoo FOLDER --figure FILE  # and Kaggle's labelled galaxies

Simulated: 6,000 galaxies of which 1 % are mergers, rings, lensed arcs or artifacts. Kaggle's: odd is the fraction
Class6.1 above 0.8, and above 0.5. The net is `sky`, which knows no real label; numbers are on halves that nobody is
asked about, beside rows that need no net.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, roc_auc_score

from galaxyml.data.images.decode import open_image
from galaxyml.evaluation.plots import COLOURS
from galaxyml.inference import load
from galaxyml.inference.embedded import Embedded, embed
from galaxyml.inference.galleries import Images
from galaxyml.inference.image_predictor import ImagePredictor
from galaxyml.labelling.choose import STRATEGIES
from galaxyml.labelling.simulate import Course, simulate
from galaxyml.runs.packaged import packaged
from galaxyml.sky import write_anomalies

SEEDS, LABELS = 5, 100
COUNT, SHARE = 6000, 0.01


def trivial(objects: Embedded) -> dict[str, np.ndarray]:
    """Scores that need no net."""
    assert isinstance(objects.gallery, Images)
    assert objects.shapes is not None
    means, middles, sizes = [], [], []
    for path in objects.gallery.paths:
        grey = open_image(Path(path)).mean(axis=2)
        side = len(grey)
        part = slice(round(0.45 * side), round(0.55 * side))
        means.append(grey.mean())
        middles.append(grey[part, part].mean())
        sizes.append(os.path.getsize(path))
    rng = np.random.default_rng(0)
    return {
        "random": rng.random(len(objects)),
        "mean brightness": np.array(means),
        "brightness of the central tenth": np.array(middles),
        "bytes of the file": np.array(sizes, float),
        "asymmetry": objects.shapes.asymmetry,
    }


def measure(name: str, objects: Embedded, odd: np.ndarray) -> dict[str, list[Course]]:
    """Prints what is known without a label and with some; returns the courses by the order."""
    print(f"\n{name}: {odd.sum()} of {len(odd):,} are odd (prevalence {odd.mean():.3f})")
    rows = {**trivial(objects), "without labels": objects.unusual.score}
    rows |= {f"  {family} alone": score for family, score in objects.unusual.families.items()}
    for row, score in rows.items():
        auc = max(roc_auc_score(odd, score), roc_auc_score(odd, -score)) if row != "without labels" else None
        auc = roc_auc_score(odd, score) if auc is None else auc
        print(f"  {row:34} AUROC {auc:.3f}  AUPRC {average_precision_score(odd, score):.3f}")
    courses: dict[str, list[Course]] = {}
    for by in STRATEGIES:
        began = time.perf_counter()
        courses[by] = [simulate(objects, odd, by, LABELS, seed=seed) for seed in range(SEEDS)]
        took = (time.perf_counter() - began) / SEEDS / (LABELS / 10)
        said = [f"{took:.2f} s a fit"]
        for labels in (20, 50, 100):
            at = [int(np.flatnonzero(course.labels == labels)[0]) for course in courses[by]]
            for key, title in (("roc_auc", "AUROC"), ("pr_auc", "AUPRC"), ("found", "found")):
                values = [getattr(course, key)[place] for course, place in zip(courses[by], at, strict=True)]
                said.append(f"{title}({labels}) {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}")
        for key, level in (("roc_auc", 0.9), ("found", 0.8)):
            until = [course.labels_until(key, level) for course in courses[by]]
            said.append(f"labels until {key} {level}: {np.median(until):.0f}")
        print(f"  by {by:14}", "; ".join(said))
    return courses


def drawn(by_set: dict[str, dict[str, list[Course]]]) -> Figure:
    """AUROC and the share found by the number of labels, with the spread over seeds."""
    figure = Figure(figsize=(3.2 * len(by_set), 5.6), layout="constrained")
    panels = figure.subplots(2, len(by_set), sharex=True, squeeze=False)
    for column, (name, courses) in enumerate(by_set.items()):
        for row, (key, label) in enumerate((("roc_auc", "AUROC, of others"), ("found", "share of the odd found"))):
            axes = panels[row, column]
            for (by, some), colour in zip(courses.items(), COLOURS, strict=False):
                values = np.stack([getattr(course, key) for course in some])
                mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1)
                axes.plot(some[0].labels, mean, color=colour, label=by)
                axes.fill_between(some[0].labels, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
            axes.set_ylabel(label)
            axes.spines[["top", "right"]].set_visible(False)
            if not row:
                axes.set_title(name, fontsize=10)
        panels[1, column].set_xlabel("labels")
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    return figure


def simulated(folder: Path) -> tuple[list[str], np.ndarray]:
    """Images of the simulated sky, and which are odd."""
    write_anomalies(folder / "sky", COUNT, seed=7, share=SHARE)
    table = pd.read_csv(folder / "sky" / "labels.csv")
    return [str(folder / "sky" / path) for path in table["path"]], table["odd"].to_numpy(bool)


def main() -> None:
    """Prints the numbers, and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--galaxyzoo", type=Path, help="folder with images_training_rev1 and training_solutions_rev1.csv"
    )
    parser.add_argument("--figure", type=Path, help="the file of the figure")
    given = parser.parse_args()
    source = packaged("sky")
    predictor = load(source)
    assert isinstance(predictor, ImagePredictor)
    by_set: dict[str, dict[str, list[Course]]] = {}
    with tempfile.TemporaryDirectory() as name:
        if given.galaxyzoo is not None:
            votes = pd.read_csv(given.galaxyzoo / "training_solutions_rev1.csv").set_index("GalaxyID")
            paths = [given.galaxyzoo / "images_training_rev1" / f"{number}.jpg" for number in votes.index]
            there = np.array([path.is_file() for path in paths])
            votes, paths = votes[there], [path for path in paths if path.is_file()]
            objects = embed(predictor, source, [str(path) for path in paths], Path(name))
            for level in (0.8, 0.5):
                odd = (votes["Class6.1"] > level).to_numpy()
                by_set[f"Galaxy Zoo, Class6.1 > {level}"] = measure(f"Class6.1 > {level}", objects, odd)
        paths_of_sky, odd = simulated(Path(name))
        objects = embed(predictor, source, paths_of_sky, Path(name))
        by_set["simulated, 1 %"] = measure("simulated", objects, odd)
        if given.figure is not None:
            drawn(by_set).savefig(given.figure, dpi=120)


if __name__ == "__main__":
    main()
