"""What is kept of a drawing, and how it comes back: history, files, restarts."""

from __future__ import annotations

import base64
import io
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Page

from fewstep.pictures import read_record
from servers import Running, draw, process
from studio_pages import circle, drop, kept, pixels, result, settled, spy, stroke, wait
from tiny_models import TinyModels

Visit = Callable[..., Page]

SETTINGS = ("prompt", "style", "mode", "strength", "steps", "guidance", "seed")


def settings(page: Page) -> dict[str, str]:
    return {name: page.input_value(f"#{name}") for name in SETTINGS}


def state(page: Page) -> tuple[Any, ...]:
    return settings(page), pixels(page, "#picture"), pixels(page, "#mask"), result(page)


def same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return one[0] == other[0] and all(np.array_equal(a, b) for a, b in zip(one[1:], other[1:], strict=True))


def drawn(page: Page) -> None:
    """Something of everything: soft edges, another colour, a style, two steps."""
    page.fill("#prompt", "cat face ünï")
    page.select_option("#style", "pixel art")
    page.click("#palette [title=red]")
    stroke(page, circle())
    page.click("[data-tool=eraser]")
    stroke(page, [(0.2, 0.2), (0.6, 0.7)])
    page.keyboard.press("2")
    page.fill("#seed", "12345")
    page.evaluate(
        "() => { const g = document.getElementById('guidance'); g.value = 3; g.dispatchEvent(new Event('input')); }"
    )
    page.evaluate(
        "() => { const g = document.getElementById('strength'); g.value = 1.5; g.dispatchEvent(new Event('input')); }"
    )
    settled(page)


