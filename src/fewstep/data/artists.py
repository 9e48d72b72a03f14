"""The stickers' artists: their authors, licences and packages, and how drawings are found in them.

Icons in Iconify's packages are named by slugs of Unicode names, the 3D pictures by code points.
"""

from __future__ import annotations

import io
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from fewstep.data.dataset import DataError
from fewstep.data.packages import Package, files

CONTENT = 15 / 16
"""The longer side of a drawing as a share of the picture's side."""

FAINT = 8
"""The highest alpha, out of 255, at which a pixel does not count as content."""

OVERSAMPLING = 1.5
"""How much larger than its frame a drawing is rasterised, so that it stays sharp when framed."""


@dataclass(frozen=True)
class Artist:
    """One set of drawings.

    Args:
        style: the style word that asks for them.
        package: the package that they are published in.
        author, licence, source: attribution, to be given wherever the drawings, or models trained on them, are shown.
        kind: format of the package: Iconify's JSON of SVG, or one WebP file per picture.
    """

    style: str
    package: Package
    author: str
    licence: str
    source: str
    kind: Literal["iconify", "webp"] = "iconify"

    @property
    def attribution(self) -> str:
        """One line that credits the artist as the licence requires."""
        return f"{self.style}: {self.author}, {self.licence}, {self.source} (npm {self.package})"


