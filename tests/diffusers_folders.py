"""Tiny diffusers pipelines with random weights, written to folders as their authors would."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DiTPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    PixArtAlphaPipeline,
    SanaTransformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from diffusers_parts import POOLED, VP_SETTINGS, WIDTH, network

LENGTH = 10
_START, _END = "<|startoftext|>", "<|endoftext|>"


def clip_tokenizer() -> CLIPTokenizer:
    """Letters, and one word that is a token: cat."""
    pieces = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase), "ca", "cat</w>"]
    vocabulary = {token: index for index, token in enumerate([*pieces, _START, _END])}
    return CLIPTokenizer(vocabulary, [("c", "a"), ("ca", "t</w>")], model_max_length=LENGTH)


def t5_tokenizer() -> T5Tokenizer:
    letters = [(letter, -3.0) for letter in string.ascii_lowercase]
    return T5Tokenizer([("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0), *letters], extra_ids=0)


def clip(width: int = WIDTH, projection: int | None = None) -> Any:
    """A text encoder of this width; with a projection if it has a size."""
    tokens = clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        projection_dim=projection or width,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )
    torch.manual_seed(width)
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def t5() -> T5EncoderModel:
    torch.manual_seed(1)
    return T5EncoderModel(
        T5Config(vocab_size=len(t5_tokenizer()), d_model=WIDTH, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    ).eval()


def vae(channels: int, **settings: Any) -> AutoencoderKL:
    """Halves the sides once."""
    torch.manual_seed(2)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=channels,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=16,
        **settings,
    ).eval()


def deep_vae() -> AutoencoderDC:
    """Of Sana's kind: halves the sides once."""
    torch.manual_seed(3)
    sizes: dict[str, Any] = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {
            "block_types": ("ResBlock", "ResBlock"),
            "block_out_channels": (8, 16),
            "layers_per_block": (1, 1),
            "qkv_multiscales": ((), ()),
        }.items()
    }
    return AutoencoderDC(
        in_channels=3, latent_channels=8, attention_head_dim=8, scaling_factor=0.41407, **sizes
    ).eval()


def stable_diffusion() -> StableDiffusionPipeline:
    scheduler = DDIMScheduler(**VP_SETTINGS, clip_sample=False, steps_offset=1, set_alpha_to_one=False)
    return StableDiffusionPipeline(
        vae=vae(4, scaling_factor=0.18215),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        unet=network("sd"),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline(
        vae=vae(4, scaling_factor=0.13025),
        text_encoder=clip(4),
        text_encoder_2=clip(WIDTH - 4, POOLED),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=network("sdxl"),
        scheduler=EulerDiscreteScheduler(**VP_SETTINGS, timestep_spacing="leading", steps_offset=1),
        add_watermarker=False,
    )


def stable_diffusion_3(with_t5: bool = True) -> StableDiffusion3Pipeline:
    return StableDiffusion3Pipeline(
        transformer=network("sd3"),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(16, scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=clip(4, 4),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(8, POOLED - 4),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5() if with_t5 else None,
        tokenizer_3=t5_tokenizer() if with_t5 else None,
    )


def flux() -> FluxPipeline:
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae(16, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=clip(POOLED),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
        transformer=network("flux_of_guidance"),
    )


def pixart() -> PixArtAlphaPipeline:
    return PixArtAlphaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(),
        vae=vae(4, scaling_factor=0.18215),
        transformer=network("pixart"),
        scheduler=DDIMScheduler(**VP_SETTINGS, clip_sample=False),
    )


def dit() -> DiTPipeline:
    return DiTPipeline(
        transformer=network("dit"), vae=vae(4), scheduler=DDIMScheduler(**VP_SETTINGS, clip_sample=False)
    )


def ddpm() -> DDPMPipeline:
    return DDPMPipeline(unet=network("unet"), scheduler=DDIMScheduler(clip_sample=True))


PIPELINES: Mapping[str, Callable[[], Any]] = {
    "ddpm": ddpm,
    "dit": dit,
    "flux": flux,
    "pixart": pixart,
    "sd": stable_diffusion,
    "sd3": stable_diffusion_3,
    "sdxl": stable_diffusion_xl,
}


def write_sana(folder: Path) -> Path:
    """Sana without its text encoder, which is a language model."""
    made: SanaTransformer2DModel = network("sana")
    parts = {"transformer": made, "vae": deep_vae(), "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0)}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    index = {name: ["diffusers", type(part).__name__] for name, part in parts.items()}
    write_index(folder, {"_class_name": "SanaPipeline", "text_encoder": ["transformers", "Gemma2Model"], **index})
    return folder


def write_index(folder: Path, index: Mapping[str, Any]) -> None:
    import json

    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
