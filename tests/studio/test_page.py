"""The page as such: accessible, light, typed, and locked where the server is."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from fewstep.serving.http.keys import new_key
from fewstep.serving.studio import pages
from fewstep.serving.studio.pages import FILES, KINDS
from servers import Running, call
from studio_pages import circle, settled, stroke, wait

Visit = Callable[..., Page]

MOST_BYTES = 150_000


def faults(page: Page) -> list[Any]:
    """What axe finds serious or critical."""
    found: Any = Axe().run(page).response
    return [
        (each["id"], [node["html"] for node in each["nodes"]])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1440, 900), (1024, 768), (390, 844)])
def test_axe_finds_no_serious_fault(server: Running, visit: Visit, theme: str, size: tuple[int, int]) -> None:
    page = visit(server.url, color_scheme=theme)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    assert faults(page) == []
    page.fill("#prompt", "cat face")
    stroke(page, circle())
    settled(page)
    wait(page, "studio.history.frames.length === 1")
    page.evaluate("document.getElementById('meter').open = true")
    assert faults(page) == []
    page.evaluate("document.getElementById('meter').open = false")
    page.fill("#prompt", "rocket")
    wait(page, "studio.history.frames.length === 2")
    page.click("#compare")
    wait(page, "document.querySelectorAll('#changes li').length > 1")
    assert faults(page) == []
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    assert page.is_visible("#helping")
    assert faults(page) == []


@pytest.mark.parametrize("size", [(1440, 900), (1024, 768), (390, 844)])
def test_nothing_is_cut_off_at_the_side(server: Running, visit: Visit, size: tuple[int, int]) -> None:
    page = visit(server.url)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.fill("#prompt", "cat face")
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_every_control_can_be_reached_with_the_keyboard(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.fill("#prompt", "cat face")
    settled(page)
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(70):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "document.activeElement.id || document.activeElement.dataset.tool || document.activeElement.title"
            )
        )
    wanted = {
        "pen",
        "eraser",
        "fill",
        "undo",
        "clear",
        "import",
        "prompt",
        "mode",
        "style",
        "strength",
        "steps",
        "guidance",
    }
    wanted |= {"seed", "dice", "lock", "four", "play", "keep", "download", "take", "compare", "theme", "help", "red"}
    assert wanted | {"mask"} <= set(reached)


def test_a_key_is_asked_for_where_one_is_needed(serve: Callable[..., Running], visit: Visit, tmp_path: Path) -> None:
    key, kept = new_key()
    file = tmp_path / "keys"
    file.write_text(kept)
    server = serve(keys_file=file)
    page = visit(server.url, state="", allowed=("401", "WebSocket connection"))
    page.wait_for_selector("#locked[open]", timeout=20_000)
    for wrong in ("fs-wrong", "no key, ünd wrong"):
        page.fill("#key", wrong)
        page.keyboard.press("Enter")
        page.wait_for_selector("#locked[open]", timeout=20_000)
    page.fill("#key", key)
    page.keyboard.press("Enter")
    page.wait_for_selector("#wire[data-state=socket]", timeout=20_000)
    page.fill("#prompt", "cat face")
    settled(page)
    assert page.evaluate("studio.shown() !== null")


def test_the_page_is_light_and_comes_from_here_alone(server: Running) -> None:
    files = [file for file in FILES.iterdir() if file.suffix in KINDS]
    assert sum(file.stat().st_size for file in files) <= MOST_BYTES
    page = call(server.url, "/")
    assert page.status == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert call(server.url, "/", **{"if-none-match": page.headers["etag"]}).status == 304
    for name in ("nothing.js", "..%2fapp.py", "tsconfig.json", "%2e%2e"):
        assert call(server.url, f"/studio/{name}").status == 404


def test_names_that_are_not_there_are_not_remembered(server: Running) -> None:
    assert call(server.url, "/studio/app.js").status == 200
    before = pages._files.cache_info()
    for name in ("x" * 1000, "..%2Fpages.py", "tsconfig.json", "no.js"):
        assert call(server.url, f"/studio/{name}").status == 404
    assert pages._files.cache_info().currsize == before.currsize == 1
    assert not pages._files().keys() & {"tsconfig.json", "no.js"}


def test_the_modules_have_the_types_they_say() -> None:
    compiler = shutil.which("tsc")
    if compiler is None:
        pytest.skip("needs Debian's package 'node-typescript'")
    done = subprocess.run([compiler, "--project", str(FILES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
