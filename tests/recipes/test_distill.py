"""`fewstep distill`: the loss is the authors', runs resume to the bit, and what comes out loads without fewstep."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

pytest.importorskip("peft")
pytest.importorskip("diffusers")

from diffusers import FlowMatchEulerDiscreteScheduler

from diffusers_folders import flux, pixart, stable_diffusion, stable_diffusion_3, stable_diffusion_xl
from fewstep.cli.main import main
from fewstep.core.guidance import Guided
from fewstep.core.levels import CLEAN
from fewstep.core.parameterisations import Parameterised, Targets
from fewstep.data.dataset import DataError
from fewstep.data.encoded import bucket_sizes, read_images
from fewstep.interop.diffusers.networks import DiffusersNetwork
from fewstep.interop.diffusers.pipeline import open_pipeline
from fewstep.interop.diffusers.timesteps import Timetable
from fewstep.models.parts import ModelError
from fewstep.objectives.curricula import Clock
from fewstep.objectives.objective import Batch
from fewstep.recipes.distill import DistillRecipe, defaults
from fewstep.recipes.distill_methods import METHODS, Method
from fewstep.recipes.distill_run import Distillation
from fewstep.recipes.pipeline_previews import few_step_scheduler
from fewstep.samplers import consistency, euler, flow_map
from fewstep.training.checkpoints import AnotherRun
from once import Once

ELSEWHERE = """
import sys
import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, LCMScheduler
sys.modules["fewstep"] = None  # an import of it would fail
method, teacher, folder, file = sys.argv[1:]
if method == "lcm-lora":
    pipeline = DiffusionPipeline.from_pretrained(teacher)
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    pipeline.load_lora_weights(folder)
elif method == "flow-map-lora":
    pipeline = DiffusionPipeline.from_pretrained(teacher, custom_pipeline=folder, trust_remote_code=True)
    pipeline.load_flow_map(folder)
else:
    pipeline = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
is_map = "flow" in method
assert type(pipeline.scheduler) is (DDIMScheduler if is_map else LCMScheduler)
scale = 8.0 if method == "lcm" else 1.0
noise = torch.from_numpy(np.load(file))
options = dict(height=32, width=32, latents=noise, output_type="np", generator=torch.Generator().manual_seed(0))
drawn = pipeline("cat a", num_inference_steps=2 if is_map else 1, guidance_scale=scale, **options)
assert drawn.images.shape == (1, 32, 32, 3)
np.save(file, drawn.images)
if is_map:
    assert len(pipeline.unet._forward_pre_hooks) == 0
    assert pipeline("cat a", height=32, width=32, output_type="np").images.shape == (1, 32, 32, 3)
