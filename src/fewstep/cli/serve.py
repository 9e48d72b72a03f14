"""`fewstep serve`."""

from __future__ import annotations

import argparse
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fewstep.cli.output import say

if TYPE_CHECKING:
    from fewstep.serving.settings import ServeSettings


def serve(arguments: Sequence[str]) -> int:
    """Serve a model over HTTP: OpenAI's Images API at /v1.

    Settings come from flags, from FEWSTEP_SERVE_… in the environment, and from a TOML file (--file), in this order.
    """
    try:
        import uvicorn

        from fewstep.serving.app import guarded
        from fewstep.serving.service import Service
    except ImportError as error:
        raise ImportError(f"serving needs the package '{error.name}': pip install 'fewstep[serve]'") from error
    from fewstep.generation import load

    settings = _settings(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    model = load(settings.model, "onnx" if settings.engine == "auto" else settings.engine, threads=settings.threads)
    service = Service(settings, model)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[object] | None = None) -> None:
            await super().startup(sockets)  # type: ignore[arg-type]
            if self.started:
                host, port = self.servers[0].sockets[0].getsockname()[:2]
                service.base_url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
                threading.Thread(target=service.warm_up, daemon=True).start()
                say(_hello(service.base_url, model.name))

    config = uvicorn.Config(
        guarded(service),
        settings.host,
        settings.port,
        log_config=None,
        access_log=False,
        ws="none",
        server_header=False,
    )
    Server(config).run()
    return 0


def _settings(arguments: Sequence[str]) -> ServeSettings:
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from fewstep.serving.settings import ServeSettings

    file = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    file.add_argument("--file", type=Path)
    named, _ = file.parse_known_args(list(arguments))
    try:
        return ServeSettings(_cli_parse_args=list(arguments), **({"file": named.file} if named.file else {}))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])).replace("_", "-")
        raise ValueError(f"{f'--{place}: ' if place else ''}{first['msg'].removeprefix('Value error, ')}") from None
    except SettingsError as error:
        raise ValueError(str(error)) from None


def _hello(url: str, model: str) -> str:
    body = '{"prompt": "a red apple", "seed": 7}'
    return "\n".join(
        [
            f"fewstep serves '{model}' at {url}/v1",
            "try:",
            f"  curl -s {url}/v1/images/generations -H 'content-type: application/json' -d '{body}'",
            f"  OpenAI(base_url='{url}/v1', api_key='none').images.generate(prompt='a red apple')",
        ]
    )
