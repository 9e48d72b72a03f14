"""Export a network to ONNX, including its text encoder, with a dynamic batch size.

The exported file contains only the graph: every weight refers to the .safetensors file next to it, as ONNX external
data. So a model stores its weights only once for all engines, and float16 storage halves the download while all
arithmetic stays float32.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript import optimizer
from torch import nn

from fewstep.models.components import GRAPH, WEIGHTS
from fewstep.networks.positional import Positional

OPSET = 20


def export_onnx(
    network: nn.Module, shape: tuple[int, ...], cond: Mapping[str, Any], directory: Path, name: str = "network"
) -> Path:
    """Write a component's .onnx into a model's directory, next to the .safetensors that it refers to.

    Args:
        network: the network; its weights must equal those in the file.
        shape: shape of one sample's data.
        cond: example conditions for a batch of 2; their names become inputs.
        directory: the directory of the model.
        name: name of the component.

    Raises:
        ValueError: a weight in the graph differs from that in the file.
    """
    names = tuple(cond)
    example = (
        torch.zeros(2, *shape),
        torch.full((2,), 0.5),
        torch.zeros(2),
        *(torch.as_tensor(cond[n]) for n in names),
    )
    batch = torch.export.Dim("batch", min=1, max=65536)
    # the conditions are one argument of the signature, which is absent if the network takes none
    conditions = (tuple({0: batch} for _ in names),) if names else ()
    shapes = ({0: batch}, {0: batch}, {0: batch}, *conditions)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            Positional(copy.deepcopy(network).cpu().eval(), names),
            example,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=["x", "time_at", "time_to", *names],
            output_names=["output"],
            opset_version=OPSET,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        # constant folding halves the nodes and their loading time, but a folded transposed weight would be a copy
        optimizer.optimize_ir(program.model, should_fold=lambda node: False if node.op_type == "Transpose" else None)
    buffer = io.BytesIO()
    onnx.save(program.model_proto, buffer)
    graph = onnx.load_from_string(buffer.getvalue())
    _point_into(graph, directory / f"{name}{WEIGHTS}")
    file = directory / f"{name}{GRAPH}"
    file.write_bytes(graph.SerializeToString())
    return file


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the exporter's progress output and its warnings about its own internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def _point_into(model: onnx.ModelProto, weights: Path) -> None:
    """Replace the weights of the graph by references to the safetensors file, cast to float32 if stored in less."""
    offsets = _layout(weights)
    raw = weights.read_bytes()
    kept, casts = [], []
    for initializer in model.graph.initializer:
        name = initializer.name.removeprefix("network.")
        if name not in offsets:
            kept.append(initializer)
            continue
        dtype, shape, start, end = offsets[name]
        stored = np.frombuffer(raw[start:end], dtype=_NUMPY[dtype]).reshape(shape)
        if not np.array_equal(stored.astype(np.float32), numpy_helper.to_array(initializer)):
            raise ValueError(f"the weight '{name}' of the network differs from the one in '{weights}'")
        tensor = TensorProto(name=initializer.name, data_type=_ONNX[dtype], dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": weights.name, "offset": start, "length": end - start}.items():
            tensor.external_data.add(key=key, value=str(value))
        if dtype != "F32":
            tensor.name = f"{initializer.name}.stored"
            casts.append(helper.make_node("Cast", [tensor.name], [initializer.name], to=TensorProto.FLOAT))
        kept.append(tensor)
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    strip(model)


def strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's own notes: the shapes of intermediate values, and the stack trace of every node, which
    contains paths of this machine."""
    del model.graph.value_info[:], model.metadata_props[:], model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""


_NUMPY = {"F32": np.float32, "F16": np.float16}
_ONNX = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16}


def _layout(file: Path) -> dict[str, tuple[str, list[int], int, int]]:
    """Each tensor's type, shape, and first and last byte in a safetensors file."""
    with file.open("rb") as stream:
        (size,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(size))
    begin = 8 + size
    return {
        name: (entry["dtype"], entry["shape"], begin + entry["data_offsets"][0], begin + entry["data_offsets"][1])
        for name, entry in header.items()
        if name != "__metadata__"
    }
