"""Train a judge of emoji or stickers: a small convolutional network that names the thing, its colour and its style.

Its features, of unit variance over the training pictures, also serve distances between sets of pictures.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.core.memory import check_memory
from fewstep.core.randomness import derive
from fewstep.data.dataset import indices
from fewstep.data.emoji import Emoji
from fewstep.data.stickers import LINES, Stickers
from fewstep.data.stickers import STYLES as sticker_styles
from fewstep.data.styles import COLOURS, STYLES, recolour
from fewstep.networks.layout import laid_out
from fewstep.networks.recogniser import RecogniserNetwork
from fewstep.training import checkpoints
from fewstep.training.calling import uses_bf16
from fewstep.training.cost import BATCHES

log = logging.getLogger(__name__)

IGNORED = -100

_HUELESS = ("outline", "silhouette", "night")  # styles that leave next to nothing of a colour


@dataclass(frozen=True)
class RecogniserConfig:
    """Shape and training settings of the recogniser.

    Args:
        widths: Channels at a half, a quarter and an eighth of the side.
        features: Length of the feature vector.
        pool: Side of the squares of pixels that are averaged before the first layer.
        draws: Pictures of each drawing rendered before training.
        images: Training images in all; rendered pictures are reused with different shift, blur, light and noise.
        batch: Images in a batch.
        lr: Peak learning rate of AdamW, on a one-cycle schedule.
        weight_decay: Weight decay of AdamW.
        seed: Random seed.
    """

    widths: tuple[int, int, int] = (40, 80, 128)
    features: int = 128
    pool: int = 1
    draws: int = 48
    images: int = 480_000
    batch: int = 128
    lr: float = 3e-3
    weight_decay: float = 0.05
    seed: int = 0


@dataclass(frozen=True)
class Pool:
    """Training pictures with what they show.

    Args:
        pictures: uint8 [n, 4, h, w].
        glyphs: indices of the things, int64 [n].
        colours, styles: the places of their words in COLOURS and `style_words`, from 1 on; 0 is no word, IGNORED an
            ambiguous one; int64 [n].
        style_words: the styles.
    """

    pictures: Tensor
    glyphs: Tensor
    colours: Tensor
    styles: Tensor
    style_words: tuple[str, ...] = tuple(STYLES)


def draw_pool(dataset: Emoji, draws: int, seed: int) -> Pool:
    """Render each glyph `draws` times, augmented; half of them plain, the others in a colour, a style or both."""
    pictures, labels = [], []
    colours, styles = list(COLOURS), list(STYLES)
    for index in range(len(dataset)):
        for draw in range(draws):
            rng = np.random.Generator(np.random.Philox(derive("recogniser", seed, index, draw)))
            colour = int(rng.integers(1, 1 + len(colours))) if rng.random() < 0.3 else 0
            style = int(rng.integers(1, 1 + len(styles))) if rng.random() < 0.3 else 0
            style_word = styles[style - 1] if style else None
            picture = dataset.picture_in(index, rng, colours[colour - 1] if colour else None, style_word)
            pictures.append((picture * 255).round().astype(np.uint8))
            labels.append((index, IGNORED if style_word in _HUELESS else colour, style))
    glyph, hue, kind = torch.tensor(labels, dtype=torch.int64).unbind(dim=1)
    return Pool(torch.from_numpy(np.stack(pictures)), glyph, hue, kind)


def draw_sticker_pool(dataset: Stickers, draws: int, seed: int, colour: float = 0.3) -> Pool:
    """Each drawing `draws` times, moved as the data set says, this share of them recoloured."""
    pictures, labels = [], []
    words = list(COLOURS)
    for place in dataset.shown:
        for draw in range(draws):
            rng = np.random.Generator(np.random.Philox(derive("sticker recogniser", seed, place, draw)))
            hue = int(rng.integers(1, 1 + len(words))) if rng.random() < colour else 0
            picture = dataset.posed(place, dataset.pose(rng))
            picture = recolour(picture, words[hue - 1]) if hue else picture
            pictures.append((picture * 255).round().astype(np.uint8))
            style = dataset.rendered.styles[place]
            is_hueless = sticker_styles[style] == LINES
            labels.append((dataset.rendered.things[place], IGNORED if is_hueless else hue, 1 + style))
    thing, hue_of, style_of = torch.tensor(labels, dtype=torch.int64).unbind(dim=1)
    return Pool(torch.from_numpy(np.stack(pictures)), thing, hue_of, style_of, sticker_styles)


@dataclass(frozen=True)
class RecogniserCheckpoints:
    """The checkpoints of a recogniser's training.

    Args:
        folder: directory of this run's checkpoints.
        facts: JSON values that identify the run.
    """

    folder: Path
    facts: Mapping[str, Any]

    def resume(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Restore both to where an earlier run stopped; returns the steps done, 0 if there is no checkpoint."""
        return checkpoints.resume(self.folder, {"network": network}, [optimizer], self.facts)

    def save(self, step: int, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Save both after this step."""
        checkpoints.save(self.folder, step, {"network": network}, [optimizer], self.facts, keep=2)


def train_recogniser(
    pool: Pool, glyphs: int, config: RecogniserConfig, kept: RecogniserCheckpoints | None = None, every: int = 100
) -> RecogniserNetwork:
    """Train on a pool of pictures; a step's randomness depends only on its number, so that resuming changes nothing.

    Args:
        pool: the pictures.
        glyphs: number of glyphs.
        config: shape and training settings.
        kept: checkpoints to resume from and save to; None for none.
        every: steps between checkpoints.

    Raises:
        RuntimeError: the loss is no longer finite.
    """
    batch = 4 * config.batch * math.prod(pool.pictures.shape[1:])
    check_memory(BATCHES * batch, "the training", f"lower the batch of {config.batch}")
    torch.manual_seed(config.seed)
    kinds = (glyphs, len(COLOURS), len(pool.style_words))
    network = RecogniserNetwork(*kinds, config.widths, config.features, config.pool).train()
    laid_out(network, channels_last=True)
    steps = max(1, config.images // config.batch)
    optimizer = torch.optim.AdamW(network.parameters(), config.lr, weight_decay=config.weight_decay)
    first = kept.resume(network, optimizer) if kept else 0
    is_fast = uses_bf16("auto", "cpu")
    begun = time.monotonic()
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * _one_cycle(step / steps)
        generator = torch.Generator().manual_seed(derive("recogniser step", config.seed, step))
        chosen = torch.tensor(indices(len(pool.glyphs), config.batch, config.seed, step))
        pixels = vary(pool.pictures[chosen].float() / 255, generator).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_fast):
            _, *logits = network(pixels)
        truths = (pool.glyphs[chosen], pool.colours[chosen], pool.styles[chosen])
        losses = [_cross_entropy(guess.float(), truth) for guess, truth in zip(logits, truths, strict=True)]
        loss = losses[0] + 0.5 * (losses[1] + losses[2])
        if not bool(torch.isfinite(loss)):
            raise RuntimeError(f"the recogniser's loss was {loss.item()} at step {step + 1}: lower lr ({config.lr})")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if kept and (step + 1) % every == 0 and step + 1 < steps:
            kept.save(step + 1, network, optimizer)
        if (step + 1) % 50 == 0 or step + 1 == steps:
            right = (logits[0].argmax(dim=1) == truths[0]).float().mean().item()
            spent = (time.monotonic() - begun) / (step + 1 - first)
            log.info(
                "step %d of %d · loss %.3f · glyphs right %.3f · %.0f images/s · %.0f s left",
                step + 1, steps, loss.item(), right, config.batch / spent, spent * (steps - step - 1),
            )  # fmt: skip
    return network.eval()


def _one_cycle(progress: float, rise: float = 0.2) -> float:
    """Linear from 0 to 1, then half a cosine back to 0 (1708.07120)."""
    if progress < rise:
        return progress / rise
    return 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))


def _cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean cross-entropy over the pictures that are not IGNORED, with smoothed labels; 0 if all are."""
    total = F.cross_entropy(logits, truth, ignore_index=IGNORED, label_smoothing=0.05, reduction="sum")
    return total / (truth != IGNORED).sum().clamp(min=1)


def vary(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Label-preserving augmentation: up to two pixels of shift, slight blur, brightness and noise."""
    batch, channels = pixels.shape[:2]

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, 1, 1, 1, generator=generator)

    down, across = (int(i) for i in torch.randint(-2, 3, (2,), generator=generator))
    padded = F.pad(pixels, (2, 2, 2, 2))
    moved = padded[:, :, 2 + down : 2 + down + pixels.shape[2], 2 + across : 2 + across + pixels.shape[3]]
    line = torch.tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line).expand(channels, 1, 3, 3)
    blurred = F.conv2d(F.pad(moved, (1, 1, 1, 1)), kernel, groups=channels)
    # a little blur, as few-step models have; the judge must not become robust to more, or blur would be rewarded
    varied = torch.lerp(moved, blurred, uniform(-0.6, 0.6).clamp(min=0))
    noise = torch.randn(pixels.shape, generator=generator) * uniform(-0.04, 0.04).clamp(min=0)
    return varied * uniform(0.93, 1.07) + noise
