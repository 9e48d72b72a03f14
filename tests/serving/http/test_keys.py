"""API keys: what a line of the file may say, what each key may do and how often, and a file that changes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fewstep.serving.engine.errors import Busy, InputError
from fewstep.serving.engine.quotas import Quota
from fewstep.serving.http.keys import Key, KeyRing, hashed, read_keys
from fewstep.serving.settings import ServeSettings
from servers import Answer, Running, call, draw, until
from tiny_models import TinyModels

HASH = hashed("secret")
DATES = itertools.count(1)


def written(path: Path, *lines: str) -> Path:
    """A keys file; its date differs from that of an earlier one."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    date = next(DATES)
    os.utime(path, (date, date))
    return path


def asked(server: Running, path: str = "/v1/models", key: str = "secret") -> Answer:
    return call(server.url, path, authorization=f"Bearer {key}")


@pytest.fixture
def with_key(serve: Callable[..., Running], tmp_path: Path) -> Callable[[str], Running]:
    """A server with one key, whose line ends like this."""
    return lambda more: serve(keys_file=written(tmp_path / "keys", f"{HASH} ada {more}"))


def test_a_line_has_a_name_and_settings(tmp_path: Path) -> None:
    line = f"{HASH} ada of team blue scope=draw expires=2027-01-31 per-minute=60 per-day=1000  # her laptop"
    (key,) = read_keys(written(tmp_path / "keys", "# all keys", "", line))
    date = datetime(2027, 1, 31, tzinfo=UTC)
    assert key == Key(HASH, "ada of team blue", frozenset({"draw"}), date, 60, 1000)
    (plain,) = read_keys(written(tmp_path / "keys", HASH))
    assert plain == Key(HASH, "", frozenset({"draw", "metrics"}))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("abc ada", "line 1 is not a hashed key: make one with 'fewstep serve-key'"),
        (f"{HASH} scope=everything", "line 1 scope must be of draw, metrics, admin, got 'everything'"),
        (f"{HASH} expires=soon", "line 1 expires must be a date such as 2027-01-31, got 'soon'"),
        (f"{HASH} per-minute=0", "line 1 per-minute must be a number of at least 1, got '0'"),
        (f"{HASH} per_day=5", "line 1 has no setting per_day: use scope, expires, per-minute, per-day"),
        ("# none", "holds no key"),
    ],
)
def test_a_line_that_cannot_be_read_is_told(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        read_keys(written(tmp_path / "keys", line))


def test_a_key_does_what_its_scopes_say(with_key: Callable[[str], Running]) -> None:
    server = with_key("scope=metrics")
    assert asked(server, "/metrics").status == 200
    refused = asked(server)
    assert refused.status == 403
    assert refused.body["error"]["message"] == "this API key lacks the scope draw"
    server = with_key("scope=draw")
    assert asked(server).status == 200
    assert asked(server, "/metrics").status == 403
    assert asked(server, "/healthz").status == 200
    assert asked(server, key="another").status == 401


@pytest.mark.parametrize(("hours", "status"), [(-1, 401), (1, 200)])
def test_a_key_ends_at_its_date(with_key: Callable[[str], Running], hours: int, status: int) -> None:
    date = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
    answer = asked(with_key(f"expires={date}"))
    assert answer.status == status
    if status == 401:
        assert answer.body["error"]["message"] == "this API key has expired"


def test_requests_and_images_are_counted_by_key(serve: Callable[..., Running], tmp_path: Path) -> None:
    lines = f"{HASH} per-day=3", f"{hashed('other')} per-minute=2"
    server = serve(keys_file=written(tmp_path / "keys", *lines))

    def drawn(key: str, n: int = 1) -> Answer:
        return call(server.url, "/v1/images/generations", {"prompt": "cat", "n": n}, authorization=f"Bearer {key}")

    assert [drawn("secret", 2).status, drawn("secret", 2).status, drawn("secret").status] == [200, 429, 200]
    refused = drawn("secret")
    assert refused.status == 429
    assert refused.body["error"]["message"].startswith("this key has 3 images a day: try again in ")
    assert int(refused.headers["retry-after"]) > 3600
    assert [drawn("other").status for _ in range(3)] == [200, 200, 429]
    assert 'outcome="busy"' in server.metrics.text().decode()


def test_an_allowance_comes_back_evenly() -> None:
    now = [1000.0]
    quota = Quota(requests=60, images=None, clock=lambda: now[0])
    for _ in range(60):
        quota.request()
    with pytest.raises(Busy) as refused:
        quota.request()
    assert refused.value.retry_after == pytest.approx(1.0)
    now[0] += 1.0
    quota.request()
    with pytest.raises(Busy):
        quota.request()
    quota.images(10**9)
    now[0] += 3600.0
    for _ in range(60):  # no more than once all of it
        quota.request()
    with pytest.raises(Busy):
        quota.request()


def test_more_images_than_a_day_has_are_refused_and_cost_nothing() -> None:
    quota = Quota(images=5)
    with pytest.raises(InputError, match="n must be at most 5, the images that this key has a day, got 6"):
        quota.images(6)
    quota.images(5)


def test_a_file_that_changes_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path / "keys", f"{HASH} per-minute=1")
    ring = KeyRing(path, every=0.0)
    key = ring.find("secret")
    assert key is not None
    key.quota.request()
    written(path, f"{HASH} per-minute=1", hashed("new"))
    assert ring.find("new") is not None
    same = ring.find("secret")
    assert same is not None
    with pytest.raises(Busy):  # what it has used stays used
        same.quota.request()
    written(path, "nonsense")
    assert ring.find("new") is not None
    assert "keys not read again, the old ones stay" in caplog.text
    path.unlink()
    assert ring.find("new") is not None
    written(path, hashed("new"))
    assert ring.find("secret") is None


