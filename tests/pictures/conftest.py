"""A record with every field filled in, and the picture it is about."""

import pytest
from PIL import Image

from fewstep.pictures import Record


@pytest.fixture
def record() -> Record:
    return Record(
        prompt="a red fox, sitting",
        negative_prompt="blurry",
        seed=7,
        index=1,
        steps=4,
        levels=[(0.0, 1.0), (0.3, 0.95), (0.7, 0.7), (0.9, 0.4), (1.0, 0.0)],
        sampler="consistency",
        sampler_settings={"renoise": True, "churn": [0.1, 2], "inner": {"eta": None}},
        guidance=2.5,
        network_evaluations=4,
        size=(12, 8),
        native_size=(6, 4),
        background="white",
        model="emoji",
        model_hash="sha256:0123456789abcdef0123456789abcdef",
        recipe="emoji_consistency",
        parents=["00112233445566778899aabbccddeeff"],
        unknown_words=["quokka"],
        nearest_captions=[("fox", 0.91), ("wolf", 0.74)],
        engine="onnx",
        precision="float32",
        software={"fewstep": "0.1.0", "numpy": "2.1.0"},
        device="x86_64",
        timings={"encode": 0.4, "network": 81.25},
        extra={"from_the_future": {"a": [1, 2.5, None, True, "é"]}},
    )


@pytest.fixture
def sticker() -> Image.Image:
    """12×8 RGBA: alpha rises from left to right, and every pixel has its own colour."""
    picture = Image.new("RGBA", (12, 8))
    picture.putdata([(20 * x, 30 * y, 128, 23 * x) for y in range(8) for x in range(12)])
    return picture
