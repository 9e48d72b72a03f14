"""Every family of diffusers networks as an estimator: asked as diffusers' pipelines ask it, trained and sampled alike."""

from __future__ import annotations

from functools import cache
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from diffusers_parts import EXAMPLES, SD_CONFIG, SIDE, VP_SETTINGS, as_pipelines_call, conditions, network, start
from fewstep.core.grids import trailing
from fewstep.core.guidance import Guided
from fewstep.core.levels import VP, Level, Linear
from fewstep.core.parameterisations import Parameterised, Targets
from fewstep.interop.diffusers.families import FAMILIES, pack, unpack
from fewstep.interop.diffusers.networks import DiffusersNetwork, estimator
from fewstep.interop.diffusers.timesteps import Timetable
from fewstep.models.parts import ModelError
from fewstep.objectives import Batch, ConsistencyDistillation, EasyConsistency
from fewstep.objectives.curricula import Clock
from fewstep.objectives.times import LogNormal
from fewstep.samplers import consistency, euler
from students import step_rng

net = cache(network)


def timetable(name: str) -> Timetable:
    if name == "sana_sprint":
        return Timetable.of(diffusers.SCMScheduler())
    if EXAMPLES[name].flow:
        return Timetable.of(diffusers.FlowMatchEulerDiscreteScheduler())
    return Timetable.of(diffusers.DDIMScheduler(**VP_SETTINGS, clip_sample=False))


def made(name: str, **settings: Any) -> Parameterised:
    return estimator(net(name), timetable(name), **settings)


def middle(name: str, size: int = 2) -> Level:
    table = timetable(name)
    return table.level(0.4 * float(table.timestep(Level(0.0, 1.0)))).batch(size)


def test_every_family_has_an_example() -> None:
    assert {type(net(name)).__name__ for name in EXAMPLES} == set(FAMILIES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_network_is_asked_as_diffusers_pipelines_ask_it(name: str) -> None:
    at, cond, x = middle(name), conditions(name, 2), start(name)
    to = Level(1.0, 0.25).scaled(0.8).batch(2)  # t = 0.2 on the linear path
    theirs = as_pipelines_call(
        name, net(name), x, timetable(name).timestep(at)[0], {**cond, "to": torch.tensor(200.0)}
        if name == "flux3_flow_map" else cond,
    )  # fmt: skip
    own = made(name)
    if name == "sana_sprint":  # whose output they turn into TrigFlow's: D = cos t·x − sin t·F
        expected = at.alpha[0] * x - at.sigma[0] * theirs
    else:
        expected = own.parameterisation.estimate(x, theirs, at)
    torch.testing.assert_close(own(x, at, to, cond), expected, atol=2e-5, rtol=1e-5)
    assert own(x, at, to, cond).shape == x.shape


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_condition_matters_and_belongs_to_its_own_sample(name: str) -> None:
    at, x, own = middle(name), start(name), made(name)
    first, second = conditions(name, 2), conditions(name, 2, seed=1)
    if "label" in first:
        second["label"] = (first["label"] + 1) % 4
    for extra in ("guidance", "time_ids"):
        if extra in first:
            second[extra] = first[extra] + 3.0
    before = own(x, at, at, first)
    for condition in EXAMPLES[name].conditions:
        changed = {**first, condition: first[condition].clone()}
        changed[condition][1] = second[condition][1]
        after = own(x, at, at, changed)
        torch.testing.assert_close(after[0], before[0], atol=1e-5, rtol=1e-5)
        assert float((after[1] - before[1]).abs().max()) > 1e-5, condition


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_sample_has_its_own_time(name: str) -> None:
    at, x, own, cond = middle(name), start(name), made(name), conditions(name, 2)
    apart = Level(np.array([at.alpha[0], 0.95]), np.array([at.sigma[0], 0.2]))
    both = own(x, apart, apart, cond)
    torch.testing.assert_close(both[0], own(x, at, at, cond)[0], atol=1e-5, rtol=1e-5)
    alone = {condition: values[1:] for condition, values in cond.items()}
    torch.testing.assert_close(both[1:], own(x[1:], apart[1:], apart[1:], alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if EXAMPLES[name].conditions])
def test_a_missing_condition_is_named(name: str) -> None:
    at, x, own = middle(name), start(name), made(name)
    for condition in EXAMPLES[name].conditions:
        rest = {other: values for other, values in conditions(name, 2).items() if other != condition}
        with pytest.raises(ValueError, match=rf"a {type(net(name)).__name__} needs the condition {condition}, got"):
            own(x, at, at, rest)


def test_a_condition_that_would_have_no_effect_is_refused() -> None:
    with pytest.raises(ValueError, match="does not take the condition guidance: it takes text, text_mask"):
        made("sd")(start("sd"), middle("sd"), middle("sd"), {**conditions("sd", 2), "guidance": torch.ones(2)})


@pytest.mark.parametrize("name", ["sd", "pixart", "sana"])
def test_masked_tokens_are_not_attended_to(name: str) -> None:
    at, x, own, cond = middle(name), start(name), made(name), conditions(name, 2)
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]]).repeat(2, 1)
    other = {**cond, "text": cond["text"] + 5 * (1 - mask)[..., None]}
    masked, changed = (own(x, at, at, {**given, "text_mask": mask}) for given in (cond, other))
    torch.testing.assert_close(masked, changed, atol=1e-5, rtol=1e-5)
    assert float((own(x, at, at, other) - own(x, at, at, cond)).abs().max()) > 1e-4


