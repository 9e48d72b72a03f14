"""What an answer says is what it holds."""

from __future__ import annotations

import base64
import io
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, OpenAI
from PIL import Image

from fewstep import pictures
from fewstep.serving.http.keys import new_key
from servers import Running


def client_of(server: Running, key: str = "none") -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def picture(encoded: str | None) -> Image.Image:
    assert encoded is not None
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


@pytest.mark.parametrize(
    ("asked", "mode"), [({}, "RGBA"), ({"size": "40x24", "background": "opaque"}, "RGB"), ({"size": "64x64"}, "RGBA")]
)
def test_every_event_of_a_stream_tells_its_pictures_size_and_background(
    server: Running, asked: dict[str, Any], mode: str
) -> None:
    stream = client_of(server).images.generate(
        prompt="cat", stream=True, partial_images=2, extra_body={"steps": 3, "seed": 1}, **asked
    )
    events = list(stream)
    assert [event.type.rsplit(".", 1)[-1] for event in events] == ["partial_image", "partial_image", "completed"]
    for event in events:
        shown = picture(event.b64_json)
        assert event.size == f"{shown.width}x{shown.height}" == asked.get("size", "16x16")
        assert shown.mode == mode
        assert event.background == ("transparent" if mode == "RGBA" else "opaque")


def test_a_partial_image_of_an_edit_keeps_what_the_mask_keeps(server: Running) -> None:
    original, mask = Image.new("RGB", (40, 30), "green"), Image.new("L", (40, 30), 0)
    mask.paste(255, (0, 0, 20, 30))
    files = {}
    for name, image in (("image", original), ("mask", mask)):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        files[name] = (f"{name}.png", buffer.getvalue())
    stream = client_of(server).images.edit(
        prompt="cat", stream=True, partial_images=1, extra_body={"steps": 2}, **files
    )
    for event in stream:
        right = picture(event.b64_json).convert("RGB").crop((20, 0, 40, 30))
        assert right.getcolors() == [(600, (0, 128, 0))]


def test_a_picture_that_brings_its_record_is_the_parent_of_its_edit(server: Running) -> None:
    client = client_of(server)
    drawn = client.images.generate(prompt="cat", extra_body={"seed": 1}).data[0]
    file = base64.b64decode(drawn.b64_json or "")
    record = pictures.read_record(file)
    assert record is not None
    varied = client.images.create_variation(image=("a.png", file)).data[0]
    child = pictures.read_record(base64.b64decode(varied.b64_json or ""))
    assert child is not None
    assert (child.parents, child.prompt) == ((record.id,), "cat")


def test_the_address_of_an_answer_needs_no_key(tmp_path: Path, serve: Callable[..., Running]) -> None:
    key, kept = new_key()
    (tmp_path / "keys").write_text(kept, encoding="utf-8")
    server = serve(keys_file=tmp_path / "keys")
    (image,) = client_of(server, key).images.generate(prompt="cat", response_format="url").data
    with urllib.request.urlopen(str(image.url)) as answer:
        assert Image.open(io.BytesIO(answer.read())).size == (16, 16)
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{server.url}/v1/models")


def test_too_many_images_are_refused_by_the_clients_own_name_for_them(server: Running) -> None:
    with pytest.raises(BadRequestError) as refused:
        client_of(server).images.generate(prompt="cat", n=10**9)
    assert refused.value.param == "n"


def test_with_no_room_to_wait_who_comes_alone_is_served(serve: Callable[..., Running]) -> None:
    server = serve(jobs=1, max_waiting=0)
    for seed in range(3):
        assert client_of(server).images.generate(prompt="cat", extra_body={"seed": seed}).data
