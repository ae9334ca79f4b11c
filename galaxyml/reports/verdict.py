"""Whether a model is better than the baseline: one sentence, with the likeliest reason where it is not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from omegaconf import DictConfig

from galaxyml.evaluation.bootstrap import interval
from galaxyml.evaluation.paired import measured
from galaxyml.evaluation.scored import lower_is_better
from galaxyml.evaluation.words import ENDS, Words
from galaxyml.kinds import Kind, of_run
from galaxyml.runs.run_dir import NAMED, RunDir

KEY = "verdict"  # in `metrics.json`
SMOKE = "A smoke test: too small to judge."
FEW = 5_000  # objects to learn from: with fewer, more of them are the first thing that helps
END, SHARE = 0.2, 0.05  # the last part of a fit, and the share of all progress that is made there while it goes on


@dataclass(frozen=True)
class Gain:
    """What a model has over a baseline, and the ends of its 95 % interval, NaN without any.

    Attributes:
        value: The gain, positive where the model is better.
        low: Lower end.
        high: Upper end.
        relative: Whether it is in per cent of the baseline's error, and no difference.
    """

    value: float
    low: float
    high: float
    relative: bool

    @property
    def better(self) -> bool:
        """Whether the whole interval, or without any the value, is above 0."""
        return self.value > 0 if np.isnan(self.low) else self.low > 0

    @property
    def worse(self) -> bool:
        """Whether the whole interval, or without any the value, is below 0."""
        return self.value < 0 if np.isnan(self.high) else self.high < 0

    def __str__(self) -> str:
        """As `39 % [35, 43]`, or `0.240 [0.187, 0.279]`."""
        digits, unit = (0 if abs(self.value) >= 10 else 1, " %") if self.relative else (3, "")
        value, low, high = (f"{number:.{digits}f}" for number in (self.value, self.low, self.high))
        return f"{value}{unit}" + ("" if np.isnan(self.low) else f" [{low}, {high}]")


def judge(run: RunDir, metrics: dict[str, Any]) -> dict[str, Any]:
    """A run's metrics with, under `verdict`, how its model stands to the best of the baselines.

    What is compared is the monitored metric, or the kind's main one where no baseline was measured by that, on the
    first split that the kind is judged on.

    Args:
        run: The run, the sweep whose folds were joined, or the ensemble.
        metrics: Its numbers, as its stages gave them.

    Returns:
        The same and, where there is a baseline, `verdict`: the `sentence`, the `metric` with its `value`, which
        `baseline` has which `baseline_value`, the `gain` over it and its 95 % interval `gain_low` and `gain_high` (in
        per cent of the baseline's error; of measures that are best when high, the difference), and whether that is
        `better`: None for a smoke test, which is too small to tell, and says so where there is no baseline, too.
    """
    kind = of_run(run)
    smoke = is_smoke_test(run.config)
    compared = against_baseline(metrics, str(run.config.monitor), kind.words)
    if compared is None:
        return {**metrics, KEY: {"sentence": SMOKE, "better": None}} if smoke else metrics
    metric, prefix = compared
    gain = _gain(run, kind, metrics, metric, prefix)
    verdict: dict[str, Any] = {
        "sentence": SMOKE if smoke else _sentence(run, kind.words, metrics, metric, prefix, gain),
        "better": None if smoke else bool(gain.better),
        "metric": metric,
        "value": metrics[metric],
        "baseline": kind.words.variants[prefix],
        "baseline_value": metrics[_of(metric, prefix)],
        "gain": gain.value,
    }
    if np.isfinite(gain.low):
        verdict |= {"gain_low": gain.low, "gain_high": gain.high}
    return {**metrics, KEY: verdict}


def sentence(metrics: dict[str, Any]) -> str:
    """The sentence of a run's metrics; '' where there was nothing to compare with."""
    return str(metrics.get(KEY, {}).get("sentence", ""))


def is_smoke_test(config: DictConfig) -> bool:
    """Whether a run only tries that everything works."""
    return bool(config.get("smoke", False))


def against_baseline(metrics: dict[str, Any], monitor: str, words: Words) -> tuple[str, str] | None:
    """What a model is judged by, and the beginning of the best baseline's name; None without any baseline.

    >>> words = Words("classes", "f1", variants={"majority_": "majority class"}, baselines=("majority_",))
    >>> against_baseline({"val/f1": 0.8, "val/majority_f1": 0.3}, "val/loss", words)
    ('val/f1', 'majority_')
    """
    for split in words.judged:
        for name in (monitor.partition("/")[2], words.main):
            metric = f"{split}/{name}"
            known = [prefix for prefix in words.baselines if _of(metric, prefix) in metrics]
            if metric in metrics and known:
                best = min if lower_is_better(name) else max
                return metric, best(known, key=lambda prefix: metrics[_of(metric, prefix)])
    return None


def still_improving(values: np.ndarray, lower: bool) -> bool:
    """Whether the end of a curve brought a good share of its progress; so it did where there is one epoch alone.

    >>> still_improving(np.array([0.5, 0.3, 0.2, 0.1]), lower=True)
    True
    >>> still_improving(np.array([0.5, 0.2, 0.15, 0.16, 0.17]), lower=True)
    False
    """
    values = -values if lower else values
    last = max(1, round(END * len(values)))
    before = values[:-last]
    if not len(before):
        return True
    return bool(values[-last:].max() - before.max() > SHARE * np.ptp(values))


def likeliest_reason(curves: Sequence[np.ndarray], monitor: str, lower: bool, learnt_from: int, noun: str) -> str:
    """Why a model is no better than its baseline, as far as its curves and its data tell.

    Args:
        curves: The monitored metric epoch by epoch, shape (E,), of each net; none where it was not logged.
        monitor: Its name.
        lower: Whether it is to be low.
        learnt_from: How many objects each net learnt from.
        noun: What these are.
    """
    epochs = max(map(len, curves), default=0)
    if curves and 2 * sum(still_improving(values, lower) for values in curves) > len(curves):
        after = f"{epochs} epochs" if epochs > 1 else "a single epoch"
        return f"most likely for too few epochs, as {monitor} was still improving after {after}"
    stopped = f", and {monitor} had stopped improving by the end of {epochs} epochs" if curves else ""
    if learnt_from < FEW:
        return f"most likely for too few {noun}, as it learnt from {learnt_from:,} of them{stopped}"
    return f"although it learnt from {learnt_from:,} {noun}{stopped}: check the labels and the learning rate"


def _of(metric: str, prefix: str) -> str:
    """A baseline's name of a metric: `val/rmse` becomes `val/mean_rmse`."""
    split, _, name = metric.partition("/")
    return f"{split}/{prefix}{name}"


def _gain(run: RunDir, kind: Kind, metrics: dict[str, Any], metric: str, prefix: str) -> Gain:
    """The gain over a baseline, see `judge`."""
    split, _, name = metric.partition("/")
    value, baseline = metrics[metric], metrics[_of(metric, prefix)]
    low, high = (metrics.get(f"{split}/{name}{end}", np.nan) for end in ENDS)
    if not _lower(run, name):
        return Gain(value - baseline, low - baseline, high - baseline, relative=False)
    scored = kind.scored(run, split)
    simple = kind.column_means(run, scored) if scored is not None else None
    if scored is not None and simple is not None:
        own, other = (numbers.get(name) for numbers in measured([scored, simple], [name]))  # of the same resamples
        if own is not None and other is not None:
            gain, least, most = interval(100 * (1 - own / other))
            return Gain(gain, least, most, relative=True)
    gain, least, most = (100 * (1 - error / baseline) for error in (value, high, low))
    return Gain(gain, least, most, relative=True)


def _lower(run: RunDir, name: str) -> bool:
    """Whether a metric is to be low: as the configuration says of the monitored one."""
    monitored = name == str(run.config.monitor).partition("/")[2]
    return run.config.mode == "min" if monitored else lower_is_better(name)


def _sentence(run: RunDir, words: Words, metrics: dict[str, Any], metric: str, prefix: str, gain: Gain) -> str:
    split, _, name = metric.partition("/")
    label = words.variants[prefix]
    against = f"the {label}" if label.startswith("baseline") else f"the baseline ({label})"
    where = f"on {NAMED[split]} {words.noun}"
    numbers = f"{words.label(name)} {metrics[metric]:.4f} against {metrics[_of(metric, prefix)]:.4f}"
    if gain.better:
        return f"Better than {against} by {gain} {where}: {numbers}."
    if gain.value > 0:  # which so few objects cannot tell from none
        judged = int((run.catalog()["split"] == split).sum())
        return (
            f"Not shown to be better than {against} {where}: {numbers}, a gain of {gain}, whose 95 % interval holds 0: "
            f"only {judged:,} {words.noun} judge it."
        )
    how = "Worse than" if gain.worse else "Not better than"
    reason = f", {_reason(run, words.noun)}" if words.learnt else ""
    return f"{how} {against} {where} ({numbers}){reason}."


def _reason(run: RunDir, noun: str) -> str:
    monitor = str(run.config.monitor)
    curves = [history[monitor].dropna().to_numpy() for history in run.histories().values() if monitor in history]
    learnt_from = int(run.nets()[0].provenance()["data"]["objects"]["train"])
    return likeliest_reason([own for own in curves if len(own)], monitor, run.config.mode == "min", learnt_from, noun)
