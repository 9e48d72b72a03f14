"""Shards: random access into tar files, and nothing in them lost without a word."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from fewstep.data.dataset import DataError, examples, prefetched
from fewstep.data.shards import Shards
from picture_cases import BAD, all_of, encoded, gradient, noisy_png, rng, same


def pack(path: Path, members: dict[str, bytes | str], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, held in members.items():
            content = held.encode() if isinstance(held, str) else held
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(number: int) -> dict[str, bytes | str]:
    return {f"{number:03}.png": encoded(gradient(turn=number)), f"{number:03}.txt": f"number {number}"}


def test_images_and_captions_that_share_a_stem_are_one_sample(tmp_path: Path) -> None:
    members = {
        "a.jpg": encoded(gradient(), "JPEG"),
        "a.txt": "from a\ntext file\n",
        "b.json": json.dumps({"caption": "from JSON", "label": 2}),
        "b.webp": encoded(gradient(), "WEBP"),
        "deep/a.png": encoded(gradient()),
        "deep/a.cls": "4",
        "many.png": encoded(gradient()),
        "many.json": json.dumps({"text": ["one", "two"]}),
    }
    data = Shards(pack(tmp_path / "birds.tar", members), 8)
    assert (data.name, data.shape, data.classes) == ("birds", (3, 8, 8), 5)
    assert data.captions == ["from a text file", "from JSON", "one", "two"]
    assert [(e.caption, e.label) for e in all_of(data)[:3]] == [("from a text file", None), ("from JSON", 2), ("", 4)]
    assert {data.example(3, rng(seed)).caption for seed in range(20)} == {"one", "two"}
    assert len(data.skipped) == 0


def test_of_several_images_the_plainest_ending_wins(tmp_path: Path) -> None:
    members = {"a.mask.png": b"", "a.png": encoded(gradient()), "a.depth.png": b""}
    data = Shards(pack(tmp_path / "x.tar", members), 8)
    assert len(data) == 1
    all_of(data)
    assert len(data.skipped) == 0


@pytest.mark.parametrize(
    "given", [".", "s-{00..02}.tar", "s-*.tar", ["s-00.tar", "s-01.tar", "s-02.tar", "s-00.tar"]]
)
def test_shards_are_given_as_folder_range_pattern_or_list(
    tmp_path: Path, monkeypatch, given: str | list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        pack(tmp_path / f"s-{number:02}.tar", sample(number))
    assert Shards(given, 8).captions == ["number 0", "number 1", "number 2"]


def test_every_example_is_read_alone_in_any_order(tmp_path: Path) -> None:
    members = {name: held for number in range(5) for name, held in sample(number).items()}
    path = pack(tmp_path / "x.tar", members)
    forward = all_of(Shards(path, 8))
    data = Shards(path, 8)
    assert all(same(data.example(index, rng(index)), forward[index]) for index in reversed(range(5)))


def test_every_bad_member_is_named_and_counted(tmp_path: Path, caplog) -> None:
    members = {f"{number}/{name}": held for number, (name, held) in enumerate(BAD.items())}
    data = Shards(pack(tmp_path / "x.tar", {**members, **sample(7)}), 8)
    assert len(all_of(data)) == len(BAD) + 1
    assert set(data.skipped.reasons) == {f"x.tar/{name}" for name in members}
    assert len(caplog.records) == len(BAD)


def test_a_caption_that_cannot_be_read_is_counted_and_its_image_kept(tmp_path: Path) -> None:
    members = {"a.png": encoded(gradient()), "a.json": "{", "b.png": encoded(gradient()), "b.txt": b"\xff\xfe"}
    members |= {"c.png": encoded(gradient()), "c.cls": "cat", "d.png": encoded(gradient()), "d.txt": "x" * 2**21}
    data = Shards(pack(tmp_path / "x.tar", members), 8)
    assert len(data) == 4
    assert set(data.skipped.reasons) == {"x.tar/a.json", "x.tar/b.txt", "x.tar/c.cls", "x.tar/d.txt"}


def test_a_sample_without_an_image_is_counted(tmp_path: Path) -> None:
    data = Shards(pack(tmp_path / "x.tar", {**sample(0), "001.mp3": b"x", "001.txt": "a song"}), 8)
    assert data.skipped.reasons == {"x.tar/001": "no image beside 001.mp3, 001.txt"}


def test_a_shard_that_is_cut_short_gives_what_is_before_the_cut(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar", {**sample(0), "001.png": noisy_png()})
    path.write_bytes(path.read_bytes()[:4000])
    data = Shards(path, 8)
    assert [example.caption for example in all_of(data)] == ["number 0", "number 0"]
    assert set(data.skipped.reasons) == {"x.tar", "x.tar/001.png"}


def test_a_broken_shard_among_others_is_counted(tmp_path: Path) -> None:
    pack(tmp_path / "a.tar", sample(0))
    (tmp_path / "b.tar").write_bytes(b"not a tar file" * 100)
    pack(tmp_path / "c.tar", sample(1), "w:gz")
    data = Shards(tmp_path, 8)
    assert len(data) == 1
    assert set(data.skipped.reasons) == {"b.tar", "c.tar"}


def test_no_shards_and_no_images_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no shards at"):
        Shards(tmp_path / "none.tar", 8)
    pack(tmp_path / "x-0.tar", sample(0))
    with pytest.raises(DataError, match=r"no shards at .*x-1\.tar"):
        Shards(str(tmp_path / "x-{0..1}.tar"), 8)
    with pytest.raises(DataError, match="no shards given"):
        Shards([], 8)
    with pytest.raises(DataError, match=r"no images in 1 shards, .*; y\.tar/a: no image beside a\.txt"):
        Shards(pack(tmp_path / "y.tar", {"a.txt": "x"}), 8)


def test_prefetched_batches_are_the_batches_and_ranks_share_them(tmp_path: Path) -> None:
    members = {name: held for number in range(5) for name, held in sample(number).items()}
    data = Shards(pack(tmp_path / "x.tar", members), 8, crop="random", flip=True)
    for step, batch in enumerate(prefetched(data, 4, seed=2, first=0, last=3)):
        assert all(map(same, batch, examples(data, 4, 2, step)))
        halves = examples(data, 2, 2, step, 0, 2) + examples(data, 2, 2, step, 1, 2)
        assert all(map(same, batch, halves))
