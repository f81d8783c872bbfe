"""Writing a file so that a reader sees the old one or the new one, never a half; and a folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
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


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``out`` when it is whole; ``out`` must be new or empty.

    Where filling it fails nothing is left behind, and nothing that was there is touched. Raises
    StorageError.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError(f"{out} is there already and not empty; name a new folder with --out")
    part = out.parent / f".{out.name}.{uuid.uuid4().hex}.part"
    try:
        part.mkdir(parents=True)
        yield part
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        raise StorageError(
            f"{out} could not be written: {error.strerror or error}; nothing was left behind. "
            "Free some space or name another folder."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
