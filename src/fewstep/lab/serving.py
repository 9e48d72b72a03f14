"""The server's overhead over the bare network: `fewstep bench serving` and `fewstep bench soak`.

The server is `fewstep serve` in its own process; the clients are raw sockets, which cost next to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any

import numpy as np

from fewstep.engines.errors import EngineError
from fewstep.generation import load
from fewstep.generation.model import Model
from fewstep.lab.engines import call
from fewstep.lab.turns import last_line

BATCHES = (1, 4, 8, 16, 32)
WARM = 64  # warm-up requests, which do not count

_NETWORK = """
import json, os, sys
engine, precision, name, core, batches, seconds = json.loads(sys.argv[1])
os.sched_setaffinity(0, [core])
from fewstep.generation import load
from fewstep.lab.serving import images_per_second
model = load(name, engine, threads=1, precision=precision)
print(json.dumps(max(images_per_second(model, batch, seconds) for batch in batches)))
"""


@dataclass(frozen=True)
class Load:
    """The result of a load test with several clients.

    Args:
        seconds: duration of the whole test.
        latencies: seconds that each request took.
    """

    seconds: float
    latencies: Sequence[float]

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.seconds

    def quantile(self, share: float) -> float:
        """Latency quantile in milliseconds: this share of the requests took less."""
        return float(1000 * np.quantile(self.latencies, share))


class Served:
    """A running `fewstep serve`.

    Args:
        port: port that it listens on.
        process: its process.
        started: seconds until it was ready.
        prompts: prompts that the clients send.
    """

    def __init__(self, port: int, process: subprocess.Popen[str], started: float, prompts: Sequence[str]) -> None:
        self.port, self.process, self.started = port, process, started
        self._prompts = prompts
        self._numbers = count()

    def request(self) -> bytes:
        """The next request, with a different prompt and seed each time."""
        number = next(self._numbers)
        asked = {"prompt": self._prompts[number % len(self._prompts)], "seed": number, "steps": 1}
        body = json.dumps(asked).encode()
        head = "POST /v1/images/generations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    @property
    def megabytes(self) -> float:
        """Resident memory (Linux)."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    def one_by_one(self, requests: int) -> list[tuple[float, float]]:
        """Milliseconds that each request and its model stage took, with one client."""
        spent = []
        with socket.create_connection(("127.0.0.1", self.port), 30) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection.makefile("rb") as reader:
                for _ in range(requests):
                    message = self.request()
                    began = time.perf_counter()
                    connection.sendall(message)
                    length = _length(list(iter(reader.readline, b"\r\n")))
                    body = reader.read(length)
                    total = 1000 * (time.perf_counter() - began)
                    spent.append((total, float(json.loads(body)["timings"]["model"])))
        return spent

    def together(self, clients: int, requests: int) -> Load:
        """Several clients, each of which sends its next request as soon as it has an answer; `requests` in all."""
        return asyncio.run(self._together(clients, requests))

    async def _together(self, clients: int, requests: int) -> Load:
        latencies: list[float] = []
        numbers = iter(range(requests))  # shared by all clients

        async def client() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            for _ in numbers:
                began = time.perf_counter()
                writer.write(self.request())
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(_length(head.splitlines(keepends=True)))
                latencies.append(time.perf_counter() - began)
            writer.close()

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        return Load(time.perf_counter() - began, latencies)


