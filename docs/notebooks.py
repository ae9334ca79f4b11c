"""Runs the notebooks of `examples/`, and makes pages of them, with what they printed and drew.

    .venv/bin/python docs/notebooks.py

runs those whose text, or the code that they run, has changed since the last time, in an empty folder, and keeps them in
`.cache/notebooks/`. mkdocs takes this file as a hook, which puts them into the documentation; without a run, their text
alone.
"""

import hashlib
import json
import os
import posixpath
import re
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
EXECUTED = ROOT / ".cache" / "notebooks"
CODE = ("galaxyml/**/*.py", "galaxyml/**/*.yaml", "conf/**/*.yaml", "requirements.lock")  # what outputs follow from
ADDRESS = "https://github.com/galaxyml/galaxyml/blob/main/examples"
INDEX = "notebooks/index.md"
WIDE = "---\nhide: [toc]\n---\n\n"  # of one heading there is no list
PNG, HTML, TEXT = "image/png", "text/html", "text/plain"
TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r(?=\n)")  # colours, and moves of the cursor
STYLE = re.compile(r"<style.*?</style>\s*| (?:border|class|style)=\"[^\"]*\"", re.DOTALL)  # pandas' own, in tables

Notebook = dict[str, Any]


# --- running


def main() -> None:
    """Runs what has changed."""
    from galaxyml.runs.files import write_json

    EXECUTED.mkdir(parents=True, exist_ok=True)
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        kept, digest = EXECUTED / path.name, digest_of(path)
        if kept.is_file() and _read(kept)["metadata"].get("made_from") == digest:
            print(f"{path.name}: has not changed")
            continue
        began = time.monotonic()
        notebook = executed(path)
        notebook["metadata"]["made_from"] = digest
        write_json(kept, notebook)
        print(f"{path.name}: {time.monotonic() - began:.0f} seconds", flush=True)


def digest_of(path: Path) -> str:
    """Digest of a notebook and of all that its outputs follow from."""
    files = [path, *sorted(file for pattern in CODE for file in ROOT.glob(pattern))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def executed(path: Path) -> Notebook:
    """A notebook with its outputs, run in an empty folder."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        quiet = ["--log-level=ERROR"]  # the kernel warns that it is reached over TCP, which is on this machine
        client = NotebookClient(notebook, extra_arguments=quiet, resources={"metadata": {"path": folder}})
        try:
            client.execute(env=os.environ | {"GALAXYML_CACHE": str(Path(folder) / ".cache")})
        except CellExecutionError as error:
            sys.exit(f"error: {path.name}: {error}")
        text = nbformat.writes(notebook).replace(f"{os.path.realpath(folder)}/", "")
    return dict(json.loads(text))


# --- pages


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages and their figures: mkdocs calls it."""
    from mkdocs.structure.files import File

    for path in sorted(EXAMPLES.glob("*.ipynb")):
        kept = EXECUTED / path.name
        text, figures = page(_read(kept if kept.is_file() else path), path.name)
        for name, content in {f"{path.stem}.md": text, **figures}.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Leads from where notebooks are named to their pages, which there are here alone: mkdocs calls it."""
    own = page.file.src_uri.startswith("notebooks/") and page.file.src_uri != INDEX
    return markdown if own else linked(markdown, page.file.src_uri)


def linked(markdown: str, uri: str = INDEX) -> str:
    """Text with links to the pages of notebooks.

    Args:
        markdown: Text of a page, with links to the notebooks in the repository.
        uri: Of that page, such as `how_to/own_model.md`.
    """
    folder = posixpath.relpath(posixpath.dirname(INDEX), posixpath.dirname(uri) or ".")
    return re.sub(
        rf"{re.escape(ADDRESS)}/(\w+)\.ipynb",
        lambda found: posixpath.normpath(posixpath.join(folder, f"{found[1]}.md")),
        markdown,
    )


def page(notebook: Notebook, name: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its figures by the name of their file.

    Args:
        notebook: As JSON has it.
        name: Of its file.
    """
    figures: dict[str, bytes] = {}
    parts: list[str] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else _fenced("python", source))
        parts += _shown(cell.get("outputs", ()), Path(name).stem, figures)
    title, _, rest = "\n\n".join(parts).partition("\n")
    link = f"This page as a notebook: [{name}]({ADDRESS}/{name})"
    return f"{WIDE}{title}\n\n{link}\n{rest}\n", figures


def _shown(outputs: Sequence[Mapping[str, Any]], stem: str, figures: dict[str, bytes]) -> Iterator[str]:
    """What a cell printed, returned and drew, as Markdown; figures are put to those before."""
    for kind, group in groupby(outputs, _kind):
        if kind == TEXT:
            if text := _as_left("".join(map(_text, group))):
                yield _fenced("{ .text .output }", text)
            continue
        for data in ("".join(output["data"][kind]) for output in group):
            if kind == HTML:
                yield STYLE.sub("", data)
            else:
                number = len(figures) + 1
                figures[f"{stem}_{number}.png"] = b64decode(data)
                yield f"![Figure {number}]({stem}_{number}.png)"


def _kind(output: Mapping[str, Any]) -> str:
    """As what an output is shown; text that rich made HTML of is text."""
    data = output.get("data", {})
    html = "".join(data.get(HTML, ""))
    return PNG if PNG in data else HTML if html and not html.startswith("<pre") else TEXT


def _text(output: Mapping[str, Any]) -> str:
    """What an output printed, or its value in words, on lines of their own."""
    return "".join(output["text"]) if "text" in output else "".join(output["data"].get(TEXT, "")).rstrip("\n") + "\n"


def _as_left(text: str) -> str:
    """Text without what was written over, which are progress bars."""
    return "\n".join(line for line in TERMINAL.sub("", text).split("\n") if "\r" not in line).strip("\n")


def _fenced(language: str, text: str) -> str:
    return f"````{language}\n{text}\n````"


def _read(path: Path) -> Notebook:
    return dict(json.loads(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
