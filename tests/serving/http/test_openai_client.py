"""The official client against a running server: what it sends is understood, what it gets it understands."""

from __future__ import annotations

import asyncio
import base64
import io
import urllib.request
from collections.abc import Callable
from typing import Any

import numpy as np
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from PIL import Image, ImageDraw

from fewstep import pictures
from servers import Running, until
from tiny_models import SIDE, TinyModels, onnx


@pytest.fixture
def client(server: Running) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def decoded(b64: str | None) -> Image.Image:
    assert b64 is not None
    image = Image.open(io.BytesIO(base64.b64decode(b64)))
    image.load()
    return image


def a_png(size: tuple[int, int] = (40, 24), colour: str = "orange") -> bytes:
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).ellipse((4, 4, size[0] - 8, size[1] - 4), fill=colour)
    return as_png(picture)


def as_png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def own(thing: Any) -> dict[str, Any]:
    """What the client keeps of fields it does not know."""
    return dict(thing.model_extra or {})


def test_an_image_is_the_one_that_python_draws(client: OpenAI, tiny: TinyModels) -> None:
    answer = client.images.generate(prompt="red apple", model="tiny", extra_body={"seed": 7, "steps": 2})
    image = decoded(answer.data[0].b64_json)
    there = np.asarray(onnx(tiny.student).generate("red apple", seed=7, steps=2)).astype(int)
    assert np.abs(np.asarray(image).astype(int) - there).max() <= 1
    assert (answer.size, answer.output_format, answer.background) == (f"{SIDE}x{SIDE}", "png", "transparent")
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert own(answer)["model"] == "tiny"
    assert own(answer)["steps"] == own(answer)["network_evaluations"] == 2
    assert own(answer)["resampled"] is False
    assert set(own(answer)["timings"]) >= {"queue", "encode", "model", "decode", "encode_image"}
    assert own(answer.data[0])["seed"] == 7


def test_an_image_carries_its_record(client: OpenAI) -> None:
    answer = client.images.generate(prompt="red apple", extra_body={"seed": 7})
    record = pictures.read_record(base64.b64decode(answer.data[0].b64_json))
    assert record is not None
    assert (record.prompt, record.seed, record.model) == ("red apple", 7, "tiny")


def test_several_images_count_their_seeds_up_and_differ(client: OpenAI) -> None:
    answer = client.images.generate(prompt="cat face", n=3, extra_body={"seed": 5})
    assert [own(image)["seed"] for image in answer.data] == [5, 6, 7]
    assert len({image.b64_json for image in answer.data}) == 3


