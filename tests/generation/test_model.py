"""One service draws for every surface: same seed, same image, whatever runs beside it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewstep.core.parameterisations import Targets
from fewstep.generation import Edit, GeneratedImage, Model, Request, RequestError, load
from fewstep.generation.planning import Conditions, Plan, Sampling, corrections, plan
from fewstep.models.codecs import SpaceToDepth
from fewstep.pictures import image_hash
from grey_models import Truthful, truthful
from tiny_models import CLASSES, SIDE, TinyModels, onnx

Loaded = dict[str, Model]
PROMPT = "a blue cat"


@pytest.fixture(scope="module")
def models(tiny: TinyModels) -> Loaded:
    return {kind: onnx(getattr(tiny, kind)) for kind in ("student", "teacher", "points")}


def pixels(image: Image.Image) -> Any:
    return np.asarray(image, dtype=np.int64)


def apart(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of pixels, in 1/255."""
    return int(np.abs(pixels(one) - pixels(other)).max())


def sketch() -> Image.Image:
    image = Image.new("RGB", (40, 40), "white")
    image.paste((200, 0, 0), (10, 10, 30, 30))
    return image


def started(model: Model, plan: Plan) -> Any:
    """The pure noise a plan starts from, seen at the network."""
    seen: list[Any] = []

    def spy(x: Any, at: Any, to: Any, cond: Any) -> Any:
        seen.append(x.copy())
        return np.zeros_like(x)

    list(Model(model.saved, spy, "spy").run(plan))
    return seen[0]


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_noise_is_bit_identical_alone_and_in_any_batch(models: Loaded, kind: str) -> None:
    model = models[kind]
    together = started(model, model.plan(Request(PROMPT, seed=11, images=5)))
    for i in range(5):
        alone = started(model, model.plan(Request(PROMPT, seed=11 + i, guidance=1.0 if kind == "teacher" else 3.0)))
        np.testing.assert_array_equal(alone[0], together[i])


@pytest.mark.parametrize(("kind", "steps"), [("student", 1), ("student", 4), ("teacher", 3)])
def test_pixels_do_not_depend_on_how_many_are_drawn(models: Loaded, kind: str, steps: int) -> None:
    model = models[kind]
    together = model.generate_all(Request(PROMPT, seed=5, images=3, steps=steps))
    assert [image.record.seed for image in together] == [5, 6, 7]
    assert [image.record.index for image in together] == [0, 1, 2]
    for i, image in enumerate(together):
        assert apart(image, model.generate(PROMPT, seed=5 + i, steps=steps)) <= 1
    assert apart(together[0], together[1]) > 1


def test_pixels_do_not_depend_on_companions_with_other_prompts(models: Loaded) -> None:
    model = models["student"]
    prompts = (PROMPT, "rocket", "")
    plan = Plan(Sampling("consistency", model.spec.grid(2), (3, 4, 5), gamma=1.0), Conditions(prompts, guidance=2.0))
    *_, last = model.run(plan)
    batch = model.finish(plan, last)
    for i, prompt in enumerate(prompts):
        assert apart(batch[i], model.generate(prompt, seed=3 + i, steps=2)) <= 1


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_both_engines_draw_the_same_pixels(models: Loaded, tiny: TinyModels, kind: str) -> None:
    eager = load(getattr(tiny, kind).directory, engine="eager")
    request = Request(PROMPT, seed=9, steps=3, images=2)
    for one, other in zip(models[kind].generate_all(request), eager.generate_all(request), strict=True):
        assert apart(one, other) <= 1
        assert (one.record.engine, other.record.engine) == ("onnx", "eager")
        assert "torch" in other.record.software
        assert "torch" not in one.record.software


def test_without_a_seed_images_differ_and_the_record_tells_the_seed(models: Loaded) -> None:
    first, second = models["student"].generate(PROMPT), models["student"].generate(PROMPT)
    assert first.record.seed != second.record.seed
    assert apart(first, models["student"].generate(PROMPT, seed=first.record.seed)) == 0


