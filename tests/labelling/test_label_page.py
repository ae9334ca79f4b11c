"""The page in a real browser: by keys, by touch, loaded again, in two windows, in the light and in the dark."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from label_pages import ANSWERS, COUNT, serving, some_objects

from galaxyml.inference.embedded import Embedded
from galaxyml.labelling.server import LabelServer

SHOWS = "name => document.querySelector('#caption span').innerText === name"
READY = "#answers button:enabled"


@pytest.fixture
def objects(tmp_path: Path) -> Embedded:
    return some_objects(tmp_path / "images")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "images" / "labels.csv"


@pytest.fixture
def server(objects: Embedded, table: Path) -> Iterator[LabelServer]:
    with serving(objects, table) as found:
        yield found


@pytest.fixture
def visit(browser: Any, server: LabelServer) -> Iterator[Callable[..., Any]]:
    """Opens the page as a new visitor, and makes sure that nothing was fetched from elsewhere and no script failed."""
    visitors, asked, failed = [], [], []

    def new(**options: Any) -> Any:
        context = browser.new_context(**options)
        context.set_default_timeout(15_000)
        visitors.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on("console", lambda message: failed.append(message.text) if "Content Security" in message.text else None)
        page.goto(server.address)
        page.wait_for_selector(f"{READY}, #notice:not([hidden])")
        return page

    yield new
    for context in visitors:
        context.close()
    assert [url for url in asked if not url.startswith(server.address)] == []
    assert failed == []


def shown(page: Any) -> str:
    """The object that is asked about, once it is seen."""
    page.wait_for_selector(READY)
    return str(page.locator("#caption span").first.inner_text())


def wait_until(page: Any, holds: str, arg: object = None) -> None:
    """Waits for what a function says of the page, whose policy lets Playwright's own way evaluate nothing."""
    deadline = time.monotonic() + 15
    while not page.evaluate(holds, arg):
        assert time.monotonic() < deadline, holds
        page.wait_for_timeout(20)


def labelled(page: Any, count: int) -> None:
    """Waits until the command has kept so many labels."""
    wait_until(page, "count => document.getElementById('progress').value === count && sending.length === 0", count)


def test_thirty_images_are_labelled_by_keys_and_a_reload_in_the_middle_loses_none(
    visit: Callable[..., Any], table: Path
) -> None:
    page = visit()
    given = {}
    for number in range(30):
        name = shown(page)
        assert name not in given
        given[name] = ANSWERS[number % 3]
        page.keyboard.press("123"[number % 3])
        if number == 14:
            page.reload()
    labelled(page, 30)
    found = pd.read_csv(table)
    assert dict(zip(found["path"], found["label"], strict=True)) == given
    assert page.locator("#answers .count").all_inner_texts() == ["10", "10", "10"]
    assert "30 of 40 labelled" in page.locator("#progress-text").inner_text()


def test_keys_that_come_fast_are_about_what_was_seen(visit: Callable[..., Any], table: Path) -> None:
    page = visit()
    page.wait_for_timeout(500)  # the next images are there
    page.evaluate(
        """() => {
          window.seen = [];
          for (let number = 0; number < 6; number++) {
            seen.push(document.querySelector('#caption span').innerText);
            document.dispatchEvent(new KeyboardEvent('keydown', {key: '3', bubbles: true}));
          }
        }"""
    )
    wait_until(page, "() => sending.length === 0")
    found = pd.read_csv(table)["path"].tolist()
    seen = page.evaluate("seen")
    assert found == list(dict.fromkeys(seen))[: len(found)]
    assert found


def test_a_key_that_is_held_answers_once(visit: Callable[..., Any], table: Path) -> None:
    page = visit()
    shown(page)
    for _ in range(5):
        page.keyboard.down("1")
    page.keyboard.up("1")
    labelled(page, 1)
    page.wait_for_timeout(200)
    assert len(pd.read_csv(table)) == 1


def test_undo_and_skip_by_keys_and_by_buttons(visit: Callable[..., Any], table: Path) -> None:
    page = visit()
    first = shown(page)
    page.keyboard.press("1")
    second = shown(page)
    page.keyboard.press("2")
    labelled(page, 2)
    page.keyboard.press("u")
    wait_until(page, SHOWS, second)
    page.get_by_role("button", name="Undo").click()
    wait_until(page, SHOWS, first)
    assert pd.read_csv(table).empty
    page.keyboard.press("Space")
    assert shown(page) == second
    page.get_by_role("button", name="Skip").click()
    assert shown(page) not in (first, second)
    wait_until(page, "() => sending.length === 0")
    assert "2 skipped" in page.locator("#progress-text").inner_text()
    page.keyboard.press("Backspace")
    wait_until(page, SHOWS, second)
    page.get_by_role("button", name="spiral").click()
    labelled(page, 1)
    assert pd.read_csv(table)[["path", "label"]].values.tolist() == [[second, "spiral"]]


