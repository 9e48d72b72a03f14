"""From the pixels of the last jump to the images that are delivered, with records of how they were made."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from fewstep.generation.planning import Delivery, Plan
from fewstep.generation.running import Progress
from fewstep.models.saved import SavedModel
from fewstep.models.text import PromptReport
from fewstep.pictures import Record, installed
from fewstep.pictures.generated import GeneratedImage
from fewstep.pictures.pixels import on_background, to_image


@dataclass(frozen=True)
class Drawer:
    """The model and the engine that drew, for the records.

    Args:
        saved: the model.
        engine, precision, device: the engine, precision and device that its network ran on.
    """

    saved: SavedModel
    engine: str
    precision: str = "float32"
    device: str = "cpu"


def finished(drawer: Drawer, plan: Plan, last: Progress) -> list[GeneratedImage]:
    """Decode the last jump of a plan into images with records."""
    start = time.perf_counter()
    pictures = [picture(drawer.saved, pixels, plan.delivery) for pixels in last.pixels]
    timings = {**last.timings, "decode": 1000 * (time.perf_counter() - start)}
    report = _report(drawer.saved, plan)
    return [
        GeneratedImage.of(each, _record(drawer, plan, last, timings, report, index))
        for index, each in enumerate(pictures)
    ]


def picture(saved: SavedModel, pixels: Any, delivery: Delivery) -> Image.Image:
    """The image delivered for a model's pixels [c, h, w]."""
    spec = saved.spec
    native = spec.pixels[-1], spec.pixels[-2]
    size, background = delivery.size or native, delivery.background or "transparent"
    if delivery.layout is not None:
        return on_background(delivery.layout.laid_back(to_image(pixels, spec.pixel_format), size), background)
    drawn = to_image(pixels, spec.pixel_format, background)
    return drawn if size == native else drawn.resize(size, Image.Resampling.LANCZOS)


def prompt_report(saved: SavedModel, prompt: str) -> PromptReport | None:
    """The words of a prompt that a model never saw, and the captions nearest to it; None for a model without text."""
    captions = saved.captions
    return None if captions is None else captions.report(prompt, saved.spec.conditioning.text_length)


def _report(saved: SavedModel, plan: Plan) -> PromptReport | None:
    """The report on a plan's prompt, with the unknown words of an interpolation's other prompt, and what is not read
    of these and of the negative prompt."""
    report = prompt_report(saved, plan.conditions.prompts[0])
    way = plan.conditions.interpolation
    other = prompt_report(saved, (way and way.prompt) or "")
    negative = prompt_report(saved, plan.conditions.negative_prompt)
    if report is None or other is None or negative is None:
        return report
    unread = " ".join(part for part in (report.unread, other.unread, negative.unread) if part)
    return replace(report, unknown_words=(*report.unknown_words, *other.unknown_words), unread=unread)


def _record(
    drawer: Drawer,
    plan: Plan,
    last: Progress,
    timings: Mapping[str, float],
    report: PromptReport | None,
    index: int,
) -> Record:
    spec, sampling, conditions, delivery = drawer.saved.spec, plan.sampling, plan.conditions, plan.delivery
    native = spec.pixels[-1], spec.pixels[-2]
    return Record(
        prompt=conditions.prompts[index],
        negative_prompt=conditions.negative_prompt,
        label=None if conditions.labels is None else conditions.labels[index],
        seed=sampling.seeds[index],
        steps=sampling.steps,
        levels=[[float(a), float(s)] for a, s in zip(sampling.levels.alpha, sampling.levels.sigma, strict=True)],
        sampler=sampling.sampler,
        sampler_settings={**delivery.settings, **_position(plan, index)},
        guidance=conditions.guidance,
        network_evaluations=last.evaluations,
        model=spec.name,
        model_hash=drawer.saved.hash,
        recipe=spec.recipe.get("name"),
        size=delivery.size or native,
        native_size=native,
        background=delivery.background,
        index=index,
        parents=delivery.parents,
        unknown_words=report.unknown_words if report else (),
        nearest_captions=report.nearest if report else (),
        unread_prompt=report.unread if report else "",
        engine=drawer.engine,
        precision=drawer.precision,
        device=platform.machine() if drawer.device == "cpu" else drawer.device,
        software=installed("fewstep", "numpy", "onnxruntime" if drawer.engine == "onnx" else "torch"),
        timings={name: round(value, 3) for name, value in timings.items()},
    )


def _position(plan: Plan, index: int) -> dict[str, Any]:
    """The entries that an interpolation adds to the settings in the record of one image."""
    way = plan.sampling.interpolation
    if way is None:
        return {}
    ends = {"to_prompt": way.prompt, "to_seed": way.seed}
    return {**{name: end for name, end in ends.items() if end is not None}, "position": way.positions[index]}
