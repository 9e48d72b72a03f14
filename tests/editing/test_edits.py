"""Edits as people meet them: any size and mode in, what is kept out to the bit."""

from __future__ import annotations

import contextlib
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fewstep.core import grids
from fewstep.core.parameterisations import Targets
from fewstep.editing import Known, grid_from, level_of
from fewstep.editing.edits import fitted
from fewstep.editing.layouts import Plain
from fewstep.generation import Edit, Model, Request, RequestError
from fewstep.generation.planning import plan
from fewstep.pictures import image_hash
from tiny_models import SIDE, TinyModels, onnx


@pytest.fixture(scope="module")
def model(tiny: TinyModels) -> Model:
    return onnx(tiny.student)


def photo(size: tuple[int, int] = (60, 40), mode: str = "RGB") -> Image.Image:
    """Every pixel another colour."""
    y, x = np.mgrid[: size[1], : size[0]]
    pixels = np.stack([x * 255 // size[0], y * 255 // size[1], (x + y) % 256, 128 + (x * y) % 128], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def mask(size: tuple[int, int], box: tuple[int, int, int, int], alpha: bool) -> Image.Image:
    """Open inside `box`, as transparency or as white."""
    picture = Image.new("RGBA" if alpha else "L", size, (9, 9, 9, 255) if alpha else 0)
    ImageDraw.Draw(picture).rectangle(box, fill=(9, 9, 9, 0) if alpha else 255)
    return picture


def edit(model: Model, edit: Edit, prompt: str = "cat", seed: int = 1, **choices: Any) -> Image.Image:
    return model.generate_all(Request(prompt, seed=seed, edit=edit, **choices))[0]


@pytest.mark.parametrize("alpha", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_what_a_mask_keeps_comes_back_to_the_bit_at_the_images_own_size(
    model: Model, steps: int, mode: str, alpha: bool
) -> None:
    original = photo(mode=mode)
    box = (20, 10, 39, 29)
    edited = edit(model, Edit(original, mask(original.size, box, alpha)), steps=steps)
    assert edited.size == original.size
    before, after = np.asarray(original.convert("RGBA")), np.asarray(edited)
    inside = np.zeros(after.shape[:2], dtype=bool)
    inside[10:30, 20:40] = True
    assert np.array_equal(after[~inside], before[~inside])
    assert not np.array_equal(after[inside], before[inside])


def test_what_a_mask_keeps_comes_back_to_the_bit_at_the_models_size(model: Model) -> None:
    original = photo((SIDE, SIDE), "RGBA")
    edited = edit(model, Edit(original, mask(original.size, (4, 4, 7, 9), alpha=True)))
    before, after = np.asarray(original), np.asarray(edited)
    inside = np.zeros((SIDE, SIDE), dtype=bool)
    inside[4:10, 4:8] = True
    assert np.array_equal(after[~inside], before[~inside])


@pytest.mark.parametrize("paint", [("L", 0), ("RGBA", (9, 9, 9, 255)), ("RGB", (0, 0, 0))])
def test_a_mask_that_opens_nothing_is_refused(paint: tuple[str, Any]) -> None:
    with pytest.raises(RequestError, match="mask must leave something to change"):
        Edit(photo(), Image.new(paint[0], photo().size, paint[1]))


@pytest.mark.parametrize(
    ("mode", "colour", "is_open"),
    [
        ("L", 127, False),
        ("L", 128, True),
        ("RGBA", (0, 0, 0, 127), True),
        ("RGBA", (0, 0, 0, 128), False),
        ("RGBA", (255, 255, 255, 128), True),  # transparent nowhere, so it opens where it is white
    ],
)
def test_a_mask_is_cut_in_the_middle_of_its_range(mode: str, colour: Any, is_open: bool) -> None:
    with contextlib.nullcontext() if is_open else pytest.raises(RequestError, match="must leave something to change"):
        Edit(photo(), Image.new(mode, photo().size, colour))


def test_one_open_pixel_opens_the_pixel_that_it_is_shrunk_to(model: Model) -> None:
    """Where any pixel beneath may change nothing is kept, of the data and of the answer."""
    side = 4 * SIDE
    known = Edit(photo((side, side)), mask((side, side), (6, 9, 6, 9), alpha=False)).prepared(model.spec).known
    assert isinstance(known, Known)
    opened = model.spec.codec.unmask(known.free)[0, 0]  # type: ignore[attr-defined]
    assert np.argwhere(opened).tolist() == [[9 // 4, 6 // 4]]
    free = mask((8, 8), (2, 5, 2, 5), alpha=False)
    laid = Plain((8, 8), Image.new("RGB", (8, 8), "white"), free).laid_back(Image.new("RGB", (4, 4)), (4, 4))
    assert np.argwhere(np.asarray(laid)[..., 0] == 0).tolist() == [[5 // 2, 2 // 2]]


def test_a_black_and_white_mask_saved_with_alpha_opens_where_it_is_white(model: Model) -> None:
    original = photo((SIDE, SIDE))
    white = mask(original.size, (0, 0, 7, 15), alpha=False)
    once = edit(model, Edit(original, white))
    assert np.array_equal(np.asarray(once), np.asarray(edit(model, Edit(original, white.convert("RGBA")))))


def test_a_mask_that_opens_all_is_a_new_picture(model: Model) -> None:
    original = photo((SIDE, SIDE))
    edited = edit(model, Edit(original, Image.new("L", original.size, 255)), seed=3)
    drawn = model.generate("cat", seed=3)
    assert np.array_equal(np.asarray(edited), np.asarray(drawn))


def test_the_less_strength_the_nearer_the_image(model: Model) -> None:
    original = model.generate("cat", seed=5)
    distances = [
        float(np.abs(np.asarray(edit(model, Edit(original, strength=s))).astype(float) - np.asarray(original)).mean())
        for s in (0.1, 0.3, 0.5)
    ]
    assert distances == sorted(distances)


@pytest.mark.parametrize(("strength", "sigma_max"), [(0.5, 80.0), (0.9, 80.0), (0.5, 20.0), (1.0, 20.0)])
def test_a_strength_is_a_share_of_the_way_along_the_karras_grid(strength: float, sigma_max: float) -> None:
    """σ/α = 80 · strength⁷, as docs/edit.md says; a model may use another maximum."""
    assert level_of(strength, sigma_max) == pytest.approx(sigma_max * strength**7)
    levels = grids.karras(21, 1e-30, sigma_max).ratio  # its steps are even in the seventh root
    assert level_of(strength, sigma_max) == pytest.approx(levels[round(20 * (1 - strength))], rel=0.01)


@pytest.mark.parametrize("strength", [1e-40, 1e-60])
def test_the_smallest_strength_is_a_level_too(strength: float) -> None:
    assert 0 < level_of(strength) < 1e-20
    assert grid_from(level_of(strength), 4).ratio.tolist() == [level_of(strength), 0.0]


@pytest.mark.parametrize(("ratio", "last"), [(10.0, 0.8), (1.6, 0.8), (1.0, 0.5), (0.1, 0.05)])
def test_the_last_jump_leaves_from_where_the_model_likes_it_or_half_of_the_start(ratio: float, last: float) -> None:
    assert grid_from(ratio, 2, last=0.8).ratio == pytest.approx([ratio, last, 0.0])
    three = grid_from(ratio, 3, last=0.8).ratio
    assert three == pytest.approx([ratio, (ratio * last) ** 0.5, last, 0.0])


def test_solvers_go_along_the_karras_grid_to_their_end() -> None:
    np.testing.assert_allclose(grid_from(3.0, 4).ratio, grids.karras(4, 0.002, 3.0).ratio)


@pytest.mark.parametrize(("sampler", "last"), [("consistency", 0.8), ("flow_map", 0.002), ("euler", 0.002)])
def test_only_jumps_to_clean_end_where_the_model_likes_to_make_its_last(
    model: Model, sampler: str, last: float
) -> None:
    spec = replace(model.spec, targets=Targets.ANY)
    asked = Request(seed=1, steps=3, sampler=sampler, edit=Edit(photo(), strength=0.6))
    assert plan(spec, asked).sampling.levels.ratio[-2] == pytest.approx(last)


def test_an_image_is_drawn_from_half_the_way_and_a_gap_from_pure_noise_if_not_told(model: Model) -> None:
    whole, gap = Edit(photo()), Edit(photo(), Image.new("L", photo().size, 255))
    assert edit(model, whole).record.sampler_settings["strength"] == 0.5
    assert edit(model, gap).record.sampler_settings["strength"] == 1.0
    assert gap.prepared(model.spec).start is None


def test_a_drawing_loses_its_paper_unless_a_mask_keeps_some_of_it(model: Model) -> None:
    paper = Image.new("RGB", (SIDE, SIDE), "white")
    paper.paste("red", (4, 4, 10, 10))
    for masked, alpha in ((None, 0.0), (Image.new("L", paper.size, 255), 1.0)):
        pixels = model.spec.codec.decode(Edit(paper, masked).data(model.spec))[0]
        assert pixels[3, 0, 0] == pytest.approx(alpha, abs=1e-5)
        assert pixels[3, 5, 5] == pytest.approx(1.0, abs=1e-5)


def test_the_levels_of_an_edit_begin_where_its_strength_says(model: Model) -> None:
    edited = edit(model, Edit(photo(), strength=0.6), steps=3)
    ratios = [sigma / alpha for alpha, sigma in edited.record.levels]
    start, last = level_of(0.6), model.spec.levels[2][-1]
    assert ratios == pytest.approx([start, (start * last) ** 0.5, last, 0.0])
    assert edited.record.sampler_settings["edit"] == "restart"
    assert edited.record.sampler_settings["strength"] == 0.6


def test_an_image_of_another_shape_is_seen_whole_and_loses_its_margin_again(model: Model) -> None:
    wide = photo((80, 20))
    assert edit(model, Edit(wide, strength=0.3)).size == (SIDE, SIDE)
    assert edit(model, Edit(wide, strength=0.3), size=(80, 20)).size == (80, 20)
    assert fitted((80, 20), (16, 16)) == (0, 6, 16, 10)
    assert fitted((5000, 1), (16, 16)) == (0, 7, 16, 8)  # never less than a pixel


def test_an_edit_knows_its_parent(model: Model) -> None:
    drawn, given = model.generate("cat", seed=5), photo()
    assert edit(model, Edit(drawn)).record.parents == (drawn.record.id,)
    assert edit(model, Edit(given)).record.parents == (image_hash(given),)


def test_several_images_of_an_edit_hash_their_parent_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    monkeypatch.setattr(
        "fewstep.generation.planning.image_hash", lambda image: hashed.append(image) or "sha256:12345678"
    )
    images = model.generate_all(Request("cat", images=3, edit=Edit(photo())))
    assert [image.record.parents for image in images] == [("sha256:12345678",)] * 3
    assert len(hashed) == 1


def test_a_start_near_clean_says_that_it_made_one_jump(model: Model) -> None:
    plan = model.plan(Request("cat", steps=4, edit=Edit(photo(), strength=0.2)))
    (only,) = model.run(plan)
    assert (only.steps, only.evaluations) == (1, 1)
    record = edit(model, Edit(photo(), strength=0.2), steps=4).record
    assert (record.steps, record.network_evaluations, len(record.levels)) == (1, 1, 2)
    assert "gamma" not in record.sampler_settings


def test_a_plan_keeps_the_picture_only_where_a_mask_keeps_some_of_it(model: Model) -> None:
    def kept(mask: Image.Image | None) -> bool:
        picture = photo()
        gone = weakref.ref(picture)
        plan = model.plan(Request("cat", edit=Edit(picture, mask)))
        del picture
        return plan is not None and gone() is not None

    assert not kept(None)
    assert kept(Image.new("L", (60, 40), 255))


def test_images_of_a_request_differ_and_are_the_same_again(model: Model) -> None:
    request = Request("cat", seed=2, images=3, edit=Edit(photo(), strength=0.7))
    once, again = model.generate_all(request), model.generate_all(request)
    assert len({image.tobytes() for image in once}) == 3
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))


def test_a_background_lies_behind_the_edit(model: Model) -> None:
    original = photo(mode="RGB")
    edited = edit(model, Edit(original, mask(original.size, (0, 0, 9, 9), alpha=True)), background="white")
    assert edited.mode == "RGB"
    assert np.array_equal(np.asarray(edited)[20:], np.asarray(original)[20:])


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"image": "cat.png"}, "image"),
        ({"image": None}, "image"),
        ({"mask": "mask.png"}, "mask"),
        ({"mask": Image.new("L", (3, 3))}, "mask"),
        ({"strength": 0.0}, "strength"),
        ({"strength": 1.5}, "strength"),
        ({"strength": True}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"fit": 1}, "fit"),
        ({"mask": Image.new("L", (60, 40), 255), "fit": -1}, "fit"),
        ({"mask": Image.new("L", (60, 40), 255), "fit": 9}, "fit"),
        ({"mask": Image.new("L", (60, 40), 255), "fit": 1.5}, "fit"),
        ({"mask": Image.new("L", (60, 40), 255), "fit": True}, "fit"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as refused:
        Edit(**{"image": photo(), **wrong})
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("choices", "steps", "evaluations"),
    [({}, 1, 3), ({}, 2, 6), ({"fit": 0}, 2, 2), ({"fit": 4}, 1, 9), ({"strength": 0.9}, 1, 1)],
)
def test_what_a_mask_keeps_is_fitted_where_nothing_else_says_what_to_draw(
    model: Model, choices: dict[str, Any], steps: int, evaluations: int
) -> None:
    original = photo((SIDE, SIDE))
    open_left = mask(original.size, (0, 0, 7, 15), alpha=False)
    record = edit(model, Edit(original, open_left, **choices), prompt="", steps=steps).record
    assert record.network_evaluations == evaluations
    assert record.sampler_settings.get("fit", 0) == (evaluations // steps - 1) // 2


def test_beyond_the_borders_is_drawn_and_the_image_kept_to_the_bit(model: Model) -> None:
    original = photo((40, 20), "RGBA")
    drawn = edit(model, Edit.beyond(original, left=0.5, bottom=1.0))
    assert drawn.size == (60, 40)
    assert np.array_equal(np.asarray(drawn)[:20, 20:], np.asarray(original))
    assert np.asarray(drawn)[25:].std() > 0
    assert drawn.record.sampler_settings["edit"] == "outpaint"
    assert drawn.record.network_evaluations == 9 * drawn.record.steps
    assert drawn.record.parents == (image_hash(original),)
    picture = model.generate("cat", seed=1)
    assert edit(model, Edit.beyond(picture, top=0.1)).record.parents == (picture.record.id,)


@pytest.mark.parametrize(
    ("choices", "field"),
    [
        ({}, "left"),
        ({"left": -0.1}, "left"),
        ({"bottom": 2.1}, "bottom"),
        ({"top": True}, "top"),
        ({"right": "far"}, "right"),
        ({"right": float("nan")}, "right"),
        ({"left": 0.001}, "left"),
    ],
)
def test_margins_out_of_range_are_named(choices: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as refused:
        Edit.beyond(photo(), **choices)
    assert refused.value.field == field


def test_margins_of_a_large_image_stay_within_bounds() -> None:
    assert Edit.beyond(Image.new("L", (4096, 1)), right=1.0).image.size == (8192, 1)
    with pytest.raises(RequestError, match="sides of at most 8192, got 10000x10"):
        Edit.beyond(Image.new("L", (5000, 10)), right=1.0)


def test_a_prompt_is_fitted_only_if_asked(model: Model) -> None:
    original = photo((SIDE, SIDE))
    open_left = mask(original.size, (0, 0, 7, 15), alpha=False)
    costs = [edit(model, Edit(original, open_left, fit=fit), steps=1).record.network_evaluations for fit in (None, 2)]
    assert costs == [1, 5]


def test_noise_that_is_kept_between_steps_is_not_fitted(model: Model) -> None:
    original = photo((SIDE, SIDE))
    open_left = mask(original.size, (0, 0, 7, 15), alpha=False)
    assert edit(model, Edit(original, open_left), prompt="", steps=2, gamma=0.5).record.network_evaluations == 2
    with pytest.raises(RequestError, match=r"'consistency' with gamma 0\.5"):
        edit(model, Edit(original, open_left, fit=1), steps=2, gamma=0.5)


def test_a_fitted_picture_does_not_depend_on_its_batch(model: Model) -> None:
    original = photo((SIDE, SIDE))
    some = Edit(original, mask(original.size, (0, 0, 7, 15), alpha=False), fit=2)
    whole = model.generate_all(Request("cat", seed=1, images=3, edit=some))
    alone = model.generate_all(Request("cat", seed=2, edit=some))
    assert np.array_equal(np.asarray(whole[1]), np.asarray(alone[0]))


def test_a_diffusion_model_is_not_fitted(tiny: TinyModels) -> None:
    original = photo((SIDE, SIDE))
    everywhere = Image.new("L", original.size, 255)
    assert "fit" not in edit(onnx(tiny.teacher), Edit(original, everywhere), steps=2).record.sampler_settings
    with pytest.raises(RequestError, match="fit needs the sampler 'consistency' with gamma 1, got 'heun'") as refused:
        edit(onnx(tiny.teacher), Edit(original, everywhere, fit=1))
    assert refused.value.field == "fit"


def test_a_model_without_prompt_edits_too(tiny: TinyModels) -> None:
    with pytest.raises(RequestError, match="makes points"):
        onnx(tiny.points).plan_pictures(Request(edit=Edit(photo())))


def test_the_teacher_edits_by_the_same_constraint(tiny: TinyModels) -> None:
    original = photo((SIDE, SIDE))
    edited = edit(onnx(tiny.teacher), Edit(original, mask(original.size, (0, 0, 7, 15), alpha=True)), steps=3)
    assert np.array_equal(np.asarray(edited.convert("RGB"))[:, 8:], np.asarray(original)[:, 8:])