def test_a_sheet_is_answered_by_arrows_and_keys_and_answered_again(visit: Callable[..., Any], table: Path) -> None:
    page = visit()
    shown(page)
    page.keyboard.press("g")
    wait_until(page, "[...document.querySelectorAll('.tile img')].filter(i => i.complete).length === 16")
    names = [text.get_attribute("aria-label") for text in page.locator(".tile").all()]
    assert len(set(names)) == 16
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("3")  # the sixth, and on to the seventh
    page.keyboard.press("2")
    labelled(page, 2)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("1")  # the sixth again
    labelled(page, 2)
    wait_until(page, "() => sending.length === 0")
    found = pd.read_csv(table)
    assert dict(zip(found["path"], found["label"], strict=True)) == {names[5]: "smooth", names[6]: "spiral"}
    for tile in (0, 1, 2, 3, 4, *range(7, 16)):
        page.locator(".tile").nth(tile).click()
        page.keyboard.press("3")
    labelled(page, 16)
    page.keyboard.press("Enter")
    page.wait_for_selector(".tile:not(.done)")
    assert not set(names) & {text.get_attribute("aria-label") for text in page.locator(".tile").all()}
    page.keyboard.press("u")  # the last of the sheet before
    wait_until(page, "name => document.querySelector('.tile').getAttribute('aria-label') === name", names[15])
    page.reload()
    page.wait_for_selector(".tile")  # as it was left


def test_a_second_window_is_told_and_may_take_over(visit: Callable[..., Any]) -> None:
    first, second = visit(), visit()
    assert "another window" in second.get_by_role("alert").inner_text()
    second.get_by_role("button", name="Go on here").click()
    shown(second)
    second.keyboard.press("1")
    labelled(second, 1)
    first.keyboard.press("2")
    first.wait_for_selector("#notice:not([hidden])")
    assert "another window" in first.get_by_role("alert").inner_text()
    first.get_by_role("button", name="Go on here").click()
    labelled(first, 1)


def test_a_window_that_is_closed_makes_room(visit: Callable[..., Any]) -> None:
    first = visit()
    first.close()
    shown(visit())


def test_a_command_that_has_ended_is_told_and_the_answer_is_given_again(
    browser: Any, objects: Embedded, table: Path
) -> None:
    context = browser.new_context()
    context.set_default_timeout(15_000)
    page = context.new_page()
    with serving(objects, table) as server:
        port = server.server_port
        page.goto(server.address)
        name = shown(page)
    page.keyboard.press("3")
    page.wait_for_selector("#notice:not([hidden])")
    assert page.locator("#notice p").inner_text()
    assert page.locator("#caption span").first.inner_text() == name
    with serving(objects, table, port=port):
        page.reload()
        assert shown(page) == name
        page.keyboard.press("3")
        labelled(page, 1)
        assert pd.read_csv(table)["path"].tolist() == [name]
    context.close()


def test_all_are_labelled_in_the_end(visit: Callable[..., Any], table: Path) -> None:
    page = visit()
    for _ in range(COUNT):
        shown(page)
        page.keyboard.press("1")
    labelled(page, COUNT)
    assert "All 40 objects are labelled" in page.locator("#finished").inner_text()
    page.keyboard.press("u")
    labelled(page, COUNT - 1)
    shown(page)


def test_help_names_each_key(visit: Callable[..., Any]) -> None:
    page = visit()
    page.keyboard.press("?")
    told = page.get_by_role("dialog").inner_text()
    assert all(answer in told for answer in ANSWERS)
    page.keyboard.press("2")  # says nothing meanwhile
    page.keyboard.press("Escape")
    assert page.locator("#progress").evaluate("bar => bar.value") == 0


@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window_in_both_schemes(width: int, scheme: str, visit: Callable[..., Any]) -> None:
    page = visit(viewport={"width": width, "height": 780}, color_scheme=scheme, has_touch=width < 1000)
    for _ in range(2):
        page.wait_for_selector(READY)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wait_until(page, "[...document.querySelectorAll('main img')].every(image => image.naturalWidth > 0)")
        box = page.locator("#answers button").last.bounding_box()
        assert box["y"] + box["height"] <= 780  # without scrolling
        assert box["height"] >= 44  # pixels that a finger needs
        page.get_by_role("button", name="Sheet of 16").click()
