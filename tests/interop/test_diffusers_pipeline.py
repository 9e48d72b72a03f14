"""Pipelines opened from their folders draw what diffusers draws with them, and say in one line what they cannot do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusers_folders import (
    PIPELINES,
    deep_vae,
    stable_diffusion_3,
    vae,
    write_index,
    write_sana,
)
from diffusers_parts import network, start
from fewstep.core.guidance import Guided
from fewstep.core.parameterisations import Targets
from fewstep.interop.diffusers import text
from fewstep.interop.diffusers.folders import chosen_variant, open_folder, wanted_files
from fewstep.interop.diffusers.pipeline import Pipeline, open_pipeline
from fewstep.interop.diffusers.text import PromptCache, PromptEncoder
from fewstep.interop.diffusers.timesteps import Timetable
from fewstep.interop.diffusers.vae import VaeCodec
from fewstep.models.codecs import Codec, SpaceToDepth
from fewstep.models.parts import ModelError
from fewstep.samplers import euler

NETWORKS = {"flux": "flux_of_guidance", "ddpm": "unet"}
PROMPTS = ["a cat", "b"]
SIDE = 16
WITH_TEXT = ["flux", "pixart", "sd", "sd3", "sdxl"]
LENGTHS = {"flux": 7, "pixart": 8, "sd3": 6}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipelines")


@pytest.fixture(scope="module")
def theirs(root: Path) -> Callable[[str], Any]:
    """A diffusers pipeline by name, written to `root / name`."""

    @cache
    def made(name: str) -> Any:
        pipeline = PIPELINES[name]()
        pipeline.set_progress_bar_config(disable=True)
        pipeline.save_pretrained(root / name)
        return pipeline

    return made


@pytest.fixture(scope="module")
def ours(root: Path, theirs: Callable[[str], Any]) -> Callable[[str], Pipeline]:
    """The same, opened."""

    @cache
    def opened(name: str) -> Pipeline:
        theirs(name)
        return open_pipeline(root / name, text_length=LENGTHS.get(name))

    return opened


def drawn_by_diffusers(name: str, pipeline: Any, noise: torch.Tensor, steps: int, guidance: float) -> torch.Tensor:
    """Latents [b, c, h, w]; pixels in [-1, 1] for ddpm."""
    common = {"num_inference_steps": steps, "guidance_scale": guidance, "output_type": "latent"}
    if name == "flux":
        packed = pipeline._pack_latents(noise, *noise.shape)
        lengths = {"max_sequence_length": LENGTHS[name], "height": SIDE, "width": SIDE}
        images = pipeline(PROMPTS, latents=packed, **lengths, **common).images
        return pipeline._unpack_latents(images, SIDE, SIDE, pipeline.vae_scale_factor)
    options: dict[str, Any] = {"height": SIDE, "width": SIDE}
    if name in LENGTHS:
        options["max_sequence_length"] = LENGTHS[name]
    if name == "pixart":
        options |= {"use_resolution_binning": False, "clean_caption": False}
    return pipeline(PROMPTS, latents=noise, **options, **common).images


@pytest.mark.parametrize("name", WITH_TEXT)
def test_it_draws_what_diffusers_draws(
    name: str, ours: Callable[[str], Pipeline], theirs: Callable[[str], Any]
) -> None:
    """From prompts to latents, with guidance: classifier-free, or embedded for Flux."""
    noise, steps, scale = start(NETWORKS.get(name, name)), 3, 4.0
    pipeline = ours(name)
    expected = drawn_by_diffusers(name, theirs(name), noise, steps, scale)
    levels = pipeline.levels(steps, noise.shape[1:])
    cond, model = pipeline.encode(PROMPTS, (SIDE, SIDE)), pipeline.estimator()
    if name == "flux":
        cond, guided = {**cond, "guidance": torch.full((2,), scale)}, model
    else:
        guided = Guided(model, pipeline.null(), scale)
    with torch.no_grad():
        *_, last = euler(guided, pipeline.timetable.start(noise, levels[0]), levels, cond)
    torch.testing.assert_close(last.x, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["sd", "sd3"])
def test_one_guided_step_is_the_pipelines_own(
    name: str, ours: Callable[[str], Pipeline], theirs: Callable[[str], Any]
) -> None:
    """The states after the first of four steps."""
    noise, pipeline, states = start(name), ours(name), []
    options = {"max_sequence_length": LENGTHS[name]} if name in LENGTHS else {}
    theirs(name)(
        PROMPTS, latents=noise, num_inference_steps=4, guidance_scale=7.5, output_type="latent", height=SIDE, width=SIDE,
        callback_on_step_end=lambda pipe, step, t, kept: states.append(kept["latents"]) or kept, **options,
    )  # fmt: skip
    levels = pipeline.levels(4)
    guided = Guided(pipeline.estimator(), pipeline.null(), 7.5)
    with torch.no_grad():
        first = next(euler(guided, pipeline.timetable.start(noise, levels[0]), levels, pipeline.encode(PROMPTS)))
    torch.testing.assert_close(first.x, states[0], atol=1e-4, rtol=1e-4)


def test_a_pipeline_of_pixels_draws_what_diffusers_draws(ours: Any, theirs: Any) -> None:
    pipeline, steps = ours("ddpm"), 4
    assert pipeline.codec == SpaceToDepth(1, (0.5,), (0.5,), 1.0)  # pixels in [-1, 1]
    levels, noise = pipeline.levels(steps), start("unet")
    scheduler, x = theirs("ddpm").scheduler, noise
    scheduler.set_timesteps(steps)
    with torch.no_grad():
        for t in scheduler.timesteps:
            output = theirs("ddpm").unet(x, t).sample
            x = scheduler.step(output, t, x, use_clipped_model_output=True).prev_sample
        *_, last = euler(pipeline.estimator(), noise, levels, {})
    torch.testing.assert_close(last.x, x, atol=1e-4, rtol=1e-4)
    assert float(last.estimate.abs().max()) <= 1.0
    np.testing.assert_allclose(pipeline.codec.decode(np.float32([[[[-1.0]], [[0.0]], [[1.0]]]])).ravel(), [0, 0.5, 1])
    with pytest.raises(ModelError, match="has no text encoder that is supported: give the conditions as arrays"):
        pipeline.encode(["a cat"])


def test_a_pipeline_of_classes_has_its_label_of_no_class(ours: Any) -> None:
    pipeline = ours("dit")
    assert pipeline.null(2)["label"].tolist() == [5, 5]
    levels, cond = pipeline.levels(2), {"label": torch.tensor([1, 2])}
    with torch.no_grad():
        *_, last = euler(Guided(pipeline.estimator(), pipeline.null(), 4.0), start("dit"), levels, cond)
    assert torch.isfinite(last.x).all()
    with pytest.raises(ModelError, match="has no text encoder"):
        pipeline.encode(["a cat"])


def test_sana_draws_from_conditions_that_are_given(tmp_path: Path) -> None:
    pipeline = open_pipeline(write_sana(tmp_path))
    assert pipeline.prompts is None
    images = np.random.default_rng(0).random((2, 3, SIDE, SIDE), dtype=np.float32)
    assert pipeline.codec.encode(images).shape == (2, *pipeline.codec.shape((3, SIDE, SIDE))) == (2, 8, 8, 8)
    cond = {"text": torch.ones(2, 5, 16), "text_mask": torch.ones(2, 5)}
    with torch.no_grad():
        *_, last = euler(pipeline.estimator(), start("sana"), pipeline.levels(2), cond)
    assert pipeline.codec.decode(last.x).shape == (2, 3, SIDE, SIDE)
    with pytest.raises(ModelError, match=f"'{tmp_path}' has no text encoder that is supported"):
        pipeline.encode(["a cat"])


def test_the_network_is_frozen_and_jumps_where_it_is_told(ours: Any) -> None:
    pipeline = ours("sd")
    assert not pipeline.network.training
    assert not any(parameter.requires_grad for parameter in pipeline.network.parameters())
    assert pipeline.estimator().targets is Targets.SAME
    assert pipeline.estimator(Targets.CLEAN).targets is Targets.CLEAN


# Prompts.


def test_prompts_are_encoded_once(root: Path, ours: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours("sdxl")
    first = open_pipeline(root / "sdxl", cache=tmp_path / "cache")
    expected = first.encode([*PROMPTS, PROMPTS[0]])
    assert len(list((tmp_path / "cache").iterdir())) == 2
    torch.testing.assert_close(expected["text"][0], expected["text"][2], atol=0, rtol=0)
    monkeypatch.setattr(PromptEncoder, "encoders", property(lambda self: pytest.fail("opened the encoders")))
    again = open_pipeline(root / "sdxl", cache=tmp_path / "cache").encode(PROMPTS[::-1])
    for name, values in again.items():
        torch.testing.assert_close(values, expected[name][[1, 0]], atol=0, rtol=0)


def test_a_prompt_that_the_encoder_does_not_read_to_its_end_is_told(
    root: Path, ours: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ours("sdxl")
    pipeline = open_pipeline(root / "sdxl")
    assert pipeline.prompts is not None
    most = pipeline.prompts.encoders["text_encoder"].tokenizer.model_max_length
    pipeline.encode(["a"])
    assert not caplog.records
    pipeline.encode(["a " * (most - 1)])  # beside the tokens for start and end
    told = [record.getMessage() for record in caplog.records]
    assert told[0].startswith(f"a prompt has {most + 1} tokens, of which this text encoder reads {most}: 'a a")


def test_another_encoder_or_length_is_not_mistaken_for_the_cached_one(root: Path, ours: Any, tmp_path: Path) -> None:
    ours("pixart")
    shutil.copytree(root / "pixart", tmp_path / "tuned")
    cache_folder = tmp_path / "cache"
    before = open_pipeline(tmp_path / "tuned", cache=cache_folder, text_length=8).encode(["a"])
    longer = open_pipeline(tmp_path / "tuned", cache=cache_folder, text_length=9).encode(["a"])
    assert longer["text"].shape[1] == 9
    weights = tmp_path / "tuned" / "text_encoder" / "model.safetensors"
    save_file({name: 1.1 * values for name, values in load_file(weights).items()}, weights, {"format": "pt"})
    after = open_pipeline(tmp_path / "tuned", cache=cache_folder, text_length=8).encode(["a"])
    assert not torch.equal(after["text"], before["text"])
    assert len(list(cache_folder.iterdir())) == 3


def test_the_memory_of_prompts_is_bounded_and_a_broken_file_is_named(tmp_path: Path) -> None:
    memory = PromptCache(entries=2)
    for key in "abc":
        memory.put(key, {"text": torch.zeros(1)})
    assert [memory.get(key) is not None for key in "abc"] == [False, True, True]
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match=r"a\.safetensors' is not readable as an encoded prompt: delete it"):
        PromptCache(tmp_path).get("a")


def test_a_large_file_counts_throughout(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    content = bytearray(text._SAMPLES * text._SAMPLE * 2)
    file.write_bytes(content)
    before = text._samples(file)
    for at in (0, len(content) // 2, len(content) - 1):
        changed = bytearray(content)
        changed[max(0, at - 5000) : at + 5000] = b"\1" * len(changed[max(0, at - 5000) : at + 5000])
        file.write_bytes(changed)
        assert text._samples(file) != before


def test_sd3_without_t5_has_zeros_in_its_place(tmp_path: Path) -> None:
    made = stable_diffusion_3(with_t5=False)
    made.save_pretrained(tmp_path)
    encoded = open_pipeline(tmp_path, text_length=6).encode(["a cat"])["text"]
    expected = made.encode_prompt("a cat", None, None, do_classifier_free_guidance=False, max_sequence_length=6)[0]
    torch.testing.assert_close(encoded, expected)
    assert not encoded[:, 10:].any()


@pytest.mark.parametrize(("said", "zeros"), [(None, True), (True, True), (False, False)])
def test_sdxl_says_whether_an_empty_prompt_is_zeros(
    root: Path, ours: Any, tmp_path: Path, said: bool | None, zeros: bool
) -> None:
    ours("sdxl")
    pipeline = open_pipeline(changed(root, "sdxl", tmp_path / "changed", force_zeros_for_empty_prompt=said))
    assert pipeline.zero_null is zeros
    assert pipeline.null()["text"].any() != zeros


def test_an_empty_prompt_of_others_is_encoded(ours: Any) -> None:
    assert ours("sd").null(2)["text"].any()
    assert "time_ids" not in ours("sdxl").null()


def test_sizes_are_those_of_the_network_or_as_told(ours: Any) -> None:
    assert ours("sdxl").encode(["a"])["time_ids"].tolist() == [[16, 16, 0, 0, 16, 16]]
    assert ours("sdxl").encode(["a"], (8, 24))["time_ids"].tolist() == [[8, 24, 0, 0, 8, 24]]


def test_pixart_is_told_its_sizes_where_it_wants_them() -> None:
    table = Timetable.of(diffusers.DDIMScheduler(clip_sample=False))
    prompts: Any = SimpleNamespace(encode=lambda texts: {"text": torch.zeros(len(texts), 5, 16)})
    pipeline = Pipeline("folder", network("pixart_of_sizes"), table, VaeCodec(vae(4)), prompts)
    cond = pipeline.encode(PROMPTS, (8, 24))
    assert cond["resolution"].tolist() == [[8, 24]] * 2
    torch.testing.assert_close(cond["aspect_ratio"], torch.full((2, 1), 1 / 3))
    assert pipeline.encode(PROMPTS)["resolution"].tolist() == [[16, 16]] * 2
    level = pipeline.levels(2)[0].batch(2)
    assert pipeline.estimator()(start("pixart_of_sizes"), level, level, cond).shape == (2, 4, 8, 8)


def test_a_dynamic_shift_needs_the_shape(ours: Any) -> None:
    assert len(ours("flux").levels(4, (16, 8, 8))) == 5
    with pytest.raises(ValueError, match="depends on the size of the image, which was not given"):
        ours("flux").levels(4)


# Codecs.

CODECS = {
    "4 channels": lambda: vae(4, scaling_factor=0.18215),
    "16 channels, shifted": lambda: vae(16, scaling_factor=1.5305, shift_factor=0.0609),
    "means and deviations": lambda: vae(4, scaling_factor=0.5, latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 3.0, 4.0]),
    "deep": deep_vae,
    "tiny": lambda: diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1), scaling_factor=1.3,
    ).eval(),
}  # fmt: skip


@pytest.fixture(scope="module", params=CODECS)
def codec(request: pytest.FixtureRequest) -> VaeCodec:
    torch.manual_seed(4)
    return VaeCodec(CODECS[request.param]().requires_grad_(False))


def test_it_is_a_codec_of_the_shape_that_it_announces(codec: VaeCodec) -> None:
    pixels = np.random.default_rng(0).random((2, 3, 8, 12), dtype=np.float32)
    data = codec.encode(pixels)
    assert isinstance(codec, Codec)
    assert codec.factor == 2
    assert data.shape == (2, *codec.shape((3, 8, 12)))
    assert data.dtype == np.float32
    assert codec.decode(data).shape == pixels.shape
    with pytest.raises(ValueError, match="multiples of 2, got 7 and 8"):
        codec.encode(pixels[:, :, :7, :8])
    with pytest.raises(ValueError, match="have 3 channels, got 1"):
        codec.shape((1, 8, 8))


def test_its_bits_do_not_depend_on_the_batch_nor_on_the_kind_of_array(codec: VaeCodec) -> None:
    pixels = np.random.default_rng(1).random((3, 3, 8, 8), dtype=np.float32)
    data, decoded = codec.encode(pixels), codec.decode(codec.encode(pixels))
    for i in range(3):
        np.testing.assert_array_equal(codec.encode(pixels[i : i + 1])[0], data[i])
        np.testing.assert_array_equal(codec.decode(data[i : i + 1])[0], decoded[i])
    np.testing.assert_array_equal(codec.encode(torch.from_numpy(pixels)).numpy(), data)


def test_latents_are_shifted_and_scaled_as_the_settings_say(codec: VaeCodec) -> None:
    pixels = torch.rand(1, 3, 8, 8)
    made: Any = codec.vae
    answer = made.encode(2 * pixels - 1)
    z = answer.latent_dist.mode() if hasattr(answer, "latent_dist") else answer[0]
    mean = torch.tensor(made.config.get("latents_mean") or [made.config.get("shift_factor") or 0.0])
    std = torch.tensor(made.config.get("latents_std") or [1.0])
    expected = (z - mean.view(1, -1, 1, 1)) * made.config.scaling_factor / std.view(1, -1, 1, 1)
    torch.testing.assert_close(codec.encode(pixels), expected)
    torch.testing.assert_close(codec.decode(expected), made.decode(z).sample / 2 + 0.5, atol=1e-5, rtol=1e-5)


def test_an_unsupported_vae_is_refused_by_naming_those_supported() -> None:
    with pytest.raises(
        ModelError, match="the VAE Linear is not supported: use one of AutoencoderDC, AutoencoderKL, "
    ):
        VaeCodec(torch.nn.Linear(1, 1))


# Folders.


def changed(root: Path, name: str, target: Path, **index: Any) -> Path:
    """A copy of a pipeline whose model_index.json says something else; None removes an entry."""
    shutil.copytree(root / name, target)
    values = json.loads((target / "model_index.json").read_text()) | index
    write_index(target, {key: value for key, value in values.items() if value is not None})
    return target


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"unet": None}, "has no unet or transformer in its model_index.json"),
        (
            {"unet": ["diffusers", "UNet3DConditionModel"]},
            "has UNet3DConditionModel as its unet, which is not supported: use one of DiT",
        ),
        (
            {"scheduler": ["diffusers", "KarrasVeScheduler"]},
            "has KarrasVeScheduler as its scheduler, which is not supported: use one of DDIM",
        ),
        ({"scheduler": None}, "has no scheduler in its model_index.json"),
        (
            {"vae": ["diffusers", "VQModel"]},
            "has VQModel as its vae, which is not supported: use one of AutoencoderDC",
        ),
        ({"requires_aesthetics_score": True}, "is a refiner, which is not supported: give the base pipeline"),
    ],
)
def test_a_part_that_is_missing_or_not_supported_is_one_line_that_names_the_folder(
    root: Path, ours: Any, tmp_path: Path, index: dict[str, Any], message: str
) -> None:
    ours("sd")
    folder = changed(root, "sd", tmp_path / "changed", **index)
    with pytest.raises(ModelError, match=f"^'{folder}' {message}") as refused:
        open_pipeline(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (
            {"text_encoder": None},
            "has nothing as its text_encoder, and prompts can be encoded with one of CLIPTextModel",
        ),
        ({"text_encoder": ["x", "RobertaModel"]}, "has RobertaModel as its text_encoder, and prompts can be"),
        (
            {"tokenizer": ["x", "Mine"]},
            "has Mine as its tokenizer, and prompts can be encoded with one of CLIPTokenizer",
        ),
    ],
)
def test_a_text_encoder_that_cannot_be_used_is_one_line_when_a_prompt_comes(
    root: Path, ours: Any, tmp_path: Path, index: dict[str, Any], message: str
) -> None:
    ours("sd")
    pipeline = open_pipeline(changed(root, "sd", tmp_path / "changed", **index))
    with pytest.raises(ModelError, match=f"^'{tmp_path / 'changed'}' {message}"):
        pipeline.encode(["a cat"])


def test_a_folder_of_a_tokenizer_that_is_gone_is_named(root: Path, ours: Any, tmp_path: Path) -> None:
    ours("sd")
    folder = changed(root, "sd", tmp_path / "changed")
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(ModelError, match=r"has no folder tokenizer, which its model_index\.json names"):
        open_pipeline(folder).encode(["a cat"])


def test_pickles_are_refused_with_the_remedy(root: Path, ours: Any, tmp_path: Path) -> None:
    ours("sd")
    folder = changed(root, "sd", tmp_path / "changed")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(
        ModelError, match=r"/unet' has only the pickle diffusion_pytorch_model\.bin, .*safe_serialization"
    ):
        open_pipeline(folder)


def test_the_variant_that_there_is_is_found(root: Path, ours: Any, tmp_path: Path) -> None:
    ours("sd")
    folder = changed(root, "sd", tmp_path / "changed")
    for name in ("unet/diffusion_pytorch_model", "text_encoder/model", "vae/diffusion_pytorch_model"):
        (folder / f"{name}.safetensors").rename(folder / f"{name}.fp16.safetensors")
    pipeline = open_pipeline(folder)
    torch.testing.assert_close(pipeline.encode(["a"])["text"], ours("sd").encode(["a"])["text"])


@pytest.mark.parametrize(
    ("names", "variant"),
    [
        (["model.safetensors", "model.fp16.safetensors"], None),
        (["diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin"], "fp16"),
        (["model-00001-of-00002.safetensors", "model.non_ema.safetensors"], None),
        (["model.fp16-00001-of-00002.safetensors", "config.json"], "fp16"),
    ],
)
def test_full_precision_comes_first(names: list[str], variant: str | None) -> None:
    assert chosen_variant(names, "folder") == variant


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "'folder' has no weights: expected diffusion_pytorch_model.safetensors"),
        (
            ["model.fp16.safetensors", "model.bf16.safetensors"],
            "several variants and none in full precision: bf16, fp16",
        ),
    ],
)
def test_weights_that_cannot_be_chosen_are_named(names: list[str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        chosen_variant(names, "folder")


HUB = [
    "model_index.json", "README.md", "v1-5.ckpt", "v1-5.safetensors",
    "unet/config.json", "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors", "tokenizer/vocab.json", "tokenizer/merges.txt",
    "text_encoder/config.json", "text_encoder/model.fp16.safetensors", "scheduler/scheduler_config.json",
    "safety_checker/pytorch_model.bin",
]  # fmt: skip


def test_from_the_hub_come_the_needed_files_of_one_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def download(name: str, revision: str, allow_patterns: list[str]) -> str:
        asked.append((name, revision, sorted(allow_patterns)))
        return str(tmp_path)

    files = [SimpleNamespace(rfilename=name) for name in HUB]
    monkeypatch.setattr("huggingface_hub.model_info", lambda name: SimpleNamespace(sha="c0ffee", siblings=files))
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert open_folder("user/model").path == tmp_path
    wanted = [
        "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
        "text_encoder/model.fp16.safetensors", "tokenizer/merges.txt", "tokenizer/vocab.json", "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]  # fmt: skip
    assert asked == [("user/model", "c0ffee", wanted)]


def test_pickles_on_the_hub_are_refused_before_they_are_downloaded() -> None:
    names = [name for name in HUB if not name.startswith("unet/diffusion_pytorch_model.") or name.endswith(".bin")]
    with pytest.raises(ModelError, match=r"'user/model/unet' has only the pickle diffusion_pytorch_model\.bin"):
        wanted_files(names, "user/model")
    with pytest.raises(ModelError, match=r"'user/model' has no model_index\.json: give a diffusers pipeline"):
        wanted_files(["model.safetensors"], "user/model")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("user/model", "no directory 'user/model', and the hub returned no pipeline of this name: "),
        ("no such folder", "no directory 'no such folder': give the directory of a diffusers pipeline, or user/name"),
    ],
)
def test_a_pipeline_that_is_not_there_is_one_line(source: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=f"^{message}") as refused:
        open_pipeline(source)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ["", "[1]", "{"])
def test_an_index_that_is_not_readable_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "model_index.json").write_text(content)
    with pytest.raises(ModelError, match=r"model_index\.json"):
        open_pipeline(tmp_path)


def test_weights_that_do_not_fit_are_one_line(root: Path, ours: Any, tmp_path: Path) -> None:
    ours("sd")
    folder = changed(root, "sd", tmp_path / "changed")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="/unet' cannot be opened: ") as refused:
        open_pipeline(folder)
    assert "\n" not in str(refused.value)
