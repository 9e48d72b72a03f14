"""Mice, pens and fingers on the paper, by the events that browsers send (Pointer Events 3, W3C)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from servers import Running
from studio_pages import pixels

Visit = Callable[..., Page]

HANDS = """() => {
  const target = document.getElementById("mask");
  target.setPointerCapture = () => {};  // made-up pointers cannot be captured
  const sent = { pen: { down: [0, 1], move: [-1, 1], up: [0, 0] }, eraser: { down: [5, 32], move: [-1, 32], up: [5, 0] },
                 touch: { down: [0, 1], move: [-1, 1], up: [0, 0] }, mouse: { down: [0, 1], move: [-1, 1], up: [0, 0] } };
  window.hand = (kind, id, event, x, y, more = {}) => {
    const box = document.getElementById("paper").getBoundingClientRect();
    const [button, buttons] = sent[kind][event] ?? [0, 0];
    target.dispatchEvent(new PointerEvent(`pointer${event}`, {
      pointerId: id, pointerType: kind === "eraser" ? "pen" : kind, clientX: box.x + x * box.width, clientY: box.y + y * box.height,
      pressure: buttons ? 0.5 : 0, button, buttons, cancelable: true, bubbles: true, ...more,
    }));
  };
}"""


@pytest.fixture
def page(server: Running, visit: Visit) -> Page:
    page = visit(server.url)
    page.evaluate(HANDS)
    return page


def does(page: Page, *moves: tuple[Any, ...]) -> None:
    """Each is (kind, pointer, event, x, y), places as shares of the paper."""
    for move in moves:
        page.evaluate("move => hand(...move)", list(move))


def line(kind: str, pointer: int, y: float) -> tuple[tuple[Any, ...], ...]:
    return (kind, pointer, "down", 0.2, y), (kind, pointer, "move", 0.8, y), (kind, pointer, "up", 0.8, y)


def drawn(page: Page, y: float) -> bool:
    """Whether there is a line across the middle at this height."""
    return bool((pixels(page, "#picture")[round(512 * y), 200:300, 3] > 127).all())


def empty(page: Page) -> bool:
    return not pixels(page, "#picture").any()


def undos(page: Page) -> int:
    return int(page.evaluate("studio.surface.done.length"))


def test_a_finger_draws_and_a_mouse_too(page: Page) -> None:
    does(page, *line("touch", 3, 0.3), *line("mouse", 1, 0.7))
    assert drawn(page, 0.3)
    assert drawn(page, 0.7)
    assert undos(page) == 2


def test_the_end_of_a_pen_erases(page: Page) -> None:
    does(page, *line("pen", 2, 0.5))
    assert drawn(page, 0.5)
    page.evaluate("studio.surface.size = 60")
    does(page, *line("eraser", 2, 0.5))
    assert not (pixels(page, "#picture")[:, 200:300, 3] > 127).any()
    assert page.evaluate("studio.surface.tool") == "pen"


def test_other_buttons_draw_nothing(page: Page) -> None:
    for button, buttons in ((1, 4), (2, 2)):
        page.evaluate(
            "([button, buttons]) => hand('mouse', 1, 'down', 0.5, 0.5, { button, buttons })", [button, buttons]
        )
        page.evaluate(
            "([button, buttons]) => hand('pen', 2, 'down', 0.5, 0.5, { button, buttons })", [button, buttons]
        )
    assert empty(page)


def test_a_palm_before_the_pen_leaves_nothing(page: Page) -> None:
    does(page, ("touch", 7, "down", 0.9, 0.9), ("touch", 7, "move", 0.85, 0.9), *line("pen", 2, 0.3))
    does(page, ("touch", 7, "move", 0.5, 0.8), ("touch", 7, "up", 0.5, 0.8))
    assert drawn(page, 0.3)
    assert not pixels(page, "#picture")[350:].any()
    assert undos(page) == 1


def test_a_palm_that_the_system_takes_away_leaves_nothing(page: Page) -> None:
    does(page, ("touch", 7, "down", 0.5, 0.5), ("touch", 7, "move", 0.6, 0.5), ("touch", 7, "cancel", 0.6, 0.5))
    assert empty(page)
    assert undos(page) == 0


def test_after_a_pen_a_finger_draws_only_when_it_is_told_to(page: Page) -> None:
    does(page, *line("pen", 2, 0.3), *line("touch", 7, 0.6))
    assert not drawn(page, 0.6)
    page.click("#fingers")
    does(page, *line("touch", 8, 0.6))
    assert drawn(page, 0.6)
    assert not page.is_visible("#fingers")
    does(page, *line("pen", 2, 0.9), *line("touch", 9, 0.1))
    assert not drawn(page, 0.1)


@pytest.mark.parametrize("kind", ["mouse", "pen"])
def test_a_pointer_that_went_up_unseen_does_not_go_on_drawing(page: Page, kind: str) -> None:
    does(page, (kind, 2, "down", 0.2, 0.3), (kind, 2, "move", 0.8, 0.3))
    page.evaluate("kind => hand(kind, 2, 'move', 0.8, 0.9, { buttons: 0 })", kind)
    assert drawn(page, 0.3)
    assert not pixels(page, "#picture")[300:].any()
    assert undos(page) == 1
    does(page, (kind, 2, "down", 0.2, 0.5), (kind, 2, "move", 0.8, 0.5), *line(kind, 2, 0.7))
    assert drawn(page, 0.5)
    assert drawn(page, 0.7)
    assert not (pixels(page, "#picture")[290:330, 405:, 3] > 0).any()  # no line from one stroke to the next
    assert undos(page) == 3


def test_a_lost_capture_ends_the_stroke(page: Page) -> None:
    does(page, ("mouse", 1, "down", 0.2, 0.3), ("mouse", 1, "move", 0.8, 0.3))
    page.evaluate(
        "document.getElementById('mask').dispatchEvent(new PointerEvent('lostpointercapture', { pointerId: 1 }))"
    )
    does(page, ("mouse", 1, "move", 0.8, 0.9))
    assert drawn(page, 0.3)
    assert undos(page) == 1
    assert not pixels(page, "#picture")[300:].any()


PINCH = (
    ("touch", 1, "down", 0.4, 0.5),
    ("touch", 2, "down", 0.6, 0.5),
    ("touch", 1, "move", 0.3, 0.5),
    ("touch", 2, "move", 0.7, 0.5),
)


def test_two_fingers_enlarge_the_paper_and_never_draw(page: Page) -> None:
    does(page, *PINCH)
    view = page.evaluate("getComputedStyle(document.getElementById('picture')).transform")
    scale, _, _, _, x, y = map(float, view.removeprefix("matrix(").removesuffix(")").split(","))
    side = page.evaluate("document.getElementById('paper').clientWidth")
    assert scale == pytest.approx(2, rel=0.02)
    assert (x / side, y / side) == pytest.approx((-0.5, -0.5), abs=0.02)  # what was in the middle is there still
    assert empty(page)
    assert undos(page) == 0
    does(page, ("touch", 1, "up", 0.3, 0.5), ("touch", 2, "move", 0.8, 0.8), ("touch", 2, "up", 0.8, 0.8))
    assert empty(page)
    does(page, *line("touch", 3, 0.5))  # across 0.6 of the enlarged paper
    columns = np.flatnonzero(pixels(page, "#picture")[256, :, 3] > 127) / 512
    assert (columns[0], columns[-1]) == pytest.approx((0.35, 0.65), abs=0.05)
    page.click("#whole")
    assert page.evaluate("getComputedStyle(document.getElementById('picture')).transform") in (
        "none",
        "matrix(1, 0, 0, 1, 0, 0)",
    )
    assert not page.is_visible("#whole")


def test_two_fingers_move_an_enlarged_paper_to_its_edges_and_no_further(page: Page) -> None:
    does(page, *PINCH)
    does(page, ("touch", 1, "move", 0.9, 1.2), ("touch", 2, "move", 1.3, 1.2))
    view = page.evaluate("studio.pointers.view")
    assert (view["x"], view["y"]) == (0, 0)
    does(page, ("touch", 1, "move", -0.9, -0.9), ("touch", 2, "move", -0.5, -0.9))
    view, side = page.evaluate("[studio.pointers.view, document.getElementById('paper').clientWidth]")
    assert view["x"] == pytest.approx(side * (1 - view["scale"]))


def test_two_fingers_fill_nothing_and_one_does(page: Page) -> None:
    page.evaluate("studio.surface.tool = 'fill'")
    does(page, *PINCH, ("touch", 1, "up", 0.3, 0.5), ("touch", 2, "up", 0.7, 0.5))
    assert empty(page)
    does(page, ("touch", 3, "down", 0.5, 0.5), ("touch", 3, "up", 0.5, 0.5))
    assert (pixels(page, "#picture")[..., 3] == 255).all()


def test_a_second_finger_takes_back_what_the_first_one_drew(page: Page) -> None:
    does(page, *line("mouse", 9, 0.3))
    does(page, ("touch", 1, "down", 0.2, 0.6), ("touch", 1, "move", 0.4, 0.6), ("touch", 2, "down", 0.6, 0.6))
    assert drawn(page, 0.3)
    assert not pixels(page, "#picture")[250:].any()
    assert undos(page) == 1


def test_while_a_pen_draws_fingers_do_nothing(page: Page) -> None:
    does(page, ("pen", 9, "down", 0.2, 0.3), *PINCH, ("pen", 9, "move", 0.8, 0.3), ("pen", 9, "up", 0.8, 0.3))
    assert drawn(page, 0.3)
    assert page.evaluate("studio.pointers.view.scale") == 1
    assert undos(page) == 1
