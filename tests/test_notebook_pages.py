"""Pages of the notebooks in the documentation: what is run, what is shown, and where they stand."""

import base64
import io
import json
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
import yaml
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
STEMS = {path.stem for path in NOTEBOOKS}


@pytest.fixture
def notebooks() -> ModuleType:
    """The script `docs/notebooks.py`."""
    spec = spec_from_file_location("notebooks", ROOT / "docs" / "notebooks.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path, notebooks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the script takes for the repository, with two notebooks, which are not really run."""
    for name in ("examples/a.ipynb", "examples/b.ipynb", "galaxyml/x.py", "conf/x.yaml", "requirements.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"metadata": {}, "cells": []}))
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "EXAMPLES", tmp_path / "examples")
    monkeypatch.setattr(notebooks, "EXECUTED", tmp_path / ".cache" / "notebooks")
    monkeypatch.setattr(notebooks, "executed", lambda path: json.loads(path.read_text()))
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "run"),
    [
        ("examples/b.ipynb", ["b"]),
        ("galaxyml/x.py", ["a", "b"]),
        ("conf/x.yaml", ["a", "b"]),
        ("requirements.lock", ["a", "b"]),
        ("README.md", []),
    ],
)
def test_a_notebook_is_run_again_when_it_or_the_code_has_changed(
    changed: str, run: list[str], checkout: Path, notebooks: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    notebooks.main()
    assert re.findall(r"(\w)\.ipynb: \d+ seconds", capsys.readouterr().out) == ["a", "b"]
    (checkout / changed).write_text(json.dumps({"metadata": {}, "cells": [], "x": "new"}))
    notebooks.main()
    assert re.findall(r"(\w)\.ipynb: \d+ seconds", capsys.readouterr().out) == run


def test_a_notebook_is_run_in_an_empty_folder_whose_name_is_not_shown(notebooks: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("ipykernel", reason="notebooks are run by ipykernel: uv pip install ipykernel nbclient")
    code = "from pathlib import Path\nprint(list(Path().iterdir()), Path('new').resolve())"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), tmp_path / "a.ipynb")
    (cell,) = notebooks.executed(tmp_path / "a.ipynb")["cells"]
    assert "".join(cell["outputs"][0]["text"]) == "[] new\n"


def test_a_notebook_that_fails_ends_the_script_with_its_name(notebooks: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("ipykernel", reason="notebooks are run by ipykernel: uv pip install ipykernel nbclient")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), tmp_path / "a.ipynb")
    with pytest.raises(SystemExit, match=r"(?s)error: a\.ipynb: .*ZeroDivisionError"):
        notebooks.executed(tmp_path / "a.ipynb")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_has_each_cell_of_its_notebook_in_order(path: Path, notebooks: ModuleType) -> None:
    cells = [(cell.cell_type, cell.source) for cell in nbformat.read(path, as_version=4).cells]
    text, figures = notebooks.page(json.loads(path.read_text(encoding="utf-8")), path.name)
    fences = [token for token in MarkdownIt().parse(text) if token.type == "fence"]
    assert [token.content.rstrip("\n") for token in fences] == [source for kind, source in cells if kind == "code"]
    assert {token.info for token in fences} == {"python"}
    assert not figures
    after = 0
    for kind, source in cells:
        paragraphs = source.split("\n\n") if kind == "markdown" else [source]
        for paragraph in paragraphs:
            after = text.index(paragraph, after) + len(paragraph)
    assert text.startswith("---\nhide: [toc]\n---\n\n# ")
    assert f"/examples/{path.name})" in text


def test_a_page_has_what_was_printed_returned_and_drawn_without_progress_bars(notebooks: ModuleType) -> None:
    figure = plt.figure(figsize=(1, 1))
    buffer = io.BytesIO()
    figure.savefig(buffer)
    plt.close(figure)
    table = pd.DataFrame({"r90": [4.5, 5.5]})
    outputs: list[Any] = [
        nbformat.v4.new_output("stream", text="\x1b[?25l 0 %\r\x1b[2K50 %"),
        nbformat.v4.new_output("stream", text="\r100 %\nend"),
        nbformat.v4.new_output("stream", name="stderr", text=" of it\r\n"),
        nbformat.v4.new_output("display_data", data={"text/html": "<pre>a</pre>\n", "text/plain": "\x1b[3ma\x1b[0m\n"}),
        nbformat.v4.new_output("execute_result", data={"text/plain": "4 ```"}),
        nbformat.v4.new_output("display_data", data={"text/html": table.to_html(notebook=True), "text/plain": "r90"}),
        nbformat.v4.new_output(
            "display_data", data={"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": "<Figure>"}
        ),
        nbformat.v4.new_output("stream", text="\n"),
    ]
    title, code = nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("draw()", outputs=outputs)
    notebook = json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=[title, code])))  # with lines as lists
    text, figures = notebooks.page(notebook, "x.ipynb")
    tokens = MarkdownIt().parse(text)
    assert [token.content for token in tokens if token.type == "fence"] == ["draw()\n", "end of it\na\n4 ```\n"]
    assert figures == {"x_1.png": buffer.getvalue()}
    images = [part for token in tokens for part in token.children or () if part.type == "image"]
    assert [part.attrs["src"] for part in images] == ["x_1.png"]
    (html,) = (token.content for token in tokens if token.type == "html_block")
    assert "<td>4.5</td>" in html
    assert "style" not in html
    assert "class" not in html


def test_each_notebook_has_a_page_in_the_list_and_beside_it(notebooks: ModuleType) -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    (section,) = (entry["Notebooks"] for entry in nav if "Notebooks" in entry)
    index = (ROOT / "docs" / section[0]).read_text(encoding="utf-8")
    beside = {name: Path(page) for entry in section[1:] for name, page in entry.items()}
    assert {page.stem for page in beside.values()} == STEMS
    assert dict(re.findall(r"\[(.*?)\]\((\w+\.md)\)", notebooks.linked(index))) == {
        name: page.name for name, page in beside.items()
    }
    link = f"[it]({notebooks.ADDRESS}/own_net.ipynb)"
    assert notebooks.linked(link, "how_to/own_model.md") == "[it](../notebooks/own_net.md)"
    assert notebooks.linked(link, "questions.md") == "[it](notebooks/own_net.md)"
    assert set(re.findall(r"\((\w+)\.ipynb\)", (ROOT / "examples" / "README.md").read_text(encoding="utf-8"))) == STEMS
