"""Tiny diffusers networks of every family, with random weights, and conditions for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    DiTTransformer2DModel,
    Flux3Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    LatentConsistencyModelPipeline,
    PixArtTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
)
from torch import Tensor, nn

SIDE, TOKENS, WIDTH, POOLED = 8, 5, 16, 12
VP_SETTINGS: Mapping[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
"""Stable Diffusion's table."""


@dataclass(frozen=True)
class Example:
    """A tiny network and what is to be known to call it.

    Args:
        make: builds it.
        channels: of its latents.
        conditions: those that it needs, and their shapes without the batch; () for a class.
        flow: whether it is sampled with a flow matching scheduler.
    """

    make: Callable[[], nn.Module]
    channels: int
    conditions: Mapping[str, tuple[int, ...]]
    flow: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.channels, SIDE, SIDE)


_UNET = {
    "sample_size": SIDE,
    "layers_per_block": 1,
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
}
SD_CONFIG = {
    **_UNET,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 4,
}
_SDXL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": POOLED + 6 * 4,
}
_TRANSFORMER = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "sample_size": SIDE}
_SD3 = {
    **_TRANSFORMER,
    "in_channels": 16,
    "out_channels": 16,
    "joint_attention_dim": WIDTH,
    "caption_projection_dim": 16,
    "pooled_projection_dim": POOLED,
    "pos_embed_max_size": 8,
}
_FLUX = {
    "in_channels": 64,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": WIDTH,
    "pooled_projection_dim": POOLED,
    "axes_dims_rope": (4, 4, 8),
}
_SANA = {
    **_TRANSFORMER,
    "in_channels": 8,
    "out_channels": 8,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 8,
    "cross_attention_dim": 16,
    "caption_channels": WIDTH,
}
_FLUX3 = {
    "in_channels": 8,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": WIDTH,
    "timestep_channels": 16,
    "axes_dims_rope": (4, 4, 4, 4),
}
TEXT = {"text": (TOKENS, WIDTH)}
TEXT_POOLED = {**TEXT, "pooled": (POOLED,)}

EXAMPLES: Mapping[str, Example] = {
    "unet": Example(
        lambda: UNet2DModel(
            **_UNET, in_channels=3, out_channels=3, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=8,
        ), 3, {},
    ),
    "unet_of_classes": Example(
        lambda: UNet2DModel(
            **_UNET, in_channels=3, out_channels=6, down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"), num_class_embeds=5,
        ), 3, {"label": ()},
    ),
    "sd": Example(lambda: UNet2DConditionModel(**SD_CONFIG), 4, TEXT),
    "lcm": Example(lambda: UNet2DConditionModel(**SD_CONFIG, time_cond_proj_dim=8), 4, {**TEXT, "guidance": ()}),
    "sdxl": Example(lambda: UNet2DConditionModel(**SD_CONFIG, **_SDXL), 4, {**TEXT_POOLED, "time_ids": (6,)}),
    "dit": Example(
        lambda: DiTTransformer2DModel(**_TRANSFORMER, in_channels=4, out_channels=8, num_embeds_ada_norm=5),
        4, {"label": ()},
    ),
    "pixart": Example(
        lambda: PixArtTransformer2DModel(
            **_TRANSFORMER, in_channels=4, out_channels=8, cross_attention_dim=16, caption_channels=WIDTH,
        ), 4, TEXT,
    ),
    "pixart_of_sizes": Example(
        lambda: PixArtTransformer2DModel(
            num_attention_heads=3, attention_head_dim=8, num_layers=1, sample_size=SIDE, in_channels=4,
            out_channels=8, cross_attention_dim=24, caption_channels=WIDTH, use_additional_conditions=True,
        ), 4, {**TEXT, "resolution": (2,), "aspect_ratio": (1,)},
    ),
    "sd3": Example(lambda: SD3Transformer2DModel(**_SD3), 16, TEXT_POOLED, flow=True),
    "flux": Example(lambda: FluxTransformer2DModel(**_FLUX), 16, TEXT_POOLED, flow=True),
    "flux_of_guidance": Example(
        lambda: FluxTransformer2DModel(**_FLUX, guidance_embeds=True), 16, {**TEXT_POOLED, "guidance": ()}, flow=True,
    ),
    "flux3": Example(lambda: Flux3Transformer2DModel(**_FLUX3), 8, TEXT, flow=True),
    "flux3_flow_map": Example(lambda: Flux3Transformer2DModel(**_FLUX3, flow_map=True), 8, TEXT, flow=True),
    "sana": Example(lambda: SanaTransformer2DModel(**_SANA, timestep_scale=0.001), 8, TEXT, flow=True),
    "sana_sprint": Example(
        lambda: SanaTransformer2DModel(**_SANA, guidance_embeds=True, timestep_scale=0.001), 8,
        {**TEXT, "guidance": ()}, flow=True,
    ),
}  # fmt: skip


def network(name: str) -> nn.Module:
    """That network, in evaluation mode, with weights that do not vanish where a fresh one's would."""
    torch.manual_seed(0)
    made = EXAMPLES[name].make().eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in made.parameters():
            if not parameter.any():  # zero-initialised outputs and modulations would hide their inputs
                parameter.normal_(std=0.1)
    return made


