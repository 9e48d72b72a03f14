"""What a request may be refused with."""

from __future__ import annotations

from collections.abc import Mapping


class RequestError(ValueError):
    """A request that cannot be served: the message names the field, its value, and what would be right.

    Args:
        field: which field was wrong.
        message: what to say.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field

    def called(self, names: Mapping[str, str]) -> RequestError:
        """The same error with the name that a surface has for the field."""
        name = names.get(self.field, self.field)
        return self if name == self.field else RequestError(name, str(self).replace(self.field, name, 1))
