"""Stop a run on request: Ctrl-C or SIGTERM lets it finish its step and write a checkpoint."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

log = logging.getLogger(__name__)


class TrainingStopped(KeyboardInterrupt):
    """A run stopped on request, with a checkpoint; the message says how to go on.

    Args:
        message: the message.
        number: the signal that asked.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.code = 128 + number
        """The exit code of a program that this ends."""


class StopRequests:
    """Within this context the first Ctrl-C or SIGTERM is noted, and a second one interrupts at once.

    It does nothing outside the main thread, and for a signal that the process ignores.

    Args:
        active: whether to do anything.
    """

    def __init__(self, active: bool = True) -> None:
        self.asked: int | None = None
        """The signal that asked to stop."""
        self._active = active and threading.current_thread() is threading.main_thread()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequests:
        for number in (signal.SIGINT, signal.SIGTERM) if self._active else ():
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:
            raise KeyboardInterrupt
        self.asked = number
        log.warning("stopping after this step; once more to stop at once")
