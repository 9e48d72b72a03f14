"""What this machine has, and which of it is used."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence


def cores() -> int:
    """The cores that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def on_cpus(cpus: Sequence[int] | None) -> Iterator[None]:
    """Keep this thread, and the threads that are started inside, on some cores; None leaves them.

    Engines that are loaded inside stay there: their threads inherit it.

    Raises:
        ValueError: this system cannot, or has no such core.
    """
    if cpus is None:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError("this system does not let a thread be kept on some cores")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        raise ValueError(
            f"cannot keep a thread on the cores {list(cpus)}, this process has {sorted(before)}: {error.strerror}"
        ) from None
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
