"""Tiny networks of diffusers with random weights, their inputs, and LoRAs on them. Nothing here knows fewstep, so that
a process without it can use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

UNET = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 16,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}
SD3 = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "caption_projection_dim": 16,
    "pooled_projection_dim": 16,
}
FLUX = {
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "pooled_projection_dim": 16,
    "axes_dims_rope": (2, 2, 4),
}


def unet(seed: int = 0, **changes: Any) -> nn.Module:
    torch.manual_seed(seed)
    network: nn.Module = diffusers.UNet2DConditionModel(**UNET | changes)
    return network.eval()


def sd3(seed: int = 0, **changes: Any) -> nn.Module:
    torch.manual_seed(seed)
    network: nn.Module = diffusers.SD3Transformer2DModel(**SD3 | changes)
    return network.eval()


def flux(seed: int = 0, **changes: Any) -> nn.Module:
    torch.manual_seed(seed)
    network: nn.Module = diffusers.FluxTransformer2DModel(**FLUX | changes)
    return network.eval()


NETWORKS: dict[str, Callable[..., nn.Module]] = {"unet": unet, "sd3": sd3, "flux": flux}


def inputs(family: str) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    text = {"encoder_hidden_states": torch.randn(2, 5, 16, generator=draw)}
    if family == "unet":
        return text | {"sample": torch.randn(2, 4, 8, 8, generator=draw), "timestep": torch.tensor([10, 900])}
    text |= {"pooled_projections": torch.randn(2, 16, generator=draw)}
    if family == "sd3":
        return text | {
            "hidden_states": torch.randn(2, 4, 8, 8, generator=draw),
            "timestep": torch.tensor([10.0, 900]),
        }
    places = {"img_ids": torch.randn(4, 3, generator=draw).round(), "txt_ids": torch.zeros(5, 3)}
    return (
        text | places | {"hidden_states": torch.randn(2, 4, 16, generator=draw), "timestep": torch.tensor([0.1, 0.9])}
    )


def output(network: nn.Module, family: str) -> Tensor:
    with torch.no_grad():
        drawn: Tensor = network(**inputs(family), return_dict=False)[0]
    return drawn


def pipeline(network: nn.Module, family: str) -> Any:
    """A pipeline around a network, without text encoders; that of the U-Net has an image decoder."""
    if family == "sd3":
        no_text = dict.fromkeys(f"{part}{i}" for part in ("text_encoder", "tokenizer") for i in ("", "_2", "_3"))
        flow = diffusers.FlowMatchEulerDiscreteScheduler()
        return diffusers.StableDiffusion3Pipeline(transformer=network, scheduler=flow, vae=None, **no_text)
    if family == "flux":
        no_text = dict.fromkeys(f"{part}{i}" for part in ("text_encoder", "tokenizer") for i in ("", "_2"))
        flow = diffusers.FlowMatchEulerDiscreteScheduler()
        return diffusers.FluxPipeline(transformer=network, scheduler=flow, vae=None, **no_text)
    torch.manual_seed(2)
    vae = diffusers.AutoencoderKL(block_out_channels=(4,), norm_num_groups=4, sample_size=8, scaling_factor=1.0)
    scheduler = diffusers.LCMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)
    none = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    return diffusers.StableDiffusionPipeline(
        unet=network, vae=vae.eval(), scheduler=scheduler, requires_safety_checker=False, **none
    )


def images(made: Any) -> Tensor:
    """What the U-Net's pipeline draws in four steps, in [0, 1]."""
    made.set_progress_bar_config(disable=True)
    drawn: Tensor = made(
        prompt_embeds=inputs("unet")["encoder_hidden_states"],
        height=8,
        width=8,
        guidance_scale=1.0,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(3),
        output_type="pt",
    ).images
    return drawn