ARTISTS = (
    Artist(
        "3D",
        Package(
            "@lobehub/fluent-emoji-3d",
            "1.1.0",
            "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        ),
        "Microsoft Corporation (Fluent Emoji), packaged by LobeHub",
        "MIT",
        "https://github.com/microsoft/fluentui-emoji",
        "webp",
    ),
    Artist(
        "gradient",
        Package(
            "@iconify-json/fluent-emoji",
            "1.2.7",
            "D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
        ),
        "Microsoft Corporation (Fluent Emoji)",
        "MIT",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    Artist(
        "flat",
        Package(
            "@iconify-json/fluent-emoji-flat",
            "1.2.6",
            "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        ),
        "Microsoft Corporation (Fluent Emoji)",
        "MIT",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    Artist(
        "outline",
        Package(
            "@iconify-json/fluent-emoji-high-contrast",
            "1.2.6",
            "esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w==",
        ),
        "Microsoft Corporation (Fluent Emoji High Contrast)",
        "MIT",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    Artist(
        "noto",
        Package(
            "@iconify-json/noto",
            "1.2.9",
            "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        ),
        "Google Inc (Noto Emoji)",
        "Apache-2.0",
        "https://github.com/googlefonts/noto-emoji",
    ),
    Artist(
        "twemoji",
        Package(
            "@iconify-json/twemoji",
            "1.2.5",
            "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
        ),
        "Twitter, Inc and other contributors (Twemoji)",
        "CC-BY-4.0",
        "https://github.com/jdecked/twemoji",
    ),
    Artist(
        "classic",
        Package(
            "@iconify-json/emojione",
            "1.2.3",
            "T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
        ),
        "Emoji One (EmojiTwo)",
        "CC-BY-4.0",
        "https://github.com/EmojiTwo/emojitwo",
    ),
)
"""The artists by style word, in the order of the style labels."""

Drawing = bytes | str
"""The bytes of a picture file, or an SVG document."""


@dataclass(frozen=True)
class Icons:
    """The content of one of Iconify's packages.

    Args:
        icons: name to `{"body": …, "width": …, "height": …}`.
        aliases: name to `{"parent": …, "hFlip": …}`.
        names: code points, as in `1f34e`, to name; {} if the package has no such table.
        width, height: default size of icons.
    """

    icons: Mapping[str, Any]
    aliases: Mapping[str, Any]
    names: Mapping[str, str]
    width: float
    height: float

    def svg(self, name: str) -> str | None:
        """The SVG document of an icon or alias; None if it does not exist or its transform is not supported."""
        alias = self.aliases.get(name, {}) if name not in self.icons else {}
        icon = self.icons.get(alias.get("parent", name))
        if icon is None or set(alias) - {"parent", "hFlip"}:
            return None
        width, height = (float(icon.get(side, getattr(self, side))) for side in ("width", "height"))
        body = icon["body"]
        if alias.get("hFlip"):
            body = f'<g transform="translate({width:g} 0) scale(-1 1)">{body}</g>'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}">{body}</svg>'
        )


def read_icons(archive: Path) -> Icons:
    """Read one of Iconify's packages.

    Raises:
        DataError: the archive is not such a package.
    """
    held = dict(files(archive, ("/icons.json", "/chars.json")))
    try:
        icons = json.loads(held["icons.json"])
        names = json.loads(held.get("chars.json", b"{}"))
        size = float(icons.get("width", 16)), float(icons.get("height", 16))
        return Icons(dict(icons["icons"]), dict(icons.get("aliases", {})), dict(names), *size)
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f"'{archive}' is not an Iconify package: {error!r}") from error


def drawings(
    archives: Mapping[str, Path], texts: Sequence[str], names: Sequence[str]
) -> dict[str, list[Drawing | None]]:
    """Every artist's drawings of some emoji.

    Args:
        archives: each style's package.
        texts: the emoji.
        names: their Unicode names.

    Returns:
        For each style, one drawing per emoji, None where the artist has none.
    """
    artists = [artist for artist in ARTISTS if artist.style in archives]
    icons = {a.style: read_icons(archives[a.style]) for a in artists if a.kind == "iconify"}
    found: dict[str, list[Drawing | None]] = {}
    for artist in artists:
        if artist.kind == "webp":
            pictures = {Path(name).stem: data for name, data in files(archives[artist.style], (".webp",))}
            found[artist.style] = [_first(pictures.get, _codes(text)) for text in texts]
            continue
        held = icons[artist.style]
        # names from one package are tried in all, since not every package has a table of names
        tables = [held.names, *(other.names for other in icons.values())]
        found[artist.style] = [
            _first(held.svg, _slugs(text, name, tables)) for text, name in zip(texts, names, strict=True)
        ]
    return found


def _first(find: Callable[[str], Drawing | None], keys: Iterable[str]) -> Drawing | None:
    return next((drawing for key in keys if (drawing := find(key)) is not None), None)


def _codes(text: str) -> list[str]:
    """An emoji's code points as in file names, with and without the variation selector for emoji presentation."""
    return ["-".join(f"{ord(sign):x}" for sign in signs) for signs in (text, text.replace("\ufe0f", ""))]


def _slugs(text: str, name: str, tables: Sequence[Mapping[str, str]]) -> list[str]:
    """The names that an emoji may have in a package: the slug of its Unicode name, and the entries in the tables."""
    plain = unicodedata.normalize("NFKD", name.replace("’", "")).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    return [slug, *(table[code] for table in tables for code in _codes(text) if code in table)]


def rasterise(drawing: Drawing, side: int) -> Any:
    """A drawing in the common frame, in which its content takes CONTENT of the side: premultiplied RGBA, uint8
    [side, side, 4].

    Raises:
        DataError: the drawing cannot be read or is empty.
    """
    picture = _opened(drawing, round(OVERSAMPLING * side))
    box = picture.getchannel("A").point(lambda alpha: 255 if alpha > FAINT else 0).getbbox()
    if box is None:
        raise DataError("the drawing is empty")
    left, top, right, bottom = box
    wide = max(right - left, bottom - top) / CONTENT  # the frame's side in the drawing's pixels
    across, down = (left + right - wide) / 2, (top + bottom - wide) / 2
    # a frame may extend beyond the drawing, where it is empty
    margin = math.ceil(max(0.0, -across, -down, across + wide - picture.width, down + wide - picture.height))
    roomy = Image.new("RGBA", (picture.width + 2 * margin, picture.height + 2 * margin))
    roomy.paste(picture, (margin, margin))
    window = (across + margin, down + margin, across + margin + wide, down + margin + wide)
    # a filter without negative lobes causes no ringing in transparent areas
    framed = roomy.convert("RGBa").resize((side, side), Image.Resampling.HAMMING, box=window)
    pixels = np.frombuffer(framed.tobytes(), dtype=np.uint8).reshape(side, side, 4)
    return np.concatenate([np.minimum(pixels[..., :3], pixels[..., 3:]), pixels[..., 3:]], axis=-1)


def _opened(drawing: Drawing, side: int) -> Image.Image:
    """A drawing as straight RGBA; an SVG is rasterised to `side` pixels a side."""
    try:
        if isinstance(drawing, str):
            drawing = bytes(
                _resvg().svg_to_bytes(svg_string=drawing, width=side, height=side, skip_system_fonts=True)
            )
        return Image.open(io.BytesIO(drawing)).convert("RGBA")
    except (OSError, ValueError) as error:
        raise DataError(f"the drawing cannot be read: {error}") from error


def _resvg() -> Any:
    try:
        import resvg_py
    except ImportError as error:
        raise DataError("rendering stickers needs resvg: pip install 'fewstep[train]'") from error
    return resvg_py
