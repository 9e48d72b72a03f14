"""Images that a request names by a URL: fetched from public addresses only, and only if the settings allow it.

A URL can name this machine, the network behind it, or a host name that points there. So the addresses of a name are
checked, the connection is made to the very address that was checked, and every redirect is handled the same way.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urljoin, urlsplit

from fewstep.serving.engine.errors import InputError

REDIRECTS = 3
SECONDS = 10.0
_HIDDEN = [ipaddress.ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")]
"""IPv6 prefixes that embed an IPv4 address: NAT64, 6to4 and Teredo."""


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    if mapped is not None:
        return is_public(str(mapped))
    hidden = any(found in network for network in _HIDDEN if network.version == found.version)
    local = found.is_multicast or found.is_reserved or getattr(found, "is_site_local", False)
    return found.is_global and not local and not hidden


def fetch(url: str, field: str, max_bytes: int, may: Callable[[str], bool] = is_public) -> bytes:
    """Fetch the bytes behind a URL.

    Args:
        url: http or https URL.
        field: name of the field it came in, for error messages.
        max_bytes: largest response, in bytes.
        may: function that tells whether an address may be connected to.

    Raises:
        InputError: it is not a valid URL, leads to a forbidden address, or does not give a file.
    """
    until = time.monotonic() + SECONDS
    for _ in range(1 + REDIRECTS):
        try:
            parts = urlsplit(url)
            secure, port = parts.scheme == "https", parts.port
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
                raise ValueError("it must be an http or https URL without a user")
            target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
            connection = _connected(parts.hostname, port or (443 if secure else 80), field, may, until)
            with _cut_at(until, connection):
                if secure:
                    connection.default_port = 443
                    context = ssl.create_default_context()
                    connection.sock = context.wrap_socket(connection.sock, server_hostname=parts.hostname)
                connection.request("GET", target, headers={"accept": "image/*", "user-agent": "fewstep"})
                answer = connection.getresponse()
                if answer.status in (301, 302, 303, 307, 308):
                    url = urljoin(url, answer.headers.get("location", ""))
                    continue
                if answer.status != 200:
                    raise InputError(field, f"{field}: the URL answered {answer.status}", "invalid_url")
                data = _read(answer, field, max_bytes)
            if time.monotonic() < until:  # a response of unknown length is complete when it ends, unless it was cut
                return data
            raise TimeoutError
        except InputError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            said = f"could not be fetched: {str(error) or type(error).__name__}"
            if time.monotonic() >= until:
                said = f"took more than {SECONDS:g} seconds to fetch"
            raise InputError(field, f"{field} {said}", "invalid_url") from None
    raise InputError(field, f"{field} redirects more than {REDIRECTS} times", "invalid_url")


@contextlib.contextmanager
def _cut_at(until: float, connection: http.client.HTTPConnection) -> Iterator[None]:
    """Close a connection on exit, and cut it at `until` in any case: a site that sends a byte now and then would
    never run into a socket time-out."""
    twin = connection.sock.dup()  # TLS detaches the original socket

    def cut() -> None:
        with contextlib.suppress(OSError):  # it is already closed
            twin.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, until - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        twin.close()
        connection.close()


def _connected(
    host: str, port: int, field: str, may: Callable[[str], bool], until: float
) -> http.client.HTTPConnection:
    """A connection to the first of the host's addresses that answers; all of them must be allowed."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    if not addresses or not all(map(may, addresses)):
        raise InputError(field, f"{field} must lead to a public address", "forbidden_url")
    connection = http.client.HTTPConnection(host, port)
    for address in addresses:
        try:
            connection.sock = socket.create_connection((address, port), max(0.1, until - time.monotonic()))
            return connection
        except OSError as error:
            failed = error
    raise failed


def _read(answer: http.client.HTTPResponse, field: str, most: int) -> bytes:
    data = bytearray()
    while part := answer.read1(65536):
        data += part
        if len(data) > most:
            raise InputError(field, f"{field} must have at most {most} bytes", "too_large")
    if answer.length:  # `read1` does not mind
        raise http.client.IncompleteRead(bytes(data), answer.length)
    return bytes(data)
