"""Takes the pictures of the page that the README shows, in Chromium.

    .venv/bin/python docs/screenshots.py multirun/galaxyzoo/demo

Writes `docs/page.jpg` (at a desk, light) and `docs/page_phone.jpg` (on a phone, dark), or into another folder by
`--out`. Several runs give a page with tabs, and the first is shown. It needs Chromium (`apt install chromium`) and
playwright, which is in the group `dev` of pyproject.toml.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from galaxyml.page.serving import served

# Name, width and height in pixels, colour scheme, and whether the page is shown in its whole length.
VIEWS: tuple[tuple[str, int, int, Any, bool], ...] = (
    ("page.jpg", 1180, 1330, "light", True),
    ("page_phone.jpg", 390, 844, "dark", False),
)
QUALITY = 82


def main() -> None:
    """Serves the page, tries its first example, and takes the pictures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = parser.parse_args()
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        sys.exit("error: There is no chromium. Install it: apt install chromium")

    from playwright.sync_api import sync_playwright

    with served(given.runs) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, width, height, scheme, whole in VIEWS:
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(address)
            page.locator(".gx-examples button:visible").first.click()
            page.wait_for_selector(".gx-alike img, .gx-drawing")
            page.mouse.move(0, 0)
            page.evaluate("document.activeElement.blur()")
            page.wait_for_timeout(500)  # until what fades has faded
            page.screenshot(path=given.out / name, full_page=whole, type="jpeg", quality=QUALITY)
            print(f"Wrote {given.out / name}")
        browser.close()


if __name__ == "__main__":
    main()