"""


@pytest.fixture(scope="session")
def teacher(once: Once) -> Path:
    return once("distill-teacher", lambda folder: stable_diffusion().save_pretrained(folder / "sd")) / "sd"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve captioned pictures of three shapes."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = []
    for i in range(12):
        size = ((32, 32), (48, 24), (24, 48))[i % 3]
        Image.new("RGB", size, (20 * i, 255 - 20 * i, 90)).save(folder / f"{i}.png")
        rows.append({"file_name": f"{i}.png", "text": f"cat {'abc'[i % 3]}"})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def recipe(
    teacher: Path, data: Path, method: Method = "lcm-lora", images: int = 12, **settings: Any
) -> DistillRecipe:
    made = replace(defaults(method), teacher=str(teacher), data=str(data), rank=4, resolution=32)
    made = replace(made, **settings)
    training = replace(made.training, images=images, batch=4, precision="float32", checkpoint_every=1)
    return replace(made, training=training)


class Fixed:
    """Random numbers that are known beforehand."""

    def __init__(self, uniform: Sequence[float], noise: Tensor) -> None:
        self._uniform, self._noise = uniform, noise

    def uniform(self, shape: Sequence[int]) -> Tensor:
        return torch.tensor(self._uniform, dtype=torch.float64).reshape(tuple(shape))

    def normal(self, shape: Sequence[int]) -> Tensor:
        return self._noise.reshape(tuple(shape))


@pytest.mark.parametrize("method", ["lcm-lora", "lcm"])
def test_the_loss_is_the_authors(teacher: Path, data: Path, tmp_path: Path, method: Method) -> None:
    """2310.04378 alg. 1 on timesteps, as the authors' code has it, against ours on levels."""
    run = Distillation(recipe(teacher, data, method), tmp_path)
    student, network = run.lesson.networks()
    for name, parameter in student.named_parameters():
        if parameter.requires_grad and ("lora_B" in name or "cond_proj" in name):
            torch.nn.init.normal_(parameter, std=0.3)
    objective = run.lesson.objective(network, (32, 32))
    estimator = Parameterised(student, run.lesson.boundary, Targets.CLEAN)
    torch.manual_seed(0)
    batch, noise = torch.randn(3, 4, 16, 16), torch.randn(3, 4, 16, 16)
    cond, places = run.pipeline.encode(["cat a", "b", ""]), [0.001, 0.437, 0.999]
    loss = objective(estimator, estimator, Batch(batch, cond), Clock(0, 10), Fixed(places, noise))
    assert not isinstance(loss, dict)

    table = run.pipeline.timetable.scheduler.alphas_cumprod.double()
    t = torch.tensor([20 * int(50 * u) + 19 for u in places])
    s = torch.clip(t - 20, min=0)
    low, high = run.recipe.scales
    is_lora = method == "lcm-lora"
    w = torch.full((3,), run.recipe.guidance) if is_lora else low + (high - low) * torch.tensor(places)
    told = {} if is_lora else {"guidance": w.float()}
    null = run.pipeline.null(3)

    def eps(network: Any, x: Tensor, time: Tensor, cond: dict[str, Tensor]) -> Tensor:
        found: Tensor = network(x.float(), time.float(), time.float(), cond).double()
        return found

    def parts(time: Tensor) -> tuple[Tensor, Tensor]:
        return table[time].sqrt().reshape(3, 1, 1, 1), (1 - table[time]).sqrt().reshape(3, 1, 1, 1)

    def consistency(x: Tensor, time: Tensor) -> Tensor:
        alpha, sigma = parts(time)
        scaled = (10.0 * time.double()).reshape(3, 1, 1, 1)
        skip, out = 0.25 / (scaled**2 + 0.25), scaled / (scaled**2 + 0.25).sqrt()
        clean = (x - sigma * eps(student, x, time, {**cond, **told})) / alpha
        return skip * x + out * clean

    (alpha, sigma), (lower_alpha, lower_sigma) = parts(t), parts(s)
    with torch.no_grad():
        x = alpha * batch.double() + sigma * noise.double()
        conditional, unconditional = eps(network, x, t, cond), eps(network, x, t, null)
        guided = unconditional + w.double().reshape(3, 1, 1, 1) * (conditional - unconditional)
        clean = (x - sigma * guided) / alpha
        difference = consistency(x, t) - consistency(lower_alpha * clean + lower_sigma * guided, s)
        huber = ((difference**2 + 0.001**2).sqrt() - 0.001).mean(dim=(1, 2, 3))
    torch.testing.assert_close(loss.per_sample.double(), huber, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_what_comes_out_loads_where_there_is_no_fewstep(
    teacher: Path, data: Path, tmp_path: Path, method: Method
) -> None:
    """And draws there what our samplers draw with the student as it was trained."""
    made = recipe(teacher, data, method)
    fast = replace(made.training, optimizer=replace(made.training.optimizer, lr=0.02))  # far from the teacher
    made = replace(made, training=fast)
    run = Distillation(made, tmp_path / "run")
    saved: list[Any] = []
    original = run._save
    run._save = lambda average, images: saved.append(average) or original(average, images)  # type: ignore[method-assign]  # listens in
    folder = run.run()
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    np.save(tmp_path / "file.npy", noise.numpy())
    ran = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, method, str(teacher), str(folder), str(tmp_path / "file.npy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr

    targets = made.kind.targets
    table = replace(run.pipeline, timetable=Timetable.of(few_step_scheduler(run.pipeline.timetable, targets)))
    levels = table.levels(2 if targets is Targets.ANY else 1)
    cond = run.pipeline.encode(["cat a"], (32, 32)) | ({"guidance": torch.tensor([8.0])} if made.kind.told else {})
    student = Parameterised(saved[0], run.lesson.boundary, targets)
    sampler = flow_map if targets is Targets.ANY else consistency
    with torch.no_grad():
        *_, last = sampler(student, table.timetable.start(noise, levels[0]), levels, cond, lambda step: noise)
        pixels = torch.as_tensor(run.pipeline.codec.decode(last.x)).clip(0, 1).permute(0, 2, 3, 1)
    assert np.abs(np.load(tmp_path / "file.npy") - pixels.numpy()).max() < 2e-3

    card = (folder / "README.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in card
    assert str(data.parent) not in card
    assert f"from\n{len(read_images(tmp_path / 'run' / 'encoded' / 'images'))} captioned images" in card
    assert list((tmp_path / "run" / "student" / "previews").glob("distilled-*3.png"))


def test_a_flow_map_begins_as_its_teacher_wherever_it_is_to_jump(teacher: Path, data: Path, tmp_path: Path) -> None:
    for method in ("flow-map", "flow-map-lora"):
        run = Distillation(recipe(teacher, data, method), tmp_path)
        student, network = run.lesson.networks()
        cond, x, t = run.pipeline.encode(["cat a"]), torch.randn(1, 4, 16, 16), torch.tensor([500.0])
        expected = network(x, t, t, cond)
        for end in (0.0, 250.0, 500.0):
            torch.testing.assert_close(student(x, t, torch.tensor([end]), cond), expected)
        with torch.no_grad():
            student.get_submodule("network.class_embedding.linear_2").weight.normal_()
            apart = student(x, t, torch.zeros(1), cond) - student(x, t, t, cond)
        assert apart.abs().max() > 1e-3
        assert torch.equal(network(x, t, t * 0, cond), expected)  # the teacher is still what it was


def test_a_flow_map_learns_where_a_jump_ends(teacher: Path, data: Path, tmp_path: Path) -> None:
    """Its jumps come closer to the guided teacher's trajectory than those it began with."""
    made = recipe(teacher, data, "flow-map", images=240)
    fast = replace(made.training, checkpoint_every=0, optimizer=replace(made.training.optimizer, lr=2e-3))
    made = replace(made, training=fast)
    run = Distillation(made, tmp_path)
    saved: list[Any] = []
    run._save = lambda average, images: saved.append(average) or tmp_path  # type: ignore[func-returns-value,method-assign]  # listens in
    run.run()
    cond, null = run.pipeline.encode(["cat a"] * 4, (32, 32)), run.pipeline.null(4)
    x = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = run.pipeline.estimator(clip=False)
    scheduler = few_step_scheduler(run.pipeline.timetable, Targets.ANY)
    table = replace(run.pipeline, timetable=Timetable.of(scheduler))
    one, many = table.levels(1), table.levels(50)
    with torch.no_grad():
        *_, there = euler(Guided(plain, null, made.guidance), x, many, cond)
        *_, learnt = flow_map(Parameterised(saved[0], run.lesson.boundary, Targets.ANY), x, one, cond)
        *_, step = euler(Guided(plain, null, made.guidance), x, one, cond)
        *_, before = euler(plain, x, one, cond)
    far, step_far, before_far = (float((each.x - there.x).square().mean()) for each in (learnt, step, before))
    assert far < 0.8 * step_far
    assert far < 0.7 * before_far


@pytest.mark.parametrize("method", METHODS)
def test_a_run_goes_on_to_the_bit(teacher: Path, data: Path, tmp_path: Path, method: Method) -> None:
    whole = recipe(teacher, data, method).run(tmp_path / "whole")
    recipe(teacher, data, method, images=4).run(tmp_path / "parts")
    parts = recipe(teacher, data, method).run(tmp_path / "parts")
    for file in whole.rglob("*.safetensors"):
        ours, theirs = load_file(file), load_file(parts / file.relative_to(whole))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(AnotherRun, match=r"guidance was 7\.5, now 3"):
        replace(recipe(teacher, data, method), guidance=3.0).run(tmp_path / "parts")


def test_the_student_of_lcm_begins_as_the_teacher_whatever_the_scale(
    teacher: Path, data: Path, tmp_path: Path
) -> None:
    run = Distillation(recipe(teacher, data, "lcm"), tmp_path)
    student, network = run.lesson.networks()
    cond, x, t = run.pipeline.encode(["cat a"]), torch.randn(1, 4, 16, 16), torch.tensor([500.0])
    expected = network(x, t, t, cond)
    for scale in (1.0, 9.0):
        torch.testing.assert_close(student(x, t, t, {**cond, "guidance": torch.tensor([scale])}), expected)


def test_images_go_into_buckets_of_their_shape_and_are_encoded_once(
    teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Distillation(recipe(teacher, data), tmp_path)
    images = run.images.encoded(tmp_path / "encoded")
    assert len(images) == 12
    assert all(h * w == pytest.approx(32 * 32, rel=0.2) for h, w in images.sizes)
    assert {len(captions) for captions in images.captions} == {4}
    for (height, width), captions, latents in zip(images.sizes, images.captions, images.latents, strict=True):
        assert latents.shape[1:] == (4, height // 2, width // 2)
        assert len(set(captions)) == 1  # captions follow their images
    drawn = [images.bucket_at(0, step) for step in range(600)]
    assert np.bincount(drawn).tolist() == pytest.approx([200, 200, 200], abs=50)
    monkeypatch.setattr("fewstep.data.encoded._write", lambda *given: pytest.fail("encoded again"))
    again = Distillation(recipe(teacher, data), tmp_path).images.encoded(tmp_path / "encoded")
    assert all(np.array_equal(a, b) for a, b in zip(images.latents, again.latents, strict=True))
    with pytest.raises(DataError, match="was encoded with another flip, passes: delete it"):
        Distillation(recipe(teacher, data, flip=True, passes=2), tmp_path).images.encoded(tmp_path / "encoded")


def test_sizes_of_buckets_have_about_the_same_area() -> None:
    sizes = bucket_sizes(512, 64)
    assert (512, 512) in sizes
    assert all(height % 64 == width % 64 == 0 for height, width in sizes)
    assert all(height * width == pytest.approx(512 * 512, rel=0.15) for height, width in sizes)
    assert [w / h for h, w in sizes] == sorted(w / h for h, w in sizes)
    assert {(w, h) for h, w in sizes} == set(sizes)
    assert bucket_sizes(32, 32) == [(32, 32)]
    with pytest.raises(ValueError, match="resolution must be at least 64, got 32"):
        bucket_sizes(32, 64)


FAMILIES = {"sdxl": stable_diffusion_xl, "sd3": stable_diffusion_3, "flux": flux}


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_are_distilled_too(data: Path, tmp_path: Path, family: str) -> None:
    FAMILIES[family]().save_pretrained(tmp_path / "teacher")
    made = recipe(tmp_path / "teacher", data, images=4, gradient_checkpointing=family == "sdxl")
    folder = made.run(tmp_path / "out")
    assert (folder / "pytorch_lora_weights.safetensors").is_file()
    scheduler = "FlowMatchLCMScheduler" if family in ("sd3", "flux") else "LCMScheduler"
    assert f"pipeline.scheduler = {scheduler}.from_config" in (folder / "README.md").read_text(encoding="utf-8")


def test_the_students_of_flows_see_what_their_scheduler_visits(data: Path, tmp_path: Path) -> None:
    stable_diffusion_3().save_pretrained(tmp_path / "sd3")
    run = Distillation(recipe(tmp_path / "sd3", data), tmp_path / "out")
    grid = run.lesson.grid((32, 32))
    assert len(grid) == 51
    assert grid[0] == 0
    assert grid[-1] == 1000
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(50)
    ratios = np.array(grid[:-1])
    assert np.allclose(ratios / (1 + ratios), scheduler.sigmas.numpy()[:0:-1], atol=1e-6)
    student, _ = run.lesson.networks()
    x, clean = torch.randn(2, 16, 16, 16), CLEAN.like(torch.zeros(2)).batch(2)
    estimate = Parameterised(student, run.lesson.boundary, Targets.CLEAN)(
        x, clean, clean, run.lesson.conditions(["a", ""], (32, 32))
    )
    assert torch.equal(estimate, x)  # the boundary condition


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"--teacher": None}, "--teacher must name a diffusers pipeline"),
        ({"--data": None}, "--data must name captioned images"),
        ({"--teacher": "nowhere"}, "nowhere"),
        ({"--data": "nowhere"}, "there is no folder or file 'nowhere'"),
        ({"--resolution": "33"}, "resolution must be a multiple of"),
        ({"--rank": "0"}, "rank must be at least 1, got 0"),
        ({"--guidance": "-1"}, "guidance must be above 0"),
        (
            {"--method": "magic"},
            "--method must be one of easy, flow-map, flow-map-lora, lcm, lcm-lora, mean-flow, scm, got 'magic'",
        ),
        ({"--solver-steps": "2000"}, "solver_steps must be at most 1000, got 2000"),
        ({"--targets": "to_x"}, "to_x"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    teacher: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str | None],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"--teacher": str(teacher), "--data": str(data), "--out": "out", "--rank": "4", **settings}
    arguments = [part for name, value in given.items() if value is not None for part in (name, value)]
    with pytest.raises(SystemExit) as stopped:
        main(["distill", *arguments])
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in said
    assert not (tmp_path / "out" / "models").exists()


def test_pipelines_that_cannot_be_distilled_say_why(data: Path, teacher: Path, tmp_path: Path) -> None:
    done = recipe(teacher, data, "lcm", images=4).run(tmp_path / "run")
    with pytest.raises(ModelError, match="has the scheduler LCMScheduler: it is few-step already"):
        recipe(done, data).run(tmp_path / "again")
    pixart().save_pretrained(tmp_path / "pixart")
    with pytest.raises(ModelError, match="a LoRA needs diffusers' UNet2DConditionModel or one of its transformers"):
        recipe(tmp_path / "pixart", data).run(tmp_path / "out")
    stable_diffusion_3().save_pretrained(tmp_path / "sd3")
    with pytest.raises(
        ModelError, match="lcm trains a UNet2DConditionModel, not a SD3Transformer2DModel: use lcm-lora"
    ):
        recipe(tmp_path / "sd3", data, "lcm").run(tmp_path / "out")
    bare = tmp_path / "bare"
    bare.mkdir()
    Image.new("RGB", (32, 32)).save(bare / "a.png")
    with pytest.raises(DataError, match=r"has no captions: write metadata\.jsonl, or a \.txt for each image"):
        recipe(teacher, bare).run(tmp_path / "bare-run")
    with pytest.raises(DataError, match="is inside the data"):
        recipe(teacher, data).run(data / "out")


def test_the_cost_is_told_first_and_too_much_is_refused(
    teacher: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewstep.recipes.distill_run.free_on", lambda device: 1000)
    with caplog.at_level("INFO"), pytest.raises(ValueError, match=r"needs about 0\.\d+ GB .* lower --training.batch"):
        recipe(teacher, data, images=4).run(tmp_path / "run")
    assert "GB of memory (weights 0.0, optimiser 0.0" in caplog.text
    assert not (tmp_path / "run" / "student").exists()
    assert recipe(teacher, data, images=4, unchecked=True).run(tmp_path / "run").is_dir()


def test_small_images_are_enlarged_with_a_warning(
    teacher: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    Image.new("RGB", (20, 20)).save(folder / "a.png")
    (folder / "a.txt").write_text("cat", encoding="utf-8")
    Distillation(recipe(teacher, folder), tmp_path / "out").images.encoded(tmp_path / "out" / "encoded")
    assert "1 of 1 images are smaller than the resolution and enlarged" in caplog.text


def test_an_opened_result_is_a_consistency_model(teacher: Path, data: Path, tmp_path: Path) -> None:
    folder = recipe(teacher, data, "lcm", images=4).run(tmp_path)
    opened = open_pipeline(folder)
    assert opened.estimator().targets is Targets.CLEAN
    assert isinstance(opened.estimator().network, DiffusersNetwork)
    assert len(opened.levels(4).sigma) == 5
