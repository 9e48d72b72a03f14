"""Images stay for their time, and within a number, a size, and a number per session."""

from __future__ import annotations

from typing import Any

from fewstep.serving.engine.memory_store import MemoryStore
from fewstep.serving.engine.store import StoredImage


class Clock:
    """Time as a test has it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def image(size: int = 1, session: str | None = None) -> StoredImage:
    return StoredImage(bytes(size), "image/png", session=session)


def held(store: MemoryStore, ids: Any) -> list[str]:
    return [id for id in ids if store.get(id) is not None]


def test_an_image_is_found_by_its_id_until_it_expires() -> None:
    clock = Clock()
    store = MemoryStore(10, 1000, 60.0, clock=clock)
    first, second = StoredImage(b"first", "image/png"), StoredImage(b"second", "image/webp", "ada")
    store.put("a", first)
    clock.now += 30
    store.put("b", second)
    assert (store.get("a"), store.get("b"), store.get("c")) == (first, second, None)
    clock.now += 30
    assert (store.get("a"), store.get("b"), len(store)) == (None, second, 1)
    clock.now += 30
    assert len(store) == 0


def test_the_oldest_go_where_there_are_too_many() -> None:
    store = MemoryStore(2, 1000, 60.0)
    for id in "abcd":
        store.put(id, image())
    assert held(store, "abcd") == ["c", "d"]


def test_the_oldest_go_where_they_are_too_large_and_what_went_counts_no_more() -> None:
    clock = Clock()
    store = MemoryStore(100, 10, 60.0, clock=clock)
    for id in "abc":
        store.put(id, image(4))
    assert held(store, "abc") == ["b", "c"]
    store.put("large", image(50))
    assert held(store, ["b", "c", "large"]) == ["large"]
    clock.now += 60
    for id in "de":
        store.put(id, image(5))
    assert held(store, "de") == ["d", "e"]


def test_a_session_pushes_out_its_own_images_first() -> None:
    clock = Clock()
    store = MemoryStore(6, 1000, 60.0, per_session=2, clock=clock)
    for id in ("url", "chat"):
        store.put(id, image())
    for frame in range(100):
        store.put(f"canvas {frame}", image(session="canvas"))
    store.put("other", image(session="other"))
    assert held(store, ["url", "chat", *(f"canvas {frame}" for frame in range(100)), "other"]) == [
        "url",
        "chat",
        "canvas 98",
        "canvas 99",
        "other",
    ]
    clock.now += 60
    store.put("new", image(session="canvas"))
    assert held(store, ["canvas 99", "new"]) == ["new"]


def test_of_a_session_the_newest_32_are_kept_as_the_docs_say() -> None:
    store = MemoryStore(1000, 10_000, 60.0)
    for frame in range(100):
        store.put(f"{frame}", image(session="canvas"))
    assert held(store, map(str, range(100))) == [f"{frame}" for frame in range(68, 100)]
