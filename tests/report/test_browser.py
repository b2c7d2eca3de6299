"""Pages in a real browser: Chromium, at the widths of a phone, a tablet and a desk."""

from __future__ import annotations

import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from srch_dist.report import write_page

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
WIDTHS = (390, 820, 1440)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium: none of " + ", ".join(_NAMES) + " is on the path"
    ),
]


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        # Its sandbox needs rights that a container does not give.
        options = ["--no-sandbox"]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield started
        started.close()


@pytest.fixture(scope="module", params=["run", "comparison"])
def address(request, shown, other, tmp_path_factory):
    if request.param == "run":
        return shown.run.page.as_uri()
    out = tmp_path_factory.mktemp("page") / "comparison.html"
    write_page([shown.run.path, other.run.path], out)
    return out.as_uri()


class Opened:
    """A page as opened, and what the browser had to say."""

    def __init__(self, browser, address: str, width: int, scheme: str) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(request.url))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)

    def see(self) -> np.ndarray:
        """Pixels (height, width, 3) of the first screen."""
        with Image.open(io.BytesIO(self.page.screenshot())) as picture:
            return np.asarray(picture.convert("RGB"))


@pytest.fixture(scope="module", params=[(w, s) for w in WIDTHS for s in ("light", "dark")], ids=str)
def opened(request, browser, address):
    found = Opened(browser, address, *request.param)
    yield found
    found.page.close()


def test_page_is_as_wide_as_the_screen(opened):
    """Nothing sticks out sideways; what is wider scrolls in a box of its own."""
    width = opened.page.viewport_size["width"]
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    outside = opened.page.evaluate(
        """width => [...document.querySelectorAll('body *')]
            .filter(one => !one.closest('.scroll, nav, svg'))
            .filter(one => one.getBoundingClientRect().right > width + 0.5)
            .map(one => one.outerHTML.slice(0, 80))""",
        width,
    )
    assert outside == []


def test_browser_has_nothing_to_complain_of_and_fetches_nothing(opened):
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [opened.page.url]
    assert opened.page.title() != "taken"


def test_every_chart_and_picture_is_drawn(opened):
    sizes = opened.page.eval_on_selector_all(
        "figure svg", "all => all.map(one => [one.clientWidth, one.clientHeight])"
    )
    assert len(sizes) >= 7
    assert min(min(size) for size in sizes) > 100
    loaded = opened.page.eval_on_selector_all(
        "img", "all => all.every(one => one.complete && one.naturalWidth === 6)"
    )
    assert loaded


def test_drawings_stay_inside_their_frames(opened):
    """Text of a chart that is cut at its edge would be lost."""
    cut = opened.page.eval_on_selector_all(
        "figure svg",
        """all => all.flatMap(svg => {
            const frame = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text')].filter(text => {
                const box = text.getBoundingClientRect();
                return box.left < frame.left - 1 || box.right > frame.right + 1
                    || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
            }).map(text => svg.getAttribute('aria-label') + ': ' + text.textContent);
        })""",
    )
    assert cut == []


def test_ground_and_text_follow_the_colour_scheme(opened):
    dark = opened.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    corner = opened.see()[4, 4].mean()
    assert corner < 60 if dark else corner > 200
    assert lowest_contrast(opened.page) >= 4.5


def lowest_contrast(page) -> float:
    """Of any text to the ground that it stands on, as of WCAG 2.2 (4.5 is its level AA)."""
    return page.evaluate(
        """() => {
        const parts = colour => colour.match(/[\\d.]+/g).map(Number);
        const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const ground = one => {
            for (; one; one = one.parentElement) {
                const found = parts(getComputedStyle(one).backgroundColor);
                if (found.length === 3 || found[3] === 1) return found;
            }
        };
        const texts = [...document.querySelectorAll('body :not(style)')].filter(one =>
            [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()));
        return Math.min(...texts.map(one => {
            const style = getComputedStyle(one);
            const ink = light(parts(one.closest('svg') ? style.fill : style.color));
            const page = light(ground(one.closest('svg') ? one.closest('figure') : one));
            return (Math.max(ink, page) + 0.05) / (Math.min(ink, page) + 0.05);
        }));
    }"""
    )


def test_tables_open_and_sections_are_reached_by_their_links(opened):
    page = opened.page
    for summary in page.query_selector_all("summary"):
        summary.click()
    assert page.evaluate("[...document.querySelectorAll('details')].every(one => one.open)")
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for target in page.eval_on_selector_all("nav a", "all => all.map(a => a.hash.slice(1))"):
        assert page.evaluate("id => document.getElementById(id).tagName", target) == "SECTION"
