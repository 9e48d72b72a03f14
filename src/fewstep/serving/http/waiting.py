"""Waiting on behalf of a client that may go away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from fewstep.serving.engine.errors import Cancelled, ShuttingDown

T = TypeVar("T")


async def until_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of an operation, which is cancelled if the client goes away.

    Raises:
        Cancelled: the client went away.
        ShuttingDown: the server ended the request.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
        if task.cancelled():
            raise Cancelled("the client went away")
        return task.result()
    except asyncio.CancelledError:  # the shutdown time-out has passed
        task.cancel()
        raise ShuttingDown("the server is closing") from None
    finally:
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return
