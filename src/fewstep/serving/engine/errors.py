"""Why a request gets no images. Each surface translates these, and `RequestError`, into its protocol's errors."""

from __future__ import annotations

from fewstep.generation import RequestError


class InputError(RequestError):
    """Something a request brings cannot be read or is not allowed here.

    Args:
        field: which field was wrong.
        message: what was wrong, and what would be right.
        code: a short name of the mistake, for programs.
    """

    def __init__(self, field: str, message: str, code: str) -> None:
        super().__init__(
            field, message.encode("utf-8", "backslashreplace").decode()
        )  # what it quotes may not be text
        self.code = code


class NotFound(InputError):
    """A request names a model or an image that is not here, or not any more."""


class Busy(Exception):
    """There is no room for another request.

    Args:
        message: what is full.
        retry_after: seconds after which there should be room.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(f"{message}: try again in {retry_after:.1f} s")
        self.retry_after = retry_after


class Stopped(Exception):
    """A request that was accepted and will get no images; clients should not repeat it by themselves."""


class Superseded(Stopped):
    """A newer request of the same session took this one's place."""


class Cancelled(Stopped):
    """The client does not wait any more."""


class ShuttingDown(Stopped):
    """The server is closing."""
