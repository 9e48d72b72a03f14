"""What settings must be: each check raises ValueError that says which one is wrong, what it was and what would do."""

from __future__ import annotations


def check_share(name: str, value: float) -> None:
    """A share of a batch or of noise."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")


def check_at_least(low: float, **settings: float) -> None:
    """Numbers with a lower bound; nan is none."""
    for name, value in settings.items():
        if not value >= low:
            raise ValueError(f"{name} must be at least {low:g}, got {value}")


def check_above_0(**settings: float) -> None:
    """Numbers to divide by or to take the logarithm of."""
    for name, value in settings.items():
        if not 0.0 < value < float("inf"):
            raise ValueError(f"{name} must be above 0 and finite, got {value}")


def check_decay(decay: float | None) -> None:
    """Of a moving average; None for no average."""
    if decay is not None and not 0.0 <= decay < 1.0:
        raise ValueError(f"decay must be at least 0 and below 1, got {decay}")


def check_choice(name: str, value: str, *allowed: str) -> None:
    """A word out of a few."""
    if value not in allowed:
        *before, last = map(repr, allowed)
        choices = f"{', '.join(before)} or {last}" if before else last
        raise ValueError(f"{name} must be {choices}, got {value!r}")
