"""A model whose pixels pass through a learned codec: drawn, edited and served as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewstep.engines.component_networks import running
from fewstep.engines.errors import EngineError
from fewstep.generation import Edit, Model, Request, RequestError, load
from fewstep.models.codecs import LearnedCodec
from fewstep.models.saved import SavedModel, read
from latent_models import FACTOR, PIXELS, latent_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    return latent_model(tmp_path_factory.mktemp("latent") / "tiny-latent")


@pytest.fixture(scope="module")
def model(saved: SavedModel) -> Model:
    return load(saved.directory, threads=1)


def pixels(image: Image.Image) -> Any:
    return np.asarray(image.convert("RGBA"))


def test_its_pictures_are_cells_of_one_colour_that_differ_by_seed_and_label(model: Model) -> None:
    first, other = (pixels(model.generate(label=1, seed=seed)) for seed in (1, 2))
    cells = first.reshape(PIXELS[1] // FACTOR, FACTOR, PIXELS[2] // FACTOR, FACTOR, 4)
    assert np.array_equal(cells, np.broadcast_to(cells[:, :1, :, :1], cells.shape))
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, pixels(model.generate(label=2, seed=1)))


def test_an_image_does_not_depend_on_its_batch(model: Model) -> None:
    several = model.generate_all(Request(label=0, seed=5, images=3, steps=2))
    for i, image in enumerate(several):
        assert np.array_equal(pixels(image), pixels(model.generate(label=0, seed=5 + i, steps=2)))


def test_a_control_image_passes_through_the_codec(model: Model) -> None:
    sketch = Image.new("RGBA", (16, 16), (200, 30, 30, 255))
    assert not np.array_equal(
        pixels(model.generate(label=0, seed=1)), pixels(model.generate(label=0, seed=1, control=sketch))
    )


@pytest.mark.parametrize("size", [(16, 16), (40, 40)])
def test_what_a_mask_keeps_comes_back_to_the_bit(model: Model, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    colours[..., 3] = 255
    image, mask = Image.fromarray(colours), Image.new("L", size, 0)
    mask.paste(255, (3, 3, 9, 9))
    edited = pixels(model.generate_all(Request(label=1, seed=1, edit=Edit(image, mask)))[0])
    inside = np.asarray(mask) > 0
    assert np.array_equal(edited[~inside], colours[~inside])
    assert not np.array_equal(edited[inside], colours[inside])


def test_an_edit_of_single_pixels_is_refused_before_it_runs(model: Model) -> None:
    image = Image.new("RGBA", (16, 16), (10, 200, 30, 255))
    with pytest.raises(RequestError, match=r"the edit 'colorize' constrains single pixels.*LearnedCodec") as error:
        model.plan(Request(edit=Edit.colorize(image)))
    assert error.value.field == "edit"


def test_the_codecs_own_engine_draws_the_same_on_either(tmp_path: Path, model: Model) -> None:
    other = load(latent_model(tmp_path / "m", engine="openvino").directory, threads=1)
    one, two = (each.generate(label=1, seed=3) for each in (model, other))
    assert np.abs(pixels(one).astype(int) - pixels(two).astype(int)).max() <= 1


def test_an_engine_that_cannot_run_the_codec_says_so(tmp_path: Path) -> None:
    directory = latent_model(tmp_path / "m", engine="eager").directory
    with pytest.raises(EngineError, match="the component 'encoder' is only an exported network: use engine 'onnx'"):
        load(directory)


def test_a_codec_without_its_networks_says_how_to_get_them(saved: SavedModel) -> None:
    codec = read(saved.directory).spec.codec
    assert isinstance(codec, LearnedCodec)
    with pytest.raises(RuntimeError, match="the codec's network 'encoder' is not running: load the model"):
        codec.encode(np.zeros((1, *PIXELS), dtype=np.float32))
    assert running(saved).spec.codec.encode(np.zeros((1, *PIXELS), dtype=np.float32)).shape == (1, 8, 4, 4)
    with pytest.raises(ValueError, match="multiples of 4, got 16 and 18"):
        codec.shape((4, 16, 18))


def test_a_model_without_learned_parts_is_given_back_as_it_is(tiny: Any) -> None:
    assert running(tiny.student) is tiny.student
