"""The application service that every surface calls: load a model, then Request → jumps → images with records."""

from __future__ import annotations

import platform
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewstep.core.guidance import Guided
from fewstep.core.parameterisations import Estimator, Network, Parameterised, UnsupportedTarget, require_targets
from fewstep.core.randomness import Noise, NoiseBetween
from fewstep.editing import Constrained, Fitted, grid_from
from fewstep.editing.errors import RequestError
from fewstep.editing.framing import Framed, framed
from fewstep.engines import table
from fewstep.engines.registry import open_network
from fewstep.generation.planning import Counted, Plan, Progress
from fewstep.generation.request import MAX_GUIDANCE, Request
from fewstep.models.conditioning import between
from fewstep.models.saved import SavedModel, find
from fewstep.models.text import PromptReport
from fewstep.pictures import Record, image_hash, installed
from fewstep.pictures.generated import GeneratedImage
from fewstep.pictures.pixels import from_image, on_background, to_image
from fewstep.samplers import SAMPLERS
from fewstep.samplers.consistency import NoiseSource


class Model:
    """A loaded model.

    Args:
        saved: its directory, read.
        network: what an engine runs.
        engine, precision, device: named in records.
    """

    def __init__(
        self, saved: SavedModel, network: Network, engine: str, precision: str = "float32", device: str = "cpu"
    ) -> None:
        self.saved, self.spec = saved, saved.spec
        self.engine, self.precision, self.device = engine, precision, device
        self.network = network
        self._grid = cache(self.spec.grid)

    def __repr__(self) -> str:
        return f"Model('{self.spec.name}', {self.saved.hash[:10]}, engine '{self.engine}')"

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def hash(self) -> str:
        return self.saved.hash

    @property
    def native_size(self) -> tuple[int, int]:
        """(width, height) of what the network makes."""
        return self.spec.pixels[-1], self.spec.pixels[-2]

    def estimator(self, network: Network | None = None) -> Parameterised:
        """The model as an estimator of NumPy arrays."""
        return Parameterised(network or self.network, self.spec.parameterisation, self.spec.targets)

    def generate(self, prompt: str = "", **choices: Any) -> GeneratedImage:
        """Draw one picture.

        Args:
            prompt: what to draw.
            choices: fields of `Request` other than `images`: seed, steps, guidance, size, background …

        Returns:
            A Pillow image with a `.record`.

        Raises:
            RequestError: a choice is out of range, or not one this model has.
        """
        if "images" in choices:
            raise RequestError("images", "generate draws one image; use generate_all for several")
        return self.generate_all(Request(prompt, **choices))[0]

    def generate_all(self, request: Request) -> list[GeneratedImage]:
        """Draw all the pictures of a request.

        Raises:
            RequestError: as for `generate`.
        """
        return self.draw(request, self.plan_pictures(request))

    def plan_pictures(self, request: Request) -> Plan:
        """`plan`, for a model whose data are pictures.

        Raises:
            RequestError: as for `generate`, or the model makes points.
        """
        if self.spec.pixel_format == "points":
            raise RequestError("model", f"the model '{self.name}' makes points, not pictures: use plan and run")
        return self.plan(request)

    def draw(self, request: Request, plan: Plan) -> list[GeneratedImage]:
        """Run a request's plan to its end: its pictures."""
        last: Progress | None = None
        for progress in self.run(plan):
            last = progress
        assert last is not None  # a plan has at least one step
        return self.finish(request, plan, last)

    def plan(self, request: Request) -> Plan:
        """Make every choice that the request leaves open, and check the others against this model."""
        spec = self.spec
        seed = secrets.randbelow(2**32) if request.seed is None else request.seed
        steps = request.steps or (request.edit and request.edit.steps) or spec.steps
        sampler = request.sampler or spec.sampler
        gamma = self._gamma(sampler, request.gamma)
        guidance = self._guidance(request)
        if request.label is not None and not 0 <= request.label < spec.conditioning.classes:
            classes = spec.conditioning.classes
            allowed = f"between 0 and {classes - 1}" if classes else "left out: this model has no classes"
            raise RequestError("label", f"label must be {allowed}, got {request.label}")
        if request.control is not None and not spec.conditioning.control:
            raise RequestError("control", f"the model '{self.name}' takes no control image")
        for name in ("prompt", "negative_prompt", "to_prompt"):
            if getattr(request, name) and not spec.conditioning.text_length:
                raise RequestError(name, f"the model '{self.name}' takes no prompt: leave {name} empty")
        if request.background == "transparent" and spec.pixel_format != "rgba_premultiplied":
            raise RequestError("background", f"the model '{self.name}' makes opaque pictures: none is transparent")
        steered = spec.conditioning.text_length or spec.conditioning.classes or spec.conditioning.guidance is not None
        if request.guidance not in (None, 1) and not steered:
            raise RequestError(
                "guidance", f"the model '{self.name}' has no prompt or label for guidance to strengthen"
            )
        count, way = request.images, request.way
        settings: dict[str, Any] = {}
        levels, start, known, fit, layout = self._grid(steps), None, None, 0, None
        if edit := request.edit:
            prepared = edit.prepared(spec)
            known, start, layout = prepared.known, prepared.start, prepared.layout
            fit = self.corrections(request)
            if start is not None:
                last = min((own[-1] for own in spec.levels.values() if len(own) > 1), default=None)
                levels = grid_from(start.ratio, steps, spec.sigma_min, last if sampler == "consistency" else None)
            settings = {**prepared.settings} | ({"fit": fit} if fit else {})
        if gamma is not None and len(levels) > 2:
            settings = {"gamma": gamma, **settings}
        strength = 1.0 if request.control_strength is None else request.control_strength
        if strength != 1:
            settings = {**settings, "control_strength": strength}
        control = window = None
        if (sketch := request.control) is not None and strength:
            if spec.fills is not None and request.edit is None and request.control_frame:
                sketch, window = framed(sketch, spec.fills, self.native_size)
            control = from_image(sketch, spec.pixels, spec.pixel_format)
        if window is not None:
            layout, settings = Framed(window), {**settings, "control_window": window.rounded}
        return Plan(
            prompts=(request.prompt,) * count,
            seeds=tuple(seed if way else seed + i for i in range(count)),
            sampler=sampler,
            levels=levels,
            guidance=guidance,
            gamma=gamma,
            negative_prompt=request.negative_prompt,
            labels=(request.label,) * count if spec.conditioning.classes else None,
            control=control,
            control_strength=strength,
            way=way,
            start=start,
            known=known,
            fit=fit,
            size=request.size or (edit.own_size if edit else None),
            background=(request.background or "transparent") if spec.pixel_format == "rgba_premultiplied" else None,
            parents=_parents(request),
            layout=layout,
            settings=settings,
        )

    def corrections(self, request: Request) -> int:
        """How often a request's noise is corrected before each estimate.

        Raises:
            RequestError: corrections, or a sampler, that cannot be.
        """
        if request.edit is None:
            return 0
        sampler = request.sampler or self.spec.sampler
        is_told = bool(request.prompt) or request.label is not None
        return request.edit.chosen_fit(sampler, self._gamma(sampler, request.gamma), is_told)

    def _gamma(self, sampler: str, asked: float | None) -> float | None:
        """The share of fresh noise between the steps of this sampler; None for one that takes none."""
        if sampler not in SAMPLERS:
            raise RequestError("sampler", f"sampler must be one of {', '.join(sorted(SAMPLERS))}, got '{sampler}'")
        chosen = SAMPLERS[sampler]
        try:
            require_targets(self.estimator(), chosen.needs, sampler)
        except UnsupportedTarget as error:
            raise RequestError("sampler", str(error)) from None
        if asked is not None and chosen.gamma is None:
            raise RequestError("gamma", f"the sampler '{sampler}' takes no fresh noise: leave gamma out")
        return chosen.gamma if asked is None else asked

    def _guidance(self, request: Request) -> float | None:
        distilled = self.spec.conditioning.guidance
        usual = self.spec.usual_guidance(request.is_controlled)
        chosen = usual if request.guidance is None else float(request.guidance)
        low, high = distilled or (1.0, MAX_GUIDANCE)
        if chosen is None and distilled is not None:
            chosen = low
        if chosen is not None and not low <= chosen <= high:
            raise RequestError(
                "guidance",
                f"guidance of the model '{self.name}' must be between {low:g} and {high:g}, got {chosen:g}",
            )
        if distilled is not None and request.negative_prompt:
            raise RequestError(
                "negative_prompt",
                f"the model '{self.name}' has its guidance distilled in and takes no negative prompt",
            )
        if request.negative_prompt and (chosen is None or chosen <= 1):
            raise RequestError("negative_prompt", "a negative prompt needs guidance above 1")
        return chosen

    def run(self, plan: Plan, network: Network | None = None) -> Iterator[Progress]:
        """Run a plan jump by jump.

        Args:
            plan: what to draw.
            network: another way to the model's own network, such as one shared with other runs.
        """
        begun = time.perf_counter()
        cond = self._condition(plan, plan.prompts)
        if plan.way is not None and plan.way.prompt is not None:
            other = self._condition(plan, (plan.way.prompt,) * len(plan.prompts))
            cond = between(cond, other, plan.way.positions)
        encoded = time.perf_counter()
        counted = Counted(network or self.network)
        estimator: Estimator = self.estimator(counted)
        if self.spec.conditioning.guidance is None and plan.guidance is not None and plan.guidance != 1:
            null = self._condition(plan, (plan.negative_prompt,) * len(plan.prompts), unlabelled=True)
            estimator = Guided(estimator, null, plan.guidance)
        if plan.control is not None and plan.control_strength != 1:
            none = self._condition(replace(plan, control=None), plan.prompts)
            without = {name: values for name, values in none.items() if name.startswith("control")}
            estimator = Guided(estimator, without, plan.control_strength)
        if plan.known is not None:
            if plan.fit:
                estimator = Fitted(estimator, plan.known, plan.fit)
            estimator = Constrained(estimator, plan.known)
        shape = self.spec.conditioning.codec.shape(self.spec.pixels)
        noise: NoiseSource = Noise(plan.seeds, shape)
        if plan.way is not None and plan.way.seed is not None:
            noise = NoiseBetween(plan.seeds[0], plan.way.seed, plan.way.positions, shape)
        x = noise(0) * np.float32(plan.levels.sigma[0])
        if (start := plan.start) is not None:
            x = (x if start.fresh else 0 * x) + np.float32(plan.levels.alpha[0]) * start.data
        extra = {} if plan.gamma is None else {"noise": noise, "gamma": plan.gamma}
        away = 0.0  # what the reader of this stream spends between two jumps is not ours
        for jump in SAMPLERS[plan.sampler].run(estimator, x, plan.levels, cond, **extra):
            total = time.perf_counter() - encoded - away
            timings = {"encode": encoded - begun, "model": counted.seconds, "sampler": total - counted.seconds}
            evaluations = counted.samples // len(plan.prompts)
            left = time.perf_counter()
            yield Progress(jump, plan.steps, self.spec.conditioning.codec, evaluations, _milliseconds(timings))
            away += time.perf_counter() - left

    def _condition(self, plan: Plan, prompts: Sequence[str], unlabelled: bool = False) -> dict[str, Any]:
        count = len(prompts)
        return self.spec.conditioning.arrays(
            prompts=prompts,
            labels=None if unlabelled else plan.labels,
            controls=[plan.control] * count,
            pixels=self.spec.pixels,
            guidance=plan.guidance,
        )

    def preview(self, plan: Plan, progress: Progress) -> Image.Image:
        """What the model thinks of a plan's first picture so far, as it will be delivered."""
        return self._picture(progress.previews[0], plan)

    def finish(self, request: Request, plan: Plan, last: Progress) -> list[GeneratedImage]:
        """Decode the last jump into pictures with records."""
        start = time.perf_counter()
        pictures = [self._picture(image, plan) for image in last.pixels]
        timings = {**last.timings, "decode": 1000 * (time.perf_counter() - start)}
        report = self.report(request.prompt)
        if report is not None and (other := self.report(request.to_prompt or "")) is not None:
            report = replace(report, unknown_words=(*report.unknown_words, *other.unknown_words))
        return [
            GeneratedImage.of(picture, self._record(request, plan, last, timings, report, i))
            for i, picture in enumerate(pictures)
        ]

    def _picture(self, pixels: Any, plan: Plan) -> Image.Image:
        size, background = plan.size or self.native_size, plan.background or "transparent"
        if plan.layout is not None:
            return on_background(plan.layout.laid_back(to_image(pixels, self.spec.pixel_format), size), background)
        picture = to_image(pixels, self.spec.pixel_format, background)
        return picture if size == self.native_size else picture.resize(size, Image.Resampling.LANCZOS)

    def report(self, prompt: str) -> PromptReport | None:
        """Which words of a prompt this model never saw, and the captions nearest to it; None without text."""
        captions = self.saved.captions
        return None if captions is None else captions.report(prompt, self.spec.conditioning.text_length)

    def _record(
        self,
        request: Request,
        plan: Plan,
        last: Progress,
        timings: Mapping[str, float],
        report: PromptReport | None,
        index: int,
    ) -> Record:
        return Record(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            label=request.label,
            seed=plan.seeds[index],
            steps=plan.steps,
            levels=[[float(a), float(s)] for a, s in zip(plan.levels.alpha, plan.levels.sigma, strict=True)],
            sampler=plan.sampler,
            sampler_settings={**plan.settings, **_along(plan, index)},
            guidance=plan.guidance,
            network_evaluations=last.evaluations,
            model=self.name,
            model_hash=self.hash,
            recipe=self.spec.recipe.get("name"),
            size=plan.size or self.native_size,
            native_size=self.native_size,
            background=plan.background,
            index=index,
            parents=plan.parents,
            unknown_words=report.unknown_words if report else (),
            nearest_captions=report.nearest if report else (),
            engine=self.engine,
            precision=self.precision,
            device=platform.machine() if self.device == "cpu" else self.device,
            software=installed("fewstep", "numpy", "onnxruntime" if self.engine == "onnx" else "torch"),
            timings={name: round(value, 3) for name, value in timings.items()},
        )