def test_prompt_control_label_and_guidance_change_the_picture(models: Loaded) -> None:
    student, teacher = models["student"], models["teacher"]
    plain = student.generate(PROMPT, seed=1)
    assert apart(plain, student.generate("rocket", seed=1)) > 0
    assert apart(plain, student.generate(PROMPT, seed=1, guidance=4.0)) > 0
    assert apart(plain, student.generate(PROMPT, seed=1, control=sketch())) > 0
    assert apart(teacher.generate(seed=1), teacher.generate(seed=1, label=2)) > 0
    negative = teacher.generate(PROMPT, seed=1, negative_prompt="dog")
    assert apart(teacher.generate(PROMPT, seed=1), negative) > 0
    assert negative.record.negative_prompt == "dog"


@pytest.mark.parametrize(
    ("kind", "choices", "evaluations"),
    [
        ("student", {"steps": 1}, 1),
        ("student", {"steps": 4}, 4),
        ("student", {"steps": 2, "guidance": 4.0}, 2),  # distilled: no second evaluation
        ("student", {"steps": 2, "images": 3}, 2),
        ("teacher", {"steps": 1, "guidance": 1.0}, 1),
        ("teacher", {"steps": 4, "guidance": 1.0}, 7),
        ("teacher", {"steps": 4}, 14),
        ("teacher", {"steps": 4, "guidance": 3.0, "images": 2}, 14),
        ("teacher", {"steps": 4, "sampler": "euler", "guidance": 1}, 4),
        ("teacher", {"steps": 4, "sampler": "euler", "guidance": 2}, 8),
    ],
)
def test_network_evaluations_of_one_image_are_counted(
    models: Loaded, kind: str, choices: dict[str, Any], evaluations: int
) -> None:
    for image in models[kind].generate_all(Request(PROMPT, seed=0, **choices)):
        assert image.record.network_evaluations == evaluations


@pytest.mark.parametrize(("strength", "evaluations"), [(None, 1), (1, 1), (0, 1), (0.5, 2), (2.0, 2)])
def test_a_control_images_strength_costs_a_second_evaluation_unless_it_is_0_or_1(
    models: Loaded, strength: float | None, evaluations: int
) -> None:
    image = models["student"].generate(PROMPT, seed=1, control=sketch(), control_strength=strength)
    assert image.record.network_evaluations == evaluations
    plain = models["student"].generate(PROMPT, seed=1, control=sketch())
    assert (apart(image, plain) == 0) == (strength in (None, 1))
    assert image.record.sampler_settings.get("control_strength", 1) == (1 if strength is None else strength)
    if strength == 0:
        assert apart(image, models["student"].generate(PROMPT, seed=1)) == 0


def test_guidance_leads_away_from_no_prompt_and_no_class(models: Loaded) -> None:
    seen: list[Any] = []

    def spy(x: Any, at: Any, to: Any, cond: Any) -> Any:
        seen.append(cond)
        return np.zeros_like(x)

    model = Model(models["teacher"].saved, spy, "spy")
    list(model.run(model.plan(Request(PROMPT, seed=1, label=2, steps=1, guidance=3.0))))
    assert seen[0]["label"].tolist() == [2, CLASSES]  # the number behind the last class is none
    assert (seen[0]["text_mask"].sum(axis=1) > 0).tolist() == [True, False]


def test_a_share_of_fresh_noise_is_the_samplers_own_unless_one_is_given(models: Loaded) -> None:
    spec = replace(models["student"].spec, targets=Targets.ANY)
    for sampler, own in (("consistency", 1.0), ("flow_map", 0.0), ("euler", None)):
        assert plan(spec, Request(seed=1, sampler=sampler)).sampling.gamma == own
    for sampler in ("consistency", "flow_map"):
        for gamma in (0.0, 0.3, 1.0):
            assert plan(spec, Request(seed=1, sampler=sampler, gamma=gamma)).sampling.gamma == gamma


def test_a_distilled_model_without_a_scale_of_its_own_draws_at_the_lowest_it_learned(models: Loaded) -> None:
    spec = replace(models["student"].spec, guidance=None)
    assert plan(spec, Request(seed=1)).conditions.guidance == 1.0


def test_guidance_1_is_none_and_every_model_takes_it(models: Loaded) -> None:
    assert models["points"].plan(Request(seed=1, guidance=1)).conditions.guidance == 1
    with pytest.raises(RequestError, match="no prompt or label for guidance"):
        models["points"].plan(Request(seed=1, guidance=1.5))


