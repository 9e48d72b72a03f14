"""Every engine in `ENGINES` runs the same network: registering one is enough to be tested here."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewstep.core.parameterisations import Network
from fewstep.engines import registry
from fewstep.engines.errors import EngineError
from fewstep.engines.registry import ENGINES, open_network
from fewstep.generation import load
from fewstep.models.finding import find
from fewstep.models.saved import SavedModel
from tiny_models import TinyModels

EXACT = [name for name in ENGINES if name != "eager"]
COARSE = [(engine.name, precision) for engine in ENGINES.values() for precision in engine.precisions[1:]]
KINDS = ["student", "teacher", "points"]


def network(saved: SavedModel, engine: str, precision: str = "float32") -> Network:
    return _network(saved.directory, engine, precision)


@cache
def _network(directory: Path, engine: str, precision: str) -> Network:
    try:
        return open_network(find(directory).component("network"), engine, precision, threads=1)
    except EngineError as error:
        if "no bfloat16 arithmetic" not in str(error):
            raise
        pytest.skip(str(error))


def inputs(saved: SavedModel, batch: int) -> tuple[Any, Any, Any, dict[str, Any]]:
    """The raw network's inputs, each sample at its own times."""
    rng = np.random.default_rng(batch)
    conditioning, pixels = saved.spec.conditioning, saved.spec.pixels
    prompts = [("a red apple", "", "blue cat on red")[i % 3] for i in range(batch)]
    controls = [rng.random(pixels, dtype=np.float32) if i % 2 else None for i in range(batch)]
    labels = [i % 3 for i in range(batch)] if conditioning.classes else None
    cond = conditioning.encode(batch, prompt=prompts, label=labels, control=controls, guidance=[2.5] * batch)
    x = rng.standard_normal((batch, *conditioning.codec.shape(pixels)), dtype=np.float32)
    return x, rng.random(batch, dtype=np.float32) + np.float32(0.1), np.zeros(batch, dtype=np.float32), cond


@pytest.mark.parametrize(
    ("engine", "kind", "batch"),
    [
        (engine, kind, batch)
        for batch in (1, 7)
        for engine in EXACT
        for kind in KINDS
        # each size of a U-Net compiles for half a minute: one size of it, and all sizes of the perceptron, are enough
        if (engine, kind, batch) not in {("compiled", "student", 7), ("compiled", "teacher", 7)}
    ],
)
def test_in_float32_it_gives_what_eager_pytorch_gives(tiny: TinyModels, engine: str, kind: str, batch: int) -> None:
    saved = getattr(tiny, kind)
    given = inputs(saved, batch)
    expected = network(saved, "eager")(*given)
    assert np.abs(expected).max() > 0.05  # not the zero start
    found = network(saved, engine)(*given)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("engine", "precision"), COARSE)
def test_at_less_precision_it_stays_near(tiny: TinyModels, engine: str, precision: str) -> None:
    given = inputs(tiny.student, 2)
    expected = network(tiny.student, "eager")(*given)
    found = network(tiny.student, engine, precision)(*given)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch", [5, 20])
def test_a_sample_does_not_see_its_companions(tiny: TinyModels, engine: str, batch: int) -> None:
    """Alone, in a batch that no size fits, and in one larger than all sizes."""
    saved = tiny.points
    x, at, to, cond = inputs(saved, batch)
    together = network(saved, engine)(x, at, to, cond)
    assert together.shape == x.shape
    for i in (0, batch // 2, batch - 1):
        one = slice(i, i + 1)
        alone = network(saved, engine)(x[one], at[one], to[one], {k: v[one] for k, v in cond.items()})
        np.testing.assert_allclose(alone[0], together[i], atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_output_is_the_callers_to_keep(tiny: TinyModels, engine: str) -> None:
    run = network(tiny.points, engine)
    first = run(*inputs(tiny.points, 1))
    kept = first.copy()
    run(*inputs(tiny.points, 2))
    x, *rest = inputs(tiny.points, 1)
    run(x + 1, *rest)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_image_is_the_same_on_every_engine(tiny: TinyModels, engine: str) -> None:
    expected = load(tiny.student.directory, threads=1).generate("red apple", seed=3, steps=2)
    found = load(tiny.student.directory, engine, threads=1).generate("red apple", seed=3, steps=2)
    assert np.abs(np.asarray(found).astype(int) - np.asarray(expected)).max() <= 2
    assert found.record.engine == engine


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_whose_package_is_missing_says_how_to_install_it(
    tiny: TinyModels, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=rf"'{engine}' needs {ENGINES[engine].package}: pip install"):
        load(tiny.points.directory, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_precision_or_a_number_of_threads_that_does_not_exist_is_refused(tiny: TinyModels, engine: str) -> None:
    with pytest.raises(ValueError, match=rf"precision of the engine '{engine}' must be float32.*got 'int3'"):
        load(tiny.points.directory, engine, precision="int3")
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        load(tiny.points.directory, engine, threads=0)


@pytest.mark.parametrize("engine", [engine.name for engine in ENGINES.values() if not engine.devices])
def test_an_engine_without_a_choice_of_devices_says_so(tiny: TinyModels, engine: str) -> None:
    with pytest.raises(ValueError, match=f"'{engine}' runs on the cpu here, got device 'cuda'"):
        load(tiny.points.directory, engine, device="cuda")


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_damaged_network_is_an_error_that_names_it(tiny: TinyModels, engine: str, tmp_path: Path) -> None:
    whole = tiny.points.exported.read_bytes()
    (tmp_path / "network.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EngineError, match=r"cannot load '.*network\.onnx'"):
        open_network(replace(tiny.points, directory=tmp_path).component("network"), engine, threads=1)
