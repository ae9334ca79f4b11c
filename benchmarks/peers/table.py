"""Writes what was measured beside other tools as tables into README.md (the short one) and docs/peers.md (all of it).

    .venv-peers/bin/python benchmarks/peers/table.py

It reads `results/speed.json` and `results/accuracy.json`, of which either may be missing: its tables stay away then.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from turns import number

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COMMAND = {"speed": "make peers", "accuracy": "make peers DATA=FOLDER"}
TITLES = {"speed": "How fast", "accuracy": "How well"}
SPEED = {
    "work": lambda row: row["work"],
    "galaxyml": lambda row: row["way"].removeprefix("galaxyml, "),
    "the other": lambda row: row["against"],
    "ratio": lambda row: f"**{number(row['ratio'])}**" if row["low"] > 1 else number(row["ratio"]),
    "smallest to largest": lambda row: f"{number(row['low'])} to {number(row['high'])}",
    "goal": lambda row: "" if row["goal"] is None else f"{row['goal']:g}",
}
# Of the short table: what galaxyml does, by work and way, and against whom: of a tool the first way that is measured.
SHORT = (
    ("images to batches, 224 px", "galaxyml, free rotation"),
    ("epoch of a tiny net, 128 px", "galaxyml, Trainer"),
    ("epoch of GalaxyCNN, 128 px", "galaxyml, free rotation"),
    ("10 epochs of a head on a frozen ResNet-50, 128 px", "galaxyml, features once"),
    ("predictions by EfficientNet-Lite0, 8 views, 160 px", "galaxyml, 8 views"),
    ("predictions by EfficientNet-Lite0, 1 view, 160 px", "galaxyml, 1 view"),
    ("predictions by a tiny net, 1 view, 160 px", "galaxyml, 1 view"),
    ("light curves from CSV to padded tensors", "galaxyml, first time"),
    ("start: until the first training step", "galaxyml, the command"),
    ("memory of a training run of a tiny net, 112 px", "galaxyml, the command"),
)
OTHERS = {
    "plain torch": (
        "plain, batches turned, 2 workers",
        "plain, 2 workers",
        "plain script",
        "plain, features every epoch, 2 workers",
        "pandas",
    ),
    "a Lightning template": ("template, 2 workers", "template, Trainer, 2 workers", "template script"),
    "Zoobot; ParSNIP": (
        "zoobot, default views, 2 workers",
        "zoobot, Trainer, 2 workers",
        "zoobot, 2 workers",
        "zoobot script",
        "ParSNIP",
    ),
}
LOWER = ("rmse", "ece", "nll", "mae")  # metrics that are better when they are lower
RATIO = (
    "The ratio is what the other took to what galaxyml took in the same turn, of time or of memory: above 1 galaxyml "
    "takes less, and did in every turn where it is bold. Medians of {rounds} turns."
)

TIMES = (
    "How many times as long the others take, or as much memory, for the same work on the same files: above 1, galaxyml "
    "takes less."
)
ACCURACY = (
    "Held-out objects of real samples, seeds: {seeds}; ± over seeds, or over folds where it says so. The difference is "
    "paired over the objects and the seeds that both have, in bold where its 95 % interval leaves out 0."
)

Rows = list[dict[str, Any]]


def table(rows: Rows, columns: dict[str, Callable[[dict[str, Any]], str]]) -> list[str]:
    """Lines of a table in Markdown."""
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[value(row).replace("|", "/") for value in columns.values()] for row in rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def told_all(settings: dict[str, dict[str, Any]], command: str) -> list[str]:
    """By which command, when, on which machine and with which versions; a paragraph for rows that share it."""
    lines: dict[str, list[str]] = {}
    for row, setting in settings.items():
        lines.setdefault(told(setting, command), []).append(row)
    return [f"{', '.join(rows)}: {line}" if len(lines) > 1 else line for line, rows in lines.items()]


def told(found: dict[str, Any], command: str) -> str:
    """By which command, when, on which machine and with which versions."""
    machine, versions = found["machine"], found["versions"]
    features = f" ({', '.join(machine['features'])})" if machine.get("features") else ""
    memory = f", {machine['memory_gb']} GB" if machine.get("memory_gb") else ""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"`{command}`, {found['date']}, {machine['cores']} cores{features}{memory}; {packages}."


def short_speed(rows: Rows) -> list[str]:
    """How many times what galaxyml took the others took, a line a work."""
    ratios = {(row["work"], row["way"], row["against"]): row["ratio"] for row in rows}
    lines = [["", *OTHERS], ["---"] * (1 + len(OTHERS))]
    for work, way in SHORT:
        cells = [
            next((number(ratios[work, way, name]) for name in names if (work, way, name) in ratios), "")
            for names in OTHERS.values()
        ]
        if any(cells):
            lines.append([f"{work}, {way.removeprefix('galaxyml, ')}" if "rotation" in way else work, *cells])
    return ["| " + " | ".join(line) + " |" for line in lines]


def speed_section(found: dict[str, Any], short: bool) -> list[str]:
    """Lines on how fast."""
    rows: Rows = found["rows"]
    if short:
        return [TIMES, "", *short_speed(rows)]
    rounds = [row["rounds"] for row in rows]
    lines = [*table(rows, SPEED), "", RATIO.format(rounds=spread(rounds))]
    measured_ways = [row[side] for row in rows for side in ("way", "against")]
    ways = {name: way for name, way in found["ways"].items() if any(each.startswith(name) for each in measured_ways)}
    lines += ["", *notes(rows), *(f"- `{name}`: {way}" for name, way in ways.items())]
    return [*lines, *(f"\n{line}" for line in told_all(found["settings"], COMMAND["speed"]))]


def spread(counts: list[int]) -> str:
    """The smallest and the largest of some counts."""
    return f"{min(counts)} to {max(counts)}" if len({*counts}) > 1 else str(counts[0])


def accuracy_section(found: dict[str, Any], short: bool) -> list[str]:
    """Lines on how well."""
    tasks = found["tasks"]
    lines = best_table(tasks) if short else accuracy_tables(tasks)
    if short:
        counts = [len(row["seeds"]) for content in tasks.values() for row in content["rows"]]
        lines += ["", ACCURACY.format(seeds=spread(counts))]
    for name, why in found.get("left_out", {}).items():
        lines += ["", f"Left out: {name} ({why})."]
    return lines if short else [*lines, "", told(found, COMMAND["accuracy"])]


def accuracy_tables(tasks: dict[str, Any]) -> list[str]:
    """A table a task: every system with every metric, and what galaxyml's first has more on the same objects."""
    lines: list[str] = []
    for task, content in tasks.items():
        metrics = list(content["rows"][0]["metrics"])
        heads = ["", "begins from", "px, epochs", *(head for name in metrics for head in (name, "galaxyml less this"))]
        rows = [[*heads, "s a fold"], ["---"] * (len(heads) + 1)]
        for system in content["rows"]:
            cells = [text for name in metrics for text in measured(system["metrics"][name])]
            seeds = len(system["seeds"])
            name = f"{system['system']} ({seeds} seed{'s' * (seeds > 1)}): {system['about']}"
            fit = ", ".join(str(system[key] or "–") for key in ("size", "epochs"))
            rows.append([name, system["start"], fit, *cells, f"{system['seconds']['fold']:.0f}"])
        lines += ["", f"### {task}, {content['objects']:,} objects", ""]
        lines += ["| " + " | ".join(text.replace("|", "/") for text in row) + " |" for row in rows]
    return lines[1:]


