"""The error that a request is refused with."""

from __future__ import annotations

from collections.abc import Mapping


class RequestError(ValueError):
    """A request cannot be served: the message names the field, its value, and what would be right.

    Args:
        field: name of the wrong field.
        message: the error message.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field

    def called(self, names: Mapping[str, str]) -> RequestError:
        """The same error with the field's name on a surface."""
        name = names.get(self.field, self.field)
        return self if name == self.field else RequestError(name, str(self).replace(self.field, name, 1))
