"""Small things to evaluate in tests: a few emoji, a judge trained on them in seconds, untrained models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewstep.core.parameterisations import Edm, Targets
from fewstep.data.emoji import ANNOTATIONS, EMOJI_TEST, FONT, Emoji
from fewstep.data.styles import STYLES
from fewstep.engines.export import export_onnx
from fewstep.models.codecs import SpaceToDepth
from fewstep.models.components import Judge, Vocabulary, components
from fewstep.models.conditioning import Conditioning, conditioners
from fewstep.models.saved import SavedModel
from fewstep.models.spec import ModelSpec
from fewstep.models.text import table
from fewstep.models.writing import write
from fewstep.networks.registry import describe
from fewstep.networks.unet import UNet, UNetConfig

FONTS = all(Path(path).is_file() for path in (FONT, EMOJI_TEST, ANNOTATIONS))
SIZE = 16
FEW = "few.txt"


def few_emoji(folder: Path, size: int = SIZE) -> Emoji:
    """The emoji that `write_few_emoji` listed in the folder."""
    return Emoji(size, emoji_test=str(folder / FEW))


def write_few_emoji(folder: Path, count: int = 12) -> None:
    """List the first fruits of Unicode's list."""
    lines = Path(EMOJI_TEST).read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("# group: Food"))
    kept = [line for line in lines[start:] if line.startswith("#") or "; fully-qualified" in line]
    places = [i for i, line in enumerate(kept) if not line.startswith("#")]
    (folder / FEW).write_text("\n".join(kept[: places[count - 1] + 1]) + "\n", encoding="utf-8")


def tiny_model(
    directory: Path,
    targets: Targets,
    captions: Sequence[str] = (),
    lineage: Sequence[dict[str, Any]] = (),
    recogniser: Path | None = None,
    classes: int = 0,
    control: bool = False,
) -> SavedModel:
    """An untrained model of emoji from text, or with `classes` of grey pictures, 16 pixels a side."""
    pixels = (1, 8, 8) if classes else (4, SIZE, SIZE)
    distilled = (1.0, 4.0) if targets is Targets.CLEAN and not classes else None
    codec = SpaceToDepth(2)
    channels = codec.shape(pixels)[0]
    torch.manual_seed(0)
    network = UNet(
        UNetConfig(
            channels=channels,
            control=channels if control else 0,
            widths=(32,),
            depths=(1,),
            attention=(False,),
            embedding=32,
            text=0 if classes else table().width,
            text_length=8,
            text_width=32,
            text_layers=1,
            classes=classes,
            guidance=distilled is not None,
        )
    )
    with torch.no_grad():
        network.head.weight.normal_(0, 0.05)  # a zero output would hide the noise and the prompt
    steered = conditioners(0 if classes else 8, classes, pixels if control else None, distilled)
    conditioning = Conditioning(codec, steered)
    spec = ModelSpec(
        name=directory.name,
        components=components(
            describe(network),
            conditioning,
            judge=None if recogniser is None else Judge(),
            vocabulary=Vocabulary(tuple(STYLES)) if captions else None,
        ),
        parameterisation=Edm(),
        targets=targets,
        pixels=pixels,
        pixel_format="grey" if classes else "rgba_premultiplied",
        sampler="heun" if targets is Targets.SAME else "consistency",
        steps=3 if targets is Targets.SAME else 1,
        guidance=None if classes else 2.0,
        lineage=lineage,
    )
    cond = conditioning.null(2)

    def complete(scratch: Path) -> None:
        export_onnx(network, codec.shape(pixels), cond, scratch)
        if recogniser is not None:
            (scratch / "judge.onnx").write_bytes(recogniser.read_bytes())

    weights = {name: np.asarray(value) for name, value in network.state_dict().items()}
    return write(spec, weights, directory, list(captions), complete=complete)
