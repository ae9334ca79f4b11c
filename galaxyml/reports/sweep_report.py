"""The report of a sweep, finished or not: what is missing, which combination is best, and one row a job."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galaxyml.kinds import of_run
from galaxyml.reports import run_report, sweep_table
from galaxyml.reports import verdict as run_verdict
from galaxyml.reports.html import write_report
from galaxyml.reports.run_report import markdown, number, with_interval
from galaxyml.reports.sweep_table import ENDED, NOT_BEGUN, Job, by_combination, combination
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import NAMED, RunDir

if TYPE_CHECKING:
    from galaxyml.evaluation.paired import Ranking
    from galaxyml.evaluation.scored import ScoredPredictions
    from galaxyml.evaluation.words import Words

WIDEST = 12  # columns of a table of combinations
RESAMPLES = 1000


@dataclass(frozen=True)
class Verdict:
    """The best combination, as far as that can be told.

    Attributes:
        by_split: Rankings by the split that decides, and in the same order by those that no fold has learnt from.
        notes: Sentences about them.
    """

    by_split: "dict[str, Ranking]" = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def write(sweep: RunDir, jobs: Sequence[Job], joined: Sequence[RunDir], verdict: Verdict) -> Path:
    """Writes `sweep.csv`, the figures and the report of a sweep, and returns the path of its page.

    Args:
        sweep: The sweep's folder.
        jobs: Its jobs.
        joined: What was joined, one for each combination and seed; none where something is missing.
        verdict: As `judge` has it.
    """
    sweep_table.write(sweep, jobs)
    draw(sweep, jobs)
    missing = _missing(jobs, joined)
    if [run.path for run in joined] == [sweep.path]:
        return run_report.write(sweep, sweep.metrics(), missing, _jobs(jobs) if len(jobs) > 1 else [])
    combinations = len(by_combination(jobs))
    size = f"{combinations} combinations, " if combinations > 1 else ""
    size += f"{len(jobs)} job{'s' * (len(jobs) > 1)}"
    begun = next((job.run for job in jobs if job.run.started), None)
    question = run_report.question(begun.config) if begun is not None else []
    said = sentence(jobs, joined, verdict)
    lines = [f"# {sweep.path.parent.name}: {sweep.name}, {size}", *question, *(["", f"**{said}**"] if said else [])]
    lines += missing
    lines += [line for split in verdict.by_split for line in _ranking(split, verdict, jobs)]
    if verdict.notes:
        lines += ["", *verdict.notes]
    lines += run_report.figures("Figures", sweep.figures())
    if joined:
        lines += _combinations(joined, jobs)
    if len(jobs) > 1:
        lines += _spreads(jobs)
    lines += _jobs(jobs)
    if joined:
        lines += ["", "## Reports", "", *(f"- [{run.name}](joined/{run.name}/report.md)" for run in joined)]
    lines += _command_and_data(jobs)
    if finished := next((job.run for job in jobs if job.state == "finished"), None):
        lines += run_report.cited(finished)
    return write_report(sweep, "\n".join(lines) + "\n")


def is_smoke_test(jobs: Sequence[Job]) -> bool:
    """Whether a sweep only tries that everything works, as far as its jobs have begun."""
    return any(job.config is not None and run_verdict.is_smoke_test(job.config) for job in jobs)


def sentence(jobs: Sequence[Job], joined: Sequence[RunDir], verdict: Verdict) -> str:
    """The best combination, how far it is ahead, and how it stands to the baseline.

    Where nothing is ranked, as the seed alone was swept, how each seed stands to the baseline; '' where nothing is
    known.
    """
    if not verdict.by_split:
        return run_verdict.SMOKE if is_smoke_test(jobs) else _each_seed(joined)
    split, ranking = next(iter(verdict.by_split.items()))
    best, second = ranking.rows[:2]
    text = f"Best of {len(ranking.rows)} combinations by {split}/{ranking.metric}: {best.name}"
    if second.behind is not None:
        gap = second.behind
        ahead = "ahead of" if gap.low * gap.high > 0 else "not clearly ahead of"
        text += f", {ahead} {second.name} (difference {gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}])"
    own = [run_verdict.sentence(run.metrics()) for run in joined if combination(run.name) == best.name]
    judged = run_verdict.SMOKE if is_smoke_test(jobs) else own[0] if own else ""
    return f"{text}. {judged}".rstrip()


def _each_seed(joined: Sequence[RunDir]) -> str:
    """How each seed of one combination stands to the baseline; '' of several combinations."""
    if len({combination(run.name) for run in joined}) != 1:
        return ""
    said = [(run.name, run_verdict.sentence(run.metrics())) for run in joined]
    return " ".join(f"{name}: {own}" for name, own in said if own)


def judge(jobs: Sequence[Job], joined: Sequence[RunDir]) -> Verdict:
    """Ranks combinations by the monitored metric, out of fold and paired on the objects that all predicted.

    Those are ranked whose runs are all finished. Where the monitored metric is no measure of objects (a loss), the main
    metric of the kind takes its place.

    Args:
        jobs: A sweep's.
        joined: What was joined; where a combination was not, its runs' validation objects are put together.
    """
    from galaxyml.evaluation.paired import rank
    from galaxyml.evaluation.scored import SPLITS

    if (judged_by := sweep_table.monitored(jobs)) is None:
        return Verdict()
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.group, []).append(job)
    complete = {group: own for group, own in groups.items() if all(job.state == "finished" for job in own)}
    names = {combination(group) for group in complete}
    if len(names) < 2:
        return Verdict()
    split, _, metric = judged_by[0].partition("/")
    try:
        models = {name: _models(complete, joined, name) for name in SPLITS}
    except UserError as error:
        return Verdict(notes=[f"Not ranked: {error}"])
    usable = [name for name in SPLITS if set(models[name]) == names]
    if not usable:
        return Verdict(notes=["Not ranked: no split has objects whose truth is known."])
    first = split if split in usable else usable[0]
    example = next(iter(next(iter(models[first].values())).values()))
    notes = []
    if split != first or metric not in example.measure(np.ones((1, len(example.ids)), np.uint8)):
        notes = [f"{judged_by[0]} is no measure of single objects, so that {first}/{example.words.main} ranks."]
        metric = example.words.main
    rankings: dict[str, Ranking] = {}
    for name in [first, *(name for name in usable if name not in (first, "val"))]:
        order = [row.name for row in next(iter(rankings.values())).rows] if rankings else None
        try:
            rankings[name] = rank(models[name], metric, name, order, RESAMPLES)
        except UserError as error:
            notes.append(f"Not ranked by {name}: {error}")
    return Verdict(rankings, notes)


def draw(sweep: RunDir, jobs: Sequence[Job]) -> None:
    """Draws the monitored metric epoch by epoch and, of two or more swept keys, against what was swept."""
    from galaxyml.reports.sweep_plots import Line, learning_curves, parallel_coordinates

    if (judged_by := sweep_table.monitored(jobs)) is None:
        return
    monitor, mode = judged_by
    lines = [Line(job.combination, job.state, *job.curve(monitor), job.name) for job in jobs]
    if lines := [line for line in lines if len(line.epochs)]:
        figure = learning_curves(lines, monitor, mode == "min")
        sweep.write_figure("learning_curves", figure, f"{monitor} over the epochs, a line a job.")
    columns = sweep_table.swept(jobs)
    if len(columns) < 2:
        return
    groups = by_combination(jobs).values()
    means, cut_short = [], []
    for group in groups:
        finished = [job for job in group if job.state == "finished"]
        pruned = [job for job in group if job.state == "pruned"]
        reached = [value for job in finished or pruned if (value := job.reached(monitor, mode)) is not None]
        means.append(statistics.mean(reached) if reached else np.nan)
        cut_short.append(not finished)
    first = [jobs.index(group[0]) for group in groups]
    settings = {key: [values[number] for number in first] for key, values in columns.items()}
    if np.isfinite(means).sum() > 1:
        sweep.write_figure(
            "parallel_coordinates",
            parallel_coordinates(settings, np.array(means), np.array(cut_short), monitor, mode == "min"),
            f"What was swept, and the {monitor} that it led to: a line a combination, the thick one is the best.",
        )


def ranking_table(split: str, ranking: "Ranking", jobs: Sequence[Job] = (), intervals: bool = True) -> list[list[str]]:
    """A ranking for people, header first; pruned trials among the jobs come last, with what they had come to.

    Args:
        split: Of the objects.
        ranking: Its combinations.
        jobs: The sweep's.
        intervals: Whether the values have theirs, too; the differences always have.
    """
    key = f"{split}/{ranking.metric}"
    seeds = f", mean of {len(ranking.seeds)} seeds" if len(ranking.seeds) > 1 else ""
    rows = [["", "combination", f"{key}{seeds}", "above the first", "p", "best in"]]
    for place, row in enumerate(ranking.rows, start=1):
        value, gap = number(row.value), row.behind
        if intervals and not np.isnan(row.low):
            value += f" [{row.low:.4f}, {row.high:.4f}]"
        difference = f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]" if gap is not None else ""
        p = f"{gap.p:.3f}" if gap is not None else ""
        rows.append([str(place), row.name, value, difference, p, f"{row.first:.0%}"])
    monitor, mode = sweep_table.monitored(jobs) or ("", "")
    if monitor == key:
        reached = [(job.reached(monitor, mode), job) for job in jobs if job.state == "pruned"]
        pruned = [(value, job) for value, job in reached if value is not None]
        sign = 1 if mode == "min" else -1
        for last, job in sorted(pruned, key=lambda pair: (sign * pair[0], pair[1].name)):
            name = job.combination if ranking.rows else job.name
            rows.append(["", name, f"{number(last)} at epoch {len(job.history)}", "pruned", "", ""])
    return rows


def _models(
    groups: Mapping[str, Sequence[Job]], joined: Sequence[RunDir], split: str
) -> "dict[str, dict[int, ScoredPredictions]]":
    """The predictions of a split by combination and seed, where its truth is known."""
    from galaxyml.kinds import load_scored

    joined_runs = {run.name: run for run in joined}
    models: dict[str, dict[int, ScoredPredictions]] = {}
    for group, jobs in groups.items():
        scored = None
        if (run := joined_runs.get(group or "no-other-key")) is not None:
            scored = load_scored(run, split)
        elif split == "val" or len(jobs) == 1:
            by_fold = [fold for job in jobs if (fold := load_scored(job.run, split)) is not None]
            scored = by_fold[0].concat(by_fold[1:]) if len(by_fold) == len(jobs) else None
        if scored is not None:
            models.setdefault(combination(group), {})[jobs[0].seed or 0] = scored
    return models


def _ranking(split: str, verdict: Verdict, jobs: Sequence[Job]) -> list[str]:
    ranking = verdict.by_split[split]
    first = next(iter(verdict.by_split))
    noun = ranking.called
    title = "## Ranking" if split == first else f"## The same on {split} {noun}, in the order of {first}"
    predicted = f", of up to {ranking.predicted:,}" if ranking.predicted > ranking.objects else ""
    lines = ["", title, "", *markdown(ranking_table(split, ranking, jobs if split == first else ())), ""]
    lines.append(
        f"On the {ranking.objects:,} {noun} that all predicted{predicted}. In brackets: 95 % of {RESAMPLES:,} "
        f"bootstrap resamples of the {noun}, the same for all combinations, so that the differences to the first are "
        "paired."
    )
    if split != first:
        return lines
    lines.append(
        "`p`: how often chance alone would give a difference as large. It is not corrected for the number of "
        "combinations, the first of which is partly lucky; `best in`: the share of resamples in which one is best."
    )
    if split != "val":
        lines.append(f"The first was chosen on {split} {noun}, so that its own number there is optimistic.")
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


def _command_and_data(jobs: Sequence[Job]) -> list[str]:
    """The command and the data, as the first run that has begun knows them."""
    for job in jobs:
        try:
            provenance = job.run.provenance()
        except UserError:
            continue
        data = provenance["data"]
        command = run_report.command(provenance["command"])
        source = f"From {data['source']} (`{data['folder']}`)."
        return ["", "## Command and data", "", "```", command, "```", "", source]
    return []


def _missing(jobs: Sequence[Job], joined: Sequence[RunDir]) -> list[str]:
    """The jobs that have not ended as they should, and why."""
    missing = [job for job in jobs if job.state not in ENDED]
    if not missing:
        return []
    counts = ", ".join(f"{count} {state}" for state, count in sorted(Counter(job.state for job in jobs).items()))
    effect = "What is joined is without these:" if joined else "Nothing is joined as long as these are missing:"
    lines = ["", "## Not finished", "", f"{len(jobs)} jobs: {counts}. {effect}", ""]
    for job in missing:
        text = " ".join(job.why().split())
        log = f" (log: [{job.name}/{job.log.name}]({job.name}/{job.log.name}))" if job.log else ""
        lines.append(f"- `{job.name}`: {job.state}{': ' if text else ''}{text}{log if job.state != NOT_BEGUN else ''}")
    advice = "One that is not wanted any more is left out when its folder and its entry in `jobs.json` are deleted."
    return [*lines, "", f"The same command finishes them and keeps the others. {advice}"]


def _jobs(jobs: Sequence[Job]) -> list[str]:
    """One row a job."""
    monitor, mode = sweep_table.monitored(jobs) or ("", "")
    columns = sweep_table.swept(jobs)
    times = [_time(job) for job in jobs]
    header = ["job", *columns, "state", *([monitor] if monitor else []), "epochs", "best epoch"]
    rows = [[*header, *(["time"] if any(times) else [])]]
    for index, job in enumerate(jobs):
        name = f"[{job.name}]({job.name}/report.md)" if job.run.finished else job.name
        best = job.best_epoch(monitor, mode) if monitor else None
        row = [name, *(values[index] for values in columns.values()), job.state]
        row += [number(job.reached(monitor, mode))] if monitor else []
        row += [str(len(job.history) or ""), str(best or "")]
        rows.append([*row, *([times[index]] if any(times) else [])])
    return ["", "## Jobs", "", *markdown(rows), "", "The whole table: [sweep.csv](sweep.csv)."]


def _time(job: Job) -> str:
    """Hours, minutes and seconds from beginning to end, if both are known."""
    seconds = sweep_table.seconds(job)
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def _spreads(jobs: Sequence[Job]) -> list[str]:
    """Mean and spread over folds and over seeds of each combination."""
    metrics = {job.name: job.run.metrics() for job in jobs if job.state == "finished"}
    if not metrics or (judged_by := sweep_table.monitored(jobs)) is None:
        return []
    monitor, mode = judged_by
    split, _, name = monitor.partition("/")
    others = [f"{other}/{name}" for other in ("test", "survey") if other != split]
    keys = [monitor, *(key for key in others if all(key in numbers for numbers in metrics.values()))]
    header = [name for key in keys for name in (f"{key}: over folds", "over seeds")]
    rows = [["combination", "jobs finished", *header]]
    for group, own in by_combination(jobs).items():
        finished = [job for job in own if job.name in metrics]
        row = [group, f"{len(finished)} of {len(own)}"]
        for key in keys:
            by_seed: dict[int, list[float]] = {}
            for job in finished:
                value = job.reached(monitor, mode) if key == monitor else metrics[job.name][key]
                if value is not None:
                    by_seed.setdefault(job.seed or 0, []).append(value)
            row += [_over_folds(list(by_seed.values())), _over_seeds(list(by_seed.values()))]
        rows.append(row)
    return [
        "",
        "## Over folds and seeds: mean ± standard deviation (number)",
        "",
        *markdown(rows),
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


def _combinations(joined: Sequence[RunDir], jobs: Sequence[Job]) -> list[str]:
    """One row a joined combination, then over seeds.

    The metrics are the monitored one and those that a trivial predictor was measured by, of the test split and the
    survey where their truth is known.
    """
    monitor, _ = sweep_table.monitored(jobs) or ("", "")
    words = of_run(joined[0]).words
    metrics = {run.name: run.metrics() for run in joined}
    shared = [key for key in next(iter(metrics.values())) if all(key in numbers for numbers in metrics.values())]
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, numbers in metrics.items():
        groups.setdefault(combination(name), []).append(numbers)
    scored = [
        split for split in ("test", "survey") if any(key.startswith(_of_baselines(split, words)) for key in shared)
    ]
    lines: list[str] = []
    for split in scored or ["val"]:
        keys = _compared(shared, split, monitor, words)
        rows = [[name, *(with_interval(numbers, key, words) for key in keys)] for name, numbers in metrics.items()]
        lines += ["", f"## Each combination ({NAMED[split]})", "", *markdown([["combination", *keys], *rows])]
        if len(groups) < len(metrics):
            lines += ["", "## Over seeds: mean ± standard deviation", ""]
            rows = [
                [name, f"{len(runs)}", *(_mean_and_std([numbers[key] for numbers in runs]) for key in keys)]
                for name, runs in groups.items()
            ]
            lines += markdown([["combination", "seeds", *keys], *rows])
    if any(" [" in line for line in lines):
        lines += ["", "In brackets: 95 % of bootstrap resamples of the objects."]
    return lines


def _of_baselines(split: str, words: "Words") -> tuple[str, ...]:
    """Beginnings of the keys of a split for which no model was needed."""
    return tuple(f"{split}/{prefix}" for prefix in words.baselines)


def _compared(shared: Sequence[str], split: str, monitor: str, words: "Words") -> list[str]:
    """Keys that combinations are compared by: the monitored one, and those that something simpler was measured by."""
    names = [key.split("/")[1] for key in shared if key.startswith(f"{split}/")]
    simpler = [name for name in names if any(f"{split}/{prefix}{name}" in shared for prefix in words.variants)]
    keys = [monitor] if monitor in shared else []
    keys += [key for name in dict.fromkeys(simpler) if (key := f"{split}/{name}") != monitor]
    if own := [key for key in keys if key.startswith(f"{split}/")]:
        # Beside the metric that counts first, that of predictors that see no object.
        after, name = keys.index(own[0]) + 1, own[0].partition("/")[2]
        keys[after:after] = [key for prefix in _of_baselines(split, words) if (key := f"{prefix}{name}") in shared]
    if words.brief and len(keys) > WIDEST:
        keys = [key for key in keys if key == monitor or key.endswith((*words.brief, "balanced_accuracy"))]
    return keys
