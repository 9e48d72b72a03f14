"""A diffusers pipeline opened from its folder: network, table of timesteps, codec and prompts, each fewstep's own.

The pipeline's class is not run. Its parts are read by the classes that model_index.json names, if they are supported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from fewstep.core.levels import Level
from fewstep.core.parameterisations import Parameterised, Targets
from fewstep.interop.diffusers.families import FAMILIES
from fewstep.interop.diffusers.folders import Folder, open_folder
from fewstep.interop.diffusers.networks import estimator, family_of
from fewstep.interop.diffusers.text import PromptCache, PromptEncoder
from fewstep.interop.diffusers.timesteps import SCHEDULERS, Timetable
from fewstep.interop.diffusers.vae import VAES, VaeCodec
from fewstep.models.codecs import Codec, SpaceToDepth
from fewstep.models.parts import ModelError

_NETWORKS, _SCHEDULER, _VAES = ("unet", "transformer"), "scheduler", ("vae", "vqvae")


@dataclass(frozen=True)
class Pipeline:
    """A pipeline's parts.

    Args:
        folder: where it is from.
        network: the diffusers module, frozen and in evaluation mode when it was opened.
        timetable: of its scheduler.
        codec: between pixels [b, c, h, w] in [0, 1] and what the network sees.
        prompts: what encodes prompts; None for a family whose encoders are not supported, or without text.
        zero_null: whether an empty prompt is zeros instead of the encoded "" (SDXL's `force_zeros_for_empty_prompt`).
    """

    folder: Folder
    network: nn.Module = field(repr=False)
    timetable: Timetable
    codec: Codec
    prompts: PromptEncoder | None = None
    zero_null: bool = False

    def estimator(self, targets: Targets | None = None, clip: bool = True) -> Parameterised:
        """The network as an estimator: see `fewstep.interop.diffusers.networks.estimator`."""
        return estimator(self.network, self.timetable, targets, clip)

    def levels(self, steps: int, shape: Sequence[int] | None = None) -> Level:
        """The N + 1 levels that the pipeline visits in N steps, float64 NumPy.

        Args:
            steps: N.
            shape: of one image's data [c, h, w], on which a dynamic shift depends.

        Raises:
            ValueError: the scheduler cannot take so many steps, or needs the shape.
        """
        family, config = family_of(self.network), self._config
        patch = family.patch(config)
        tokens = (shape[1] // patch) * (shape[2] // patch) if shape is not None and patch else None
        sigmas = [1 - i / steps for i in range(steps)] if family.own_sigmas and steps > 0 else None
        return self.timetable.levels(steps, tokens, sigmas)

    def encode(self, prompts: Sequence[str], size: tuple[int, int] | None = None) -> dict[str, Tensor]:
        """The conditions of these prompts, each with the batch first.

        Args:
            prompts: one a sample.
            size: (height, width) in pixels, which SDXL and PixArt are told; the network's own by default.

        Raises:
            ModelError: the pipeline has no text encoder, or one that is not supported or not readable.
        """
        return {**self._encoder.encode(prompts), **self._sizes(len(prompts), size)}

    def null(self, batch: int = 1) -> dict[str, Tensor]:
        """The conditions of the other estimate of classifier-free guidance, for `fewstep.core.guidance.Guided`: of an
        empty prompt, or of no class. Conditions that guidance leaves alone are not among them. For a negative prompt
        `encode` it instead.

        Raises:
            ModelError: the network has neither.
        """
        if (label := family_of(self.network).no_class(self._config)) is not None:
            return {"label": torch.full((batch,), label, dtype=torch.int64)}
        empty = self._encoder.encode([""] * batch)
        return {key: torch.zeros_like(values) for key, values in empty.items()} if self.zero_null else empty

    @property
    def _config(self) -> Any:
        return self.network.config

    @property
    def _encoder(self) -> PromptEncoder:
        if self.prompts is None:
            source = self.folder.source
            raise ModelError(f"'{source}' has no text encoder that is supported: give the conditions as arrays")
        return self.prompts

    def _sizes(self, batch: int, size: tuple[int, int] | None) -> dict[str, Tensor]:
        needs = family_of(self.network).needs(self._config)
        if not {"time_ids", "resolution"} & set(needs):
            return {}
        height, width = self._own_size() if size is None else size
        if "time_ids" in needs:
            return {"time_ids": torch.tensor([[height, width, 0, 0, height, width]] * batch, dtype=torch.float32)}
        return {
            "resolution": torch.tensor([[height, width]] * batch, dtype=torch.float32),
            "aspect_ratio": torch.full((batch, 1), height / width),
        }

    def _own_size(self) -> tuple[int, int]:
        side = self._config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        factor = self.codec.factor if isinstance(self.codec, VaeCodec) else 1
        return height * factor, width * factor


def open_pipeline(
    source: str | Path,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    cache: str | Path | None = None,
    text_length: int | None = None,
) -> Pipeline:
    """Open a pipeline.

    Weights are read from safetensors alone, in full precision, or from the variant that there is (fp16).

    Args:
        source: its directory, or `user/name` on the hub.
        dtype: the precision of all networks.
        device: "cpu", "cuda", "cuda:1", "mps".
        cache: a directory that keeps encoded prompts; None for memory alone.
        text_length: tokens that T5 keeps of a prompt; None for the pipeline's own.

    Raises:
        ModelError: there is no such pipeline, a part of it is missing or not supported, or it has only pickles.
    """
    folder = open_folder(source)
    if folder.index.get("requires_aesthetics_score"):
        raise ModelError(f"'{folder.source}' is a refiner, which is not supported: give the base pipeline")
    scheduler = _scheduler(folder)
    network = _module(folder, _one_of(folder, _NETWORKS), tuple(FAMILIES), dtype, device)
    try:
        timetable, family = Timetable.of(scheduler), family_of(network)
    except ModelError as error:
        raise ModelError(f"'{folder.source}' cannot be used: {error}") from error
    vae = next((name for name in _VAES if folder.class_of(name) is not None), None)
    # pixels in [-1, 1] are the data of a pipeline without a VAE
    codec: Codec = (
        SpaceToDepth(1, (0.5,), (0.5,), 1.0)
        if vae is None
        else VaeCodec(_module(folder, vae, tuple(VAES), dtype, device))
    )
    config: Any = network.config
    recipe = family.text(config)
    prompts = None
    if recipe is not None:
        length = text_length or _TEXT_LENGTHS.get(str(folder.index.get("_class_name")))
        width = int(config.get("joint_attention_dim") or 0)
        prompts = PromptEncoder(
            folder, recipe, width, length, PromptCache(None if cache is None else Path(cache)), dtype, device
        )
    # which SDXL pipelines do unless they say otherwise
    zero_null = bool(folder.index.get("force_zeros_for_empty_prompt", recipe == "sdxl"))
    return Pipeline(folder, network, timetable, codec, prompts, zero_null)


_TEXT_LENGTHS = {"PixArtSigmaPipeline": 300}
"""Tokens that T5 keeps, of pipelines that differ from their family."""


def _one_of(folder: Folder, names: Sequence[str]) -> str:
    for name in names:
        if folder.class_of(name) is not None:
            return name
    raise ModelError(
        f"'{folder.source}' has no {' or '.join(names)} in its model_index.json: give a pipeline with one"
    )


def _class(folder: Folder, name: str, allowed: Sequence[str]) -> Any:
    named = folder.class_of(name)
    if named not in allowed:
        raise ModelError(
            f"'{folder.source}' has {named} as its {name}, which is not supported: use one of "
            f"{', '.join(sorted(allowed))}"
        )
    return getattr(diffusers, str(named))


def _module(folder: Folder, name: str, allowed: Sequence[str], dtype: torch.dtype, device: str) -> nn.Module:
    kind, variant = _class(folder, name, allowed), folder.variant(name)
    try:
        module: nn.Module = kind.from_pretrained(
            folder.path / name, use_safetensors=True, variant=variant, torch_dtype=dtype
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"'{folder.source}/{name}' cannot be opened: {reason}") from error
    return module.to(device).eval().requires_grad_(False)


def _scheduler(folder: Folder) -> Any:
    kind = _class(folder, _one_of(folder, (_SCHEDULER,)), tuple(SCHEDULERS))
    try:
        return kind.from_pretrained(folder.path / _SCHEDULER)
    except (OSError, ValueError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"'{folder.source}/{_SCHEDULER}' cannot be opened: {reason}") from error
