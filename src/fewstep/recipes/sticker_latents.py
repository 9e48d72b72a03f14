"""The stickers' latents: every drawing with a sketch of it, plain and varied, encoded once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewstep.core.randomness import derive
from fewstep.data.dataset import DataError
from fewstep.data.latents import INDEX, Latents, write_latents
from fewstep.data.scenes import Scene, Scenes
from fewstep.data.stickers import PLAIN, Stickers, Variation
from fewstep.networks.autoencoder import Autoencoder

BATCH = 64  # pictures encoded at a time
LOGGED = 2000  # pictures encoded between two lines of the log

log = logging.getLogger(__name__)


def sticker_scenes(
    size: int, packages: Path | None, draws: int, variation: Variation, moved: float, pairs: float
) -> Iterator[Scene]:
    """Every drawing as it is, then in varied copies.

    Args:
        size: side of the pictures in pixels.
        packages: folder with the artists' packages; None to have npm fetch them.
        draws: number of varied copies.
        variation: how copies are varied.
        moved, pairs: shares of the copies that are moved, and that show two things.
    """
    plain = Scenes(Stickers(size, PLAIN, packages), moved=0, colour=0, pairs=0)
    varied = Scenes(Stickers(size, variation, packages), moved, variation.colour, pairs)
    for draw in range(draws + 1):
        scenes = varied if draw else plain
        for index in range(len(scenes.stickers)):
            yield scenes.scene(index, np.random.Generator(np.random.Philox(derive("latents", draw, index))))


def encode_scenes(folder: Path, scenes: Iterator[Scene], codec: Autoencoder) -> None:
    """Encode pictures and sketches into a folder that `Latents` reads, unless they are there already.

    Raises:
        DataError: the folder holds latents of another codec.
    """
    made_by = encoder_hash(codec)
    if (folder / INDEX).is_file():
        if Latents(folder).codec != made_by:
            raise DataError(f"the latents in '{folder}' were made by another codec: delete them or give it")
        return
    latents, sketches, facts = [], [], []
    while batch := list(islice(scenes, BATCH)):
        latents.append(_encoded(codec, [scene.pixels for scene in batch]))
        sketches.append(_encoded(codec, [scene.sketch for scene in batch]))
        facts += [scene.facts for scene in batch]
        if len(facts) // LOGGED != (len(facts) - len(batch)) // LOGGED:
            log.info("%d pictures encoded", len(facts))
    write_latents(folder, np.concatenate(latents), np.concatenate(sketches), facts, made_by)


def _encoded(codec: Autoencoder, pictures: Sequence[Any]) -> Any:
    with torch.no_grad():
        return codec.encode(torch.from_numpy(np.stack(pictures))).numpy().astype(np.float16)


def encoder_hash(codec: Autoencoder) -> str:
    """A hash that identifies an encoder and so its latents; independent of the decoder."""
    digest = hashlib.sha256()
    for name, value in sorted(codec.encoder.state_dict().items()):
        digest.update(name.encode() + value.detach().half().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
