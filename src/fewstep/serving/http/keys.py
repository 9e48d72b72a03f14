"""API keys: their hashes, names, scopes, dates and quotas, in a file that is read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fewstep.serving.engine.quotas import Quota

SCOPES = ("draw", "metrics", "admin")
"""What a key may do: everything that draws or shows images, /metrics, and what changes the server (/admin)."""

USUAL = SCOPES[:2]
"""What a key may do whose line does not say."""

log = logging.getLogger("fewstep.serving")


def hashed(key: str) -> str:
    """The stored hash of an API key. Keys are long and random, so a fast hash is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_key() -> tuple[str, str]:
    """A new API key and its hash."""
    key = f"fs-{secrets.token_urlsafe(32)}"
    return key, hashed(key)


@dataclass(frozen=True)
class Key:
    """An API key.

    Args:
        hash: its hash.
        name: whose it is, for the log.
        scopes: what it may do.
        expires: when it ends; None for never.
        per_minute: most requests in a minute; None for no bound.
        per_day: most images in a day; None for no bound.
    """

    hash: str
    name: str = ""
    scopes: frozenset[str] = frozenset(USUAL)
    expires: datetime | None = None
    per_minute: int | None = None
    per_day: int | None = None
    quota: Quota = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "quota", Quota(self.per_minute, self.per_day))

    @property
    def owner(self) -> str:
        """The owner of its images: a prefix of the hash."""
        return self.hash[:16]

    def has_expired(self) -> bool:
        """Whether it has ended."""
        return self.expires is not None and datetime.now(UTC) >= self.expires


def read_keys(file: Path) -> tuple[Key, ...]:
    """The keys in a file, one per line: the hash, words of a name, and settings such as `scope=draw`,
    `expires=2027-01-31`, `per-minute=60` and `per-day=1000`. A # begins a comment.

    Raises:
        ValueError: a line cannot be read, or the file has no keys.
        OSError: the file cannot be read.
    """
    keys = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            try:
                keys.append(_key(words))
            except ValueError as error:
                raise ValueError(f"'{file}' line {number} {error}") from None
    if not keys:
        raise ValueError(f"'{file}' holds no key: make one with 'fewstep serve-key'")
    return tuple(keys)


def _key(words: list[str]) -> Key:
    hash, *more = words
    if len(hash) != 64 or set(hash) - set("0123456789abcdef"):
        raise ValueError("is not a hashed key: make one with 'fewstep serve-key'")
    given = dict(word.split("=", 1) for word in more if "=" in word)
    if unknown := sorted(given.keys() - _SETTINGS.keys()):
        raise ValueError(f"has no setting {unknown[0]}: use {', '.join(_SETTINGS)}")
    values: dict[str, Any] = {_SETTINGS[name][0]: _SETTINGS[name][1](name, text) for name, text in given.items()}
    return Key(hash, " ".join(word for word in more if "=" not in word), **values)


def _scopes(name: str, text: str) -> frozenset[str]:
    scopes = frozenset(text.split(","))
    if unknown := sorted(scopes - set(SCOPES)):
        raise ValueError(f"{name} must be of {', '.join(SCOPES)}, got {unknown[0]!r}")
    return scopes


def _date(name: str, text: str) -> datetime:
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name} must be a date such as 2027-01-31, got {text!r}") from None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _count(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{name} must be a number of at least 1, got {text!r}")
    return int(text)


_SETTINGS: Mapping[str, tuple[str, Callable[[str, str], object]]] = {
    "scope": ("scopes", _scopes),
    "expires": ("expires", _date),
    "per-minute": ("per_minute", _count),
    "per-day": ("per_day", _count),
}


class KeyRing:
    """The keys of a file, read again when it changes; without a file, none are needed.

    Args:
        file: the keys file, or None.
        every: seconds between two looks at the file.

    Raises:
        ValueError: the file holds no keys, or a line cannot be read.
    """

    def __init__(self, file: Path | None, every: float = 1.0) -> None:
        self._file, self._every = file, every
        self._seen = None if file is None else _version(file)
        self._keys = () if file is None else read_keys(file)
        self._looked = time.monotonic()

    @property
    def is_empty(self) -> bool:
        """Whether no keys are needed."""
        return self._file is None

    def find(self, given: str) -> Key | None:
        """The key with this text; None if there is none."""
        self._look()
        hash = hashed(given)
        known = [key for key in self._keys if hmac.compare_digest(hash, key.hash)]  # all of them, in constant time
        return known[0] if known else None

    def _look(self) -> None:
        now = time.monotonic()
        if self._file is None or now - self._looked < self._every:
            return
        self._looked = now
        try:
            version = _version(self._file)
            if version != self._seen:
                self._seen = version
                self._take(read_keys(self._file))
        except (OSError, ValueError) as error:
            if self._seen is not None:
                log.error("keys not read again, the old ones stay: %s", error)
            self._seen = None

    def _take(self, keys: tuple[Key, ...]) -> None:
        before = {key: key.quota for key in self._keys}  # what an unchanged key has used stays used
        for key in keys:
            object.__setattr__(key, "quota", before.get(key, key.quota))
        self._keys = keys
        log.info("%d API keys read from '%s'", len(keys), self._file)


def _version(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
