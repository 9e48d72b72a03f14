"""The example does what it says, against a real server, with the scripted model and with one behind an endpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fewstep
from fewstep.pictures import read_record
from servers import running
from tiny_models import TinyModels

AGENT = Path(__file__).parent.parent / "examples" / "chat_agent.py"


def chat(tiny: TinyModels, folder: Path, said: str, **environment: str) -> list[str]:
    source = str(Path(fewstep.__file__).parent.parent)
    with running(tiny) as server:
        done = subprocess.run(
            [sys.executable, str(AGENT)],
            input=said,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "FEWSTEP_URL": f"{server.url}/v1", "PYTHONPATH": source, **environment},
        )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_scripted_agent_draws_what_it_is_told_to_until_an_empty_line(tiny: TinyModels, tmp_path: Path) -> None:
    said = ["please draw me a blue dog!", "Draw a quux", "hello", "draw me \u00e9 ", "", "draw a cat"]
    lines = chat(tiny, tmp_path, "\n".join([*said, ""]))
    assert lines[3] == 'I only draw. Say "draw me a blue dog".'
    told = [json.loads(line.removeprefix("Here it is: ")) for line in lines[1:] if line != lines[3]]
    assert [each["file"] for each in told] == ["a-blue-dog.png", "a-quux.png", "image.png"]
    assert [each["unknown_words"] for each in told[:2]] == [[], ["quux"]]
    records = [read_record(tmp_path / each["file"]) for each in told]
    assert [record and record.prompt for record in records] == ["a blue dog", "a quux", "\u00e9"]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(each["file"] for each in told)
    assert all(Image.open(tmp_path / each["file"]).size == (16, 16) for each in told)


@pytest.fixture
def endpoint() -> Any:
    """A chat endpoint that asks for a drawing and then speaks; what it was sent."""
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            call = {"name": "draw_image", "arguments": '{"prompt": "rocket", "seed": 3}'}
            message: dict[str, Any] = {"role": "assistant", "content": "There you are."}
            if len(seen) == 1:
                message = {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c1", "type": "function", "function": call}],
                }
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *arguments: Any) -> None:
            """Nothing on the terminal."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", seen
    server.shutdown()


def test_a_model_behind_an_endpoint_is_offered_the_tool_and_told_the_result(
    tiny: TinyModels, tmp_path: Path, endpoint: tuple[str, list[Any]]
) -> None:
    url, seen = endpoint
    lines = chat(tiny, tmp_path, "a rocket please\n", CHAT_URL=url, CHAT_MODEL="m")
    assert lines[1] == "There you are."
    assert seen[0]["tools"][0]["function"]["name"] == "draw_image"
    assert json.loads(seen[1]["messages"][-1]["content"])["file"] == "rocket.png"
    assert (tmp_path / "rocket.png").is_file()