def test_a_click_in_the_history_restores_everything(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    drawn(page)
    kept(page, 1)
    before = state(page)
    page.click("#clear")
    page.fill("#prompt", "rocket")
    page.select_option("#style", "")
    page.select_option("#mode", "paint")
    stroke(page, circle(0.2))
    settled(page)
    kept(page, 2)
    after = state(page)
    assert not same(before, after)
    spy(page)
    page.click("#history li:nth-child(2) button")
    wait(page, "document.getElementById('prompt').value === 'cat face ünï'")
    settled(page)
    assert same(state(page), before)
    page.click("#history li:nth-child(1) button")
    wait(page, "document.getElementById('prompt').value === 'rocket'")
    assert same(state(page), after)
    assert page.evaluate("studio.asked.length") == 0  # nothing was drawn anew


def test_a_downloaded_picture_brings_everything_back(server: Running, visit: Visit, tmp_path: Path) -> None:
    page = visit(server.url)
    drawn(page)
    before = state(page)
    with page.expect_download() as waiting:
        page.click("#download")
    file = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(file)
    assert file.name == "cat-face-ünï-12345.png"
    record = read_record(file)
    assert record is not None
    assert (record.prompt, record.seed, record.steps, record.guidance) == ("pixel art cat face ünï", 12345, 2, 3.0)
    assert record.sampler_settings["control_strength"] == 1.5
    page = visit(server.url)
    drop(page, file.read_bytes())
    wait(page, "document.getElementById('seed').value === '12345'", 20)
    settled(page)
    wait(page, "studio.shown() !== null")
    assert same(state(page), before)


def test_a_picture_of_the_api_brings_its_settings(server: Running, visit: Visit) -> None:
    answer = draw(server.url, "pixel art rocket", seed=99, steps=2, guidance=3.5)
    page = visit(server.url)
    stroke(page, circle())
    drop(page, base64.b64decode(answer.body["data"][0]["b64_json"]))
    wait(page, "document.getElementById('seed').value === '99'", 20)
    settled(page)
    now = settings(page)
    assert (now["prompt"], now["style"], now["steps"], now["guidance"]) == ("rocket", "pixel art", "2", "3.5")
    assert not pixels(page, "#picture")[..., 3].any()


@pytest.mark.parametrize(
    "inside",
    ['{"version": 1, "settings": {"prom', "null", '{"settings": {"mode": "no such"}, "picture": "", "mask": ""}'],
    ids=["cut off", "nothing", "of another kind"],
)
def test_damaged_settings_are_told_and_change_nothing_but_the_canvas(
    inside: str, server: Running, visit: Visit
) -> None:
    from picture_cases import gradient

    page = visit(server.url)
    page.fill("#prompt", "rocket")
    settled(page)
    before = settings(page)
    text, file = PngInfo(), io.BytesIO()
    text.add_text("fewstep.studio", inside)
    gradient(64, 32).save(file, "PNG", pnginfo=text)
    drop(page, file.getvalue())
    wait(page, "document.getElementById('told').textContent.includes('cannot be read')")
    wait(page, "studio.surface.done.length === 1")
    assert settings(page) == before


def test_any_other_picture_goes_onto_the_canvas_and_what_is_none_is_told(server: Running, visit: Visit) -> None:
    from picture_cases import encoded, gradient

    page = visit(server.url)
    drop(page, encoded(gradient(64, 32), "JPEG"), "photo.jpg", "image/jpeg")
    wait(page, "studio.surface.done.length === 1")
    drawing = pixels(page, "#picture")
    assert (drawing[256, :, 3] == 255).all()
    assert not drawing[:100, :, 3].any()
    settled(page)  # what comes of the photo says something of its own
    drop(page, b"no picture at all", "a.png")
    wait(page, "document.getElementById('told').textContent.includes('no picture')")


def test_the_result_on_the_canvas_keeps_its_pixels(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.fill("#prompt", "cat face")
    settled(page)
    before = result(page)
    page.click("#take")
    taken = np.array(page.evaluate("[...studio.surface.pixels('picture', 16, 16)]")).reshape(16, 16, 4)
    opaque = before[..., 3] > 16
    assert np.abs(taken - before)[opaque].max() <= 255 / before[..., 3][opaque].min()  # what premultiplying rounds


def test_four_variations_and_one_of_them(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.fill("#prompt", "cat face")
    page.click("#four")
    wait(page, "document.querySelectorAll('#tiles canvas').length === 4")
    page.click("#tiles button:nth-child(3)")
    wait(page, "document.querySelectorAll('#tiles canvas').length === 1")
    settled(page)
    assert page.input_value("#seed") == "9"


def test_an_unlocked_seed_changes_with_each_finished_change(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.click("#lock")
    page.fill("#prompt", "cat face")
    kept(page, 1)
    assert page.input_value("#seed") == "7"
    page.fill("#prompt", "rocket")
    settled(page)
    assert page.input_value("#seed") != "7"


def test_two_frames_are_compared_in_words_and_numbers(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.click("#compare")
    assert "two frames" in page.inner_text("#told")
    page.fill("#prompt", "cat face")
    kept(page, 1)
    page.keyboard.press("Tab")
    page.fill("#prompt", "rocket")
    stroke(page, circle())
    kept(page, 2)
    page.click("#compare")
    wait(page, "document.querySelectorAll('#changes li').length > 3")
    said = page.inner_text("#changes")
    assert "prompt: cat face → rocket" in said
    assert "the drawing is another" in said
    assert "of 255 apart on average" in said
    for view, count in (("side", 2), ("difference", 1), ("slider", 1)):
        page.select_option("#view", view)
        wait(page, f"document.querySelectorAll('#comparison canvas').length === {count}")
    page.keyboard.press("Escape")
    assert not page.is_visible("#comparing")


def test_a_restart_of_the_server_is_survived_mid_drawing(tiny: TinyModels, visit: Visit, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with process(tiny, tmp_path, "--port", port) as server:
        page = visit(server.url, allowed=("ERR_CONNECTION_REFUSED", "net::ERR", "Failed to load"))
        page.fill("#prompt", "cat face")
        stroke(page, circle(0.2))
        settled(page)
    wait(page, "document.getElementById('wire').dataset.state === 'offline'")
    stroke(page, circle(0.35))  # drawn while there is no server
    before = pixels(page, "#picture")
    spy(page)
    with process(tiny, tmp_path, "--port", port):
        wait(page, "document.getElementById('wire').dataset.state === 'socket'")
        wait(page, "studio.asked.length > 0")
        settled(page)
        sent = page.evaluate("studio.asked[studio.asked.length - 1].pictures[0].data")
        assert sent == page.evaluate("[...studio.surface.pixels('picture', 32, 32)]")
        assert np.array_equal(pixels(page, "#picture"), before)
        assert page.input_value("#prompt") == "cat face"
