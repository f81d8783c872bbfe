"""Archives that were fetched: files of expected names are taken out, under those names only."""

from __future__ import annotations

import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from showtell.data.download import disk
from showtell.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Unpack:
    """Which files of an archive are wanted: those whose own name fits ``members`` (a pattern).

    They go to the folder ``to``; where they lay in the archive does not matter, so that no name in
    it can lead anywhere. ``max_bytes`` is the most that all may have together.
    """

    members: str
    to: str = ""
    max_bytes: int = 20_000_000_000


def unpack(archive: Path, folder: Path, wanted: Unpack) -> None:
    """Take out what is wanted and not there yet.

    Raises DataError for an archive that is damaged, holds none of them or is larger than it may be.
    """
    found, size = False, 0
    try:
        for name, stream in _members(archive, re.compile(wanted.members)):
            found = True
            goal = folder / wanted.to / name
            if goal.exists():
                continue
            part = goal.with_name(f"{name}.part")
            with disk(goal):
                goal.parent.mkdir(parents=True, exist_ok=True)
                file = open(part, "wb")  # noqa: SIM115 (errors of disk and archive are apart)
            with file:
                while chunk := stream.read(1 << 20):
                    size += len(chunk)
                    if size > wanted.max_bytes:
                        part.unlink()
                        raise DataError(
                            f"{archive} unpacks to over {wanted.max_bytes / 1e9:,.1f} GB, more "
                            "than this data set has. Delete it and look at the owners' page."
                        )
                    with disk(part):
                        file.write(chunk)
            with disk(goal):
                part.replace(goal)
    # an encrypted zip is a RuntimeError, one with an unknown method a NotImplementedError
    except (
        *(zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError),
        *(RuntimeError, NotImplementedError, OSError),
    ) as error:
        raise DataError(
            f"{archive} is damaged or no archive ({error}). Delete it and fetch it again."
        ) from error
    if not found:
        raise DataError(
            f"{archive} holds no file named like {wanted.members}. The owners changed it: unpack "
            "it by hand."
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
