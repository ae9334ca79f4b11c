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
    "test": "Test {noun}",
    "survey": "{Noun} of the survey",
}


def write(run: RunDir, metrics: dict[str, Any], more: Sequence[str] = ()) -> Path:
    """Writes `report.md` and `report.html` of a run, or of runs that were joined, and returns where the latter is.

    Args:
        run: The run.
        metrics: Its numbers.
        more: Lines of further sections.
    """
    provenance, words, typed_command = run.provenance(), of_run(run).words, command(typed(run))
    data = provenance["data"]
    counts, noun = data["objects"], data.get("things", "galaxies")
    tested = f" and {others:,} to test or predict" if (others := counts["test"] + counts.get("survey", 0)) else ""
    lines = [
        f"# {run.config.task}: {run.path.parent.name if run.name.startswith('fold') else run.name}, {_members(run)}",
        *question(run.config),
        *_headline(run, metrics, words),
        "",
        "```",
        typed_command,
        "```",
        "",
        "## Data",
        "",
        f"{counts['train'] + counts['val']:,} {noun} to learn from{tested}, from {data['source']} "
        f"(`{data['folder']}`).",
    ]
    if steps := data.get("steps"):
        rows = [[step["what"], f"{step['after']:,}", f"{step['before'] - step['after']:,}"] for step in steps]
        lines += ["", "### From the tables to the sample", "", *markdown([["step", "kept", "dropped"], *rows])]
    lines += _split(run, noun)
    if data["notes"]:
        lines += ["", "### What a look at them found", "", *(f"- {note}" for note in data["notes"])]
    for split in TITLES:
        if table := summary(metrics, split, words):
            lines += ["", f"## {title(split, noun)}", "", *markdown(table)]
            if any(name.startswith(f"{split}/") and name.endswith(ENDS) for name in metrics):
                lines += ["", f"In brackets: 95 % of bootstrap resamples of the {noun}."]
    if models := run.table_rows("models"):
        rows = [[_cell(value) for value in row.values()] for row in models]
        lines += ["", "## Models whose mean it is", "", *markdown([list(models[0]), *rows])]
    for split in TITLES:
        if table := by_column(metrics, split, words):
            lines += ["", f"## Per {words.column} ({NAMED[split]})", "", *markdown(table)]
    lines += [*more, *figures(run)]
    if tables := run.tables():
        lines += ["", "## Tables", "", *(f"- [{path.stem}](tables/{path.name})" for path in tables)]
    versions = ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())
    lines += ["", "## Provenance", "", f"- seed {provenance['seed']}; {provenance['device']}", f"- {versions}"]
    if commit := provenance["commit"]:
        lines += [f"- commit {commit}{' with uncommitted changes' if provenance['dirty'] else ''}"]
    lines += [f"- `{name}`: SHA-256 `{digest}`" for name, digest in data["sha256"].items()]
    lines += [f"- again: `{typed_command}`, the same numbers on the same kind of machine", *cited(run)]
    return write_report(run, "\n".join(lines) + "\n")


def question(config: DictConfig) -> list[str]:
    """Lines with the question of a run."""
    text = references.question(config)
    return ["", f"> {text}"] if text else []


def cited(run: RunDir) -> list[str]:
    """Lines with the references that belong to a run's numbers."""
    simulated = run.provenance()["data"]["source"] == Simulated.name
    return ["", "## To cite", "", *(f"- {text}" for text in references.citations(run.config, simulated))]


def figures(run: RunDir) -> list[str]:
    """Lines with all figures of a folder, each with its caption; none if it has none."""
    lines: list[str] = []
    for path in run.figures():
        name = re.sub(r"^\d+_", "", path.stem).replace("_", " ")
        text = re.sub(r"([*_])", r"\\\1", caption(path))
        lines += ["", f"![{name}](figures/{path.name})", *(["", f"*{text}*"] if text else [])]
    return ["", "## Figures", *lines] if lines else []


def _headline(run: RunDir, metrics: dict[str, Any], words: Words) -> list[str]:
    """Lines with the metric that counts: its interval, its spread over folds, and the baselines'."""
    key = str(run.config.monitor)
    if key not in metrics:
        return []
    split, name = key.split("/", maxsplit=1)
    phrases = [f"**{key} {with_interval(metrics, key, words)}**"]
    spread = metrics.get("folds", {}).get(key)
    if spread is not None and spread["runs"] > 1:
        phrases.append(f"folds {_over_folds(spread)}")
    baselines = {words.variants[prefix]: metrics.get(f"{split}/{prefix}{name}") for prefix in words.baselines}
    phrases += [f"{label} {number(value)}" for label, value in baselines.items() if value is not None]
    if split != "test" and f"test/{name}" in metrics:
        phrases.append(f"on test objects {with_interval(metrics, f'test/{name}', words)}")
    return ["", "; ".join(phrases) + "."]


