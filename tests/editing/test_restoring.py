"""Colours, detail and clean pictures of images that miss them, as people meet them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewstep.editing.layouts import Coloured, in_gamut, with_means
from fewstep.generation import Edit, Model, Request, RequestError
from fewstep.pictures import image_hash
from fewstep.pictures.pixels import from_image, noise_of
from tiny_models import SIDE, TinyModels, onnx


@pytest.fixture(scope="module")
def model(tiny: TinyModels) -> Model:
    return onnx(tiny.student)


def picture(size: tuple[int, int] = (SIDE, SIDE), mode: str = "RGBA") -> Image.Image:
    """Every pixel another colour; with alpha a disc of two transparencies."""
    y, x = np.mgrid[: size[1], : size[0]]
    far = np.hypot(x - size[0] / 2, y - size[1] / 2) / (size[0] / 2)
    alpha = np.where(far < 0.6, 255, np.where(far < 0.9, 140, 0))
    pixels = np.stack([x * 255 // size[0], y * 255 // size[1], (x + 7 * y) % 256, alpha], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def drawn(model: Model, edit: Edit, prompt: str = "", **choices: Any) -> Image.Image:
    return model.generate_all(Request(prompt, **{"seed": 1, **choices}, edit=edit))[0]


def greys(image: Image.Image) -> Any:
    return np.asarray(image.convert("L")).astype(int)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(SIDE, SIDE), (60, 40)])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_colorized_image_has_its_size_its_greys_and_its_transparency(
    model: Model, size: tuple[int, int], mode: str, steps: int
) -> None:
    original = picture(size, mode)
    made = drawn(model, Edit.colorize(original), steps=steps)
    assert (made.size, made.mode) == (size, "RGBA")
    whole = original.convert("RGBA")
    assert np.array_equal(np.asarray(made)[..., 3], np.asarray(whole)[..., 3])
    seen = np.asarray(whole)[..., 3] > 0
    assert np.abs(greys(made) - greys(whole))[seen].max() <= 1
    colours = np.asarray(made)[..., :3].astype(int)
    assert np.ptp(colours, axis=-1)[seen].max() > 5


def test_the_colours_of_the_original_are_not_looked_at(model: Model) -> None:
    coloured = picture()
    grey = coloured.convert("LA")
    for strength in (1.0, 0.6):
        once, again = (drawn(model, Edit.colorize(image, strength=strength)) for image in (coloured, grey))
        assert np.abs(np.asarray(once).astype(int) - np.asarray(again)).max() <= 4  # greys are bytes


@pytest.mark.parametrize(
    ("edit", "choices", "fit"),
    [("colorize", {}, 4), ("colorize", {"prompt": "cat"}, 0), ("super-resolve", {}, 4),
     ("super-resolve", {"prompt": "cat"}, 1)],
)  # fmt: skip
def test_what_is_kept_is_fitted_the_more_the_less_is_said(
    model: Model, edit: str, choices: dict[str, Any], fit: int
) -> None:
    made = drawn(model, Edit.named(edit, picture((8, 8))), steps=1, **choices)
    assert made.record.network_evaluations == 1 + 2 * fit
    settings = dict(made.record.sampler_settings)
    assert settings == {"edit": edit, "strength": 1.0} | ({"fit": fit} if fit else {})
    assert made.record.parents == (image_hash(picture((8, 8))),)
    from_image_on = drawn(model, Edit.named(edit, picture((8, 8)), strength=0.5), steps=1)
    assert from_image_on.record.network_evaluations == 1


def means(image: Image.Image, factor: int) -> Any:
    pixels = np.asarray(image.convert("RGBa")).astype(float)
    return pixels.reshape(SIDE // factor, factor, SIDE // factor, factor, 4).mean(axis=(1, 3))


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_means_of_blocks_are_the_small_images_pixels(model: Model, factor: int, steps: int) -> None:
    small = picture((SIDE // factor, SIDE // factor))
    made = drawn(model, Edit.super_resolve(small), steps=steps)
    assert made.size == (SIDE, SIDE)
    given = np.asarray(small.convert("RGBa")).astype(float)
    assert np.abs(means(made, factor) - given).max() <= 1.5  # bytes, once straight and once premultiplied
    assert (
        np.abs(np.asarray(made.convert("RGBa")).astype(float) - given.repeat(factor, 0).repeat(factor, 1)).max() > 5
    )


def test_one_pixel_is_enlarged_to_the_whole_picture(model: Model) -> None:
    assert Edit.super_resolve(picture((1, 1))).prepared(model.spec).layout.means.shape == (4, 1, 1)


def test_an_image_between_two_sizes_is_enlarged_to_the_next_and_one_of_another_shape_keeps_it(model: Model) -> None:
    assert Edit.super_resolve(picture((3, 3))).prepared(model.spec).layout.means.shape == (4, 4, 4)
    made = drawn(model, Edit.super_resolve(picture((8, 4), "RGB")), size=(64, 32))
    assert made.size == (64, 32)
    margin = np.asarray(drawn(model, Edit.super_resolve(picture((8, 4), "RGBA"))))[:4, :, 3]
    assert margin.max() == 0  # above a wide image nothing is drawn


@pytest.mark.parametrize("size", [(16, 16), (9, 4), (4, 9)])
def test_an_image_that_is_not_smaller_is_refused(model: Model, size: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match=f"at most 8x8, half of what .* got {size[0]}x{size[1]}") as refused:
        drawn(model, Edit.super_resolve(picture(size)))
    assert refused.value.field == "image"


def test_a_noisy_image_goes_in_as_it_is_at_its_own_level(model: Model) -> None:
    plan = model.plan(Request("cat", seed=1, images=2, edit=Edit.denoise(picture(), noise=0.1)))
    codec = model.spec.codec
    pixels = from_image(picture(), model.spec.pixels, model.spec.pixel_format)
    assert plan.sampling.levels.sigma[0] / plan.sampling.levels.alpha[0] == pytest.approx(
        0.1 * codec.gains(4)[0], rel=1e-6
    )
    seen = []
    network = model.network

    def watched(x: Any, *rest: Any) -> Any:
        seen.append(x)
        return network(x, *rest)

    (only,) = model.run(plan, watched)
    scale = float((seen[0][0] / codec.encode(pixels[None])[0])[0, 0, 0])
    np.testing.assert_allclose(seen[0][0], scale * codec.encode(pixels[None])[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(only.jump.x[0], only.jump.x[1])  # no seed has a part in it
    record = drawn(model, Edit.denoise(picture(), noise=0.1)).record
    assert dict(record.sampler_settings) == {"edit": "denoise", "noise": 0.1}
    assert (record.steps, record.network_evaluations) == (1, 1)


def test_the_diffusion_teacher_denoises_in_one_step_too(tiny: TinyModels) -> None:
    assert drawn(onnx(tiny.teacher), Edit.denoise(picture(), noise=0.1)).record.steps == 1


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_noise_is_estimated_over_edges_and_plain_colour(noise: float) -> None:
    y, x = np.mgrid[:64, :64]
    clean = np.stack([0.2 + 0.6 * (np.hypot(x - 32, y - 32) < 20), 0.5 + 0 * x, x / 128 + 0.2])
    noisy = clean + noise * np.random.default_rng(0).standard_normal(clean.shape)
    noisy[:, :12] = 0.0  # clipped, as transparent pixels are
    assert noise_of(noisy) == pytest.approx(noise, rel=0.1)
    assert noise_of(np.full((3, 8, 8), 0.3)) == 0.0


@pytest.mark.parametrize(
    ("make", "field", "said"),
    [
        (lambda: Edit.denoise(picture(), noise=0.0), "noise", "above 0 and at most 1, got 0"),
        (lambda: Edit.denoise(picture(), noise=True), "noise", "got true"),
        (lambda: Edit.denoise("a.png"), "image", "must be a Pillow image"),
        (lambda: Edit.colorize(picture(), fit=9), "fit", "between 0 and 8, got 9"),
        (lambda: Edit.super_resolve(picture(), strength=2.0), "strength", "at most 1, got 2"),
        (lambda: Edit.named("sharpen", picture()), "edit", "one of colorize, super-resolve, denoise, got 'sharpen'"),
        (lambda: Edit.named("denoise", picture(), fit=1), "fit", "'denoise' takes no fit"),
        (lambda: Edit.named("denoise", picture(), strength=0.4), "strength", "takes no strength"),
        (lambda: Edit.named("colorize", picture(), picture()), "mask", "'colorize' takes no mask"),
        (lambda: Edit.named(None, picture(), noise=0.1), "noise", "other than 'denoise' takes no noise"),
    ],
)
def test_what_is_wrong_is_named(make: Any, field: str, said: str) -> None:
    with pytest.raises(RequestError, match=said) as refused:
        make()
    assert refused.value.field == field


def test_an_image_without_noise_must_say_how_much(model: Model) -> None:
    with pytest.raises(RequestError, match="seems to have none") as refused:
        drawn(model, Edit.denoise(Image.new("RGBA", (SIDE, SIDE), "red")))
    assert refused.value.field == "noise"


def test_an_opaque_model_colours_an_image_on_white() -> None:
    drawn, original = picture(mode="RGB"), picture((40, 60))
    made = Coloured(original).laid_back(drawn, (40, 60))
    white = Image.alpha_composite(Image.new("RGBA", (40, 60), "white"), original)
    assert (made.mode, made.size) == ("RGB", (40, 60))
    assert np.abs(greys(made) - greys(white)).max() <= 1
    assert np.ptp(np.asarray(made).astype(int), axis=-1).max() > 50


def test_what_is_half_transparent_has_the_colour_that_was_drawn() -> None:
    drawn = Image.new("RGBA", (8, 8), (150, 110, 90, 128))
    original = drawn.convert("LA")
    made = Coloured(original).laid_back(drawn, (8, 8))
    assert np.abs(np.asarray(made).astype(int) - np.asarray(drawn)).max() <= 2


def test_colours_are_weakened_until_they_fit_the_grey() -> None:
    grey, chroma = np.array([[0.9], [0.5], [0.0]]), np.array([[0.3, -0.1, -0.1], [0.2, -0.1, 0.0], [0.5, -0.2, 0.0]])
    made = in_gamut(grey, chroma)
    np.testing.assert_allclose(made, [[1.0, 0.9 - 0.1 / 3, 0.9 - 0.1 / 3], [0.7, 0.4, 0.5], [0.0, 0.0, 0.0]])


def test_the_nearest_pixels_with_given_means_stay_within_bounds() -> None:
    rng = np.random.default_rng(0)
    pixels, most = rng.random((2, 4, 4)), rng.random((2, 4, 4))
    means = rng.random((2, 2, 2)) * most.reshape(2, 2, 2, 2, 2).mean(axis=(2, 4))
    made = with_means(pixels, means, most, 2)
    np.testing.assert_allclose(made.reshape(2, 2, 2, 2, 2).mean(axis=(2, 4)), means, atol=1e-4)
    assert ((made >= 0) & (made <= most)).all()
