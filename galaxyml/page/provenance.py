"""A run in a few words, for people who did not make it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

import galaxyml
from galaxyml.data.source import Simulated
from galaxyml.inference.predictor import Predictor
from galaxyml.kinds import Kind
from galaxyml.page import markup
from galaxyml.reports import references, verdict

SPLITS = {"survey": "survey", "test": "test", "val": "validation"}  # a run is judged by the first that it has
SMOKE = "A smoke test, which only tries that everything works: nothing that it says of your data is to be relied on."
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

    def html(self) -> str:
        """The HTML at the head of a run's tab."""
        facts = "".join(
            f"<div><dt>{markup.text(name)}</dt><dd>{markup.text(fact)}</dd></div>" for name, fact in self.facts.items()
        )
        return f'<h2>{markup.text(self.question)}</h2><dl class="gx-facts">{facts}</dl>'


def about(predictor: Predictor) -> About:
    """The words about a predictor."""
    run, nets = predictor.run, len(predictor.description["nets"])
    provenance = run.provenance()
    source = provenance["data"]["source"]
    commit = f", commit {provenance['commit'][:8]}" if provenance["commit"] else ""
    facts = {
        "model": f"{predictor.model}{f', mean of {nets} nets' if nets > 1 else ''}",
        "learnt from": source,
        "score": _score(predictor.kind, run.metrics()),
        "made by": f"galaxyml {provenance['versions']['galaxyml']}{commit}",
    }
    task = OmegaConf.create({"task": predictor.task})
    cite = "; ".join(references.of_data(task, source == Simulated.name)) or "the authors of the data"
    return About(references.invitation(task), {name: fact for name, fact in facts.items() if fact}, cite)


def how_sure(predictor: Predictor, promise: str) -> str:
    """A sentence on how far to rely on predictions: the promise of their kind, but of a smoke test none."""
    return SMOKE if verdict.sentence(predictor.run.metrics()) == verdict.SMOKE else promise


def _score(kind: Kind, metrics: Mapping[str, Any]) -> str:
    metric = kind.words.main
    for split, word in SPLITS.items():
        if isinstance(value := metrics.get(f"{split}/{metric}"), int | float):
            return f"{kind.words.label(metric)} {value:.3f} on {word} objects"
    return ""
