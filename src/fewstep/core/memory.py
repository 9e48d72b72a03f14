"""How much memory there is, and a refusal beforehand of what cannot fit."""

from __future__ import annotations

import sys
from pathlib import Path

GB = 1e9


class NotEnoughMemory(ValueError):
    """Something would need more memory than is free; the message says how much, and what to do."""


def free_memory() -> int | None:
    """Bytes that this process can still take without swapping; None where the system does not say.

    A limit of the process (`ulimit -v`) or of its container (cgroup v2) counts too.
    """
    known = [bytes_ for bytes_ in (_in_meminfo(), _below_limit(), _in_container()) if bytes_ is not None]
    return min(known, default=None)


def check_memory(needed: float, what: str, remedy: str, free: int | None = None) -> None:
    """Refuse what needs more memory than is free.

    Args:
        needed: in bytes.
        what: what needs it, to begin a sentence.
        remedy: what to do.
        free: bytes that are free where it runs; None for this process.

    Raises:
        NotEnoughMemory: it does not fit.
    """
    free = free_memory() if free is None else free
    if free is not None and needed > free:
        raise NotEnoughMemory(f"{what} needs about {_shown(needed)} of memory, and {_shown(free)} are free: {remedy}")


def _shown(amount: float) -> str:
    return f"{amount / GB:.2g} GB" if amount < GB else f"{amount / GB:,.0f} GB"


def _in_meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    (line,) = (line for line in lines if line.startswith("MemAvailable:"))
    return 1024 * int(line.split()[1])


def _below_limit() -> int | None:
    """What is left below a limit of the address space."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return int(limit)
    return max(0, limit - pages * resource.getpagesize())


def _in_container() -> int | None:
    """What is left below the limit of the process's cgroup, whose cached files can be given up."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return None
    cached = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
    return None if limit == "max" else max(0, int(limit) - used + cached)
