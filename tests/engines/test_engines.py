"""Engines give the same numbers, and say what they lack."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewstep.engines.eager import EagerNetwork
from fewstep.engines.errors import EngineError
from fewstep.engines.onnx import OnnxNetwork
from fewstep.generation import load
from fewstep.models.saved import SavedModel
from fewstep.models.writing import write
from tiny_models import TinyModels

PROMPTS = ("a red apple", "", "blue cat on red, and more words than the model can keep")


def inputs(saved: SavedModel, batch: int) -> tuple[Any, Any, Any, dict[str, Any]]:
    """The raw network's inputs, each sample at its own times."""
    rng = np.random.default_rng(1)
    conditioning, pixels = saved.spec.conditioning, saved.spec.pixels
    controls = [rng.random(pixels, dtype=np.float32), None, None][:batch] if conditioning.control else None
    labels = [0, None, 2][:batch] if conditioning.classes else None
    cond = conditioning.encode(batch, prompt=PROMPTS[:batch], label=labels, control=controls, guidance=[2.5] * batch)
    x = rng.standard_normal((batch, *conditioning.codec.shape(pixels)), dtype=np.float32)
    return x, np.float32([0.1, 0.9, 1.5])[:batch], np.zeros(batch, dtype=np.float32), cond


@pytest.mark.parametrize("kind", ["student", "teacher", "points"])
@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_equals_eager_with_samples_at_different_times(tiny: TinyModels, kind: str, batch: int) -> None:
    saved = getattr(tiny, kind)
    given = inputs(saved, batch)
    expected = EagerNetwork(saved.component("network"))(*given)
    assert np.abs(expected).max() > 0.05  # not the zero start
    found = OnnxNetwork(saved.exported, threads=1)(*given)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_sample_does_not_see_its_neighbours(tiny: TinyModels) -> None:
    network = OnnxNetwork(tiny.student.exported, threads=1)
    x, at, to, cond = inputs(tiny.student, 3)
    together = network(x, at, to, cond)
    for i in range(3):
        alone = network(*(values[i : i + 1] for values in (x, at, to)), {k: v[i : i + 1] for k, v in cond.items()})
        np.testing.assert_allclose(alone[0], together[i], atol=1e-5)
    assert np.abs(together[0] - network(x[:1], at[1:2], to[:1], {k: v[:1] for k, v in cond.items()})[0]).max() > 1e-3


@pytest.mark.parametrize("name", ["text", "control", "guidance"])
def test_every_condition_reaches_the_network(tiny: TinyModels, name: str) -> None:
    network = OnnxNetwork(tiny.student.exported, threads=1)
    x, at, to, cond = inputs(tiny.student, 1)
    changed = {**cond, name: cond[name] * 1.5 + 0.5}
    assert np.abs(network(x, at, to, cond) - network(x, at, to, changed)).max() > 1e-5


def test_a_missing_export_is_an_error_that_names_it(tiny: TinyModels, tmp_path: Path) -> None:
    plain = write(tiny.points.spec, {"w": np.zeros(2, dtype=np.float32)}, tmp_path / "plain")
    with pytest.raises(EngineError, match=r"'onnx' needs 'network\.onnx'"):
        load(plain.directory)


def test_a_damaged_export_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(b"not a network")
    with pytest.raises(EngineError, match=r"cannot load '.*network\.onnx'"):
        OnnxNetwork(tmp_path / "network.onnx")


def test_a_missing_condition_is_named(tiny: TinyModels) -> None:
    x, at, to, cond = inputs(tiny.student, 1)
    del cond["guidance"], cond["text_mask"]
    with pytest.raises(EngineError, match="needs the conditions guidance, text_mask"):
        OnnxNetwork(tiny.student.exported, threads=1)(x, at, to, cond)


def test_weights_of_another_network_are_refused(tiny: TinyModels, tmp_path: Path) -> None:
    wrong = write(tiny.points.spec, {"w": np.zeros(2, dtype=np.float32)}, tmp_path / "wrong")
    with pytest.raises(EngineError, match=r"network\.safetensors' does not fit"):
        load(wrong.directory, engine="eager")


@pytest.mark.parametrize("device", ["banana", "cuda:99"])
def test_a_device_that_is_not_there_is_named(tiny: TinyModels, device: str) -> None:
    with pytest.raises(EngineError, match=f"device '{device}'"):
        load(tiny.points.directory, engine="eager", device=device)


def test_an_engine_or_a_device_by_an_unknown_name_is_refused(tiny: TinyModels) -> None:
    with pytest.raises(ValueError, match="engine must be one of onnx, openvino, eager, compiled, got 'tpu'"):
        load(tiny.points.directory, engine="tpu")
    with pytest.raises(ValueError, match="device 'cuda': use engine 'eager'"):
        load(tiny.points.directory, device="cuda")
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        load(tiny.points.directory, threads=0)


@pytest.mark.parametrize("kind", ["student", "teacher", "points"])
def test_the_exported_network_tells_nothing_of_the_machine_it_was_made_on(tiny: TinyModels, kind: str) -> None:
    content = getattr(tiny, kind).exported.read_bytes()
    words = b" ".join(re.findall(rb"[\x20-\x7e]{4,}", content))
    assert b"network" in words  # the search would find text
    for trace in (b".py", b"site-packages", b"stack_trace", b"Traceback", str(Path.home()).encode() + b"/", b"/src/"):
        assert trace not in words
    assert not re.search(rb"/(home|tmp|usr|opt|root)/", words)


def test_the_exported_network_points_into_the_weights_and_copies_none(tiny: TinyModels, tmp_path: Path) -> None:
    saved = tiny.student
    weights = saved.weights.stat().st_size
    assert saved.exported.stat().st_size < weights / 2
    from safetensors.numpy import load_file

    stored = load_file(saved.weights)
    assert {values.dtype for values in stored.values()} == {np.dtype(np.float16)}
    shutil.copy(saved.exported, tmp_path)
    with pytest.raises(EngineError, match="cannot load"):  # alone it is no network
        OnnxNetwork(tmp_path / saved.exported.name)


def test_a_network_that_cannot_run_is_one_line(tiny: TinyModels) -> None:
    x, at, to, cond = inputs(tiny.student, 1)
    with pytest.raises(EngineError, match="ONNX Runtime cannot run the network: ") as error:
        OnnxNetwork(tiny.student.exported, threads=1)(x[:, :3], at, to, cond)
    assert "\n" not in str(error.value)


def test_the_exported_graph_is_folded_and_its_constants_are_no_weights(tiny: TinyModels) -> None:
    import onnx

    graph = onnx.load(tiny.student.exported, load_external_data=False).graph
    assert not [node for node in graph.node if node.op_type in {"Constant", "CastLike", "SequenceAt"}]
    inside = [tensor for tensor in graph.initializer if tensor.data_location != onnx.TensorProto.EXTERNAL]
    outside = [tensor for tensor in graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    assert len(outside) > 50
    assert sum(len(tensor.raw_data) for tensor in inside) < 16_384
    assert not {tuple(tensor.dims) for tensor in inside if len(tensor.dims) == 4 and tensor.dims[2:] == [3, 3]}
