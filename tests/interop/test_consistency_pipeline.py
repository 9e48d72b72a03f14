"""A diffusers consistency pipeline and the model made of it draw the same picture from the same noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers import scheduling_consistency_models

from fewstep.core.randomness import noise
from fewstep.generation import Request, load
from fewstep.interop import consistency_pipeline
from fewstep.interop.consistency_pipeline import import_pipeline, save_pipeline
from fewstep.models.parts import ModelError

SIDE, SEED = 8, 3
SHAPE = (3, SIDE, SIDE)


def pipeline(
    channels: int = 3, scale: float = 1.0, scheduler: Any = None, outputs: int | None = None, **settings: Any
) -> Any:
    """A pipeline of random weights, its network's outputs scaled."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=SIDE,
        in_channels=channels,
        out_channels=outputs or channels,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        norm_num_groups=4,
        **settings,
    )
    with torch.no_grad():
        unet.conv_out.weight.mul_(scale)
    made = diffusers.ConsistencyModelPipeline(unet, scheduler or diffusers.CMStochasticIterativeScheduler())
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def made() -> Any:
    return pipeline()


def drawn(made: Any, steps: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pipeline's picture from the noise that `SEED` gives here, as numbers."""
    draws = iter(range(1, steps + 1))

    def ours(shape: Any, **options: Any) -> torch.Tensor:
        return torch.from_numpy(noise(SEED, SHAPE, next(draws)))[None]

    monkeypatch.setattr(scheduling_consistency_models, "randn_tensor", ours)
    (picture,) = made(num_inference_steps=steps, latents=torch.from_numpy(noise(SEED, SHAPE))[None]).images
    return np.asarray(picture).astype(int)


@pytest.fixture(scope="module")
def imported(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    made.save_pretrained(folder / "theirs")
    return import_pipeline(folder / "theirs", folder / "ours", licence="CC0-1.0").directory


@pytest.fixture
def without_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting takes longer than all else here, and the fixture above has exported one."""
    monkeypatch.setattr(consistency_pipeline, "export_onnx", lambda *given: None)


@pytest.mark.parametrize("engine", ["onnx", "openvino", "eager"])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_same_noise_gives_the_same_picture(
    made: Any, imported: Path, steps: int, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = drawn(made, steps, monkeypatch)
    picture = load(imported, engine, threads=1).generate(seed=SEED, steps=steps)
    assert np.abs(np.asarray(picture) - theirs).max() <= 1
    assert np.asarray(picture).std() > 5  # not one colour


@pytest.mark.usefixtures("without_graphs")
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_estimates_are_clipped_where_the_pipeline_clips_them(
    steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = {}
    for clip in (True, False):
        made = pipeline(scale=4.0, scheduler=diffusers.CMStochasticIterativeScheduler(clip_denoised=clip))
        pictures[clip] = drawn(made, steps, monkeypatch)
        save_pipeline(made, tmp_path / str(clip), "ours")
        picture = load(tmp_path / str(clip), "eager", threads=1).generate(seed=SEED, steps=steps)
        assert np.abs(np.asarray(picture) - pictures[clip]).max() <= 1
    assert (np.abs(pictures[True] - pictures[False]).max() > 20) == (steps > 1)  # the last clip is the picture's own


@pytest.mark.usefixtures("without_graphs")
def test_the_callers_pipeline_stays_as_it_is(tmp_path: Path) -> None:
    made = pipeline()
    made.unet.half()
    made.scheduler.set_timesteps(7)
    save_pipeline(made, tmp_path / "ours", "ours")
    assert made.unet.dtype == torch.float16
    assert made.scheduler.num_inference_steps == 7


def test_it_knows_its_levels_and_its_licence(made: Any, imported: Path) -> None:
    model = load(imported, threads=1)
    made.scheduler.set_timesteps(2)
    levels = model.plan(Request(steps=2)).sampling.levels
    np.testing.assert_allclose(levels.sigma[:2], made.scheduler.sigmas[:2], rtol=1e-6)
    assert model.spec.licence == "CC0-1.0"
    assert model.name == "ours"


def test_a_pipeline_that_cannot_be_taken_over_says_why(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has classes"):
        save_pipeline(pipeline(num_class_embeds=3), tmp_path / "a", "a")
    with pytest.raises(ModelError, match="has 5 channels: only 1"):
        save_pipeline(pipeline(channels=5), tmp_path / "b", "b")
    other = pipeline()
    other.scheduler = diffusers.DDPMScheduler()
    with pytest.raises(ModelError, match="DDPMScheduler"):
        save_pipeline(other, tmp_path / "c", "c")
    noisier = pipeline(scheduler=diffusers.CMStochasticIterativeScheduler(s_noise=1.5))
    with pytest.raises(ModelError, match=r"has s_noise 1\.5: only 1"):
        save_pipeline(noisier, tmp_path / "d", "d")
    unsized = pipeline()
    unsized.unet.register_to_config(sample_size=None)
    with pytest.raises(ModelError, match="does not say the size of its images: set sample_size"):
        save_pipeline(unsized, tmp_path / "e", "e")
    odd = pipeline()
    odd.unet.register_to_config(sample_size=(8, 9))
    with pytest.raises(ModelError, match=r"sample_size .* must be a multiple of 2, got 9x8"):
        save_pipeline(odd, tmp_path / "f", "f")
    with pytest.raises(ModelError, match="gives 6 channels for 3: a learned variance"):
        save_pipeline(pipeline(outputs=6), tmp_path / "g", "g")
    assert not list(tmp_path.iterdir())


def test_weights_in_half_precision_are_read(made: Any, imported: Path, tmp_path: Path) -> None:
    half = pipeline()
    half.unet.half()
    half.save_pretrained(tmp_path / "theirs", variant="fp16")
    assert list(tmp_path.rglob("*.fp16.safetensors"))
    ours = import_pipeline(tmp_path / "theirs", tmp_path / "ours")
    one, other = (load(folder, threads=1).generate(seed=SEED) for folder in (ours.directory, imported))
    assert np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max() <= 2


def test_weights_that_are_a_pickle_are_not_loaded(made: Any, tmp_path: Path) -> None:
    made.save_pretrained(tmp_path / "theirs", safe_serialization=False)
    assert list(tmp_path.rglob("*.bin"))
    with pytest.raises(
        ModelError, match=r"has only the pickle diffusion_pytorch_model\.bin, which can execute code: save"
    ):
        import_pipeline(tmp_path / "theirs", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_what_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"has no readable model_index\.json"):
        import_pipeline(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "empty" / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}', encoding="utf-8")
    with pytest.raises(ModelError, match="is a DDPMPipeline, not a ConsistencyModelPipeline: see fewstep distill"):
        import_pipeline(tmp_path / "empty", tmp_path / "out")