def _length(head: Sequence[bytes]) -> int:
    """The length of the body, from the header lines of a response.

    Raises:
        RuntimeError: the response is an error.
    """
    if b" 200 " not in head[0]:
        raise RuntimeError(f"the server answered {head[0].decode().strip()}")
    return next(int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length:"))


@contextlib.contextmanager
def served(model: str, *options: str, prompts: Sequence[str] = ("a red apple",)) -> Iterator[Served]:
    """Start `fewstep serve` on a free port, wait until it is ready, and stop it in the end.

    Args:
        model: the model to serve.
        options: further flags of `fewstep serve`.
        prompts: prompts that the clients send.

    Raises:
        RuntimeError: it stops before it is ready.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from fewstep.cli.main import main; main()", "serve", "--model", model]
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            [*command, "--port", str(port), *options],
            stdout=subprocess.DEVNULL,
            stderr=said,
            text=True,
            env={**os.environ, "FEWSTEP_SERVE_LOG_LEVEL": "warning"},
        )
        try:
            _wait(process, port, said)
            yield Served(port, process, time.perf_counter() - began, prompts)
        finally:
            process.terminate()
            process.wait()


def _wait(process: subprocess.Popen[str], port: int, said: IO[str]) -> None:
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the server stopped: {last_line(said)}")
        url = f"http://127.0.0.1:{port}/readyz"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # not there yet, or 503
            return
        time.sleep(0.01)


def images_per_second(model: Model, batch: int, seconds: float) -> float:
    """Throughput of the bare network at a batch size: the median over its calls in this many seconds."""
    spent: list[float] = []
    call(model, batch)
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(spent) < 3:
        spent.append(call(model, batch))
    return batch / statistics.median(spent)


def overhead(name: str, engine: str, precision: str | None, requests: int, rounds: int) -> dict[str, Any]:
    """Latency that the server adds to the model's for one client: medians over all rounds, in milliseconds."""
    model = load(name, engine, precision=precision)
    options = ("--engine", model.engine, "--precision", model.precision)
    with served(name, *options, prompts=_prompts(model)) as server:
        server.one_by_one(WARM)
        spent = [pair for _ in range(rounds) for pair in server.one_by_one(requests)]
    totals, models = zip(*spent, strict=True)
    rest = [total - inside for total, inside in spent]
    return {
        "engine": model.engine,
        "precision": model.precision,
        "request_ms": round(statistics.median(totals), 2),
        "request_p99_ms": round(float(np.quantile(totals, 0.99)), 2),
        "model_ms": round(statistics.median(models), 2),
        "overhead_ms": round(statistics.median(rest), 2),
        "requests": len(spent),
    }


def throughput(
    name: str,
    engine: str,
    precision: str | None,
    clients: int,
    requests: int,
    rounds: int,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Requests per second of many clients, compared in turn with the bare network's best, which has a core to itself.

    Raises:
        EngineError: this machine has only one core, or cannot pin processes to cores.
    """
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        raise EngineError("this comparison needs Linux and two cores: one for the network, one for everything else")
    model = load(name, engine, precision=precision)
    alone, rest, *_ = sorted(os.sched_getaffinity(0))
    arguments = json.dumps([model.engine, model.precision, name, alone, BATCHES, 2.0])
    options = ("--engine", model.engine, "--precision", model.precision, "--threads", "1")
    bare: list[float] = []
    loads: list[Load] = []
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [rest])  # inherited by child processes, but the server pins its network to the other core
    try:
        with served(name, *options, "--network-cpus", str(alone), prompts=_prompts(model)) as server:
            server.together(clients, 4 * clients)
            for turn in range(rounds):
                done = subprocess.run([sys.executable, "-c", _NETWORK, arguments], capture_output=True, text=True)
                if done.returncode:
                    raise EngineError(f"the network failed: {done.stderr.strip().splitlines()[-1:]}")
                bare.append(float(json.loads(done.stdout)))
                loads.append(server.together(clients, requests))
                progress(
                    f"turn {turn + 1}: network {bare[-1]:.1f} images/s, server {loads[-1].per_second:.1f} requests/s"
                )
    finally:
        os.sched_setaffinity(0, before)
    network, through = statistics.median(bare), statistics.median(each.per_second for each in loads)
    return {
        "engine": model.engine,
        "precision": model.precision,
        "clients": clients,
        "network_images_per_s": round(network, 1),
        "requests_per_s": round(through, 1),
        "ratio": round(through / network, 3),
        "p50_ms": round(statistics.median(each.quantile(0.5) for each in loads), 1),
        "p99_ms": round(statistics.median(each.quantile(0.99) for each in loads), 1),
        "requests": sum(len(each.latencies) for each in loads),
    }


def soak(
    name: str,
    engine: str,
    clients: int,
    requests: int,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """The server's memory over many requests, counted from when its image store is full."""
    model = load(name, engine)
    parts = 10
    with served(name, "--engine", model.engine, "--keep-images", "200", prompts=_prompts(model)) as server:
        ready = server.megabytes
        server.together(clients, max(400, 2 * requests // parts))
        seen, made = [server.megabytes], 0
        for _ in range(parts):
            made += len(server.together(clients, requests // parts).latencies)
            seen.append(server.megabytes)
            progress(f"{made} requests: {seen[-1]:.1f} MB")
        started = server.started
    return {
        "engine": model.engine,
        "ready_s": round(started, 2),
        "ready_mb": round(ready, 1),
        "first_mb": round(seen[0], 1),
        "last_mb": round(seen[-1], 1),
        "growth": round(seen[-1] / seen[0] - 1, 4),
        "requests": made,
    }


def _prompts(model: Model) -> Sequence[str]:
    captions = model.saved.captions
    if captions is not None:
        return captions.captions
    return ["a red apple" if model.spec.conditioning.text_length else ""]