@pytest.mark.parametrize(("asked", "format"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_every_format_comes_as_asked(client: OpenAI, asked: Any, format: str) -> None:
    answer = client.images.generate(prompt="cat", output_format=asked, output_compression=50)
    assert decoded(answer.data[0].b64_json).format == format
    assert answer.output_format == asked


def test_another_size_is_resampled_and_said_so(client: OpenAI) -> None:
    answer = client.images.generate(prompt="cat", size="64x48")  # type: ignore[call-overload]
    assert decoded(answer.data[0].b64_json).size == (64, 48)
    assert own(answer)["resampled"] is True
    assert own(answer)["native_size"] == f"{SIDE}x{SIDE}"


def test_backgrounds_are_transparent_opaque_or_a_colour(client: OpenAI) -> None:
    modes = {
        background: decoded(client.images.generate(prompt="cat", background=background).data[0].b64_json).mode
        for background in ("transparent", "auto", "opaque")
    }
    assert modes == {"transparent": "RGBA", "auto": "RGBA", "opaque": "RGB"}


def test_a_url_gives_the_same_file_and_cannot_be_guessed(client: OpenAI) -> None:
    answer = client.images.generate(prompt="cat", response_format="url", extra_body={"seed": 3})
    url = answer.data[0].url
    assert url is not None
    assert len(url.rsplit("/", 1)[1]) >= 20
    fetched = urllib.request.urlopen(url)
    assert fetched.headers["content-type"] == "image/png"
    there = client.images.generate(prompt="cat", extra_body={"seed": 3}).data[0]
    assert Image.open(io.BytesIO(fetched.read())).tobytes() == decoded(there.b64_json).tobytes()


def test_urls_begin_where_a_proxy_is_reached(serve: Callable[..., Running]) -> None:
    server = serve(public_url="https://images.example.org/drawn/")
    client = OpenAI(base_url=f"{server.url}/v1", api_key="none")
    (image,) = client.images.generate(prompt="cat", response_format="url").data
    address, _, query = str(image.url).partition("?")
    assert address == f"https://images.example.org/drawn/v1/images/files/{own(image)['id']}"
    assert query.startswith("signature=")


def test_unknown_words_and_near_captions_come_with_the_image(client: OpenAI) -> None:
    image = client.images.generate(prompt="a zyzzyva with a rocket").data[0]
    assert own(image)["unknown_words"] == ["zyzzyva"]
    assert own(image)["nearest_captions"][0][0] == "rocket"


@pytest.mark.parametrize("partials", [0, 1, 2, 3])
def test_a_stream_shows_real_intermediate_images(client: OpenAI, partials: int) -> None:
    events = list(
        client.images.generate(prompt="cat", stream=True, partial_images=partials, extra_body={"seed": 4, "steps": 4})
    )
    assert [event.type for event in events] == [
        *["image_generation.partial_image"] * partials,
        "image_generation.completed",
    ]
    assert [event.partial_image_index for event in events[:-1]] == list(range(partials))
    whole = client.images.generate(prompt="cat", extra_body={"seed": 4, "steps": 4}).data[0]
    assert np.array_equal(decoded(events[-1].b64_json), decoded(whole.b64_json))
    shown = {decoded(event.b64_json).tobytes() for event in events}
    assert len(shown) == len(events)


def test_one_step_has_nothing_to_show_before_its_end(client: OpenAI) -> None:
    events = list(client.images.generate(prompt="cat", stream=True, partial_images=3, extra_body={"steps": 1}))
    assert [event.type for event in events] == ["image_generation.completed"]


def test_an_edit_keeps_what_its_mask_keeps(client: OpenAI) -> None:
    original = Image.open(io.BytesIO(a_png())).convert("RGBA")
    mask = Image.new("RGBA", original.size, (0, 0, 0, 255))
    ImageDraw.Draw(mask).rectangle((20, 0, 39, 23), fill=(0, 0, 0, 0))
    answer = client.images.edit(
        image=("a.png", a_png()), mask=("m.png", as_png(mask)), prompt="cat", extra_body={"seed": 1}
    )
    edited = np.asarray(decoded(answer.data[0].b64_json))
    assert np.array_equal(edited[:, :20], np.asarray(original)[:, :20])
    assert not np.array_equal(edited[:, 20:], np.asarray(original)[:, 20:])


def test_an_edit_may_be_a_list_of_one_and_stream(client: OpenAI) -> None:
    events = list(
        client.images.edit(
            image=[("a.png", a_png())], prompt="cat", stream=True, partial_images=1, extra_body={"steps": 3}
        )
    )
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]


def test_an_edit_may_come_as_json_with_data_urls(client: OpenAI) -> None:
    url = f"data:image/png;base64,{base64.b64encode(a_png()).decode()}"
    answer = client.post(
        "/images/edits", cast_to=dict, body={"images": [{"image_url": url}], "prompt": "cat", "n": 2}
    )
    assert len(answer["data"]) == 2


def test_variations_differ_from_each_other(client: OpenAI) -> None:
    with pytest.deprecated_call():
        answer = client.images.create_variation(image=("a.png", a_png()), n=2, response_format="b64_json")
    assert len({image.b64_json for image in answer.data}) == 2


def test_models_are_listed_and_aliases_lead_to_the_one_there_is(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("gpt-image-1").id == "tiny"
    assert own(client.images.generate(prompt="cat", model="dall-e-3"))["model"] == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"size": "64"}, None),
        ({"size": "9x"}, "size"),
        ({"size": "1x1"}, "size"),
        ({"size": "99999x99999"}, "size"),
        ({"background": "plaid"}, "background"),
        ({"background": "transparent", "output_format": "jpeg"}, "background"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_compression": 101}, "output_compression"),
        ({"partial_images": 4, "stream": True}, "partial_images"),
        ({"prompt": "x" * 33_000}, "prompt"),
        ({"model": "nobody"}, "model"),
        ({"extra_body": {"seed": -1}}, "seed"),
        ({"extra_body": {"seed": "many"}}, "seed"),
        ({"extra_body": {"steps": 0}}, "steps"),
        ({"extra_body": {"steps": 65}}, "steps"),
        ({"extra_body": {"guidance": 9}}, "guidance"),
        ({"extra_body": {"negative_prompt": "dog"}}, "negative_prompt"),
        ({"extra_body": {"sampler": "nobody"}}, "sampler"),
        ({"extra_body": {"label": 1}}, "label"),
    ],
)
def test_what_is_wrong_is_named(client: OpenAI, wrong: dict[str, Any], param: str | None) -> None:
    asked = {"prompt": "cat", **wrong}
    if param is None:
        client.images.generate(**asked)
        return
    with pytest.raises(openai.APIStatusError) as refused:
        client.images.generate(**asked)
    assert 400 <= refused.value.status_code < 500
    assert isinstance(refused.value.body, dict)
    assert set(refused.value.body) == {"message", "type", "param", "code"}
    assert refused.value.body["param"] == param


