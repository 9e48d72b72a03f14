"""The recipes of the codec and of stickers at their smallest: they train, go on, save models that draw, keep latents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file

import fewstep
from fewstep.data import latents as data_latents
from fewstep.data.dataset import DataError
from fewstep.data.emoji import ANNOTATIONS, EMOJI_TEST
from fewstep.data.latents import Latents
from fewstep.data.latents import write_latents as write_both
from fewstep.data.scenes import Facts
from fewstep.data.stickers import PLAIN, STYLES, Stickers, attributions
from fewstep.networks.autoencoder import Autoencoder, AutoencoderConfig
from fewstep.recipes import codec as codec_recipes
from fewstep.recipes.codec import CodecRecipe, Comparison, codec_training, read_codec
from fewstep.recipes.sticker_latents import encoder_hash
from fewstep.recipes.stickers import StickersRecipe
from fewstep.training.checkpoints import AnotherRun
from sticker_packages import packages, pin

MISSING = [file for file in (EMOJI_TEST, ANNOTATIONS) if not Path(file).is_file()]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
pytest.importorskip("resvg_py")

SHAPE = AutoencoderConfig(latents=8, encoder=(16, 32), decoder=(16, 32), encoder_depths=(1, 1), decoder_depths=(1, 1))


def write_latents(folder: Path, latents: np.ndarray, facts: Sequence[Facts], codec: str) -> None:
    """Latents whose sketches are their negatives."""
    write_both(folder, latents, -latents, facts, codec)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stickers")


@pytest.fixture(autouse=True)
def drawn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three things by seven artists, the rocket kept for tests."""
    pin(monkeypatch, packages(folder / "packages"), folder / "cache")
    monkeypatch.setattr(
        "fewstep.data.stickers.derive",
        lambda kind, name, *word: 0 if (kind, name) == ("held back", "rocket") else 1,
    )


def codec_recipe(folder: Path, images: int = 8) -> CodecRecipe:
    training = replace(codec_training(images), batch=4, checkpoint_every=1)
    return CodecRecipe(size=32, network=SHAPE, training=training, packages=folder / "packages")


