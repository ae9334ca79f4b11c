"""What a run is, in a few words for people who did not make it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import galaxyml
from galaxyml.page import markup
from galaxyml.runs import RunDir

# By task: what a person is told that the page does, and who made the data that such runs learn from.
TASKS = {
    "galaxyzoo": (
        "What would the volunteers of Galaxy Zoo say of this galaxy?",
        "Willett et al. 2013, MNRAS 435, 2835 (Galaxy Zoo 2)",
    ),
    "spirals": ("Is it a spiral or an elliptical?", "Lintott et al. 2011, MNRAS 410, 166 (Galaxy Zoo 1)"),
    "galaxy10": (
        "Which of ten kinds of galaxy is it?",
        "Leung & Bovy, Galaxy10 DECaLS; Walmsley et al. 2022, MNRAS 509, 3966",
    ),
    "surveys": (
        "What would volunteers say of this galaxy, whichever survey saw it?",
        "Willett et al. 2013, MNRAS 435, 2835; Walmsley et al. 2022, MNRAS 509, 3966",
    ),
    "plasticc": (
        "Is this light curve unlike all known classes?",
        "The PLAsTiCC team 2018, arXiv:1810.00001; Kessler et al. 2019, PASP 131, 094501",
    ),
}
# What a run is judged by, the first that it has: its metric, and the metric in words.
SCORES = {
    "test/accuracy": "accuracy",
    "val/accuracy": "accuracy",
    "test/rmse": "RMSE of the fractions",
    "val/rmse": "RMSE of the fractions",
    "survey/roc_auc": "area under the ROC curve of unknown objects",
    "test/roc_auc": "area under the ROC curve of unknown objects",
}
SPLITS = {"test": "test", "val": "validation", "survey": "survey"}
CITE = f"The galaxyml developers, galaxyml {galaxyml.__version__} (CITATION.cff)"


@dataclass(frozen=True)
class About:
    """A run in words.

    Attributes:
        question: What the page answers.
        facts: What it is, by name.
        cite: Who made the data.
    """

    question: str
    facts: dict[str, str]
    cite: str

    def shown(self) -> str:
        """The HTML at the head of a run's tab."""
        facts = "".join(
            f"<div><dt>{markup.text(name)}</dt><dd>{markup.text(fact)}</dd></div>" for name, fact in self.facts.items()
        )
        return f'<h2>{markup.text(self.question)}</h2><dl class="gx-facts">{facts}</dl>'


def about(run: RunDir) -> About:
    """What is known of a finished run, or of a bundle that is laid out as one."""
    config, made = run.nets()[0].config, run.provenance()
    question, cite = TASKS.get(config.task, ("What does the net say of it?", "the authors of the data"))
    nets = len(run.nets())
    source = made["data"].get("source", "files that are not named")
    facts = {
        "model": f"{_net(config.module.net)}{f', mean of {nets} nets' if nets > 1 else ''}",
        "learnt from": source,
        "score": _score(run.metrics()),
        "made by": f"galaxyml {made['versions']['galaxyml']}, commit {str(made.get('commit') or 'not known')[:8]}",
    }
    return About(question, {name: fact for name, fact in facts.items() if fact}, cite)


def _net(net: Mapping[str, Any]) -> str:
    size = f", {net['size']} px" if net.get("size") else ""
    return f"{net.get('name') or str(net['_target_']).rpartition('.')[2]}{size}"


def _score(metrics: Mapping[str, Any]) -> str:
    for name, words in SCORES.items():
        if isinstance(value := metrics.get(name), int | float):
            return f"{words} {value:.3f} on {SPLITS[name.partition('/')[0]]} objects"
    return ""
