"""Masks of pixels as masks of a model's data, for any codec."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewstep.editing.errors import RequestError
from fewstep.models.codecs import Codec, PixelCodec


def open_data(free: NDArray[np.float32], codec: Codec, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The mask of the data: float32 [1, ...], shaped like the data, 1 where they may change, 0 where they are kept.

    The data of a `PixelCodec` are single pixels. Any other codec is assumed to map each cell of the image to one
    position of a latent grid, so a position may change if any pixel of its cell may. Changes that the decoder makes
    to kept pixels nearby are undone when the picture is merged with the image.

    Args:
        free: [h, w], 1 where a pixel may change, 0 elsewhere.
        codec: the codec between pixels and data.
        shape: pixel shape of one image, [c, h, w].

    Raises:
        RequestError: the data are not a grid that divides the image into equal cells.
    """
    pixels = np.broadcast_to(np.asarray(free, dtype=np.float32), (1, *shape))
    if isinstance(codec, PixelCodec):
        return codec.mask(pixels)
    latent = codec.shape(shape)
    height, width = free.shape
    if len(latent) != 3 or height % latent[1] or width % latent[2]:
        raise RequestError(
            "mask",
            f"mask needs data on a grid that divides the {width}x{height} pixels into equal cells; "
            f"this model's codec makes data of shape {list(latent)}",
        )
    rows, columns = latent[1:]
    cells = pixels[0, 0].reshape(rows, height // rows, columns, width // columns).max(axis=(1, 3))
    return np.broadcast_to(cells, (1, *latent))


def pixel_codec(codec: Codec, edit: str) -> PixelCodec:
    """The codec, for an edit that constrains single pixels.

    Raises:
        RequestError: the codec's data are not pixels.
    """
    if not isinstance(codec, PixelCodec):
        raise RequestError(
            "edit",
            f"the edit '{edit}' constrains single pixels, but this model draws latents of a codec "
            f"({type(codec).__name__}) that mixes them: use a mask, or a model that draws pixels",
        )
    return codec