def conditions(name: str, size: int, seed: int = 0) -> dict[str, Tensor]:
    """Conditions of a batch for it, other ones for each sample."""
    generator = torch.Generator().manual_seed(seed)
    made = {
        condition: torch.randn((size, *shape), generator=generator)
        for condition, shape in EXAMPLES[name].conditions.items()
    }
    if "label" in made:
        made["label"] = torch.arange(size) % 4
    if "guidance" in made:
        made["guidance"] = 2.0 + torch.arange(size)
    if "time_ids" in made:
        made["time_ids"] = torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]]).repeat(size, 1)
    return made


def start(name: str, size: int = 2, seed: int = 7) -> Tensor:
    """Standard normal noise [size, c, h, w]."""
    return torch.randn((size, *EXAMPLES[name].shape), generator=torch.Generator().manual_seed(seed))


def as_pipelines_call(name: str, net: Any, x: Tensor, t: Any, cond: Mapping[str, Tensor]) -> Tensor:
    """The network's prediction as diffusers' own pipelines ask for it.

    Args:
        name: of the example.
        net: the network.
        x: [b, c, h, w] at the scheduler's scale of the network's input.
        t: the scheduler's timestep.
        cond: conditions.
    """
    t = torch.as_tensor(t, dtype=torch.float32).expand(x.shape[0])
    return _CALLS[name.split("_")[0]](net, x, t, dict(cond))


def _call_unet(net: Any, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
    return net(x, t, cond.get("label")).sample[:, :3]


def _call_sd(net: Any, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
    return net(x, t, encoder_hidden_states=cond["text"]).sample


def _call_lcm(net: Any, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
    w = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, cond["guidance"] - 1, 8)
    return net(x, t, timestep_cond=w, encoder_hidden_states=cond["text"]).sample


def _call_sdxl(net: Any, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
    added = {"text_embeds": cond["pooled"], "time_ids": cond["time_ids"]}
    return net(x, t, encoder_hidden_states=cond["text"], added_cond_kwargs=added).sample


def _call_dit(net: Any, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
    return net(x, timestep=t, class_labels=cond["label"]).sample.split(4, dim=1)[0]


def _call_pixart(net: Any, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
    text = {"encoder_hidden_states": cond.pop("text"), "encoder_attention_mask": cond.pop("text_mask", None)}
    return net(x, timestep=t, added_cond_kwargs=cond, **text).sample.chunk(2, dim=1)[0]


def _call_sd3(net: Any, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
    return net(
        hidden_states=x, timestep=t, encoder_hidden_states=cond["text"], pooled_projections=cond["pooled"]
    ).sample


def _call_flux(net: Any, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
    b, c, h, w = x.shape
    output = net(
        hidden_states=FluxPipeline._pack_latents(x, b, c, h, w),
        timestep=t / 1000,
        guidance=cond.get("guidance"),
        pooled_projections=cond["pooled"],
        encoder_hidden_states=cond["text"],
        txt_ids=torch.zeros(cond["text"].shape[1], 3),
        img_ids=FluxPipeline._prepare_latent_image_ids(b, h // 2, w // 2, x.device, x.dtype),
    ).sample
    return FluxPipeline._unpack_latents(output, h, w, 1)


def _call_flux3(net: Any, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
    """With `to`, the next timestep, for a flow map."""
    b, c, h, w = x.shape
    places = torch.cartesian_prod(torch.arange(1), torch.arange(h), torch.arange(w), torch.arange(1)).float()
    places[:, 1:3] *= 0.5
    words = torch.cartesian_prod(
        torch.arange(1), torch.arange(1), torch.arange(1), torch.arange(cond["text"].shape[1])
    )
    output = net(
        hidden_states=x.reshape(b, c, h * w).permute(0, 2, 1),
        timestep=t / 1000,
        target_timestep=cond["to"].expand(b) / 1000 if net.config.flow_map else None,
        encoder_hidden_states=cond["text"],
        img_ids=places,
        txt_ids=words.float(),
    ).sample
    return output.permute(0, 2, 1).reshape(b, c, h, w)


def _call_sana(net: Any, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
    """For Sprint, t is SCM's and x is divided by σd already."""
    text = {"encoder_hidden_states": cond["text"], "encoder_attention_mask": cond.get("text_mask")}
    if not net.config.guidance_embeds:
        return net(x, timestep=t * net.config.timestep_scale, **text).sample
    rf = torch.sin(t) / (torch.cos(t) + torch.sin(t))
    wide = rf.view(-1, 1, 1, 1)
    scaled = x * torch.sqrt(wide**2 + (1 - wide) ** 2)
    output = net(scaled, timestep=rf, guidance=cond["guidance"] * net.config.guidance_embeds_scale, **text).sample
    trig = (1 - 2 * wide) * scaled + (1 - 2 * wide + 2 * wide**2) * output
    return trig / torch.sqrt(wide**2 + (1 - wide) ** 2)


_CALLS: Mapping[str, Callable[..., Tensor]] = {
    "unet": _call_unet,
    "sd": _call_sd,
    "lcm": _call_lcm,
    "sdxl": _call_sdxl,
    "dit": _call_dit,
    "pixart": _call_pixart,
    "sd3": _call_sd3,
    "flux": _call_flux,
    "flux3": _call_flux3,
    "sana": _call_sana,
}
