"""`fewstep data stickers`."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fewstep.cli.output import check_json, say, write_json

if TYPE_CHECKING:
    from fewstep.data.stickers import Stickers


def stickers(
    out: Path | None = None,
    packages: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    size: int = 128,
    json: str | None = None,
) -> int:
    """Fetch the artists' packages, draw every sticker, and print how many there are of each artist.

    Packages are pinned by version and hash. They and the drawings are stored in the user's cache folder, or in the
    folder that FEWSTEP_CACHE names.

    Args:
        out: A folder to write every picture to as PNG, in a subfolder for each style.
        packages: A folder with the archives of the packages; if left out, npm fetches them.
        size: Side of the pictures, in pixels.
        json: Write the counts as JSON to this file, or to standard output with -.
    """
    from fewstep.data.artists import ARTISTS
    from fewstep.data.stickers import PLAIN, Stickers

    check_json(json)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    dataset = Stickers(size, PLAIN, packages, held_out=0)
    if out is not None:
        _write(dataset, out)
    counts = Counter(dataset.rendered.styles)
    say(f"{len(dataset)} stickers of {len(dataset.glyphs)} things at {size}×{size}, premultiplied RGBA", json)
    for style, artist in enumerate(ARTISTS):
        say(f"  {counts[style]:5} {artist.attribution}", json)
    rows = [
        {"style": artist.style, "pictures": counts[style], "attribution": artist.attribution}
        for style, artist in enumerate(ARTISTS)
    ]
    write_json(json, {"pictures": len(dataset), "things": len(dataset.glyphs), "artists": rows})
    return 0


def _write(dataset: Stickers, out: Path) -> None:
    """Write every plain picture as out/STYLE/NAME.png, transparent."""
    from fewstep.data.stickers import STYLES
    from fewstep.pictures.pixels import to_image

    for word in STYLES:
        (out / word).mkdir(parents=True, exist_ok=True)
    for place in dataset.shown:
        thing, style = dataset.rendered.things[place], dataset.rendered.styles[place]
        rgba = to_image(dataset.picture(place), "rgba_premultiplied")
        name = "".join(sign if sign.isalnum() else "-" for sign in dataset.glyphs[thing].name)
        rgba.save(out / STYLES[style] / f"{name}.png")
