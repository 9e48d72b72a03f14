"""Pictures are opened by what a path holds, and a setting that a source does not have is an error."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from fewstep.data import sources
from fewstep.data.dataset import DataError
from fewstep.data.image_folder import ImageFolder
from fewstep.data.shards import Shards
from fewstep.data.sources import open_pictures
from picture_cases import encoded, gradient


class Asked:
    """A Hugging Face data set that keeps what it was asked for."""

    def __init__(self, *arguments: object, **options: object) -> None:
        self.asked = (arguments, options)


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "HuggingFace", Asked)


def shard(path: Path) -> None:
    held = encoded(gradient())
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("0.png")
        member.size = len(held)
        tar.addfile(member, io.BytesIO(held))


def test_a_folder_of_images_is_one_whatever_lies_beside_them(folder: Path) -> None:
    shard(folder / "download.tar")
    (folder / "embeddings.parquet").write_bytes(b"PAR1")
    assert isinstance(open_pictures(str(folder), 8), ImageFolder)


def test_a_folder_of_shards_is_one(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        shard(tmp_path / name)
    data = open_pictures(str(tmp_path), 8)
    assert isinstance(data, Shards)
    assert len(data) == 2


@pytest.mark.parametrize("file", ["data/train-00000.parquet", "metadata.parquet"])
def test_a_folder_of_parquet_goes_to_hugging_face(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(b"PAR1")
    if file == "metadata.parquet":  # imagefolder's own kind of metadata, beside its images
        gradient().save(tmp_path / "0.png")
    assert isinstance(open_pictures(str(tmp_path), 8), Asked)


def test_the_home_directory_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(open_pictures("~/pictures", 8)) == 6


def test_a_split_and_a_caption_column_reach_a_folder(folder: Path) -> None:
    for split in ("train", "test"):
        (folder / split).mkdir()
        (folder / split / "metadata.csv").write_text(f"file_name,titre,note\nx.png,{split},y\n")
        gradient().save(folder / split / "x.png")
    for number in range(6):
        (folder / f"{number}.png").unlink()
    assert open_pictures(str(folder), 8, split="test", caption_column="titre").captions == ["test"]
    with pytest.raises(DataError, match="has no split 'dev'"):
        open_pictures(str(folder), 8, split="dev")


def test_a_configuration_and_a_caption_column_reach_hugging_face() -> None:
    data = open_pictures("user/name", 8, split="test", caption_column="titre", config="small")
    assert isinstance(data, Asked)
    arguments, options = data.asked
    assert arguments == ("user/name", "test")
    assert (options["caption_column"], options["config"]) == ("titre", "small")


def test_settings_of_another_source_are_refused(folder: Path, tmp_path: Path) -> None:
    shard(tmp_path / "a.tar")
    for source in (folder, tmp_path / "a.tar"):
        with pytest.raises(DataError, match="config is only for Hugging Face data sets"):
            open_pictures(str(source), 8, config="small")
    with pytest.raises(DataError, match="shards have no columns: leave caption_column out, got 'titre'"):
        open_pictures(str(tmp_path / "a.tar"), 8, caption_column="titre")
