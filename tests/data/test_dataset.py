"""Every source keeps the protocol's promises; batches depend on counters alone."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fewstep.data import Digits, HuggingFace, ImageFolder, Shards, checkerboard, ring, spiral, two_moons
from fewstep.data.dataset import Dataset, Skipped, examples, indices, prefetched
from picture_cases import encoded, gradient, rng, same


def classes(folder: Path) -> Path:
    root = folder / "classes"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(3):
            gradient(turn=number).save(root / name / f"{number}.png")
    return root


def shard(folder: Path) -> Path:
    with tarfile.open(folder / "x.tar", "w") as tar:
        for number in range(5):
            for ending, held in ((".png", encoded(gradient(turn=number))), (".txt", b"a shape")):
                info = tarfile.TarInfo(f"{number}{ending}")
                info.size = len(held)
                tar.addfile(info, io.BytesIO(held))
    return folder / "x.tar"


def hugging_face(folder: Path) -> HuggingFace:
    datasets = pytest.importorskip("datasets")
    rows = {"image": [gradient(turn=turn) for turn in range(4)], "text": ["a", "b", "c", "d"]}
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features).save_to_disk(folder / "saved")
    return HuggingFace(folder / "saved", size=8, crop="random")


SOURCES: dict[str, Callable[[Path], Dataset]] = {
    "digits": lambda folder: Digits(),
    "image folder": lambda folder: ImageFolder(classes(folder), 8, "RGBA", flip=True, crop="random"),
    "shards": lambda folder: Shards(shard(folder), 8, "L", flip=True),
    "hugging face": hugging_face,
    "ring": lambda folder: ring(size=64),
    "checkerboard": lambda folder: checkerboard(size=64),
    "two moons": lambda folder: two_moons(size=64),
    "spiral": lambda folder: spiral(size=64),
}


@pytest.fixture(params=SOURCES)
def source(request, folder: Path) -> Dataset:
    return SOURCES[request.param](folder)


def test_every_example_is_what_the_source_says_it_gives(source: Dataset) -> None:
    assert source.name
    assert len(source) > 0
    for index in range(min(len(source), 64)):
        example = source.example(index, rng(index))
        assert (example.data.dtype, example.data.shape) == (np.float32, source.shape)
        assert np.isfinite(example.data).all()
        assert example.data.flags["C_CONTIGUOUS"]
        assert example.data.flags["WRITEABLE"]
        assert example.caption in source.captions or not example.caption
        assert example.label is None or 0 <= example.label < source.classes
        if len(source.shape) == 3:
            assert 0 <= example.data.min() <= example.data.max() <= 1


def test_an_example_is_fixed_by_its_index_and_rng(source: Dataset) -> None:
    assert same(source.example(1, rng(3)), source.example(1, rng(3)))


def test_prefetched_batches_are_the_batches(source: Dataset) -> None:
    batches = list(prefetched(source, 3, seed=1, first=4, last=9))
    assert len(batches) == 5
    for step, batch in enumerate(batches, start=4):
        assert all(map(same, batch, examples(source, 3, 1, step)))


def test_ranks_together_see_what_one_process_sees(source: Dataset) -> None:
    for step in range(3):
        parts = [example for rank in range(3) for example in examples(source, 2, 7, step, rank, world=3)]
        assert all(map(same, examples(source, 6, 7, step), parts))


def test_an_epoch_is_a_permutation_and_the_next_another() -> None:
    first = [index for step in range(5) for index in indices(10, 2, seed=0, step=step)]
    second = [index for step in range(5, 10) for index in indices(10, 2, seed=0, step=step)]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_a_batch_may_be_larger_than_the_data() -> None:
    assert sorted(indices(3, 7, seed=0, step=0)[:6]) == [0, 0, 1, 1, 2, 2]


def test_a_name_is_new_to_skipped_only_once() -> None:
    skipped = Skipped()
    assert [skipped.add("a", "x"), skipped.add("a", "x"), skipped.add("b", "y")] == [True, False, True]
    assert len(skipped) == 2
