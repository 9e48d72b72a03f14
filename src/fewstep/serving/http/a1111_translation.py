"""Translation of AUTOMATIC1111's requests to requests for the desk, and of the desk's answers to A1111's.

Clients of this API send settings that suit Stable Diffusion (a sampler "Euler a", a guidance scale of 7, a negative
prompt) whatever the model. What this model does not have is replaced by its own, and the answer names it: it is "Not
used" among the `extra_generation_params` of `info`, which clients show.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageOps

import fewstep
from fewstep.core.parameterisations import UnsupportedTarget, require_targets
from fewstep.generation import Edit, Model, Request, RequestError
from fewstep.generation.request import GUIDANCE, MAX_GUIDANCE
from fewstep.models.saved import SavedModel
from fewstep.pictures import parameters
from fewstep.samplers import SAMPLERS
from fewstep.serving.engine.desk import Answer
from fewstep.serving.engine.inputs import DecodedImages, ImageFile, SourceImages
from fewstep.serving.engine.uploads import as_data_url
from fewstep.serving.http.a1111_schemas import ImageToImage, TextToImage

SHORT = 10
"""Digits of a hash by which these clients know a model."""


@dataclass(frozen=True)
class Adapted:
    """A request as this model can draw it.

    Args:
        values: its fields by name.
        unused: what of the client's message is not used, in words.
    """

    values: dict[str, Any]
    unused: tuple[str, ...]


def adapted(body: TextToImage, model: Model) -> Adapted:
    """The fields that a model takes, and what is left of the message."""
    spec, unused = model.spec, list(body.unused)
    values: dict[str, Any] = {"prompt": body.prompt, "steps": body.steps, "images": body.images}
    values["seed"] = None if body.seed == -1 else body.seed
    if body.sampler in samplers(model):
        values["sampler"] = body.sampler
    elif body.sampler:
        unused.append(f"sampler {body.sampler}")
    low, high = spec.conditioning.guidance or (float(GUIDANCE.minimum), MAX_GUIDANCE)
    has_guidance = spec.conditioning.text_length or spec.conditioning.classes or spec.conditioning.guidance
    if body.cfg_scale is not None and has_guidance:
        values["guidance"] = min(max(body.cfg_scale, low), high)
    if body.cfg_scale is not None and values.get("guidance") != body.cfg_scale:
        unused.append(f"cfg_scale {body.cfg_scale:g}{_beyond(body.cfg_scale, low, high) if has_guidance else ''}")
    guides = spec.conditioning.guidance is None and (values.get("guidance") or spec.guidance or 1) > 1
    if body.negative_prompt and guides and spec.conditioning.text_length:
        values["negative_prompt"] = body.negative_prompt
    elif body.negative_prompt:
        unused.append("negative_prompt")
    if body.width is not None or body.height is not None:
        side = body.width if body.width is not None else body.height
        values["size"] = (side, side if body.height is None else body.height)
    return Adapted({name: value for name, value in values.items() if value is not None}, tuple(unused))


def _beyond(scale: float, low: float, high: float) -> str:
    return f" below {low:g}" if scale < low else f" beyond {high:g}"


def request_of(body: TextToImage, images: DecodedImages, model: Model) -> Request:
    """What to draw.

    Raises:
        RequestError: a value is out of bounds, under A1111's name.
    """
    try:
        values = adapted(body, model).values
        if images.control is not None and body.control is not None:
            values |= {"control": images.control, "control_strength": body.control.weight}
        return Request(**values, edit=_edit(body, images))
    except RequestError as error:
        raise error.called(_NAMES) from None


_NAMES = {
    "images": "batch_size",
    "guidance": "cfg_scale",
    "sampler": "sampler_name",
    "size": "width",
    "strength": "denoising_strength",
    "image": "init_images",
    "control": "alwayson_scripts",
    "control_strength": "alwayson_scripts",
}
"""What A1111 calls the fields of a request."""


def _edit(body: TextToImage, images: DecodedImages) -> Edit | None:
    if images.image is None or not isinstance(body, ImageToImage):
        return None
    mask = images.mask
    if mask is not None:
        mask = _opening(mask).resize(images.image.size)
        mask = ImageOps.invert(mask) if body.inpainting_mask_invert else mask
    usual = 0.75 if mask is None else 1.0
    strength = usual if body.denoising_strength is None else body.denoising_strength
    return Edit(images.image, mask, strength)


def _opening(mask: Image.Image) -> Image.Image:
    """White where the image may change: what is painted on a mask with transparency, else what is white."""
    if mask.mode == "RGBA" and mask.getchannel("A").getextrema() != (255, 255):
        return mask.getchannel("A")
    return mask.convert("L")


def sources_of(body: TextToImage) -> SourceImages:
    """The images of a message, not decoded yet."""
    unit = body.control
    control = None if unit is None else _source(unit.sketch, "alwayson_scripts")
    if not isinstance(body, ImageToImage):
        return SourceImages(control=control)
    return SourceImages(_source(body.init_images[0], "init_images"), _source(body.mask, "mask"), control)


def _source(text: str | None, field: str) -> ImageFile | None:
    """An image in base64, with or without the head of a data URL."""
    return ImageFile(field, as_data_url(text)) if text else None


def answer_of(answer: Answer, body: TextToImage) -> dict[str, Any]:
    """A1111's answer: the files in base64, the message itself, and what was drawn as JSON in a text."""
    files = [base64.b64encode(image.file).decode() for image in answer.images] if body.send_images else []
    return {"images": files, "parameters": _echoed(body), "info": json.dumps(_info(answer, body))}