@pytest.mark.parametrize("name", EXAMPLES)
def test_only_flow_maps_read_where_the_jump_goes(name: str) -> None:
    at, x, own, cond = middle(name), start(name), made(name), conditions(name, 2)
    nearer = Level(0.9, 0.1).batch(2)
    same = torch.equal(own(x, at, at, cond), own(x, at, nearer, cond))
    assert same is (name != "flux3_flow_map")
    assert own.targets is {"flux3_flow_map": Targets.ANY, "sana_sprint": Targets.CLEAN}.get(name, Targets.SAME)


@pytest.mark.parametrize("name", ["sd", "sd3", "flux"])
def test_numpy_arrays_give_numpy_arrays(name: str) -> None:
    at, cond, x = middle(name), conditions(name, 2), start(name)
    plain = made(name)(x.numpy(), at, at, {condition: values.numpy() for condition, values in cond.items()})
    assert isinstance(plain, np.ndarray)
    assert plain.dtype == np.float32
    np.testing.assert_allclose(plain, made(name)(x, at, at, cond).numpy(), atol=1e-6)


def test_a_network_in_half_precision_gives_the_precision_of_x() -> None:
    half = network("sd3").to(torch.bfloat16)
    at, cond, x = middle("sd3"), conditions("sd3", 2), start("sd3")
    estimate = estimator(half, timetable("sd3"))(x, at, at, cond)
    assert estimate.dtype == torch.float32
    torch.testing.assert_close(estimate, made("sd3")(x, at, at, cond), atol=0.1, rtol=0.1)


def test_packed_latents_are_diffusers_own() -> None:
    x = torch.randn(2, 3, 4, 6)
    torch.testing.assert_close(pack(x), diffusers.FluxPipeline._pack_latents(x, 2, 3, 4, 6))
    torch.testing.assert_close(unpack(pack(x), 2, 3), x)
    with pytest.raises(ValueError, match="packed latents must be even, got 4 and 5"):
        pack(x[..., :5])


@pytest.mark.parametrize("name", ["sd", "sd3"])
def test_guidance_is_diffusers_own(name: str) -> None:
    at, x, own = middle(name), start(name), made(name)
    cond, null = conditions(name, 2), conditions(name, 1, seed=5)
    wide = {condition: values.expand(2, *values.shape[1:]) for condition, values in null.items()}
    t = timetable(name).timestep(at)[0]
    text, empty = (as_pipelines_call(name, net(name), x, t, given) for given in (cond, wide))
    theirs = empty + 7.5 * (text - empty)
    ours = Guided(own, null, 7.5)(x, at, at, cond)
    torch.testing.assert_close(ours, own.parameterisation.estimate(x, theirs, at), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["sd", "sd3"])
