"""What the desk needs of whatever keeps its images: `MemoryStore` does so in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class StoredImage:
    """One image.

    Args:
        data: a file with the image's record in it.
        mime: its media type, such as image/png.
        owner: who may use it: the client's API key, hashed; empty where the server has no keys.
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
        """The image with this id; None if there is none, or not any more."""
        ...
