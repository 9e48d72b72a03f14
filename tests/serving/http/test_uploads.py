"""What clients send: forms and JSON are read as they are meant, and never for long or in any amount."""

from __future__ import annotations

import base64
import http.client
import io
import json
import threading
import weakref
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import fewstep
from fewstep import pictures
from fewstep.generation import Model
from fewstep.measure.judges import Recogniser
from fewstep.serving.engine.errors import Busy, InputError
from fewstep.serving.engine.uploads import ImageDecoder
from servers import Answer, Gate, Running, call, draw, form, running, until
from tiny_models import TinyModels


def png(size: tuple[int, int] = (20, 12), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 90).convert("RGB").save(buffer, "PNG", **options)
    return buffer.getvalue()


def data_url(data: bytes, head: str = "data:image/png;base64") -> str:
    return f"{head},{base64.b64encode(data).decode()}"


def edit(server: Running, **fields: Any) -> Answer:
    return call(
        server.url, "/v1/images/edits", {"images": [{"image_url": data_url(png())}], "prompt": "cat", **fields}
    )


def refused(answer: Answer, param: str | None) -> str:
    assert answer.status == 400, answer.data
    assert answer.body["error"]["param"] == param
    return str(answer.body["error"]["message"])


def image_of(answer: Answer) -> bytes:
    assert answer.status == 200, answer.data
    return base64.b64decode(answer.body["data"][0]["b64_json"])


def record_of(answer: Answer) -> pictures.Record:
    record = pictures.read_record(image_of(answer))
    assert record is not None
    return record


# bodies


@pytest.mark.parametrize("part", [b"[],", b"{},", b"0,", b"[[[", b'{"a":'])
def test_a_body_of_many_values_holds_nobody_up(server: Running, part: bytes) -> None:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    body = b'{"prompt":"x","a":[' + part * (9_000_000 // len(part)) + b"0]}"
    connection.request("POST", "/v1/images/generations", body, {"content-type": "application/json"})
    assert call(server.url, "/healthz").status == 200
    answer = connection.getresponse()
    assert "at most 10000 values" in refused(Answer(answer.status, {}, answer.read()), None)
    connection.close()


@pytest.mark.parametrize("charset", ["punycode", "utf-7", "latin-1", "idna", "nobody", "\xff"])
def test_a_form_is_in_utf_8(server: Running, charset: str) -> None:
    parts = ("prompt", "a" * 500_000), ("image", png())
    assert "utf-8" in refused(form(server.url, "/v1/images/edits", *parts, more=f"; charset={charset}"), None)


def test_a_form_may_say_that_it_is_in_utf_8(server: Running) -> None:
    parts = ("prompt", "chaton é"), ("image", png())
    for more in ("", "; charset=UTF-8", '; charset="utf8"'):
        assert record_of(form(server.url, "/v1/images/edits", *parts, more=more)).prompt == "chaton é"


NULL = dict.fromkeys(
    [
        "n",
        "stream",
        "output_format",
        "output_compression",
        "response_format",
        "partial_images",
        "negative_prompt",
        "size",
        "seed",
        "steps",
        "background",
        "model",
        "user",
        "quality",
        "control",
    ]
)


def test_null_is_as_if_left_out(server: Running) -> None:
    assert draw(server.url, **NULL).status == 200
    assert edit(server, **NULL, mask=None, strength=None).status == 200


@pytest.mark.parametrize(
    "field", ["n", "seed", "steps", "guidance", "output_compression", "partial_images", "label", "strength", "fit"]
)
@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_is_no_number(server: Running, field: str, value: bool) -> None:
    assert f"got {json.dumps(value)}" in refused(edit(server, **{field: value}), field)


def test_a_forms_numbers_and_truths_are_words(server: Running) -> None:
    parts = ("n", "2"), ("strength", "0.5"), ("stream", "false"), ("seed", "3"), ("image", png())
    answer = form(server.url, "/v1/images/edits", *parts)
    assert [image["seed"] for image in answer.body["data"]] == [3, 4]


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"n": -1}, "n", "got -1"),
        ({"n": 11}, "n", "between 1 and 10, got 11"),
        ({"n": "many"}, "n", "got 'many'"),
        ({"steps": 10**9}, "steps", "between 1 and 64, got 1000000000"),
        ({"steps": 65}, "steps", "between 1 and 64, got 65"),
        ({"guidance": 100}, "guidance", "between 1 and 4, got 100"),
        ({"guidance": 20}, "guidance", "between 1 and 4, got 20"),
        ({"size": "100000x1"}, "size", "between 8 and 2048, got 100000x1"),
        ({"size": "4096x64"}, "size", "between 8 and 2048, got 4096x64"),
        ({"size": "large"}, "size", "between 8 and 2048, got 'large'"),
        ({"sampler": "heun"}, "sampler", "'heun' needs"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_out_of_range_is_told_with_the_range_that_holds(
    server: Running, fields: dict[str, Any], param: str, said: str, stream: bool
) -> None:
    assert said in refused(draw(server.url, stream=stream, **fields), param)


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"images": ["x"]}, "images", "images.0 must be an object, got 'x'"),
        ({"images": []}, "images", "at least 1"),
        ({"images": [{"image_url": "a", "file_id": "b"}]}, "images", "either image_url or file_id"),
        ({"images": [{}]}, "images", "either image_url or file_id"),
        ({"images": [{"image_url": data_url(b"words")}]}, "images", "images is not an image"),
        ({"images": [{"image_url": data_url(png(), "data:image/png")}]}, "images", "in base64"),
        ({"images": [{"image_url": "data:image/png;base64"}]}, "images", "in base64"),
        ({"images": [{"image_url": "data:image/png;base64,?"}]}, "images", "not valid base64"),
        ({"mask": {"image_url": data_url(b"words")}}, "mask", "mask is not an image"),
        ({"control": data_url(b"words")}, "control", "control is not an image"),
        ({"control": 3}, "control", "got 3"),
    ],
)  # fmt: skip
def test_a_wrong_picture_is_told_by_the_field_it_came_in(
    server: Running, fields: dict[str, Any], param: str, said: str
) -> None:
    assert said in refused(edit(server, **fields), param)


