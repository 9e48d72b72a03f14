"""The four choices of a recipe in two stages: what goes together is trained, what does not is refused before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import fewstep
from fewstep.core.parameterisations import Targets
from fewstep.objectives.registry import OBJECTIVES
from fewstep.recipes import two_stage
from fewstep.recipes.digits import DigitsRecipe
from fewstep.recipes.images import ImagesRecipe
from fewstep.recipes.toy import ToyRecipe
from fewstep.recipes.two_stage import TwoStage
from fewstep.training.checkpoints import AnotherRun
from picture_cases import six_in
from recipe_runs import short, staged

DIGITS = short(DigitsRecipe(size=8, widths=(32,), depths=(1,)))


pytestmark = pytest.mark.usefixtures("without_graphs")


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"objective": "diffusion"}, "objective must be one for students, got diffusion"),
        ({"objective": "consistency_distillation", "teacher_objective": "none"}, "needs a teacher.* got none"),
        ({"objective": "truncated_consistency"}, "continues a consistency model.* as parent"),
        ({"objective": "truncated_consistency", "parent": "emoji-teacher"}, "targets are 'clean'.* 'emoji-teacher'"),
        ({"parent": "emoji-teacher"}, "parent must have this recipe's network.* widths"),
        ({"parent": "emoji"}, "parent must not have guidance distilled in, but 'emoji' has"),
        ({"parent": "emoji-teacher", "start": "emoji-teacher"}, "exclude each other"),
        ({"objective": "mean_flow", "path": "trig"}, "path must be linear for mean_flow, got trig"),
        ({"objective": "continuous_training", "path": "ve"}, "path must be trig for continuous_consistency, got ve"),
        ({"teacher_objective": "flow_matching", "path": "vp"}, "path must be linear for flow_matching, got vp"),
        ({"objective": "easy_consistency", "sampler": "flow_map"}, "flow_map needs 'any'"),
        ({"objective": "easy_consistency", "sampler": "heun"}, "heun needs 'same'"),
        ({"network": "mlp"}, "'mlp' is for points"),
        ({"network": "unet2d"}, "'unet2d' takes only x and its level, not classes"),
        ({"network": "resnet"}, "network must be .*'unet'.* got 'resnet'"),
        ({"path": "circle"}, "path must be .*'trig'.* got 'circle'"),
        ({"sampler": "magic"}, "sampler must be .*'euler'.* got 'magic'"),
        ({"teacher_objective": "mean_flow"}, "teacher_objective must be .*'flow_matching'.* got 'mean_flow'"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_training(
    tmp_path: Path, choices: dict[str, Any], says: str
) -> None:
    named = {"objective": OBJECTIVES.get, "parent": Path, "start": Path}
    with pytest.raises(ValueError, match=says):
        staged(DIGITS, **{name: named.get(name, str)(value) for name, value in choices.items()}).run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_graphs_are_refused_where_derivatives_are_taken() -> None:
    stages = TwoStage(objective=OBJECTIVES["mean_flow"])
    stages.check()
    with pytest.raises(ValueError, match=r"student\.graphs must be off"):
        replace(stages, student=replace(stages.student, graphs=True)).check()


def test_a_unet_is_refused_for_points(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'unet' is for images"):
        staged(ToyRecipe(), network="unet").run(tmp_path)


@pytest.mark.parametrize("path", two_stage.PATHS)
def test_the_same_is_learned_on_every_path(path: str, tmp_path: Path) -> None:
    weights = []
    for name in (None, path):
        saved = two_stage.train_teacher(staged(DIGITS, path=name), tmp_path / str(name))
        weights.append(load_file(saved.weights))
    for name, values in weights[0].items():
        np.testing.assert_allclose(weights[1][name], values, rtol=2e-3, atol=2e-5, err_msg=name)


def test_the_path_reaches_the_objective(tmp_path: Path) -> None:
    two_stage.train_teacher(staged(DIGITS, path="trig"), tmp_path)
    with pytest.raises(AnotherRun, match=r"objective\.path"):
        two_stage.train_teacher(staged(DIGITS, path="linear"), tmp_path)


def test_a_student_of_data_alone_needs_no_teacher(tmp_path: Path) -> None:
    recipe = staged(DIGITS, objective=OBJECTIVES["shortcut"], teacher_objective="none")
    saved = recipe.run(tmp_path)
    assert [folder.name for folder in (tmp_path / "models").iterdir()] == ["digits"]
    assert not (tmp_path / "teacher").exists()
    assert list(saved.spec.lineage) == []
    assert fewstep.load(saved.directory, engine="eager").generate(label=3, steps=4).record.network_evaluations == 4


def test_a_teacher_by_flow_matching_learns_something_else_and_is_distilled(tmp_path: Path) -> None:
    teacher = load_file(two_stage.train_teacher(DIGITS, tmp_path / "diffusion").weights)
    recipe = staged(DIGITS, objective=OBJECTIVES["lagrangian_flow_map"], teacher_objective="flow_matching")
    saved = recipe.run(tmp_path / "flow")
    other = load_file(tmp_path / "flow" / "models" / "digits-teacher" / "network.safetensors")
    assert any(not np.array_equal(values, other[name]) for name, values in teacher.items())
    assert saved.spec.targets is Targets.ANY


def test_a_flow_map_is_sampled_as_a_consistency_function_if_asked(tmp_path: Path) -> None:
    recipe = staged(DIGITS, objective=OBJECTIVES["soflow"], sampler="consistency", teacher_objective="none")
    saved = recipe.run(tmp_path)
    assert saved.spec.sampler == "consistency"
    assert fewstep.load(saved.directory, engine="eager").generate(label=3).record.sampler == "consistency"


def test_another_kind_of_network_is_trained(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="the network 'unet2d' is diffusers'")
    photos = six_in(tmp_path / "photos")
    recipe = short(ImagesRecipe(data=str(photos), size=16, widths=(32, 32), depths=(1, 1), condition="none"))
    saved = staged(recipe, network="unet2d").run(tmp_path / "run")
    assert saved.spec.network["kind"] == "unet2d"
    assert fewstep.load(saved.directory, engine="eager").generate("", seed=1).size == (16, 16)
