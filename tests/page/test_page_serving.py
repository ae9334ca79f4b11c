"""The page in a real browser, and by many at once: each gets their own answer, and nothing comes from elsewhere."""

import gc
import json
import os
import re
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from galaxyml.inference import load
from galaxyml.inference.image_predictor import ImagePredictor
from galaxyml.page import app, serving
from galaxyml.page.images import ImageModel
from galaxyml.page.uploads import read_upload
from galaxyml.runs.errors import UserError

Make = Callable[[str], Path]
pytestmark = [
    pytest.mark.usefixtures("apart"),
    # Of gradio 6.31, by pandas 3: an option that has no effect any more.
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    # Its server's socket is closed, and does not know it.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket.socket .closed.:pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.filterwarnings("ignore:unclosed <socket.socket .closed.:ResourceWarning"),
]
MANY = 50
ANSWER = ".gx-verdict:visible, .gx-refusal:visible"


@pytest.fixture(scope="module")
def address(page_run: Make) -> Iterator[str]:
    """The page of three runs."""
    with serving.served([page_run("galaxyzoo"), page_run("spirals"), page_run("plasticc")]) as found:
        yield found


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images that differ, half of them under one name."""
    folder = tmp_path_factory.mktemp("many")
    found = []
    for number in range(MANY):
        pixels = np.zeros((40, 40, 3), np.uint8)
        pixels[10 : 12 + number // 2, 10:30] = 55 + 4 * number
        path = folder / str(number) / ("same.png" if number % 2 else f"{number}.png")
        path.parent.mkdir()
        Image.fromarray(pixels).save(path)
        found.append(path)
    return found


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Opens the page as a new visitor, and makes sure that nothing was fetched from elsewhere and no script failed."""
    visitors, elsewhere, failed = [], [], []

    def new(**options: Any) -> Any:
        context = browser.new_context(**options)
        context.set_default_timeout(15_000)
        visitors.append(context)
        page = context.new_page()
        page.on("request", lambda request: elsewhere.append(request.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.goto(address)
        page.wait_for_selector(".gx-examples")
        return page

    yield new
    for context in visitors:
        context.close()
    assert [url for url in elsewhere if not url.startswith((address, "data:", "blob:"))] == []
    assert failed == []


def shown_by(run: Path) -> ImageModel:
    predictor = load(run)
    assert isinstance(predictor, ImagePredictor)
    return ImageModel(predictor, run)


def upload(page: Any, path: Path) -> str:
    """Uploads a file into the first tab; gives the text of the answer."""
    page.locator("input[type=file]").first.set_input_files(str(path))
    page.wait_for_selector(ANSWER)
    return page.locator(ANSWER).first.inner_text()


def test_an_uploaded_galaxy_gets_its_numbers_reasons_and_neighbours(
    visit: Callable[..., Any], page_run: Make, galaxies: list[Path]
) -> None:
    page = visit()
    upload(page, galaxies[0])
    page.wait_for_selector(".gx-alike img")
    shown = shown_by(page_run("galaxyzoo"))
    row = shown.ask(read_upload(galaxies[0])).table.iloc[0]
    values = page.eval_on_selector_all("data", "found => found.map(each => Number(each.value))")
    assert row["Class1.1"] in values
    assert row["Class7.3"] in values
    assert page.locator(".gx-pair img").count() == 2
    assert page.locator(".gx-alike img").count() == 8


def test_another_answer_can_be_explained(visit: Callable[..., Any], galaxies: list[Path]) -> None:
    page = visit()
    upload(page, galaxies[0])
    page.wait_for_selector(".gx-alike img")
    before = page.locator(".gx-pair img").nth(1).get_attribute("src")
    page.get_by_label("for the answer").first.click()
    page.get_by_role("option", name="What is odd? ring").click()
    page.wait_for_selector("figcaption:has-text('What is odd? ring')")
    assert page.locator(".gx-pair img").nth(1).get_attribute("src") != before


def test_an_example_and_then_a_class_in_another_tab(visit: Callable[..., Any]) -> None:
    page = visit()
    page.locator(".gx-examples button:visible").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(ANSWER)
    page.get_by_role("tab", name="spirals").click()
    page.locator(".gx-examples button:visible").nth(2).click()
    page.wait_for_selector(".gx-set:visible")
    assert page.locator(".gx-verdict:visible").inner_text().split()[0] in ("spiral", "elliptical")


def test_a_light_curve_gets_its_score_and_figures(visit: Callable[..., Any]) -> None:
    page = visit()
    page.get_by_role("tab", name="plasticc").click()
    page.get_by_role("button", name="RR Lyrae").click()
    page.wait_for_selector(".gx-drawing:visible")
    assert "nats" in page.locator(".gx-answer [role=status]:visible").inner_text()
    assert page.locator(".gx-drawing:visible").count() == 2


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("notes.txt", b"hello", "not an image"),
        ("cut.jpg", None, "cut off"),
        ("${alert(1)}<img src=x onerror=alert(1)>.png", b"nothing", ".png is not an image"),
        ("big.png", b"\0" * (20 * 10**6 + 1), "20"),
    ],
)
def test_what_is_no_image_gets_a_sentence_and_the_next_one_its_answer(
    name: str, content: bytes | None, told: str, visit: Callable[..., Any], galaxies: list[Path], tmp_path: Path
) -> None:
    page = visit()
    said: list[str] = []
    page.on("dialog", lambda dialog: said.append(dialog.message))
    (tmp_path / name).write_bytes(galaxies[0].read_bytes()[:800] if content is None else content)
    if name == "big.png":  # the browser is told so before it has sent all
        page.locator("input[type=file]").first.set_input_files(str(tmp_path / name))
        page.wait_for_selector("text=/maximum|too large|20/i >> visible=true")
    else:
        assert told in upload(page, tmp_path / name)
        assert "Traceback" not in page.content()
    assert said == []
    page.locator(".gx-examples button:visible").first.click()
    page.wait_for_selector(".gx-verdict:visible")
    assert page.locator(".gx-refusal").count() == 0


