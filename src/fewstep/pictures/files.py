"""Write a file whole or not at all."""

import os
import uuid
from pathlib import Path


def write_whole(path: Path, data: bytes, what: str = "the file") -> None:
    """Write the file whole or not at all: into a neighbour first, which then takes its name.

    A link stays a link to the file it names; a pipe or a device is written into. Raises OSError where the path
    cannot be written; whatever stood there before is then still there.
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
