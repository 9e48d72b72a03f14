"""Helpers shared by the benchmarks: checks of their options and of the packages that they need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def check_counts(**numbers: int | None) -> None:
    """Raise ValueError unless the value of every option is at least 1, or None."""
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")


def check_seeds(first: int, count: int) -> None:
    """Raise ValueError unless all of the `count` numbers from the first on are valid seeds."""
    from fewstep.core.randomness import check_seed

    check_seed(first)
    check_seed(first + count)


@contextmanager
def lab_packages() -> Iterator[None]:
    """A context for a benchmark's imports: an ImportError names the missing package and the extra that installs it.

    Raises:
        ImportError: a package is missing.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"this benchmark needs the package '{error.name}': pip install 'fewstep[lab]'", name=error.name
        ) from error
