"""The record of everything that determined an image, as plain values with an exact JSON round trip."""

import dataclasses
import functools
import json
import platform
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NoReturn

from fewstep.pictures import plain
from fewstep.pictures.plain import Check, Json, ProvenanceError

FORMAT_VERSION = 1


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything that determined one image. Values are checked and copied; a wrong one raises ProvenanceError.

    A record contains no host name, user name, path or secret: names that look like file paths are refused, and the
    only fact about the machine that is filled in automatically is its processor architecture.
    """

    prompt: str
    seed: int
    steps: int
    levels: Sequence[Sequence[float]]  # (alpha, sigma) pairs in the order in which they were visited
    sampler: str
    model: str
    model_hash: str
    size: tuple[int, int]  # (width, height) of the image as delivered

    negative_prompt: str = ""
    label: int | None = None  # the requested class
    sampler_settings: Mapping[str, Json] = field(default_factory=dict)
    guidance: float | None = None
    network_evaluations: int = 0
    native_size: tuple[int, int] | None = None  # size of the model's image before resizing; None: the same as `size`
    background: str | None = None
    recipe: str | None = None
    index: int = 0  # index of the image in its request
    parents: Sequence[str] = ()  # record ids or hashes of the images it was made from: edited, control
    unknown_words: Sequence[str] = ()
    nearest_captions: Sequence[tuple[str, float]] = ()  # (caption, similarity), nearest first
    unread_prompt: str = ""  # the end of the prompt that did not fit into the text encoder
    engine: str | None = None
    precision: str | None = None
    software: Mapping[str, str] = field(default_factory=dict)  # package -> version
    device: str = field(default_factory=platform.machine)
    timings: Mapping[str, float] = field(default_factory=dict)  # stage -> milliseconds
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: str = field(default_factory=_now)
    extra: Mapping[str, Json] = field(default_factory=dict)  # fields that this version does not know

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))
        if taken := sorted({"format_version", *_CHECKS} & set(self.extra)):
            raise ProvenanceError(f"extra must not hold fields of the record itself, got {', '.join(taken)}")

    def __hash__(self) -> int:
        return hash(self.id)  # the mappings inside cannot be hashed

    def to_dict(self) -> dict[str, Json]:
        """The record as new dicts, lists and plain values, with the format version first and unknown fields last."""
        named = {name: getattr(self, name) for name in _CHECKS if name != "extra"}
        values = {"format_version": FORMAT_VERSION, **named, **self.extra}
        return {name: _copy(name, value) for name, value in values.items()}

    def to_json(self) -> str:
        """The record as one line of ASCII JSON, which every text field of every image format can store."""
        return json.dumps(self.to_dict(), ensure_ascii=True, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "Record":
        """The record that these values describe; unknown fields go to `extra`.

        Raises ProvenanceError for a missing or wrong field and for a newer format version.
        """
        version = plain.whole(1)("format_version", values.get("format_version"))
        if version != FORMAT_VERSION:
            raise ProvenanceError(
                f"the record has format version {version}, but this fewstep reads up to {FORMAT_VERSION}: "
                "install a newer fewstep to read it"
            )
        if missing := [name for name in _REQUIRED if name not in values]:
            raise ProvenanceError(f"the record lacks {', '.join(missing)}")
        known = {name: value for name, value in values.items() if name in _CHECKS and name != "extra"}
        unknown = {name: value for name, value in values.items() if name not in {"format_version", *known}}
        return cls(**known, extra=unknown)  # type: ignore[arg-type]  # __post_init__ checks every one

    @classmethod
    def from_json(cls, source: str | bytes) -> "Record":
        """The record in a JSON text. Raises ProvenanceError if it is not valid."""
        try:
            values = json.loads(source, parse_constant=_refuse_constant)
            if not isinstance(values, dict):
                raise ProvenanceError(f"the record must be a JSON object, got a {type(values).__name__}")
            return cls.from_dict(values)
        except RecursionError as error:  # also from an error message that shows a value
            raise ProvenanceError("the record is not readable JSON: nested too deeply") from error
        except ProvenanceError:
            raise
        except ValueError as error:
            raise ProvenanceError(f"the record is not readable JSON: {error}") from error


def installed(*packages: str) -> dict[str, str]:
    """The versions of those `packages` that are installed, by name, for `Record.software`."""
    versions = {package: _version(package) for package in packages}
    return {package: version for package, version in versions.items() if version is not None}


@functools.cache
def _version(package: str) -> str | None:
    # an imported package knows its version; reading its metadata takes longer than drawing a small image
    if isinstance(said := getattr(sys.modules.get(package), "__version__", None), str):
        return said
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_copy = plain.anything(plain.text)
_size = plain.pair(plain.whole(1), plain.whole(1))

# Every field, in the order of the JSON: identity and model, then the request, then how the image was made.
_CHECKS: Mapping[str, Check] = {
    "id": plain.identifier,
    "created": plain.moment,
    "model": plain.label,
    "model_hash": plain.digest,
    "recipe": plain.optional(plain.label),
    "prompt": plain.text,
    "negative_prompt": plain.text,
    "label": plain.optional(plain.whole(0)),
    "seed": plain.whole(0),
    "index": plain.whole(0),
    "steps": plain.whole(1),
    "levels": plain.each(plain.pair(plain.number, plain.number)),
    "sampler": plain.label,
    "sampler_settings": plain.mapping(plain.anything(plain.label)),
    "guidance": plain.optional(plain.number),
    "network_evaluations": plain.whole(0),
    "size": _size,
    "native_size": plain.optional(_size),
    "background": plain.optional(plain.label),
    "parents": plain.each(plain.digest),
    "unknown_words": plain.each(plain.text),
    "nearest_captions": plain.each(plain.pair(plain.text, plain.number)),
    "unread_prompt": plain.text,
    "engine": plain.optional(plain.label),
    "precision": plain.optional(plain.label),
    "software": plain.mapping(plain.label),
    "device": plain.label,
    "timings": plain.mapping(plain.number),
    "extra": plain.mapping(_copy),
}
_REQUIRED = tuple(
    f.name
    for f in dataclasses.fields(Record)
    if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
)
