"""Colours, detail, clean pictures and interpolations over HTTP and MCP."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from openai import BadRequestError, OpenAI
from PIL import Image

from fewstep.generation import Edit, Request
from servers import Running
from tiny_models import TinyModels, onnx


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def noisy(side: int) -> Image.Image:
    bands = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (side, side), np.uint8)) for i in range(3)]
    return Image.merge("RGBA", [*bands, Image.new("L", (side, side), 255)])


def client(server: Running) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def opened(answer: Any, index: int = 0) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(answer.data[index].b64_json)))


@pytest.mark.parametrize(
    ("side", "edit", "made"),
    [
        (20, {"edit": "colorize"}, lambda image: Edit.colorize(image)),
        (8, {"edit": "super-resolve", "fit": 1}, lambda image: Edit.super_resolve(image, fit=1)),
        (20, {"edit": "denoise", "noise": 0.2}, lambda image: Edit.denoise(image, noise=0.2)),
    ],
)
def test_an_edit_is_what_python_draws(
    server: Running, tiny: TinyModels, side: int, edit: dict[str, Any], made: Any
) -> None:
    image = noisy(side)
    answer = client(server).images.edit(image=("a.png", png(image)), prompt="cat", extra_body={"seed": 3, **edit})
    plain = onnx(tiny.student).generate_all(Request("cat", seed=3, edit=made(image)))[0]
    assert opened(answer).size == plain.size
    assert np.abs(np.asarray(opened(answer)).astype(int) - np.asarray(plain)).max() <= 2
    assert answer.model_extra["network_evaluations"] == plain.record.network_evaluations


@pytest.mark.parametrize(
    ("side", "edit", "param", "said"),
    [
        (20, {"edit": "sharpen"}, "edit", "one of colorize, super-resolve, denoise, got 'sharpen'"),
        (20, {"edit": "super-resolve"}, "image", "image must be at most 8x8"),
        (20, {"edit": "denoise", "noise": 2}, "noise", "at most 1, got 2"),
        (20, {"edit": "denoise", "strength": 0.5}, "strength", "the edit 'denoise' takes no strength"),
        (20, {"noise": 0.1}, "noise", "an edit other than 'denoise' takes no noise"),
        (20, {"edit": "colorize", "fit": 8, "steps": 4}, "fit", "at most 64, got 8 with 4 steps"),
        (20, {"edit": "colorize", "steps": 8, "prompt": ""}, "fit", "at most 64, got 4 with 8 steps"),
    ],
)
def test_what_cannot_be_is_told(server: Running, side: int, edit: dict[str, Any], param: str, said: str) -> None:
    edit = dict(edit)
    with pytest.raises(BadRequestError) as refused:
        client(server).images.edit(
            image=("a.png", png(noisy(side))), prompt=edit.pop("prompt", "cat"), extra_body=edit
        )
    assert refused.value.param == param
    assert said in str(refused.value)


def test_a_way_is_drawn_in_one_request(server: Running) -> None:
    def drawn(prompt: str, **more: Any) -> Any:
        return client(server).images.generate(prompt=prompt, n=more.pop("n", 1), extra_body=more)

    way = drawn("cat", n=3, seed=1, to_prompt="dog face", to_seed=2)
    assert [image.model_extra["seed"] for image in way.data] == [1, 1, 1]
    ends = [drawn("cat", seed=1), drawn("dog face", seed=2)]
    for index, end in ((0, ends[0]), (2, ends[1])):
        assert np.abs(np.asarray(opened(way, index)).astype(int) - np.asarray(opened(end))).max() <= 1
    middle = drawn("cat", seed=1, to_prompt="dog face", to_seed=2, position=0.5)
    assert np.abs(np.asarray(opened(way, 1)).astype(int) - np.asarray(opened(middle))).max() <= 1


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"to_seed": -1}, "to_seed"),
        ({"to_prompt": "x"}, "n"),
        ({"to_prompt": "x", "position": 2}, "position"),
        ({"position": 0.5}, "position"),
        ({"to_prompt": "x" * 33_000, "position": 0.5}, "to_prompt"),
    ],
)
def test_a_way_that_cannot_be_is_told(server: Running, asked: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        client(server).images.generate(prompt="cat", extra_body=asked)
    assert refused.value.param == param
