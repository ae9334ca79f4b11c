"""A report in Markdown as one web page that needs no other file: for phones, for paper, in light and in dark."""

import base64
import io
import re
from collections.abc import Sequence
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
NUMBER = re.compile(r"^[+-]?[\d.,]+(e[+-]?\d+)?( ?%)?( .*[\d)\]])?$")  # its spread, or its interval, may follow
# A paragraph that is an image, and one after it that is all in italics.
FIGURE = re.compile(r"<p>(<img [^>]*>)</p>\n(?:<p><em>((?:(?!</?em>|</p>).)*)</em></p>\n)?", re.DOTALL)

STYLE = """\
:root{color-scheme:light dark;--ink:#1c2330;--soft:#5b6575;--line:#dbe0e8;--back:#fff;--card:#f5f7fa;--blue:#1f5fa8}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#9aa5b5;--line:#2f3846;--back:#12161d;--card:#1b212b;
--blue:#7db4ef}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{overflow-wrap:break-word;margin:0 auto;max-width:64rem;padding:1.2rem 1.1rem 4rem;
background:var(--back);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:.6rem 0 1rem;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:2.4rem 0 .7rem;padding-top:.6rem;border-top:1px solid var(--line)}
h3{font-size:1.05rem;margin:1.6rem 0 .5rem}
a{color:var(--blue)}
blockquote{margin:0 0 1.2rem;padding:.1rem 1rem;border-left:4px solid var(--blue);background:var(--card);
font-size:1.08rem}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.88em;overflow-wrap:anywhere}
pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.8rem 1rem;white-space:pre-wrap}
nav{font-size:.92rem;color:var(--soft);margin:1rem 0}
nav a{display:inline-block;margin:0 .9rem .2rem 0;text-decoration:none}
.table{overflow-x:auto;margin:.8rem 0;border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.38rem .7rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
tr:last-child td{border-bottom:0}
th{background:var(--card);font-weight:600}
.number{text-align:right}
td.number{white-space:nowrap}
td:first-child{overflow-wrap:anywhere;min-width:9rem}
figure{margin:1.2rem 0 1.8rem}
figure img{display:block;max-width:100%;height:auto;background:#fff;border:1px solid var(--line);border-radius:8px}
figcaption{color:var(--soft);font-size:.92rem;margin-top:.45rem}
@media print{body{max-width:none;padding:0;font-size:10pt;background:#fff;color:#000}nav{display:none}
h2,h3{break-after:avoid}figure,tr,pre{break-inside:avoid}figure img{max-height:21cm}.table{overflow:visible;border:0}
table{font-size:7.5pt}th,td{padding:.15rem .3rem}td.number{white-space:normal}}
"""


def write_report(run: RunDir, text: str) -> Path:
    """Writes `report.md`, and the same as a page in one file; returns where the page is."""
    write_text(run.path / "report.md", text)
    page = run.path / "report.html"
    write_text(page, web_page(text, run.path))
    return page


def web_page(text: str, folder: Path) -> str:
    """The page of a report.

    Images are packed into it, a caption in italics below one becomes its own, and links to other reports lead to their
    pages.

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
    body = body.replace("<table>", '<div class="table" tabindex="0"><table>').replace("</table>", "</table></div>")
    links = f"<nav aria-label=contents>{''.join(contents)}</nav>" if len(contents) > 2 else ""
    title = escape(re.sub(r"[`*]", "", titles[0])) if titles else "Report"
    before, _, after = body.partition("</h1>\n")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>\n{STYLE}</style>\n</head>\n<body>\n"
        + (f"{before}</h1>\n{links}\n{after}" if after else links + body)
        + "</body>\n</html>\n"
    )


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
    content, kind = path.read_bytes(), "png"
    if len(content) > LARGE:
        smaller = io.BytesIO()
        with Image.open(path) as opened:
            opened.convert("RGB").save(smaller, "WEBP", quality=QUALITY)
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
