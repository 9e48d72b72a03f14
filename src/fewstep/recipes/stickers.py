"""Text to stickers on the codec's latents: the teacher, by diffusion.

Data: all artists' drawings, encoded once (`fewstep.data.latents`), each as it is and several times smaller, moved and
recoloured; one of ten style × thing and colour × thing pairs is never shown. The style is a condition of its own.
`fewstep train stickers --codec FILE --out DIR` writes DIR/models/stickers-teacher.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fewstep.core.arrays import Condition
from fewstep.core.grids import karras
from fewstep.core.guidance import Guided
from fewstep.core.parameterisations import Edm
from fewstep.core.randomness import Noise, derive
from fewstep.data.latents import INDEX, Facts, Latents, write_latents
from fewstep.data.stickers import PLAIN, STYLES, Stickers, Variation, attributions
from fewstep.data.styles import COLOURS, recolour
from fewstep.models.codecs import Identity
from fewstep.models.conditioning import Conditioning, conditioners
from fewstep.models.text import table
from fewstep.networks.autoencoder import Autoencoder, AutoencoderConfig
from fewstep.networks.unet import UNet, UNetConfig
from fewstep.objectives import Diffusion
from fewstep.objectives.times import LogNormal
from fewstep.recipes.codec import tiled
from fewstep.samplers import SAMPLERS
from fewstep.training.batches import DatasetBatches, tensors
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import TrainingConfig, TrainingState, train
from fewstep.training.optimizers import OptimizerConfig
from fewstep.training.saving import resolved

log = logging.getLogger(__name__)

SIGMA_DATA = 1.0
"""The codec gives each channel of its latents this deviation."""

TEXT_LENGTH = 16

PROMPTS = (
    "grinning face", "cat face", "red apple", "rocket", "hot beverage", "octopus", "sunflower",
    "birthday cake", "house", "blue car", "guitar", "dog face",
)  # fmt: skip
"""Of the previews: a column each, a row for each style."""


def teacher_training(images: int) -> TrainingConfig:
    """How the teacher is trained: as other recipes' teachers, but in float32, which a CPU without bfloat16 wants."""
    return TrainingConfig(
        images=images,
        batch=128,
        optimizer=OptimizerConfig(kind="muon", lr=1e-3, muon_lr=0.02, decay_from=0.4),
        ema=EmaConfig(sigma_rel=0.05),
        checkpoint_every=50,
        preview_every=250,
        log_every=10,
    )


