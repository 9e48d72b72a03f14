"""Networks export to ONNX with a dynamic batch, dropout by keys included, and give the same numbers there."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from fewstep.networks.unet import UNet, UNetConfig
from students import perceptron, stirred


class _Positional(nn.Module):
    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, x: Tensor, time_at: Tensor, time_to: Tensor, *conditions: Tensor) -> Tensor:
        output: Tensor = self.network(x, time_at, time_to, dict(zip(self.names, conditions, strict=True)))
        return output


def _session(network: nn.Module, example: tuple[Tensor, ...], names: tuple[str, ...]) -> Any:
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = tuple({0: batch} for _ in range(3)), tuple({0: batch} for _ in names)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Positional(network.eval(), names),
            example,
            dynamo=True,
            dynamic_shapes=(*shapes[0], shapes[1]),
            input_names=["x", "time_at", "time_to", *names],
            verbose=False,
        )
    assert program is not None
    buffer = io.BytesIO()
    program.save(buffer)
    return onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])


def _assert_equal(network: nn.Module, example: dict[str, Tensor]) -> None:
    names = tuple(example)[3:]
    session = _session(network, tuple(value[:2] for value in example.values()), names)
    for size in (1, 3):
        rows = {name: value[:size] for name, value in example.items()}
        with torch.no_grad():
            expected = network(*list(rows.values())[:3], {name: rows[name] for name in names})
        (output,) = session.run(None, {name: value.numpy() for name, value in rows.items()})
        np.testing.assert_allclose(output, expected.numpy(), rtol=1e-3, atol=2e-5)


def test_a_unet_with_all_conditions_and_dropout() -> None:
    torch.manual_seed(0)
    network = UNet(
        UNetConfig(
            channels=3,
            control=3,
            widths=(32, 32),
            depths=(1, 1),
            attention=(False, True),
            embedding=32,
            canvas=(2, 0),
            prior=(16, 4),
            size=8,
            text=5,
            text_length=4,
            text_width=32,
            text_layers=1,
            classes=2,
            guidance=True,
            dropout=0.3,
        )
    )
    example = {
        "x": torch.randn(3, 3, 8, 8),
        "time_at": torch.rand(3),
        "time_to": torch.zeros(3),
        "text": torch.randn(3, 4, 5),
        "text_mask": torch.tensor([[1.0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]]),
        "label": torch.tensor([0, 1, 2]),
        "guidance": torch.tensor([0.0, 1.0, 4.0]),
        "control": torch.randn(3, 3, 8, 8),
        "control_mask": torch.tensor([1.0, 0.0, 1.0]),
        "dropout": torch.tensor([1, 2**24 - 1, 12345]),
    }
    _assert_equal(stirred(network, size=0.05), example)


def test_a_perceptron() -> None:
    example = {
        "x": torch.randn(3, 2),
        "time_at": torch.rand(3),
        "time_to": torch.zeros(3),
        "label": torch.tensor([0, 1, 2]),
        "guidance": torch.tensor([1.0, 1.0, 4.0]),
    }
    _assert_equal(perceptron(classes=2, guidance=True), example)
