"""The studio in Debian's Chromium. A page that logs an error, or asks any other server for anything, fails its test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from studio_pages import wait

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser")
"""Programs of Debian and others, the first at a quarter of the processor time of the second."""

CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Debian's package 'chromium-headless-shell' or 'chromium'")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens studios, each in a profile of its own, and looks after what they do."""
    wrong: list[str] = []
    contexts = []

    def opened(
        url: str, path: str = "/", state: str = "socket", allowed: tuple[str, ...] = (), **options: Any
    ) -> Page:
        context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()

        def complain(kind: str, text: str) -> None:
            if not any(each in text for each in allowed):
                wrong.append(f"{kind}: {text}")

        page.on("console", lambda message: message.type in ("error", "warning") and complain("console", message.text))
        page.on("pageerror", lambda error: complain("page", str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith((url, "blob:", "data:")) or complain("request", request.url),
        )
        page.on(
            "websocket",
            lambda socket: socket.url.startswith(url.replace("http", "ws")) or complain("socket", socket.url),
        )
        page.goto(url + path)
        if state:
            page.wait_for_selector(f"#wire[data-state={state}]", timeout=20_000)
            wait(page, "document.querySelectorAll('#palette button').length > 0")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong
