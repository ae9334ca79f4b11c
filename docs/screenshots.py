"""Takes the images that the README shows of what runs in a browser, in Chromium.

    .venv/bin/python docs/screenshots.py multirun/galaxyzoo/demo

Writes `docs/page.jpg` (the page to try a run on, what it says), `docs/page_reasons.jpg` (where the net looked, and what
is alike), `docs/page_phone.jpg` (on a phone, dark), `docs/report.jpg` (the beginning of the first run's report) and
`docs/tensorboard.png` (the curves of its folder), or into another folder by `--out`; `--only report` writes the report
alone. Several runs give a page with tabs, and the first is shown. It needs Chromium (`apt install chromium`) and
playwright, which is in the group `dev` of pyproject.toml.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from galaxyml.page.serving import served

QUALITY = 84
WIDE, HIGH = 1180, 1066  # pixels, at a desk
PHONE = (390, 844)
SETTLED = 500  # milliseconds until what fades has faded
REPORT = (1180, 1500)  # pixels
CURVES = 20_000  # milliseconds until TensorBoard has read the runs, and until it has drawn their curves
START = 60  # seconds that TensorBoard may take to begin


def main() -> None:
    """Takes the images that were asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only", choices=list(IMAGES), help="of the images, those of this alone")
    given = parser.parse_args()
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        sys.exit("error: There is no chromium. Install it: apt install chromium")

    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, take in IMAGES.items():
            if given.only in (name, None):
                take(browser, given.runs, given.out)
        browser.close()


def take_page(browser: Any, runs: Sequence[Path], out: Path) -> None:
    """Serves the page and tries its first example."""
    with served(runs) as address:
        page = _tried(browser, address, WIDE, HIGH, "light")
        page.screenshot(path=out / "page.jpg", type="jpeg", quality=QUALITY)
        _reasons(page, out / "page_reasons.jpg")
        page = _tried(browser, address, *PHONE, "dark")
        page.screenshot(path=out / "page_phone.jpg", type="jpeg", quality=QUALITY)
    print(f"Wrote page.jpg, page_reasons.jpg and page_phone.jpg into {out}")


def take_report(browser: Any, runs: Sequence[Path], out: Path) -> None:
    """Opens the report of the first run."""
    page = browser.new_page(viewport={"width": REPORT[0], "height": REPORT[1]}, color_scheme="light")
    page.goto((runs[0] / "report.html").resolve().as_uri())
    page.screenshot(path=out / "report.jpg", type="jpeg", quality=QUALITY)
    print(f"Wrote report.jpg into {out}")


def take_tensorboard(browser: Any, runs: Sequence[Path], out: Path) -> None:
    """Serves TensorBoard on the folder of the first run."""
    with tensorboard(runs[0]) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(f"{address}#custom_scalars")
        page.wait_for_timeout(CURVES)
        page.reload()  # it draws what it had read when it was asked
        page.wait_for_timeout(CURVES)
        page.screenshot(path=out / "tensorboard.png")
    print(f"Wrote tensorboard.png into {out}")


IMAGES = {"page": take_page, "report": take_report, "tensorboard": take_tensorboard}


def _tried(browser: Any, address: str, width: int, height: int, scheme: str) -> Any:
    """The page with the first example tried on it."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(address)
    page.locator(".gx-examples button:visible").first.click()
    page.wait_for_selector(".gx-alike img, .gx-drawing")
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(SETTLED)
    return page


def _reasons(page: Any, path: Path) -> None:
    """The part of the page from where the net looked to what is alike."""
    first, last = (page.locator(name).first.bounding_box() for name in (".gx-pair", ".gx-alike"))
    if first and last:
        top, bottom = first["y"] - 8, last["y"] + last["height"] + 8
        clip = {"x": last["x"] - 8, "y": top, "width": last["width"] + 16, "height": bottom - top}
        page.screenshot(path=path, full_page=True, clip=clip, type="jpeg", quality=QUALITY)


@contextmanager
def tensorboard(folder: Path) -> Iterator[str]:
    """TensorBoard over a run's or a sweep's folder; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    process = subprocess.Popen([*command, "--load_fast=false"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://localhost:{port}/"
    try:
        for _ in range(START):
            try:
                urlopen(address, timeout=1).close()
                break
            except (URLError, OSError):
                time.sleep(1)
        yield address
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