def test_an_id_that_nothing_has_is_not_found(server: Running) -> None:
    answer = edit(server, images=[{"file_id": "nobody"}])
    assert (answer.status, answer.body["error"]["param"], answer.body["error"]["code"]) == (
        404,
        "images",
        "not_found",
    )
    assert "there is no image 'nobody'" in answer.body["error"]["message"]


def test_json_is_json_however_it_is_spelt(server: Running) -> None:
    body = {"images": [{"image_url": data_url(png(), "data:image/png;charset=utf-8;base64")}]}
    kind = {"content-type": "Application/JSON ; charset=utf-8"}
    assert call(server.url, "/v1/images/edits", body, **kind).status == 200


def test_a_text_that_comes_as_a_file_is_refused(server: Running) -> None:
    answer = form(server.url, "/v1/images/edits", ("prompt", b"cat"), ("image", png()))
    assert refused(answer, "prompt") == "prompt must be text, got a file"


def test_a_file_that_comes_as_text_is_refused(server: Running) -> None:
    answer = form(server.url, "/v1/images/edits", ("mask", "x"), ("image", png()))
    assert refused(answer, "mask") == "mask must be a file, got text"
    answer = form(server.url, "/v1/images/edits", ("mask", png()), ("mask", png()), ("image", png()))
    assert refused(answer, "mask") == "mask must be one file, got 2"


