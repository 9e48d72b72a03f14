from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from servers import Running, running
from tiny_models import TinyModels


@pytest.fixture(scope="session")
def server(tiny: TinyModels) -> Iterator[Running]:
    """One with default settings, shared: tests must leave it as they found it."""
    with running(tiny) as server:
        yield server


@pytest.fixture
def serve(tiny: TinyModels) -> Iterator[Callable[..., Running]]:
    """Starts servers with settings of the test's own."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(tiny, **settings))
