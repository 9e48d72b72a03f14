"""What tests do on a studio's page."""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page

SIZE = 512


def at(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a place of the canvas, 0 to 1, is on the page."""
    box = page.locator("#mask").bounding_box()
    assert box is not None
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def circle(
    radius: float = 0.3, points: int = 24, middle: tuple[float, float] = (0.5, 0.5)
) -> list[tuple[float, float]]:
    turns = [2 * math.pi * i / (points - 1) for i in range(points)]
    return [(middle[0] + radius * math.cos(turn), middle[1] + radius * math.sin(turn)) for turn in turns]


def stroke(page: Page, places: Sequence[tuple[float, float]], pause: float = 0) -> None:
    """Draw through places of the canvas."""
    page.mouse.move(*at(page, *places[0]))
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*at(page, *place))
        if pause:
            page.wait_for_timeout(pause)
    page.mouse.up()


def wait(page: Page, true: str, seconds: float = 60) -> None:
    """Wait for an expression to become true. Playwright's own way evaluates strings, which the page's policy forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(true):
        assert time.monotonic() < deadline, f"waited in vain for {true}"
        page.wait_for_timeout(20)


def settled(page: Page) -> None:
    """Wait until nothing is on its way and nothing waits to be."""
    wait(page, "studio.pace.settled && !studio.pace.planned && !studio.surface.stroke")


def pixels(page: Page, canvas: str) -> Any:
    """A canvas, [h, w, 4]."""
    data = page.evaluate("selector => document.querySelector(selector).toDataURL()", canvas)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGBA")).astype(int)


def result(page: Page) -> Any:
    """The first result as the server sent it, [h, w, 4]."""
    data = page.evaluate(
        """async () => {
          const blob = studio.shown().answer.pictures[0];
          let text = "";
          for (const byte of new Uint8Array(await blob.arrayBuffer())) text += String.fromCharCode(byte);
          return btoa(text);
        }"""
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA")).astype(int)


def spy(page: Page) -> None:
    """Keep what the page sends, and the order in which results are shown."""
    page.evaluate(
        """() => {
          studio.asked = [];
          const ask = studio.wire.ask.bind(studio.wire);
          studio.wire.ask = (head, pictures) => {
            studio.asked.push({ head, pictures: pictures.map(({ name, data }) => ({ name, data: [...data] })) });
            return ask(head, pictures);
          };
          studio.seqs = [];
          new MutationObserver(() => studio.seqs.push(Number(document.getElementById("tiles").dataset.seq)))
            .observe(document.getElementById("tiles"), { attributeFilter: ["data-seq"] });
        }"""
    )


def asked(page: Page) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = page.evaluate("studio.asked")
    return sent


def kept(page: Page, count: int) -> None:
    """Wait until so many frames are in the history."""
    wait(page, f"studio.history.frames.length === {count}", 20)


def drop(page: Page, file: bytes, name: str = "picture.png", kind: str = "image/png") -> None:
    """Drop a file onto the page, as from a folder."""
    page.evaluate(
        """([text, name, kind]) => {
          const data = new DataTransfer();
          data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name, { type: kind }));
          document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }""",
        [base64.b64encode(file).decode(), name, kind],
    )
