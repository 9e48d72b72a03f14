"""The race and the chat."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from fewstep.models.saved import read
from fewstep.pictures import read_record
from fewstep.serving.http.live import packed
from servers import Running, call
from studio_pages import circle, settled, stroke, wait
from tiny_models import TinyModels, onnx

Visit = Callable[..., Page]


@pytest.fixture
def with_teacher(tiny: TinyModels, tmp_path: Path) -> Path:
    """A student whose model.json names the teacher beside it by its hash."""
    for saved in (tiny.student, tiny.teacher):
        shutil.copytree(saved.directory, tmp_path / saved.directory.name)
    file = tmp_path / tiny.student.directory.name / "model.json"
    told = json.loads(file.read_text())
    told["lineage"] = [{"teacher": tiny.teacher.directory.name, "hash": tiny.teacher.hash}]
    file.write_text(json.dumps(told))
    return file.parent


def test_teacher_and_student_race(serve: Callable[..., Running], visit: Visit, with_teacher: Path) -> None:
    server = serve(model=onnx(read(with_teacher)))
    page = visit(server.url)
    page.click("#race")
    assert "Say or draw something" in page.inner_text("#raced")
    page.keyboard.press("Escape")
    page.fill("#prompt", "cat face")
    settled(page)
    before = page.evaluate("studio.wire.sent")
    page.click("#race")
    wait(page, "document.getElementById('raced').textContent.includes('times less')")
    teacher, student = page.locator("#lanes figcaption").all_inner_texts()
    assert teacher.startswith("tiny-teacher\n")
    assert student.startswith("tiny\n")
    assert int(teacher.split("·")[1].split()[0]) > int(student.split("·")[1].split()[0]) == 1
    page.click("#again")
    wait(page, "document.getElementById('raced').textContent.includes('times less')")
    assert page.evaluate("studio.wire.sent") == before  # the live canvas was left alone
    page.keyboard.press("Escape")
    stroke(page, circle())  # which this teacher cannot follow
    settled(page)
    page.click("#race")
    wait(page, "document.getElementById('raced').textContent.includes('no race')")
    assert "takes no control image" in page.inner_text("#lanes")


def test_only_a_teacher_of_the_right_hash_is_offered(server: Running, visit: Visit) -> None:
    assert call(server.url, "/v1/live").body["teacher"] is None  # its lineage names a hash that nothing has
    page = visit(server.url)
    assert not page.is_visible("#race")
    assert b"there is no model 'tiny-teacher'" in _post(server, {"seq": 1, "model": "tiny-teacher"})


def _post(server: Running, head: dict[str, object]) -> bytes:
    import http.client

    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.request("POST", "/v1/live", packed(head))
    return connection.getresponse().read()


@pytest.mark.parametrize(
    ("message", "last", "kind", "prompt"),
    [
        ("a red apple", None, "new", "a red apple"),
        ("draw me a cat face", None, "new", "a cat face"),
        ("make it blue", None, "new", "make it blue"),
        ("make it blue", "a red apple", "edit", "blue apple"),
        ("Please make it blue.", "the red apple", "edit", "blue apple"),
        ("blue", "red apple", "edit", "blue apple"),
        ("as pixel art", "red apple", "edit", "pixel art red apple"),
        ("now in pixel art style", "red apple", "edit", "pixel art red apple"),
        ("make it blue", "pixel art red apple", "edit", "pixel art blue apple"),
        ("make it sleepy", "cat face", "edit", "sleepy cat face"),
        ("another one", "red apple", "again", "red apple"),
        ("More!", "red apple", "again", "red apple"),
        ("back", "red apple", "back", "red apple"),
        ("a rocket", "red apple", "new", "a rocket"),
        ("another one", None, "new", "another one"),
    ],
)
def test_what_a_message_wishes_for(
    server: Running, visit: Visit, message: str, last: str | None, kind: str, prompt: str
) -> None:
    page = visit(server.url)
    wish = page.evaluate(
        """async ([message, last]) => (await import("/studio/chat.js"))
          .understood(message, last, ["red", "blue"], ["pixel art"])""",
        [message, last],
    )
    assert wish == {"kind": kind, "prompt": prompt}


def test_a_conversation_keeps_its_lineage(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.click("#chat")
    for number, message in enumerate(("a red apple", "make it blue", "another one"), 1):
        page.fill("#message", message)
        page.keyboard.press("Enter")
        wait(page, f"studio.chat.turns.length === {number}")
    turns = page.evaluate("studio.chat.turns")
    assert [turn["prompt"] for turn in turns] == ["a red apple", "blue apple", "blue apple"]
    assert turns[0]["seed"] == turns[1]["seed"] != turns[2]["seed"]
    records = [read_record(call(server.url, f"/v1/images/files/{turn['id']}").data) for turn in turns]
    assert all(record is not None for record in records)
    first, second, third = records
    assert first is not None
    assert second is not None
    assert third is not None
    assert not first.parents
    assert second.parents == (first.id,)
    assert third.parents == (second.id,)
    shown = page.evaluate("[...document.querySelectorAll('#log img')].map((image) => image.src)")
    assert len(shown) == 3
    assert read_record(base64.b64decode(shown[1].partition(",")[2])) == second
    page.fill("#message", "back")
    page.keyboard.press("Enter")
    wait(page, "studio.chat.turns.length === 2")


def test_what_goes_wrong_in_a_conversation_is_told(serve: Callable[..., Running], visit: Visit) -> None:
    server = serve(max_prompt=20)
    page = visit(server.url, allowed=("400",))
    page.click("#chat")
    page.fill("#message", "a very long story about an apple")
    page.keyboard.press("Enter")
    wait(page, "document.getElementById('log').textContent.includes('at most 20 characters')")
