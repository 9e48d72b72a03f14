"""Access control: API keys, the Host and Origin sent by browsers, and the size of bodies. Pure ASGI."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fewstep.serving.http.api_errors import ApiError

OPEN = ("/healthz", "/readyz", "/v1/images/files/", "/studio/")
"""Paths that need no key: health checks, images with a signed URL, and the studio's files, which ask for a key
themselves."""

PROTOCOL = "fewstep.live"
"""The WebSocket's subprotocol."""

_HOST = re.compile(r"([\w.-]*|\[[0-9a-f:.]+\])(:\d*)?", re.ASCII | re.IGNORECASE)

KEY_PROTOCOL = "fewstep.key."
"""The prefix of an API key among the subprotocols, since browsers do not let pages set headers of a WebSocket."""


def hashed(key: str) -> str:
    """The stored hash of an API key. Keys are long and random, so a fast hash is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_key() -> tuple[str, str]:
    """A new API key and its hash."""
    key = f"fs-{secrets.token_urlsafe(32)}"
    return key, hashed(key)


def read_keys(file: Path) -> tuple[str, ...]:
    """The hashes in a keys file: one per line, optionally followed by a name; # begins a comment.

    Raises:
        ValueError: a line is not a hash, or the file has no hashes.
    """
    keys = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words[0]) != 64 or set(words[0]) - set("0123456789abcdef"):
            raise ValueError(f"'{file}' line {number} is not a hashed key: make one with 'fewstep serve-key'")
        keys.append(words[0])
    if not keys:
        raise ValueError(f"'{file}' holds no key: make one with 'fewstep serve-key'")
    return tuple(keys)


class HostGuard:
    """Refuses requests with an unknown Host, and those of web pages with an unknown Origin.

    A page in a browser can send requests to this machine, so its Origin must be allowed; and the Host must be one of
    the server's own names, as protection against foreign names that are made to point here (DNS rebinding).

    Args:
        app: the application behind it.
        hosts: the server's names, without ports; if empty, every name is allowed.
        origins: origins of pages that may call, such as https://example.org.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._app, self._hosts, self._origins = app, frozenset(hosts), frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                _check_once(scope)
                self._check(_headers(scope))
            except ApiError as error:
                await _refuse(scope, receive, send, error)
                return
        await self._app(scope, receive, send)

    def _check(self, headers: dict[str, str]) -> None:
        named = headers.get("host", "")
        if not _HOST.fullmatch(named):
            raise ApiError(400, f"Host must be a name and maybe a port, got '{named[:200]}'", "host", "wrong_host")
        try:
            host = urlsplit(f"//{named}").hostname or ""
        except ValueError:
            raise ApiError(400, f"Host is not a name: '{named[:200]}'", "host", "wrong_host") from None
        if self._hosts and host not in self._hosts:
            raise ApiError(403, f"this server is not called '{host}': add it to --hosts", "host", "wrong_host")
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and origin.partition("://")[2] != named:
            raise ApiError(403, f"pages from {origin} may not call: add it to --origins", "origin", "wrong_origin")


class ApiKeyAuth:
    """Refuses requests without an API key or with too large a body, and identifies the client of the others.

    `state.client` is the client for fair queueing: the key, or the address if there are no keys. `state.owner` is the
    owner whose images it may use: the key, or empty if there are no keys.

    Args:
        app: the application behind it.
        keys: hashes of API keys; if empty, no key is required.
        max_body_bytes: the largest body, in bytes.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str], max_body_bytes: int) -> None:
        self._app, self._keys, self._most = app, tuple(keys), max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            owner = self._check(scope, _headers(scope))
            address = str((scope.get("client") or ("",))[0])
            scope.setdefault("state", {}).update(client=owner or address, owner=owner)
        except ApiError as error:
            await _refuse(scope, receive, send, error)
            return
        await self._app(scope, _Limited(receive, self._most), send)

    def _check(self, scope: Scope, headers: dict[str, str]) -> str:
        """The owner: a prefix of the key's hash, or empty for requests that need no key."""
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._most:
            raise ApiError(413, f"the body must have at most {self._most} bytes, got {length}", None, "too_large")
        if not self._keys:
            return ""
        given = hashed(_given_key(scope, headers))
        if sum(hmac.compare_digest(given, known) for known in self._keys):  # all of them, in constant time
            return given[:16]
        if scope["path"] == "/" or scope["path"].startswith(OPEN):
            return ""
        challenge = {"www-authenticate": 'Bearer realm="fewstep"'}
        raise ApiError(401, "give an API key: Authorization: Bearer …", None, "invalid_api_key", challenge)


def _given_key(scope: Scope, headers: dict[str, str]) -> str:
    """The key in a request's Authorization, or among a WebSocket's subprotocols; empty if there is none."""
    kind, _, key = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return key.strip()
    protocols = (name for name in scope.get("subprotocols", ()) if name.startswith(KEY_PROTOCOL))
    return next(protocols, "").removeprefix(KEY_PROTOCOL)


class UrlSigner:
    """Signs the URLs of images, so that whoever was given one can load the image without an API key.

    An image's id alone is not secret: it is in the record of the image and of everything made from it.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def url(self, base_url: str, id: str) -> str:
        """The signed URL of an image."""
        return f"{base_url}/v1/images/files/{id}?signature={self._signature(id)}"

    def is_valid(self, id: str, signature: str) -> bool:
        """Whether a signature is valid for an image."""
        return hmac.compare_digest(self._signature(id).encode(), signature.encode())

    def _signature(self, id: str) -> str:
        return hmac.new(self._secret, id.encode(), "sha256").hexdigest()[:32]


def _check_once(scope: Scope) -> None:
    """Refuse a second Host or Authorization, of which a proxy may have checked the other one."""
    names = [name for name, _ in scope["headers"]]
    for name in (b"host", b"authorization"):
        if names.count(name) > 1:
            raise ApiError(400, f"the header {name.decode()} must be given once", None, "invalid_http")


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


class _Limited:
    """The receive channel of a request, which refuses bodies of more than `most` bytes."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._left, self._most = receive, most, most

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise ApiError(413, f"the body must have at most {self._most} bytes", None, "too_large")
        return message


async def _refuse(scope: Scope, receive: Receive, send: Send, error: ApiError) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4000 + error.status, "reason": error.message[:120]})
        return
    body = json.dumps(error.body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
    if error.status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
