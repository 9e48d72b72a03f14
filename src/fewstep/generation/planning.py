"""Planning: a request and a model's description become a plan, in which every choice is made.

Planning is a pure function: it draws no random numbers and runs no network. A plan keeps only those parts of a
request's pictures that are needed later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fewstep.core.grids import from_ratios
from fewstep.core.levels import Level
from fewstep.core.parameterisations import Parameterised, UnsupportedTarget, require_targets
from fewstep.editing import Measurement, grid_from
from fewstep.editing.errors import RequestError
from fewstep.editing.framing import Framed, Window, framed
from fewstep.editing.layouts import Layout
from fewstep.editing.prepared import Prepared, StartImage
from fewstep.generation.request import GUIDANCE, MAX_GUIDANCE, Interpolation, Request
from fewstep.models.spec import ModelSpec
from fewstep.pictures import image_hash
from fewstep.pictures.generated import GeneratedImage
from fewstep.pictures.pixels import from_image
from fewstep.samplers import SAMPLERS, Sampler


@dataclass(frozen=True)
class Sampling:
    """The sampler, its levels and its noise.

    Args:
        sampler: name of the sampler in `fewstep.samplers.SAMPLERS`.
        levels: levels [steps + 1], from the noisiest to clean.
        seeds: one seed per image.
        gamma: the share of fresh noise between steps; None for a sampler that takes none.
        interpolation: the interpolation to another seed, or None.
        noise: the noise to start from, float32 [images, ...]; None for that of the seeds.
    """

    sampler: str
    levels: Level
    seeds: tuple[int, ...]
    gamma: float | None = None
    interpolation: Interpolation | None = None
    noise: Any = None

    @property
    def steps(self) -> int:
        """The number of jumps, which can be smaller than that requested: a start near clean needs only one."""
        return len(self.levels) - 1


@dataclass(frozen=True)
class Conditions:
    """The inputs of the network besides x and the levels.

    Args:
        prompts: one prompt per image.
        negative_prompt: the prompt to steer away from.
        labels: one class per image, or None for a model without classes.
        guidance: the guidance scale, or None for none.
        control: the control image, float32 [c, h, w] in [0, 1], or None.
        control_strength: the guidance scale of the control image.
        interpolation: the interpolation to another prompt, or None.
    """

    prompts: tuple[str, ...]
    negative_prompt: str = ""
    labels: tuple[int | None, ...] | None = None
    guidance: float | None = None
    control: Any = None
    control_strength: float = 1.0
    interpolation: Interpolation | None = None


@dataclass(frozen=True)
class Start:
    """The start of sampling, and what an edit keeps of it; by default pure noise, with nothing kept.

    Args:
        image: the image to start from if the levels begin below pure noise, or None.
        known: the measurement of the image that an edit keeps, or None.
        fit: number of noise corrections before each estimate, so that it agrees with what is known.
    """

    image: StartImage | None = None
    known: Measurement | None = None
    fit: int = 0


@dataclass(frozen=True)
class Delivery:
    """How the model's pixels become the images that are delivered, with their records.

    Args:
        size: (width, height); None for the model's own.
        background: the background; None if the model's pictures are opaque.
        layout: how a picture is merged with the edited image, or None.
        parents: what the images are made from, for their records.
        settings: settings of the sampler besides the levels, for their records.
    """

    size: tuple[int, int] | None = None
    background: str | None = None
    layout: Layout | None = None
    parents: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A request with every choice made."""

    sampling: Sampling
    conditions: Conditions
    start: Start = Start()
    delivery: Delivery = Delivery()


def plan(spec: ModelSpec, request: Request) -> Plan:
    """Make every choice that a request leaves open, and check the others against a model.

    Args:
        spec: the model's description.
        request: the request, with a seed (`Request.seeded`).

    Raises:
        RequestError: a choice is out of range, or not available for this model.
        ValueError: the request has no seed.
    """
    if request.seed is None:
        raise ValueError("planning needs a seed: call `Request.seeded` first")
    _check_inputs(spec, request)
    name, sampler = _sampler(spec, request)
    gamma = _gamma(name, sampler, request)
    guidance = _guidance(spec, request)
    edit = None if request.edit is None else request.edit.prepared(spec)
    start = Start() if edit is None else Start(edit.start, edit.known, corrections(spec, request))
    levels = _levels(spec, request, name, start.image)
    sampling = Sampling(name, levels, _seeds(request), gamma, request.interpolation)
    control, window = _control(spec, request)
    delivery = Delivery(
        size=request.size or (None if request.edit is None else request.edit.own_size),
        background=(request.background or "transparent") if spec.pixel_format == "rgba_premultiplied" else None,
        layout=_layout(edit, window),
        parents=_parents(request),
        settings=_settings(request, sampling, start, edit, window),
    )
    return Plan(sampling, _conditions(spec, request, guidance, control), start, delivery)


