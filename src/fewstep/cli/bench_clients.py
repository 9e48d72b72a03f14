"""`fewstep bench clients`: clients of others against this server."""

from __future__ import annotations

from pathlib import Path

from fewstep.cli.benchmarks import lab_packages
from fewstep.cli.options import ModelName
from fewstep.cli.output import check_json, progress, say, say_table, write_json


def clients(
    model: ModelName = "emoji",
    /,
    url: str | None = None,
    only: tuple[str, ...] = (),
    cache: Path = Path("~/.cache/fewstep/clients"),
    json: str | None = None,
) -> int:
    """Run the clients that others wrote against this server, and show what they sent and what came back.

    Each client is installed, with pinned versions, into an environment of its own: those in Python with pip, the
    others with npm. Their scripts are in examples/clients. It fails if one of them does not get what it wants.

    Args:
        model: The model to serve.
        url: A server that runs already; if left out, one is started.
        only: Names of the clients to run; all if left out.
        cache: Folder of the environments.
        json: Write the rows as JSON to this file, or to standard output with -.
    """
    check_json(json)
    with lab_packages():
        from fewstep.lab.clients import run_clients, tools
        from fewstep.lab.serving import served

    place = cache.expanduser()
    if url is not None:
        rows = list(run_clients(url.rstrip("/"), place, only, progress))
    else:
        with served(model) as server:
            rows = list(run_clients(f"http://127.0.0.1:{server.port}", place, only, progress))
    versions = tools()
    say_table(rows, json)
    say(", ".join(f"{name} {version}" for name, version in versions.items()), json)
    write_json(json, {"clients": rows, **versions})
    return int(any(row["got"].startswith("failed: ") for row in rows))
