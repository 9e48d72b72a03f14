"""`make screenshots`: pictures of the studio's states to look at. Without a folder only that every state can be shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from fewstep.generation import load
from servers import running
from studio_pages import circle, settled, stroke, wait
from tiny_models import TinyModels

Visit = Callable[..., Page]

SCREENS = {"desktop": (1440, 900), "tablet": (1024, 768), "phone": (390, 844)}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_every_state(
    tiny: TinyModels, visit: Visit, screen: str, theme: str, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    folder = Path(pytestconfig.getoption("screenshots") or tmp_path)
    if theme == "dark" and folder == tmp_path:
        pytest.skip("needs --screenshots: the light theme shows that the states are there")
    folder.mkdir(parents=True, exist_ok=True)
    width, height = SCREENS[screen]
    with running(tiny, model=load("emoji", threads=1)) as server:
        page = visit(server.url, color_scheme=theme)
        page.set_viewport_size({"width": width, "height": height})

        def shot(state: str) -> None:
            page.screenshot(path=folder / f"{screen}-{theme}-{state}.png")

        shot("empty")
        page.click("#palette [title=red]")
        page.fill("#prompt", "red apple")
        stroke(page, circle())
        settled(page)
        wait(page, "studio.history.frames.length === 1")
        shot("drawn")
        page.fill("#prompt", "cat face")
        page.select_option("#style", "pastel")
        settled(page)
        wait(page, "studio.history.frames.length === 2")
        page.click("#four")
        settled(page)
        wait(page, "document.querySelectorAll('#tiles canvas').length === 4")
        shot("variations")
        page.click("#four")
        settled(page)
        page.click("[data-tool=mask]")
        stroke(page, [(0.4, 0.4), (0.6, 0.6)])
        settled(page)
        shot("mask")
        page.select_option("#mode", "sketch")
        settled(page)
        page.evaluate("document.getElementById('meter').open = true")
        shot("meter")
        page.evaluate("document.getElementById('meter').open = false")
        page.click("#compare")
        wait(page, "document.querySelectorAll('#changes li').length > 1")
        shot("compare")
        page.keyboard.press("Escape")
        page.click("#race")
        wait(page, "document.getElementById('raced').textContent.includes('times less')")
        shot("race")
        page.keyboard.press("Escape")
        page.click("#chat")
        for number, message in enumerate(("a red apple", "make it blue"), 1):
            page.fill("#message", message)
            page.keyboard.press("Enter")
            wait(page, f"studio.chat.turns.length === {number}")
        shot("chat")
        page.click("#chat")
        page.click("#help")
        shot("help")
        page.context.close()  # before the server, which it would look for
