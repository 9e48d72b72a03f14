"""Access control: API keys, the Host and Origin sent by browsers, and the size of bodies. Pure ASGI."""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fewstep.serving.http.api_errors import ApiError
from fewstep.serving.http.keys import Key, KeyRing

OPEN = ("/healthz", "/readyz", "/v1/images/files/", "/studio/")
"""Paths that need no key: health checks, images with a signed URL, and the studio's files, which ask for a key
themselves."""

PROTOCOL = "fewstep.live"
"""The WebSocket's subprotocol."""

_HOST = re.compile(r"([\w.-]*|\[[0-9a-f:.]+\])(:\d*)?", re.ASCII | re.IGNORECASE)

KEY_PROTOCOL = "fewstep.key."
"""The prefix of an API key among the subprotocols, since browsers do not let pages set headers of a WebSocket."""


@dataclass
class Access:
    """Who may call, replaced as a whole when the settings are read again.

    Args:
        hosts: the server's names, without ports; if empty, every name is allowed.
        origins: origins of pages that may call, such as https://example.org.
        keys: the API keys.
    """

    hosts: frozenset[str]
    origins: frozenset[str]
    keys: KeyRing

    def replace(self, other: Access) -> None:
        """Take another one's values."""
        self.hosts, self.origins, self.keys = other.hosts, other.origins, other.keys


class HostGuard:
    """Refuses requests with an unknown Host, and those of web pages with an unknown Origin.

    A page in a browser can send requests to this machine, so its Origin must be allowed; and the Host must be one of
    the server's own names, as protection against foreign names that are made to point here (DNS rebinding).

    Args:
        app: the application behind it.
        access: who may call.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

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
        if self._access.hosts and host not in self._access.hosts:
            raise ApiError(403, f"this server is not called '{host}': add it to --hosts", "host", "wrong_host")
        origin = headers.get("origin")
        if origin is not None and origin not in self._access.origins and origin.partition("://")[2] != named:
            raise ApiError(403, f"pages from {origin} may not call: add it to --origins", "origin", "wrong_origin")


class ApiKeyAuth:
    """Refuses requests without an API key or with too large a body, and identifies the client of the others.

    `state.client` is the client for fair queueing: the key, or the address if there are no keys. `state.owner` is the
    owner whose images it may use: the key, or empty if there are no keys. `state.quota` is what the key may still ask
    for, or None.

    Args:
        app: the application behind it.
        access: who may call.
        max_body_bytes: the largest body, in bytes.
    """

    def __init__(self, app: ASGIApp, access: Access, max_body_bytes: int) -> None:
        self._app, self._access, self._most = app, access, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            key = self._check(scope, _headers(scope))
            address = str((scope.get("client") or ("",))[0])
            owner, name, quota = ("", "", None) if key is None else (key.owner, key.name, key.quota)
            scope.setdefault("state", {}).update(client=owner or address, owner=owner, key_name=name, quota=quota)
        except ApiError as error:
            await _refuse(scope, receive, send, error)
            return
        await self._app(scope, _Limited(receive, self._most), send)

    def _check(self, scope: Scope, headers: dict[str, str]) -> Key | None:
        """The key of a request; None for requests that need none."""
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._most:
            raise ApiError(413, f"the body must have at most {self._most} bytes, got {length}", None, "too_large")
        if self._access.keys.is_empty:
            return None
        key = self._access.keys.find(_given_key(scope, headers))
        wanted = _scope_of(scope["path"])
        if key is not None and not key.has_expired() and wanted in key.scopes:
            return key
        if scope["path"] == "/" or scope["path"].startswith(OPEN):
            return None
        if key is not None and not key.has_expired():
            raise ApiError(403, f"this API key lacks the scope {wanted}", None, "insufficient_scope")
        challenge = {"www-authenticate": 'Bearer realm="fewstep"'}
        wrong = "give an API key: Authorization: Bearer …" if key is None else "this API key has expired"
        raise ApiError(401, wrong, None, "invalid_api_key", challenge)


def _scope_of(path: str) -> str:
    """The scope that a path needs."""
    if path.startswith("/admin/"):
        return "admin"
    return "metrics" if path == "/metrics" else "draw"


def _given_key(scope: Scope, headers: dict[str, str]) -> str:
    """The key in a request's Authorization (Bearer, or the password of Basic), or among a WebSocket's subprotocols;
    empty if there is none."""
    kind, _, key = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return key.strip()
    if kind.lower() == "basic":  # the only kind that clients of AUTOMATIC1111's API send; any name will do
        return _password(key.strip())
    protocols = (name for name in scope.get("subprotocols", ()) if name.startswith(KEY_PROTOCOL))
    return next(protocols, "").removeprefix(KEY_PROTOCOL)


def _password(credentials: str) -> str:
    """The password in the credentials of HTTP's basic authentication (RFC 7617); empty if they cannot be read."""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


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
    body = json.dumps(error.body_at(scope["path"])).encode()
    scope.setdefault("state", {})["refusal"] = error.reason
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
    if error.status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
