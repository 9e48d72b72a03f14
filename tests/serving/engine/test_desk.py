"""The desk without any protocol, and with a runtime and a store of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewstep.generation import Edit, Model, Request, RequestError
from fewstep.serving.engine.accounting import Accounting, Caller, outcome_of
from fewstep.serving.engine.desk import Answer, AnswerOptions, Desk, Event, PartialImage, StepDone, partial_steps
from fewstep.serving.engine.encoding import Encoding
from fewstep.serving.engine.errors import Busy, Cancelled, NotFound, ShuttingDown, Stopped, Superseded
from fewstep.serving.engine.host import ModelHost
from fewstep.serving.engine.inputs import DecodedImages, ImageFile, ImageId, ImageLoader, SourceImages
from fewstep.serving.engine.jobs import Job, JobResult, Recognition
from fewstep.serving.engine.limits import Limits
from fewstep.serving.engine.metrics import Metrics
from fewstep.serving.engine.runtime import Runtime
from fewstep.serving.engine.shelf import Shelf
from fewstep.serving.engine.store import Store, StoredImage
from fewstep.serving.engine.tracing import Traces
from fewstep.serving.engine.uploads import ImageDecoder
from picture_cases import encoded, gradient
from tiny_models import SIDE, TinyModels, onnx


class InlineRuntime:
    """A `Runtime` that draws a job when it is submitted, or later, when it is told to."""

    waiting = running = 0
    closed = False

    def __init__(self, model: Model, later: bool = False) -> None:
        self.model, self._later = model, later
        self.jobs: list[Job[Any]] = []
        self.full = False

    def check_room(self, client: str = "", session: str | None = None) -> None:
        if self.full:
            raise Busy("it is full", 1.0)

    def submit(self, job: Job[Any]) -> None:
        self.jobs.append(job)
        if not self._later:
            self.run(job)

    def run(self, job: Job[Any]) -> None:
        last = None
        for last in self.model.run(job.plan):
            if job.on_step is not None and last.jump.index + 1 < last.steps:
                job.on_step(last)
        assert last is not None
        images = self.model.finish(job.plan, last)
        try:
            answer = job.finish(JobResult(images, {"model": 1.0}, [Recognition()] * len(images), job.check))
        except Stopped as error:
            job.future.set_exception(error)
        else:
            job.future.set_result(answer)

    def stop(self, job: Job[Any], reason: Stopped) -> None:
        job.reason = job.reason or reason

    def warm_up(self, requests: Iterable[Request]) -> None:
        raise NotImplementedError

    def close(self, timeout: float = 30.0) -> None:
        raise NotImplementedError


class DictStore(dict[str, StoredImage]):
    """A `Store`."""

    put = dict.__setitem__


@pytest.fixture(scope="module")
def model(tiny: TinyModels) -> Model:
    return onnx(tiny.student)


def desk_of(runtime: Runtime, store: Store) -> Desk:
    decoder = ImageDecoder(10_000, 20_000)
    limits = Limits(max_images=3, max_steps=8, max_pixels=10_000, max_prompt=20)
    accounting = Accounting(Metrics(), Traces(), log_prompts=False)
    host = ModelHost(runtime, no_others(), aliases=("sticker",))
    return Desk(host, store, ImageLoader(store, decoder, False, 1000), limits, accounting)


def no_others() -> Shelf:
    return Shelf({}, lambda saved: pytest.fail("nothing to load"), InlineRuntime)


def asks(request: Request) -> Callable[[DecodedImages, Model], Request]:
    return lambda images, model: request


def edits(images: DecodedImages, model: Model) -> Request:
    assert images.image is not None
    return Request("cat", seed=1, edit=Edit(images.image))


async def drawn(
    desk: Desk,
    build: Callable[[DecodedImages, Model], Request],
    sources: SourceImages = SourceImages(),  # noqa: B008  immutable
    output: AnswerOptions = AnswerOptions(Encoding()),  # noqa: B008  immutable
    owner: str = "",
    model: str | None = None,
) -> Answer:
    caller = Caller("test", "me", owner)
    async with await desk.draw(build, sources, caller, output, lambda answer: answer, model) as drawing:
        return await drawing.answer()


def test_any_runtime_and_any_store_will_do(model: Model) -> None:
    store = DictStore()
    desk = desk_of(InlineRuntime(model), store)
    answer = asyncio.run(drawn(desk, asks(Request("red apple", seed=7, images=2)), owner="ada"))
    expected = model.generate_all(Request("red apple", seed=7, images=2))
    for image, wanted in zip(answer.images, expected, strict=True):
        assert np.array_equal(np.asarray(image.picture), np.asarray(wanted))
        assert store[image.id] == StoredImage(image.file, "image/png", "ada")
        assert image.id == image.record.id
    assert list(answer.timings) == ["model", "encode_image"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"images": 4}, "images"),
        ({"steps": 9}, "steps"),
        ({"prompt": "x" * 21}, "prompt"),
        ({"to_prompt": "x" * 21, "position": 0.5}, "to_prompt"),
        ({"size": (100, 101)}, "size"),
        ({"images": 2, "size": (100, 51)}, "size"),
        ({"guidance": 9.0}, "guidance"),
    ],
)
def test_what_the_server_or_the_model_does_not_allow_is_refused_before_it_is_queued(
    model: Model, fields: dict[str, Any], field: str
) -> None:
    runtime = InlineRuntime(model)
    with pytest.raises(RequestError) as refused:
        asyncio.run(drawn(desk_of(runtime, DictStore()), asks(Request(**fields))))
    assert refused.value.field == field
    assert runtime.jobs == []


@pytest.mark.parametrize(("own", "steps", "fit", "is_allowed"), [
    (1, None, 3, True), (1, None, 4, False), (2, None, 1, True), (4, None, 1, False), (4, 2, 1, True),
    (4, 3, 1, False), (9, None, 0, True),
])  # fmt: skip
def test_corrections_count_for_the_steps_that_will_be_made(
    model: Model, own: int, steps: int | None, fit: int, is_allowed: bool
) -> None:
    """`steps · (1 + 2 · fit)` within `max_steps`, which is 8 here, also where the steps are the model's own."""
    slow = Model(replace(model.saved, spec=replace(model.spec, steps=own)), model.network, "onnx")
    gap = Edit(Image.new("RGB", (SIDE, SIDE)), Image.new("L", (SIDE, SIDE), 255), fit=fit)
    limits = Limits(max_images=3, max_steps=8, max_pixels=10_000, max_prompt=20)
    with nullcontext() if is_allowed else pytest.raises(RequestError, match=r"steps · \(1 \+ 2 · fit\) at most 8"):
        limits.check(Request(steps=steps, edit=gap), slow)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (RequestError("seed", "wrong"), "invalid"),
        (NotFound("model", "gone", "not_found"), "invalid"),
        (Busy("full", 1.0), "busy"),
        (Superseded(), "superseded"),
        (Cancelled(), "cancelled"),
        (asyncio.CancelledError(), "cancelled"),
        (ShuttingDown(), "closing"),
        (MemoryError(), "failed"),
    ],
)
def test_only_what_is_the_servers_fault_counts_as_failed(error: BaseException | None, outcome: str) -> None:
    assert outcome_of(error) == outcome


