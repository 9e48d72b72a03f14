"""Export the recogniser as recogniser.onnx, which judges pictures without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fewstep.data.styles import COLOURS, STYLES
from fewstep.engines.export import OPSET, quiet, strip
from fewstep.networks.layout import laid_out
from fewstep.networks.recogniser import ConvNorm, RecogniserNetwork


def export_recogniser(
    network: RecogniserNetwork,
    names: Sequence[str],
    shape: tuple[int, ...],
    file: Path,
    styles: Sequence[str] = tuple(STYLES),
) -> None:
    """Write recogniser.onnx: batch norms folded in, weights in float16, arithmetic in float32, words in its metadata.

    Args:
        network: the trained recogniser.
        names: names of the glyphs, in the order of the logits.
        shape: shape of a picture, [4, h, w].
        file: the file to write.
        styles: the style words, in the order of the logits after the first.
    """
    folded = _folded(network)
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.copy_(parameter.half().float())
    batch = torch.export.Dim("batch", min=1, max=65536)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            folded,
            (torch.zeros(2, *shape),),
            dynamo=True,
            dynamic_shapes=({0: batch},),
            input_names=["pixels"],
            output_names=["features", "glyph", "colour", "style"],
            opset_version=OPSET,
            optimize=False,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    strip(model)
    _halve(model)
    notes = {"names": list(names), "colours": list(COLOURS), "styles": list(styles)}
    helper.set_model_props(model, {name: json.dumps(words, ensure_ascii=False) for name, words in notes.items()})
    file.write_bytes(model.SerializeToString())


def _folded(network: RecogniserNetwork) -> RecogniserNetwork:
    """The same function without batch norms."""
    folded = deepcopy(network).eval()
    laid_out(folded, channels_last=False)
    for module in folded.modules():
        if isinstance(module, ConvNorm) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv, module.norm = fuse_conv_bn_eval(module.conv, module.norm), nn.Identity()
    if isinstance(folded.norm, nn.BatchNorm2d):
        folded.project, folded.norm = fuse_conv_bn_eval(folded.project, folded.norm), nn.Identity()
    return folded


def _halve(model: onnx.ModelProto) -> None:
    """Store every float32 weight as float16 and cast it back at its first use."""
    kept: list[Any] = []
    casts = []
    for initializer in model.graph.initializer:
        if initializer.data_type != TensorProto.FLOAT:
            kept.append(initializer)
            continue
        stored = f"{initializer.name}.stored"
        kept.append(numpy_helper.from_array(numpy_helper.to_array(initializer).astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [initializer.name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