def nothing(body: TextToImage) -> dict[str, Any]:
    """The answer of a request that was interrupted."""
    return {"images": [], "parameters": _echoed(body), "info": json.dumps({"infotexts": [], "interrupted": True})}


def _echoed(body: TextToImage) -> dict[str, Any]:
    """The message, without its images, which may be large."""
    return body.model_dump(exclude={"init_images", "mask", "alwayson_scripts"})


def _info(answer: Answer, body: TextToImage) -> dict[str, Any]:
    records = [image.record for image in answer.images]
    first, unused = records[0], adapted(body, answer.model).unused
    width, height = first.size
    report = {"Not used": "; ".join(unused)} if unused else {}
    if first.unknown_words:
        report["Words never seen in training"] = ", ".join(first.unknown_words)
    if first.unread_prompt:
        report["Prompt not read"] = first.unread_prompt
    return {
        "prompt": first.prompt,
        "all_prompts": [record.prompt for record in records],
        "negative_prompt": first.negative_prompt,
        "all_negative_prompts": [record.negative_prompt for record in records],
        "seed": first.seed,
        "all_seeds": [record.seed for record in records],
        "subseed": -1,
        "all_subseeds": [-1] * len(records),
        "subseed_strength": 0,
        "width": width,
        "height": height,
        "sampler_name": first.sampler,
        "cfg_scale": first.guidance,
        "steps": first.steps,
        "batch_size": len(records),
        "restore_faces": False,
        "sd_model_name": first.model,
        "sd_model_hash": first.model_hash[:SHORT],
        "denoising_strength": first.sampler_settings.get("strength"),
        "extra_generation_params": report,
        "index_of_first_image": 0,
        "infotexts": [parameters(record) for record in records],
        "styles": [],
        "clip_skip": 1,
        "version": f"fewstep {fewstep.__version__}",
    }


def samplers(model: Model) -> list[str]:
    """The samplers that make the jumps of a model, its own first."""
    able = [name for name in sorted(SAMPLERS) if _is_able(model, name)]
    return sorted(able, key=lambda name: name != model.spec.sampler)


def _is_able(model: Model, name: str) -> bool:
    try:
        require_targets(model.estimator(), SAMPLERS[name].needs, name)
    except UnsupportedTarget:
        return False
    return True


def title(saved: SavedModel) -> str:
    """How these clients name a model: its name and the start of its hash."""
    return f"{saved.spec.name} [{saved.hash[:SHORT]}]"


def plain_name(title: str) -> str:
    """A model's name from the title that these clients choose by: without the hash behind it."""
    return title.rpartition(" [")[0] if title.endswith("]") and " [" in title else title
