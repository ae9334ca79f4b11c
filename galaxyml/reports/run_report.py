"""A run's or a sweep's folder -> report.md with its figures: `python -m galaxyml report FOLDER`."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from galaxyml.data.source import Simulated
from galaxyml.evaluation.words import ENDS, Words
from galaxyml.kinds import of_run
from galaxyml.reports import references
from galaxyml.reports.html import write_report
from galaxyml.runs.run_dir import NAMED, RunDir, caption

TITLES = {
    "val": "Validation (out of fold)",
    "test": "Test {things}",
    "survey": "{Things} of the survey",
}


def write(run: RunDir, metrics: dict[str, Any], more: Sequence[str] = ()) -> Path:
    """Writes `report.md` and `report.html` of a run, or of runs that were joined, and tells where the latter is.

    Args:
        run: The run.
        metrics: Its numbers.
        more: Lines of further sections.
    """
    provenance = run.provenance()
    data = provenance["data"]
    counts = data["objects"]
    things = data.get("things", "galaxies")
    words = of_run(run).words
    tested = f" and {others:,} to test or predict" if (others := counts["test"] + counts.get("survey", 0)) else ""
    lines = [
        f"# {run.config.task}: {run.path.parent.name if run.name.startswith('fold') else run.name}, {_what(run)}",
        *asked(run.config),
        *_headline(run, metrics, words),
        "",
        "```",
        command(typed(run)),
        "```",
        "",
        "## Data",
        "",
        f"{counts['train'] + counts['val']:,} {things} to learn from{tested}, from {data['source']} "
        f"(`{data['folder']}`).",
    ]
    if steps := data.get("steps"):
        rows = [[step["what"], f"{step['after']:,}", f"{step['before'] - step['after']:,}"] for step in steps]
        lines += ["", "### From the tables to the sample", "", *markdown([["step", "kept", "dropped"], *rows])]
    lines += _split(run, things)
    if data["notes"]:
        lines += ["", "### What a look at them found", "", *(f"- {note}" for note in data["notes"])]
    for split in TITLES:
        if table := summary(metrics, split, words):
            lines += ["", f"## {title(split, things)}", "", *markdown(table)]
            if any(name.startswith(f"{split}/") and name.endswith(ENDS) for name in metrics):
                lines += ["", f"In brackets: 95 % of bootstrap resamples of the {things}."]
    if models := run.table_rows("models"):
        rows = [[_cell(value) for value in row.values()] for row in models]
        lines += ["", "## Models whose mean it is", "", *markdown([list(models[0]), *rows])]
    for split in TITLES:
        if table := by_column(metrics, split, words):
            lines += ["", f"## Per {words.column} ({NAMED[split]})", "", *markdown(table)]
    lines += [*more, *figures(run)]
    if tables := run.tables():
        lines += ["", "## Tables", "", *(f"- [{path.stem}](tables/{path.name})" for path in tables)]
    versions = ", ".join(f"{name} {number}" for name, number in provenance["versions"].items())
    commit = provenance["commit"]
    lines += ["", "## Provenance", "", f"- seed {provenance['seed']}; {provenance['device']}", f"- {versions}"]
    if commit:
        lines += [f"- commit {commit}{' with uncommitted changes' if provenance['dirty'] else ''}"]
    lines += [f"- `{name}`: SHA-256 `{digest}`" for name, digest in data["sha256"].items()]
    lines += [f"- again: `{command(typed(run))}`, the same numbers on the same kind of machine", *cited(run)]
    return write_report(run, "\n".join(lines) + "\n")


def asked(config: DictConfig) -> list[str]:
    """Lines with what a run asks."""
    question = references.question(config)
    return ["", f"> {question}"] if question else []


def cited(run: RunDir) -> list[str]:
    """Lines with what is to be cited with a run's numbers."""
    simulated = run.provenance()["data"]["source"] == Simulated.name
    return ["", "## To cite", "", *(f"- {text}" for text in references.citations(run.config, simulated))]


def figures(run: RunDir) -> list[str]:
    """Lines with all figures of a folder, each with its caption; none if it has none."""
    lines: list[str] = []
    for path in run.figures():
        name = re.sub(r"^\d+_", "", path.stem).replace("_", " ")
        text = caption(path)
        text = re.sub(r"([*_])", r"\\\1", text)
        lines += ["", f"![{name}](figures/{path.name})", *(["", f"*{text}*"] if text else [])]
    return ["", "## Figures", *lines] if lines else []


def _headline(run: RunDir, metrics: dict[str, Any], words: Words) -> list[str]:
    """Lines with the metric that counts: its interval, its spread over folds, and the baselines'."""
    key = str(run.config.monitor)
    if key not in metrics:
        return []
    split, name = key.split("/", maxsplit=1)
    told = [f"**{key} {with_interval(metrics, key, words)}**"]
    over = metrics.get("folds", {}).get(key)
    if over is not None and over["runs"] > 1:
        told.append(f"folds {_over_folds(over)}")
    beside = {words.variants[prefix]: metrics.get(f"{split}/{prefix}{name}") for prefix in words.baselines}
    told += [f"{label} {number(value)}" for label, value in beside.items() if value is not None]
    if split != "test" and f"test/{name}" in metrics:
        told.append(f"on test objects {with_interval(metrics, f'test/{name}', words)}")
    return ["", "; ".join(told) + "."]


