"""Latency from pen movement to new pixels, measured in a real browser: `fewstep bench studio`.

A simulated pen with 120 events per second draws circles in the studio of a `fewstep serve` in its own process. The
page's built-in meter breaks down the time of each frame.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import shutil
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
from playwright.async_api import async_playwright

from fewstep.lab.serving import served

EVENTS = 120
"""Pen events per second."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")

_TIMED = """() => {
  studio.handled = [];
  studio.events = 0;
  let began = 0;
  addEventListener("pointermove", (event) => {
    studio.events += event.getCoalescedEvents().length || 1;
    began = performance.now();
  }, { capture: true });
  addEventListener("pointermove", () => {
    if (studio.handled.length < 5000) studio.handled.push(performance.now() - began);
  });
}"""


def pen_to_pixels(
    model: str,
    engine: str = "auto",
    seconds: float = 20.0,
    minutes: float = 0.0,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Draw, and read the page's meter.

    Args:
        model, engine: the model and engine to serve.
        seconds: seconds of drawing that are measured.
        minutes: minutes of further drawing, during which the tab's memory is sampled.
        progress: called with a line of text for each step of the work.

    Returns:
        `p50` and `p95` in milliseconds for each stage; for `total`, from the event to the painted frame; for
        `outside`, the server's share without queue and network; and for `handler`, the main thread's work per pen
        event. Also the numbers of pen `events` and `frames`, and with `minutes` the `heap_mb` samples of the
        JavaScript heap after garbage collection.

    Raises:
        FileNotFoundError: Chromium is not installed.
    """
    return asyncio.run(_measured(model, engine, seconds, minutes, progress))


async def _measured(
    model: str, engine: str, seconds: float, minutes: float, progress: Callable[[str], None]
) -> dict[str, Any]:
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        raise FileNotFoundError("Chromium is not installed: install Debian's package 'chromium'")
    with served(model, "--engine", engine) as server:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
            page = await browser.new_page(viewport={"width": 1440, "height": 900})
            devtools = await page.context.new_cdp_session(page)
            await page.goto(f"http://127.0.0.1:{server.port}/")
            await page.wait_for_selector("#wire[data-state=socket]")
            await page.fill("#prompt", "red apple")
            await _draw(page, devtools, 3.0)
            await page.evaluate(_TIMED)
            await page.evaluate("() => { studio.meter.frames.length = 0; studio.meter.kept = Infinity; }")
            await _draw(page, devtools, seconds)
            await page.wait_for_timeout(500)
            events: int = await page.evaluate("studio.events")
            frames: list[dict[str, float]] = await page.evaluate("studio.meter.frames")
            handled: list[float] = await page.evaluate("studio.handled")
            figures = {"events": events, "frames": len(frames), "seconds": seconds, **_figures(frames)}
            figures["handler"] = _quantiles(handled)
            await page.evaluate("() => { studio.meter.kept = 600; studio.meter.frames.length = 0; }")
            if minutes:
                figures["heap_mb"] = [used async for used in _heap(page, devtools, minutes, progress)]
            await browser.close()
    return figures


async def _draw(page: Any, devtools: Any, seconds: float) -> None:
    """Draw circles, one per second, at the pen's pace: events do not wait until the page has handled the last one.

    Playwright's own mouse would leave two listeners in the page for each move that overlaps another.
    """
    box = await page.locator("#mask").bounding_box()

    def mouse(kind: str, at: tuple[float, float]) -> Any:
        place = {"x": box["x"] + at[0] * box["width"], "y": box["y"] + at[1] * box["height"]}
        pressed = {"button": "left", "buttons": int(kind != "mouseReleased"), "clickCount": 1}
        return devtools.send("Input.dispatchMouseEvent", {"type": kind, **place, **pressed})

    moves: set[asyncio.Task[None]] = set()
    began = time.perf_counter()
    for i in itertools.count():
        if time.perf_counter() - began > seconds:
            break
        turn = 2 * math.pi * i / EVENTS
        reach = 0.2 + 0.1 * math.sin(i / EVENTS)
        place = 0.5 + reach * math.cos(turn), 0.5 + reach * math.sin(turn)
        move = asyncio.ensure_future(mouse("mouseMoved", place))
        moves.add(move)
        move.add_done_callback(moves.discard)
        if i % EVENTS == 0:
            await asyncio.gather(*moves)
            await mouse("mouseReleased", place)
            if i % (8 * EVENTS) == 0:
                await page.evaluate("studio.surface.clear()")
            await mouse("mousePressed", place)
        await asyncio.sleep(max(0.0, began + (i + 1) / EVENTS - time.perf_counter()))
    await asyncio.gather(*moves)
    await mouse("mouseReleased", place)


async def _heap(page: Any, devtools: Any, minutes: float, progress: Callable[[str], None]) -> AsyncIterator[float]:
    """Megabytes of the tab's heap after garbage collection, at the start and after each tenth of the time."""
    for part in range(11):
        if part:
            await _draw(page, devtools, 6 * minutes)
        await devtools.send("HeapProfiler.collectGarbage")
        used = (await devtools.send("Runtime.getHeapUsage"))["usedSize"] / 1e6
        progress(f"after {part * minutes / 10:.1f} min: {used:.1f} MB")
        yield round(used, 2)


def _figures(frames: list[dict[str, float]]) -> dict[str, Any]:
    stages = {stage: _quantiles([frame[stage] for frame in frames]) for stage in frames[0]}
    return {**stages, "outside": _quantiles([frame["encode"] + frame["server"] for frame in frames])}


def _quantiles(values: list[float]) -> dict[str, float]:
    return {name: round(float(np.quantile(values, share)), 2) for name, share in (("p50", 0.5), ("p95", 0.95))}
