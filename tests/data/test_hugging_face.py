"""Hugging Face data sets from disk: the same loading code as for the hub, without the network."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from fewstep.data.dataset import DataError, examples
from fewstep.data.hugging_face import Columns, HuggingFace, find_columns
from picture_cases import BAD, all_of, encoded, gradient, rng, same

datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def made(**columns: list) -> datasets.Dataset:
    """Three rows with images, and what else is given."""
    rows = {"image": [gradient(turn=turn) for turn in range(3)], **columns}
    features = {"image": datasets.Image()} | {
        name: datasets.ClassLabel(names=["cat", "red_panda"]) if name == "label" else datasets.Value("string")
        for name in columns
    }
    return datasets.Dataset.from_dict(rows, datasets.Features(features))


def told(data: HuggingFace) -> list[tuple[str, int | None]]:
    return [(example.caption, example.label) for example in all_of(data)]


def test_a_saved_data_set_gives_its_images_captions_and_labels(tmp_path: Path) -> None:
    made(text=["one", "two", "three"], label=[0, 1, 1]).save_to_disk(tmp_path / "zoo")
    data = HuggingFace(tmp_path / "zoo", size=8)
    assert data.columns == Columns("image", "text", "label")
    assert (data.name, len(data), data.shape, data.classes) == ("zoo", 3, (3, 8, 8), 2)
    assert data.captions == ["one", "two", "three"]
    assert told(data) == [("one", 0), ("two", 1), ("three", 1)]


def test_class_names_stand_in_for_captions(tmp_path: Path) -> None:
    made(label=[0, 1, -1]).save_to_disk(tmp_path / "zoo")
    data = HuggingFace(tmp_path / "zoo", size=8)
    assert data.captions == ["cat", "red panda"]
    assert told(data) == [("cat", 0), ("red panda", 1), ("", None)]


def test_saved_splits_are_chosen_by_name(tmp_path: Path) -> None:
    splits = {"train": made(), "test": made(text=["a", "b", "c"])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "zoo")
    assert HuggingFace(tmp_path / "zoo", "test", size=8).captions == ["a", "b", "c"]
    with pytest.raises(DataError, match="has no split 'validation'; it has: train, test"):
        HuggingFace(tmp_path / "zoo", "validation", size=8)
    alone = datasets.Dataset.from_dict({"image": [b"x"]}, split=datasets.Split.TEST)
    alone.save_to_disk(tmp_path / "alone")
    with pytest.raises(DataError, match="holds the split 'test', got split='train'"):
        HuggingFace(tmp_path / "alone", size=8)


def test_a_shuffled_selection_keeps_captions_beside_their_images(tmp_path: Path) -> None:
    whole = made(text=["0", "1", "2"])
    whole.select([2, 0]).save_to_disk(tmp_path / "zoo")
    data = HuggingFace(tmp_path / "zoo", size=8, channels="RGB")
    assert [(example.caption, round(float(example.data[2, 0, 0]) * 255)) for example in all_of(data)] == [
        ("2", 80),
        ("0", 0),
    ]


def test_an_image_folder_is_read(folder: Path) -> None:
    rows = [json.dumps({"file_name": f"{number}.png", "prompt": f"number {number}"}) for number in range(6)]
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    data = HuggingFace(folder, size=8)
    assert (data.name, data.columns) == ("pictures", Columns("image", "prompt", None))
    assert sorted(data.captions) == [f"number {number}" for number in range(6)]
    assert len(all_of(data)) == 6


def test_a_split_may_be_a_slice(folder: Path) -> None:
    assert len(HuggingFace(folder, "train[:4]", size=8)) == 4


def test_a_parquet_file_is_read_by_whomever_it_was_written(tmp_path: Path) -> None:
    made(caption=["x", "y", "z"]).to_parquet(tmp_path / "ours.parquet")
    assert HuggingFace(tmp_path / "ours.parquet", size=8).captions == ["x", "y", "z"]
    files = [encoded(gradient(turn=turn)) for turn in range(2)]
    parquet.write_table(pyarrow.table({"photo": files, "title": ["p", "q"]}), tmp_path / "bytes.parquet")
    data = HuggingFace(tmp_path / "bytes.parquet", size=8)
    assert (data.columns, len(all_of(data))) == (Columns("photo", "title", None), 2)
    structs = [{"bytes": file, "path": None} for file in files]
    parquet.write_table(pyarrow.table({"pic": structs}), tmp_path / "struct.parquet")
    assert HuggingFace(tmp_path / "struct.parquet", size=8).columns == Columns("pic", None, None)


def test_columns_are_found_by_type_and_name() -> None:
    text, image, many = datasets.Value("string"), datasets.Image(), datasets.List(datasets.Value("string"))
    label = datasets.ClassLabel(names=["a"])
    assert find_columns({"img": image, "url": text, "__key__": text}) == Columns("img", None, None)
    assert find_columns({"img": image, "url": text, "title": text}) == Columns("img", "title", None)
    assert find_columns({"img": image, "sentences": many}) == Columns("img", "sentences", None)
    assert find_columns({"img": image, "prompt": text, "text": text, "title": text}).caption == "text"
    assert find_columns({"image": image, "conditioning_image": image}).image == "image"
    assert find_columns({"img": image, "fine": label, "label": label}).label == "label"
    assert find_columns({"img": image, "a": text, "b": text}, caption="") == Columns("img", None, None)
    assert find_columns({"img": image, "a": text, "b": text}, caption="b") == Columns("img", "b", None)


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (
            {"left": "image", "right": "image"},
            {},
            "left, right may each be the image: give image_column=…; the columns",
        ),
        (
            {"i": "image", "a": "text", "b": "text"},
            {},
            "a, b may each be the caption: .* or caption_column='' for none",
        ),
        ({"i": "image", "a": "label", "b": "label"}, {}, "a, b may each be the label: give label_column=…"),
        ({"a": "text"}, {}, r"no column holds images: give image_column=…; the columns are: a \(string\)"),
        ({"i": "image"}, {"caption": "x"}, "no column 'x'; the columns are: i"),
    ],
)
def test_columns_that_cannot_be_told_apart_are_listed(names: dict, given: dict, message: str) -> None:
    kinds = {"image": datasets.Image(), "text": datasets.Value("string"), "label": datasets.ClassLabel(names=["x"])}
    with pytest.raises(DataError, match=message):
        find_columns({name: kinds[kind] for name, kind in names.items()}, **given)


def test_what_was_found_is_logged(tmp_path: Path, caplog) -> None:
    made(text=["a", "b", "c"]).save_to_disk(tmp_path / "zoo")
    with caplog.at_level(logging.INFO):
        HuggingFace(tmp_path / "zoo", size=8)
    assert "Columns(image='image', caption='text', label=None)" in caplog.text


def test_labels_may_be_numbers_or_text(tmp_path: Path) -> None:
    files = [encoded(gradient()) for _ in range(3)]
    table = pyarrow.table({"image": files, "number": [4, 0, -1], "animal": ["dog", "cat", "dog"], "x": [0.5, 1, 2]})
    parquet.write_table(table, tmp_path / "a.parquet")

    def opened(column: str) -> HuggingFace:
        return HuggingFace(tmp_path / "a.parquet", size=8, caption_column="", label_column=column)

    assert (opened("number").classes, told(opened("number"))) == (5, [("", 4), ("", 0), ("", None)])
    assert (opened("animal").classes, told(opened("animal"))) == (2, [("dog", 1), ("cat", 0), ("dog", 1)])
    with pytest.raises(DataError, match="label column 'x' must hold classes, whole numbers or text"):
        opened("x")


def test_bad_images_and_empty_rows_are_named_and_counted(tmp_path: Path, caplog) -> None:
    files = [encoded(gradient()), *BAD.values(), None]
    parquet.write_table(pyarrow.table({"image": files}), tmp_path / "mixed.parquet")
    data = HuggingFace(tmp_path / "mixed.parquet", size=8)
    assert len(all_of(data)) == len(files)
    assert set(data.skipped.reasons) == {f"mixed/train[{row}]" for row in range(1, len(files))}
    assert data.skipped.reasons[f"mixed/train[{len(files) - 1}]"] == "the row holds no image"
    assert len(caplog.records) == len(files) - 1


def test_the_same_index_and_seed_give_the_same_example(tmp_path: Path) -> None:
    made(text=["a", "b", "c"]).save_to_disk(tmp_path / "zoo")
    data = HuggingFace(tmp_path / "zoo", size=8, crop="random", flip=True, channels="RGBA")
    again = HuggingFace(tmp_path / "zoo", size=8, crop="random", flip=True, channels="RGBA", cache_bytes=0)
    assert all(same(data.example(index, rng(7)), again.example(index, rng(7))) for index in range(3))
    assert all(map(same, examples(data, 3, 1, 4), examples(again, 3, 1, 4)))


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none", "./none", "none.parquet", "~/none"):
        with pytest.raises(DataError, match="there is no"):
            HuggingFace(path, size=8)
    with pytest.raises(DataError, match="no folder or file 'nobody/nothing', and no Hugging Face data set"):
        HuggingFace("nobody/nothing", size=8)
    (tmp_path / "x.zip").write_bytes(b"x")
    with pytest.raises(DataError, match=r"must be a folder or one of \.parquet"):
        HuggingFace(tmp_path / "x.zip", size=8)
    (tmp_path / "x.parquet").write_bytes(b"x")
    with pytest.raises(DataError, match=r"the split 'train' of .*x\.parquet cannot be loaded"):
        HuggingFace(tmp_path / "x.parquet", size=8)
    made().to_parquet(tmp_path / "y.parquet")
    with pytest.raises(DataError, match=r'"train\[:0\]" corresponds to no data'):
        HuggingFace(tmp_path / "y.parquet", "train[:0]", size=8)
    with pytest.raises(DataError, match=r'Unknown split "test"'):
        HuggingFace(tmp_path / "y.parquet", "test", size=8)


def test_an_empty_split_is_an_error(monkeypatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: made().select([]))
    with pytest.raises(DataError, match="the split 'test' of some/thing is empty"):
        HuggingFace("some/thing", "test", size=8)


def test_a_hub_name_is_loaded_with_its_configuration_split_and_revision(monkeypatch) -> None:
    asked: list[tuple] = []

    def load_dataset(*given: object, **named: object) -> datasets.Dataset:
        asked.append((given, named))
        return made(text=["a", "b", "c"])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    data = HuggingFace("some/thing", "test", size=8, config="small", revision="v2")
    assert asked == [(("some/thing", "small"), {"split": "test", "revision": "v2"})]
    assert (data.name, told(data)[0]) == ("some/thing", ("a", None))


def test_without_datasets_the_error_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'fewstep\[train\]'"):
        HuggingFace("anything", size=8)
