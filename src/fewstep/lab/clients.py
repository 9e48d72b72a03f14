"""Clients that others wrote, run against this server: each in an environment of its own, by its script in
examples/clients."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import fewstep

SCRIPTS = Path(fewstep.__file__).parent.parent.parent / "examples" / "clients"
"""In the source folder."""

SECONDS = 300
"""After which a client is given up."""


@dataclass(frozen=True)
class Client:
    """A client.

    Args:
        script: its script in examples/clients; .py runs in a virtual environment, .mjs in node.
        package: the package that makes the requests, with its version.
        others: further packages that it needs, with their versions.
    """

    script: str
    package: str
    others: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The package without its version."""
        return self.package.rpartition("==" if self.is_python else "@")[0]

    @property
    def version(self) -> str:
        return self.package.rpartition("==" if self.is_python else "@")[2]

    @property
    def is_python(self) -> bool:
        return self.script.endswith(".py")


CLIENTS = (
    Client("openai_python.py", "openai==2.50.0", ("Pillow==12.0.0",)),
    Client("openai_node.mjs", "openai@6.49.0"),
    Client("vercel_ai.mjs", "ai@6.0.326", ("@ai-sdk/openai@3.0.141",)),
    Client("litellm_proxy.py", "litellm==1.110.2", ("Pillow==12.0.0",)),
    Client("langchain_tools.py", "langchain-mcp-adapters==0.3.2"),
    Client("openai_agents.py", "openai-agents==0.24.0"),
    Client("mcp_inspector.mjs", "@modelcontextprotocol/inspector@0.15.0"),
    Client("a1111_webuiapi.py", "webuiapi==0.9.17"),
)


class ClientFailed(RuntimeError):
    """A client could not be installed, or did not get what it wants."""


def run_clients(
    url: str, cache: Path, names: Sequence[str] = (), tell: Callable[[str], None] = print
) -> Iterator[Any]:
    """Run clients against a server; each row says what a client sent and what came back.

    Args:
        url: of the server, without a path.
        cache: where the environments are kept.
        names: of the clients; all if empty.
        tell: called with what happens.

    Raises:
        ValueError: there is no client of a name, or the scripts are not there.
    """
    if not SCRIPTS.is_dir():
        raise ValueError(f"the clients' scripts are in the source folder ({SCRIPTS}), which is not there")
    known = [client.name for client in CLIENTS]
    if unknown := next((name for name in names if name not in known), None):
        raise ValueError(f"there is no client '{unknown}': choose of {', '.join(dict.fromkeys(known))}")
    for client in CLIENTS:
        if not names or client.name in names:
            tell(f"{client.name} {client.version}")
            kind = "Python" if client.is_python else "npm"
            yield {"client": f"{client.name} ({kind})", "version": client.version, **outcome(client, url, cache)}


def outcome(client: Client, url: str, cache: Path) -> dict[str, str]:
    """What a client sent and what came back; if it failed, why."""
    try:
        program = installed(client, cache / f"{Path(client.script).stem}-{client.version}")
        said = _run([*program, url], program[-1].parent)
        return {name: str(value) for name, value in json.loads(said.splitlines()[-1]).items()}
    except ClientFailed as error:
        return {"sent": "", "got": f"failed: {error}"}


def installed(client: Client, folder: Path) -> list[Any]:
    """The command of a client whose packages are in this folder, installed there if they are not."""
    script = folder / client.script
    done = folder / "installed"
    if not done.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        packages = [client.package, *client.others]
        if client.is_python:
            venv.create(folder / "env", with_pip=True)
            _run([folder / "env" / "bin" / "python", "-m", "pip", "install", "--quiet", *packages], folder)
        else:
            (folder / "package.json").write_text('{"private": true, "type": "module"}', encoding="utf-8")
            _run(["npm", "install", "--silent", "--no-audit", "--no-fund", *packages], folder)
        done.touch()
    shutil.copyfile(SCRIPTS / client.script, script)
    return [folder / "env" / "bin" / "python" if client.is_python else "node", script]


def _run(command: Sequence[Any], folder: Path) -> str:
    """What a command prints."""
    # a Python of its own must not see this one's packages
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, check=False, cwd=folder, timeout=SECONDS, env=own
        )
    except FileNotFoundError as error:
        raise ClientFailed(f"there is no '{error.filename}' here") from error
    except subprocess.TimeoutExpired as error:
        raise ClientFailed(f"not through in {SECONDS} s") from error
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise ClientFailed(lines[-1] if lines else f"exit code {done.returncode}")
    return done.stdout


def tools() -> dict[str, str]:
    """The versions of what runs the clients."""
    node = shutil.which("node")
    version = _run([node, "--version"], Path.cwd()).strip() if node else "none"
    return {"fewstep": metadata.version("fewstep"), "python": sys.version.split()[0], "node": version}
