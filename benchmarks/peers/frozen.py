"""scikit-learn on features of frozen ImageNet nets: ridge and logistic regression, the cheapest strong peer.

Features are the mean over four rotations of the central part of an image at 224 px, of EfficientNet-Lite0, of
ResNet-50, and of both side by side. Penalties are chosen by cross-validation inside the objects to learn from.
"""

import warnings
from functools import partial

import numpy as np
from frozen_features import features, rotations
from lesson import Lesson, Peer
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NETS = {"EfficientNet-Lite0": ["tf_efficientnet_lite0"], "ResNet-50": ["resnet50"]}
BOTH = {**NETS, "both": ["tf_efficientnet_lite0", "resnet50"]}
ALPHAS = np.logspace(1, 6, 16)
SIZE = 224


def mean_features(lesson: Lesson, nets: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Features of the objects to learn from and of those to predict, shape (N, D) each."""
    views = rotations(lesson.crop(), SIZE)
    parts = [features(lesson, net, f"turned_{SIZE}", views) for net in nets]
    train, held = (np.concatenate([part[which].mean(axis=1) for part in parts], axis=1) for which in (0, 1))
    return train, held


def ridge(lesson: Lesson, nets: list[str]) -> np.ndarray:
    """Fractions by ridge regression, the penalty of each column by leave-one-out, cut off at 0 and 1."""
    train, held = mean_features(lesson, nets)
    targets = lesson.fractions()
    weights = lesson.votes() if lesson.kind == "votes" else np.ones_like(targets)
    scaler = StandardScaler().fit(train)
    train, held = scaler.transform(train), scaler.transform(held)
    predicted = np.empty((len(held), targets.shape[1]))
    for column in range(targets.shape[1]):
        asked = np.isfinite(targets[:, column]) & (weights[:, column] > 0)
        if asked.sum() < 3:
            predicted[:, column] = targets[asked, column].mean() if asked.any() else 0.5
            continue
        model = RidgeCV(alphas=ALPHAS)
        model.fit(train[asked], targets[asked, column], sample_weight=weights[asked, column] / weights[asked].max())
        predicted[:, column] = model.predict(held)
    return predicted.clip(0, 1)


def logistic(lesson: Lesson, nets: list[str]) -> np.ndarray:
    """Probabilities of classes by logistic regression, the penalty by the log-loss of inner folds."""
    train, held = mean_features(lesson, nets)
    labels = lesson.labels()
    parts = StratifiedKFold(int(np.bincount(labels)[np.unique(labels)].min().clip(2, 5)), shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)  # classes that are rarer than inner folds
        model = make_pipeline(
            StandardScaler(),
            LogisticRegressionCV(Cs=np.logspace(-5, 1, 7), cv=parts, scoring="neg_log_loss", max_iter=300),
        ).fit(train, labels)
    predicted = np.zeros((len(held), len(lesson.columns)))
    predicted[:, model.classes_] = model.predict_proba(held)
    return predicted


PEERS = tuple(
    Peer(
        name=f"frozen {name} + {'logistic regression' if fit is logistic else 'ridge'}",
        task=task,
        start="ImageNet",
        size=SIZE,
        epochs=None,
        about="scikit-learn, penalty by inner cross-validation; mean features of four rotations of the central part"
        + ("; the rows above computed them" if len(nets) > 1 else ""),
        predict=partial(fit, nets=nets),
    )
    for task, fit in (("galaxyzoo", ridge), ("spirals", logistic), ("galaxy10", logistic), ("surveys", ridge))
    for name, nets in BOTH.items()
)