def test_the_async_client_draws_many_at_a_time(server: Running) -> None:
    async def many() -> list[Any]:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            return await asyncio.gather(
                *(client.images.generate(prompt="cat", extra_body={"seed": seed}) for seed in range(40))
            )

    answers = asyncio.run(many())
    assert [own(answer.data[0])["seed"] for answer in answers] == list(range(40))


def test_a_superseded_request_is_not_tried_again(serve: Callable[..., Running]) -> None:
    server = serve(jobs=1)

    async def storm() -> list[Any]:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=2) as client:
            return await asyncio.gather(
                *(
                    client.images.generate(prompt="cat", extra_body={"seed": seed, "steps": 8, "session": "canvas"})
                    for seed in range(30)
                ),
                return_exceptions=True,
            )

    answers = asyncio.run(storm())
    drawn = [answer for answer in answers if not isinstance(answer, Exception)]
    refused = [answer for answer in answers if isinstance(answer, Exception)]
    assert drawn
    assert refused
    for error in refused:
        assert isinstance(error, openai.APIStatusError)
        assert error.status_code == 499
        assert error.response.headers["x-should-retry"] == "false"  # other clients go by it too
    until(lambda: answered(server) >= len(answers))
    assert answered(server) == len(answers)


def answered(server: Running) -> float:
    """How many requests for images were answered."""
    counts = server.metrics.text().decode().splitlines()
    route = 'fewstep_http_request_seconds_count{route="/v1/images/generations"'
    return sum(float(line.split()[-1]) for line in counts if line.startswith(route))


def test_a_full_queue_says_when_to_come_back(serve: Callable[..., Running]) -> None:
    server = serve(jobs=1, max_waiting=1)

    async def crowd() -> list[Any]:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(
                *(client.images.generate(prompt="cat", extra_body={"steps": 16}) for _ in range(20)),
                return_exceptions=True,
            )

    refused = [error for error in asyncio.run(crowd()) if isinstance(error, openai.RateLimitError)]
    assert refused
    headers = refused[0].response.headers
    assert int(headers["retry-after-ms"]) >= 50
    assert 0 <= 1000 * int(headers["retry-after"]) - int(headers["retry-after-ms"]) <= 1000
