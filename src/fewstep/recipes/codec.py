"""The stickers' codec: an autoencoder of transparent pictures with 16 × 16 pixels a latent position.

Data: all artists' drawings (`fewstep.data.stickers`), made smaller, moved, mirrored and recoloured. The network that
is kept is the moving average. `fewstep train codec --out DIR` writes it to DIR/models/codec: encoder and decoder as a
model's components, for `LearnedCodec`, and codec.json, its figures.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fewstep.core.arrays import ArrayT, batch_of
from fewstep.core.checks import check_at_least
from fewstep.core.levels import Level
from fewstep.data.dataset import DataError
from fewstep.data.stickers import Stickers, Variation, attributions
from fewstep.engines.export import export_onnx
from fewstep.measure.fidelity import fidelity
from fewstep.models.codecs import Identity
from fewstep.models.components import WEIGHTS
from fewstep.models.conditioning import Conditioning
from fewstep.networks.autoencoder import Autoencoder, AutoencoderConfig, to_picture
from fewstep.objectives.reconstruction import Reconstruction
from fewstep.pictures.pixels import to_image
from fewstep.training.batches import DatasetBatches
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import TrainingConfig, TrainingState, train
from fewstep.training.optimizers import OptimizerConfig
from fewstep.training.saving import resolved

log = logging.getLogger(__name__)

FACTS = "codec.json"
"""What a saved codec says of itself."""


def codec_training(images: int) -> TrainingConfig:
    """How a codec is trained: float32, which a CPU without bfloat16 wants, and Muon, its rate falling to the end."""
    return TrainingConfig(
        images=images,
        batch=32,
        optimizer=OptimizerConfig(kind="muon", lr=1e-3, muon_lr=0.02, decay_from=0.3),
        ema=EmaConfig(sigma_rel=0.05),
        checkpoint_every=100,
        preview_every=250,
        log_every=25,
    )


@dataclass(frozen=True)
class CodecRecipe:
    """Pixels to latents and back.

    Args:
        size: pixels a side.
        network: its shape.
        noise, edges, scales: of the objective; see `Reconstruction`.
        variation: how training's pictures vary.
        training: how long and how.
        packages: a folder with the artists' packages; if None npm fetches them.
        start: a saved codec's folder, or a checkpoint's average.safetensors, to train further.
        freeze: whether a started codec keeps its encoder, so that latents made before stay valid.
    """

    size: int = 128
    network: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    noise: float = 0.5
    edges: float = 1.0
    scales: int = 2
    variation: Variation = field(
        default_factory=lambda: Variation(shrink=0.3, shift=1.0, flip=0.5, colour=0.2, styled=0, worded=0)
    )
    training: TrainingConfig = field(default_factory=lambda: codec_training(150_000))
    packages: Path | None = None
    start: Path | None = None
    freeze: bool = False

    def __post_init__(self) -> None:
        if self.size % self.network.factor:
            raise ValueError(f"size must be a multiple of {self.network.factor}, got {self.size}")
        if self.freeze and self.start is None:
            raise ValueError("freeze keeps the encoder of a started codec: give start too")

    def run(self, out: Path) -> dict[str, Any]:
        """Train, save, measure on things that it never saw, and write and return the figures."""
        objective = Reconstruction(
            self.network.latents,
            self.network.factor,
            self.noise,
            edges=self.edges,
            scales=self.scales,
            margin=self.network.margin,
        )
        source = DatasetBatches(self.dataset("train"), Conditioning(Identity()), self.training.seed, drop=0)
        shown = Comparison.of(self.dataset("test"), self.network)
        facts = {"network": asdict(self.network), "start": None if self.start is None else self.start.name}
        network = self.autoencoder()
        trained = train(network, Direct(), objective, source, self.training, out, [shown], facts)
        return self.save(_autoencoder(trained), out / "models" / "codec", shown)

    def dataset(self, things: str) -> Stickers:
        """What it learns from, or what it is tried on."""
        return Stickers(self.size, self.variation, self.packages, held_out=0, things=things)

    def autoencoder(self) -> Autoencoder:
        """The network to begin with."""
        torch.manual_seed(0)
        network = Autoencoder(self.network)
        if self.start is not None:
            network.load_state_dict(_weights(self.start))
            network.encoder.requires_grad_(not self.freeze)
        return network

    def save(self, network: Autoencoder, directory: Path, shown: Comparison) -> dict[str, Any]:
        """Write both networks, weights rounded to float16 and graphs, and the figures of these weights."""
        directory.mkdir(parents=True, exist_ok=True)
        side = self.size // self.network.factor
        shapes = {"encoder": shown.pixels.shape[1:], "decoder": (self.network.latents, side, side)}
        for name, shape in shapes.items():
            part: nn.Module = getattr(network, name)
            rounded = {key: value.detach().half().cpu().contiguous() for key, value in part.state_dict().items()}
            part.load_state_dict({key: value.float() for key, value in rounded.items()})
            save_file(rounded, directory / f"{name}{WEIGHTS}")
            export_onnx(part, tuple(shape), {}, directory, name)
        facts = {
            "network": asdict(self.network),
            "figures": shown.figures(network),
            "parameters": {name: sum(p.numel() for p in getattr(network, name).parameters()) for name in shapes},
            "recipe": resolved(self, "codec"),
            "attributions": attributions(),
        }
        text = json.dumps(facts, indent=1, ensure_ascii=False)
        (directory / FACTS).write_text(text + "\n", encoding="utf-8")
        log.info("%s", json.dumps(facts["figures"], indent=1))
        return facts


def read_codec(folder: Path) -> Autoencoder:
    """A saved codec, frozen.

    Raises:
        DataError: there is none, or a damaged one.
    """
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        shape: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in facts["network"].items()
        }
        network = Autoencoder(AutoencoderConfig(**shape))
        network.load_state_dict(_weights(folder))
        return network.eval().requires_grad_(False)
    except (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise DataError(f"'{folder}' is not a codec that `fewstep train codec` saved: {error}") from error


def _weights(source: Path) -> dict[str, Tensor]:
    """Both networks' weights, of a saved codec's folder or of a checkpoint's file."""
    if source.is_file():
        return load_file(source)
    return {
        f"{name}.{key}": value.float()
        for name in ("encoder", "decoder")
        for key, value in load_file(source / f"{name}{WEIGHTS}").items()
    }


