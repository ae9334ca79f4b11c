"""The report of a sweep, finished or not: what is missing, which combination is best, and one row a job."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galaxyml.kinds import of_run
from galaxyml.reports import run_report, sweep_table
from galaxyml.reports.html import write_report
from galaxyml.reports.run_report import markdown, number, with_interval
from galaxyml.reports.sweep_table import ENDED, NOT_BEGUN, Job, combination
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir

if TYPE_CHECKING:
    from galaxyml.evaluation.paired import Ranked, Ranking
    from galaxyml.evaluation.scored import ScoredPredictions
    from galaxyml.evaluation.words import Words

WIDEST = 12  # columns of a table of combinations
RESAMPLES = 1000


@dataclass(frozen=True)
class Verdict:
    """Which combination is best, as far as that can be told.

    Attributes:
        by_split: Rankings by the split that decides, and in the same order by those that no fold has learnt from.
        notes: Sentences about them.
    """

    by_split: "dict[str, Ranking]" = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def write(sweep: RunDir, found: Sequence[Job], joined: Sequence[RunDir], verdict: Verdict) -> Path:
    """Writes `sweep.csv`, the figures and the report of a sweep, and tells where its page is.

    Args:
        sweep: The sweep's folder.
        found: Its jobs.
        joined: What was joined, one for each combination and seed; none where something is missing.
        verdict: As `judge` has it.
    """
    sweep_table.write(sweep, found)
    draw(sweep, found)
    missing = _missing(found, joined)
    if [run.path for run in joined] == [sweep.path]:
        more = [*missing, *(_jobs(found) if len(found) > 1 else [])]
        return run_report.write(sweep, sweep.metrics(), more)
    names = list(dict.fromkeys(job.combination for job in found))
    what = f"{len(names)} combinations, " if len(names) > 1 else ""
    what += f"{len(found)} job{'s' * (len(found) > 1)}"
    lines = [f"# {sweep.path.parent.name}: {sweep.name}, {what}", *_asked(found), "", *_made(found), *missing]
    if joined:
        lines += _combinations(joined, found)
    lines += [line for split in verdict.by_split for line in _ranking(split, verdict, found)]
    if verdict.notes:
        lines += ["", *verdict.notes]
    if len(names) > 1 or len(found) > 1:
        lines += _spreads(found)
    lines += [*run_report.figures(sweep), *_jobs(found)]
    if joined:
        lines += ["", "## Reports", "", *(f"- [{run.name}](joined/{run.name}/report.md)" for run in joined)]
    if done := next((job.run for job in found if job.state == "finished"), None):
        lines += run_report.cited(done)
    return write_report(sweep, "\n".join(lines) + "\n")


def judge(found: Sequence[Job], joined: Sequence[RunDir]) -> Verdict:
    """Ranks combinations by the monitored metric, out of fold and paired on the objects that all predicted.

    Those are ranked whose runs are all finished. Where the monitored metric is no measure of objects (a loss), the one
    that tells most about such runs takes its place.

    Args:
        found: A sweep's jobs.
        joined: What was joined; where a combination was not, its runs' validation objects are put together.
    """
    from galaxyml.evaluation.paired import rank
    from galaxyml.evaluation.scored import SPLITS

    if (judged_by := sweep_table.monitored(found)) is None:
        return Verdict()
    groups: dict[str, list[Job]] = {}
    for job in found:
        groups.setdefault(job.group, []).append(job)
    whole = {name: jobs for name, jobs in groups.items() if all(job.state == "finished" for job in jobs)}
    if len({combination(name) for name in whole}) < 2:
        return Verdict()
    split, _, metric = judged_by[0].partition("/")
    try:
        models = {name: _models(whole, joined, name) for name in SPLITS}
    except UserError as error:
        return Verdict(notes=[f"Not ranked: {error}"])
    known = [name for name in SPLITS if _complete(models[name], whole)]
    if not known:
        return Verdict(notes=["Not ranked: no split has objects whose truth is known."])
    first = split if split in known else known[0]
    example = next(iter(next(iter(models[first].values())).values()))
    notes = []
    if split != first or metric not in example.measure(np.ones((1, len(example.ids)), np.uint8)):
        notes = [f"{judged_by[0]} is no measure of single objects, so that {first}/{example.words.main} ranks."]
        metric = example.words.main
    rankings: dict[str, Ranking] = {}
    for name in [first, *(name for name in known if name not in (first, "val"))]:
        order = [row.name for row in next(iter(rankings.values())).rows] if rankings else None
        try:
            rankings[name] = rank(models[name], metric, name, order, RESAMPLES)
        except UserError as error:
            notes.append(f"Not ranked by {name}: {error}")
    return Verdict(rankings, notes)


def draw(sweep: RunDir, found: Sequence[Job]) -> None:
    """Draws the monitored metric epoch by epoch and, of two or more swept keys, against what was swept."""
    from galaxyml.reports.sweep_plots import Line, learning_curves, parallel_coordinates

    if (judged_by := sweep_table.monitored(found)) is None:
        return
    monitor, mode = judged_by
    lines: list[Line] = []
    for job in found:
        epochs, values, ends = job.curve(monitor)
        if len(epochs):
            lines.append(Line(job.combination, job.state, epochs, values, ends))
    if lines:
        sweep.write_figure(
            "learning_curves",
            learning_curves(lines, monitor, mode == "min"),
            f"{monitor} over the epochs, a line a job.",
        )
    columns = sweep_table.swept(found)
    if len(columns) < 2:
        return
    of: dict[str, list[int]] = {}
    for at, job in enumerate(found):
        of.setdefault(job.combination, []).append(at)
    means: list[float] = []
    cut_short: list[bool] = []
    firsts: list[int] = []
    for places in of.values():
        ended = [at for at in places if found[at].state == "finished"]
        early = [at for at in places if found[at].state == "pruned"]
        reached = [value for at in ended or early if (value := found[at].reached(monitor, mode)) is not None]
        means.append(statistics.mean(reached) if reached else np.nan)
        cut_short.append(not ended)
        firsts.append(places[0])
    settings = {key: [each[at] for at in firsts] for key, each in columns.items()}
    if np.isfinite(means).sum() > 1:
        shown = parallel_coordinates(settings, np.array(means), np.array(cut_short), monitor, mode == "min")
        sweep.write_figure(
            "parallel_coordinates",
            shown,
            f"What was swept, and the {monitor} that it led to: a line a combination, the thick one is the best.",
        )


def ranking_table(split: str, ranking: "Ranking", found: Sequence[Job] = (), intervals: bool = True) -> list[list[str]]:
    """A ranking for people, header first; pruned trials among the jobs come last, with what they had come to.

    Args:
        split: Of the objects.
        ranking: What was found.
        found: The jobs.
        intervals: Whether the values have theirs, too; the differences always have.
    """
    several = len(ranking.seeds) > 1
    rows = [
        [
            str(place),
            row.name,
            with_ends(row.value, row.low, row.high) if intervals else number(row.value),
            _difference(row),
            f"{row.behind.p:.3f}" if row.behind is not None else "",
            f"{row.first:.0%}",
        ]
        for place, row in enumerate(ranking.rows, start=1)
    ]
    judged_by = sweep_table.monitored(found)
    if judged_by is not None and judged_by[0] == f"{split}/{ranking.metric}":
        pruned = [job for job in found if job.state == "pruned"]
        sign = 1 if judged_by[1] == "min" else -1
        reached = [(job.reached(*judged_by), job) for job in pruned]
        told = [(value, job) for value, job in reached if value is not None]
        for value, job in sorted(told, key=lambda pair: (sign * pair[0], pair[1].name)):
            name = job.combination if ranking.rows else job.name
            rows.append(["", name, f"{number(value)} at epoch {len(job.history)}", "pruned", "", ""])
    key = f"{split}/{ranking.metric}" + (f", mean of {len(ranking.seeds)} seeds" if several else "")
    return [["", "combination", key, "above the first", "p", "best in"], *rows]


def _models(
    groups: Mapping[str, Sequence[Job]], joined: Sequence[RunDir], split: str
) -> "dict[str, dict[int, ScoredPredictions]]":
    """By combination and seed what was said of a split, where its truth is known."""
    from galaxyml.kinds import load_scored

    together = {run.name: run for run in joined}
    found: dict[str, dict[int, ScoredPredictions]] = {}
    for group, jobs in groups.items():
        run = together.get(group or "no-other-key")
        if run is not None:
            scored = load_scored(run, split)
        elif split == "val" or len(jobs) == 1:
            parts = [part for job in jobs if (part := load_scored(job.run, split)) is not None]
            scored = parts[0].concat(parts[1:]) if len(parts) == len(jobs) else None
        else:
            scored = None
        if scored is not None:
            found.setdefault(combination(group), {})[jobs[0].seed or 0] = scored
    return found


def _complete(models: "Mapping[str, Mapping[int, ScoredPredictions]]", groups: Mapping[str, Sequence[Job]]) -> bool:
    """Whether something was said by every combination."""
    return set(models) == {combination(group) for group in groups}


def _ranking(split: str, verdict: Verdict, found: Sequence[Job]) -> list[str]:
    ranking = verdict.by_split[split]
    first = next(iter(verdict.by_split))
    called = ranking.called
    title = "## Ranking" if split == first else f"## The same on {split} {called}, in the order of {first}"
    some = f", of up to {ranking.predicted:,}" if ranking.predicted > ranking.objects else ""
    lines = ["", title, "", *markdown(ranking_table(split, ranking, found if split == first else ())), ""]
    lines.append(
        f"On the {ranking.objects:,} {called} that all predicted{some}. In brackets: 95 % of {RESAMPLES:,} bootstrap "
        f"resamples of the {called}, the same for all combinations, so that the differences to the first are paired."
    )
    if split == first:
        lines.append(
            "`p`: how often chance alone would give a difference as large. It is not corrected for the number of "
            "combinations, the first of which is partly lucky; `best in`: the share of resamples in which one is best."
        )
        if split != "val":
            lines.append(f"The first was chosen on {split} {called}, so that its own number there is optimistic.")
        if len(ranking.seeds) > 1:
            lines.append(
                f"Each value is the mean over the seeds {', '.join(map(str, ranking.seeds))} of what one training "
                "reaches, not of an ensemble; the resamples draw seeds, too, so that the intervals allow for another "
                "training as far as so few can tell."
            )
        else:
            lines.append("Each was trained with one seed: how much another training would change is not in here.")
        if ranking.left_out:
            lines.append(f"Left out, as not all combinations have them: seeds {', '.join(map(str, ranking.left_out))}.")
    return lines


def with_ends(value: float, low: float, high: float) -> str:
    """A number with its interval in brackets, if it has one."""
    return number(value) if np.isnan(low) else f"{number(value)} [{low:.4f}, {high:.4f}]"


def _difference(row: "Ranked") -> str:
    if row.behind is None:
        return ""
    return f"{row.behind.value:+.4f} [{row.behind.low:+.4f}, {row.behind.high:+.4f}]"


def _made(found: Sequence[Job]) -> list[str]:
    """The command and the data, as the first run that has begun knows them."""
    for job in found:
        try:
            provenance = job.run.provenance()
        except UserError:
            continue
        data = provenance["data"]
        return [
            "```",
            run_report.command(provenance["command"]),
            "```",
            "",
            f"From {data['source']} (`{data['folder']}`).",
        ]
    return []


def _asked(found: Sequence[Job]) -> list[str]:
    """What its runs ask, as the first that has begun knows it."""
    begun = next((job.run for job in found if job.run.started), None)
    return [] if begun is None else run_report.asked(begun.config)


def _missing(found: Sequence[Job], joined: Sequence[RunDir]) -> list[str]:
    """What is not there, and why."""
    missing = [job for job in found if job.state not in ENDED]
    if not missing:
        return []
    counts = {state: sum(job.state == state for job in found) for state in dict.fromkeys(job.state for job in found)}
    told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    lines = ["", "## Not finished", "", f"{len(found)} jobs: {told}. "]
    lines[-1] += "What is joined is without these:" if joined else "Nothing is joined as long as these are missing:"
    lines.append("")
    for job in missing:
        text = " ".join(job.why().split())
        log = f" (log: [{job.name}/{job.log.name}]({job.name}/{job.log.name}))" if job.log else ""
        lines.append(f"- `{job.name}`: {job.state}{': ' if text else ''}{text}{log if job.state != NOT_BEGUN else ''}")
    advice = "One that is not wanted any more is left out when its folder and its entry in `jobs.json` are deleted."
    return [*lines, "", f"The same command carries on with them and keeps what is finished. {advice}"]


def _jobs(found: Sequence[Job]) -> list[str]:
    """One row a job."""
    monitor, mode = sweep_table.monitored(found) or ("", "")
    columns = sweep_table.swept(found)
    times = [_time(job) for job in found]
    header = ["job", *columns, "state", *([monitor] if monitor else []), "epochs", "best"]
    header += ["time"] if any(times) else []
    rows = []
    for at, job in enumerate(found):
        name = f"[{job.name}]({job.name}/report.md)" if job.run.finished else job.name
        best = job.best_epoch(monitor, mode) if monitor else None
        row = [name, *(values[at] for values in columns.values()), job.state]
        row += [number(job.reached(monitor, mode))] if monitor else []
        row += [str(len(job.history) or ""), str(best or "")]
        row += [times[at]] if any(times) else []
        rows.append(row)
    return ["", "## Jobs", "", *markdown([header, *rows]), "", "The whole table: [sweep.csv](sweep.csv)."]


def _time(job: Job) -> str:
    """Hours, minutes and seconds from beginning to end, if both are known."""
    seconds = sweep_table.seconds(job)
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def _spreads(found: Sequence[Job]) -> list[str]:
    """Mean and spread over folds and over seeds of each combination."""
    if (judged_by := sweep_table.monitored(found)) is None:
        return []
    monitor, mode = judged_by
    metrics = {job.name: job.run.metrics() for job in found if job.state == "finished"}
    if not metrics:
        return []
    split, _, name = monitor.partition("/")
    others = [f"{other}/{name}" for other in ("test", "survey") if other != split]
    keys = [monitor, *(key for key in others if all(key in each for each in metrics.values()))]
    groups: dict[str, list[Job]] = {}
    for job in found:
        groups.setdefault(job.combination, []).append(job)
    rows = []
    for group, jobs in groups.items():
        ended = [job for job in jobs if job.name in metrics]
        row = [group, f"{len(ended)} of {len(jobs)}"]
        for key in keys:
            by_seed: dict[int, list[float]] = {}
            for job in ended:
                value = job.reached(monitor, mode) if key == monitor else metrics[job.name][key]
                if value is not None:
                    by_seed.setdefault(job.seed or 0, []).append(value)
            row += [_over_folds(list(by_seed.values())), _over_seeds(list(by_seed.values()))]
        rows.append(row)
    header = [name for key in keys for name in (f"{key}: over folds", "over seeds")]
    return [
        "",
        "## Over folds and seeds: mean ± standard deviation (number)",
        "",
        *markdown([["combination", "jobs finished", *header], *rows]),
        "",
        "Of single runs. Over folds: within a seed; over seeds: of the means over folds.",
    ]


def _over_folds(by_seed: list[list[float]]) -> str:
    """Mean over all, and the deviation over folds within a seed, root mean square over seeds."""
    if not by_seed:
        return ""
    mean = statistics.mean(value for values in by_seed for value in values)
    variances = [statistics.variance(values) for values in by_seed if len(values) > 1]
    most = max(map(len, by_seed))
    return number(mean) + (f" ± {number(statistics.mean(variances) ** 0.5)} ({most})" if variances else "")


def _over_seeds(by_seed: list[list[float]]) -> str:
    means = [statistics.mean(values) for values in by_seed]
    return f"{_mean_and_std(means)} ({len(means)})" if len(means) > 1 else ""


def _mean_and_std(values: Sequence[float]) -> str:
    text = number(statistics.mean(values))
    return text + (f" ± {number(statistics.stdev(values))}" if len(values) > 1 else "")


def _combinations(joined: Sequence[RunDir], found: Sequence[Job]) -> list[str]:
    """One row a joined combination, then over seeds.

    The metrics are the monitored one and those that a trivial predictor was measured by, of the test split and the
    survey where their truth is known.
    """
    monitor, _ = sweep_table.monitored(found) or ("", "")
    words = of_run(joined[0]).words
    metrics = {run.name: run.metrics() for run in joined}
    shared = set.intersection(*(set(each) for each in metrics.values()))
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, each in metrics.items():
        groups.setdefault(combination(name), []).append(each)
    told = [split for split in ("test", "survey") if any(key.startswith(_of_baselines(split, words)) for key in shared)]
    lines: list[str] = []
    for split in told or ["val"]:
        keys = _compared(shared, split, monitor, list(next(iter(metrics.values()))), words)
        rows = [[name, *(with_interval(each, key, words) for key in keys)] for name, each in metrics.items()]
        lines += ["", *markdown([["combination", *keys], *rows])]
        if any(len(members) > 1 for members in groups.values()):
            lines += ["", "## Over seeds: mean ± standard deviation", ""]
            rows = [
                [name, f"{len(each)}", *(_mean_and_std([one[key] for one in each]) for key in keys)]
                for name, each in groups.items()
            ]
            lines += markdown([["combination", "seeds", *keys], *rows])
    if any(" [" in line for line in lines):
        lines += ["", "In brackets: 95 % of bootstrap resamples of the objects."]
    return lines


def _of_baselines(split: str, words: "Words") -> tuple[str, ...]:
    """How the keys of a split begin that no net was needed for."""
    return tuple(f"{split}/{prefix}" for prefix in words.baselines)


def _compared(shared: set[str], split: str, monitor: str, order: list[str], words: "Words") -> list[str]:
    """Keys that combinations are compared by: the monitored one, and those that something simpler was measured by."""
    names = [key.split("/")[1] for key in order if key.startswith(f"{split}/") and key in shared]
    beside = [name for name in names if any(f"{split}/{prefix}{name}" in shared for prefix in words.variants)]
    keys = [monitor] if monitor in shared else []
    keys += [key for name in dict.fromkeys(beside) if (key := f"{split}/{name}") != monitor]
    if own := [key for key in keys if key.startswith(f"{split}/")]:
        # Beside the metric that counts first, what predictors that see no net make of it.
        after = keys.index(own[0]) + 1
        name = own[0].partition("/")[2]
        keys[after:after] = [key for prefix in _of_baselines(split, words) if (key := f"{prefix}{name}") in shared]
    if words.brief and len(keys) > WIDEST:
        keys = [key for key in keys if key == monitor or key.endswith((*words.brief, "balanced_accuracy"))]
    return keys
