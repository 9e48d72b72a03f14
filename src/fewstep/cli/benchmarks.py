"""What benchmarks share: checks of their numbers, and the packages they need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def check_counts(**numbers: int | None) -> None:
    """Raise ValueError unless every option's number is at least 1, or left out."""
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")


def check_seeds(first: int, count: int) -> None:
    """Raise ValueError unless these are seeds: `count` of them from the first on."""
    from fewstep.core.randomness import check_seed

    check_seed(first)
    check_seed(first + count)


@contextmanager
def lab_packages() -> Iterator[None]:
    """Where a benchmark imports what it needs: a package that is missing is named with the extra that brings it.

    Raises:
        ImportError: a package is missing.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"this benchmark needs the package '{error.name}': pip install 'fewstep[lab]'", name=error.name
        ) from error
