"""A report in Markdown as one web page that needs no other file: for phones, for paper, in light and in dark."""

import base64
import io
import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image

from galaxyml.runs.files import write_text
from galaxyml.runs.run_dir import RunDir

LARGE = 150_000  # bytes from which on an image is packed more tightly
QUALITY = 88  # of WebP
EFFORT = 2  # of WebP, 0 to 6; by 4, its default, it takes twice the time for 3 % fewer bytes
KEPT = 32  # images that are packed once where several reports of a process have them
NUMBER = re.compile(r"^(< )?[+-]?[\d.,]+(e[+-]?\d+)?( ?%)?( .*[\d)\]])?$")  # its spread, or its interval, may follow
# A paragraph that is an image, and one after it that is all in italics.
FIGURE = re.compile(r"<p>(<img [^>]*>)</p>\n(?:<p><em>((?:(?!</?em>|</p>).)*)</em></p>\n)?", re.DOTALL)

TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
SENTENCE = re.compile(r"<p><strong>(?=(?:(?!</?strong>|</p>).)*</strong></p>)")  # a paragraph that is all bold
LONGEST = 12  # rows of a table that is not folded
ROOM = 8  # columns whose intervals may stay in one line; those of more break, too

CELL = re.compile(r"(<t[hd][^>]*>)(.*?)(?=</t[hd]>)", re.DOTALL)
MARKUP = re.compile(r"(<[^>]*>)")
JOINT = re.compile(r"(?<=\w)([_/:])(?=\w)")  # where a name may go on in the next line
# Behind a number: its interval, or its spread.
SPREAD = re.compile(r" (\[[^\]<]*\]|± [^<]*)")

STYLE = Path(__file__).with_name("report.css").read_text(encoding="utf-8")


def write_report(run: RunDir, text: str) -> Path:
    """Writes `report.md`, and the same as a page in one file; returns where the page is."""
    write_text(run.path / "report.md", text)
    page = run.path / "report.html"
    write_text(page, web_page(text, run.path))
    return page


def web_page(text: str, folder: Path) -> str:
    """The page of a report.

    Images are packed into it, a caption in italics below one becomes its own, links to other reports lead to their
    pages, and long tables are folded.

    Args:
        text: CommonMark with tables, such as `report.md`; its first heading is the title.
        folder: Where its images are.

    Returns:
        HTML without scripts and without addresses that a browser would load anything from.
    """
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    heads = [(token, tokens[index + 1]) for index, token in enumerate(tokens) if token.type == "heading_open"]
    titles = [inline.content for token, inline in heads if token.tag == "h1"]
    contents = []
    for number, (token, inline) in enumerate(heads):
        token.attrSet("id", f"part-{number}")
        if token.tag == "h2":
            contents.append(f'<a href="#part-{number}">{escape(inline.content)}</a>')
    for token in tokens:
        for child in token.children or ():
            _make_local(child, folder)
    _mark_numbers(tokens)
    body = FIGURE.sub(_figure, markdown.renderer.render(tokens, markdown.options, {}))
    body = TABLE.sub(_table, SENTENCE.sub(r'<p class="answer"><strong>', body, count=1))
    links = f"<nav aria-label=contents>{''.join(contents)}</nav>" if len(contents) > 2 else ""
    title = escape(re.sub(r"[`*]", "", titles[0])) if titles else "Report"
    answer, heading, details = body.partition("<h2")  # the answer stands above the contents
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>\n{STYLE}</style>\n</head>\n<body>\n" + f"{answer}{links}\n{heading}{details}" + "</body>\n</html>\n"
    )


def _table(match: re.Match[str]) -> str:
    """A table that scrolls where it is wide, and is folded where it is long; paper has all of it."""
    rows = match.group().count("<tr>") - 1
    wide = match.group().partition("</tr>")[0].count("<th") > ROOM
    cells = CELL.sub(_cell, match.group())
    table = f'<div class="table{" wide" if wide else ""}" tabindex="0">{cells}</div>'
    return table if rows <= LONGEST else f"<details><summary>All {rows:,} rows</summary>{table}</details>"


def _cell(match: re.Match[str]) -> str:
    """A cell that can be narrow: names break behind their parts, and what a number is uncertain by goes below it."""
    tag, content = match.groups()
    if tag.startswith("<td") and 'class="number"' in tag:
        return tag + SPREAD.sub(lambda spread: f" <span>{spread[1].replace('± ', '±&nbsp;')}</span>", content)
    parts = MARKUP.split(content)  # every second one is markup
    return tag + "".join(part if index % 2 else JOINT.sub(r"\1<wbr>", part) for index, part in enumerate(parts))


def _figure(match: re.Match[str]) -> str:
    """A figure in the place of an image, with the caption that follows it."""
    image, caption = match.groups()
    return f"<figure>{image}" + (f"<figcaption>{caption}</figcaption>" if caption else "") + "</figure>\n"


def _make_local(token: Token, folder: Path) -> None:
    """Packs an image of this machine into a page, and leads a link to another report to its page."""
    if token.type == "image":
        path = folder / unquote(str(token.attrs.get("src", "")))
        token.attrSet("src", _packed(path) if path.is_file() else "")
    elif token.type == "link_open":
        target = str(token.attrs.get("href", ""))
        if target.endswith("report.md") and "://" not in target:
            token.attrSet("href", target.removesuffix("md") + "html")


def _packed(path: Path) -> str:
    """An image as an address that holds all of it."""
    return _address(path.read_bytes())


@lru_cache(KEPT)
def _address(content: bytes) -> str:
    """The address of a PNG's content."""
    kind = "png"
    if len(content) > LARGE:
        smaller = io.BytesIO()
        with Image.open(io.BytesIO(content)) as opened:
            opened.convert("RGB").save(smaller, "WEBP", quality=QUALITY, method=EFFORT)
        if smaller.tell() < len(content):
            content, kind = smaller.getvalue(), "webp"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _mark_numbers(tokens: Sequence[Token]) -> None:
    """Marks the columns of tables that hold numbers alone, their heads too."""
    rows: list[list[tuple[Token, str]]] = []
    for index, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            rows[-1].append((token, tokens[index + 1].content.strip()))
        elif token.type == "table_close":
            for column in zip(*rows, strict=True):
                values = [text.strip("*") for _, text in column[1:] if text]
                if values and all(map(NUMBER.match, values)):
                    for cell, _ in column:
                        cell.attrJoin("class", "number")
            rows = []
