"""The interface of image stores; `MemoryStore` keeps images in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class StoredImage:
    """A stored image.

    Args:
        data: image file with the image's record in it.
        mime: its media type, such as image/png.
        owner: who may use it: the client's API key, hashed; empty if the server has no keys.
        session: the session that it was drawn in, or None.
    """

    data: bytes
    mime: str
    owner: str = ""
    session: str | None = None


class Store(Protocol):
    """Keeps images by the ids of their records, for a limited time. All methods may be called from any thread."""

    def put(self, id: str, image: StoredImage) -> None:
        """Keep an image."""
        ...

    def get(self, id: str) -> StoredImage | None:
        """The image with this id; None if it does not exist, or no longer exists."""
        ...
