from __future__ import annotations

import pytest

from tiny_models import TinyModels, build


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Three untrained models, built once; copy a directory before changing it."""
    return build(tmp_path_factory.mktemp("tiny-models"))