def _split(run: RunDir, things: str) -> list[str]:
    """Lines with who is in which part of the split, and how that came about."""
    catalog = run.catalog()
    parts = {"train": "trained on", "val": "validated on", "test": "tested on", "survey": "ranked, or tested on"}
    counts = catalog["split"].value_counts()
    joined = len(run.members()) > 1 and not run.is_ensemble
    rows = [[told, f"{counts[split]:,}"] for split, told in parts.items() if split in counts]
    if joined and "fold" in catalog:
        folds = catalog.loc[catalog["fold"] >= 0, "fold"].value_counts().sort_index()
        rows = [[f"fold {fold}", f"{count:,}"] for fold, count in folds.items()]
        rows += [[parts[split], f"{counts[split]:,}"] for split in ("test", "survey") if split in counts]
    separation = OmegaConf.select(run.config, "data.separation")
    near = f" and neighbours within {separation:g} arcsec" if separation and {"ra", "dec"} <= set(catalog) else ""
    how = f"Stratified split (seed {run.config.seed})"
    how += f"; duplicates of a galaxy{near} stay in one part." if "image" in catalog else "."
    if not instantiate(run.config.split).has_test and {"test", "survey"} & set(counts.index):
        how += " The test set is the one supplied with the data."
    return ["", "### Split", "", *markdown([["part", things], *rows]), "", how]


def title(split: str, things: str) -> str:
    """What a split is called in reports."""
    return TITLES[split].format(things=things, Things=things.capitalize())


def summary(
    metrics: dict[str, Any], split: str, words: Words, intervals: bool = True, left_out: Sequence[str] = ()
) -> list[list[str]]:
    """A table of one split's metrics over all columns, header first; empty if there are none.

    The metrics that were also measured for something simpler stand beside it, and come first; a sweep's have their
    mean and standard deviation over folds.

    Args:
        metrics: Of a run or a sweep.
        split: `val` or `test`.
        words: Of the kind of target.
        intervals: Whether the intervals stand beside the numbers.
        left_out: Of `words.variants`, those that do not stand beside them.
    """
    folds = {name: over for name, over in metrics.get("folds", {}).items() if over["runs"] > 1}
    every = [key.split("/")[1] for key in metrics if key.startswith(f"{split}/") and key.count("/") == 1]
    names = [name for name in every if words.is_own(name)]
    if not names:
        return []
    beside = [
        prefix for prefix in words.variants if prefix not in left_out and any(name.startswith(prefix) for name in every)
    ]
    names.sort(key=lambda name: not any(f"{split}/{prefix}{name}" in metrics for prefix in beside))
    header = ["metric", "model", *(words.variants[prefix] for prefix in beside)]
    rows = [[*header, *(["folds: mean ± std"] if folds else [])]]
    for name in names:
        values = [number(metrics.get(f"{split}/{prefix}{name}")) for prefix in beside]
        over = [_over_folds(folds.get(f"{split}/{name}"))] if folds else []
        own = with_interval(metrics, f"{split}/{name}", words, intervals)
        rows.append([name, own, *values, *over])
    return rows


def turned(table: list[list[str]], words: Words, most: int = 7) -> list[list[str]]:
    """A table that is wider than `most` columns with a row for each of them, and with the metrics of `words.brief`."""
    if not table or len(table[0]) <= most:
        return table
    kept = [table[0], *(row for row in table[1:] if not words.brief or row[0] in words.brief)]
    return [list(row) for row in zip(*kept, strict=True)]


def by_column(metrics: dict[str, Any], split: str, words: Words) -> list[list[str]]:
    """A table of one split's metrics column by column, or class by class, header first; empty if there are none."""
    columns = list(
        dict.fromkeys(key.split("/")[2] for key in metrics if key.startswith(f"{split}/") and key.count("/") == 2)
    )
    keys = [key for key in words.by_column if any(f"{split}/{key}/{column}" in metrics for column in columns)]
    if not keys:
        return []
    return [[words.column, *(words.by_column[key] for key in keys)]] + [
        [column, *(with_interval(metrics, f"{split}/{key}/{column}", words) for key in keys)] for column in columns
    ]


def with_interval(metrics: dict[str, Any], key: str, words: Words, intervals: bool = True) -> str:
    """A number, with its interval in brackets where there is one and it is wanted."""
    split, name, *column = key.split("/")
    if name in words.counts:
        return f"{metrics[key]:,.0f}" if key in metrics else ""
    ends = [metrics.get("/".join([split, name + end, *column])) for end in (ENDS if intervals else ())]
    text = number(metrics.get(key))
    return text if not ends or None in ends or not text else f"{text} [{ends[0]:.3f}, {ends[1]:.3f}]"


def _over_folds(found: dict[str, float] | None) -> str:
    if found is None:
        return ""
    return f"{number(found['mean'])} ± {number(found['std'])} ({found['runs']})"


def _what(run: RunDir) -> str:
    members = run.members()
    if run.is_ensemble:
        return f"{len(run.table_rows('models'))} models, {len(members)} nets"
    return f"{len(members)} fold{'s' * (len(members) > 1)} joined" if members else run.name


def typed(run: RunDir) -> list[str]:
    """What the user typed: of joined folds to make them, as they may have been joined by another command."""
    members = [] if run.is_ensemble else [member for member in run.members() if member.path.is_dir()]
    return (members or [run])[0].provenance()["command"]


def command(argv: list[str]) -> str:
    """What the user typed."""
    return shlex.join(["python", "-m", "galaxyml", *argv])


def _cell(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)


def number(value: float | None) -> str:
    """Four digits behind the point, or a power of ten where that would show nothing; '' for None."""
    if value is None:
        return ""
    return f"{value:.1e}" if 0 < abs(value) < 1e-4 else f"{value:.4f}"


def markdown(table: list[list[str]]) -> list[str]:
    """Lines of a table, header first."""
    header, *rows = ["| " + " | ".join(row) + " |" for row in table]
    return [header, "|" + " --- |" * len(table[0]), *rows]