def model_recipe(folder: Path, codec: Path) -> StickersRecipe:
    recipe = StickersRecipe(
        codec=codec,
        size=32,
        widths=(32, 32),
        depths=(1, 1),
        prior=(),
        text_width=32,
        draws=1,
        packages=folder / "packages",
    )
    stages = {
        stage: replace(getattr(recipe.stages, stage), images=8, batch=4, preview_every=0)
        for stage in ("teacher", "student")
    }
    return replace(recipe, stages=replace(recipe.stages, **stages))


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec that was never trained, exported."""
    return codec_in(tmp_path_factory.mktemp("codec"))


def codec_in(path: Path) -> Path:
    torch.manual_seed(0)
    recipe = CodecRecipe(size=32, network=SHAPE)
    recipe.save(Autoencoder(SHAPE), path, Comparison(torch.zeros(1, 4, 32, 32) + torch.eye(32), SHAPE.margin))
    return path


@pytest.fixture
def without_codec_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_recipes, "export_onnx", lambda *given: None)


@pytest.mark.usefixtures("without_codec_graphs")
def test_a_codec_trains_on_other_things_than_it_is_measured_on(folder: Path, tmp_path: Path) -> None:
    recipe = codec_recipe(folder)
    assert len(recipe.dataset("train")) == 14
    assert len(recipe.dataset("test")) == 7
    recipe.run(tmp_path)
    told = json.loads((tmp_path / "models" / "codec" / "codec.json").read_text(encoding="utf-8"))
    assert set(told["figures"]) == {"latents off by 0", "latents off by 0.2", "latents off by 0.4"}
    for figures in told["figures"].values():
        assert set(figures) == {"psnr", "ssim", "sharpness", "stray"}
    assert len(told["attributions"]) == len(STYLES)
    weights = load_file(tmp_path / "models" / "codec" / "encoder.safetensors")
    assert {value.dtype for value in weights.values()} == {np.dtype("float16")}
    assert {"mean", "variance"} <= set(weights)
    assert list((tmp_path / "previews").glob("decoded-*2.png"))


@pytest.mark.usefixtures("without_codec_graphs")
def test_a_codec_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    whole = codec_recipe(folder).run(tmp_path / "whole")
    recipe = codec_recipe(folder)
    recipe.run(tmp_path / "halves")
    (last,) = (tmp_path / "halves" / "checkpoints").glob("step-00000002")
    for file in last.iterdir():
        file.unlink()
    again = recipe.run(tmp_path / "halves")
    assert again["figures"] == whole["figures"]
    with pytest.raises(AnotherRun, match=r"network\.latents was 8, now 4"):
        replace(recipe, network=replace(SHAPE, latents=4)).run(tmp_path / "halves")


@pytest.mark.usefixtures("without_codec_graphs")
def test_a_frozen_encoder_keeps_its_latents_while_the_decoder_learns(
    folder: Path, codec: Path, tmp_path: Path
) -> None:
    replace(codec_recipe(folder), start=codec, freeze=True).run(tmp_path / "run")
    before, after = read_codec(codec), read_codec(tmp_path / "run" / "models" / "codec")
    assert encoder_hash(after) == encoder_hash(before)
    assert not torch.equal(after.decoder.head.weight, before.decoder.head.weight)


def test_settings_of_a_codec_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="size must be a multiple of 16, got 100"):
        CodecRecipe(size=100)
    with pytest.raises(ValueError, match="freeze keeps the encoder of the codec given by start: give start too"):
        CodecRecipe(freeze=True)


def test_a_codec_is_refused_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a codec that `fewstep train codec` saved"):
        read_codec(tmp_path)


@pytest.mark.usefixtures("without_codec_graphs")
def test_a_run_starts_from_a_checkpoint_of_another(folder: Path, tmp_path: Path) -> None:
    codec_recipe(folder).run(tmp_path / "first")
    checkpoint = tmp_path / "first" / "checkpoints" / "step-00000001" / "average.safetensors"
    kept = load_file(checkpoint)
    begun = replace(codec_recipe(folder), start=checkpoint).autoencoder()
    assert np.array_equal(begun.encoder.mean.numpy(), kept["encoder.mean"])
    assert all(parameter.requires_grad for parameter in begun.parameters())


@pytest.mark.usefixtures("without_graphs")
def test_both_stages_train_on_latents_and_the_models_draw(
    folder: Path, codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = model_recipe(folder, codec)
    recipe.run(tmp_path / "run")
    kept = Latents(tmp_path / "run" / "latents")
    assert len(kept) == 2 * 21
    assert kept.shape == (8, 4, 4)
    assert kept.codec == encoder_hash(recipe.autoencoder)
    plain, varied = kept.facts[:21], kept.facts[21:]
    assert {each.colour for each in plain} == {None}
    assert [(each.thing, each.style) for each in plain] == [(each.thing, each.style) for each in varied]
    assert any(each.colour for each in varied)
    for name in ("stickers-teacher", "stickers"):
        model = fewstep.load(tmp_path / "run" / "models" / name, engine="eager")
        image = model.generate("red apple", seed=1)
        assert (image.size, image.mode) == ((32, 32), "RGBA")
        assert all(line in model.spec.licence for line in attributions())
        assert model.spec.vocabulary.styles == STYLES
    assert list((tmp_path / "run" / "teacher" / "previews").glob("teacher-*2.png"))
    monkeypatch.setattr("fewstep.recipes.sticker_latents.write_latents", lambda *args: pytest.fail("encoded again"))
    recipe.run(tmp_path / "run")


@pytest.mark.usefixtures("without_graphs")
def test_a_prior_is_trained_first_and_stays_as_it_is_in_the_teacher(
    folder: Path, codec: Path, tmp_path: Path
) -> None:
    recipe = replace(model_recipe(folder, codec), prior=(16, 4))
    recipe = replace(recipe, prior_training=replace(recipe.prior_training, images=64, batch=16))
    recipe.run(tmp_path / "run")
    (saved,) = (tmp_path / "run" / "prior" / "checkpoints").glob("step-00000004/average.safetensors")
    prior = load_file(saved)
    teacher, student = (
        load_file(tmp_path / "run" / "models" / name / "network.safetensors")
        for name in ("stickers-teacher", "stickers")
    )
    assert {name.partition(".")[0] for name in prior} == {"text", "prior"}
    for name, value in prior.items():
        assert np.array_equal(teacher[name], value.astype(teacher[name].dtype))
    assert any(not np.array_equal(student[name], teacher[name]) for name in prior)
    recipe.run(tmp_path / "run")  # finished


def test_an_encoded_picture_is_what_the_exported_encoder_gives(folder: Path, codec: Path, tmp_path: Path) -> None:
    recipe = replace(model_recipe(folder, codec), latents=tmp_path / "latents")
    recipe.encode()
    made = recipe.dataset
    place = [(each.thing, each.style) for each in made.facts[:21]].index(("🚀", STYLES.index("flat")))
    dataset = Stickers(32, PLAIN, folder / "packages")
    pixels = dataset.picture(dataset.shown[place])
    session = onnxruntime.InferenceSession(codec / "encoder.onnx")
    given = {each.name: np.zeros(1, np.float32) for each in session.get_inputs()} | {"x": pixels[None]}
    (latents,) = session.run(None, given)
    assert np.allclose(latents[0], made.example(place, np.random.default_rng(0)).data, atol=2e-3)


def test_latents_of_another_codec_are_refused(folder: Path, codec: Path, tmp_path: Path) -> None:
    recipe = replace(model_recipe(folder, codec), latents=tmp_path / "latents")
    write_latents(tmp_path / "latents", np.zeros((1, 8, 4, 4)), [Facts("🚀", 0)], "another")
    with pytest.raises(DataError, match="were made by another codec: delete them or give it"):
        recipe.run(tmp_path / "run")


def test_examples_of_latents_leave_the_style_open_or_say_it_by_label_or_caption(tmp_path: Path) -> None:
    write_latents(tmp_path, np.full((1, 8, 4, 4), 0.25), [Facts("🚀", 4, "green")], "hash")
    dataset = Latents(tmp_path, styled=0.8, said=0.5, worded=0)
    drawn = [dataset.example(0, np.random.default_rng(seed)) for seed in range(2000)]
    assert all(example.data.dtype == np.float32 and example.data.mean() == 0.25 for example in drawn)
    both = [(example.label == 4, "noto" in example.caption) for example in drawn]
    shares = {kind: both.count(kind) / 2000 for kind in set(both)}
    assert shares == pytest.approx(
        {(False, False): 0.2, (True, False): 0.4, (True, True): 0.2, (False, True): 0.2}, abs=0.04
    )
    assert {example.caption for example in drawn} == {"green rocket", "noto green rocket"}


def test_sketches_may_say_the_colour(tmp_path: Path) -> None:
    facts = [
        Facts("🚀", 4, "green", painted=True, moved=True),
        Facts("🚀", 4, "green", moved=True),
        Facts("🚀", 4, None, "🍎", moved=True),
    ]
    write_latents(tmp_path, np.full((3, 8, 4, 4), 0.25), facts, "hash")
    dataset = Latents(tmp_path, styled=0, worded=0, sketched=(0, 0.5))
    painted, drawn, both = (
        [dataset.example(i, np.random.default_rng(seed)) for seed in range(1000)] for i in range(3)
    )
    for examples in (painted, drawn, both):
        sketches = [each.control for each in examples]
        assert all(sketch is None or (sketch.dtype == np.float32 and sketch.mean() == -0.25) for sketch in sketches)
        assert np.mean([sketch is None for sketch in sketches]) == pytest.approx(0.5, abs=0.06)
    said = [each.caption for each in painted if each.control is not None]
    assert set(said) == {"rocket", "green rocket"}
    assert said.count("rocket") / len(said) == pytest.approx(0.5, abs=0.08)
    assert {each.caption for each in painted if each.control is None} == {"green rocket"}
    assert {each.caption for each in drawn} == {"green rocket"}
    assert {each.caption for each in both} == {"rocket and red apple"}


def test_what_is_moved_is_mostly_seen_with_a_sketch(tmp_path: Path) -> None:
    write_latents(tmp_path, np.zeros((2, 8, 4, 4)), [Facts("🚀", 0), Facts("🚀", 0, moved=True)], "hash")
    dataset = Latents(tmp_path, sketched=(0.2, 0.9))
    for index, share in ((0, 0.2), (1, 0.9)):
        drawn = [dataset.example(index, np.random.default_rng(seed)).control is not None for seed in range(1000)]
        assert np.mean(drawn) == pytest.approx(share, abs=0.05)
    with pytest.raises(DataError, match="sketched must be between 0 and 1, got 2"):
        Latents(tmp_path, sketched=(0, 2))


def test_what_is_moved_or_beside_another_may_be_left_out(tmp_path: Path) -> None:
    facts = [Facts("🚀", 0, moved=True), Facts("🍎", 1), Facts("🚀", 0, None, "🍎"), Facts("🚀", 2)]
    latents = np.arange(4.0)[:, None, None, None] * np.ones((4, 8, 4, 4))
    write_latents(tmp_path, latents, facts, "hash")
    dataset = Latents(tmp_path, moved=False, worded=0, said=0)
    shown = [dataset.example(index, np.random.default_rng(1)) for index in range(len(dataset))]
    assert [(each.caption, each.data.mean()) for each in shown] == [("red apple", 1), ("rocket", 3)]
    assert len(Latents(tmp_path)) == 4


def test_latents_that_cannot_be_read_name_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="cannot read latents in"):
        len(Latents(tmp_path))
    write_latents(tmp_path, np.zeros((2, 8, 4, 4)), [Facts("🚀", 0)], "hash")
    with pytest.raises(DataError, match=r"has shape \(2, 8, 4, 4\) for 1 pictures"):
        len(Latents(tmp_path))
    write_both(tmp_path, np.zeros((1, 8, 4, 4)), np.zeros((1, 8, 4, 2)), [Facts("🚀", 0)], "hash")
    with pytest.raises(DataError, match=r"sketches.npy has shape \(1, 8, 4, 2\) for 1 pictures"):
        len(Latents(tmp_path))
    write_latents(tmp_path, np.zeros((1, 8, 4, 4)), [Facts("?", 0)], "hash")
    with pytest.raises(DataError, match="holds 1 emoji that have no name here"):
        _ = Latents(tmp_path).captions
    monkeypatch.setattr(data_latents, "STYLES", ("3D",))
    with pytest.raises(DataError, match=r"styles .* this version has"):
        len(Latents(tmp_path))