@pytest.mark.parametrize(("said", "fit"), [({}, 1), ({"label": 0}, 0), ({"label": 2}, 0), ({"prompt": "cat"}, 0)])
def test_a_prompt_or_any_class_says_what_fills_a_gap(models: Loaded, said: dict[str, Any], fit: int) -> None:
    gap = Edit(sketch(), Image.new("L", (40, 40), 255))
    assert corrections(models["student"].spec, Request(**said, edit=gap)) == fit


def test_a_width_is_a_width_and_a_height_a_height() -> None:
    model = truthful("flag", 8, SpaceToDepth(2), SimpleNamespace(targets=Targets.CLEAN, epsilon=0.0))
    wide = replace(model.spec, pixels=(1, 8, 12))
    model = Truthful(SimpleNamespace(spec=wide, hash="0" * 64, captions=None), model.network, "eager")  # type: ignore[arg-type]

    class Nothing:
        targets, epsilon = Targets.CLEAN, 0.0

        def __call__(self, x: Any, *rest: Any) -> Any:
            return 0 * x

    model.truth = Nothing()
    image = model.generate(seed=1)
    assert image.size == image.record.size == image.record.native_size == model.native_size == (12, 8)
    assert model.generate(seed=1, size=(30, 20)).size == (30, 20)
    assert model.generate(seed=1, edit=Edit(Image.new("L", (9, 9)), strength=0.5)).size == (12, 8)