def _split(run: RunDir, noun: str) -> list[str]:
    """Lines with how many objects each part of the split has, and how it came about."""
    catalog = run.catalog()
    labels = {"train": "trained on", "val": "validated on", "test": "tested on", "survey": "ranked, or tested on"}
    counts = catalog["split"].value_counts()
    rows = []
    if len(run.members()) > 1 and not run.is_ensemble and "fold" in catalog:
        folds = catalog.loc[catalog["fold"] >= 0, "fold"].value_counts().sort_index()
        rows = [[f"fold {fold}", f"{count:,}"] for fold, count in folds.items()]
        labels = {split: labels[split] for split in ("test", "survey")}
    rows += [[label, f"{counts[split]:,}"] for split, label in labels.items() if split in counts]
    separation = OmegaConf.select(run.config, "data.separation")
    near = f" and neighbours within {separation:g} arcsec" if separation and {"ra", "dec"} <= set(catalog) else ""
    how = f"Stratified split (seed {run.config.seed})"
    how += f"; duplicates of a galaxy{near} stay in one part." if "image" in catalog else "."
    if not instantiate(run.config.split).has_test and {"test", "survey"} & set(counts.index):
        how += " The test set is the one supplied with the data."
    return ["", "### Split", "", *markdown([["part", noun], *rows]), "", how]


def title(split: str, noun: str) -> str:
    """Heading of a split in reports, for objects of this noun, such as `galaxies`."""
    return TITLES[split].format(noun=noun, Noun=noun.capitalize())


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
    folds = {name: spread for name, spread in metrics.get("folds", {}).items() if spread["runs"] > 1}
    in_split = [key.split("/")[1] for key in metrics if key.startswith(f"{split}/") and key.count("/") == 1]
    names = [name for name in in_split if words.is_own(name)]
    if not names:
        return []
    shown = [prefix for prefix in words.variants if prefix not in left_out]
    variants = [prefix for prefix in shown if any(name.startswith(prefix) for name in in_split)]
    names.sort(key=lambda name: not any(f"{split}/{prefix}{name}" in metrics for prefix in variants))
    header = ["metric", "model", *(words.variants[prefix] for prefix in variants)]
    rows = [[*header, *(["folds: mean ± std"] if folds else [])]]
    for name in names:
        values = [number(metrics.get(f"{split}/{prefix}{name}")) for prefix in variants]
        over_folds = [_over_folds(folds.get(f"{split}/{name}"))] if folds else []
        rows.append([name, with_interval(metrics, f"{split}/{name}", words, intervals), *values, *over_folds])
    return rows


def turned(table: list[list[str]], words: Words, most: int = 7) -> list[list[str]]:
    """A table that is wider than `most` columns with a row for each of them, and with the metrics of `words.brief`."""
    if len(table[0]) <= most:
        return table
    header, *rows = table
    brief = [row for row in rows if not words.brief or row[0] in words.brief]
    return [list(row) for row in zip(header, *brief, strict=True)]


def by_column(metrics: dict[str, Any], split: str, words: Words) -> list[list[str]]:
    """A table of one split's metrics column by column, or class by class, header first; empty if there are none."""
    in_split = (key.split("/")[2] for key in metrics if key.startswith(f"{split}/") and key.count("/") == 2)
    columns = list(dict.fromkeys(in_split))
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


def _over_folds(spread: dict[str, float] | None) -> str:
    return f"{number(spread['mean'])} ± {number(spread['std'])} ({spread['runs']})" if spread else ""


def _members(run: RunDir) -> str:
    members = run.members()
    if run.is_ensemble:
        return f"{len(run.table_rows('models'))} models, {len(members)} nets"
    return f"{len(members)} fold{'s' * (len(members) > 1)} joined" if members else run.name


def typed(run: RunDir) -> list[str]:
    """The words that the user typed; of joined folds to make them, as another command may have joined them."""
    members = [] if run.is_ensemble else [member for member in run.members() if member.path.is_dir()]
    return (members or [run])[0].provenance()["command"]


def command(words: list[str]) -> str:
    """A command line, from the words after the name of the command."""
    return shlex.join(["python", "-m", "galaxyml", *words])


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
