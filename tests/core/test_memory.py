"""What cannot fit is refused beforehand, with an estimate."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fewstep.core import memory
from fewstep.core.memory import NotEnoughMemory, check_memory, free_memory


def test_what_fits_passes_and_what_does_not_is_told() -> None:
    check_memory(10, "it", "do less", free=10)
    with pytest.raises(NotEnoughMemory, match=r"^it needs about 3 GB of memory, and 0\.5 GB are free: do less$"):
        check_memory(3e9, "it", "do less", free=500_000_000)
    with pytest.raises(NotEnoughMemory, match=r"needs about 1,234,567 GB"):
        check_memory(1_234_567e9, "it", "do less", free=0)


def test_a_system_that_does_not_say_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    check_memory(1e18, "it", "do less")


def test_what_is_free_is_what_the_system_says() -> None:
    free, said = free_memory(), memory._in_meminfo()
    assert free is not None
    assert 0 < free < 1e14
    if said is not None and memory._in_container() is None and memory._below_limit() is None:
        assert free == pytest.approx(said, rel=0.2)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of the address space")
def test_a_limit_of_the_process_counts() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9, 3 * 10**9))\n"
        "from fewstep.core.memory import free_memory; print(free_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 3 * 10**9
