"""ParSNIP on PLAsTiCC's light curves, judged by what finds novelty in its features and by its own classifier.

Needs `astro-parsnip`, which brings `lcdata`, `sncosmo` and `lightgbm`. Beside a model that learns the fold's objects
alone stands the one that comes with the package, which has learnt from PLAsTiCC itself: from all classes that are like
supernovae, the class 95 that is to be found here among them, and perhaps from these very objects.

What is mended from outside, so that it runs without network and on so few objects:

- sncosmo fetches LSST's passbands from its website; without it, even passbands between LSST's edges stand in for them;
- ParSNIP leaves out all that is not like a supernova and has no redshift; here it is given all objects, as it has to
  rank all, with the spectroscopic redshift of their galaxies, 0 within ours;
- an epoch of its `fit` repeats a small data set to 25,000 light curves, some 20 minutes on one core, of up to 1,000;
  here its own steps are taken in eight passes over the objects, which is little;
- galactic and faint objects have no luminosity, which its classifier takes as missing and the others as the median;
- `min_child_weight` of its LightGBM is 1,000, meant for hundreds of thousands of objects, and then no tree has a branch
  here; it is 1.
"""

import contextlib
import io
import tempfile
import warnings
from functools import partial
from importlib.resources import files
from pathlib import Path

import astropy.table
import lcdata
import lightgbm
import numpy as np
import pandas as pd
import parsnip
import sncosmo
import torch
from lesson import Lesson, Peer
from parsnip.utils import replace_nan_grads
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

# Edges of LSST's passbands at half of their maximum in angstrom (LSST Science Book 2.0, arXiv:0912.0201, table 2.1).
EDGES = {
    "u": (3200, 4000),
    "g": (4000, 5520),
    "r": (5520, 6910),
    "i": (6910, 8180),
    "z": (8180, 9220),
    "y": (9220, 10600),
}
BANDS = [f"lsst{name}" for name in EDGES]
EPOCHS = 8  # passes
NEIGHBOURS = 5


def register_bands() -> None:
    """Gives sncosmo LSST's passbands, where it cannot fetch them."""
    for name, (low, high) in EDGES.items():
        try:
            sncosmo.get_bandpass(f"lsst{name}")
        except OSError:  # no network
            wave = np.array([low - 60, low + 60, high - 60, high + 60], float)
            band = sncosmo.Bandpass(wave, np.array([0.0, 1.0, 1.0, 0.0]), name=f"lsst{name}")
            sncosmo.register(band, f"lsst{name}", force=True)


def dataset(rows: pd.DataFrame, curves: pd.DataFrame) -> lcdata.Dataset:
    """Light curves of rows as lcdata has them."""
    redshift = rows["specz"].where(rows["specz"] > 0, rows["photoz"]).fillna(0.0)
    types = rows.get("name", "Unknown")
    meta = astropy.table.Table.from_pandas(
        pd.DataFrame(
            {
                "object_id": rows["id"].astype(str),
                "ra": rows["ra"],
                "dec": rows["dec"],
                "type": types,
                "redshift": redshift.clip(0, 3.9),
                "mwebv": rows["mwebv"],
            }
        )
    )
    part = curves[curves["object_id"].isin(rows["id"])]
    bands = np.array(BANDS)[part["passband"].to_numpy()]
    observations = astropy.table.Table(
        {
            "object_id": part["object_id"].astype(str).to_numpy().astype(str),
            "time": part["mjd"].to_numpy(),
            "flux": part["flux"].to_numpy(),
            "fluxerr": part["flux_err"].to_numpy(),
            "band": bands,
        }
    )
    for name in ("object_id", "type"):
        meta[name] = meta[name].astype(str)
    return lcdata.from_observations(meta, observations)


def fit(model: parsnip.ParsnipModel, train: lcdata.Dataset, passes: int) -> None:
    """The steps of `ParsnipModel.fit`, in passes over the light curves instead of epochs of 25,000."""
    loader = model.get_data_loader(model.preprocess(train, verbose=False), augment=True, shuffle=True)
    model.train()
    for _ in range(passes):
        for curves in loader:
            model.optimizer.zero_grad()
            model.loss_function(model.forward(curves)).backward()
            replace_nan_grads(model.parameters())
            model.optimizer.step()


