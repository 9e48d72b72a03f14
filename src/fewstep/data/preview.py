"""A contact sheet: the examples that training gets from a data set, augmented and captioned, as one image."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from fewstep.core.memory import check_memory
from fewstep.data.dataset import DataError, Dataset, Example, examples

CELL = 128  # approximate size that small images are enlarged to, in pixels
MARGIN = 12
LINES = 3  # most lines of a caption
FONT_SIZE = 13
CHECKS = ((255, 255, 255), (214, 214, 214))

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(
    dataset: Dataset,
    n: int = 24,
    columns: int = 6,
    seed: int = 0,
    scale: int | None = None,
    background: str = "white",
) -> Image.Image:
    """The first n examples that training with `seed` would see, with their captions below.

    Transparent pixels are shown on a checkerboard; points (shape (2,)) are drawn as one scatter plot.

    Args:
        dataset: the data set.
        n: number of examples, at most one epoch.
        columns: images per row.
        seed: the run's seed.
        scale: factor by which images are enlarged; None enlarges small images.
        background: colour of the sheet, in CSS notation.

    Raises:
        DataError: n, columns or scale is below 1, the colour is unknown, or the data are neither images nor points.
    """
    for name, value in (("n", n), ("columns", columns), ("scale", scale)):
        if value is not None and value < 1:
            raise DataError(f"{name} must be at least 1, got {value}")
    try:
        page = ImageColor.getrgb(background)[:3]
    except ValueError as error:
        raise DataError(f"background must be a colour such as 'white' or '#202020', got {background!r}") from error
    numbers = math.prod(dataset.shape) * min(n, len(dataset))
    check_memory(16 * numbers, "the sheet", "show fewer or smaller examples")  # as read, as floats, and on the sheet
    chosen = examples(dataset, min(n, len(dataset)), seed, step=0)
    ink = (0, 0, 0) if sum(page) > 382 else (255, 255, 255)
    if dataset.shape == (2,):
        return _scatter(chosen, page)
    if len(dataset.shape) != 3 or dataset.shape[0] not in (1, 3, 4):
        raise DataError(f"only images [1 | 3 | 4, h, w] and points [2] can be shown, got {list(dataset.shape)}")
    pictures = [_picture(example.data, scale) for example in chosen]
    return _sheet(pictures, [_title(example) for example in chosen], min(columns, len(chosen)), page, ink)


def _title(example: Example) -> str:
    if not example.caption:
        return "" if example.label is None else f"label {example.label}"
    # Pillow's built-in font has no accented letters: "Ubung" is better than a box.
    letters = unicodedata.normalize("NFKD", example.caption)
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _picture(data: object, scale: int | None) -> Image.Image:
    """Pixels [c, h, w] in [0, 1] as an opaque, enlarged RGB image."""
    pixels = np.asarray(data, dtype=np.float32).transpose(1, 2, 0)
    high, wide, channels = pixels.shape
    factor = scale or max(1, round(CELL / wide))
    pixels = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    if channels == 4:
        side = max(4, factor * wide // 16)
        rows, cols = np.arange(high * factor) // side, np.arange(wide * factor) // side
        behind = np.array(CHECKS, dtype=np.float32)[(rows[:, None] + cols[None, :]) % 2] / 255
        pixels = pixels[..., :3] + (1 - pixels[..., 3:]) * behind
    rgb = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    return Image.fromarray((rgb.clip(0, 1) * 255).round().astype(np.uint8))


def _sheet(
    pictures: Sequence[Image.Image],
    titles: Sequence[str],
    columns: int,
    page: tuple[int, ...],
    ink: tuple[int, ...],
) -> Image.Image:
    font = ImageFont.load_default(FONT_SIZE)
    width, height = pictures[0].size
    cell = max(width, CELL)
    wrapped = [_wrapped(title, cell, font) for title in titles]
    line = FONT_SIZE + 4
    starts = range(0, len(pictures), columns)
    tall = [MARGIN + height + 4 + line * max(len(w) for w in wrapped[start : start + columns]) for start in starts]
    sheet = Image.new("RGB", (MARGIN + columns * (cell + MARGIN), sum(tall) + MARGIN), page)
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for start, row_height in zip(starts, tall, strict=True):
        for column, index in enumerate(range(start, min(start + columns, len(pictures)))):
            left = MARGIN + column * (cell + MARGIN)
            sheet.paste(pictures[index], (left + (cell - width) // 2, top))
            for number, text in enumerate(wrapped[index]):
                middle = left + (cell - font.getlength(text)) / 2
                draw.text((middle, top + height + 4 + number * line), text, fill=ink, font=font)
        top += row_height
    return sheet


def _wrapped(text: str, width: int, font: Font) -> list[str]:
    """The lines of a text, no wider than `width`; text beyond LINES is cut off with "…"."""
    lines: list[str] = []
    rest = text.split()
    while rest and len(lines) < LINES:
        count = 1
        while count < len(rest) and font.getlength(" ".join(rest[: count + 1])) <= width:
            count += 1
        lines.append(" ".join(rest[:count]))
        rest = rest[count:]
    if rest:
        lines[-1] += " …"
    return [_cut(line, width, font) for line in lines]


def _cut(line: str, width: int, font: Font) -> str:
    if font.getlength(line) <= width:
        return line
    line = line.removesuffix(" …")
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line.rstrip() + "…"


def _scatter(chosen: Sequence[Example], page: tuple[int, ...], side: int = 512) -> Image.Image:
    """A scatter plot of points around the origin with equal axis scales, coloured by label."""
    sheet = Image.new("RGB", (side, side), page)
    draw = ImageDraw.Draw(sheet)
    middle = side / 2
    draw.line([(middle, 0), (middle, side)], fill=CHECKS[1])
    draw.line([(0, middle), (side, middle)], fill=CHECKS[1])
    radius = math.sqrt(max(1.0, 1500 / len(chosen)))
    points = np.stack([example.data for example in chosen])
    unit = middle / (1.1 * max(float(np.abs(points).max()), 1e-6))
    for example, point in zip(chosen, points, strict=True):
        x, y = middle + unit * float(point[0]), middle - unit * float(point[1])
        hue = 220 if example.label is None else example.label * 137.5 % 360
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=f"hsl({hue:.0f}, 70%, 45%)")
    return sheet
