"""Files and folders that are whole or not there, and one process at a time in a folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from showtell.errors import StorageError

try:
    import fcntl
except ImportError:  # not on this system: then one process at a time is the user's care
    fcntl = None  # type: ignore[assignment]

_PART = re.compile(r"\..+\.[0-9a-f]{32}\.part")


def is_plain_path(name: str) -> bool:
    """Whether a name from outside is that of a file below a folder: none that climbs or begins at
    the root."""
    return not ({"", ".", ".."} & set(name.split("/")) or {"\\", "\0"} & set(name))


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def writing(path: Path, *, kept: str = "nothing that stood there was changed") -> Iterator[None]:
    """What fails inside is a StorageError that names the path and says what is kept."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} could not be written: {error.strerror or error}; {kept}. Free some space or "
            "name another folder, and run the command again."
        ) from error


def write_atomically(path: str | Path, data: bytes) -> Path:
    """Write ``data`` to ``path``, making its folder; what stood there stays whole on any failure.

    Raises StorageError (a full disk, no permission, a folder in the way).
    """
    path = Path(path)
    # beside its goal: os.replace is atomic only within one file system
    part = path.parent / f".{path.name[:80]}.{uuid.uuid4().hex}.part"
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
    return path


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[Path]:
    """Make the folder, and hold it for this block alone; files half written there are removed.

    Raises StorageError before any work is done: where another process (or block) holds it, and
    where nothing can be written. The lock is the system's: it ends with its process, however that
    dies, and leaves no file. A system without such locks refuses nobody.
    """
    folder = Path(folder)
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except (OSError, ValueError) as error:
        raise _unwritable(folder, error) from error
    try:
        _hold(handle, folder)
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise _unwritable(folder, error) from error
        remove_parts(folder)
        yield folder
    finally:
        if made:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
        os.close(handle)


def _hold(handle: int, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StorageError(
            f"another process is at work in {folder}, wanted it for this one alone; nothing was "
            "changed. Wait for its end, or name another folder."
        ) from error
    except OSError:
        pass  # a disk that knows no locks


def _unwritable(folder: Path, error: Exception) -> StorageError:
    reason = getattr(error, "strerror", None) or error
    return StorageError(
        f"{folder!s:.200} cannot be written to ({reason}); wanted a folder for the results. Name "
        "another folder."
    )


def remove_parts(folder: Path) -> None:
    """Remove what a killed ``write_atomically`` left in the folder, or in one two steps below."""
    for place, below, names in os.walk(folder):
        deep = len(Path(place).relative_to(folder).parts)
        below[:] = [name for name in below if deep < 2 and not name.startswith(".")]
        for name in names:
            if _PART.fullmatch(name):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(place, name))


@contextlib.contextmanager
def replacing(folder: Path, *, what: str) -> Iterator[Path]:
    """A fresh folder to fill, which takes the place of ``folder`` by a rename when it is whole; a
    kill between two renames leaves the one of before as FOLDER.old. Raises StorageError."""
    from safetensors import SafetensorError

    fresh, old = (folder.with_name(folder.name + end) for end in (".new", ".old"))
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        yield fresh
        for path in filter(Path.is_file, fresh.rglob("*")):
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise StorageError(
            f'{what} could not be written to "{folder}" ({error}); what was there is unharmed; '
            "free some disk space and run the same command with --resume"
        ) from error


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``out`` when it is whole; ``out`` must be new or empty.

    Where filling it fails nothing is left behind, and nothing that was there is touched; what a
    killed process left is removed by the next that fills the same one. Raises StorageError, also
    where another process fills it.
    """
    out = Path(out)
    part = out.parent / f".{out.name}.part"
    with writing(out, kept="nothing was left behind"), locked(part):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise StorageError(
                f"{out} is there already and not empty; name a new folder with --out"
            )
        try:
            for left in part.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield part
            if out.exists():
                out.rmdir()
            part.rename(out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