def test_an_edit_follows_a_sketch_too(server: Running) -> None:
    sketch, other = Image.new("RGB", (16, 16), "red"), png((16, 16))
    buffer = io.BytesIO()
    sketch.save(buffer, "PNG")
    asked = {"seed": 1, "strength": 1.0}
    plain, steered = edit(server, **asked), edit(server, **asked, control=data_url(buffer.getvalue()))
    assert len(record_of(steered).parents) == 2
    parts = ("image", png()), ("seed", "1"), ("strength", "1"), ("control", other), ("prompt", "cat")
    filed = form(server.url, "/v1/images/edits", *parts)
    assert len({image_of(answer) for answer in (plain, steered, filed)}) == 3
    assert len(record_of(filed).parents) == 2


# prompts and answers


def test_a_prompt_of_the_clients_comes_before_the_records(server: Running) -> None:
    url = data_url(image_of(draw(server.url, "red apple")))
    for fields, prompt in (({}, "red apple"), ({"prompt": ""}, ""), ({"prompt": None}, "red apple")):
        answer = call(server.url, "/v1/images/variations", {"images": [{"image_url": url}], **fields})
        assert record_of(answer).prompt == prompt


def test_a_model_without_prompts_makes_variations_of_a_picture_with_one(server: Running, tiny: TinyModels) -> None:
    url = data_url(image_of(draw(server.url, "red apple")))
    spec = tiny.student.spec
    others = {name: component for name, component in spec.components.items() if name != "prompt"}
    bare = replace(tiny.student, spec=replace(spec, components=others))
    model = Model(bare, lambda x, time_at, time_to, cond: np.zeros_like(x), "onnx")
    with running(tiny, model=model) as promptless:
        answer = call(promptless.url, "/v1/images/variations", {"images": [{"image_url": url}]})
    assert record_of(answer).prompt == ""


def test_a_picture_whose_record_is_none_is_a_picture(server: Running) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("fewstep", '{"format_version":1,"prompt":' + "[" * 700 + "]" * 700 + "}")
    answer = call(server.url, "/v1/images/edits", {"images": [{"image_url": data_url(png(pnginfo=text))}]})
    assert answer.status == 200


def test_what_a_recogniser_sees_is_told(tiny: TinyModels) -> None:
    model = fewstep.load("emoji", threads=1)
    plan = model.plan(fewstep.Request("a red apple", seed=7))
    *_, last = model.run(plan)
    verdict = Recogniser(model.saved.judge)(last.pixels)
    with running(tiny, model=model, max_batch=1) as server:
        (image,) = draw(server.url, "a red apple", seed=7).body["data"]
    assert image["recognised"] == verdict.names[0]
    assert image["confidence"] == pytest.approx(float(verdict.confidence[0]), abs=1e-3)


def test_a_webp_of_full_quality_loses_nothing(server: Running) -> None:
    whole, webp, lossy = (
        image_of(draw(server.url, seed=1, size="64x64", **asked))
        for asked in ({}, {"output_format": "webp"}, {"output_format": "webp", "output_compression": 30})
    )
    opened = [Image.open(io.BytesIO(file)).convert("RGBA").tobytes() for file in (whole, webp, lossy)]
    assert opened[0] == opened[1] != opened[2]


def test_a_partial_image_is_of_the_quality_asked_for(server: Running) -> None:
    def size(quality: int) -> int:
        asked = {"stream": True, "partial_images": 1, "steps": 2, "seed": 1, "size": "128x128"}
        answer = draw(server.url, **asked, output_format="jpeg", output_compression=quality)
        return len(answer.data.split(b"\n\n")[0])

    assert size(10) < size(100) / 2


@pytest.mark.parametrize(("format", "width"), [("webp", 16_384), ("jpeg", 65_501)])
def test_an_image_wider_than_its_format_is_refused_before_it_is_drawn(
    server: Running, format: str, width: int
) -> None:
    image, mask = Image.new("RGB", (width, 8)), Image.new("L", (width, 8), 255)
    files = []
    for picture in (image, mask):
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        files.append(buffer.getvalue())
    parts = ("image", files[0]), ("mask", files[1]), ("output_format", format), ("background", "white")
    said = refused(form(server.url, "/v1/images/edits", *parts), "output_format")
    assert f"at most {width - 1} pixels a side, got {width}" in said


