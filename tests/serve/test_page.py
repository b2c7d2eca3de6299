"""The server's page in a real browser: a filtered search shows thumbnails."""

from __future__ import annotations

import os
import shutil
import threading
import time

import numpy as np
import pytest
import uvicorn
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from srch_dist.encode.batch import encode_store
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.serve.app import make_app
from srch_dist.serve.service import SearchService
from tests.helpers.runs import ROWS, make_pairs, train_here

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium: none of " + ", ".join(_NAMES) + " is on the path"
    ),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "images").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8), (80 * number, 40, 90)).save(folder / "images" / f"a {number}.png")
    numbers = np.arange(ROWS)
    side = {
        "titles": np.array([f"<b>title</b> {row}" for row in numbers]),
        "price": numbers * 0.5,
        "picture": np.array([f"a {row % 3}.png" for row in numbers]),
    }
    pairs = make_pairs(split=None, labels=None)
    store = ingest_source(pairs | side, folder / "a.zarr", ["image", "text"], side=[*side])
    train_here(store.path, folder / "run", bits=24)
    encode_store(folder / "run", store.path, "image", folder / "image.zarr")
    service = SearchService(str(folder / "run"), [str(folder / "image.zarr")], [store.path])
    app = make_app(service, str(folder / "images"), "picture", ("127.0.0.1",))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)


def test_a_filtered_search_shows_thumbnails(address):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        expect(page.locator("#message")).to_contain_text("rows")
        page.select_option("[name=kind]", "rows")
        page.fill("[name=value]", "7")
        page.select_option("[name=modality]", "text")
        page.fill("[name=where]", "price < 5")
        page.click("button")
        page.wait_for_selector("#results li")
        assert page.locator("#results li").count() == 10
        images = page.locator("#results img")
        for image in images.all():
            image.scroll_into_view_if_needed()
            expect(image).to_have_js_property("naturalWidth", 8)
        assert images.count() == 10
        # Titles are text, whatever they hold.
        assert page.locator("#results b").count() == 0
        assert "<b>title</b>" in page.locator("#results li").first.inner_text()
        assert complaints == []
        page.fill("[name=where]", "prise < 5")
        page.click("button")
        expect(page.locator("#message")).to_contain_text("did you mean price")
        assert page.locator("#results li").count() == 0
        browser.close()
