"""Words of reports about a kind of target: its nouns, and the names, order and company of its metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field

ENDS = ("_low", "_high")  # of a 95 % interval, by the end of a metric's name


@dataclass(frozen=True)
class Words:
    """Plain data about a kind, for tables and sentences.

    Attributes:
        targets: What is predicted, such as `vote fractions`.
        main: The metric that says most.
        noun: What the objects are.
        known: What can be scored, after the noun.
        column: What one of the columns is.
        stratum: What objects are resampled and compared apart by, such as `survey`; '' for nothing.
        labels: Names of metrics for people; others go by their own.
        by_column: Metrics of single columns that reports show, in this order, as headings.
        variants: What else a metric is measured for, by the beginning of its name, in the order of reports.
        baselines: Those of `variants` that see no object.
        wide: Those of `variants` for which a terminal has no room.
        brief: Metrics that are shown where there is little room; () for all.
        counts: Metrics that are counts.
        judged: Splits, the one that counts first, of which those decide whether a model is any good.
        headline: Metrics that a report begins with.
        learnt: Whether what is measured is learnt, so that more objects or epochs would help.
        notes: Sentences below a table that has one of these: a variant, by the beginning of its name, or a metric.
    """

    targets: str
    main: str
    noun: str = "galaxies"
    known: str = "with targets"
    column: str = "column"
    stratum: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    by_column: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, str] = field(default_factory=dict)
    baselines: tuple[str, ...] = ()
    wide: tuple[str, ...] = ()
    brief: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    judged: tuple[str, ...] = ("test", "val")
    headline: tuple[str, ...] = ()
    learnt: bool = True
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def one(self) -> str:
        """The noun's singular."""
        return "galaxy" if self.noun == "galaxies" else self.noun.removesuffix("s")

    def label(self, metric: str) -> str:
        """A metric's name for people."""
        return self.labels.get(metric, metric.replace("_", " "))

    def is_own(self, metric: str) -> bool:
        """Whether a metric is the model's own, and no end of an interval."""
        return not metric.startswith(tuple(self.variants)) and not metric.endswith(ENDS)