@pytest.mark.parametrize(("status", "errors"), [(200, 0), (399, 0), (400, 1), (503, 1)])
def test_an_answer_from_400_on_is_an_error(status: int, errors: int) -> None:
    metrics = Metrics()
    metrics.http_request("/v1/images/generations", status, 0.01)
    assert metrics.text().decode().count("fewstep_http_errors_total{") == errors


def test_what_the_server_just_allows_is_drawn(model: Model) -> None:
    desk = desk_of(InlineRuntime(model), DictStore())
    for fields in ({"images": 3}, {"steps": 8}, {"prompt": "x" * 20}, {"size": (100, 100)}):
        assert asyncio.run(drawn(desk, asks(Request(**fields)))).images


def test_a_format_refuses_what_it_cannot_hold(model: Model) -> None:
    desk = desk_of(InlineRuntime(model), DictStore())
    with pytest.raises(RequestError, match="a jpeg has no transparency"):
        asyncio.run(drawn(desk, asks(Request(background="transparent")), output=AnswerOptions(Encoding("jpeg"))))


def test_a_full_runtime_is_told_before_an_image_is_looked_at(model: Model) -> None:
    runtime = InlineRuntime(model)
    runtime.full = True
    broken = SourceImages(ImageFile("image", b"no image"))
    with pytest.raises(Busy, match=r"it is full: try again in 1\.0 s"):
        asyncio.run(drawn(desk_of(runtime, DictStore()), edits, broken))
    runtime.full = False
    with pytest.raises(RequestError, match="image is not an image that can be read"):
        asyncio.run(drawn(desk_of(runtime, DictStore()), edits, broken))


