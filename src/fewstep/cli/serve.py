"""`fewstep serve` and `fewstep serve-key`."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from fewstep.cli.output import say

if TYPE_CHECKING:
    from fewstep.generation import Model
    from fewstep.serving.settings import ServeSettings


def serve(arguments: Sequence[str]) -> int:
    """Serve a model over HTTP: OpenAI's Images API at /v1, MCP at /mcp.

    Settings are read from options, from environment variables FEWSTEP_SERVE_… and from a TOML file (--file), in this
    order of precedence.
    """
    try:
        from fewstep.serving.app import build_desk
        from fewstep.serving.engine.tracing import Traces
        from fewstep.serving.server import Server
    except ImportError as error:
        raise _uninstalled(error) from error
    from fewstep.engines.machine import on_cpus
    from fewstep.generation import load
    from fewstep.models.finding import find

    settings = _settings(arguments)
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    for chatty in ("uvicorn.error", "mcp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    _on_hangup(lambda: None)  # everything is read anyway before it is ready
    listening = _listen(settings.host, settings.port)
    host, port = listening.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    _share_the_heap()
    with on_cpus(settings.network_cpus):
        model = load(settings.model[0], settings.engine, settings.device, settings.threads, settings.precision)
    others = [find(name) for name in settings.model[1:]]
    names = [model.name, *(saved.spec.name for saved in others)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two of the models are called '{twice}': requests could not tell them apart")
    logging.getLogger(__name__).info("settings: %s", settings.shown())

    def ready() -> None:
        gc.collect()
        gc.freeze()  # what is loaded by now stays loaded: garbage collection need not scan it again and again
        print(_hello(url, model), flush=True)

    server = Server(build_desk(settings, model, Traces.from_environment(), others), settings, ready)
    _on_hangup(lambda: server.reload(_settings(arguments)))
    sys.stdout.flush()  # at once, also into a pipe
    server.run(sockets=[listening])
    return 0


def serve_key(name: str = "", /) -> int:
    """Create an API key for `fewstep serve --keys-file`: print the key, which is shown only once, and its file entry.

    Args:
        name: Written after the hash, to tell whose key it is.
    """
    if not name.isprintable():
        raise ValueError(f"a name must be printable, on one line, got {name!r}")
    try:
        from fewstep.serving.http.keys import new_key
    except ImportError as error:
        raise _uninstalled(error) from error

    key, kept = new_key()
    say(f"key, for the client:       {key}\nline, for the --keys-file: {kept} {name}".rstrip(), None)
    return 0


def _on_hangup(reload: Callable[[], None]) -> None:
    """Read the settings again on SIGHUP, where there is one; wrong ones are logged and change nothing."""

    def hung_up(number: int, frame: FrameType | None) -> None:
        try:
            reload()
        except (ValueError, OSError) as error:
            logging.getLogger("fewstep.serving").error("settings not read again, the old ones stay: %s", error)

    if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, hung_up)


def _uninstalled(error: ImportError) -> ImportError:
    return ImportError(f"serving needs the package '{error.name}': pip install 'fewstep[serve]'")


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, opened before anything slow is loaded, so that a port already in use is reported at once.

    Raises:
        ValueError: the address is not valid, or already in use.
    """
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        raise ValueError(f"cannot listen at {host}, port {port}: {error.strerror or error}") from None
    return listening


def _settings(arguments: Sequence[str]) -> ServeSettings:
    from pydantic import ValidationError
    from pydantic_settings import CliApp, SettingsError

    from fewstep.serving.settings import ServeSettings, wrong_setting

    file = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    file.add_argument("--file", type=Path)
    try:
        named, _ = file.parse_known_args(list(arguments))
        return CliApp.run(ServeSettings, cli_args=list(arguments), **({"file": named.file} if named.file else {}))
    except ValidationError as error:
        raise ValueError(wrong_setting(error, arguments)) from None
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from None
    except SettingsError as error:
        raise ValueError(f"{str(error).removeprefix('error parsing CLI: ')}; see fewstep serve --help") from None


def _share_the_heap() -> None:
    """Limit glibc to two heaps for all threads: with its default of one per thread, memory grows for hours."""
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
    except (AttributeError, OSError, TypeError):
        return  # another C library, which allocates differently


_M_ARENA_MAX = -8  # malloc.h


def _hello(url: str, model: Model) -> str:
    """The message at start: the address of the server, and a first request that this model can answer."""
    conditioning = model.spec.conditioning
    label = {"label": 3 % conditioning.classes} if conditioning.classes else {}
    body = json.dumps({"prompt": "a red apple" if conditioning.text_length else "", **label, "seed": 7})
    ask = f"curl -s {url}/v1/images/generations -H 'content-type: application/json' -d '{body}'"
    save = "python3 -c 'import base64, json, sys; sys.stdout.buffer.write("
    save += 'base64.b64decode(json.load(sys.stdin)["data"][0]["b64_json"]))\''
    return "\n".join(
        [
            f"fewstep serves '{model.name}' at {url}/v1 (OpenAI's Images API) and {url}/mcp; Ctrl-C stops it.",
            f"The studio, where a sketch becomes a picture, is at {url}/. Or try:",
            f"  {ask} | {save} > first.png",
        ]
    )