def test_a_start_near_clean_tells_the_jumps_it_made_and_shows_no_partial_image(server: Running) -> None:
    answer = edit(server, steps=4, strength=0.1)
    assert (answer.body["steps"], answer.body["network_evaluations"]) == (1, 1)
    events = edit(server, steps=4, strength=0.1, stream=True, partial_images=3)
    assert b"partial_image" not in events.data
    assert b"image_edit.completed" in events.data


def test_the_record_and_the_answer_tell_the_same_times(tiny: TinyModels) -> None:
    answer = None
    gate = Gate()
    with running(tiny, through=gate) as server:
        answer = draw(server.url, seed=5)
    told, kept = answer.body["timings"], record_of(answer).timings
    assert {name: told[name] for name in kept} == kept
    assert {"model", "queue"} <= kept.keys()


@pytest.mark.parametrize(
    ("path", "status", "said"), [("/v1/imagine", 404, "/v1/imagine"), ("/v1/models", 405, "GET")]
)
def test_what_is_not_there_is_told_with_what_is(server: Running, path: str, status: int, said: str) -> None:
    answer = call(server.url, path, {})
    assert answer.status == status
    assert said in answer.body["error"]["message"]


# room


def test_pictures_are_counted_until_they_go() -> None:
    pictures = ImageDecoder(max_pixels=300, max_held_pixels=500)
    first = pictures.open(png(), "image")
    second = pictures.open(data_url(png()), "image")
    assert pictures.held == 480
    with pytest.raises(Busy) as full:
        pictures.open(png(), "image")
    assert full.value.retry_after > 0
    gone = weakref.ref(first)
    del first
    assert gone() is None
    assert pictures.held == 240
    assert pictures.open(png(), "image").size == second.size
    with pytest.raises(InputError, match="not an image"):
        pictures.open(png()[:150], "image")
    del second
    assert pictures.held == 0


def test_one_picture_alone_is_taken_in_any_case() -> None:
    pictures = ImageDecoder(max_pixels=300, max_held_pixels=100)
    assert pictures.open(png(), "image").size == (20, 12)
    with pytest.raises(InputError, match="at most 300 pixels, got 40x12"):
        pictures.open(png((40, 12)), "image")


def test_edits_that_wait_hold_what_their_masks_keep_and_no_more(tiny: TinyModels) -> None:
    gate = Gate()
    with running(tiny, through=gate, jobs=1, max_held_pixels=800) as server:
        gate.open.clear()
        mask = {"image_url": data_url(png())}
        runtime, jobs = server.runtime, []
        for fields, held in (({}, 0), ({}, 0), ({"mask": mask}, 240), ({"mask": mask}, 480)):
            jobs.append(_later(server, fields))
            until(lambda: runtime.waiting + runtime.running == len(jobs), 5)
            until(partial(_holds, server, held), 5)
        full = edit(server, mask=mask)
        assert (full.status, full.body["error"]["code"]) == (429, "memory_full")
        gate.open.set()
        for thread, answers in jobs:
            thread.join()
            assert answers[0].status == 200
        until(partial(_holds, server, 0))


def test_a_full_queue_is_told_before_a_picture_is_decoded(tiny: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    with running(tiny, through=gate, jobs=1, max_waiting=0) as server:
        gate.open.clear()
        thread, answers = _later(server, {})
        assert gate.entered.acquire(timeout=20)
        monkeypatch.setattr(server.decoder, "open", lambda *args: pytest.fail("it was decoded"))
        assert edit(server).status == 429
        gate.open.set()
        thread.join()
        assert answers[0].status == 200


def _holds(server: Running, pixels: int) -> bool:
    return server.decoder.held == pixels


def _later(server: Running, fields: dict[str, Any]) -> Any:
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(edit(server, **fields)))
    thread.start()
    return thread, answers