def test_the_log_names_address_and_key(with_key: Callable[[str], Running], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fewstep.serving")
    asked(with_key(""))
    until(lambda: any("address=127.0.0.1 key='ada'" in message for message in caplog.messages))


@pytest.mark.parametrize(("trusted", "seen"), [(("127.0.0.1",), "9.9.9.9"), (("10.0.0.0/8",), "127.0.0.1")])
def test_only_trusted_proxies_name_the_client(
    serve: Callable[..., Running], trusted: tuple[str, ...], seen: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fewstep.serving")
    call(serve(trusted_proxies=trusted).url, "/v1/models", **{"x-forwarded-for": "9.9.9.9"})
    until(lambda: any(f"address={seen}" in message for message in caplog.messages))


def test_settings_are_read_again(tiny: TinyModels, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from fewstep.serving.app import build_desk
    from fewstep.serving.server import Server
    from tiny_models import onnx

    before = ServeSettings(port=0)
    desk = build_desk(before, onnx(tiny.student))
    server = Server(desk, before)
    keys = written(tmp_path / "keys", HASH)
    after = ServeSettings(port=1, keys_file=keys, aliases=("sticker",), hosts=("here.example",), log_prompts=True)
    server.reload(after)
    assert desk.host.serves("sticker")
    assert not desk.host.serves("gpt-image-1")
    assert desk.accounting.log_prompts
    access: Any = server._access  # what the guards read
    assert access.hosts == after.access().hosts
    assert access.keys.find("secret") is not None
    assert "settings read again; these wait for a restart: port" in caplog.text
    desk.close(0)


def test_a_page_of_a_new_origin_may_call_once_the_settings_are_read_again(serve: Callable[..., Running]) -> None:
    server = serve(origins=("https://example.org",))
    known = call(server.url, "/v1/models", origin="https://example.org")
    assert known.headers["access-control-allow-origin"] == "https://example.org"
    assert call(server.url, "/v1/models", origin="https://example.com").status == 403
    assert "access-control-allow-origin" not in draw(server.url).headers
