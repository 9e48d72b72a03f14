"""The stickers' codec: an autoencoder of transparent pictures with 16 × 16 pixels per latent position.

Data: all artists' drawings (`fewstep.data.stickers`), shrunk, shifted, mirrored and recoloured. The saved network is
the moving average. `fewstep train codec --out DIR` writes it to DIR/models/codec: encoder and decoder as model
components for `LearnedCodec`, and codec.json with its metrics.
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
from fewstep.training.cost import check_training
from fewstep.training.ema import EmaConfig
from fewstep.training.loop import TrainingConfig, TrainingState, train
from fewstep.training.optimizers import OptimizerConfig
from fewstep.training.saving import resolved

log = logging.getLogger(__name__)

FACTS = "codec.json"
"""The metadata file of a saved codec."""


def codec_training(images: int) -> TrainingConfig:
    """The training settings of a codec: float32, for CPUs without bfloat16, and Muon with a rate that falls to 0."""
    return TrainingConfig(
        images=images,
        batch=16,
        optimizer=OptimizerConfig(kind="muon", lr=1e-3, muon_lr=0.02, warmup=20, decay_from=0.3),
        ema=EmaConfig(sigma_rel=0.05),
        checkpoint_every=250,
        preview_every=1000,
        log_every=50,
    )


@dataclass(frozen=True)
class CodecRecipe:
    """An autoencoder between pixels and latents.

    Args:
        size: Side of the pictures in pixels.
        network: Shape of the network.
        noise: Largest standard deviation of the noise added to the latents in training, which have a deviation of 1.
        edges: Weight of the error of the pixels' gradients, relative to that of the pixels.
        scales: Number of times that the pictures are halved for losses at lower resolutions.
        variation: How the training pictures are augmented.
        training: How the codec is trained.
        packages: Folder with the artists' packages; None to have npm fetch them.
        start: Folder of a saved codec, or average.safetensors of a checkpoint, to train further.
        freeze: Whether a codec given by start keeps its encoder, so that existing latents stay valid.
    """

    size: int = 128
    network: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    noise: float = 0.5
    edges: float = 1.0
    scales: int = 2
    variation: Variation = field(
        default_factory=lambda: Variation(shrink=0.3, shift=1.0, flip=0.5, colour=0.2, styled=0, worded=0)
    )
    training: TrainingConfig = field(default_factory=lambda: codec_training(64_000))
    packages: Path | None = None
    start: Path | None = None
    freeze: bool = False

    def __post_init__(self) -> None:
        if self.size % self.network.factor:
            raise ValueError(f"size must be a multiple of {self.network.factor}, got {self.size}")
        if self.freeze and self.start is None:
            raise ValueError("freeze keeps the encoder of the codec given by start: give start too")

    def run(self, out: Path) -> dict[str, Any]:
        """Train and save the codec, measure it on unseen things, and write and return the metrics."""
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
        network, level = self.autoencoder(), torch.ones(1)
        inputs = torch.zeros(1, 4, self.size, self.size), level, 0 * level, dict[str, Tensor]()
        check_training(network, inputs, self.training.batch)
        trained = train(network, Direct(), objective, source, self.training, out, [shown], facts)
        return self.save(_autoencoder(trained), out / "models" / "codec", shown)

    def dataset(self, things: str) -> Stickers:
        """The pictures to train on or to test on."""
        return Stickers(self.size, self.variation, self.packages, held_out=0, things=things)

    def autoencoder(self) -> Autoencoder:
        """The initial network."""
        torch.manual_seed(0)
        network = Autoencoder(self.network)
        if self.start is not None:
            network.load_state_dict(_weights(self.start))
            network.encoder.requires_grad_(not self.freeze)
        return network

    def save(self, network: Autoencoder, directory: Path, shown: Comparison) -> dict[str, Any]:
        """Write both networks, as graphs and weights rounded to float16, and the metrics of these weights."""
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
    """Load a saved codec, frozen.

    Raises:
        DataError: the codec is missing or damaged.
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
    """Both networks' weights, from the folder of a saved codec or a checkpoint's file."""
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
    """A callback that encodes and decodes pictures that the codec was not trained on.

    Args:
        pixels: float32 [n, 4, h, w], plain and augmented.
        margin: margin of the network.
        columns: pictures per row of the preview.
    """

    pixels: Tensor
    margin: float
    columns: int = 12

    @staticmethod
    def of(dataset: Stickers, network: AutoencoderConfig, most: int = 192) -> Comparison:
        """A comparison on pictures spread evenly over a data set."""
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
        """Metrics with exact latents, and with noise of these standard deviations added to them."""
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
        """Real pictures above their reconstructions, in at most four double rows."""
        rows = []
        for start in range(0, min(len(real), 4 * self.columns), self.columns):
            rows += [pictures[start : start + self.columns] for pictures in (real, decoded)]
        return tiled(rows)


def tiled(rows: Sequence[Any]) -> Image.Image:
    """Rows of premultiplied pictures [n, 4, h, w], placed edge to edge on light grey."""
    height, width = rows[0].shape[2:]
    sheet = Image.new("RGB", (max(len(row) for row in rows) * width, len(rows) * height), PAPER)
    for down, row in enumerate(rows):
        for across, pixels in enumerate(row):
            sheet.paste(to_image(pixels, "rgba_premultiplied", PAPER), (across * width, down * height))
    return sheet


PAPER = "#ebebeb"


def _parts(values: Tensor, size: int = 32) -> list[Tensor]:
    """Split a batch into smaller ones."""
    return [values[start : start + size] for start in range(0, len(values), size)]


def _autoencoder(network: torch.nn.Module) -> Autoencoder:
    if not isinstance(network, Autoencoder):
        raise TypeError(f"expected an Autoencoder, got {type(network).__name__}")
    return network
