"""The desk, which handles all image requests, from whatever surface.

The handling of a request is written here once: the queue is checked before its images are decoded, the server's
limits before it is planned; then it is queued, awaited, encoded and stored, and recorded in the log, the metrics and
the traces. A surface translates its protocol's message to the arguments of `Desk.draw`, and the answer to a message.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from PIL import Image

from fewstep.generation import GeneratedImage, Model, Request
from fewstep.generation.planning import Plan
from fewstep.generation.running import Progress
from fewstep.pictures import Record
from fewstep.serving.engine.accounting import Account, Accounting, Caller
from fewstep.serving.engine.encoding import Encoding
from fewstep.serving.engine.errors import Cancelled
from fewstep.serving.engine.host import ModelHost
from fewstep.serving.engine.inputs import DecodedImages, ImageLoader, SourceImages
from fewstep.serving.engine.jobs import Job, JobResult, Recognition
from fewstep.serving.engine.limits import Limits
from fewstep.serving.engine.room import Place, Room
from fewstep.serving.engine.runtime import Runtime
from fewstep.serving.engine.store import Store, StoredImage

T = TypeVar("T")

RequestBuilder = Callable[[DecodedImages, Model], Request]
"""Makes a request from the decoded images and the model; may raise RequestError. Runs in a thread if there are
images."""


@dataclass(frozen=True)
class AnswerOptions:
    """How a client wants to be answered.

    Args:
        encoding: format of the files.
        partial_images: number of intermediate pictures of the first image, sent as `PartialImage` events.
        steps: whether each step but the last sends a `StepDone` event.
    """

    encoding: Encoding
    partial_images: int = 0
    steps: bool = False


@dataclass(frozen=True)
class StepDone:
    """One of several steps is done: number `step`, counted from 1, of `steps`."""

    step: int
    steps: int


@dataclass(frozen=True)
class PartialImage:
    """An intermediate picture of the first image, its file, and the number of steps of the whole."""

    picture: Image.Image
    file: bytes
    steps: int


Event = StepDone | PartialImage


@dataclass(frozen=True)
class AnswerImage:
    """One image of an answer.

    Args:
        picture: the image with its record.
        file: the image in the requested format, with its record inside.
        recognition: what a recogniser sees in it.
    """

    picture: GeneratedImage
    file: bytes
    recognition: Recognition

    @property
    def record(self) -> Record:
        """The record of how it was made."""
        return self.picture.record

    @property
    def id(self) -> str:
        """The id of its record, by which every surface finds it again."""
        return self.picture.record.id


@dataclass(frozen=True)
class Answer:
    """The answer to a request.

    Args:
        images: the images, at least one.
        timings: milliseconds by stage; `encode_image` is the last.
        model: the model that drew them.
    """

    images: Sequence[AnswerImage]
    timings: Mapping[str, float]
    model: Model


class PendingAnswer(AbstractAsyncContextManager["PendingAnswer[T]"], Generic[T]):
    """An accepted request. Leaving its context stops it, unless it is done.

    Args:
        runtime: the runtime that it is queued in.
        job: its job.
        events: events of its steps; None marks the end.
        place: the memory that its images take.
    """

    def __init__(self, runtime: Runtime, job: Job[T], events: asyncio.Queue[Event | None], place: Place) -> None:
        self._runtime, self._job, self._events, self._place = runtime, job, events, place
        self._forget = weakref.finalize(self, place.give_back)  # an answer that nobody ever waits for

    async def __aexit__(self, *error: object) -> None:
        self._runtime.stop(self._job, Cancelled("the client went away"))
        if self._forget.alive:
            self._place.give_back()

    def keep(self) -> Place:
        """The memory that its images take, from now on to be given back by who asks for it: when they are sent."""
        self._forget.detach()
        return self._place

    async def events(self) -> AsyncIterator[Event]:
        """The events requested by the `AnswerOptions`, until the request ends."""
        while (event := await self._events.get()) is not None:
            yield event

    async def answer(self) -> T:
        """The answer that `render` made from the images.

        Raises:
            Stopped: nobody waits for them any more, or the server is closing.
        """
        return await asyncio.wrap_future(self._job.future)


class Desk:
    """Accepts requests for images.

    Args:
        host: the models.
        store: the store of drawn images.
        loader: the loader of images in requests.
        limits: the limits of a single request.
        accounting: records each request in the log, the metrics and the traces.
        max_pixels: most pixels of images that are drawn or sent at a time; None for no bound.
    """

    def __init__(
        self,
        host: ModelHost,
        store: Store,
        loader: ImageLoader,
        limits: Limits,
        accounting: Accounting,
        max_pixels: int | None = None,
    ) -> None:
        self.host, self.store, self.loader, self.limits, self.accounting = host, store, loader, limits, accounting
        most = sys.maxsize if max_pixels is None else max_pixels
        self.room = Room(most, "the answers to other requests take up all the memory for images")

    async def draw(
        self,
        request: RequestBuilder,
        sources: SourceImages,
        caller: Caller,
        output: AnswerOptions,
        render: Callable[[Answer], T],
        model: str | None = None,
    ) -> PendingAnswer[T]:
        """Accept a request and queue it.

        Args:
            request: function that makes the request from the decoded images.
            sources: the images in the request.
            caller: the client.
            output: how the client wants to be answered.
            render: function that turns the answer into the protocol's message, in the job's thread.
            model: name of the model; None for the served one.

        Raises:
            RequestError: a field is wrong, or exceeds what the server or the model allows.
            NotFound: there is no such model or image.
            Busy: the queue, the memory for images or the client's quota is full.
            Stopped: a newer request of its session has arrived, or the server is closing.
        """
        account = self.accounting.open(caller)
        try:
            runtime = await self.host.find(model)
            runtime.check_room(caller.client, caller.session_key)
            if caller.quota is not None:
                caller.quota.request()
            plan = await self._planned(runtime.model, request, sources, output, caller)
            if caller.quota is not None:
                caller.quota.images(len(plan.sampling.seeds))
            account.planned(plan, runtime.model.name)
            place = Place(self.room, _pixels(plan, runtime.model))
            try:
                return self._queued(runtime, plan, caller, output, render, account, place)
            except BaseException:
                place.give_back()
                raise
        except BaseException as error:
            account.close(error)
            raise

    def close(self, timeout: float) -> None:
        """Let accepted requests finish for `timeout` seconds, stop the rest, and export the last spans."""
        self.host.stop(timeout)
        self.accounting.traces.close()

    def refuse(self, caller: Caller) -> None:
        """Account for a message that the surface could not read as a request."""
        self.accounting.open(caller).refuse()

    async def _planned(
        self, model: Model, build: RequestBuilder, sources: SourceImages, output: AnswerOptions, caller: Caller
    ) -> Plan:
        """The request's plan, made in a thread where images have to be decoded.

        A plan keeps only what drawing needs of the images, and the request is released once it is planned.
        """
        sources = await self.loader.fetched(sources, caller.owner)

        def plan() -> Plan:
            request = build(self.loader.decoded(sources), model)
            self.limits.check(request, model)
            output.encoding.check(request)
            return model.plan_pictures(request)

        return plan() if sources.are_small else await asyncio.to_thread(plan)

    def _queued(
        self,
        runtime: Runtime,
        plan: Plan,
        caller: Caller,
        output: AnswerOptions,
        render: Callable[[Answer], T],
        account: Account,
        place: Place,
    ) -> PendingAnswer[T]:
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | None] = asyncio.Queue()

        def publish(event: Event | None) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        def finish(result: JobResult) -> T:
            answer = _encoded(result, output.encoding, runtime.model, account)
            message = render(answer)
            result.check()
            self._keep(answer, output.encoding, caller)
            return message

        on_step = _reporter(runtime.model, plan, output, publish)
        if on_step is None:
            events.put_nowait(None)  # here, since waking the event loop from the job's thread would delay the answer

        def ended(future: Future[T]) -> None:
            account.close(future.exception())
            if on_step is not None:
                publish(None)

        job = Job(plan, finish, caller.client, caller.session_key, on_step, caller.arrived)
        job.future.add_done_callback(ended)
        runtime.submit(job)
        return PendingAnswer(runtime, job, events, place)

    def _keep(self, answer: Answer, encoding: Encoding, caller: Caller) -> None:
        for image in answer.images:
            kept = StoredImage(image.file, encoding.mime, caller.owner, caller.session_key)
            self.store.put(image.id, kept)


def _pixels(plan: Plan, model: Model) -> int:
    """The pixels of all images of a plan, as drawn or as delivered, whichever are more."""
    width, height = plan.delivery.size or model.native_size
    return len(plan.sampling.seeds) * max(width * height, math.prod(model.native_size))


def _encoded(result: JobResult, encoding: Encoding, model: Model, account: Account) -> Answer:
    """The answer of a job for which someone is still waiting."""
    started = time.perf_counter()
    files = [encoding.encoded(image) for image in result.images]
    seconds = time.perf_counter() - started
    result.check()
    timings = {**result.timings, "encode_image": 1000 * seconds}
    account.encoded(timings, seconds)
    images = [AnswerImage(*parts) for parts in zip(result.images, files, result.recognitions, strict=True)]
    return Answer(images, timings, model)


def _reporter(
    model: Model, plan: Plan, output: AnswerOptions, publish: Callable[[Event], Any]
) -> Callable[[Progress], None] | None:
    """The callback after each step; None if no events are requested."""
    shown = partial_steps(plan.sampling.steps, output.partial_images)
    if not shown and not output.steps:
        return None

    def report(progress: Progress) -> None:
        if progress.jump.index in shown:
            picture = model.preview(plan, progress)
            publish(PartialImage(picture, output.encoding.encoded_preview(picture), progress.steps))
        if output.steps:
            publish(StepDone(progress.jump.index + 1, progress.steps))

    return report


def partial_steps(steps: int, partial_images: int) -> set[int]:
    """The steps, counted from 0, after which a partial image is sent: evenly spread over those before the last."""
    between = steps - 1
    count = min(partial_images, between)
    return {math.ceil((i + 1) * (between + 1) / (count + 1)) - 1 for i in range(count)}
