"""A diffusers pipeline whose U-Net is a flow map: the U-Net is told where each jump ends, as `class_labels`.

This file needs diffusers alone. It is written beside the weights, so that diffusers can load it from there:

    DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from diffusers import StableDiffusionPipeline as Base
from diffusers.models.embeddings import TimestepEmbedding
from safetensors.torch import load_file


class FlowMapPipeline(Base):  # type: ignore[misc]  # diffusers is untyped
    """The pipeline that the flow map was made from, with four steps and no further guidance by default."""

    scheduler: Any

    def __call__(self, *args: Any, **options: Any) -> Any:
        options = {"num_inference_steps": 4, "guidance_scale": 1.0, **options}
        aiming = self.unet.register_forward_pre_hook(self._aim, with_kwargs=True)
        try:
            return super().__call__(*args, **options)
        finally:
            aiming.remove()

    def _aim(self, unet: Any, args: Any, options: Any) -> Any:
        """Tell the U-Net where the scheduler's step ends; its first two arguments are x and the timestep."""
        length = self.scheduler.config.num_train_timesteps // self.scheduler.num_inference_steps
        end = (torch.as_tensor(args[1]) - length).clamp(min=0)
        return args, {**options, "class_labels": end.to(args[0].device).expand(len(args[0]))}

    def load_flow_map(self, folder: Any) -> None:
        """Add a flow map's LoRA and its embedder of the second time to the pipeline that it was made from."""
        unet = self.unet
        width, length = unet.time_embedding.linear_1.in_features, unet.time_embedding.linear_2.out_features
        embedder = TimestepEmbedding(width, length, act_fn=unet.config.act_fn)
        embedder.load_state_dict(load_file(Path(folder) / "target_time.safetensors"))
        unet.class_embedding = embedder.to(unet.device, unet.dtype)
        unet.register_to_config(class_embed_type="timestep")
        self.load_lora_weights(str(folder))
        self.scheduler = DDIMScheduler.from_config(
            self.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True, clip_sample=False
        )
