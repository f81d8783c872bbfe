"""Archives that were fetched: files of expected names are taken out, under those names only.

Not by pooch's processors: they know no limit of size, and no filter of tars before Python 3.12.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from showtell.data.download import disk
from showtell.errors import DataError, StorageError

MAX_UNPACKED = 20_000_000_000  # bytes, of all files of an archive together


def unpack(archive: Path, folder: Path, members: str) -> None:
    """Take the files out whose own names fit ``members`` (a pattern) and that are not there yet.

    Where they lay in the archive does not matter, so that no name in it can lead anywhere. Raises
    DataError for an archive that is damaged, holds none of them or is larger than it may be.
    """
    found, size = False, 0
    try:
        for name, stream in _members(archive, re.compile(members)):
            found = True
            if (folder / name).exists():
                continue
            part = folder / f"{name}.part"
            with disk(part):
                folder.mkdir(parents=True, exist_ok=True)
                file = open(part, "wb")  # noqa: SIM115 (errors of disk and archive are apart)
            with file:
                while chunk := stream.read(1 << 20):
                    size += len(chunk)
                    if size > MAX_UNPACKED:
                        part.unlink()
                        raise DataError(
                            f"{archive} unpacks to over {MAX_UNPACKED / 1e9:,.1f} GB, more "
                            "than this data set has. Delete it and look at the owners' page."
                        )
                    with disk(part):
                        file.write(chunk)
            part.replace(folder / name)
    except (DataError, StorageError):
        raise
    except Exception as error:  # zlib.error, EOFError; an encrypted zip is a RuntimeError
        raise DataError(
            f"{archive} is damaged or no archive ({error}). Delete it and fetch it again."
        ) from error
    if not found:
        raise DataError(
            f"{archive} holds no file named like {members}. The owners changed it: unpack it by "
            "hand."
        )


def _members(archive: Path, pattern: re.Pattern[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """(own name, content) of the plain files that fit."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                name = PurePosixPath(info.filename).name
                if not info.is_dir() and pattern.fullmatch(name):
                    with packed.open(info) as stream:
                        yield name, stream
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            name = PurePosixPath(member.name).name
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None and pattern.fullmatch(name):
                yield name, content
