"""Pieces of HTML: what people write in them stays text."""

import base64
import re
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from galaxyml.page import markup

EVIL = """<img src=x onerror="alert(1)">'${alert(2)}{{alert}}&"""


class Reader(HTMLParser):
    """Collects the tags and the text of some HTML."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.values: list[str | None] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("made", [markup.paragraph(EVIL), markup.refusal(EVIL), markup.details(EVIL, "")])
def test_what_people_write_is_text_and_reads_as_they_wrote_it(made: str) -> None:
    read = Reader(made)
    assert read.text == EVIL
    assert "img" not in read.tags
    assert not re.search(r"[${}]", made)


def test_attributes_hold_what_people_write_too() -> None:
    read = Reader(markup.encoded_image(b"x", EVIL) + markup.download("a", EVIL, "save"))
    assert read.tags == ["img", "a"]
    assert read.values.count(EVIL) == 2


def test_a_number_is_there_to_the_last_bit() -> None:
    value = 0.1 + 0.2
    found = re.search(r'value="([^"]+)"', markup.number(value))
    assert found is not None
    assert float(found.group(1)) == value
    assert "30.0 %" in markup.number(value)
    assert "not known" in markup.number(float("nan"))


@pytest.mark.parametrize("share", [-0.2, 0.0, 0.5, 1.0, 1.3])
def test_bars_stay_within_their_box(share: float) -> None:
    (width,) = re.findall(r"width:([\d.]+)%", markup.bar(share))
    assert 0 <= float(width) <= 100


def test_a_download_holds_its_file() -> None:
    found = re.search(r"base64,([^\"]+)", markup.download("a,b\n1,2\n", "x.csv", "save"))
    assert found is not None
    assert base64.b64decode(found.group(1)) == b"a,b\n1,2\n"


def test_a_drawing_has_the_inks_of_the_page_and_names_of_its_own() -> None:
    def drawn(salt: str) -> str:
        figure = Figure()
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="red")
        axes.set_title("a title", color=markup.INK)
        return markup.drawing(figure, EVIL, salt)

    first, second = drawn("first"), drawn("second")
    assert markup.INK not in first
    assert "currentColor" in first
    assert "<metadata>" not in first
    names = [set(re.findall(r'id="([^"]*clip[^"]*|p[0-9a-f]{10})"', each)) for each in (first, second)]
    assert names[0]
    assert not names[0] & names[1]
    assert Reader(first).tags[0] == "svg"
    assert EVIL in Reader(first).values
