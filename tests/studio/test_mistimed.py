"""What hands, networks and browsers do at the wrong moment: nothing that was drawn may be lost, nothing mixed up."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Page, Route

from fewstep.pictures import read_record
from fewstep.serving.http.keys import new_key
from servers import Running
from studio_pages import at, circle, drop, kept, pixels, settled, spy, stroke, wait

Visit = Callable[..., Page]


def ink(page: Page, layer: str = "#picture") -> int:
    return int((pixels(page, layer)[..., 3] > 0).sum())


def test_undo_brings_back_what_a_click_in_the_history_replaced(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.fill("#prompt", "rocket")
    kept(page, 1)
    page.click("#play")
    stroke(page, circle())
    drawn = pixels(page, "#picture")
    page.click("#history button")
    wait(page, "!studio.surface.pixels('picture', 8, 8)")
    page.click("#undo")
    np.testing.assert_array_equal(pixels(page, "#picture"), drawn)


def test_a_frame_is_kept_only_of_what_it_was_made_from(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.fill("#prompt", "cat face")
    kept(page, 1)
    spy(page)
    page.select_option("#mode", "mask")
    stroke(page, circle())  # no mask yet: nothing can be asked for
    page.wait_for_timeout(1500)
    assert page.evaluate("studio.asked.length") == 0
    for key in ("k", "s"):
        page.keyboard.press(key)
        wait(page, "document.getElementById('told').textContent.includes('made from something else')")
        page.evaluate("document.getElementById('told').textContent = ''")
    assert page.evaluate("studio.history.frames.length") == 1


def test_a_refused_frame_is_not_kept(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.fill("#prompt", "cat face")
    kept(page, 1)
    page.evaluate(
        """() => { studio.wire.ask = async () => ({
          head: { seq: ++studio.wire.sent, status: 400, error: { message: "not that one" } }, pictures: [] }); }"""
    )
    stroke(page, circle())
    wait(page, "document.getElementById('spoken').textContent === 'not that one'")
    assert page.evaluate("studio.history.frames.length") == 1


def test_an_unlocked_seed_that_is_typed_or_chosen_stays(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.click("#lock")
    page.fill("#prompt", "cat face")
    kept(page, 1)
    page.click("#seed", click_count=3)
    page.keyboard.type("123")
    assert page.input_value("#seed") == "123"
    kept(page, 2)
    page.click("#four")
    kept(page, 3)
    seed = page.evaluate("studio.shown().answer.head.parts[2].seed")
    spy(page)
    page.click("#tiles button:nth-child(3)")
    kept(page, 4)
    assert page.evaluate("studio.asked.map(({ head }) => head.seed)") == [seed]


def test_each_of_four_files_brings_back_its_own_seed(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.fill("#prompt", "cat")
    page.fill("#seed", "7")
    page.click("#four")
    kept(page, 1)
    files: list[Any] = []
    page.on("download", lambda file: files.append(file))
    page.click("#download")
    for _ in range(200):
        if len(files) == 4:
            break
        page.wait_for_timeout(50)
    found = {}
    for file in files:
        image: Any = Image.open(file.path())
        state = json.loads(image.text["fewstep.studio"])["settings"]
        found[file.suggested_filename] = state["seed"], state["images"]
    assert found == {f"cat-{seed}.png": (seed, 1) for seed in (7, 8, 9, 10)}


def test_undo_while_the_pen_is_down_leaves_no_ghosts(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    stroke(page, [(0.2, 0.2), (0.8, 0.2)])
    page.mouse.move(*at(page, 0.2, 0.6))
    page.mouse.down()
    page.mouse.move(*at(page, 0.6, 0.6))
    page.keyboard.press("Control+z")
    page.mouse.move(*at(page, 0.8, 0.6))
    page.mouse.up()
    first = ink(page)
    assert first > 0
    page.keyboard.press("Control+z")
    assert ink(page) == 0
    page.keyboard.press("Control+Shift+z")
    assert ink(page) == first


def test_the_mask_tool_ends_with_its_mode(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.click("[data-tool=mask]")
    stroke(page, [(0.2, 0.2), (0.8, 0.2)])
    masked = ink(page, "#mask")
    page.select_option("#mode", "sketch")
    assert page.evaluate("getComputedStyle(document.getElementById('mask')).opacity") == "0"
    stroke(page, [(0.2, 0.6), (0.8, 0.6)])
    assert ink(page) > 0
    assert ink(page, "#mask") == masked > 0


def test_text_fields_keep_their_undo_and_their_paste(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    stroke(page, circle())
    drawn = ink(page)
    page.click("#seed")
    page.keyboard.press("Control+z")
    assert ink(page) == drawn
    pasted = """([selector, text]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(8)], "a.png", { type: "image/png" }));
      if (text) data.setData("text/plain", text);
      document.querySelector(selector).dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
    }"""
    page.evaluate(pasted, ["#prompt", "cat"])
    page.wait_for_timeout(200)
    assert page.inner_text("#told") == ""
    page.evaluate(pasted, ["body", "cat"])
    wait(page, "document.getElementById('told').textContent.includes('no picture')")
    prevented = page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.setData("text/plain", "cat");
          const event = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
          return !document.getElementById("prompt").dispatchEvent(event);
        }"""
    )
    assert not prevented