@dataclass(frozen=True)
class TeacherRecipe:
    """Diffusion on latents.

    Args:
        codec: codec.safetensors of `fewstep train codec`.
        autoencoder: the codec's shape.
        size: pixels a side.
        widths, depths, canvas, text_width: of the U-Net; see `UNetConfig`.
        draws: varied copies of each picture beside the plain one.
        variation: how those vary.
        density: of the noise levels.
        drop: the share of examples without any condition, for guidance.
        scale: the guidance scale of previews.
        training: how long and how.
        packages: a folder with the artists' packages; if None npm fetches them.
        start: teacher.safetensors to train further, instead of one from scratch.
    """

    codec: Path = Path("codec.safetensors")
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    size: int = 128
    widths: tuple[int, ...] = (192, 320)
    depths: tuple[int, ...] = (1, 2)
    canvas: tuple[int, ...] = (0, 64)
    text_width: int = 192
    draws: int = 3
    variation: Variation = field(default_factory=lambda: Variation(shrink=0.15, shift=0.5, colour=0.3))
    density: LogNormal = field(default_factory=lambda: LogNormal(0.2, 1.4))
    drop: float = 0.1
    scale: float = 2.0
    training: TrainingConfig = field(default_factory=lambda: teacher_training(1_500_000))
    packages: Path | None = None
    start: Path | None = None

    def run(self, out: Path) -> Path:
        """Encode the pictures, train, and save the network: where."""
        autoencoder = self.read_codec()
        latents = self.encoded(autoencoder, out / "latents")
        conditioning = self.conditioning()
        source = DatasetBatches(latents, conditioning, self.training.seed, self.drop)
        preview = Preview(autoencoder, conditioning, latents.shape, self.scale)
        facts = {"codec": latents.codec, "start": None if self.start is None else self.start.name}
        objective = Diffusion(self.density, SIGMA_DATA)
        network = train(
            self.network(latents.shape), Edm(SIGMA_DATA), objective, source, self.training, out, [preview], facts
        )
        return self.save(network, latents.codec, out / "models" / "stickers-teacher")

    def read_codec(self) -> Autoencoder:
        """The frozen codec."""
        network = Autoencoder(self.autoencoder)
        network.load_state_dict({name: value.float() for name, value in load_file(self.codec).items()})
        return network.eval().requires_grad_(False)

    def dataset(self, plain: bool) -> Stickers:
        """The pictures to encode, as they are or varied; never with a colour that they are told of here."""
        vary = replace(self.variation, colour=0)
        return Stickers(self.size, PLAIN if plain else vary, self.packages)

    def encoded(self, codec: Autoencoder, folder: Path) -> Latents:
        """All pictures as latents, from `folder` or made now."""
        made_by = encoder_hash(codec)
        if (folder / INDEX).is_file() and (kept := Latents(folder)).codec == made_by:
            return kept
        latents, facts = [], []
        for draw in range(self.draws + 1):
            for pixels, told in self._pictures(draw):
                with torch.no_grad():
                    latents.append(codec.encode(torch.from_numpy(pixels)).numpy())
                facts += told
            log.info("%d pictures encoded", len(facts))
        write_latents(folder, np.concatenate(latents), facts, made_by)
        return Latents(folder)

    def _pictures(self, draw: int, batch: int = 64) -> Iterator[tuple[Any, list[Facts]]]:
        """Batches of one draw: pixels float32 [b, 4, h, w] and what they show."""
        dataset = self.dataset(plain=draw == 0)
        words = list(COLOURS)
        pixels: list[Any] = []
        facts: list[Facts] = []
        for index, place in enumerate(dataset.shown):
            rng = np.random.Generator(np.random.Philox(derive("latents", draw, index)))
            image = dataset.example(index, rng).data
            thing, style = dataset.rendered.things[place], dataset.rendered.styles[place]
            colour = words[int(rng.integers(len(words)))] if draw and rng.random() < self.variation.colour else None
            colour = None if colour is None or dataset.is_held_out(thing, colour) else colour
            pixels.append(image if colour is None else recolour(image, colour))
            facts.append(Facts(dataset.glyphs[thing].text, style, colour))
            if len(pixels) == batch or index + 1 == len(dataset):
                yield np.stack(pixels), facts
                pixels, facts = [], []

    def conditioning(self) -> Conditioning:
        """Prompts as text, the style as label."""
        return Conditioning(Identity(), conditioners(TEXT_LENGTH, classes=len(STYLES)))

    def network(self, shape: tuple[int, ...]) -> UNet:
        """The network to begin with, for latents of this shape."""
        torch.manual_seed(0)
        network = UNet(
            UNetConfig(
                channels=shape[0],
                widths=self.widths,
                depths=self.depths,
                attention=(False, *(True for _ in self.widths[1:])),
                canvas=self.canvas,
                size=shape[1],
                text=table().width,
                text_length=TEXT_LENGTH,
                text_width=self.text_width,
                classes=len(STYLES),
            )
        )
        if self.start is not None:
            network.load_state_dict({name: value.float() for name, value in load_file(self.start).items()})
        return network

    def save(self, network: torch.nn.Module, codec: str, directory: Path) -> Path:
        """Write weights rounded to float16, and what they were made from."""
        directory.mkdir(parents=True, exist_ok=True)
        rounded = {name: value.detach().half().cpu().contiguous() for name, value in network.state_dict().items()}
        save_file(rounded, directory / WEIGHTS)
        facts = {"codec": codec, "recipe": resolved(self, "stickers"), "attributions": attributions()}
        text = json.dumps(facts, indent=1, ensure_ascii=False)
        (directory / FACTS).write_text(text + "\n", encoding="utf-8")
        return directory


WEIGHTS = "teacher.safetensors"
FACTS = "teacher.json"


def encoder_hash(codec: Autoencoder) -> str:
    """What tells the latents of one encoder from another's; decoders may change without it."""
    digest = hashlib.sha256()
    for name, value in sorted(codec.state_dict().items()):
        if not name.startswith("decoder."):
            digest.update(name.encode() + value.detach().half().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Preview:
    """A callback that draws PROMPTS in every style with the averaged weights, always from the same noise.

    Args:
        codec: whose decoder shows what was drawn.
        conditioning: of the network.
        shape: of one picture's latents.
        scale: guidance.
        steps: of the sampler, Heun's.
    """

    codec: Autoencoder
    conditioning: Conditioning
    shape: tuple[int, ...]
    scale: float
    steps: int = 18

    def __call__(self, state: TrainingState) -> dict[str, Image.Image]:
        latents = torch.cat([self._row(state, style) for style in range(len(STYLES))])
        pixels = self.codec.decode(latents.cpu()).numpy()
        return {"drawn": tiled([pixels[row : row + len(PROMPTS)] for row in range(0, len(pixels), len(PROMPTS))])}

    def _row(self, state: TrainingState, style: int) -> torch.Tensor:
        cond, null = self._cond(state, PROMPTS, style), self._cond(state, [""], None)
        noise = Noise(range(len(PROMPTS)), self.shape, torch.zeros(0, device=state.device))
        levels = karras(self.steps)
        x = noise(0) * float(levels.sigma[0])
        *_, last = SAMPLERS["heun"].run(Guided(state.average, null, self.scale), x, levels, cond)
        return torch.as_tensor(last.x)

    def _cond(self, state: TrainingState, prompts: Sequence[str], style: int | None) -> Condition:
        arrays = self.conditioning.encode(len(prompts), prompt=prompts, label=[style] * len(prompts))
        return {name: values.to(state.device) for name, values in tensors(arrays).items()}