def predictions(lesson: Lesson, own_weights: bool) -> tuple[astropy.table.Table, astropy.table.Table]:
    """What ParSNIP predicts of the objects to learn from and of those held out, in the order of their rows.

    Args:
        lesson: The fold.
        own_weights: Whether the model is the one that comes with the package.
    """
    register_bands()
    torch.manual_seed(lesson.draw)
    np.random.seed(lesson.draw)  # noqa: NPY002 - what ParSNIP draws from
    curves = pd.read_csv(lesson.data / "training_set.csv")
    train, held = dataset(lesson.train, curves), dataset(lesson.held, curves)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        if own_weights:
            model = parsnip.load_model(str(files("parsnip") / "models" / "plasticc.pt"), threads=1)
        else:
            model = parsnip.ParsnipModel(str(Path(folder) / "model.pt"), BANDS, threads=1)
            fit(model, train, lesson.epochs(EPOCHS))
        model.eval()
        with torch.no_grad():
            found = [model.predict_dataset(part) for part in (train, held)]
    for table, rows in zip(found, (lesson.train, lesson.held), strict=True):
        order = pd.Index(np.asarray(table["object_id"]).astype(str)).get_indexer(rows["id"].astype(str))
        if (order < 0).any():
            raise ValueError(f"ParSNIP left out {(order < 0).sum()} of {len(rows)} light curves.")
        found = [table[order] if each is table else each for each in found]
    return found[0], found[1]


def shared(lesson: Lesson, own_weights: bool) -> tuple[astropy.table.Table, astropy.table.Table]:
    """The same, computed once for all scores of a fold."""
    folder = lesson.work / "parsnip"
    folder.mkdir(parents=True, exist_ok=True)
    model = "own" if own_weights else "fitted"
    names = [folder / f"{model}_{lesson.draw}_{lesson.quick}_{part}.ecsv" for part in ("train", "held")]
    if not all(name.is_file() for name in names):
        for name, table in zip(names, predictions(lesson, own_weights), strict=True):
            table.write(name, overwrite=True)
    first, second = (astropy.table.Table.read(name) for name in names)
    return first, second


def score(lesson: Lesson, by: str, own_weights: bool) -> np.ndarray:
    """How unusual objects are: by `forest` or `neighbours` of ParSNIP's features, or by its `classifier`."""
    warnings.filterwarnings("ignore")  # what these versions of numpy and astropy say of ParSNIP
    train, held = shared(lesson, own_weights)
    classifier = parsnip.Classifier()
    if by == "classifier":
        features = [classifier.extract_features(part) for part in (train, held)]
        labels = np.asarray(train["type"]).astype(str)
        names, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
        model = lightgbm.LGBMClassifier(
            objective="multiclass",
            num_class=len(names),
            min_child_weight=1.0,
            random_state=lesson.draw,
            verbose=-1,
            n_jobs=1,
        )
        model.fit(features[0], numbers, sample_weight=(counts.mean() / counts)[numbers])
        return 1 - model.predict_proba(features[1]).max(axis=1)
    known, new = (
        _whole(classifier.extract_features(part), classifier.extract_features(train)) for part in (train, held)
    )
    scaler = StandardScaler().fit(known)
    known, new = scaler.transform(known), scaler.transform(new)
    if by == "forest":
        return -IsolationForest(n_estimators=500, random_state=lesson.draw).fit(known).score_samples(new)
    return NearestNeighbors(n_neighbors=NEIGHBOURS).fit(known).kneighbors(new)[0].mean(axis=1)


def _whole(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Features with what is missing as the median of the objects to learn from, and whether the luminosity is."""
    missing = ~np.isfinite(features)
    middle = np.nanmedian(np.where(np.isfinite(train), train, np.nan), axis=0)
    return np.column_stack([np.where(missing, middle, features), missing.any(axis=1)])


PEERS = tuple(
    Peer(
        f"ParSNIP {'as published' if own else 'fitted'} + {title}",
        "plasticc",
        "its own model of PLAsTiCC, which knows class 95" if own else "nothing",
        None,
        None if own else EPOCHS,
        ("LightGBM on" if by == "classifier" else "on")
        + " the eleven features of ParSNIP's classifier; the first of the three rows computes them",
        partial(score, by=by, own_weights=own),
    )
    for own in (True, False)
    for by, title in (
        ("forest", "IsolationForest"),
        ("neighbours", "nearest neighbours"),
        ("classifier", "its classifier"),
    )
)