def with_own(spec: ModelSpec, plan: Plan, noise: Any = None, levels: Sequence[float] | None = None) -> Plan:
    """A plan with its caller's own start noise and levels.

    Args:
        spec: the model's description.
        plan: the plan.
        noise: [...] in the shape of the model's data, or [images, ...]; None for that of the seeds.
        levels: σ/α in falling order; None for those of the plan.

    Raises:
        RequestError: noise has another shape or numbers that are not finite; levels do not fall, or would replace
            those of a start image.
    """
    sampling, start = plan.sampling, plan.start
    if levels is not None:
        if start.image is not None:
            raise RequestError("levels", "levels of an edit are given by its strength: leave levels out")
        try:
            ratios = [float(level) for level in levels]
            # the clean end may be named or not
            sampling = replace(sampling, levels=from_ratios(ratios[:-1] if ratios[-1:] == [0.0] else ratios))
        except (TypeError, ValueError) as error:
            raise RequestError("levels", f"levels must be σ/α in falling order: {error}") from None
    if noise is not None:
        if sampling.interpolation is not None:
            raise RequestError("noise", "an interpolation takes the noise of its seeds: leave noise out")
        sampling = replace(sampling, noise=_own_noise(noise, (len(sampling.seeds), *spec.codec.shape(spec.pixels))))
    return replace(plan, sampling=sampling, delivery=_with_noise(plan.delivery, sampling.noise))


