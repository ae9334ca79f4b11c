"""Names of features: the question that each answers, and what figures call it."""

from collections.abc import Sequence

from galaxyml.trees.ontology import Ontology

KINDS = ("_debiased", "_weighted_fraction")  # of fractions, by the end of a feature's name; none for the votes' own


def question_of(feature: str) -> str:
    """The question that a feature answers, with the kind of its fractions where it is not the votes' own.

    >>> question_of("bar_yes"), question_of("bar_yes_debiased")
    ('bar', 'bar, debiased')
    """
    name, kind = _apart(feature)
    return Ontology.load().question_of(name).name + kind


def question_text(feature: str) -> str:
    """The question that a feature answers, as volunteers are asked it."""
    return Ontology.load().question_of(_apart(feature)[0]).text


def label(feature: str) -> str:
    """Name of a feature in figures, such as `edge-on`."""
    name, kind = _apart(feature)
    return Ontology.load().label(name) + kind


def questions(features: Sequence[str]) -> dict[str, list[int]]:
    """By question, in the order of the features, the columns of those that answer it."""
    columns: dict[str, list[int]] = {}
    for column, feature in enumerate(features):
        columns.setdefault(question_of(feature), []).append(column)
    return columns


def _apart(feature: str) -> tuple[str, str]:
    """A feature's plain name, and the kind of its fractions as figures add it."""
    for kind in KINDS:
        if feature.endswith(kind):
            return feature.removesuffix(kind), f", {kind[1:].replace('_', ' ')}"
    return feature, ""
