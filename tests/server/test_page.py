"""The page in a real browser: from upload to download, by keyboard too, on a desk and on a phone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from served import Server

from unisync.media import probe

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the Python package 'playwright'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
FLAGS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
MILLISECONDS = 90_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A page that fails the test where it asks elsewhere, or breaks its own rules."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, accept_downloads=True)
    made, wrong = context.new_page(), list[str]()
    home = f"http://127.0.0.1:{server.port}"
    made.set_default_timeout(MILLISECONDS)
    made.on("request", lambda request: None if request.url.startswith((home, "blob:")) else wrong.append(request.url))
    made.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.goto(home)
    made.wait_for_selector("#studio:not([hidden])")
    yield made
    context.close()
    assert not wrong


def until(page: Page, expression: str) -> None:
    """Wait until an expression is true; the page forbids to evaluate it itself."""
    end = time.monotonic() + MILLISECONDS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)


def give(page: Page, film: Path, speech: Path) -> None:
    page.set_input_files("#film input[type=file]", film)
    page.wait_for_selector("#film .shown:not([hidden])")
    page.set_input_files("#speech input[type=file]", speech)
    page.wait_for_selector("#speech .shown:not([hidden])")


def test_from_upload_to_download(page: Page, film: Path, speech: Path, tmp_path: Path) -> None:
    assert page.is_disabled("#dub")
    assert page.inner_text("#lacks") == "Still missing: a film, a speech, the consent above."
    give(page, film, speech)
    assert page.inner_text("#film .title") == "a film.mp4 · 0.6 s · 360×320"
    assert page.inner_text("#sheet .face b") == "face1"
    assert "faces.png" in page.eval_on_selector("#sheet i", "element => element.style.backgroundImage")
    page.select_option("[data-option=method]", "echo")
    page.check("#consent")
    page.click("#dub")
    page.wait_for_selector("#player:not([hidden])")
    assert page.inner_text("#work-title") == "Done: a film.mp4"
    assert "“If the speech is longer”:" in page.inner_text("#warnings")
    until(page, "document.querySelector('#player video').readyState >= 2")
    page.click("#player button")
    until(page, "document.querySelector('#player video').currentTime > 0.1")
    box = page.locator(".screen").bounding_box()
    assert box is not None
    page.locator(".screen").click(position={"x": box["width"] / 4, "y": 50})
    assert page.eval_on_selector(".screen .was", "element => element.style.clipPath") == "inset(0px 75% 0px 0px)"
    page.select_option("#player select", "beside")
    assert page.locator(".screen.beside").count() == 1
    with page.expect_download() as fetched:
        page.click("#download")
    assert fetched.value.suggested_filename == "a film-dubbed.mp4"
    out = tmp_path / "out.mp4"
    fetched.value.save_as(out)
    assert len(probe(out)) == 15
    page.reload()
    page.wait_for_selector("#player:not([hidden])")
    page.click("#remove")
    page.wait_for_selector("#work", state="hidden")


def test_what_is_refused_is_said(page: Page, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("This is a shopping list.\n" * 50)
    page.set_input_files("#film input[type=file]", text)
    page.wait_for_selector("#film .problem:not([hidden])")
    assert page.inner_text("#film .problem").startswith("text.mp4 is")
    assert page.is_visible("#film .drop")


def test_a_speech_is_recorded(page: Page) -> None:
    page.click("#record")
    until(page, "parseFloat(document.querySelector('#record-time').textContent) > 0.5")
    page.click("#record")
    page.wait_for_selector("#speech .shown:not([hidden])")
    assert page.inner_text("#speech .title").startswith("recording.webm")


def test_everything_is_reached_by_keyboard_and_has_a_name(page: Page) -> None:
    seen: list[Any] = []
    for _ in range(14):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("document.activeElement.id || document.activeElement.type || document.activeElement.tagName")
        )
    assert seen[:4] == ["A", "file", "file", "record"]
    assert {"option-method", "option-strength", "consent"} <= set(seen)
    nameless = """[...document.querySelectorAll('input, select, button, progress')].filter(element =>
      !(element.labels?.length || element.ariaLabel || element.getAttribute('aria-labelledby') || element.textContent.trim()))
      .map(element => element.outerHTML)"""
    assert page.evaluate(nameless) == []


def test_a_phone_needs_no_scrolling_sideways(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.evaluate("document.querySelector('details').open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_token_is_asked_for(browser: Browser, tmp_path: Path) -> None:
    server = Server(tmp_path / "root", token="open sesame")
    server.begin()
    page = browser.new_page()
    try:
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.fill("#token", "sesame")
        page.press("#token", "Enter")
        page.wait_for_selector("#login-problem:not([hidden])")
        page.fill("#token", "open sesame")
        page.press("#token", "Enter")
        page.wait_for_selector("#studio:not([hidden])")
    finally:
        page.close()
        server.end()
