"""Sheets: pictures that show rows of images with titles, headings and captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

CELL, GAP, LEFT, FONT = 112, 8, 132, 14
INK, SOFT = "#222222", "#666666"


@dataclass(frozen=True)
class Row:
    """A row of images, with a title and a line below the title."""

    title: str
    note: str
    images: Sequence[Image.Image]


def sheet(rows: Sequence[Row], above: Sequence[str] = (), below: Sequence[Sequence[str]] = ()) -> Image.Image:
    """Draw rows of images on white.

    Args:
        rows: the rows from top to bottom.
        above: a heading for each column.
        below: captions for the images of a row; the rows cycle through them.
    """
    font, bold = ImageFont.load_default(FONT - 2), ImageFont.load_default(FONT + 1)
    head, foot = (FONT + 12 if above else GAP), (FONT + 6 if below else 0)
    cell = min(CELL, 1010 // max(len(row.images) for row in rows))
    scale = max(1, cell // rows[0].images[0].width)
    side = scale * rows[0].images[0].width
    across = max(len(row.images) for row in rows)
    page = Image.new("RGB", (LEFT + across * (side + GAP), head + len(rows) * (side + GAP + foot)), "white")
    draw = ImageDraw.Draw(page)
    for column, text in enumerate(above):
        draw.text((LEFT + column * (side + GAP) + side / 2, head / 2), text, fill=INK, font=font, anchor="mm")
    for number, row in enumerate(rows):
        top = head + number * (side + GAP + foot)
        draw.text((GAP, top + side / 2 - 18), row.title, fill=INK, font=bold)
        draw.text((GAP, top + side / 2 + 4), row.note, fill=SOFT, font=font)
        for column, image in enumerate(row.images):
            left = LEFT + column * (side + GAP)
            large = image.convert("RGBA").resize((side, side), Image.Resampling.NEAREST)
            page.paste(large, (left, top), large)
            if below:
                text = below[number % len(below)][column]
                draw.text((left + side / 2, top + side + 9), text, fill=SOFT, font=font, anchor="mm")
    return page