def _own_noise(noise: Any, shape: tuple[int, ...]) -> Any:
    """The noise float32 of this shape."""
    try:
        array = np.asarray(noise, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise RequestError("noise", f"noise must be an array of numbers: {error}") from None
    array = np.broadcast_to(array, shape) if array.shape == shape[1:] else array
    if array.shape != shape:
        raise RequestError(
            "noise", f"noise must have the shape {list(shape)} or {list(shape[1:])}, got {list(array.shape)}"
        )
    if not np.isfinite(array).all():
        raise RequestError("noise", "noise must be finite")
    return array


def _with_noise(delivery: Delivery, noise: Any) -> Delivery:
    """With the hash of the noise in the record: its seed alone does not draw the image again."""
    if noise is None:
        return delivery
    digest = hashlib.sha256(np.ascontiguousarray(noise).tobytes()).hexdigest()
    return replace(delivery, settings={**delivery.settings, "noise_sha256": digest[:16]})


def corrections(spec: ModelSpec, request: Request) -> int:
    """The number of noise corrections before each estimate of a request.

    Raises:
        RequestError: the sampler is unknown, or does not allow corrections.
    """
    if request.edit is None:
        return 0
    name, sampler = _sampler(spec, request)
    is_prompted = bool(request.prompt) or request.label is not None
    return request.edit.chosen_fit(name, _gamma(name, sampler, request), is_prompted)


def asked_steps(spec: ModelSpec, request: Request) -> int:
    """The number of steps of a request; if left out, the default of its edit, otherwise that of the model."""
    return request.steps or (request.edit and request.edit.steps) or spec.steps


def _check_inputs(spec: ModelSpec, request: Request) -> None:
    """Raise RequestError for an input or an output that the model does not have."""
    conditioning = spec.conditioning
    classes = conditioning.classes
    if request.label is not None and request.label >= classes:
        allowed = f"between 0 and {classes - 1}" if classes else "left out: this model has no classes"
        raise RequestError("label", f"label must be {allowed}, got {request.label}")
    if request.control is not None and not conditioning.control:
        raise RequestError("control", f"the model '{spec.name}' takes no control image")
    for name in ("prompt", "negative_prompt", "to_prompt"):
        if getattr(request, name) and not conditioning.text_length:
            raise RequestError(name, f"the model '{spec.name}' takes no prompt: leave {name} empty")
    if request.background == "transparent" and spec.pixel_format != "rgba_premultiplied":
        raise RequestError("background", f"the model '{spec.name}' draws opaque images: none is transparent")


def _sampler(spec: ModelSpec, request: Request) -> tuple[str, Sampler]:
    """The sampler and its name."""
    name = request.sampler or spec.sampler
    if name not in SAMPLERS:
        raise RequestError("sampler", f"sampler must be one of {', '.join(sorted(SAMPLERS))}, got '{name}'")
    try:
        require_targets(_estimator(spec), SAMPLERS[name].needs, name)
    except UnsupportedTarget as error:
        raise RequestError("sampler", str(error)) from None
    return name, SAMPLERS[name]


def _gamma(name: str, sampler: Sampler, request: Request) -> float | None:
    """The share of fresh noise between steps; None for a sampler that takes none."""
    if request.gamma is not None and sampler.gamma is None:
        raise RequestError("gamma", f"the sampler '{name}' takes no fresh noise: leave gamma out")
    return sampler.gamma if request.gamma is None else request.gamma


def _estimator(spec: ModelSpec) -> Parameterised:
    """The estimator of a model without its network, to check which jumps it supports."""

    def network(x: Any, time_at: Any, time_to: Any, cond: Mapping[str, Any]) -> Any:
        raise RuntimeError("planning runs no network")

    return Parameterised(network, spec.parameterisation, spec.targets)


def _guidance(spec: ModelSpec, request: Request) -> float | None:
    """The guidance scale; None if neither the request nor the model has one."""
    distilled = spec.conditioning.guidance
    low, high = distilled or (GUIDANCE.minimum, MAX_GUIDANCE)
    scale = spec.usual_guidance(request.is_controlled) if request.guidance is None else request.guidance
    if scale is None and distilled is not None:
        scale = low
    if scale is not None and not low <= scale <= high:
        wanted = f"guidance of the model '{spec.name}' must be between {low:g} and {high:g}"
        raise RequestError("guidance", f"{wanted}, got {scale:g}")
    _check_guided(spec, request, scale)
    return scale


def _check_guided(spec: ModelSpec, request: Request, scale: float | None) -> None:
    """Raise RequestError if guidance or a negative prompt would have no effect."""
    conditioning = spec.conditioning
    distilled = conditioning.guidance is not None
    if request.negative_prompt and distilled:
        wrong = f"the model '{spec.name}' has its guidance distilled in and takes no negative prompt"
        raise RequestError("negative_prompt", wrong)
    if request.negative_prompt and (scale is None or scale <= 1):
        raise RequestError("negative_prompt", "a negative prompt needs guidance above 1")
    if request.guidance not in (None, 1) and not (conditioning.text_length or conditioning.classes or distilled):
        wrong = f"the model '{spec.name}' has no prompt or label for guidance to strengthen"
        raise RequestError("guidance", wrong)


def _levels(spec: ModelSpec, request: Request, sampler: str, image: StartImage | None) -> Level:
    """The levels to visit: the model's own, or those from the level of a start image on."""
    steps = asked_steps(spec, request)
    if image is None:
        return spec.grid(steps)
    last = min((own[-1] for own in spec.levels.values() if len(own) > 1), default=None)
    return grid_from(image.ratio, steps, spec.sigma_min, last if sampler == "consistency" else None)


def _seeds(request: Request) -> tuple[int, ...]:
    """The seed of each image; the images of an interpolation share one."""
    assert request.seed is not None
    if request.interpolation is not None:
        return (request.seed,) * request.images
    return tuple(request.seed + i for i in range(request.images))


def _control(spec: ModelSpec, request: Request) -> tuple[Any, Window | None]:
    """The control image float32 [c, h, w] or None, and the window of it that the model sees; None for all of it."""
    sketch, window = request.control, None
    if sketch is None or not request.is_controlled:
        return None, None
    if spec.sketch.fills is not None and request.edit is None and request.control_frame:
        sketch, window = framed(sketch, spec.sketch.fills, (spec.pixels[-1], spec.pixels[-2]))
    return from_image(sketch, spec.pixels, spec.pixel_format), window


def _layout(edit: Prepared | None, window: Window | None) -> Layout | None:
    if window is not None:
        return Framed(window)
    return None if edit is None else edit.layout


def _conditions(spec: ModelSpec, request: Request, guidance: float | None, control: Any) -> Conditions:
    return Conditions(
        prompts=(request.prompt,) * request.images,
        negative_prompt=request.negative_prompt,
        labels=(request.label,) * request.images if spec.conditioning.classes else None,
        guidance=guidance,
        control=control,
        control_strength=1.0 if request.control_strength is None else request.control_strength,
        interpolation=request.interpolation,
    )


def _settings(
    request: Request, sampling: Sampling, start: Start, edit: Prepared | None, window: Window | None
) -> dict[str, Any]:
    """The settings of the sampler besides the levels, for the record."""
    settings: dict[str, Any] = {}
    if sampling.gamma is not None and sampling.steps > 1:
        settings["gamma"] = sampling.gamma
    if edit is not None:
        settings |= edit.settings
    if start.fit:
        settings["fit"] = start.fit
    if request.control_strength not in (None, 1):
        settings["control_strength"] = request.control_strength
    if window is not None:
        settings["control_window"] = window.rounded
    return settings


def _parents(request: Request) -> tuple[str, ...]:
    """The sources of a request's images: for each, the id of its record if it has one, otherwise its hash."""
    edited = None if request.edit is None else request.edit.source
    return tuple(
        image.record.id if isinstance(image, GeneratedImage) else image_hash(image)
        for image in (edited, request.control)
        if image is not None
    )
