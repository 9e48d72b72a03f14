"""The pen, the wire and the result: nothing stutters, nothing is lost, nothing old replaces anything newer."""

from __future__ import annotations

import base64
import io
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

from servers import Gate, Running, draw
from studio_pages import asked, at, circle, pixels, result, settled, spy, stroke, wait

Visit = Callable[..., Page]


def picture(answer: Any) -> Any:
    file = base64.b64decode(answer.body["data"][0]["b64_json"])
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGBA")).astype(int)


class Slow:
    """A network whose calls take this many seconds, or one of several by chance."""

    def __init__(self, *seconds: float) -> None:
        self.seconds, self.calls, self.chance = seconds, 0, random.Random(0)

    def __call__(self, network: Any) -> Callable[..., Any]:
        def slow(*args: Any) -> Any:
            self.calls += 1
            time.sleep(self.chance.choice(self.seconds))
            return network(*args)

        return slow


def test_a_circle_and_a_prompt_change_the_result_within_few_frames(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.fill("#prompt", "red apple")
    settled(page)
    before = result(page)
    spy(page)
    stroke(page, circle())
    settled(page)
    assert not np.array_equal(result(page), before)
    assert 1 <= len(asked(page)) <= 25
    assert asked(page)[-1]["head"]["prompt"] == "red apple"


def test_an_empty_canvas_is_not_white_paint(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    spy(page)
    page.fill("#seed", "7")
    page.fill("#prompt", "red apple")
    settled(page)
    plain = picture(draw(server.url, "red apple", seed=7, steps=1))
    assert asked(page)[-1]["pictures"] == []
    assert np.array_equal(result(page), plain)
    stroke(page, circle())
    settled(page)
    assert asked(page)[-1]["pictures"][0]["name"] == "control"
    assert not np.array_equal(result(page), plain)
    page.click("#clear")
    settled(page)
    assert asked(page)[-1]["pictures"] == []
    assert np.array_equal(result(page), plain)
    page.fill("#prompt", "")
    wait(page, "document.getElementById('tiles').children.length === 0")
    assert page.is_visible("#hint")


def test_the_pens_path_is_complete_while_the_model_takes_two_seconds(
    serve: Callable[..., Running], visit: Visit
) -> None:
    server = serve(through=Slow(2.0))
    page = visit(server.url)
    page.fill("#prompt", "cat face")
    spy(page)
    path = circle(points=240)
    page.mouse.move(*at(page, *path[0]))
    page.mouse.down()
    began = time.monotonic()
    for i, place in enumerate(path):  # at most 120 events a second
        page.mouse.move(*at(page, *place))
        time.sleep(max(0.0, began + (i + 1) / 120 - time.monotonic()))
    page.mouse.up()
    drawn = pixels(page, "#picture")
    for x, y in path:
        assert drawn[round(512 * y), round(512 * x), 3] > 200
    settled(page)
    last = asked(page)[-1]["pictures"][0]["data"]
    assert last == page.evaluate(
        "[...studio.surface.pixels('picture', 32, 32)]"
    )  # the last stroke, twice as fine as the model
    assert (
        len(asked(page)) <= (time.monotonic() - began) / 2 + 2
    )  # and a slow model made fewer pictures, not late ones


def test_an_old_result_never_replaces_a_newer_one(serve: Callable[..., Running], visit: Visit) -> None:
    server = serve(through=Slow(0.0, 0.02, 0.1, 0.3))
    page = visit(server.url)
    spy(page)
    for turn in range(3):
        stroke(page, circle(0.1 + 0.1 * turn), pause=10)
        page.fill("#prompt", f"cat {turn}")
    settled(page)
    seqs = page.evaluate("studio.seqs")
    assert len(seqs) > 3
    assert seqs == sorted(set(seqs))
    assert seqs[-1] == page.evaluate("studio.wire.sent")


def test_a_late_result_does_not_replace_a_frame_from_the_history(serve: Callable[..., Running], visit: Visit) -> None:
    gate = Gate()
    server = serve(through=gate)
    page = visit(server.url)
    page.fill("#prompt", "cat face")
    settled(page)
    page.wait_for_selector("#history button", timeout=10_000)
    kept = result(page)
    gate.open.clear()
    page.fill("#prompt", "rocket")
    assert gate.entered.acquire(timeout=20)
    page.click("#history button")
    gate.open.set()
    settled(page)
    page.wait_for_timeout(100)
    assert np.array_equal(result(page), kept)
    assert page.input_value("#prompt") == "cat face"


def test_pause_means_no_more_requests(serve: Callable[..., Running], visit: Visit) -> None:
    slow = Slow(0.0)
    server = serve(through=slow)
    page = visit(server.url)
    page.fill("#prompt", "cat face")
    settled(page)
    page.click("#play")
    calls = slow.calls
    stroke(page, circle())
    page.fill("#prompt", "rocket")
    page.wait_for_timeout(1500)
    assert slow.calls == calls
    spy(page)
    page.click("#play")
    wait(page, "studio.asked.length > 0")
    settled(page)
    assert len(asked(page)) == 1
    assert asked(page)[0]["head"]["prompt"] == "rocket"


def test_never_more_than_one_request_is_on_its_way(serve: Callable[..., Running], visit: Visit) -> None:
    gate = Gate()
    server = serve(through=gate)
    page = visit(server.url)
    gate.open.clear()
    spy(page)
    stroke(page, circle(), pause=5)
    page.fill("#prompt", "cat face")
    page.wait_for_timeout(300)
    assert len(asked(page)) == 1
    gate.open.set()
    settled(page)
    assert asked(page)[-1]["head"]["prompt"] == "cat face"


def test_two_tabs_do_not_disturb_each_other(server: Running, visit: Visit) -> None:
    one, other = visit(server.url), visit(server.url)
    one.fill("#prompt", "cat face")
    other.fill("#prompt", "rocket")
    stroke(one, circle(), pause=5)
    stroke(other, circle(0.2), pause=5)
    settled(one)
    settled(other)
    for page in (one, other):
        alone = result(page)
        page.click("#dice")
        settled(page)
        page.fill("#seed", "7")
        settled(page)
        assert np.array_equal(result(page), alone)
    assert not np.array_equal(result(one), result(other))


@pytest.mark.parametrize("blocked", ["asked for", "blocked"])
def test_without_a_websocket_posts_do(server: Running, visit: Visit, blocked: str, browser: Any) -> None:
    if blocked == "asked for":
        page = visit(server.url, "/?wire=http", state="http")
    else:
        page = visit(server.url, "/healthz", state="")
        page.route_web_socket("**/v1/live", lambda socket: socket.close())
        page.goto(server.url)
        page.wait_for_selector("#wire[data-state=http]", timeout=20_000)
        wait(page, "document.querySelectorAll('#palette button').length > 0")
    page.fill("#prompt", "red apple")
    settled(page)
    assert np.array_equal(result(page), picture(draw(server.url, "red apple", seed=7, steps=1)))
    stroke(page, circle())
    settled(page)
    assert not np.array_equal(result(page), picture(draw(server.url, "red apple", seed=7, steps=1)))


def test_several_strokes_of_a_pen_with_pressure_and_its_eraser(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    widths = page.evaluate(
        """() => {
          const target = document.getElementById("mask"), box = target.getBoundingClientRect();
          const send = (kind, x, y, pressure, buttons = 1) => target.dispatchEvent(new PointerEvent(kind, {
            pointerId: 1, pointerType: "pen", clientX: box.x + x * box.width, clientY: box.y + y * box.height, pressure, buttons,
            button: kind === "pointermove" ? -1 : buttons === 32 ? 5 : 0,  // the eraser's end is a button of its own
          }));
          target.setPointerCapture = () => {};
          const draw = (y, pressure, buttons) => {
            send("pointerdown", 0.2, y, pressure, buttons); send("pointermove", 0.8, y, pressure, buttons); send("pointerup", 0.8, y, 0, 0);
          };
          draw(0.3, 0.1); draw(0.7, 1.0);
          const pixels = studio.surface.picture.getImageData(256, 0, 1, 512).data;
          const width = (from, to) => { let n = 0; for (let y = from; y < to; y++) n += pixels[4 * y + 3] > 127; return n; };
          const both = [width(0, 256), width(256, 512)];
          draw(0.7, 1.0, 32);
          const after = studio.surface.picture.getImageData(256, 256, 1, 256).data;
          let left = 0; for (let i = 3; i < after.length; i += 4) left += after[i] > 127;
          return [...both, left];
        }"""
    )
    assert 0 < widths[0] < widths[1] / 2
    assert widths[2] == 0


def test_the_keyboard_draws(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    spy(page)
    page.focus("#mask")
    page.keyboard.press("Space")
    for _ in range(6):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Space")
    settled(page)
    drawn = pixels(page, "#picture")
    assert (drawn[256, 260:440, 3] > 200).all()
    assert asked(page)[-1]["pictures"][0]["name"] == "control"


def test_undo_and_redo_are_exact(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    stroke(page, circle())
    one = pixels(page, "#picture")
    page.click("[data-tool=eraser]")
    stroke(page, [(0.1, 0.5), (0.9, 0.55)])
    two = pixels(page, "#picture")
    page.click("[data-tool=fill]")
    page.mouse.click(*at(page, 0.5, 0.4))
    three = pixels(page, "#picture")
    assert three[round(512 * 0.4), 256, 3] == 255
    for before in (two, one):
        page.keyboard.press("Control+z")
        assert np.array_equal(pixels(page, "#picture"), before)
    for after in (two, three):
        page.keyboard.press("Control+Shift+z")
        assert np.array_equal(pixels(page, "#picture"), after)


def test_a_mask_keeps_what_it_does_not_cover(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.click("[data-tool=fill]")
    page.mouse.click(*at(page, 0.5, 0.5))
    page.click("[data-tool=mask]")
    assert page.input_value("#mode") == "mask"
    stroke(page, [(0.1, 0.5), (0.3, 0.5)])
    settled(page)
    sent = np.array(page.evaluate("[...studio.surface.pixels('picture', 16, 16)]")).reshape(16, 16, 4)
    assert np.array_equal(result(page)[:, 9:], sent[:, 9:])
    assert not np.array_equal(result(page)[:, :5], sent[:, :5])
