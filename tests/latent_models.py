"""A toy learned codec, a fixed convolution each way exported to ONNX, and untrained models that draw on its latents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from fewstep.core.parameterisations import Edm, Targets
from fewstep.engines.export import export_onnx
from fewstep.models.codecs import LearnedCodec
from fewstep.models.components import Component, NetworkPart, components
from fewstep.models.conditioning import Conditioning, conditioners
from fewstep.models.saved import SavedModel
from fewstep.models.spec import ModelSpec
from fewstep.models.writing import write
from fewstep.networks.registry import describe
from fewstep.networks.unet import UNet, UNetConfig
from students import stirred

PIXELS, CHANNELS, FACTOR = (4, 16, 16), 8, 4
CODEC = LearnedCodec(CHANNELS, FACTOR)


def write_codec(directory: Path) -> None:
    """encoder.onnx and decoder.onnx: a mean of each cell's channels mixed by a fixed matrix, and its pseudo-inverse."""
    mix = np.random.default_rng(0).standard_normal((CHANNELS, PIXELS[0])).astype(np.float32)
    spread = np.linalg.pinv(mix).astype(np.float32)
    ones = np.ones((1, 1, FACTOR, FACTOR), dtype=np.float32)
    latents = CODEC.shape(PIXELS)
    _write_graph(directory / "encoder.onnx", "Conv", mix[:, :, None, None] * ones / FACTOR**2, PIXELS, latents)
    _write_graph(directory / "decoder.onnx", "ConvTranspose", spread.T[:, :, None, None] * ones, latents, PIXELS)


def _write_graph(file: Path, operation: str, weight: Any, before: Sequence[int], after: Sequence[int]) -> None:
    node = helper.make_node(operation, ["x", "weight"], ["output"], strides=[FACTOR, FACTOR])
    graph = helper.make_graph(
        [node],
        file.stem,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *before])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", *after])],
        [numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), file)


def latent_model(directory: Path, engine: str | None = None) -> SavedModel:
    """A model of labels and control images on latents, in one step; `engine` runs its codec."""
    torch.manual_seed(0)
    network = UNet(
        UNetConfig(
            channels=CHANNELS,
            control=CHANNELS,
            widths=(32,),
            depths=(1,),
            attention=(False,),
            embedding=32,
            classes=3,
        )
    )
    stirred(network, size=0.05)  # a zero start would hide the noise and the label
    conditioning = Conditioning(CODEC, conditioners(classes=3, control=PIXELS))
    codec = {name: Component(NetworkPart(), engine=engine) for name in CODEC.needs}
    spec = ModelSpec(
        name=directory.name,
        components={**components(describe(network), conditioning), **codec},
        parameterisation=Edm(1.0),
        targets=Targets.CLEAN,
        pixels=PIXELS,
        pixel_format="rgba_premultiplied",
        sampler="consistency",
        steps=1,
    )
    shape = CODEC.shape(PIXELS)
    cond = {
        "label": np.array([3, 3]),
        "control": np.zeros((2, *shape), dtype=np.float32),
        "control_mask": np.zeros(2, dtype=np.float32),
    }

    def complete(scratch: Path) -> None:
        write_codec(scratch)
        export_onnx(network, shape, cond, scratch)

    weights = {name: np.asarray(value) for name, value in network.state_dict().items()}
    return write(spec, weights, directory, complete=complete)