def _parents(request: Request) -> tuple[str, ...]:
    """What a request's pictures are made from: the id of an edited image that has a record, else its hash."""
    edited = None if request.edit is None else request.edit.inner or request.edit.image
    return tuple(
        image.record.id if isinstance(image, GeneratedImage) else image_hash(image)
        for image in (edited, request.control)
        if image is not None
    )


def _along(plan: Plan, index: int) -> dict[str, Any]:
    """What an interpolation adds to the settings of one picture's record."""
    if (way := plan.way) is None:
        return {}
    ends = {"to_prompt": way.prompt, "to_seed": way.seed}
    return {**{name: end for name, end in ends.items() if end is not None}, "position": way.positions[index]}


def _milliseconds(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: 1000 * value for name, value in seconds.items()}


def load(
    name: str | Path = "emoji",
    engine: str = "onnx",
    device: str = "cpu",
    threads: int | None = None,
    precision: str | None = None,
) -> Model:
    """Load a model.

    Args:
        name: a built-in model, a directory, or `user/name` on the Hugging Face hub.
        engine: `onnx` (ONNX Runtime, the default, without torch), `openvino`, `eager` or `compiled` (PyTorch), or
            `auto`: the fastest one that `fewstep bench engines` measured on this machine.
        device: for `eager` and `compiled`: cpu, cuda, mps.
        threads: of one network call; None for one a core.
        precision: float32, or bfloat16 for `openvino`; None is float32, for `auto` that of the engine it takes.

    Raises:
        ModelError: there is no such model, or it is damaged.
        ValueError: there is no such engine, precision or device.
        ImportError: the engine's package is not installed.
        EngineError: the engine cannot run it here.
    """
    saved = find(name)
    if engine == "auto":
        engine, precision = table.choose(saved, precision, device, threads)
    precision = precision or "float32"
    return Model(saved, open_network(saved, engine, precision, device, threads), engine, precision, device)