def saved(page: Page, tmp_path: Path) -> bytes:
    with page.expect_download() as waiting:
        page.click("#download")
    waiting.value.save_as(tmp_path / "one.png")
    return (tmp_path / "one.png").read_bytes()


def with_state(file: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    image: Any = Image.open(io.BytesIO(file))
    state = json.loads(image.text["fewstep.studio"])
    change(state)
    text, changed = PngInfo(), io.BytesIO()
    text.add_text("fewstep.studio", json.dumps(state))
    image.save(changed, "PNG", pnginfo=text)
    return changed.getvalue()


def test_settings_from_a_newer_studio_are_read_and_a_damaged_drawing_changes_no_setting(
    server: Running, visit: Visit, tmp_path: Path
) -> None:
    page = visit(server.url)
    page.fill("#prompt", "cat face")
    settled(page)
    file = saved(page, tmp_path)

    def newer(state: dict[str, Any]) -> None:
        state["settings"] |= {"prompt": "rocket", "brush": "oil"}

    def damaged(state: dict[str, Any]) -> None:
        state["settings"]["prompt"] = "evil"
        state["picture"] = base64.b64encode(b"no picture").decode()

    def nonsense(state: dict[str, Any]) -> None:
        state["settings"] |= {"prompt": "evil", "mode": "toString"}

    drop(page, with_state(file, newer))
    wait(page, "document.getElementById('prompt').value === 'rocket'")
    for change in (damaged, nonsense):
        page.evaluate("document.getElementById('told').textContent = ''")
        drop(page, with_state(file, change))
        wait(page, "document.getElementById('told').textContent.includes('cannot be read')")
        assert page.input_value("#prompt") == "rocket"


def test_of_two_clicks_in_the_history_the_later_one_counts(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    for number, prompt in enumerate(("cat face", "rocket"), 1):
        page.fill("#prompt", prompt)
        kept(page, number)
    page.evaluate(
        """() => {
          const decode = window.createImageBitmap;
          let waits = [600, 0].flatMap((wait) => [wait, wait, wait]);
          window.createImageBitmap = async (...all) => {
            await new Promise((done) => setTimeout(done, waits.shift() ?? 0));
            return decode(...all);
          };
        }"""
    )
    page.click("#history li:nth-child(2) button")
    page.click("#history li:nth-child(1) button")
    page.wait_for_timeout(1000)
    assert page.input_value("#prompt") == "rocket"
    shown = page.evaluate("studio.shown().answer.pictures[0] === studio.history.frames[1].results[0]")
    assert shown


def test_a_frame_that_was_brought_back_is_not_drawn_anew_by_a_reconnection(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    for number, prompt in enumerate(("cat face", "rocket"), 1):
        page.fill("#prompt", prompt)
        kept(page, number)
    page.click("#history li:nth-child(2) button")
    wait(page, "document.getElementById('prompt').value === 'cat face'")
    spy(page)
    page.evaluate("studio.wire.socket.close()")
    wait(page, "studio.wire.state === 'offline'")
    wait(page, "studio.wire.state === 'socket'")
    page.wait_for_timeout(300)
    assert page.evaluate("studio.asked.length") == 0
    stroke(page, circle())
    settled(page)
    assert page.evaluate("studio.asked.length") > 0


def test_a_frame_that_is_brought_back_under_the_pen_is_not_drawn_anew(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    for number, prompt in enumerate(("cat face", "rocket"), 1):
        page.fill("#prompt", prompt)
        kept(page, number)
    page.mouse.move(*at(page, 0.2, 0.6))
    page.mouse.down()
    page.mouse.move(*at(page, 0.6, 0.6))
    wait(page, "studio.pace.settled && !studio.pace.planned")
    spy(page)
    page.evaluate("document.querySelector('#history li:nth-child(2) button').click()")
    wait(page, "document.getElementById('prompt').value === 'cat face'")
    page.mouse.move(*at(page, 0.8, 0.6))
    page.mouse.up()
    page.wait_for_timeout(400)
    assert page.evaluate("studio.asked.length") == 0
    assert ink(page) == 0
    page.keyboard.press("Control+z")
    assert ink(page) > 0  # the stroke as far as it was


def test_a_refusal_on_the_way_is_told_once_and_not_asked_again(server: Running, visit: Visit) -> None:
    page = visit(server.url, "/?wire=http", state="http", allowed=("403",))
    posts: list[str] = []

    def refuse(route: Route) -> None:
        if route.request.method != "POST":
            return route.continue_()
        posts.append(route.request.url)
        return route.fulfill(status=403, body="<h1>Forbidden</h1>")

    page.route("**/v1/live", refuse)
    page.fill("#prompt", "cat face")
    wait(page, "document.getElementById('said').textContent.includes('403')")
    page.wait_for_timeout(1000)
    assert len(posts) == 1
    assert page.get_attribute("#wire", "data-state") == "http"


def test_a_connection_that_is_given_up_is_closed(server: Running, visit: Visit) -> None:
    page = visit(server.url, allowed=("500",))
    sockets: list[Any] = []
    page.on("websocket", lambda socket: sockets.append(socket))
    page.route("**/v1/live", lambda route: route.fulfill(status=500, body=""))
    page.evaluate("studio.wire.socket.close()")
    for _ in range(200):
        if len(sockets) >= 3:
            break
        page.wait_for_timeout(50)
    page.unroute("**/v1/live")
    wait(page, "studio.wire.state === 'socket'")
    page.wait_for_timeout(300)
    assert len(sockets) >= 3
    assert [socket.is_closed() for socket in sockets] == [True] * (len(sockets) - 1) + [False]


def test_a_busy_server_is_asked_when_it_said(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.evaluate(
        """() => {
          studio.asked = 0;
          studio.wire.ask = async () => {
            studio.asked++;
            const head = { seq: ++studio.wire.sent, status: 429, error: { message: "busy" }, retry_ms: 1500 };
            return { head, pictures: [] };
          };
        }"""
    )
    stroke(page, circle(points=12), pause=40)
    assert page.evaluate("studio.asked") == 1
    wait(page, "studio.asked === 2")


def test_the_studio_works_where_nothing_may_be_stored(server: Running, visit: Visit) -> None:
    page = visit(server.url, "/studio/icon.svg", state="")
    page.add_init_script(
        """for (const name of ["localStorage", "sessionStorage"]) {
          Object.defineProperty(window, name, { get() { throw new DOMException("no", "SecurityError"); } });
        }"""
    )
    page.goto(server.url)
    page.wait_for_selector("#wire[data-state=socket]")
    page.fill("#prompt", "cat face")
    settled(page)
    wait(page, "studio.shown() !== null")
    page.keyboard.press("Escape")


def test_a_picture_of_the_chat_opens_on_the_page(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.click("#chat")
    page.fill("#message", "a rocket")
    page.keyboard.press("Enter")
    wait(page, "studio.chat.turns.length === 1")
    page.click("#log button")
    wait(page, "document.getElementById('prompt').value === 'a rocket'")
    wait(page, "studio.shown() !== null")
    file = page.evaluate(
        """async () => {
          const blob = studio.shown().answer.pictures[0];
          return btoa(String.fromCharCode(...new Uint8Array(await blob.arrayBuffer())));
        }"""
    )
    record = read_record(base64.b64decode(file))
    assert record is not None
    assert (record.prompt, record.seed) == ("a rocket", page.evaluate("studio.chat.turns[0].seed"))


def test_a_screen_reader_is_told_what_stands_still(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    assert page.get_attribute("#said", "role") is None
    page.evaluate(
        """() => {
          studio.spoken = 0;
          new MutationObserver(() => studio.spoken++).observe(document.getElementById("spoken"), { childList: true });
        }"""
    )
    page.fill("#prompt", "zzyzx")
    stroke(page, circle(points=40), pause=20)
    wait(page, "document.getElementById('spoken').textContent.includes('never seen: zzyzx')")
    assert page.evaluate("studio.spoken") == 1


def test_what_is_too_long_to_be_read_is_said(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.fill("#prompt", "cat face " * 6 + "zyzzyva")
    stroke(page, circle(points=40), pause=20)
    wait(
        page, "document.getElementById('said').textContent.includes('too long, not read: cat face cat face zyzzyva')"
    )


@pytest.mark.parametrize("again", ["stroke", "typing"])
def test_a_key_dialog_that_was_put_away_comes_back_with_the_next_wish(
    serve: Callable[..., Running], visit: Visit, tmp_path: Path, again: str
) -> None:
    _, line = new_key()
    (tmp_path / "keys").write_text(line)
    server = serve(keys_file=tmp_path / "keys")
    page = visit(server.url, state="", allowed=("401", "WebSocket"))
    page.wait_for_selector("#locked[open]")
    page.keyboard.press("Escape")
    wait(page, "!document.getElementById('locked').open")
    if again == "stroke":
        stroke(page, circle())
    else:
        page.fill("#prompt", "c")
    wait(page, "document.getElementById('locked').open")


def test_a_connection_that_says_nothing_is_given_up(server: Running, visit: Visit) -> None:
    page = visit(server.url, "/studio/icon.svg", state="")
    sockets: list[Any] = []
    page.clock.install()
    page.route_web_socket("**/v1/live", lambda socket: sockets.append(socket))  # opens, and never answers
    page.goto(server.url)
    page.wait_for_selector("#wire[data-state=socket]")
    page.fill("#prompt", "cat face")
    wait(page, "studio.pace.busy")
    page.clock.fast_forward(110_000)
    page.wait_for_timeout(300)
    assert len(sockets) == 1
    page.clock.fast_forward(20_000)
    wait(page, "studio.wire.state === 'socket' && studio.pace.busy")
    assert len(sockets) == 2
