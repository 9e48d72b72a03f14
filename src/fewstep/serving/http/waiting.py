"""Waiting for a job on behalf of a client who may go away."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from fastapi import Request

from fewstep.serving.engine.jobs import Cancelled, Job, ShuttingDown, Stopped
from fewstep.serving.engine.runtime import Runtime
from fewstep.serving.http.errors import stopped

T = TypeVar("T")


async def result_of(runtime: Runtime, request: Request, job: Job[T]) -> T:
    """The job's answer; a client that goes away stops it.

    Raises:
        ApiError: it was stopped.
    """
    result: asyncio.Future[T] = asyncio.ensure_future(asyncio.wrap_future(job.future))
    gone: asyncio.Future[None] = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((result, gone), return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            runtime.stop(job, Cancelled("the client went away"))
        return await result
    except Stopped as error:
        raise stopped(error) from None
    except asyncio.CancelledError:  # the server's patience has ended
        closing = ShuttingDown("the server is closing")
        runtime.stop(job, closing)
        raise stopped(closing) from None
    finally:
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return