def best_table(tasks: dict[str, Any]) -> list[str]:
    """Of each task its first metric: galaxyml's first system beside the best of the others."""
    rows = [["task", "metric", "galaxyml", "the best of the others", "galaxyml less that"], ["---"] * 5]
    for task, content in tasks.items():
        ours, *others = content["rows"]
        metric = next(iter(ours["metrics"]))
        sign = -1 if metric.partition("/")[0] in LOWER else 1
        peers = [system for system in others if "difference" in system["metrics"][metric]]
        if not peers:
            continue
        best = max(peers, key=lambda system: sign * system["metrics"][metric]["value"])
        (own, _), (value, gap) = (measured(system["metrics"][metric]) for system in (ours, best))
        rows.append(
            [task, metric, f"{own} (from: {ours['start']})", f"{value}: {best['system']} (from: {best['start']})", gap]
        )
    return ["| " + " | ".join(row) + " |" for row in rows]


def measured(numbers: dict[str, Any]) -> tuple[str, str]:
    """A metric with its spread over seeds, or else over folds; and what galaxyml has more, with its interval."""
    seeds, folds, gap = numbers["std_over_seeds"], numbers["std_over_folds"], numbers.get("difference")
    value = f"{numbers['value']:.3f}"
    if seeds is not None:
        value += f" ± {seeds:.3f}"
    elif folds is not None:
        value += f" ± {folds:.3f} (folds)"
    if gap is None:
        return value, ""
    clear = gap["low"] > 0 or gap["high"] < 0
    text = f"{gap['ours_less_peer']:+.3f}"
    return value, f"{f'**{text}**' if clear else text} [{gap['low']:+.3f}, {gap['high']:+.3f}]"


def settings_of(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Machine, versions and date by row of how fast, and of how well."""
    well = {"how well": found["accuracy"]} if "accuracy" in found else {}
    return found.get("speed", {}).get("settings", {}) | well


def notes(rows: Rows) -> Iterable[str]:
    """What the numbers do not say, once for all rows that share it."""
    said: dict[str, list[str]] = {}
    for row in rows:
        title = row.get("work") or f"{row['task']}, {row['system']}"
        if row["note"] and title not in said.setdefault(row["note"], []):
            said[row["note"]].append(title)
    return [f"- {'; '.join(titles)}: {note}" for note, titles in said.items()]


def write(path: Path, lines: list[str]) -> None:
    """Puts lines between the marks of a page."""
    begin, end = "<!-- --8<-- [start:peers] -->", "<!-- --8<-- [end:peers] -->"
    text = path.read_text(encoding="utf-8")
    body = "\n".join(["", *lines, ""]) if lines else "\n"
    changed, count = re.subn(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", lambda _: body, text, flags=re.DOTALL)
    if not count:
        raise SystemExit(f"{path.name} has no {begin} … {end}.")
    path.write_text(changed, encoding="utf-8")


def main() -> None:
    """Writes both pages."""
    found = {
        kind: json.loads(path.read_text(encoding="utf-8"))
        for kind in COMMAND
        if (path := HERE / "results" / f"{kind}.json").is_file()
    }
    if found.get("accuracy", {}).get("quick"):
        raise SystemExit("results/accuracy.json is of --quick, which measures nothing: run accuracy.py without it.")
    for path, short in ((ROOT / "README.md", True), (ROOT / "docs" / "peers.md", False)):
        lines: list[str] = []
        for kind, section in (("speed", speed_section), ("accuracy", accuracy_section)):
            if kind in found:
                lines += [*([] if short else ["", f"## {TITLES[kind]}"]), "", *section(found[kind], short)]
        if short and found:
            lines += [f"\n{line}" for line in told_all(settings_of(found), COMMAND[list(found)[-1]])]
        write(path, lines[1:])


if __name__ == "__main__":
    main()
