"""The sources of images in requests: files, raw pixels, URLs, or images drawn before."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from fewstep.serving.engine.errors import InputError, NotFound
from fewstep.serving.engine.fetching import SECONDS, fetch
from fewstep.serving.engine.store import Store, StoredImage
from fewstep.serving.engine.uploads import ImageDecoder

URI = "fewstep://images/"
"""Optional prefix of an image's id, as in the URIs of MCP resources."""

_SMALL = 65_536
"""Largest raw image, in bytes, that is converted faster than a thread is woken. For files the size says little: a few
bytes can hold millions of pixels."""

_FETCHERS = ThreadPoolExecutor(8, "fewstep-fetch")
"""Separate threads, so that slow sites hold up only each other."""


@dataclass(frozen=True)
class ImageFile:
    """The bytes of a file, or a data URL."""

    field: str
    data: bytes | str


@dataclass(frozen=True)
class ImagePixels:
    """Straight RGBA, row by row, 4 bytes per pixel; `size` is (width, height)."""

    field: str
    data: bytes | memoryview
    size: tuple[int, int]


@dataclass(frozen=True)
class ImageUrl:
    """A data URL, or a public URL if the settings allow it."""

    field: str
    url: str


@dataclass(frozen=True)
class ImageId:
    """An image drawn before, by its id or its URI."""

    field: str
    id: str


ImageSource = ImageFile | ImagePixels | ImageUrl | ImageId


@dataclass(frozen=True)
class SourceImages:
    """The images of a request, not decoded yet.

    Args:
        image: the image to start from.
        mask: the part of it that may change.
        control: a sketch to follow.
    """

    image: ImageSource | None = None
    mask: ImageSource | None = None
    control: ImageSource | None = None

    @property
    def all(self) -> list[ImageSource]:
        """The images that are given."""
        return [source for source in (self.image, self.mask, self.control) if source is not None]

    @property
    def are_small(self) -> bool:
        """Whether decoding them takes less time than waking a thread."""
        raw = [source for source in self.all if isinstance(source, ImagePixels)]
        return len(raw) == len(self.all) and sum(len(source.data) for source in raw) <= _SMALL


@dataclass(frozen=True)
class DecodedImages:
    """The decoded images of a request; fields as in `SourceImages`."""

    image: Image.Image | None = None
    mask: Image.Image | None = None
    control: Image.Image | None = None


class ImageLoader:
    """Turns a request's sources into images.

    Args:
        store: the store of images drawn before.
        decoder: the decoder, which limits their size.
        fetch_urls: whether public URLs are fetched.
        max_bytes: largest fetched file, in bytes.
    """

    def __init__(self, store: Store, decoder: ImageDecoder, fetch_urls: bool, max_bytes: int) -> None:
        self.decoder = decoder
        self._store, self._fetch_urls, self._max_bytes = store, fetch_urls, max_bytes

    def find(self, id: str, owner: str | None, field: str) -> StoredImage:
        """An image drawn before, by its id or its URI.

        Args:
            id: id or URI of the image.
            owner: required owner; None for a client with a signed URL.
            field: name of the field the id came in, for error messages.

        Raises:
            NotFound: it does not exist, no longer exists, or belongs to another client.
        """
        found = self._store.get(id.removeprefix(URI))
        if found is None or owner not in (None, found.owner):
            raise NotFound(field, f"there is no image '{id[:100]}', or not any more: draw it again", "not_found")
        return found

    async def fetched(self, sources: SourceImages, owner: str) -> SourceImages:
        """The same images, with the bytes of those that were given by id or URL.

        Raises:
            NotFound: there is no image with that id.
            InputError: the URL may not be fetched, or does not lead to a file.
        """
        image, mask, control = [
            None if source is None else await self._fetched(source, owner)
            for source in (sources.image, sources.mask, sources.control)
        ]
        return SourceImages(image, mask, control)

    async def _fetched(self, source: ImageSource, owner: str) -> ImageSource:
        if isinstance(source, ImageId):
            return ImageFile(source.field, self.find(source.id, owner, source.field).data)
        if isinstance(source, ImageUrl):
            return ImageFile(source.field, await self._behind(source.url, source.field))
        return source

    async def _behind(self, url: str, field: str) -> bytes | str:
        """A data URL as it is, or the file behind another URL."""
        if url.lstrip()[:5].lower() == "data:":
            return url
        if not self._fetch_urls:
            wanted = f"{field} must be a data URL (data:image/png;base64,…); this server fetches no URLs"
            raise InputError(field, wanted, "invalid_url")
        try:
            async with asyncio.timeout(SECONDS + 1):  # resolving the host can take longer than `fetch` allows
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(_FETCHERS, fetch, url, field, self._max_bytes)
        except TimeoutError:
            slow = f"{field} took more than {SECONDS:g} seconds to fetch"
            raise InputError(field, slow, "invalid_url") from None

    def decoded(self, sources: SourceImages) -> DecodedImages:
        """The images of fetched sources.

        Raises:
            InputError: an image cannot be read, or is too large.
            Busy: too many pixels are already in memory.
        """
        return DecodedImages(*map(self._decoded, (sources.image, sources.mask, sources.control)))

    def _decoded(self, source: ImageSource | None) -> Image.Image | None:
        match source:
            case None:
                return None
            case ImageFile(field, data):
                return self.decoder.open(data, field)
            case ImagePixels(field, data, size):
                return self.decoder.from_pixels(data, size, field)
            case _:
                raise TypeError(f"{source.field} was not fetched")
