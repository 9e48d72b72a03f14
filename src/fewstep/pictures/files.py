"""Write files atomically."""

import os
import uuid
from pathlib import Path


def write_whole(path: Path, data: bytes, what: str = "the file") -> None:
    """Write a file whole or not at all: a temporary neighbour is written first, and then takes its name.

    A link stays a link, and the file that it points to is replaced; a pipe or a device is written to directly.
    Raises OSError if the path cannot be written; an existing file is then left unchanged.
    """
    try:
        real = Path(os.path.realpath(path))
        if path.exists() and not (path.is_file() or path.is_dir()):
            path.write_bytes(data)
            return
        neighbour = real.with_name(f".fewstep-{uuid.uuid4().hex}.tmp")
        try:
            with neighbour.open("xb") as file:
                file.write(data)
            neighbour.replace(real)
        finally:
            neighbour.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {what} ({error.strerror})", str(path)) from error
