"""The reasons why a request gets no images. Each surface translates them, and `RequestError`, to its protocol."""

from __future__ import annotations

from fewstep.generation import RequestError


class InputError(RequestError):
    """Something a request brings cannot be read or is not allowed here.

    Args:
        field: name of the wrong field.
        message: what is wrong, and what would be right.
        code: a short name of the error, for programs.
    """

    def __init__(self, field: str, message: str, code: str) -> None:
        super().__init__(
            field, message.encode("utf-8", "backslashreplace").decode()
        )  # quoted input may not be valid text
        self.code = code


class NotFound(InputError):
    """A request names a model or an image that does not exist, or no longer exists."""


class Busy(Exception):
    """There is no room for another request.

    Args:
        message: what is full.
        retry_after: seconds after which there should be room.
        code: a short name of what is full, for programs.
    """

    def __init__(self, message: str, retry_after: float, code: str = "queue_full") -> None:
        super().__init__(f"{message}: try again in {retry_after:.1f} s")
        self.retry_after, self.code = retry_after, code


class Stopped(Exception):
    """An accepted request gets no images; clients should not retry it automatically."""


class Superseded(Stopped):
    """A newer request of the same session took this one's place."""


class Cancelled(Stopped):
    """The client is no longer waiting."""


class ShuttingDown(Stopped):
    """The server is closing."""
