"""Images stay for their time, and within a number and a size."""

from __future__ import annotations

from fewstep.serving.engine.store import Store


class Clock:
    """Time as a test has it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_image_is_found_by_its_own_id_until_it_expires() -> None:
    clock = Clock()
    store = Store(10, 1000, 60.0, clock)
    first = store.put(b"first", "image/png")
    clock.now += 30
    second = store.put(b"second", "image/webp")
    assert first != second
    for handle, data, mime in ((first, b"first", "image/png"), (second, b"second", "image/webp")):
        kept = store.get(handle)
        assert kept is not None
        assert (kept.data, kept.mime) == (data, mime)
    clock.now += 30
    assert store.get(first) is None
    assert (store.get(second) is None, len(store)) == (False, 1)
    clock.now += 30
    assert len(store) == 0


def test_the_oldest_go_where_there_are_too_many() -> None:
    store = Store(2, 1000, 60.0)
    handles = [store.put(bytes([i]), "image/png") for i in range(4)]
    assert [store.get(handle) is not None for handle in handles] == [False, False, True, True]


def test_the_oldest_go_where_they_are_too_large_and_what_went_counts_no_more() -> None:
    clock = Clock()
    store = Store(100, 10, 60.0, clock)
    small = [store.put(bytes(4), "image/png") for _ in range(3)]
    assert [store.get(handle) is not None for handle in small] == [False, True, True]
    large = store.put(bytes(50), "image/png")
    assert store.get(large) is not None
    assert len(store) == 1
    clock.now += 60
    again = [store.put(bytes(5), "image/png") for _ in range(2)]
    assert all(store.get(handle) is not None for handle in again)
