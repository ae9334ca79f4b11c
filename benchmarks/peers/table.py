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
SPEED = {
    "work": lambda row: row["work"],
    "galaxyml": lambda row: row["way"].removeprefix("galaxyml, "),
    "the other": lambda row: row["against"],
    "ratio": lambda row: f"**{number(row['ratio'])}**" if row["low"] > 1 else number(row["ratio"]),
    "smallest to largest": lambda row: f"{number(row['low'])} to {number(row['high'])}",
    "goal": lambda row: "" if row["goal"] is None else f"{row['goal']:g}",
}
ACCURACY = {
    "task": lambda row: row["task"],
    "metric": lambda row: f"{row['metric']} ({'lower' if row['lower_is_better'] else 'higher'} is better)",
    "system": lambda row: f"{row['system']} ({row['tool']})",
    "begins with": lambda row: row["start"] or "nothing",
    "mean": lambda row: f"{row['mean']:.4f}",
    "± folds": lambda row: decimal(row["std_folds"]),
    "± seeds": lambda row: f"{decimal(row['std_seeds'])} ({len(row['values'])})",
    "less galaxyml's best": lambda row: difference(row["difference"]),
    "epochs, px": lambda row: ", ".join(str(row[name]) for name in ("epochs", "size") if row[name] is not None),
    "minutes": lambda row: "" if row["seconds"] is None else f"{row['seconds'] / 60:.1f}",
}
SHORT = {
    "speed": ("work", "galaxyml", "the other", "ratio", "smallest to largest"),
    "accuracy": ("task", "metric", "system", "begins with", "mean", "± seeds", "less galaxyml's best"),
}
RATIO = (
    "The ratio is what the other took to what galaxyml took in the same turn, of time or of memory: above 1 galaxyml "
    "takes less, and did in every turn where it is bold. Medians of {rounds} turns."
)

Rows = list[dict[str, Any]]


def decimal(value: float | None) -> str:
    """Four digits behind the point, or nothing."""
    return "" if value is None else f"{value:.4f}"


def difference(found: dict[str, float] | None) -> str:
    """A paired difference with its interval."""
    if found is None:
        return ""
    return f"{found['value']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}], p {found['p']:.3f}"


def table(rows: Rows, columns: dict[str, Callable[[dict[str, Any]], str]]) -> list[str]:
    """Lines of a table in Markdown."""
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[value(row).replace("|", "/") for value in columns.values()] for row in rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def told(found: dict[str, Any], command: str) -> str:
    """By which command, when, on which machine and with which versions."""
    machine, versions = found["machine"], found["versions"]
    features = f" ({', '.join(machine['features'])})" if machine.get("features") else ""
    memory = f", {machine['memory_gb']} GB" if machine.get("memory_gb") else ""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"`{command}`, {found['date']}, {machine['cores']} cores{features}{memory}; {packages}."


def short_accuracy(rows: Rows) -> Rows:
    """The best row of each tool for each task and metric."""
    best: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row["task"], row["metric"], row["tool"])
        sign = 1 if row["lower_is_better"] else -1
        if key not in best or sign * row["mean"] < sign * best[key]["mean"]:
            best[key] = row
    return list(best.values())


def short_speed(rows: Rows) -> Rows:
    """Pairs with a goal, and all in which galaxyml is behind."""
    return [row for row in rows if row["goal"] is not None or row["ratio"] < 1]


def section(kind: str, found: dict[str, Any], short: bool) -> list[str]:
    """Lines on one file of results."""
    columns: dict[str, Any] = SPEED if kind == "speed" else ACCURACY
    rows: Rows = found["rows"]
    if short:
        columns = {name: columns[name] for name in SHORT[kind]}
        rows = short_accuracy(rows) if kind == "accuracy" else short_speed(rows)
    lines = table(rows, columns)
    if kind == "speed":
        rounds = sorted({row["rounds"] for row in rows})
        lines += ["", RATIO.format(rounds=" or ".join(map(str, rounds)))]
    if not short:
        lines += ["", *notes(rows), *(f"- `{name}`: {way}" for name, way in found.get("ways", {}).items())]
    return [*lines, "", told(found, COMMAND[kind])]


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
    for path, short in ((ROOT / "README.md", True), (ROOT / "docs" / "peers.md", False)):
        lines: list[str] = []
        for kind, result in found.items():
            heading = [] if short else ["", f"## {kind.capitalize()}"]
            lines += [*heading, "", *section(kind, result, short)]
        write(path, lines[1:])


if __name__ == "__main__":
    main()
