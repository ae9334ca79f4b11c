"""What a run is, in a few words for people who did not make it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import galaxyml
from galaxyml.data.source import Simulated
from galaxyml.page import markup
from galaxyml.reports import references
from galaxyml.runs.run_dir import RunDir

# What a run is judged by, the first that it has: its metric, and the metric in words.
SCORES = {
    "test/accuracy": "accuracy",
    "val/accuracy": "accuracy",
    "test/rmse": "RMSE of the fractions",
    "val/rmse": "RMSE of the fractions",
    "test/r2": "share of the variance that is told (R2)",
    "val/r2": "share of the variance that is told (R2)",
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
    nets = len(run.nets())
    source = made["data"].get("source", "files that are not named")
    facts = {
        "model": f"{_net(config.module.net)}{f', mean of {nets} nets' if nets > 1 else ''}",
        "learnt from": source,
        "score": _score(run.metrics()),
        "made by": f"galaxyml {made['versions']['galaxyml']}, commit {str(made.get('commit') or 'not known')[:8]}",
    }
    cite = "; ".join(references.of_data(config, source == Simulated.name)) or "the authors of the data"
    return About(references.invitation(config), {name: fact for name, fact in facts.items() if fact}, cite)


def _net(net: Mapping[str, Any]) -> str:
    size = f", {net['size']} px" if net.get("size") else ""
    return f"{net.get('name') or str(net['_target_']).rpartition('.')[2]}{size}"


def _score(metrics: Mapping[str, Any]) -> str:
    for name, words in SCORES.items():
        if isinstance(value := metrics.get(name), int | float):
            return f"{words} {value:.3f} on {SPLITS[name.partition('/')[0]]} objects"
    return ""
