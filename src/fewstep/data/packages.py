"""Packages of the npm registry as data: pinned by version and hash, fetched once by `npm pack`, read as archives.

Nothing is unpacked to disk and no script of a package is run; files are read out of the archive by name.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fewstep.data.dataset import DataError

CACHE_VARIABLE = "FEWSTEP_CACHE"
PATIENCE = 600  # time-out of npm for one package, in seconds
LARGEST_FILE = 256 * 2**20  # largest size of a file in an archive, in bytes


@dataclass(frozen=True)
class Package:
    """One version of an npm package.

    Args:
        name: npm's name, with its scope.
        version: exact version.
        sha512: hash of the archive in base64: the part of npm's `integrity` after the dash.
    """

    name: str
    version: str
    sha512: str

    @property
    def archive(self) -> str:
        """The file that `npm pack` writes."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def cache_folder() -> Path:
    """The folder for downloaded and derived data: FEWSTEP_CACHE, else the user's cache folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get(CACHE_VARIABLE) or base / "fewstep")


def locate(package: Package, folder: Path | None = None) -> Path:
    """The verified archive of a package.

    Args:
        package: the package.
        folder: a folder that already holds the archive; if None, the cache, which npm fills.

    Raises:
        DataError: it is not in `folder`, cannot be fetched, or has the wrong hash.
    """
    if folder is not None:
        path = folder / package.archive
        if not path.is_file():
            raise DataError(f"'{folder}' lacks {package.archive}: run `npm pack {package}` there")
        return _verified(package, path)
    path = cache_folder() / "packages" / package.archive
    if not path.is_file():
        _fetch(package, path)
    return _verified(package, path)


def _verified(package: Package, path: Path) -> Path:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    found = base64.b64encode(digest).decode()
    if found != package.sha512:
        raise DataError(
            f"'{path}' is not {package}: its sha512 is {found[:12]}…, but must be {package.sha512[:12]}…; "
            "delete the file and fetch it again"
        )
    return path


def _fetch(package: Package, path: Path) -> None:
    """Have npm download a package to `path`, with an atomic rename."""
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(
            f"fetching {package} needs npm, which is not installed: install Node.js, or give a folder that holds "
            f"{package.archive} in --from"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=path.parent) as scratch:
            _pack(npm, package, Path(scratch))
            (Path(scratch) / package.archive).replace(path)
    except OSError as error:
        raise DataError(f"cannot keep {package} in '{path.parent}': {error.strerror or error}") from error


def _pack(npm: str, package: Package, folder: Path) -> None:
    # npm reads .npmrc from the folder it runs in: the scratch folder has none
    command = [npm, "pack", str(package), "--silent", "--ignore-scripts", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"npm did not fetch {package} within {PATIENCE} seconds: is the registry there?") from error
    if done.returncode or not (folder / package.archive).is_file():
        said = [line for line in done.stderr.splitlines() if line.strip()]
        why = said[0] if said else f"npm pack ended with {done.returncode}"
        raise DataError(f"npm could not fetch {package}: {why}")


def files(archive: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """The regular files of an npm archive that end in one of `suffixes`, as (name without `package/`, content).

    Raises:
        DataError: it is not a tar archive, or a file in it is larger than LARGEST_FILE.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                if not member.isfile() or not member.name.endswith(suffixes):
                    continue
                if member.size > LARGEST_FILE:
                    size = f"{member.size} bytes, more than the {LARGEST_FILE} allowed"
                    raise DataError(f"'{archive}' holds {member.name} of {size}")
                opened = tar.extractfile(member)
                if opened is not None:
                    yield member.name.partition("/")[2], opened.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"cannot read '{archive}': {error}") from error
