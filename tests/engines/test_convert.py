"""What other programs get: the network in one file, with its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest

from fewstep.engines.convert import convert
from fewstep.engines.onnx import OnnxNetwork
from tiny_models import TinyModels


def test_one_onnx_file_runs_without_the_model_beside_it(tiny: TinyModels, tmp_path: Path) -> None:
    assert convert(tiny.points, "onnx", tmp_path / "points.onnx") == [tmp_path / "points.onnx"]
    x, at, to = np.float32([[0.3, -0.2]]), np.float32([0.4]), np.float32([0.0])
    expected = OnnxNetwork(tiny.points.exported, threads=1)(x, at, to, {})
    session = onnxruntime.InferenceSession(tmp_path / "points.onnx", providers=["CPUExecutionProvider"])
    feeds = {"x": x, "time_at": at, "time_to": to}
    (found,) = session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})
    np.testing.assert_array_equal(found, expected)


def test_openvinos_form_gives_the_same(tiny: TinyModels, tmp_path: Path) -> None:
    files = convert(tiny.points, "openvino", tmp_path / "points.xml")
    assert [file.name for file in files] == ["points.xml", "points.bin"]
    x, at, to = np.float32([[0.3, -0.2]]), np.float32([0.4]), np.float32([0.0])
    expected = OnnxNetwork(tiny.points.exported, threads=1)(x, at, to, {})
    compiled = openvino.Core().compile_model(tmp_path / "points.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    feeds = {"x": x, "time_at": at, "time_to": to}
    inputs = {port: next(feeds[name] for name in port.get_names() if name in feeds) for port in compiled.inputs}
    np.testing.assert_allclose(compiled(inputs)[0], expected, atol=1e-5)


def test_a_wrong_ending_is_refused(tiny: TinyModels, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.onnx, got"):
        convert(tiny.points, "onnx", tmp_path / "points.xml")
