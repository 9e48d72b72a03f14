"""Import diffusers' `ConsistencyModelPipeline` as a fewstep model: the same network, parameterisation and levels.

Its scheduler is the consistency model of 2303.01469 app. C with OpenAI's time, 1000·¼·ln(σ + 1e-44). Its levels for
1 to 4 steps and the clipping of its estimates are adopted, so that both draw the same image from the same noise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline

from fewstep.core.parameterisations import Clipped, Edm, Targets
from fewstep.engines.export import export_onnx
from fewstep.interop.diffusers.folders import open_folder
from fewstep.models.codecs import SpaceToDepth
from fewstep.models.components import components
from fewstep.models.conditioning import Conditioning
from fewstep.models.parts import ModelError
from fewstep.models.saved import SavedModel
from fewstep.models.spec import ModelSpec
from fewstep.models.writing import write
from fewstep.networks.registry import describe
from fewstep.networks.unet2d import UNet2D, UNet2DConfig
from fewstep.pictures.pixels import PixelFormat

_FORMATS: dict[int, PixelFormat] = {1: "grey", 3: "rgb"}


def import_pipeline(source: str | Path, directory: Path, name: str | None = None, licence: str = "") -> SavedModel:
    """Save a consistency pipeline as a model.

    Args:
        source: directory of the pipeline, or `user/name` on the hub.
        directory: the directory to write.
        name: name of the model; by default that of the directory.
        licence: licence of the weights.

    Raises:
        ModelError: the pipeline does not exist, or cannot be imported: it is of another class, its weights are
            pickles, it has classes, its pixels are neither grey nor RGB, it does not say their size or one that its
            network cannot halve, it predicts a variance too, or its noise has another scale.
    """
    folder = open_folder(source)
    if folder.index.get("_class_name") != ConsistencyModelPipeline.__name__:
        named = folder.index.get("_class_name")
        raise ModelError(f"'{source}' is a {named}, not a {ConsistencyModelPipeline.__name__}: see fewstep distill")
    variant = folder.variant("unet")
    try:
        pipeline = ConsistencyModelPipeline.from_pretrained(folder.path, use_safetensors=True, variant=variant)
    except (OSError, ValueError, AttributeError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()
        raise ModelError(f"'{source}' cannot be opened: {reason[0] if reason else error}") from error
    return save_pipeline(pipeline, directory, name or directory.name, licence)


def save_pipeline(pipeline: Any, directory: Path, name: str, licence: str = "") -> SavedModel:
    """`import_pipeline` for a pipeline in memory."""
    unet, scheduler = pipeline.unet, pipeline.scheduler
    if not isinstance(scheduler, CMStochasticIterativeScheduler):
        raise ModelError(f"the pipeline's scheduler is a {type(scheduler).__name__}, not that of a consistency model")
    if unet.config.class_embed_type is not None or unet.config.num_class_embeds is not None:
        raise ModelError("the pipeline's network has classes, which cannot be imported yet")
    settings = scheduler.config
    if settings.s_noise != 1:
        raise ModelError(f"the pipeline's scheduler has s_noise {settings.s_noise:g}: only 1 can be imported")
    channels, side = unet.config.in_channels, unet.config.sample_size
    if channels not in _FORMATS:
        raise ModelError(f"the pipeline's network has {channels} channels: only 1 (grey) or 3 (RGB) can be imported")
    if unet.config.out_channels != channels:
        given = unet.config.out_channels
        raise ModelError(
            f"the pipeline's network gives {given} channels for {channels}: a learned variance is no part "
            "of a consistency model"
        )
    height, width = _sides(side, 2 ** (len(unet.config.block_out_channels) - 1))
    plain = json.loads(json.dumps(dict(unet.config), default=list))
    network = UNet2D(UNet2DConfig({key: value for key, value in plain.items() if not key.startswith("_")}))
    network.unet.load_state_dict(unet.state_dict())  # load_state_dict keeps this network's float32
    consistency = Edm(settings.sigma_data, settings.sigma_min, "thousand_quarter_log")
    codec = SpaceToDepth(1, (0.5,), (settings.sigma_data / 2,), settings.sigma_data)  # pixels in [-1, 1] are the data
    spec = ModelSpec(
        name=name,
        components=components(describe(network), Conditioning(codec)),
        parameterisation=Clipped(consistency, 1.0) if settings.clip_denoised else consistency,
        targets=Targets.CLEAN,
        pixels=(channels, height, width),
        pixel_format=_FORMATS[channels],
        sampler="consistency",
        steps=1,
        levels={steps: _levels(scheduler, steps) for steps in (1, 2, 3, 4)},
        sigma_min=settings.sigma_min,
        sigma_max=settings.sigma_max,
        licence=licence,
        lineage=({"pipeline": type(pipeline).__name__},),
    )
    weights = {key: value.detach().cpu().numpy() for key, value in network.state_dict().items()}
    return write(spec, weights, directory, complete=lambda scratch: _export(network, spec, scratch))


def _sides(side: Any, cell: int) -> tuple[int, int]:
    """Height and width of a network's images, which it halves until they are 1/cell as long.

    Raises:
        ModelError: they are not known, or not multiples of that.
    """
    if side is None:
        raise ModelError("the pipeline's network does not say the size of its images: set sample_size in its config")
    height, width = (side, side) if isinstance(side, int) else side
    if height % cell or width % cell:
        raise ModelError(f"sample_size of the pipeline's network must be a multiple of {cell}, got {width}x{height}")
    return height, width


def _export(network: UNet2D, spec: ModelSpec, directory: Path) -> Path:
    with torch.no_grad():
        return export_onnx(network, spec.codec.shape(spec.pixels), {}, directory)


def _levels(scheduler: CMStochasticIterativeScheduler, steps: int) -> tuple[float, ...]:
    """The values of σ that the pipeline visits in this number of steps."""
    own = CMStochasticIterativeScheduler.from_config(scheduler.config)  # the caller may be using its own
    own.set_timesteps(steps)
    return tuple(float(sigma) for sigma in own.sigmas[:steps])
