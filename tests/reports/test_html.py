import base64
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from galaxyml.kinds import Kind
from galaxyml.kinds.anomalies import Anomalies
from galaxyml.kinds.classes import Classes
from galaxyml.kinds.fractions import Fractions
from galaxyml.kinds.numbers import Numbers
from galaxyml.kinds.votes import Votes
from galaxyml.reports import run_report
from galaxyml.reports.html import LARGE, LONGEST, ROOM, web_page
from galaxyml.reports.sweep_report import WIDEST
from galaxyml.trees.vocabulary import Vocabulary

TEXT = """\
# A title with `code` & more

> What is asked?

## First

| name | value | spread | told |
| --- | --- | --- | --- |
| a | 1,200 | 0.5 [0.4, 0.6] | 3 of 4 |
| b <i> | -2.0e-05 | **+0.1 [+0.0, +0.2]** | none |

## Second

![a figure](figures/one.png)

*What is seen in it.*

See [this job](fold-0/report.md) and <script>alert(1)</script>.

## Third

*In italics*, and more.
"""


class Parts(HTMLParser):
    """All tags of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture
def page(tmp_path: Path) -> str:
    (tmp_path / "figures").mkdir()
    Image.new("RGB", (40, 30), "navy").save(tmp_path / "figures" / "one.png")
    return web_page(TEXT, tmp_path)


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    found = Parts(page)
    assert not found.all("script")
    assert not found.all("link")
    assert all(str(image["src"]).startswith("data:image/") for image in found.all("img"))
    assert not re.search(r"(src|href)=.?https?:|@import|url\(", page)


def test_an_image_is_in_the_page_to_the_byte(page: str, tmp_path: Path) -> None:
    (image,) = Parts(page).all("img")
    assert base64.b64decode(str(image["src"]).partition(",")[2]) == (tmp_path / "figures" / "one.png").read_bytes()
    assert image["alt"] == "a figure"


def test_a_large_image_is_packed_smaller(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert (tmp_path / "noise.png").stat().st_size > LARGE
    (image,) = Parts(web_page("![n](noise.png)\n", tmp_path)).all("img")
    kind, _, content = str(image["src"]).partition(",")
    assert kind == "data:image/webp;base64"
    assert len(base64.b64decode(content)) < (tmp_path / "noise.png").stat().st_size


def long(rows: int) -> str:
    return "| name | value |\n| --- | --- |\n" + "".join(f"| row {k} | {k} |\n" for k in range(rows))


def test_long_tables_are_folded_and_paper_has_them_open(tmp_path: Path) -> None:
    page = web_page(f"{long(LONGEST)}\nAnd\n\n{long(LONGEST + 1)}", tmp_path)
    assert page.count("<details>") == 1
    folded = page[page.index("<details>") : page.index("</details>")]
    assert f"<summary>All {LONGEST + 1} rows</summary>" in folded
    assert f"row {LONGEST}</td>" in folded
    assert page.count("<tr>") == 2 + 2 * LONGEST + 1
    assert "details::details-content{content-visibility:visible" in page.partition("@media print")[2]


def test_the_answer_stands_above_the_contents(tmp_path: Path) -> None:
    parts = "".join(f"## Part {k}\n\n**Not all** is bold.\n\n" for k in range(4))
    page = web_page(f"# Title\n\n> Question?\n\n**Better by `far`.**\n\n{parts}", tmp_path)
    places = [page.index(text) for text in ("<h1", "Question?", '<p class="answer">', "<nav", "<h2")]
    assert places == sorted(places)
    assert page.count('class="answer"') == 1


def test_a_caption_belongs_to_its_figure_and_other_italics_do_not(page: str) -> None:
    assert "<figcaption>What is seen in it.</figcaption></figure>" in re.sub(r"\n", "", page)
    assert page.count("<figcaption>") == 1
    assert "<p><em>In italics</em>, and more.</p>" in page


def test_columns_of_numbers_stand_to_the_right_with_their_heads(page: str) -> None:
    heads = [attributes.get("class") for attributes in Parts(page).all("th")]
    assert heads == [None, "number", "number", None]


def test_what_a_report_quotes_does_not_run(page: str) -> None:
    assert "&lt;script&gt;" in page
    assert "b &lt;i&gt;" in page
    assert "<title>A title with code &amp; more</title>" in page


def test_links_lead_to_pages_and_contents_to_parts(page: str) -> None:
    links = [str(attributes["href"]) for attributes in Parts(page).all("a")]
    assert "fold-0/report.html" in links
    ids = {attributes.get("id") for tag in ("h1", "h2") for attributes in Parts(page).all(tag)}
    inside = {link.removeprefix("#") for link in links if link.startswith("#")}
    assert len(inside) == 3
    assert inside <= ids


def test_an_image_with_a_name_of_any_letters_is_found(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "größe.png")
    (image,) = Parts(web_page("![n](größe.png)\n", tmp_path)).all("img")
    assert str(image["src"]).startswith("data:image/png")


def test_an_image_that_is_gone_leaves_its_name(tmp_path: Path) -> None:
    (image,) = Parts(web_page("![gone](figures/none.png)\n", tmp_path)).all("img")
    assert (image["src"], image["alt"]) == ("", "gone")


def test_what_a_number_is_uncertain_by_can_stand_below_it_and_names_break_at_their_joints(tmp_path: Path) -> None:
    rows = "| class_features | **0.5 [0.4, 0.6]** | 0.5 ± 0.1 (4) | [a_b](fold_0/report.md) |"
    page = web_page(f"| survey/roc_auc | value | folds | job |\n| --- | --- | --- | --- |\n{rows}\n", tmp_path)
    assert "<th>survey/<wbr>roc_<wbr>auc</th>" in page
    assert "<td>class_<wbr>features</td>" in page
    assert '<td class="number"><strong>0.5 <span>[0.4, 0.6]</span></strong></td>' in page
    assert '<td class="number">0.5 <span>±&nbsp;0.1 (4)</span></td>' in page
    assert '<a href="fold_0/report.html">a_<wbr>b</a>' in page


CUT = """() => [...document.querySelectorAll(".table")]
    .filter(table => Math.max(table.scrollWidth, table.firstElementChild.offsetWidth) > table.clientWidth + 1)
    .map(table => `${table.scrollWidth} px in ${table.clientWidth}: ${table.innerText.slice(0, 80)}`)"""


def cut(browser: Any, page: Path, width: int, medium: str = "screen") -> list[str]:
    """Tables of a page that are wider than there is room for them, in a window of some width."""
    opened = browser.new_page(viewport={"width": width, "height": 900})
    try:
        opened.emulate_media(media=medium)
        opened.goto(page.resolve().as_uri())
        opened.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        found: list[str] = opened.evaluate(CUT)
        return found
    finally:
        opened.close()


def fullest(kind: Kind, columns: list[str]) -> str:
    """Tables of a run in which every number of every column has an interval, and folds beside it."""
    words = kind.words
    own = [words.main, *words.headline, *words.counts, "class_features_roc_auc_of_all"]
    metrics: dict[str, Any] = {"folds": {f"val/{name}": {"mean": -0.5, "std": 0.25, "runs": 5} for name in own}}
    keys = [f"{prefix}{name}" for name in own for prefix in ("", *words.variants)]
    keys += [f"{name}/{column}" for name in words.by_column for column in columns]
    for key in keys:
        name, mark, column = key.partition("/")
        metrics |= {f"val/{name}{end}{mark}{column}": -0.1234 for end in ("", "_low", "_high")}
    shown = [run_report.summary(metrics, "val", words), run_report.by_column(metrics, "val", kind)]
    return "\n\n".join("\n".join(run_report.markdown(table)) for table in shown if table)


class Asked:
    """A survey of this campaign."""

    campaign = "gz2"


KINDS: dict[str, Callable[[], tuple[Kind, list[str]]]] = {
    "fractions": lambda: (Fractions("kaggle"), ["Class1.1", "Class11.6"]),
    "classes": lambda: (Classes(["Edge-on without Bulge", "Unbarred Tight Spiral"]), ["Edge-on without Bulge"]),
    "numbers": lambda: (Numbers(["petrosian_radius", "r90"]), ["petrosian_radius", "r90"]),
    "votes": lambda: (
        Votes(Vocabulary(9, "shared", {"sdss": Asked()}, ["sdss"])),
        ["sdss", "sdss:odd_feature_dust_lane"],
    ),
    "anomalies": lambda: (Anomalies(["90: Ia", "42: II"]), ["Kilonova"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_table_of_any_kind_of_target_is_cut_off_at_a_desk_or_on_paper(
    kind: str, tmp_path: Path, browser: Any
) -> None:
    text = fullest(*KINDS[kind]())
    assert text.count("[-0.1234, -0.1234]") > 3
    page = tmp_path / "report.html"
    page.write_text(web_page(f"# Report\n\n{text}\n", tmp_path))
    assert cut(browser, page, 1280) == []
    assert cut(browser, page, 680, "print") == []  # A4 without its margins


def test_the_widest_table_of_combinations_is_not_cut_off_at_a_desk(tmp_path: Path, browser: Any) -> None:
    names = ["combination", *(f"survey/class_features_roc_auc{number}" for number in range(WIDEST))]
    row = ["detector-isolation_forest_seed-0", *["0.1234 [0.1000, 0.2000]"] * WIDEST]
    page = tmp_path / "report.html"
    page.write_text(web_page("\n".join(run_report.markdown([names, row, row])) + "\n", tmp_path))
    assert cut(browser, page, 1280) == []


@pytest.mark.parametrize("task", ["galaxyzoo", "spirals", "surveys", "plasticc"])
def test_no_table_of_a_real_report_is_cut_off_at_a_desk(
    task: str, page_run: Callable[[str], Path], browser: Any
) -> None:
    reports = sorted(page_run(task).rglob("report.html"))
    assert reports
    assert [line for page in reports for line in cut(browser, page, 1280)] == []


def test_on_a_phone_a_shadow_tells_that_a_table_goes_on(tmp_path: Path, browser: Any) -> None:
    names = [f"metric{number}" for number in range(ROOM)]
    rows = [names, ["---"] * ROOM, ["0.1234 [0.1000, 0.2000]"] * ROOM]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    page = tmp_path / "report.html"
    page.write_text(web_page(f"{text}\n", tmp_path))
    assert len(cut(browser, page, 390)) == 1
    opened = browser.new_page(viewport={"width": 390, "height": 400})
    opened.goto(page.as_uri())
    table = opened.locator(".table")
    before = table.screenshot()
    table.evaluate("table => table.style.background = 'none'")
    assert table.screenshot() != before
    opened.close()
