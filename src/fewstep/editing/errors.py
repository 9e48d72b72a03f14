"""What a request may be refused with."""

from __future__ import annotations


class RequestError(ValueError):
    """A request that cannot be served: the message names the field, its value, and what would be right.

    Args:
        field: which field was wrong.
        message: what to say.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
