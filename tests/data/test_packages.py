"""Packages of npm: fetched once, believed only with the right hash, read without being unpacked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fewstep.data import packages
from fewstep.data.dataset import DataError
from fewstep.data.packages import Package, files, locate
from sticker_packages import archive

FILES = {"package/icons.json": b"{}", "package/read.me": b"x", "../../escape.json": b"evil"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def package(tmp_path: Path) -> Package:
    """One whose archive lies in tmp_path/here."""
    return archive(tmp_path / "here", Package("@scope/name", "1.2.3", ""), FILES)


def fake_npm(folder: Path, script: str) -> str:
    """A folder for PATH with an npm that runs this script."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / "npm").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_an_archive_is_named_as_npm_names_it(package: Package) -> None:
    assert package.archive == "scope-name-1.2.3.tgz"
    assert str(package) == "@scope/name@1.2.3"


def test_files_are_read_by_suffix_and_nothing_is_unpacked(package: Package, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    path = locate(package, tmp_path / "here")
    assert list(files(path, ("icons.json",))) == [("icons.json", b"{}")]
    assert dict(files(path, (".json",)))["../escape.json"] == b"evil"  # a name to look up by, never a path to write
    assert set(tmp_path.rglob("*")) == before


def test_another_hash_is_refused(package: Package, tmp_path: Path) -> None:
    path = tmp_path / "here" / package.archive
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"is not @scope/name@1\.2\.3: its sha512 is .*delete the file"):
        locate(package, tmp_path / "here")


def test_a_folder_without_the_archive_says_which_command_writes_it(package: Package, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lacks scope-name-1\.2\.3\.tgz: run `npm pack @scope/name@1\.2\.3` there"):
        locate(package, tmp_path)


def test_npm_fetches_once_into_the_cache(
    package: Package, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = tmp_path / "count"
    script = f'echo "$@" >> {count}; cp {tmp_path}/here/{package.archive} "$6"'
    monkeypatch.setenv("PATH", fake_npm(tmp_path / "bin", script))
    for _ in range(2):
        assert locate(package) == cache / "packages" / package.archive
    (asked,) = count.read_text(encoding="utf-8").splitlines()
    assert asked.startswith("pack @scope/name@1.2.3 ")
    assert "--ignore-scripts" in asked
    assert [path.name for path in (cache / "packages").iterdir()] == [package.archive]


def test_without_npm_it_says_what_to_do(package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"npm, which is not installed: install Node\.js, or give a folder"):
        locate(package)


def test_without_a_network_npms_own_words_are_given(
    package: Package, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", fake_npm(tmp_path / "bin", "echo 'npm error code ENOTFOUND' >&2; exit 1"))
    with pytest.raises(DataError, match=r"npm could not fetch @scope/name@1\.2\.3: npm error code ENOTFOUND"):
        locate(package)
    assert not list((cache / "packages").iterdir())


def test_npm_that_hangs_is_given_up(package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PATIENCE", 0.2)
    monkeypatch.setenv("PATH", fake_npm(tmp_path / "bin", "exec sleep 20"))
    with pytest.raises(DataError, match=r"within 0\.2 seconds: is the registry there\?"):
        locate(package)


def test_a_cache_that_cannot_be_written_is_one_line(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("PATH", fake_npm(tmp_path / "bin", "exit 0"))
    with pytest.raises(DataError, match=r"cannot keep @scope/name@1\.2\.3 in '.*file/packages'"):
        locate(package)


def test_what_is_no_archive_and_what_is_too_large_are_errors(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.tgz").write_text("no archive", encoding="utf-8")
    with pytest.raises(DataError, match=r"cannot read '.*text\.tgz'"):
        list(files(tmp_path / "text.tgz", (".json",)))
    monkeypatch.setattr(packages, "LARGEST_FILE", 1)
    with pytest.raises(DataError, match=r"holds package/icons\.json of 2 bytes, more than the 1 allowed"):
        list(files(tmp_path / "here" / package.archive, (".json",)))
