"""The CPU cores of this machine, and which of them are used."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence


def cores() -> int:
    """The number of cores that this process may use, if the system reports it; otherwise all cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def on_cpus(cpus: Sequence[int] | None) -> Iterator[None]:
    """Pin this thread, and the threads started inside the context, to some cores; None changes nothing.

    Engines loaded inside the context stay on these cores: their threads inherit the affinity.

    Raises:
        ValueError: this system cannot pin threads, or has no such core.
    """
    if cpus is None:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError("this system cannot pin threads to cores")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        raise ValueError(
            f"cannot pin a thread to the cores {list(cpus)}; this process has {sorted(before)}: {error.strerror}"
        ) from None
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
