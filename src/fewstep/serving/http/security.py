"""Who may call: API keys, the Host and Origin of browsers, and how much a body may hold. Pure ASGI."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fewstep.serving.http.errors import ApiError

OPEN = ("/healthz", "/readyz", "/v1/images/files/", "/studio/")
"""What needs no key: for whoever watches over the server, images, whose ids nobody can guess, for pages, and the
studio's own files, which ask for one themselves."""

PROTOCOL = "fewstep.live"
"""The WebSocket's subprotocol."""

KEY_PROTOCOL = "fewstep.key."
"""What a page's API key follows among the subprotocols: a browser lets it set no header of a WebSocket."""


def hashed(key: str) -> str:
    """What is kept of an API key. Keys are long and random, so a fast hash is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_key() -> tuple[str, str]:
    """A fresh API key and what to keep of it."""
    key = f"fs-{secrets.token_urlsafe(32)}"
    return key, hashed(key)


def read_keys(file: Path) -> tuple[str, ...]:
    """The hashes in a keys file: one a line, a name may follow; # begins a comment.

    Raises:
        ValueError: a line is no hash, or there is none.
    """
    keys = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words[0]) != 64 or set(words[0]) - set("0123456789abcdef"):
            raise ValueError(f"'{file}' line {number} is no hashed key: make one with 'fewstep serve-key'")
        keys.append(words[0])
    if not keys:
        raise ValueError(f"'{file}' holds no key: make one with 'fewstep serve-key'")
    return tuple(keys)


class HostGuard:
    """Lets requests pass that call this server by a name of its own, and no page from elsewhere that is not named.

    A page in a browser can send requests to this machine: its Origin must be named, and the Host must be one
    of the server's own, or a name that was made to point here (DNS rebinding) could speak for us.

    Args:
        app: what is guarded.
        hosts: the server's names, without ports; none lets every name pass.
        origins: of pages that may call, such as https://example.org.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._app, self._hosts, self._origins = app, frozenset(hosts), frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                self._check(_headers(scope))
            except ApiError as error:
                await _refuse(scope, receive, send, error)
                return
        await self._app(scope, receive, send)

    def _check(self, headers: dict[str, str]) -> None:
        named = headers.get("host", "")
        try:
            host = urlsplit(f"//{named}").hostname or ""
        except ValueError:
            raise ApiError(400, f"Host is no name: '{named}'", "host", "wrong_host") from None
        if self._hosts and host not in self._hosts:
            raise ApiError(403, f"this server is not called '{host}': add it to --hosts", "host", "wrong_host")
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and origin.partition("://")[2] != named:
            raise ApiError(403, f"pages from {origin} may not call: add it to --origins", "origin", "wrong_origin")


class ApiKeyAuth:
    """Lets requests pass that have an API key and a body that is not too large; `state.client` says whose they are.

    Args:
        app: what is guarded.
        keys: hashes of API keys; none lets everybody in, and clients are told apart by their addresses.
        max_body_bytes: of a body.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str], max_body_bytes: int) -> None:
        self._app, self._keys, self._most = app, tuple(keys), max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            scope.setdefault("state", {})["client"] = self._check(scope, _headers(scope))
        except ApiError as error:
            await _refuse(scope, receive, send, error)
            return
        await self._app(scope, _Limited(receive, self._most), send)

    def _check(self, scope: Scope, headers: dict[str, str]) -> str:
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._most:
            raise ApiError(413, f"the body must have at most {self._most} bytes, got {length}", None, "too_large")
        if not self._keys or scope["path"] == "/" or scope["path"].startswith(OPEN):
            return str((scope.get("client") or ("",))[0])
        kind, _, key = headers.get("authorization", "").partition(" ")
        given = hashed(key.strip()) if kind.lower() == "bearer" else ""
        for protocol in scope.get("subprotocols", ()):
            if not given and protocol.startswith(KEY_PROTOCOL):
                given = hashed(protocol.removeprefix(KEY_PROTOCOL))
        if not sum(hmac.compare_digest(given, known) for known in self._keys):  # all of them, in equal time
            raise ApiError(401, "give an API key: Authorization: Bearer …", None, "invalid_api_key")
        return given[:16]


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


class _Limited:
    """A request's body, cut off with an error beyond `most` bytes."""

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
    if error.status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
