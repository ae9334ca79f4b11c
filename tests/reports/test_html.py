import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from galaxyml.reports.html import LARGE, LONGEST, web_page

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
