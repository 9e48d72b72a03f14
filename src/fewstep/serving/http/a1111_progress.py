"""Whose requests are being drawn over AUTOMATIC1111's API, how far they are, and how they are interrupted."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fewstep.serving.engine.desk import PartialImage, PendingAnswer, StepDone
from fewstep.serving.engine.errors import Cancelled


@dataclass(eq=False)
class Running:
    """A client's request that is being drawn.

    Args:
        drawing: what is awaited.
        interrupted: set by `interrupt`.
    """

    drawing: PendingAnswer[str]
    interrupted: asyncio.Event = field(default_factory=asyncio.Event)
    step: int = 0
    steps: int = 0
    picture: bytes = b""

    async def follow(self) -> None:
        """Note the events of its steps."""
        async for event in self.drawing.events():
            if isinstance(event, PartialImage):
                self.picture = event.file
            if isinstance(event, StepDone):
                self.step, self.steps = event.step, event.steps

    async def answer(self) -> str:
        """The answer.

        Raises:
            Cancelled: it was interrupted.
        """
        done = asyncio.ensure_future(self.drawing.answer())
        stopped, followed = (asyncio.create_task(work) for work in (self.interrupted.wait(), self.follow()))
        try:
            await asyncio.wait((done, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                raise Cancelled("it was interrupted")
            return done.result()
        finally:
            for task in (done, stopped, followed):
                task.cancel()


class Drawings:
    """The requests of all clients, the oldest of a client first."""

    def __init__(self) -> None:
        self._of: dict[str, list[Running]] = {}

    @contextmanager
    def begun(self, client: str, drawing: PendingAnswer[str]) -> Iterator[Running]:
        """A client's request, while it is drawn."""
        one, mine = Running(drawing), self._of.setdefault(client, [])
        mine.append(one)
        try:
            yield one
        finally:
            mine.remove(one)
            if not mine:
                self._of.pop(client, None)

    def interrupt(self, client: str) -> None:
        """Stop a client's requests."""
        for one in self._of.get(client, []):
            one.interrupted.set()

    def progress(self, client: str) -> dict[str, Any]:
        """How far a client's oldest request is, in A1111's form."""
        mine = self._of.get(client, [])
        one = mine[0] if mine else None
        step, steps = (one.step, one.steps) if one else (0, 0)
        return {
            "progress": step / steps if steps else 0.0,
            "eta_relative": 0.0,
            "state": {
                "skipped": False,
                "interrupted": False,
                "job": "drawing" if one else "",
                "job_count": len(mine),
                "job_no": 0,
                "sampling_step": step,
                "sampling_steps": steps,
            },
            "current_image": base64.b64encode(one.picture).decode() if one and one.picture else None,
            "textinfo": None,
        }