@pytest.mark.parametrize("method", ["ect", "consistency distillation"])
def test_objectives_train_it(name: str, method: str) -> None:
    path = VP.scaled_linear() if name == "sd" else Linear()
    student = network(name).requires_grad_(True)
    model = estimator(student, timetable(name), Targets.CLEAN)
    density = LogNormal(-1.0, 1.0)
    objective = (
        EasyConsistency(density=density, path=path)
        if method == "ect"
        else ConsistencyDistillation(made(name), levels=4, sigma_min=0.1, sigma_max=10.0, path=path)
    )
    batch = Batch(0.5 * start(name), conditions(name, 2))
    loss = objective(model, model, batch, Clock(0, 10), step_rng())
    loss.value.backward()
    gradients = [parameter.grad for parameter in student.parameters() if parameter.grad is not None]
    assert torch.isfinite(loss.value)
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert all(parameter.grad is None for parameter in net(name).parameters())  # the teacher's


def test_dropout_that_branches_cannot_share_is_refused() -> None:
    student = network("sd")
    keys, at = {"dropout": torch.zeros(2, dtype=torch.int64)}, middle("sd")
    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    own = estimator(student, timetable("sd"))
    own(start("sd"), at, at, {**conditions("sd", 2), **keys})
    student.train()
    with pytest.raises(ValueError, match="drops activations by torch's own masks"):
        own(start("sd"), at, at, {**conditions("sd", 2), **keys})


def test_an_edit_keeps_what_is_known() -> None:
    """Inpainting as in 2303.01469 alg. 4: each estimate's left half is replaced before the next level."""
    model, cond, known = made("sd", targets=Targets.CLEAN), conditions("sd", 2), start("sd", seed=1)
    mask = torch.zeros(SIDE)
    mask[: SIDE // 2] = 1.0

    class Constrained:
        targets, epsilon = Targets.CLEAN, 0.0

        def __call__(self, x: Any, at: Level, to: Level, given: Any) -> Any:
            return mask * known + (1 - mask) * model(x, at, to, given)

    jumps = list(
        consistency(
            Constrained(), start("sd"), trailing(VP.scaled_linear(), 4), cond, lambda draw: start("sd", seed=draw)
        )
    )
    torch.testing.assert_close(jumps[-1].x[..., : SIDE // 2], known[..., : SIDE // 2], atol=1e-6, rtol=1e-6)
    free = list(euler(made("sd"), start("sd"), trailing(VP.scaled_linear(), 4), cond))
    assert float((free[-1].x - known)[..., : SIDE // 2].abs().max()) > 0.1


def test_it_is_a_module_with_the_networks_parameters_and_mode() -> None:
    inner = network("sd3").requires_grad_(True)
    wrapped = DiffusersNetwork(inner)
    assert {id(parameter) for parameter in wrapped.parameters()} == {
        id(parameter) for parameter in inner.parameters()
    }
    assert not wrapped.training
    wrapped.train()
    assert inner.training


def test_an_unsupported_network_is_refused_by_naming_those_supported() -> None:
    with pytest.raises(ModelError, match="the network Linear is not supported: use one of DiTTransformer2DModel, "):
        DiffusersNetwork(torch.nn.Linear(1, 1))


def test_networks_that_want_an_image_beside_the_noise_are_refused() -> None:
    inpainting = diffusers.UNet2DConditionModel(**{**SD_CONFIG, "in_channels": 9})
    with pytest.raises(ModelError, match="takes 9 channels and gives 4: it wants an image beside the noise"):
        DiffusersNetwork(inpainting)


def test_an_unknown_added_condition_is_refused() -> None:
    described = {"addition_embed_type": "text", "addition_embed_type_num_heads": 4}
    kandinsky = diffusers.UNet2DConditionModel(**SD_CONFIG, **described, encoder_hid_dim=16)
    with pytest.raises(ModelError, match="addition_embed_type 'text' is not supported: text_time is"):
        DiffusersNetwork(kandinsky)
