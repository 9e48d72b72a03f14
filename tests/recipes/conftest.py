from __future__ import annotations

import pytest

from fewstep.training import saving


@pytest.fixture
def without_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are saved without their exported graphs, which take longer than the smallest trainings: they run in
    PyTorch then. Some tests of the recipes do export."""
    monkeypatch.setattr(saving, "export_onnx", lambda *given: None)
