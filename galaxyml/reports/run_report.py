"""A run's or a sweep's folder -> report.md with its figures: `python -m galaxyml report FOLDER`."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from galaxyml.data.catalog import LEFT_OUT
from galaxyml.data.source import Simulated
from galaxyml.evaluation.words import ENDS, Words
from galaxyml.kinds import Kind, of_run
from galaxyml.models.origin import Origin
from galaxyml.reports import references, verdict
from galaxyml.reports.html import write_report
from galaxyml.runs.run_dir import NAMED, RunDir, caption

SHOWN = 3  # numbers that a report begins with
METRICS = "https://github.com/galaxyml/galaxyml/blob/main/docs/numbers.md#metrics"
IN_NO_FOLD = "in no fold, trained on by all"  # what parts of a fixed share leave over
EXAMPLES = re.compile(r"(^|_)(best|worst)(_|$)")  # in the names of figures of single objects
TITLES = {
    "val": "Validation (out of fold)",
    "test": "Test {noun}",
    "survey": "{Noun} of the survey",
}


def write(run: RunDir, metrics: dict[str, Any], missing: Sequence[str] = (), more: Sequence[str] = ()) -> Path:
    """Writes `report.md` and `report.html` of a run, or of runs that were joined, and returns where the latter is.

    The answer comes first: whether the model is any good, three numbers, a figure; then figures, tables, and how it all
    came about. Every number is also a row of `tables/metrics.csv`.

    Args:
        run: The run.
        metrics: Its numbers.
        missing: Lines about runs that are not in it.
        more: Lines of further sections, after the tables.
    """
    kind, provenance = of_run(run), run.provenance()
    noun = provenance["data"].get("things", "galaxies")
    if len(table := metrics_table(metrics, kind)):
        run.write_table("metrics", table)
    first, others = run.figures()[:1], run.figures()[1:]
    examples = [path for path in others if EXAMPLES.search(path.stem)]
    lines = [
        f"# {run.config.task}: {_name(run)}",
        *question(run.config),
        *answer(metrics, kind.words),
        *missing,
        *(line for path in first for line in figure(path)),
        *figures("Figures", [path for path in others if path not in examples]),
        *figures(f"Best and worst {kind.words.noun}", examples),
        *summaries(metrics, kind.words, noun),
    ]
    if models := run.table_rows("models"):
        rows = [[_cell(value) for value in row.values()] for row in models]
        lines += ["", "## Models whose mean it is", "", *markdown([list(models[0]), *rows])]
    for split in TITLES:
        if columns := by_column(metrics, split, kind):
            lines += ["", f"## Per {kind.words.column} ({NAMED[split]})", "", *markdown(columns)]
    files = [f"[{path.stem}](tables/{path.name})" for path in run.tables()]
    lines += ["", "## Tables as files", "", ", ".join([*files, "[metrics.json](metrics.json)"])]
    lines += ["", f"What each metric is, and whether high or low is better: [the table of metrics]({METRICS})."]
    lines += [*more, *_data(run, noun), *_split(run, noun), *_provenance(run), *cited(run)]
    return write_report(run, "\n".join(lines) + "\n")


def answer(metrics: dict[str, Any], words: Words) -> list[str]:
    """Lines with the answer: a sentence, and up to three numbers beside those of predictors that see no object."""
    said = verdict.sentence(metrics)
    table = headline(metrics, words)
    return [*(["", f"**{said}**"] if said else []), *(["", *markdown(table)] if table else [])]


def headline(metrics: dict[str, Any], words: Words) -> list[list[str]]:
    """The numbers that say most, header first: the main one on each split, then others; empty if there are none."""
    judged_by = metrics.get(verdict.KEY, {}).get("metric", f"{words.judged[0]}/{words.main}")
    split, _, main = str(judged_by).partition("/")
    splits = [split, *(other for other in words.judged if other != split)]
    keys = [f"{other}/{main}" for other in splits] + [f"{split}/{name}" for name in words.headline]
    shown = [key for key in dict.fromkeys(keys) if key in metrics][:SHOWN]
    if not shown:
        return []
    rows = []
    for key in shown:
        split, _, name = key.partition("/")
        beside = [number(metrics.get(f"{split}/{prefix}{name}")) for prefix in words.baselines]
        rows.append([f"{words.label(name)}, {NAMED[split]} {words.noun}", with_interval(metrics, key, words), *beside])
    model = "model [95 % interval]" if any("[" in row[1] for row in rows) else "model"
    return [["", model, *(words.variants[prefix] for prefix in words.baselines)], *rows]


def summaries(metrics: dict[str, Any], words: Words, noun: str) -> list[str]:
    """Lines with a table of each split."""
    lines: list[str] = []
    for split in TITLES:
        if table := summary(metrics, split, words):
            lines += ["", f"## {title(split, noun)}", "", *markdown(table)]
            if any(name.startswith(f"{split}/") and name.endswith(ENDS) for name in metrics):
                lines += ["", f"In brackets: 95 % of bootstrap resamples of the {noun}."]
            if notes := _notes(table, words):
                lines += ["", notes]
    return lines


def _notes(table: list[list[str]], words: Words) -> str:
    """Sentences about the columns and rows of a summary that do not explain themselves."""
    shown = {*table[0], *(row[0] for row in table)}
    return " ".join(note for name, note in words.notes.items() if words.variants.get(name, name) in shown)


def _data(run: RunDir, noun: str) -> list[str]:
    """Lines with what was learnt from, and how it was found."""
    data = run.provenance()["data"]
    counts = data["objects"]
    tested = f" and {others:,} to test or predict" if (others := counts["test"] + counts.get("survey", 0)) else ""
    learnt_from = f"{counts['train'] + counts['val']:,} {noun} to learn from{tested}"
    if _ranks_all(run):
        learnt_from = (
            f"{counts['survey']:,} {noun}, all ranked, of which {counts['train'] + counts['val']:,} are learnt from"
        )
    lines = ["", "## Data", "", f"{learnt_from}, from {data['source']} (`{data['folder']}`)."]
    if steps := data.get("steps"):
        rows = [[step["what"], f"{step['after']:,}", f"{step['before'] - step['after']:,}"] for step in steps]
        lines += ["", "### From the tables to the sample", "", *markdown([["step", "kept", "dropped"], *rows])]
    if data["notes"]:
        lines += ["", "### What a look at them found", "", *(f"- {note}" for note in data["notes"])]
    return lines


def _provenance(run: RunDir) -> list[str]:
    """Lines with all that is needed to make the run again."""
    provenance, typed_command = run.provenance(), command(typed(run))
    lines = ["", "## Provenance", "", f"- seed {provenance['seed']}; {provenance['device']}"]
    lines += ["- " + ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())]
    if commit := provenance["commit"]:
        lines += [f"- commit {commit}{' with uncommitted changes' if provenance['dirty'] else ''}"]
    lines += [f"- {origin.sentence()}" for origin in origins(run)]
    lines += [f"- `{name}`: SHA-256 `{digest}`" for name, digest in provenance["data"]["sha256"].items()]
    again = ["- again, for the same numbers on the same kind of machine:", "", "```", typed_command, "```"]
    return [*lines, *again]


def question(config: DictConfig) -> list[str]:
    """Lines with the question of a run."""
    text = references.question(config)
    return ["", f"> {text}"] if text else []


def cited(run: RunDir) -> list[str]:
    """Lines with the references that belong to a run's numbers."""
    simulated = run.provenance()["data"]["source"] == Simulated.name
    weights = dict.fromkeys(text for origin in origins(run) for text in origin.cite)
    texts = dict.fromkeys([*weights, *references.citations(run.config, simulated)])
    return ["", "## To cite", "", *(f"- {text}" for text in texts)]


