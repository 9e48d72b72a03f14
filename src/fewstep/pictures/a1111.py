"""The text format common among image tools: A1111's `parameters`, and its place in EXIF (UserComment).

Readers take the last line as the settings, the lines from `Negative prompt:` on as the negative prompt and the
rest as the prompt.
"""

import json
import struct

from fewstep.pictures.record import Record

_SHORT_HASH = 10  # digits of a SHA-256 by which model sites look up models
_MARKER_LIMIT = 65533  # bytes in one JPEG marker
_EXIF_PREFIX = b"Exif\0\0"
# A big-endian TIFF of one directory that points to another, which holds the UserComment and nothing else.
_TIFF_HEAD = struct.Struct(">2sHI HHHIII HHHIII")
_CHARACTER_CODE = b"UNICODE\0"


def parameters(record: Record) -> str:
    """The record in A1111's format, which lacks some of it, such as levels, engine and parents."""
    settings: list[tuple[str, object]] = [
        ("Steps", record.steps),
        ("Sampler", record.sampler),
        ("CFG scale", None if record.guidance is None else f"{record.guidance:.10g}"),
        ("Seed", record.seed),
        ("Size", f"{record.size[0]}x{record.size[1]}"),
        ("Model hash", record.model_hash.rpartition(":")[2][:_SHORT_HASH]),
        ("Model", record.model),
    ]
    if version := record.software.get("fewstep"):
        settings.append(("Version", f"fewstep {version}"))
    lines = [record.prompt]
    if record.negative_prompt:
        lines.append(f"Negative prompt: {record.negative_prompt}")
    lines.append(", ".join(f"{name}: {_quoted(str(v))}" for name, v in settings if v is not None))
    return _encodable("\n".join(lines))


def exif(record: Record) -> bytes:
    """An EXIF block whose UserComment is the A1111 text, small enough for a JPEG marker.

    Both the block and its text are big-endian, as A1111 itself writes them, so that readers that take the byte
    order from the block and readers that assume UTF-16BE agree. A prompt too long for the marker is cut here with
    an ellipsis; the settings are always complete, and the full record has the full prompt.
    """
    room = _MARKER_LIMIT - len(_EXIF_PREFIX) - _TIFF_HEAD.size - len(_CHARACTER_CODE)
    comment = _CHARACTER_CODE + _shortened(parameters(record), room)
    pointer, user_comment = 0x8769, 0x9286
    long, undefined = 4, 7  # Pillow would store the comment as numbers (BYTE), which A1111 cannot read
    directory, data = 26, _TIFF_HEAD.size
    head = _TIFF_HEAD.pack(
        *(b"MM", 42, 8),
        *(1, pointer, long, 1, directory, 0),
        *(1, user_comment, undefined, len(comment), data, 0),
    )
    return _EXIF_PREFIX + head + comment


def _quoted(value: str) -> str:
    """The value; one that contains a separator becomes a JSON string, as A1111 writes and reads it."""
    return json.dumps(value, ensure_ascii=False) if any(c in value for c in ",:\n") else value


def _encodable(text: str) -> str:
    # NUL ends a PNG text field, and half a surrogate pair cannot be encoded in UTF-8.
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _shortened(text: str, limit: int) -> bytes:
    whole = text.encode("utf-16-be")
    if len(whole) <= limit:
        return whole
    prompts, _, settings = text.rpartition("\n")
    rest = f"…\n{settings}".encode("utf-16-be")
    # A cut between the two halves of a surrogate pair drops the first half too.
    kept = prompts.encode("utf-16-be")[: (limit - len(rest)) // 2 * 2].decode("utf-16-be", "ignore")
    return kept.encode("utf-16-be") + rest
