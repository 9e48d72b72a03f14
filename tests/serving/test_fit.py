"""Corrections of an edit's noise, asked for with OpenAI's client."""

from __future__ import annotations

import io
from typing import Any

import pytest
from openai import BadRequestError, OpenAI
from PIL import Image

from servers import Running


def drawn(server: Running, mask: bool = True, **more: Any) -> Any:
    def png(picture: Image.Image) -> tuple[str, bytes]:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        return "a.png", buffer.getvalue()

    client = OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    image = png(Image.effect_noise((20, 12), 90))
    half = Image.new("RGBA", (20, 12), "black")
    half.paste((0, 0, 0, 0), (10, 0, 20, 12))
    extra = {"mask": png(half)} if mask else {}
    return client.images.edit(image=image, prompt=more.pop("prompt", "cat"), extra_body=more, **extra)


@pytest.mark.parametrize(
    ("asked", "evaluations"),
    [({"steps": 1}, 1), ({"steps": 1, "prompt": ""}, 3), ({"steps": 2, "fit": 0, "prompt": ""}, 2),
     ({"steps": 2, "fit": 2}, 10)],
)  # fmt: skip
def test_an_edit_is_fitted_as_often_as_asked(server: Running, asked: dict[str, Any], evaluations: int) -> None:
    assert drawn(server, **asked).model_extra["network_evaluations"] == evaluations


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"fit": 9}, "8"),
        ({"fit": -1}, "0"),
        ({"fit": "often"}, "got 'often'"),
        ({"fit": 1, "mask": False}, "fit needs a mask"),
        ({"fit": 8, "steps": 4}, "at most 64, got 8 with 4 steps"),
    ],
)
def test_what_cannot_be_fitted_is_told(server: Running, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        drawn(server, **asked)
    assert refused.value.param == "fit"
    assert said in str(refused.value)
