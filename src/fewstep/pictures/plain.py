"""Checks that turn a value into a plain, JSON-safe one, or raise an error that says which field is wrong and how.

Python's built-in types are tried first: checking whether a value implements a protocol takes microseconds, and every
image needs dozens of these checks.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import SupportsFloat, SupportsIndex, TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Check: TypeAlias = Callable[[str, object], Json]

_ID = re.compile(r"[0-9a-f]{32}")
_HASH = re.compile(r"(?:[a-z0-9]+:)?[0-9a-f]{8,128}")
_PATH = re.compile(r"[/\\~]|\.{1,2}[/\\]|[A-Za-z]:[/\\]|file:", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_LABEL = 200
_DEEPEST = 32  # largest nesting depth of lists and mappings, since reading and writing them recurses


class ProvenanceError(ValueError):
    """A record, or a file that should contain one, is not valid."""


def text(name: str, value: object) -> str:
    """Any string."""
    if not isinstance(value, str):
        raise ProvenanceError(f"{name} must be a string, got {value!r}")
    return value


def label(name: str, value: object) -> str:
    """A short name: one line, and not a file path, since a path may reveal the machine and its user."""
    word = text(name, value)
    if _PATH.match(word):
        raise ProvenanceError(f"{name} must be a name, not a file path, got {word!r}")
    if _CONTROL.search(word) or len(word) > _LONGEST_LABEL:
        raise ProvenanceError(f"{name} must be one line of at most {_LONGEST_LABEL} characters, got {word!r}")
    return word


def identifier(name: str, value: object) -> str:
    """A random record id."""
    word = text(name, value)
    if not _ID.fullmatch(word):
        raise ProvenanceError(f"{name} must be 32 hexadecimal digits, got {word!r}")
    return word


def digest(name: str, value: object) -> str:
    """A hash or record id, with or without the name of the algorithm in front (`sha256:…`)."""
    word = text(name, value)
    if not _HASH.fullmatch(word):
        raise ProvenanceError(f"{name} must be a hash such as 'sha256:0123abcd…', got {word!r}")
    return word


def moment(name: str, value: object) -> str:
    """An ISO 8601 time in UTC, stored as written."""
    word = text(name, value)
    try:
        offset = datetime.fromisoformat(word).utcoffset()
    except ValueError:
        offset = None
    if offset != timedelta(0):
        raise ProvenanceError(f"{name} must be an ISO 8601 time in UTC, got {word!r}")
    return word


def whole(least: int) -> Check:
    """A whole number that is at least `least`."""

    def check(name: str, value: object) -> int:
        if type(value) is int and value >= least:
            return value
        if isinstance(value, bool) or not isinstance(value, SupportsIndex) or operator.index(value) < least:
            raise ProvenanceError(f"{name} must be a whole number of at least {least}, got {value!r}")
        return operator.index(value)

    return check


def number(name: str, value: object) -> float:
    """A finite number; NaN and infinity do not exist in JSON."""
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        raise ProvenanceError(f"{name} must be a number, got {value!r}")
    try:
        plain = float(value)
    except OverflowError:
        plain = math.inf
    if not math.isfinite(plain):
        raise ProvenanceError(f"{name} must be finite, got {value!r}")
    return plain


def optional(check: Check) -> Check:
    """None, or what `check` accepts."""
    return lambda name, value: None if value is None else check(name, value)


def each(check: Check) -> Check:
    """A list, each item of which passes `check`; stored as a tuple."""

    def checked(name: str, value: object) -> Json:
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            raise ProvenanceError(f"{name} must be a list, got {value!r}")
        return tuple(check(f"{name}[{i}]", item) for i, item in enumerate(value))

    return checked


def pair(first: Check, second: Check) -> Check:
    """A list of exactly two items; stored as a tuple."""

    def checked(name: str, value: object) -> Json:
        if isinstance(value, str | bytes) or not isinstance(value, Sequence) or len(value) != 2:
            raise ProvenanceError(f"{name} must be a pair, got {value!r}")
        return (first(f"{name}[0]", value[0]), second(f"{name}[1]", value[1]))

    return checked


def mapping(check: Check) -> Check:
    """A mapping from names to what `check` accepts; stored as a new dict."""

    def checked(name: str, value: object) -> dict[str, Json]:
        if not isinstance(value, Mapping):
            raise ProvenanceError(f"{name} must be a mapping, got {value!r}")
        return {text(f"a key of {name}", key): check(f"{name}.{key}", item) for key, item in value.items()}

    return checked


def anything(string: Check) -> Check:
    """Any JSON value, copied into plain types; every string in it must pass `string`."""
    return _nested(string, _DEEPEST)


def _nested(string: Check, room: int) -> Check:
    """`anything`, with at most `room` further levels of lists and mappings."""

    def inner(name: str, value: object) -> Json:
        if room == 0:
            raise ProvenanceError(f"{name[:80]}… must be nested at most {_DEEPEST} deep")
        return _nested(string, room - 1)(name, value)

    def checked(name: str, value: object) -> Json:
        if value is None or isinstance(value, bool) or type(value) is int:
            return value
        if type(value) is float:
            return number(name, value)
        if isinstance(value, str):
            return string(name, value)
        if isinstance(value, Mapping):
            return mapping(inner)(name, value)
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
            return [inner(f"{name}[{i}]", item) for i, item in enumerate(value)]
        if isinstance(value, SupportsIndex):
            return operator.index(value)
        if isinstance(value, SupportsFloat):
            return number(name, value)
        raise ProvenanceError(f"{name} must be a JSON value, got {value!r}")

    return checked
