"""Draws the rooms of the package and what they import of each other, from the code.

    python docs/layers.py

Writes `docs/layers.svg`, which `make docs` puts into the page on the architecture. Rooms stand on a diagonal, in the
order of the contract in pyproject.toml; a number right of a room and above another says how many modules of the first
import the second. An import that points up the list would stand below the diagonal, in red. Needs Python 3.11 alone.
"""

import ast
import tomllib
from collections import Counter
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "galaxyml"
WIDE, HIGH, GAP = 72, 28, 3  # pixels: a cell, and what is between two of them
DARKEST = 25  # modules, from which a cell is not drawn darker
STYLE = (
    ".room{fill:var(--md-primary-fg-color,#4051b5)}.cell{fill:var(--md-accent-fg-color,#526cfe)}.up{fill:#d32f2f}"
    "text{font:12px system-ui,sans-serif;text-anchor:middle;dominant-baseline:central;fill:currentColor}"
    ".name{fill:#fff;font-size:11px}"
)


def rooms() -> list[str]:
    """The rooms in the order of the contract, from the one that imports all to the one that imports none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = project["tool"]["importlinter"]["contracts"]
    return [str(layer) for layer in contract["layers"]]


def arrows(names: list[str]) -> Counter[tuple[str, str]]:
    """How many modules of one room import another; imports for type checking alone do not count, as in the contract."""
    counts: Counter[tuple[str, str]] = Counter()
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        room = path.relative_to(ROOT / PACKAGE).with_suffix("").parts[0]
        if room in names:
            imported = set(_imported(ast.parse(path.read_text(encoding="utf-8"))))
            counts.update((room, other) for other in imported & set(names) - {room})
    return counts


def _imported(node: ast.AST) -> Iterator[str]:
    """Rooms that a part of a module's code names in its imports, and other names of the package."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
        yield from (name.name for name in node.names)
    elif isinstance(node, ast.ImportFrom | ast.Import):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
        yield from (module.split(".")[1] for module in modules if module.startswith(f"{PACKAGE}."))
    for child in ast.iter_child_nodes(node):
        yield from _imported(child)


def drawn(names: list[str], counts: Counter[tuple[str, str]]) -> str:
    """The picture as SVG."""
    wide, high = len(names) * (WIDE + GAP) + GAP, len(names) * (HIGH + GAP) + GAP
    shapes = [_cell(number, number, "room", 1.0, name, "name", name) for number, name in enumerate(names)]
    for (room, other), count in sorted(counts.items()):
        row, column = names.index(room), names.index(other)
        told = f"{room} imports {other} in {count} module{'s' * (count > 1)}"
        strength = 0.12 + 0.5 * min(count / DARKEST, 1)
        shapes.append(_cell(row, column, "cell" if row < column else "up", strength, str(count), "count", told))
    label = "Rooms of the package on a diagonal, and how many modules of each import those below"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" role="img" aria-label="{label}">'
        f"<style>{STYLE}</style>{''.join(shapes)}</svg>\n"
    )


def _cell(row: int, column: int, kind: str, strength: float, text: str, role: str, told: str) -> str:
    x, y = GAP + column * (WIDE + GAP), GAP + row * (HIGH + GAP)
    return (
        f"<g><title>{escape(told)}</title>"
        f'<rect class="{kind}" x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="4" fill-opacity="{strength:.2f}"/>'
        f'<text class="{role}" x="{x + WIDE / 2}" y="{y + HIGH / 2}">{escape(text)}</text></g>'
    )


if __name__ == "__main__":
    order = rooms()
    (ROOT / "docs" / "layers.svg").write_text(drawn(order, arrows(order)), encoding="utf-8")