@dataclass(frozen=True)
class Direct:
    """The parameterisation of a network whose output is the estimate; its time is σ."""

    epsilon: float = 0.0

    def inputs(self, x: ArrayT, at: Level, to: Level) -> tuple[ArrayT, ArrayT, ArrayT]:
        return x, batch_of(at.sigma, x), batch_of(to.sigma, x)

    def estimate(self, x: ArrayT, output: ArrayT, at: Level) -> ArrayT:
        return output

    def output(self, x: ArrayT, data: ArrayT, at: Level) -> ArrayT:
        return data


@dataclass(frozen=True, eq=False)
class Comparison:
    """A callback that encodes and decodes pictures the codec was not trained on.

    Args:
        pixels: float32 [n, 4, h, w], as they are and varied.
        margin: of the network.
        columns: pictures a row of the preview.
    """

    pixels: Tensor
    margin: float
    columns: int = 12

    @staticmethod
    def of(dataset: Stickers, network: AutoencoderConfig, most: int = 192) -> Comparison:
        """Some pictures of a data set, spread evenly over it."""
        check_at_least(1, pictures=len(dataset))
        chosen = [i * len(dataset) // min(most, len(dataset)) for i in range(min(most, len(dataset)))]
        rng = np.random.Generator(np.random.Philox(0))
        pixels = np.stack([dataset.example(index, rng).data for index in chosen])
        return Comparison(torch.from_numpy(pixels), network.margin)

    def __call__(self, state: TrainingState) -> Mapping[str, Image.Image | float]:
        still = Level(torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
        made = [
            to_picture(state.average(part.to(state.device), still, still, {}), self.margin).cpu()
            for part in _parts(self.pixels)
        ]
        real, decoded = self.pixels.numpy(), torch.cat(made).numpy()
        figures = fidelity(real, decoded)
        log.info("%s", " · ".join(f"{name} {value:.4f}" for name, value in figures.items()))
        return {"decoded": self._sheet(real, decoded), **figures}

    @torch.no_grad()
    def figures(self, network: Autoencoder, strengths: tuple[float, ...] = (0.0, 0.2, 0.4)) -> dict[str, Any]:
        """Figures with latents as they are, and off by noise of these deviations."""
        device = next(network.parameters()).device
        network.eval()
        latents = torch.cat([network.encode(part.to(device)) for part in _parts(self.pixels)])
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(device)
        noise *= network.config.deviation
        figures = {}
        for strength in strengths:
            made = torch.cat([network.decode(part).cpu() for part in _parts(latents + strength * noise)])
            figures[f"latents off by {strength:g}"] = fidelity(self.pixels.numpy(), made.numpy())
        return figures

    def _sheet(self, real: Any, decoded: Any) -> Image.Image:
        """Real pictures above decoded ones, as many as fill four double rows."""
        rows = []
        for start in range(0, min(len(real), 4 * self.columns), self.columns):
            rows += [pictures[start : start + self.columns] for pictures in (real, decoded)]
        return tiled(rows)


def tiled(rows: Sequence[Any]) -> Image.Image:
    """Rows of premultiplied pictures [n, 4, h, w] edge to edge on light grey."""
    height, width = rows[0].shape[2:]
    sheet = Image.new("RGB", (max(len(row) for row in rows) * width, len(rows) * height), PAPER)
    for down, row in enumerate(rows):
        for across, pixels in enumerate(row):
            sheet.paste(to_image(pixels, "rgba_premultiplied", PAPER), (across * width, down * height))
    return sheet


PAPER = "#ebebeb"


def _parts(values: Tensor, size: int = 32) -> list[Tensor]:
    """A batch in smaller ones."""
    return [values[start : start + size] for start in range(0, len(values), size)]


def _autoencoder(network: torch.nn.Module) -> Autoencoder:
    if not isinstance(network, Autoencoder):
        raise TypeError(f"expected an Autoencoder, got {type(network).__name__}")
    return network
