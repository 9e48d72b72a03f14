from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import pytest

from once import Once, build_once, shared_root
from tiny_models import TinyModels, build, built

pytest_plugins = ["judge_fixtures"]

if TYPE_CHECKING:
    from servers import Running


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """Builds a folder for all workers of this run."""
    return partial(build_once, shared_root(tmp_path_factory, worker_id))


@pytest.fixture(scope="session")
def tiny(once: Once) -> TinyModels:
    """Three untrained models; copy a directory before changing it."""
    return built(once("tiny-models", build))


@pytest.fixture(scope="session")
def server(tiny: TinyModels) -> Iterator[Running]:
    """One with default settings, shared: tests must leave it as they found it."""
    from servers import running

    with running(tiny) as server:
        yield server


@pytest.fixture
def serve(tiny: TinyModels) -> Iterator[Callable[..., Running]]:
    """Starts servers with settings of the test's own."""
    from servers import running

    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(tiny, **settings))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", help="a folder for pictures of the studio (tests/studio/test_screenshots.py)")