def test_two_at_once_get_their_own_answers(visit: Callable[..., Any], page_run: Make, galaxies: list[Path]) -> None:
    shown = shown_by(page_run("galaxyzoo"))
    pages = [visit(), visit()]
    for page, path in zip(pages, galaxies[:2], strict=True):
        page.locator("input[type=file]").first.set_input_files(str(path))
    for page, path in zip(pages, galaxies[:2], strict=True):
        page.wait_for_selector(".gx-alike img")
        values = page.eval_on_selector_all("data", "found => found.map(each => Number(each.value))")
        assert shown.ask(read_upload(path)).table.iloc[0]["Class1.1"] in values


def test_of_fifty_at_once_none_is_lost_and_each_gets_their_own(address: str, page_run: Make, many: list[Path]) -> None:
    from gradio_client import Client, handle_file

    shown = shown_by(page_run("galaxyzoo"))
    client = Client(address, verbose=False, analytics_enabled=False)
    jobs = [client.submit(handle_file(path), api_name="/ask") for path in many]
    found = [job.result(timeout=120) for job in jobs]
    assert len(found) == MANY
    for job, path in zip(jobs, many, strict=True):
        html = job.outputs()[0][1]
        expected = shown.ask(read_upload(path)).table.iloc[0]["Class1.1"]
        assert f'value="{float(expected)!r}"' in html


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window_in_both_schemes(width: int, scheme: str, visit: Callable[..., Any]) -> None:
    page = visit(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.locator(".gx-examples button:visible").first.click()
    page.wait_for_selector(".gx-alike img")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    ink, ground = page.evaluate(
        """() => {
          const note = document.querySelector('.gx-note'), body = document.body;
          return [getComputedStyle(note).color, getComputedStyle(body).backgroundColor];
        }"""
    )
    assert contrast(ink, ground) >= 4.5  # WCAG 2.2, 1.4.3
    assert page.locator(".gx-examples button:visible").first.evaluate("button => button.innerText.trim().length > 0")


def contrast(*colours: str) -> float:
    """Contrast of two colours (WCAG 2.2)."""
    lights = []
    for colour in colours:
        channels = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        lights.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_the_browser_is_told_to_fetch_nothing_from_elsewhere(address: str) -> None:
    with urllib.request.urlopen(address) as answer:
        policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy


def test_only_this_machine_is_listened_to_unless_told_otherwise(address: str) -> None:
    assert address.startswith("http://127.0.0.1:")
    port = int(address.rstrip("/").rpartition(":")[2])
    with socket.socket(type=socket.SOCK_DGRAM) as asking, socket.socket() as trial:
        try:
            asking.connect(
                ("192.0.2.1", 9)
            )  # a datagram socket sends nothing by this, and learns the machine's address
        except OSError:
            pytest.skip("this machine has no address but its own")
        assert trial.connect_ex((asking.getsockname()[0], port)) != 0


def test_files_of_the_server_cannot_be_had(address: str, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    for path in ("/etc/passwd", str(tmp_path / "secret.txt")):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(f"{address}gradio_api/file={path}")
        assert refusal.value.code in (403, 404)


def test_an_address_in_the_place_of_a_file_is_not_fetched(address: str) -> None:
    asked: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/x.png"
        given = {"data": [{"path": url, "meta": {"_type": "gradio.FileData"}}]}
        request = urllib.request.Request(
            f"{address}gradio_api/call/ask", json.dumps(given).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            event = json.load(answer)["event_id"]
        with urllib.request.urlopen(f"{address}gradio_api/call/ask/{event}") as answer:
            said = answer.read().decode()
        server.shutdown()
        thread.join()
    assert "error" in said
    assert "Traceback" not in said
    assert asked == []


def test_old_uploads_are_removed(
    page_run: Make, galaxies: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from gradio_client import Client, handle_file

    monkeypatch.setattr(app, "SWEEP", (1, 1))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with serving.served([page_run("spirals")]) as found:
        client = Client(found, verbose=False, analytics_enabled=False)
        client.predict(handle_file(galaxies[0]), api_name="/ask")
        deadline = time.monotonic() + 20
        while (left := list(tmp_path.glob(f"galaxyml-page-*/**/{galaxies[0].name}"))) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert left == []


def test_what_is_loaded_is_told_before_it_is(page_run: Make, tmp_path: Path) -> None:
    run = page_run("galaxyzoo")
    assert serving.loading(run) == f"Loading 2 nets of {run}"
    assert serving.loading(run / "fold-0") == f"Loading {run / 'fold-0'}"
    assert serving.loading(tmp_path) == f"Loading {tmp_path}"


@pytest.mark.parametrize("failures", [1, serving.TRIES])
def test_a_page_that_does_not_answer_itself_is_tried_again(failures: int) -> None:
    class Busy:
        launched = closed = 0

        def launch(self, **options: Any) -> tuple[None, str, None]:
            self.launched += 1
            if self.launched <= failures:
                raise ValueError("When localhost is not accessible, a shareable link must be created.")
            return None, "http://127.0.0.1:7860/", None

        def close(self, verbose: bool) -> None:
            self.closed += 1

    page = Busy()
    if failures < serving.TRIES:
        assert serving._launched(page, serving.LOOPBACK, None, {}) == "http://127.0.0.1:7860/"
    else:
        with pytest.raises(UserError, match="too busy"):
            serving._launched(page, serving.LOOPBACK, None, {})
    assert page.closed == failures


def test_a_page_that_did_not_answer_is_served_at_the_next_try(page_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False])
    monkeypatch.setattr("gradio.networking.url_ok", lambda url: next(answers, True))
    with serving.served([page_run("spirals")]) as found, urllib.request.urlopen(found) as answer:
        assert answer.status == 200


def test_a_closed_page_leaves_no_uploads(page_run: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = os.environ.get("GRADIO_TEMP_DIR")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with serving.served([page_run("spirals")]):
        assert len(list(tmp_path.glob("galaxyml-page-*"))) == 1
    assert list(tmp_path.glob("galaxyml-*")) == []
    assert os.environ.get("GRADIO_TEMP_DIR") == before


def test_a_port_that_is_taken_is_told_and_the_next_free_one_is_found(
    page_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind((serving.LOOPBACK, 0))
        other.listen()
        taken = other.getsockname()[1]
        with (
            pytest.raises(UserError, match=f"--port {taken}: another program uses it"),
            serving.served([page_run("spirals")], port=taken),
        ):
            pass
        monkeypatch.setattr("gradio.http_server.INITIAL_PORT_VALUE", taken)
        with serving.served([page_run("spirals")]) as found:
            assert urllib.request.urlopen(found).status == 200
            assert f":{taken}/" not in found
    gc.collect()  # here, where Gradio's warnings of sockets are not wanted


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_that_this_machine_does_not_have_is_told(host: str) -> None:
    with pytest.raises(UserError, match="no such address"):
        serving.check_host(host)