def test_images_are_found_by_id_for_their_owner_alone(model: Model) -> None:
    store = DictStore(a=StoredImage(encoded(gradient(SIDE, SIDE)), "image/png", "ada"))
    desk = desk_of(InlineRuntime(model), store)
    for id in ("a", "fewstep://images/a"):
        assert asyncio.run(drawn(desk, edits, SourceImages(ImageId("image_id", id)), owner="ada")).images
    for id, owner in (("a", "bob"), ("a", ""), ("b", "ada")):
        with pytest.raises(NotFound, match=f"there is no image '{id}'") as refused:
            asyncio.run(drawn(desk, edits, SourceImages(ImageId("image_id", id)), owner=owner))
        assert refused.value.field == "image_id"


def test_a_model_goes_by_its_name_and_its_aliases(model: Model) -> None:
    desk = desk_of(InlineRuntime(model), DictStore())
    for name in (None, "tiny", "sticker"):
        assert asyncio.run(drawn(desk, asks(Request(seed=1)), model=name)).model is model
    with pytest.raises(NotFound, match="there is no model 'dall-e-2': this server has 'tiny'"):
        asyncio.run(drawn(desk, asks(Request(seed=1)), model="dall-e-2"))


def test_a_teacher_is_named_not_pointed_to_and_the_very_one(model: Model, tiny: TinyModels) -> None:
    """By its folder's name and its hash, and by no path that leads there."""
    folder, digest = tiny.teacher.directory, tiny.teacher.hash
    for said, hash, found in (
        (folder.name, digest, tiny.teacher),
        (folder.name, "0" * 64, None),
        (f"tiny/../{folder.name}", digest, None),
        (str(folder), digest, None),
    ):
        spec = replace(model.spec, lineage=({"teacher": said, "hash": hash},))
        student = Model(replace(model.saved, spec=spec), model.network, "onnx")
        assert ModelHost(InlineRuntime(student), no_others()).teacher == found


def test_the_images_of_a_request_that_was_left_are_not_kept(model: Model) -> None:
    runtime, store = InlineRuntime(model, later=True), DictStore()
    desk = desk_of(runtime, store)

    async def leaving() -> None:
        build, output = asks(Request(seed=1)), AnswerOptions(Encoding())
        async with await desk.draw(build, SourceImages(), Caller("test", "me"), output, lambda answer: answer):
            pass
        runtime.run(runtime.jobs[0])

    asyncio.run(leaving())
    assert isinstance(runtime.jobs[0].future.exception(), Cancelled)
    assert store == {}
    assert 'outcome="cancelled",surface="test"} 1.0' in desk.accounting.metrics.text().decode()


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (AnswerOptions(Encoding()), []),
        (AnswerOptions(Encoding(), steps=True), [StepDone(1, 4), StepDone(2, 4), StepDone(3, 4)]),
        (AnswerOptions(Encoding("webp"), partial_images=1), [PartialImage]),
        (AnswerOptions(Encoding(), 3, True), [PartialImage, StepDone] * 3),
    ],
)
def test_a_request_tells_what_its_output_asks_for(model: Model, output: AnswerOptions, told: list[Any]) -> None:
    desk = desk_of(InlineRuntime(model), DictStore())

    async def listening() -> list[Event]:
        build = asks(Request("cat", seed=1, steps=4))
        async with await desk.draw(
            build, SourceImages(), Caller("test", "me"), output, lambda answer: answer
        ) as drawing:
            return [event async for event in drawing.events()]

    events = asyncio.run(listening())
    assert len(events) == len(told)
    for event, wanted in zip(events, told, strict=True):
        assert isinstance(event, wanted) if isinstance(wanted, type) else event == wanted
    for event in events:
        if isinstance(event, PartialImage):
            assert event.picture.size == (SIDE, SIDE)


@pytest.mark.parametrize(
    ("steps", "partial_images", "shown"),
    [
        (1, 3, set()),
        (2, 1, {0}),
        (3, 1, {1}),
        (4, 1, {1}),
        (4, 2, {1, 2}),
        (4, 3, {0, 1, 2}),
        (5, 9, {0, 1, 2, 3}),
        (8, 1, {3}),
        (8, 3, {1, 3, 5}),
        (64, 3, {15, 31, 47}),
        (64, 0, set()),
    ],
)
def test_partial_images_are_spread_evenly(steps: int, partial_images: int, shown: set[int]) -> None:
    assert partial_steps(steps, partial_images) == shown


def test_pixels_of_a_decoded_image_are_free_once_it_is_planned(model: Model) -> None:
    runtime = InlineRuntime(model, later=True)
    desk = desk_of(runtime, DictStore())

    async def waiting() -> None:
        source = SourceImages(ImageFile("image", encoded(Image.new("RGB", (50, 40), "red"))))
        await desk.draw(edits, source, Caller("test", "me"), AnswerOptions(Encoding()), lambda answer: answer)
        assert desk.loader.decoder.held == 0

    asyncio.run(waiting())