def origins(run: RunDir) -> list[Origin]:
    """Where the first weights of a run's models come from, of those that had any."""
    return [Origin(**model) for model in run.provenance().get("models", []) if model["weights"] is not None]


def figures(heading: str, paths: Sequence[Path]) -> list[str]:
    """Lines with figures below a heading; none without figures."""
    return ["", f"## {heading}", *(line for path in paths for line in figure(path))] if paths else []


def figure(path: Path) -> list[str]:
    """Lines with a figure and its caption."""
    name = re.sub(r"^\d+_", "", path.stem).replace("_", " ")
    text = re.sub(r"([*_])", r"\\\1", caption(path))
    return ["", f"![{name}](figures/{path.name})", *(["", f"*{text}*"] if text else [])]


def _split(run: RunDir, noun: str) -> list[str]:
    """Lines with how many objects each part of the split has, and how it came about."""
    catalog = run.catalog()
    labels = {"train": "trained on", "val": "validated on", "test": "tested on", "survey": "ranked, or tested on"}
    labels[LEFT_OUT] = LEFT_OUT
    counts = catalog["split"].value_counts()
    split, rows = instantiate(run.config.split), []
    if len(run.members()) > 1 and not run.is_ensemble and "fold" in catalog:
        folds = catalog.loc[catalog["fold"] >= 0, "fold"].value_counts().sort_index()
        rows = [[f"fold {fold}" if fold < split.folds else IN_NO_FOLD, f"{n:,}"] for fold, n in folds.items()]
        labels = {name: labels[name] for name in ("test", "survey")}
    rows += [[label, f"{counts[name]:,}"] for name, label in labels.items() if name in counts]
    separation = OmegaConf.select(run.config, "data.separation")
    near = f" and neighbours within {separation:g} arcsec" if separation and {"ra", "dec"} <= set(catalog) else ""
    how = f"Stratified split (seed {run.config.seed})"
    how += f"; duplicates of a galaxy{near} stay in one part." if "image" in catalog else "."
    if _ranks_all(run):
        how = (
            f"All are ranked. A net learns from all but one of {split.folds} parts (seed {run.config.seed}), by which "
        )
        how += "its loss is watched; duplicates stay in one part."
    elif not split.has_test and {"test", "survey"} & set(counts.index):
        how += " The test set is the one supplied with the data."
    return ["", "### Split", "", *markdown([["part", noun], *rows]), "", how]


