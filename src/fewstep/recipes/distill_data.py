"""Captioned images as a diffusers pipeline sees them: latents in buckets of their shape, and encoded prompts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fewstep.data.dataset import DataError
from fewstep.data.encoded import EncodedImages, Size, bucket_sizes, encode_images
from fewstep.data.sources import Pictures, open_pictures
from fewstep.interop.diffusers.networks import family_of
from fewstep.interop.diffusers.pipeline import Pipeline
from fewstep.interop.diffusers.vae import VaeCodec
from fewstep.training.trainable import fingerprint

log = logging.getLogger(__name__)

BUCKET = 64  # pixels between the sizes of two buckets, for networks that halve latents three times


@dataclass(frozen=True)
class PipelineImages:
    """Images for a pipeline.

    Args:
        pipeline: the pipeline.
        data: a folder, .tar shards, or a Hugging Face data set.
        resolution: side of the images in pixels; None for what the network was trained on.
        buckets: whether images keep about their shape; else the middle is cropped.
        flip: whether to mirror images in half of the passes.
        passes: how often each image is encoded.
        caption_column: column with the captions; None for a usual one.
    """

    pipeline: Pipeline
    data: str
    resolution: int | None = None
    buckets: bool = True
    flip: bool = False
    passes: int = 1
    caption_column: str | None = None

    @property
    def sizes(self) -> list[Size]:
        """The sizes of the images' buckets."""
        config: Any = self.pipeline.network.config
        factor = self.pipeline.codec.factor if isinstance(self.pipeline.codec, VaeCodec) else 1
        own = config.get("sample_size")
        if self.resolution is None and own is None:
            raise DataError("--resolution must be given: this pipeline's network does not say its own")
        side = self.resolution or factor * (own if isinstance(own, int) else min(own))
        if "block_out_channels" in config:
            cell = factor * 2 ** (len(config.block_out_channels) - 1)
        else:
            cell = factor * (family_of(self.pipeline.network).patch(config) or int(config.patch_size))
        step = BUCKET if side >= 4 * BUCKET and BUCKET % cell == 0 else cell
        if side % step:
            raise DataError(f"resolution must be a multiple of {step} for this pipeline, got {side}")
        sizes = bucket_sizes(side, step) if self.buckets else [(side, side)]
        most = config.get("pos_embed_max_size") or max(map(max, sizes))  # tokens a side, of SD3
        return [size for size in sizes if max(size) <= most * cell]

    def encoded(self, folder: Path) -> EncodedImages:
        """The images as latents, from this folder if they are there.

        Raises:
            DataError: the images cannot be used, or the folder has others.
        """
        codec = self.pipeline.codec

        def opened(size: Size) -> Pictures:
            return open_pictures(self.data, size, flip=self.flip, caption_column=self.caption_column)

        def encode(pixels: Any) -> Any:
            with torch.no_grad():
                return codec.encode(torch.from_numpy(pixels)).float().cpu().numpy()

        smallest = opened(self.sizes[0])
        facts = {
            "data": smallest.name,
            "images": len(smallest),
            "flip": self.flip,
            "codec": fingerprint(codec.vae) if isinstance(codec, VaeCodec) else "pixels",
        }
        return encode_images(opened, self.sizes, encode, folder, facts, self.passes)

    def encode_prompts(self, images: EncodedImages) -> None:
        """Encode every caption, so that the text encoders are not needed in training.

        Raises:
            DataError: there are no captions.
        """
        captions = images.all_captions
        if not any(captions):
            raise DataError(f"'{self.data}' has no captions: write metadata.jsonl, or a .txt for each image")
        for done, caption in enumerate(captions, start=1):
            self.pipeline.encode([caption], images.sizes[0])
            if done % 500 == 0 or done == len(captions):
                log.info("%d of %d captions encoded", done, len(captions))
