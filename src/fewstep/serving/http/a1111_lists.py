"""What AUTOMATIC1111's clients ask besides pictures: models, samplers, options, memory, the settings in a picture."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request

from fewstep.models.saved import SavedModel
from fewstep.pictures import ProvenanceError, parameters, read_record
from fewstep.serving.engine.desk import Desk
from fewstep.serving.engine.errors import InputError
from fewstep.serving.engine.uploads import as_data_url, in_data_url
from fewstep.serving.http import a1111_translation as translation
from fewstep.serving.http.a1111_schemas import Options, PngInfo
from fewstep.serving.http.bodies import read_json
from fewstep.serving.http.openapi import json_body


def add_lists(router: APIRouter, desk: Desk) -> None:
    """Add the routes. What this system has none of is an empty list."""

    def current() -> dict[str, Any]:
        model = desk.host.model
        return {"sd_model_checkpoint": translation.title(model.saved), "sd_checkpoint_hash": model.hash, **_OPTIONS}

    @router.get("/options")
    async def options() -> dict[str, Any]:
        """Give the settings that clients look at."""
        return current()

    @router.post("/options", openapi_extra=json_body(Options))
    async def choose(request: Request) -> None:
        """Choose the model, which must be one that is served; other settings do not exist here and are not kept."""
        body = await read_json(request, Options)
        wanted = body.sd_model_checkpoint
        if wanted is not None:
            desk.host.saved(translation.plain_name(wanted))
        # clients send back all that they were given, with the model changed
        others = {name for name, value in (body.model_extra or {}).items() if value != current().get(name)}
        if others:
            names = ", ".join(sorted(others)[:10])
            raise InputError("", f"only sd_model_checkpoint can be set here, got {names}", "unknown_option")

    @router.get("/sd-models")
    async def models() -> list[dict[str, Any]]:
        """List the models."""
        return [_listed(desk.host.saved(name)) for name in (None, *desk.host.named)]

    @router.get("/samplers")
    async def samplers() -> list[dict[str, Any]]:
        """List the samplers of the model, its own first."""
        return [{"name": name, "aliases": [], "options": {}} for name in translation.samplers(desk.host.model)]

    for path, value in _LISTS.items():
        router.add_api_route(f"/{path}", _constant(value), methods=["GET"], name=path)
    router.add_api_route("/refresh-checkpoints", _constant(None), methods=["POST"])


def add_tools(router: APIRouter) -> None:
    """Add the routes that need no model."""

    @router.get("/memory")
    async def memory() -> dict[str, Any]:
        """Give the memory of the process in bytes."""
        if sys.platform == "win32":
            return {"ram": {"error": "unavailable"}, "cuda": {"error": "unavailable"}}
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return {"ram": {"used": most}, "cuda": {"error": "unavailable"}}

    @router.post("/png-info", openapi_extra=json_body(PngInfo))
    async def png_info(request: Request) -> dict[str, Any]:
        """Read the settings in an image that was drawn here."""
        body = await read_json(request, PngInfo)
        try:
            record = await asyncio.to_thread(read_record, in_data_url(as_data_url(body.image), "image"))
        except ProvenanceError as error:
            raise InputError("image", f"image has a record that cannot be read: {error}", "invalid_image") from None
        text = "" if record is None else parameters(record)
        return {"info": text, "items": {"parameters": text} if text else {}, "parameters": {}}


def _listed(saved: SavedModel) -> dict[str, Any]:
    name = saved.spec.name
    short = saved.hash[: translation.SHORT]
    return {
        "title": translation.title(saved),
        "model_name": name,
        "hash": short,
        "sha256": saved.hash,
        "filename": name,
        "config": None,
    }


def _constant(value: Any) -> Callable[[], Any]:
    async def answer() -> Any:
        return value

    return answer


_OPTIONS = {"samples_format": "png", "sd_vae": "Automatic", "CLIP_stop_at_last_layers": 1, "eta_noise_seed_delta": 0}
_SCHEDULER = {
    "name": "automatic",
    "label": "Automatic",
    "aliases": None,
    "default_rho": -1.0,
    "need_inner_model": False,
}
_NONE = {"name": "None", "model_name": None, "model_path": None, "model_url": None, "scale": 4.0}
_LISTS: dict[str, Any] = {
    "schedulers": [_SCHEDULER],
    "upscalers": [_NONE],
    "latent-upscale-modes": [],
    "sd-vae": [],
    "loras": [],
    "embeddings": {"loaded": {}, "skipped": {}},
    "hypernetworks": [],
    "face-restorers": [],
    "realesrgan-models": [],
    "prompt-styles": [],
    "scripts": {"txt2img": [], "img2img": []},
    "script-info": [],
    "extensions": [],
    "cmd-flags": {},
}
"""The lists of which there is one answer."""