def _ranks_all(run: RunDir) -> bool:
    """Whether a run ranks what it learns from."""
    return bool((run.catalog()["split"] == "survey").all())


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
    runs = max((spread["runs"] for spread in folds.values()), default=0)
    rows = [[*header, *([f"{runs} folds: mean ± std"] if folds else [])]]
    for name in names:
        values = [number(metrics.get(f"{split}/{prefix}{name}")) for prefix in variants]
        over_folds = [_over_folds(folds.get(f"{split}/{name}"), runs, name in words.counts)] if folds else []
        rows.append([name, with_interval(metrics, f"{split}/{name}", words, intervals), *values, *over_folds])
    return rows


def turned(table: list[list[str]], words: Words, most: int = 7) -> list[list[str]]:
    """A table that is wider than `most` columns with a row for each of them, and with the metrics of `words.brief`."""
    if len(table[0]) <= most:
        return table
    header, *rows = table
    brief = [row for row in rows if not words.brief or row[0] in words.brief]
    return [list(row) for row in zip(header, *brief, strict=True)]


def by_column(metrics: dict[str, Any], split: str, kind: Kind) -> list[list[str]]:
    """A table of one split's metrics column by column, or class by class, header first; empty if there are none.

    Columns that are answers stand below their question, in words, and their own names follow.
    """
    words = kind.words
    in_split = (key.split("/")[2] for key in metrics if key.startswith(f"{split}/") and key.count("/") == 2)
    columns = list(dict.fromkeys(in_split))
    keys = [key for key in words.by_column if any(f"{split}/{key}/{column}" in metrics for column in columns)]
    if not keys:
        return []
    named = [kind.in_words(column) for column in columns]
    asked = any(question for question, _ in named)
    rows = [[*(["question", "answer"] if asked else [words.column]), *(words.by_column[key] for key in keys)]]
    before = ""
    for column, (question, answer) in zip(columns, named, strict=True):
        name = answer if answer == column else f"{answer} `{column}`"
        first = [question if question != before else "", name] if asked else [name]
        rows.append([*first, *(with_interval(metrics, f"{split}/{key}/{column}", words) for key in keys)])
        before = question
    return rows


def metrics_table(metrics: dict[str, Any], kind: Kind) -> pd.DataFrame:
    """Every number of a run as a row: its split, metric, question, answer and column, value, ends, and baselines'."""
    words = kind.words
    rows = []
    for key, value in metrics.items():
        split, _, rest = key.partition("/")
        name, _, column = rest.partition("/")
        if not rest or not words.is_own(name):
            continue
        question, answer = kind.in_words(column) if column else ("", "")
        row = {"split": split, "metric": name, "question": question, "answer": answer, "column": column, "model": value}
        others = {"low": name + ENDS[0], "high": name + ENDS[1]}
        others |= {label: f"{prefix}{name}" for prefix, label in words.variants.items()}
        tail = f"/{column}" if column else ""
        rows.append(row | {label: metrics.get(f"{split}/{other}{tail}") for label, other in others.items()})
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def with_interval(metrics: dict[str, Any], key: str, words: Words, intervals: bool = True) -> str:
    """A number, with its interval in brackets where there is one and it is wanted."""
    split, name, *column = key.split("/")
    if name in words.counts:
        return f"{metrics[key]:,.0f}" if key in metrics else ""
    ends = [metrics.get("/".join([split, name + end, *column])) for end in (ENDS if intervals else ())]
    text = number(metrics.get(key))
    return text if not ends or None in ends or not text else f"{text} [{number(ends[0])}, {number(ends[1])}]"


def _over_folds(spread: dict[str, float] | None, runs: float, count: bool = False) -> str:
    """Mean and standard deviation, of a count in whole ones, and of how many folds where these are not all."""
    if not spread:
        return ""
    of = f" ({spread['runs']})" if spread["runs"] != runs else ""
    mean, std = (f"{value:,.0f}" if count else number(value) for value in (spread["mean"], spread["std"]))
    return f"{mean} ± {std}{of}"


def _name(run: RunDir) -> str:
    """The run's name and, of several runs, how many were joined."""
    members = run.members()
    if run.is_ensemble:
        return f"{run.name}, {len(run.table_rows('models'))} models, {len(members)} nets"
    if len(members) > 1:
        return f"{run.name}, {len(members)} folds joined"
    return f"{run.path.parent.name}, {run.name}" if run.name.startswith("fold") else run.name


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
