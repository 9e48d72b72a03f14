"""How each class of diffusers network is called: which named conditions it takes, which time, which form of latents.

A family joins by one entry in `FAMILIES`. Conditions have fewstep's names, each with the batch first:

    text          [b, n, width]  the encoded prompt
    text_mask     [b, n]         1 for tokens to attend to, 0 for others
    pooled        [b, width]     the prompt as one vector
    label         [b]            a class, int64
    time_ids      [b, 6]         SDXL: original size, crop's corner, target size, each as (height, width) in pixels
    resolution    [b, 2]         PixArt: height and width in pixels
    aspect_ratio  [b, 1]         PixArt: height/width
    guidance      [b]            the guidance scale that is distilled into the network, 1 for none
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn

from fewstep.core.levels import Trig
from fewstep.interop.diffusers.target_time import has_target_time
from fewstep.interop.diffusers.timesteps import Timetable
from fewstep.models.parts import ModelError

Named = Mapping[str, Tensor]
Times = tuple[Tensor, Tensor]
"""The time of x and that of the jump's end, both [b]."""


@dataclass(frozen=True)
class Family:
    """What is to be known about a network class.

    Args:
        call: the network's output [b, ...] from (network, x [b, c, h, w], both times [b], conditions).
        needs: the conditions that a network of this class must be given.
        takes: those that it may be given beside them.
        time_scale: what a flow network multiplies t ∈ [0, 1] with before it is called.
        patch: latents a side of one token, on which a dynamic shift depends; 0 for networks without tokens.
        flow_map: whether a network takes the jump's end as a second time.
        text: what encodes prompts for it, by name in `fewstep.interop.diffusers.text`; None for nothing.
        no_class: the label that stands for no class; None for networks without one.
        own_sigmas: whether its pipeline gives the scheduler σ = 1 … 1/N instead of asking for its own.
    """

    call: Callable[[nn.Module, Tensor, Times, Named], Tensor]
    needs: Callable[[Any], tuple[str, ...]]
    takes: tuple[str, ...] = ()
    time_scale: Callable[[Any, Timetable], float] = lambda config, timetable: 1.0
    patch: Callable[[Any], int] = lambda config: 0
    flow_map: Callable[[Any], bool] = lambda config: False
    text: Callable[[Any], str | None] = lambda config: None
    no_class: Callable[[Any], int | None] = lambda config: None
    own_sigmas: bool = False


def _unet2d(network: Any, x: Tensor, times: Times, cond: Named) -> Tensor:
    """Pixels or latents by class or by nothing (DDPM 2006.11239; improved diffusion 2102.09672)."""
    at = times[0].round().long() if network.config.time_embedding_type == "learned" else times[0]
    labels = {"class_labels": cond["label"]} if "label" in cond else {}
    return _output(network(x, at, **labels, return_dict=False))


def _unet2d_needs(config: Any) -> tuple[str, ...]:
    return ("label",) if config.class_embed_type or config.num_class_embeds else ()


def _unet2d_condition(network: Any, x: Tensor, times: Times, cond: Named) -> Tensor:
    """Stable Diffusion 1.x and 2.x (2112.10752), SDXL (2307.01952), LCM with its embedded guidance (2310.04378), and
    flow maps of them, which take a second time in place of a class."""
    width = network.config.time_cond_proj_dim
    options: dict[str, Any] = {}
    if width:  # LCM's w is the usual scale minus 1
        options["timestep_cond"] = get_timestep_embedding(
            1000 * (cond["guidance"].float() - 1), width, flip_sin_to_cos=False, downscale_freq_shift=1
        ).to(x.dtype)
    if "pooled" in cond:
        options["added_cond_kwargs"] = {"text_embeds": cond["pooled"], "time_ids": cond["time_ids"]}
    if has_target_time(network.config):
        options["class_labels"] = times[1]
    if "label" in cond:
        options["class_labels"] = cond["label"]
    if "text_mask" in cond:
        options["encoder_attention_mask"] = cond["text_mask"]
    return _output(network(x, times[0], encoder_hidden_states=cond["text"], **options, return_dict=False))


def _unet2d_condition_needs(config: Any) -> tuple[str, ...]:
    added = config.addition_embed_type
    if added not in (None, "text_time"):
        raise ModelError(f"a UNet2DConditionModel with addition_embed_type '{added}' is not supported: text_time is")
    return (
        "text",
        *(("pooled", "time_ids") if added else ()),
        *(("guidance",) if config.time_cond_proj_dim else ()),
        *(("label",) if not has_target_time(config) and (config.class_embed_type or config.num_class_embeds) else ()),
    )


def _dit(network: Any, x: Tensor, times: Times, cond: Named) -> Tensor:
    """DiT (2212.09748): a class, one number more for none."""
    return _output(network(x, timestep=times[0], class_labels=cond["label"], return_dict=False))


def _pixart(network: Any, x: Tensor, times: Times, cond: Named) -> Tensor:
    """PixArt-α (2310.00426) and -Σ (2403.04692)."""
    sizes = {name: cond.get(name) for name in ("resolution", "aspect_ratio")}
    return _output(
        network(
            x,
            timestep=times[0],
            encoder_hidden_states=cond["text"],
            encoder_attention_mask=cond.get("text_mask"),
            added_cond_kwargs=sizes,
            return_dict=False,
        )
    )


def _pixart_needs(config: Any) -> tuple[str, ...]:
    sized = config.use_additional_conditions
    sized = config.sample_size == 128 if sized is None else sized
    return ("text", *(("resolution", "aspect_ratio") if sized else ()))


def _sd3(network: Any, x: Tensor, times: Times, cond: Named) -> Tensor:
    """Stable Diffusion 3 (2403.03206)."""
    return _output(
        network(
            x,
            timestep=times[0],
            encoder_hidden_states=cond["text"],
            pooled_projections=cond["pooled"],
            return_dict=False,
        )
    )


