"""Writing a file so that a reader sees the old one or the new one, never a half."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from showtell.errors import StorageError


def write_atomically(path: str | Path, data: bytes) -> Path:
    """Write ``data`` to ``path``, making its folder; what stood there stays whole on any failure.

    Raises StorageError (a full disk, no permission, a folder in the way).
    """
    path = Path(path)
    # beside its goal: os.replace is atomic only within one file system
    part = path.parent / f".{path.name[:80]}.{uuid.uuid4().hex}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise StorageError(
            f"{path} could not be written: {error.strerror or error}; "
            "nothing that stood there was changed. Free some space or name another folder."
        ) from error
    return path
