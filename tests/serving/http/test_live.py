"""The live wire: frames over a WebSocket and over POST, the latest first, every frame answered once."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from fewstep.pictures import read_record
from fewstep.serving.http.keys import new_key
from fewstep.serving.http.live import packed, unpacked
from fewstep.serving.http.security import KEY_PROTOCOL, PROTOCOL
from picture_cases import encoded, gradient
from servers import Gate, Running, draw, until
from tiny_models import SIDE

SMALLEST = {"prompt": "red apple", "seed": 3}


def live(server: Running, **options: Any) -> ClientConnection:
    return connect(f"{server.url.replace('http', 'ws')}/v1/live", subprotocols=[PROTOCOL], **options)


def sketch(side: int = SIDE) -> bytes:
    """A dark square on nothing, straight RGBA."""
    pixels = np.zeros((side, side, 4), dtype=np.uint8)
    pixels[side // 4 : -side // 4, side // 4 : -side // 4] = (20, 20, 20, 255)
    return pixels.tobytes()


def part(name: str, data: bytes, side: int = SIDE, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "rgba", "width": side, "height": side, "bytes": len(data), **more}


def answer(wire: ClientConnection) -> tuple[dict[str, Any], list[bytes]]:
    frame = wire.recv(timeout=30)
    assert isinstance(frame, bytes)
    head, rest = unpacked(frame)
    pictures = []
    for each in head.get("parts", []):
        pictures.append(bytes(rest[: each["bytes"]]))
        rest = rest[each["bytes"] :]
    assert not len(rest)
    return head, pictures


def ask(wire: ClientConnection, seq: int, *pictures: tuple[str, bytes], **fields: Any) -> None:
    parts = [part(name, data) for name, data in pictures]
    wire.send(packed({"seq": seq, **SMALLEST, **fields, "parts": parts}, [data for _, data in pictures]))


def pixels(file: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(file)))


def post(server: Running, body: bytes, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.request("POST", "/v1/live", body, headers)
    got = connection.getresponse()
    return got.status, got.read()


def test_a_frame_gives_the_picture_that_the_images_api_gives(server: Running) -> None:
    drawn = draw(server.url, **SMALLEST).body
    with live(server) as wire:
        assert wire.subprotocol == PROTOCOL
        ask(wire, 5)
        head, (file,) = answer(wire)
    assert np.array_equal(pixels(file), pixels(base64.b64decode(drawn["data"][0]["b64_json"])))
    record = read_record(file)
    assert record is not None
    assert (head["seq"], head["parts"][0]["seed"], head["parts"][0]["id"]) == (5, 3, record.id)
    assert head["network_evaluations"] == 1
    assert head["timings"]["server"] >= head["timings"]["model"] > 0


def test_a_sketch_steers_and_its_strength_is_a_scale(server: Running) -> None:
    with live(server) as wire:
        files = []
        for seq, strength in enumerate((None, 1, 0, 2)):
            ask(wire, seq, ("control", sketch()), **({} if strength is None else {"control_strength": strength}))
            files.append(answer(wire))
        ask(wire, 9)
        plain = answer(wire)
    shown = [pixels(pictures[0]).astype(int) for _, pictures in files]
    without = pixels(plain[1][0]).astype(int)
    assert np.array_equal(shown[0], shown[1])
    assert np.array_equal(shown[2], without)
    assert not np.array_equal(shown[0], without)
    assert not np.array_equal(shown[3], shown[0])
    assert [head["network_evaluations"] for head, _ in files] == [1, 1, 1, 2]
    record = read_record(files[3][1][0])
    assert record is not None
    assert record.sampler_settings["control_strength"] == 2


def test_what_a_mask_keeps_comes_back_to_the_bit(server: Running) -> None:
    image = np.full((SIDE, SIDE, 4), 255, dtype=np.uint8)
    image[..., 1] = np.arange(SIDE, dtype=np.uint8)
    mask = np.full((SIDE, SIDE, 4), 255, dtype=np.uint8)
    mask[:, : SIDE // 2, 3] = 0
    with live(server) as wire:
        ask(wire, 1, ("image", image.tobytes()), ("mask", mask.tobytes()))
        _, (file,) = answer(wire)
    assert np.array_equal(pixels(file)[:, SIDE // 2 :], image[:, SIDE // 2 :])
    assert not np.array_equal(pixels(file)[:, : SIDE // 2], image[:, : SIDE // 2])


def test_files_travel_too_and_bring_their_records(server: Running) -> None:
    file = base64.b64decode(draw(server.url, **SMALLEST).body["data"][0]["b64_json"])
    before = read_record(file)
    assert before is not None
    with live(server) as wire:
        wire.send(packed({"seq": 1, **SMALLEST, "parts": [{"name": "image", "bytes": len(file)}]}, [file]))
        _, (varied,) = answer(wire)
    record = read_record(varied)
    assert record is not None
    assert record.parents == (before.id,)


def test_several_pictures_come_in_one_frame(server: Running) -> None:
    with live(server) as wire:
        ask(wire, 1, n=4)
        head, pictures = answer(wire)
    assert [each["seed"] for each in head["parts"]] == [3, 4, 5, 6]
    assert len({picture[-400:] for picture in pictures}) == 4


def test_a_post_gives_the_same(server: Running) -> None:
    status, body = post(server, packed({"seq": 8, **SMALLEST}))
    head, rest = unpacked(body)
    with live(server) as wire:
        ask(wire, 1)
        _, (file,) = answer(wire)
    assert (status, head["seq"]) == (200, 8)
    assert np.array_equal(pixels(bytes(rest)), pixels(file))


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (b"", "at least 4 bytes"),
        (b"\xff\xff\xff\xff{}", "cannot have a head"),
        (b"\x02\0\0\0[]", "a JSON object"),
        (b"\x02\0\0\0{,", "must be JSON"),
        (packed({"seq": 1}) + b"xx", "leave 2 bytes over"),
        (packed({"prompt": "cat"}), "seq"),
        (packed({"seq": 1, "steps": 0}), "steps"),
        (packed({"seq": 1, "guidance": 99}), "guidance"),
        (packed({"seq": 1, "control_strength": 9}), "control_strength"),
        (packed({"seq": 1, "control_strength": 2}), "needs a control image"),
        (packed({"seq": 1, "parts": [part("control", b"abcd")]}, [b"abc"]), "must have 1024 bytes"),
        (packed({"seq": 1, "parts": [part("control", sketch())]}, [b"abc"]), "must have 1024 bytes, got 3"),
        (packed({"seq": 1, "parts": [part("control", sketch(), 15)]}, [sketch()]), "4 bytes per pixel"),
        (packed({"seq": 1, "parts": [part("mask", sketch())]}, [sketch()]), "mask needs an image"),
        (packed({"seq": 1, "parts": [part("image", sketch())] * 2}, [sketch()] * 2), "once"),
        (packed({"seq": 1, "parts": [{"name": "image", "bytes": 3}]}, [b"abc"]), "not an image that can be read"),
        (packed({"seq": 1, "parts": [{"name": "cat", "bytes": 3}]}, [b"abc"]), "parts"),
    ],
)
def test_a_wrong_frame_is_told_what_is_wrong_and_the_connection_stays(
    server: Running, frame: bytes, said: str
) -> None:
    if said == "must have 1024 bytes":  # its head is right and its bytes are missing
        frame = packed({"seq": 1, "parts": [part("control", sketch())]}, [b"abc"])
    with live(server) as wire:
        wire.send(frame)
        head, pictures = answer(wire)
        assert said in head["error"]["message"]
        assert head["status"] == 400
        assert not pictures
        ask(wire, 2)
        assert answer(wire)[0]["seq"] == 2


def test_the_latest_frame_counts_and_each_is_answered_once(serve: Callable[..., Running]) -> None:
    gate = Gate()
    server = serve(through=gate)
    gate.open.clear()
    with live(server) as wire:
        ask(wire, 1, steps=2)
        assert gate.entered.acquire(timeout=30)
        ask(wire, 2)
        ask(wire, 3, seed=33)
        until(lambda: any(job.plan.sampling.seeds == (33,) for job in list(server.runtime._sessions.values())))
        gate.open.set()
        heads = {head["seq"]: head for head, _ in (answer(wire) for _ in range(3))}
    assert heads[3].get("error") is None
    assert {heads[seq]["error"]["code"] for seq in (1, 2)} == {"superseded"}


def test_two_connections_do_not_disturb_each_other(serve: Callable[..., Running]) -> None:
    gate = Gate()
    server = serve(through=gate)
    gate.open.clear()
    with live(server) as one, live(server) as other:
        ask(one, 1)
        ask(other, 1)
        until(lambda: server.runtime.running + server.runtime.waiting == 2)
        gate.open.set()
        assert "error" not in answer(one)[0]
        assert "error" not in answer(other)[0]


def test_who_goes_away_leaves_no_work(serve: Callable[..., Running]) -> None:
    gate = Gate()
    server = serve(through=gate)
    gate.open.clear()
    with live(server) as wire:
        ask(wire, 1, steps=4)
        assert gate.entered.acquire(timeout=30)
    calls = gate.calls
    threading.Timer(0.5, gate.open.set).start()
    until(lambda: not server.runtime.running)
    assert gate.calls <= calls + 1


def test_who_goes_away_from_a_post_leaves_no_work(serve: Callable[..., Running]) -> None:
    gate = Gate()
    server = serve(through=gate)
    gate.open.clear()
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.request("POST", "/v1/live", packed({"seq": 1, **SMALLEST, "steps": 4}))
    assert gate.entered.acquire(timeout=30)
    calls = gate.calls
    connection.close()
    threading.Timer(0.5, gate.open.set).start()
    until(lambda: not server.runtime.running)
    assert gate.calls <= calls + 1


def test_a_file_of_few_bytes_and_many_pixels_does_not_hold_the_others_up(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops: list[bool] = []
    opened = server.decoder.open

    def watched(*args: Any) -> Any:
        try:
            asyncio.get_running_loop()
            loops.append(True)
        except RuntimeError:
            loops.append(False)
        return opened(*args)

    monkeypatch.setattr(server.decoder, "open", watched)
    file = io.BytesIO()
    Image.new("L", (2048, 2048)).save(file, "WEBP", lossless=True)
    assert len(file.getvalue()) < 1000
    with live(server) as wire:
        wire.send(
            packed(
                {"seq": 1, **SMALLEST, "parts": [{"name": "control", "bytes": len(file.getvalue())}]},
                [file.getvalue()],
            )
        )
        assert "error" not in answer(wire)[0]
    assert loops == [False]


def test_pixels_without_a_file_count_as_those_of_files(serve: Callable[..., Running]) -> None:
    server = serve(max_pixels=64 * 64)
    with live(server) as wire:
        for side, code in ((64, None), (65, 400)):
            data = sketch(side)
            wire.send(packed({"seq": side, **SMALLEST, "parts": [part("control", data, side)]}, [data]))
            assert answer(wire)[0].get("status") == code
    until(lambda: server.decoder.held == 0)


def test_a_full_server_refuses_before_it_opens_a_picture(
    serve: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    server = serve(through=gate, jobs=1, max_waiting=1)
    gate.open.clear()
    with live(server) as one, live(server) as two, live(server) as three:
        ask(one, 1)
        assert gate.entered.acquire(timeout=30)
        ask(two, 1)
        until(lambda: server.runtime.waiting == 1)
        monkeypatch.setattr(server.decoder, "from_pixels", None)
        ask(three, 1, ("control", sketch()))
        head, _ = answer(three)
        assert (head["status"], head["seq"]) == (429, 1)
        assert head["retry_ms"] > 0
        gate.open.set()


def test_a_key_travels_as_a_subprotocol(serve: Callable[..., Running], tmp_path: Path) -> None:
    key, kept = new_key()
    file = tmp_path / "keys"
    file.write_text(kept)
    server = serve(keys_file=file)
    url = f"{server.url.replace('http', 'ws')}/v1/live"
    for protocols in ([PROTOCOL], [PROTOCOL, f"{KEY_PROTOCOL}fs-wrong"]):
        with pytest.raises((InvalidStatus, Exception)) as refused, connect(url, subprotocols=protocols) as wire:
            wire.recv(timeout=10)
        assert "401" in str(refused.value) or "403" in str(refused.value)
    with connect(url, subprotocols=[PROTOCOL, f"{KEY_PROTOCOL}{key}"]) as wire:
        assert wire.subprotocol == PROTOCOL
        ask(wire, 1)
        assert "error" not in answer(wire)[0]
    assert post(server, packed({"seq": 1}))[0] == 401
    assert post(server, packed({"seq": 1, **SMALLEST}), authorization=f"Bearer {key}")[0] == 200


def test_a_page_from_elsewhere_cannot_connect(server: Running) -> None:
    with pytest.raises(InvalidStatus, match="403"), live(server, origin="https://elsewhere.example"):
        pass


def test_about_says_what_can_be_asked_for(server: Running) -> None:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.request("GET", "/v1/live")
    about = json.loads(connection.getresponse().read())
    assert about["native_size"] == [SIDE, SIDE]
    assert about["guidance"] == {"default": 2.0, "with_control": 2.0, "low": 1.0, "high": 4.0}
    assert about["control"] is True
    assert about["styles"] == ["pixel art"]
    assert about["palette"] == {"red": "#db2626", "blue": "#296be0"}


def test_a_large_sketch_is_scaled(server: Running) -> None:
    with live(server) as wire:
        file = encoded(gradient(400, 300))
        wire.send(packed({"seq": 1, **SMALLEST, "parts": [{"name": "control", "bytes": len(file)}]}, [file]))
        assert "error" not in answer(wire)[0]