def _flux(network: Any, x: Tensor, times: Times, cond: Named) -> Tensor:
    """FLUX.1: tokens of 2 × 2 latents, positions as ids; the network itself multiplies time and guidance by 1 000."""
    text, (rows, columns) = cond["text"], _halves(x)
    options = {"guidance": cond["guidance"].float()} if "guidance" in cond else {}
    output = network(
        pack(x),
        timestep=times[0],
        encoder_hidden_states=text,
        pooled_projections=cond["pooled"],
        img_ids=_positions(rows, columns, x),
        txt_ids=x.new_zeros((text.shape[1], 3)),
        **options,
        return_dict=False,
    )
    return unpack(_output(output), rows, columns)


def pack(x: Tensor) -> Tensor:
    """Latents [b, c, h, w] as tokens [b, h/2·w/2, 4c]: each holds a 2 × 2 square, its channels outermost.

    Raises:
        ValueError: a side is odd.
    """
    b, c, _, _ = x.shape
    rows, columns = _halves(x)
    squares = x.reshape(b, c, rows, 2, columns, 2).permute(0, 2, 4, 1, 3, 5)
    return squares.reshape(b, rows * columns, 4 * c)


def unpack(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of `pack` for rows × columns tokens."""
    b, _, width = tokens.shape
    squares = tokens.reshape(b, rows, columns, width // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return squares.reshape(b, width // 4, 2 * rows, 2 * columns)


def _halves(x: Tensor) -> tuple[int, int]:
    height, width = x.shape[2:]
    if height % 2 or width % 2:
        raise ValueError(f"height and width of packed latents must be even, got {height} and {width}")
    return height // 2, width // 2


def _positions(rows: int, columns: int, x: Tensor) -> Tensor:
    """(0, row, column) of each token [rows·columns, 3]."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], dim=-1).reshape(-1, 3).to(x)


def _flux3(network: Any, x: Tensor, times: Times, cond: Named) -> Tensor:
    """FLUX.3, which may be a flow map: one token a latent, positions (t, row, column, place in the text)."""
    text, (rows, columns) = cond["text"], x.shape[2:]
    image = _positions(rows, columns, x) * _FLUX3_POSITION_SCALE
    words = text.new_zeros((text.shape[1], 4))
    words[:, 3] = torch.arange(text.shape[1])
    target = {"target_timestep": times[1]} if network.config.flow_map else {}
    output = network(
        x.flatten(2).transpose(1, 2),
        timestep=times[0],
        encoder_hidden_states=text,
        img_ids=torch.cat([image, torch.zeros_like(image[:, :1])], dim=1),
        txt_ids=words,
        **target,
        return_dict=False,
    )
    grid: Tensor = _output(output).transpose(1, 2).unflatten(2, (rows, columns))
    return grid


_FLUX3_POSITION_SCALE = 0.5
"""Of rows and columns, as the network was trained."""


def _sana(network: Any, x: Tensor, times: Times, cond: Named) -> Tensor:
    """Sana (2410.10629) and Sana-Sprint (2503.09641), whose guidance is scaled before it is embedded."""
    guidance = {}
    if network.config.guidance_embeds:
        guidance["guidance"] = cond["guidance"] * network.config.guidance_embeds_scale
    return _output(
        network(
            x,
            timestep=times[0],
            encoder_hidden_states=cond["text"],
            encoder_attention_mask=cond.get("text_mask"),
            **guidance,
            return_dict=False,
        )
    )


def _sana_time_scale(config: Any, timetable: Timetable) -> float:
    """A TrigFlow network takes the linear path's t ∈ [0, 1] as it is; others its thousandfold, scaled."""
    if isinstance(timetable.path, Trig):
        return 1.0
    return float(timetable.scheduler.config.num_train_timesteps * config.timestep_scale)


def _output(answer: Sequence[Tensor]) -> Tensor:
    return answer[0]


FAMILIES: Mapping[str, Family] = {
    "UNet2DModel": Family(_unet2d, _unet2d_needs),
    "UNet2DConditionModel": Family(
        _unet2d_condition,
        _unet2d_condition_needs,
        takes=("text_mask",),
        flow_map=has_target_time,
        text=lambda config: "sdxl" if config.addition_embed_type else "clip",
    ),
    "DiTTransformer2DModel": Family(
        _dit, lambda config: ("label",), no_class=lambda config: int(config.num_embeds_ada_norm)
    ),
    "PixArtTransformer2DModel": Family(_pixart, _pixart_needs, takes=("text_mask",), text=lambda config: "t5"),
    "SD3Transformer2DModel": Family(
        _sd3,
        lambda config: ("text", "pooled"),
        time_scale=lambda config, timetable: float(timetable.scheduler.config.num_train_timesteps),
        patch=lambda config: int(config.patch_size),
        text=lambda config: "sd3",
    ),
    "FluxTransformer2DModel": Family(
        _flux,
        lambda config: ("text", "pooled", *(("guidance",) if config.guidance_embeds else ())),
        patch=lambda config: 2,
        text=lambda config: "flux",
        own_sigmas=True,
    ),
    "Flux3Transformer2DModel": Family(
        _flux3,
        lambda config: ("text",),
        patch=lambda config: 1,
        flow_map=lambda config: bool(config.flow_map),
        own_sigmas=True,
    ),
    "SanaTransformer2DModel": Family(
        _sana,
        lambda config: ("text", *(("guidance",) if config.guidance_embeds else ())),
        takes=("text_mask",),
        time_scale=_sana_time_scale,
        patch=lambda config: int(config.patch_size),
    ),
}
"""The supported networks by class."""
