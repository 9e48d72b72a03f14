"""Untrained models, saved and exported as trained ones are: a student, a teacher, points in the plane."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewstep.core.parameterisations import Edm, Targets
from fewstep.models.codecs import Identity, SpaceToDepth
from fewstep.models.components import Vocabulary, components
from fewstep.models.conditioning import Conditioning, conditioners
from fewstep.models.saved import SavedModel, read
from fewstep.models.spec import ModelSpec
from fewstep.models.text import table

if TYPE_CHECKING:
    from fewstep.generation import Model

CAPTIONS = ("cat face", "dog face", "red apple", "hot beverage", "rocket", "couple with heart")
OTHER_WORDS = ("blue", "pixel", "art")
SIDE, LENGTH, CLASSES = 16, 8, 3
PIXELS = (4, SIDE, SIDE)


@dataclass(frozen=True)
class TinyModels:
    """Directories of models that tests must not change."""

    student: SavedModel
    teacher: SavedModel
    points: SavedModel


def build(folder: Path) -> None:
    """Write the three models; takes seconds, for the exporter's sake."""
    _student(folder / "tiny")
    _teacher(folder / "tiny-teacher")
    _points(folder / "tiny-points")


def built(folder: Path) -> TinyModels:
    """The three models that were written there."""
    return TinyModels(read(folder / "tiny"), read(folder / "tiny-teacher"), read(folder / "tiny-points"))


def onnx(saved: SavedModel) -> Model:
    """The model on ONNX Runtime, one thread."""
    from fewstep.generation import load

    return load(saved.directory, threads=1)


def _student(directory: Path) -> SavedModel:
    """Consistency: text, a control image, the guidance scale distilled in."""
    conditioning = Conditioning(SpaceToDepth(2), conditioners(LENGTH, control=PIXELS, guidance=(1.0, 4.0)))
    network = _unet(control=16, guidance=True)
    spec = _spec(
        directory.name,
        network,
        conditioning,
        Vocabulary(("pixel art",), {"red": "#db2626", "blue": "#296be0"}),
        targets=Targets.CLEAN,
        sampler="consistency",
        steps=1,
        guidance=2.0,
        levels={2: (80.0, 0.8)},
        licence="CC0-1.0",
        recipe={"name": "tiny", "settings": {"seed": 0}},
        lineage=({"teacher": "tiny-teacher", "hash": "0" * 64},),
    )
    return _saved(network, spec, directory)


def _teacher(directory: Path) -> SavedModel:
    """Diffusion: text and classes, guided from outside."""
    conditioning = Conditioning(SpaceToDepth(2), conditioners(LENGTH, CLASSES))
    network = _unet(classes=CLASSES)
    spec = _spec(directory.name, network, conditioning, targets=Targets.SAME, sampler="heun", steps=3, guidance=2.0)
    return _saved(network, spec, directory)


def _points(directory: Path) -> SavedModel:
    from fewstep.training.saving import save_model
    from students import perceptron

    network = perceptron()
    spec = _spec(
        directory.name,
        network,
        Conditioning(Identity()),
        targets=Targets.CLEAN,
        sampler="consistency",
        steps=1,
        pixels=(2,),
        pixel_format="points",
    )
    return save_model(network, spec, directory)


def _spec(
    name: str, network: Any, conditioning: Conditioning, vocabulary: Vocabulary | None = None, **values: Any
) -> ModelSpec:
    from fewstep.networks.registry import describe

    defaults: dict[str, Any] = {"pixels": PIXELS, "pixel_format": "rgba_premultiplied"}
    made_of = components(describe(network), conditioning, vocabulary=vocabulary)
    return ModelSpec(name=name, components=made_of, parameterisation=Edm(), **{**defaults, **values})


def _unet(**settings: Any) -> Any:
    import torch

    from fewstep.networks.unet import UNet, UNetConfig
    from students import stirred

    torch.manual_seed(0)
    config = UNetConfig(
        channels=16,
        widths=(32, 32),
        depths=(1, 1),
        attention=(False, True),
        embedding=32,
        text=table().width,
        text_length=LENGTH,
        text_width=32,
        text_layers=1,
        **settings,
    )
    return stirred(UNet(config), size=0.05)  # a zero start would hide the noise and every condition


def _saved(network: Any, spec: ModelSpec, directory: Path) -> SavedModel:
    from fewstep.training.saving import save_model

    return save_model(network, spec, directory, CAPTIONS, OTHER_WORDS)
