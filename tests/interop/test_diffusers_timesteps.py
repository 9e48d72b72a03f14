"""A scheduler's timesteps as levels and back, for every scheduler that is supported."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest

from diffusers_parts import VP_SETTINGS
from fewstep.core.levels import PURE_NOISE, VP, Level, Linear
from fewstep.core.parameterisations import Clipped, Data, Epsilon, Lcm, Targets, V, Velocity
from fewstep.interop.diffusers.timesteps import SCHEDULERS, Timetable, dynamic_shift, tcd_gammas
from fewstep.models.parts import ModelError

# their own use of NumPy
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS = [1, 2, 4, 8]


def table(name: str = "DDIMScheduler", **settings: object) -> Timetable:
    vp = {} if SCHEDULERS[name].flow or SCHEDULERS[name].path else {**VP_SETTINGS}
    return Timetable.of(getattr(diffusers, name)(**{**vp, **settings}))


SPACED = {  # those whose timesteps can be counted from the noisy end
    "DDIMScheduler", "DDPMScheduler", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler",
    "LMSDiscreteScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", STEPS)
def test_n_steps_are_n_plus_1_falling_levels_from_noise_to_clean(name: str, steps: int) -> None:
    levels = table(name, **({"timestep_spacing": "trailing"} if name in SPACED else {})).levels(steps)
    assert len(levels) == steps + 1
    assert np.all(np.diff(levels.angle()) < 0)
    assert float(levels.ratio[0]) > 10
    assert float(levels.ratio[-1]) < 0.03


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "PNDMScheduler"])
def test_one_step_from_the_clean_end_is_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"1 step of this scheduler begins at σ/α = 0\.029, .* set its timestep_spacing"
    ):
        table(name).levels(1)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_timesteps_and_levels_are_inverse_whole_or_between(name: str) -> None:
    timetable = table(name)
    noisiest = float(timetable.timestep(PURE_NOISE))
    assert noisiest == pytest.approx({"SCMScheduler": np.pi / 2}.get(name, 1000 if SCHEDULERS[name].flow else 999))
    times = np.array([0.0, 0.1, 0.501, 0.9, 1.0]) * noisiest
    for scale in (1.0, 7.0):  # whatever the scale of the level
        np.testing.assert_allclose(timetable.timestep(timetable.level(times).scaled(scale)), times, atol=1e-6)


def test_the_table_is_the_schedulers_own() -> None:
    scheduler = diffusers.DDIMScheduler(**VP_SETTINGS)
    levels = Timetable.of(scheduler).level(np.arange(1000))
    np.testing.assert_allclose(levels.alpha**2, scheduler.alphas_cumprod.numpy(), rtol=1e-7)
    np.testing.assert_allclose(levels.alpha**2 + levels.sigma**2, 1.0)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_the_grid_has_the_spacing_and_the_end_of_the_settings(spacing: str) -> None:
    kept = table(steps_offset=1, timestep_spacing=spacing, set_alpha_to_one=False)
    expected = {"leading": [751, 501, 251, 1], "trailing": [999, 749, 499, 249]}[spacing]
    np.testing.assert_allclose(kept.timestep(kept.levels(4)[:-1]), expected)
    assert float(kept.timestep(kept.levels(4)[-1:])[0]) == pytest.approx(0.0, abs=1e-3)
    assert float(kept.levels(4).sigma[-1]) == pytest.approx(float(kept.level(0.0).sigma))
    assert float(table(steps_offset=1, timestep_spacing=spacing).levels(4).sigma[-1]) == 0.0


def test_pndm_visits_each_of_its_timesteps_once() -> None:
    timetable = table("PNDMScheduler", skip_prk_steps=True, steps_offset=1)
    np.testing.assert_allclose(timetable.timestep(timetable.levels(4)[:-1]), [751, 501, 251, 1])


def test_lcm_visits_the_timesteps_that_it_was_distilled_at_and_ends_clean() -> None:
    timetable = table("LCMScheduler")
    np.testing.assert_allclose(timetable.timestep(timetable.levels(4)[:-1]), [999, 759, 499, 259])
    assert float(timetable.levels(4).sigma[-1]) == 0.0


def test_a_zero_terminal_snr_is_pure_noise_to_float32() -> None:
    timetable = table(rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction")
    first = timetable.levels(2)[0]
    assert float(first.alpha) == pytest.approx(1e-6)
    assert float(first.sigma) == pytest.approx(1.0)
    assert float(table(timestep_spacing="trailing").levels(2).alpha[0]) > 0.05


def test_the_static_shift_moves_the_grid_and_not_the_table() -> None:
    plain, shifted = (table("FlowMatchEulerDiscreteScheduler", shift=shift) for shift in (1.0, 3.0))
    sigmas = np.array([1.0, 0.5])
    given, moved = (timetable.levels(2, sigmas=sigmas.tolist()).sigma[:2] for timetable in (plain, shifted))
    np.testing.assert_allclose(given, sigmas)
    np.testing.assert_allclose(moved, 3 * sigmas / (1 + 2 * sigmas), rtol=1e-6)
    assert float(shifted.level(500.0).sigma) == float(plain.level(500.0).sigma) == 0.5


def test_the_dynamic_shift_grows_with_the_image() -> None:
    timetable = table("FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True)
    assert dynamic_shift(256, {}) == pytest.approx(0.5)
    assert dynamic_shift(4096, {}) == pytest.approx(1.15)
    for tokens, mu in ((256, 0.5), (4096, 1.15)):
        sigma = float(timetable.levels(2, tokens, [1.0, 0.5]).sigma[1])
        assert sigma == pytest.approx(np.exp(mu) / (np.exp(mu) + 1), rel=1e-6)
    with pytest.raises(ValueError, match="depends on the size of the image, which was not given"):
        timetable.levels(2)


def test_it_starts_as_diffusers_does() -> None:
    noise = np.ones((1, 2))
    trailing, leading = (
        table("EulerDiscreteScheduler", timestep_spacing=spacing) for spacing in ("trailing", "leading")
    )
    for timetable, scale in ((trailing, float(trailing.levels(4).sigma[0])), (leading, 1.0), (table(), 1.0)):
        np.testing.assert_allclose(timetable.start(noise, timetable.levels(4)[0]), scale * noise)
        if timetable.kind.starts_at_sigma:
            own = type(timetable.scheduler).from_config(timetable.scheduler.config)
            own.set_timesteps(4)
            theirs = own.init_noise_sigma * float(timetable.levels(4).alpha[0])  # on the VP path's scale
            assert float(theirs) == pytest.approx(scale, rel=1e-5)


def test_the_callers_scheduler_is_left_as_it_is() -> None:
    scheduler = diffusers.DDIMScheduler(**VP_SETTINGS)
    scheduler.set_timesteps(7)
    Timetable.of(scheduler).levels(3)
    assert len(scheduler.timesteps) == 7


def test_what_the_network_predicts_follows_the_settings() -> None:
    kinds = {"epsilon": Epsilon, "v_prediction": V, "sample": Data}
    for prediction, kind in kinds.items():
        made = table(prediction_type=prediction, clip_sample=False).parameterisation()
        assert isinstance(made, kind)
        assert isinstance(made.path, VP)
    clipping = table(clip_sample=True, clip_sample_range=2.0)
    assert clipping.parameterisation() == Clipped(clipping.parameterisation(clip=False), 2.0)
    assert isinstance(clipping.parameterisation(clip=False), Epsilon)
    lcm = table("LCMScheduler", timestep_scaling=5.0).parameterisation()
    assert lcm == Lcm(Epsilon(table("LCMScheduler").path), 0.5, 5.0)
    assert table("FlowMatchEulerDiscreteScheduler").parameterisation(1000.0) == Velocity(1000.0)
    assert isinstance(table("DPMSolverMultistepScheduler", use_flow_sigmas=True).path, Linear)


def test_schedulers_say_to_which_level_their_models_jump() -> None:
    jumping = {name: kind.targets for name, kind in SCHEDULERS.items() if kind.targets is not Targets.SAME}
    assert jumping == {
        "FlowMatchLCMScheduler": Targets.CLEAN,
        "LCMScheduler": Targets.CLEAN,
        "SCMScheduler": Targets.CLEAN,
        "TCDScheduler": Targets.ANY,
    }


def test_the_gammas_of_tcd_are_those_of_the_stable_diffusion_table() -> None:
    timetable = table("TCDScheduler")
    levels = timetable.levels(4)
    np.testing.assert_allclose(tcd_gammas(timetable, levels, 0.3), [0.907, 0.792, 0.681, 0.0], atol=1e-3)
    np.testing.assert_allclose(tcd_gammas(timetable, levels, 0.0), [0.0] * 4, atol=1e-6)
    assert isinstance(levels, Level)
    with pytest.raises(ValueError, match="eta must be between 0 and 1, got"):
        tcd_gammas(timetable, levels, 1.5)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (
            diffusers.VQDiffusionScheduler(4),
            "scheduler VQDiffusionScheduler is not supported: use one of DDIMScheduler, ",
        ),
        (diffusers.DDIMScheduler(thresholding=True), r"DDIMScheduler has dynamic thresholding, .*: turn it off"),
        (
            diffusers.DDPMScheduler(prediction_type="score"),
            r"predicts 'score', .*: use epsilon, v_prediction, sample",
        ),
        (diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True), r"has inverted sigmas, .*: turn them off"),
    ],
)
def test_what_is_not_supported_is_refused_in_one_line(scheduler: object, message: str) -> None:
    with pytest.raises(ModelError, match=message) as refused:
        Timetable.of(scheduler)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("steps", [0, -1, True])
def test_impossible_steps_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="steps must be a whole number between 1 and"):
        table().levels(steps)
