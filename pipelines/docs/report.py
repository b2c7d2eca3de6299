"""Write docs/figures/report-*.png: the head of a run's report, light and dark.

    python -m pipelines.docs.report RUN

Needs Chromium and playwright.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from .pictures import FOLDER, SCHEMES

_SIZE = {"width": 1000, "height": 720}


def main(run: str) -> None:
    """Take both pictures."""
    page_url = (Path(run) / "report.html").resolve().as_uri()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for scheme in SCHEMES:
            page = browser.new_page(viewport=_SIZE, color_scheme=scheme.name)
            page.goto(page_url)
            page.screenshot(path=FOLDER / f"report-{scheme.name}.png")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