@pytest.mark.parametrize(
    ("kind", "field", "choices", "complaint"),
    [
        ("student", "sampler", {"sampler": "heun"}, r"'heun' needs .* 'same', .* 'clean'"),
        ("teacher", "sampler", {"sampler": "consistency"}, r"'consistency' needs .* 'clean', .* 'same'"),
        ("student", "guidance", {"guidance": 100}, "between 1 and 4, got 100"),
        ("teacher", "guidance", {"guidance": 21}, "between 1 and 20, got 21"),
        ("teacher", "guidance", {"guidance": 10**400}, "between 1 and 20, got inf"),
        ("student", "sampler", {"sampler": "magic"}, "one of consistency, ddim, .*, heun, got 'magic'"),
        ("student", "guidance", {"guidance": 4.5}, "'tiny' must be between 1 and 4, got 4.5"),
        ("student", "negative_prompt", {"negative_prompt": "dog"}, "distilled in and takes no negative prompt"),
        ("teacher", "negative_prompt", {"negative_prompt": "dog", "guidance": 1.0}, "needs guidance above 1"),
        ("teacher", "control", {"control": Image.new("L", (4, 4))}, "'tiny-teacher' takes no control image"),
        ("student", "label", {"label": 0}, "left out: this model has no classes, got 0"),
        ("teacher", "label", {"label": 3}, "between 0 and 2, got 3"),
        ("teacher", "label", {"label": -1}, "a whole number at least 0, got -1"),
    ],
)
def test_what_a_model_cannot_do_is_a_request_error(
    models: Loaded, kind: str, field: str, choices: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(RequestError, match=complaint) as error:
        models[kind].plan(Request(PROMPT, **choices))
    assert error.value.field == field


def test_a_model_without_text_takes_no_prompt(models: Loaded) -> None:
    for field in ("prompt", "negative_prompt"):
        with pytest.raises(RequestError, match=f"takes no prompt: leave {field} empty"):
            models["points"].plan(Request(**{field: PROMPT, "guidance": 2.0}))


def test_points_are_no_pictures(models: Loaded) -> None:
    with pytest.raises(RequestError, match="'tiny-points' makes points, not pictures"):
        models["points"].generate()
    *_, last = models["points"].run(models["points"].plan(Request(seed=1, images=4)))
    assert last.previews.shape == (4, 2)


def test_generate_draws_one_image_only(models: Loaded) -> None:
    with pytest.raises(TypeError, match="it is called n in generate_all here"):
        models["student"].generate(PROMPT, images=2)  # type: ignore[call-arg]  # a mistake on purpose


def test_a_size_is_resampled_and_the_native_one_recorded(models: Loaded) -> None:
    image = models["student"].generate(PROMPT, seed=1, size=(50, 20))
    assert image.size == image.record.size == (50, 20)
    assert image.record.native_size == (SIDE, SIDE)
    native = models["student"].generate(PROMPT, seed=1)
    assert native.size == native.record.size == (SIDE, SIDE)
    assert apart(image, native.resize((50, 20), Image.Resampling.LANCZOS)) == 0


@pytest.mark.parametrize("background", ["white", "black", "#ff8800"])
def test_a_background_lies_under_the_same_picture(models: Loaded, background: str) -> None:
    clear = models["student"].generate(PROMPT, seed=1)
    laid = models["student"].generate(PROMPT, seed=1, background=background)
    assert (clear.mode, laid.mode) == ("RGBA", "RGB")
    assert (clear.record.background, laid.record.background) == ("transparent", background)
    under = Image.new("RGBA", clear.size, background)
    assert apart(laid, Image.alpha_composite(under, clear).convert("RGB")) <= 2


def test_jumps_stream_with_previews_and_the_costs_so_far(models: Loaded) -> None:
    model = models["student"]
    seen = list(model.run(model.plan(Request(PROMPT, seed=1, steps=3, images=2))))
    assert [(p.jump.index, p.evaluations, p.steps) for p in seen] == [(0, 1, 3), (1, 2, 3), (2, 3, 3)]
    assert all(p.previews.shape == (2, 4, SIDE, SIDE) for p in seen)
    assert seen[0].timings.keys() == {"encode", "model", "sampler"}
    assert seen[0].timings["model"] < seen[2].timings["model"]
    np.testing.assert_allclose(seen[-1].previews, model.spec.codec.decode(seen[-1].jump.x), atol=1e-5)


def test_a_record_says_everything_that_made_the_image(models: Loaded) -> None:
    model = models["student"]
    record = model.generate("a purple cat", seed=4, steps=2, guidance=3.0, gamma=0.5, size=(32, 32)).record
    assert (record.prompt, record.seed, record.steps, record.guidance) == ("a purple cat", 4, 2, 3.0)
    assert (record.model, record.model_hash, record.recipe) == ("tiny", model.hash, "tiny")
    assert (record.sampler, record.sampler_settings) == ("consistency", {"gamma": 0.5})
    grid = model.spec.grid(2)
    assert record.levels == tuple(zip(grid.alpha.tolist(), grid.sigma.tolist(), strict=True))
    assert record.levels[0] == (1.0, 80.0)
    assert record.levels[-1][1] == 0.0
    assert record.unknown_words == ("purple",)
    assert record.nearest_captions[0][0] == "cat face"
    assert (record.engine, record.precision) == ("onnx", "float32")
    assert {"fewstep", "numpy", "onnxruntime"} <= set(record.software)
    assert set(record.timings) == {"encode", "model", "sampler", "decode"}
    assert str(model.saved.directory) not in record.to_json()


def test_a_record_tells_the_class_and_the_control_image(models: Loaded) -> None:
    assert models["teacher"].generate(seed=1, label=2).record.label == 2
    assert models["teacher"].generate(seed=1).record.label is None
    record = models["student"].generate(PROMPT, seed=1, control=sketch()).record
    assert record.parents == (image_hash(sketch()),)
    assert models["student"].generate(PROMPT, seed=1).record.parents == ()
    both = Request(PROMPT, seed=1, control=sketch(), edit=Edit(Image.new("RGB", (8, 8), "red")))
    edited = image_hash(Image.new("RGB", (8, 8), "red"))
    assert models["student"].plan(both).delivery.parents == (edited, image_hash(sketch()))


def test_the_default_choices_are_the_models_own(models: Loaded) -> None:
    for kind, steps, sampler in (("student", 1, "consistency"), ("teacher", 3, "heun")):
        record = models[kind].generate(PROMPT, seed=1).record
        assert (record.steps, record.sampler, record.guidance) == (steps, sampler, 2.0)


def test_eight_threads_draw_what_one_draws(models: Loaded) -> None:
    requests = [Request(("cat", "dog", "rocket")[i % 3], seed=i, steps=1 + i % 3) for i in range(24)]

    def draw(request: Request) -> GeneratedImage:
        return models["student"].generate_all(request)[0]

    serially = [draw(request) for request in requests]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(draw, requests))
    for request, one, other in zip(requests, serially, together, strict=True):
        assert (other.record.prompt, other.record.seed) == (request.prompt, request.seed)
        assert other.record.network_evaluations == request.steps
        assert apart(one, other) <= 1
