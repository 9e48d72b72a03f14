"""Image folders: captions and classes from where people keep them, and no file lost without a word."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from fewstep.data.dataset import DataError, examples, prefetched
from fewstep.data.image_folder import ImageFolder
from picture_cases import BAD, all_of, encoded, gradient, rng, same


def write(path: Path, held: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(held if isinstance(held, bytes) else held.encode())


def captions_of(root: Path, **options: object) -> list[str]:
    return [example.caption for example in all_of(ImageFolder(root, 8, **options))]


def test_a_folder_of_images_needs_no_captions(folder: Path) -> None:
    data = ImageFolder(folder, 8)
    assert (data.name, len(data), data.shape, data.classes, data.captions) == ("pictures", 6, (3, 8, 8), 0, [])
    assert [(example.caption, example.label) for example in all_of(data)] == [("", None)] * 6
    assert len(data.skipped) == 0


def test_subfolders_are_searched_in_the_order_of_paths(folder: Path) -> None:
    write(folder / "b" / "deep" / "x.JPG", encoded(gradient(), "JPEG"))
    write(folder / ".hidden" / "x.png", encoded(gradient()))
    write(folder / "b" / "._x.png", b"what macOS leaves beside x.png")
    assert len(ImageFolder(folder, 8)) == 7


def test_a_linked_folder_is_searched_and_a_circle_of_links_ends(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    write(elsewhere / "x.png", encoded(gradient()))
    (folder / "link").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    assert len(ImageFolder(folder, 8)) == 7


@pytest.mark.parametrize("column", ["text", "caption", "prompt"])
def test_captions_come_from_metadata_jsonl(folder: Path, column: str) -> None:
    rows = [json.dumps({"file_name": f"{n}.png", column: f"number {n}"}) for n in range(6)]
    write(folder / "metadata.jsonl", "\n".join(rows) + "\n\n")
    assert captions_of(folder) == [f"number {n}" for n in range(6)]
    assert ImageFolder(folder, 8).captions == [f"number {n}" for n in range(6)]


def test_captions_come_from_metadata_csv(folder: Path) -> None:
    rows = [f'{n}.png,"a picture, number {n}"' for n in range(6)]
    write(folder / "metadata.csv", "\ufefffile_name,text\r\n" + "\r\n".join(rows))
    assert captions_of(folder) == [f"a picture, number {n}" for n in range(6)]


def test_metadata_in_a_subfolder_speaks_of_that_subfolder(folder: Path) -> None:
    write(folder / "more" / "x.png", encoded(gradient()))
    write(folder / "more" / "metadata.jsonl", '{"file_name": "x.png", "text": "inner"}')
    assert captions_of(folder) == [""] * 6 + ["inner"]


def test_another_caption_column_can_be_named(folder: Path) -> None:
    write(folder / "metadata.csv", "file_name,titre\n0.png,un\n")
    assert captions_of(folder, caption_column="titre")[0] == "un"
    with pytest.raises(DataError, match=r"no column 'title' in the metadata of .*; it has: titre"):
        ImageFolder(folder, 8, caption_column="title")
    (folder / "metadata.csv").unlink()
    with pytest.raises(DataError, match="it has: none"):
        ImageFolder(folder, 8, caption_column="titre")


def test_several_captions_of_an_image_are_drawn_from_the_rng(folder: Path) -> None:
    rows = [{"file_name": "0.png", "text": ["one", "two"]}, {"file_name": "0.png", "text": "three"}]
    write(folder / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    data = ImageFolder(folder, 8)
    assert {data.example(0, rng(seed)).caption for seed in range(40)} == {"one", "two", "three"}
    assert data.captions == ["one", "two", "three"]


def test_captions_come_from_text_files_beside_the_images(folder: Path) -> None:
    write(folder / "0.txt", "\ufeffa red\nfox \n")
    assert captions_of(folder)[:2] == ["a red fox", ""]


def test_every_usual_kind_of_caption_file_is_read(folder: Path, caplog) -> None:
    write(folder / "0.TXT", "a fox")
    write(folder / "1.caption", "an owl")
    write(folder / "2.json", json.dumps({"width": 8, "caption": "a wolf"}))
    write(folder / "3.png.txt", "a bear")
    write(folder / "4.txt", "a hare")
    write(folder / "4.json", json.dumps({"prompt": ["a hare", "a rabbit"]}))
    write(folder / "b" / "4.jpg", encoded(gradient(), "JPEG"))
    write(folder / "licence plate.png", encoded(gradient()))
    write(folder / "licence plate.txt", "a number")
    data = ImageFolder(folder, 8)
    assert data.captions == ["a fox", "an owl", "a wolf", "a bear", "a hare", "a rabbit", "a number"]
    assert "not read" not in caplog.text


def test_a_caption_file_is_of_every_image_of_its_name(folder: Path) -> None:
    write(folder / "0.jpg", encoded(gradient(), "JPEG"))
    write(folder / "0.txt", "a fox")
    assert captions_of(folder)[:2] == ["a fox", "a fox"]


@pytest.mark.parametrize("name", ["captions.csv", "b/captions.JSON", "7.txt", "metadata.tsv", "0.json"])
def test_a_file_that_may_hold_captions_and_is_not_read_is_named(folder: Path, name: str, caplog) -> None:
    write(folder / name, "0.png,a fox")
    write(folder / "README.txt", "about this data")
    write(folder / "LICENSE.txt", "free")
    ImageFolder(folder, 8)
    assert f"not read: {name}; captions come from metadata.jsonl, metadata.csv and .txt" in caplog.text


def test_text_files_that_metadata_replaces_are_named(folder: Path, caplog) -> None:
    write(folder / "metadata.jsonl", "\n".join(json.dumps({"file_name": f"{n}.png", "text": "x"}) for n in range(6)))
    for n in range(5):
        write(folder / f"{n}.txt", "another text")
    assert ImageFolder(folder, 8).captions == ["x"]
    assert "not read: 0.txt, 1.txt, 2.txt and 2 more; captions" in caplog.text


def test_an_empty_cell_does_not_hide_a_filled_one(folder: Path) -> None:
    write(folder / "metadata.csv", "file_name,text,caption\n0.png,,a fox\n1.png, ,\n2.png,an owl,a bird\n")
    assert captions_of(folder)[:3] == ["a fox", "", "an owl"]


def test_a_row_of_more_fields_than_columns_is_refused(folder: Path) -> None:
    write(folder / "metadata.csv", "file_name,text\n0.png,a red, quick fox\n")
    with pytest.raises(DataError, match=r"metadata\.csv, line 2: more fields than columns: quote a text with commas"):
        ImageFolder(folder, 8)
    write(folder / "metadata.csv", "file_name,text\n0.png,a fox,\n")
    assert captions_of(folder)[0] == "a fox"


def test_accents_match_however_they_are_composed(folder: Path) -> None:
    write(folder / "cafe\u0301.png", encoded(gradient()))
    write(folder / "metadata.jsonl", json.dumps({"file_name": "caf\u00e9.png", "text": "coffee"}))
    data = ImageFolder(folder, 8)
    assert data.captions == ["coffee"]
    assert len(data.skipped) == 0


def test_class_folders_give_labels_and_words(tmp_path: Path) -> None:
    for name in ("zoo/red_panda/a.png", "zoo/cat/b.png", "home/cat/c.png"):
        write(tmp_path / name, encoded(gradient()))
    data = ImageFolder(tmp_path, 8)
    assert data.classes == 2
    assert data.captions == ["cat", "red panda"]
    assert [(example.caption, example.label) for example in all_of(data)] == [
        ("cat", 0),
        ("cat", 0),
        ("red panda", 1),
    ]


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    """Two splits of class folders, with a file that belongs to neither."""
    root = tmp_path / "divided"
    for name in ("train/red_panda/a.png", "train/cat/b.png", "test/cat/c.png", "test/dog/d.png"):
        write(root / name, encoded(gradient()))
    write(root / "README.md", "hello")
    return root


def test_what_is_held_out_stays_so_and_splits_are_no_classes(divided: Path) -> None:
    data = ImageFolder(divided, 8)
    assert (data.classes, data.captions) == (2, ["cat", "red panda"])
    assert captions_of(divided, split="test") == ["cat", "dog"]


def test_splits_without_classes_have_no_captions(tmp_path: Path) -> None:
    for name in ("Training/a.png", "val/b.png", "val/c.png"):
        write(tmp_path / name, encoded(gradient()))
    assert captions_of(tmp_path) == [""]
    assert captions_of(tmp_path, split="validation") == captions_of(tmp_path, split="val") == ["", ""]
    assert ImageFolder(tmp_path, 8).classes == 0


def test_each_split_has_its_own_metadata_and_that_of_others_is_not_read(divided: Path) -> None:
    write(divided / "train" / "metadata.csv", "file_name,text\ncat/b.png,a tabby\n")
    write(divided / "test" / "metadata.jsonl", "no JSON")
    data = ImageFolder(divided, 8)
    assert (data.captions, data.classes, len(data.skipped)) == (["a tabby"], 0, 0)


def test_metadata_above_the_splits_speaks_of_them_all(divided: Path) -> None:
    write(divided / "metadata.csv", "file_name,text\ntrain/cat/b.png,a tabby\ntest/dog/d.png,a pug\n")
    data = ImageFolder(divided, 8)
    assert (data.captions, len(data.skipped)) == (["a tabby"], 0)
    assert ImageFolder(divided, 8, split="test").captions == ["a pug"]


def test_a_split_that_is_not_there_is_an_error_that_names_those_that_are(divided: Path) -> None:
    with pytest.raises(DataError, match=r"has no split 'validation'; it has: test, train"):
        ImageFolder(divided, 8, split="validation")


def test_folders_are_splits_only_where_all_are_named_so(divided: Path) -> None:
    write(divided / "more" / "e.png", encoded(gradient()))
    assert len(ImageFolder(divided, 8, split="whatever")) == 5


def test_one_folder_is_no_class(tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.png", encoded(gradient()))
    data = ImageFolder(tmp_path, 8)
    assert (data.classes, data.captions) == (0, [])


def test_every_bad_image_is_named_counted_and_warned_of_once(folder: Path, caplog) -> None:
    for name, held in BAD.items():
        write(folder / name, held)
    data = ImageFolder(folder, 8)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert len(all_of(data)) == 6 + len(BAD)
    assert set(data.skipped.reasons) == set(BAD)
    assert sorted(record.getMessage().split(":")[0] for record in caplog.records) == sorted(BAD)


def test_the_substitute_of_a_bad_image_does_not_depend_on_what_was_read_before(folder: Path) -> None:
    write(folder / "2.png", b"")
    write(folder / "3.png", b"no image")
    fresh, used = ImageFolder(folder, 8), ImageFolder(folder, 8)
    all_of(used)
    assert same(fresh.example(2, rng(1)), used.example(2, rng(1)))
    assert same(fresh.example(2, rng(1)), fresh.example(4, rng(1)))


def test_the_substitute_brings_its_own_caption(folder: Path) -> None:
    write(folder / "0.png", b"")
    write(folder / "0.txt", "the lost one")
    write(folder / "1.txt", "the next one")
    assert captions_of(folder)[0] == "the next one"


def test_nothing_readable_is_an_error_that_names_the_first(tmp_path: Path) -> None:
    write(tmp_path / "a.png", b"")
    with pytest.raises(DataError, match=r"no image of 1 can be read; a\.png: the file is empty"):
        ImageFolder(tmp_path, 8).example(0, rng())


def test_rows_of_missing_files_are_named_with_their_line(folder: Path, caplog) -> None:
    rows = [{"file_name": "0.png", "text": "here"}, {"file_name": "gone.png", "text": "not here"}]
    write(folder / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    write(folder / "more" / "metadata.csv", "file_name,text\n../../outside.png,x\n")
    data = ImageFolder(folder, 8)
    assert data.skipped.reasons == {
        "gone.png": "named in metadata.jsonl, line 2, but no such image is in the folder",
        "../outside.png": "named in more/metadata.csv, line 2, but no such image is in the folder",
    }
    assert "gone.png: skipped" in caplog.text
    assert len(data) == 6


def test_images_of_other_formats_are_not_passed_over_in_silence(folder: Path, caplog) -> None:
    write(folder / "photo.HEIC", b"something")
    data = ImageFolder(folder, 8)
    assert data.skipped.reasons == {"photo.HEIC": ".HEIC is not read: convert it to PNG, JPEG or WebP"}
    assert "photo.HEIC" in caplog.text


def test_thousands_of_another_format_are_a_few_warnings_and_all_counted(folder: Path, caplog) -> None:
    for number in range(12):
        write(folder / f"photo{number:02}.heic", b"something")
    data = ImageFolder(folder, 8)
    assert len(data.skipped) == 12
    assert len(caplog.records) == 6
    assert "pictures: 7 more like these were skipped" in caplog.text


def test_a_subfolder_that_may_not_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    (folder / "deep" / "private").mkdir(parents=True)
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("private"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    data = ImageFolder(folder, 8)
    assert len(data) == 6
    assert data.skipped.reasons == {"deep/private": "the folder cannot be read: Permission denied"}
    assert "deep/private: skipped" in caplog.text
    with pytest.raises(DataError, match="private cannot be read: Permission denied"):
        ImageFolder(folder / "deep" / "private", 8)


def test_metadata_without_a_caption_names_its_columns(folder: Path, caplog) -> None:
    write(folder / "metadata.csv", "file_name,description,width\n0.png,a red fox,24\n")
    assert ImageFolder(folder, 8).captions == []
    assert "has no caption in text, caption, prompt; its columns are description, file_name, width" in caplog.text
    assert "caption_column" in caplog.text
    caplog.clear()
    assert ImageFolder(folder, 8, caption_column="description").captions == ["a red fox"]
    assert "its columns" not in caplog.text


def test_missing_captions_among_others_are_counted(folder: Path, caplog) -> None:
    write(folder / "0.txt", "one")
    ImageFolder(folder, 8)
    assert "5 of 6 images have no caption" in caplog.text


@pytest.mark.parametrize(
    ("name", "held", "message"),
    [
        ("metadata.jsonl", '{"file_name": "0.png"}\n{"file_name": ', r"metadata\.jsonl, line 2: not JSON"),
        ("metadata.jsonl", "[1, 2]", r"metadata\.jsonl, line 1: must be an object with file_name, got \[1, 2\]"),
        ("metadata.jsonl", '{"text": "x"}', r"metadata\.jsonl, line 1: file_name is missing"),
        ("metadata.jsonl", "[" * 100_000, r"metadata\.jsonl, line 1: not JSON"),
        ("metadata.jsonl", b"\xff\xfe\x00", r"metadata\.jsonl is not UTF-8"),
        ("metadata.csv", "file,text\n0.png,x\n", r"metadata\.csv: its first line must name the columns, file_name"),
        ("metadata.csv", "", r"metadata\.csv: its first line must name the columns, file_name"),
        ("metadata.csv", "file_name,text\n,x\n", r"metadata\.csv, line 2: file_name is missing"),
        ("metadata.csv", "file_name,text\n0.png," + "x" * 200_000, r"metadata\.csv, line \d: not CSV"),
        ("metadata.parquet", b"PAR1", r"metadata\.parquet is not read here"),
        ("0.txt", b"\xff\xfe\x00", r"0\.txt cannot be read as UTF-8"),
    ],
)
def test_metadata_that_cannot_be_read_is_an_error_with_its_place(
    folder: Path, name: str, held: bytes | str, message: str
) -> None:
    write(folder / name, held)
    with pytest.raises(DataError, match=message):
        ImageFolder(folder, 8)


def test_a_folder_without_images_and_no_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        ImageFolder(tmp_path / "none", 8)
    write(tmp_path / "notes.md", "hello")
    with pytest.raises(DataError, match="holds no images"):
        ImageFolder(tmp_path, 8)
    with pytest.raises(DataError, match="is not a folder"):
        ImageFolder(tmp_path / "notes.md", 8)
    write(tmp_path / "a.heic", b"x")
    with pytest.raises(DataError, match=r"only files that cannot be used \(1\)"):
        ImageFolder(tmp_path, 8)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_skipped_by_name(folder: Path) -> None:
    (folder / "0.png").chmod(0)
    data = ImageFolder(folder, 8)
    all_of(data)
    assert "PermissionError" in data.skipped.reasons["0.png"]


def test_a_file_that_goes_missing_is_skipped_by_name(folder: Path) -> None:
    data = ImageFolder(folder, 8)
    (folder / "0.png").unlink()
    all_of(data)
    assert data.skipped.reasons == {"0.png": "the file is missing"}


def test_an_index_out_of_range_is_an_error(folder: Path) -> None:
    for index in (-1, 6):
        with pytest.raises(IndexError, match="index must be between 0 and 5"):
            ImageFolder(folder, 8).example(index, rng())


def test_the_same_index_and_seed_give_the_same_example_with_or_without_cache(folder: Path) -> None:
    cached = ImageFolder(folder, 8, crop="random", flip=True)
    plain = ImageFolder(folder, 8, crop="random", flip=True, cache_bytes=0)
    for index in range(6):
        first = cached.example(index, rng(index))
        assert same(first, cached.example(index, rng(index)))
        assert same(first, plain.example(index, rng(index)))


def test_writing_into_an_example_leaves_the_data_set_as_it_was(folder: Path) -> None:
    data = ImageFolder(folder, 8)
    first = data.example(0, rng()).data.copy()
    data.example(0, rng()).data[:] = 0
    assert np.array_equal(data.example(0, rng()).data, first)


def test_prefetched_batches_are_the_batches(folder: Path) -> None:
    data = ImageFolder(folder, 8, crop="random", flip=True)
    batches = list(prefetched(data, 4, seed=3, first=2, last=7))
    assert len(batches) == 5
    for step, batch in enumerate(batches, start=2):
        assert all(map(same, batch, examples(data, 4, 3, step)))


def test_ranks_together_see_what_one_process_sees(folder: Path) -> None:
    data = ImageFolder(folder, 8, crop="random", flip=True)
    for step in range(4):
        whole = examples(data, 6, seed=1, step=step)
        parts = [example for rank in range(3) for example in examples(data, 2, 1, step, rank, world=3)]
        assert all(map(same, whole, parts))
