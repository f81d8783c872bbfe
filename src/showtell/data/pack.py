"""Dialogues and their photos in tar shards, written once and read at scale.

The layout is WebDataset's: the files of an example stand together and share their name up to the
first dot, so that its library and others read the shards, too:

    shard-000000.tar:  000000000.json  000000000.0.jpg  000000000.1.jpg  000000001.json ...

The JSON is showtell's (docs/showtell.schema.json); the ``path`` of a photo is the rest of its
file's name, "0.jpg". ``index.json`` says where every example begins.

Written with the standard tarfile, not with the webdataset library: that loads torch, which data
must not; can unpickle what it reads; and cannot go on at an exact example. ``unpack.py`` reads.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from showtell.data.export import dialogue_as_dict, photo_elements
from showtell.data.photos import photo_from_bytes, photo_image
from showtell.data.storage import new_folder
from showtell.dialogue import Dialogue, Photo
from showtell.errors import DataError, PhotoError

INDEX_NAME = "index.json"
INDEX_FORMAT = {"format": "showtell-shards", "version": 1}
MAX_SHARD_BYTES = 256_000_000
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What was written where."""

    path: Path
    shards: int
    dialogues: int
    photos: int
    missing_photos: int
    bytes: int


def pack(
    dialogues: Iterable[Dialogue],
    out: Path,
    *,
    source: str,
    shard_bytes: int = MAX_SHARD_BYTES,
    on_dialogue: Callable[[int], None] | None = None,
) -> Packed:
    """Write ``out/shard-*.tar`` and ``out/index.json``; ``out`` must be new or empty.

    Photos are packed as they are, after a look that they can be read (PhotoError if not); those of
    the photo world are drawn. A photo that is missing has no file in the shard and the path null;
    it is counted. The same dialogues give the same bytes. An interrupted run leaves nothing behind.
    """
    with new_folder(out) as part:
        writer = _Writer(part, shard_bytes=shard_bytes)
        try:
            for dialogue in dialogues:
                writer.add(dialogue)
                if on_dialogue:
                    on_dialogue(writer.dialogues)
        finally:
            writer.close()
        if not writer.dialogues:
            raise DataError(
                f"{source} gave no dialogue; wanted something to pack. Where broken records or "
                'missing photos took them all, "showtell data doctor" says why.'
            )
        index = {**INDEX_FORMAT, "source": source, "shards": writer.shards}
        (part / INDEX_NAME).write_text(json.dumps(index) + "\n", encoding="utf-8")
    return Packed(
        path=out,
        shards=len(writer.shards),
        dialogues=writer.dialogues,
        photos=writer.photos,
        missing_photos=writer.missing,
        bytes=sum(shard["bytes"] for shard in writer.shards),
    )


class _Writer:
    """Shards one after the other; a new one begins where the last would grow too large."""

    def __init__(self, folder: Path, *, shard_bytes: int) -> None:
        self.folder, self.shard_bytes = folder, shard_bytes
        self.shards: list[dict[str, Any]] = []
        self.dialogues = self.photos = self.missing = 0
        self.file: BinaryIO | None = None
        self.offsets: list[int] = []

    def add(self, dialogue: Dialogue) -> None:
        members = self._members(dialogue)
        size = sum(1024 + len(data) for _, data in members)  # a header, and padding to 512
        if self.file is None or (self.offsets and self.file.tell() + size > self.shard_bytes):
            self.close()
            self.file = open(self.folder / f"shard-{len(self.shards):06}.tar", "wb")  # noqa: SIM115
        self.offsets.append(self.file.tell())
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size, header.mtime, header.mode = len(data), 0, 0o644
            self.file.write(header.tobuf(format=tarfile.USTAR_FORMAT))
            self.file.write(data)
            self.file.write(b"\0" * (-len(data) % tarfile.BLOCKSIZE))
        self.dialogues += 1

    def close(self) -> None:
        """End the shard and note it down."""
        if self.file is None:
            return
        self.file.write(b"\0" * 2 * tarfile.BLOCKSIZE)
        path = Path(self.file.name)
        self.file.close()
        self.file = None
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        self.shards.append(
            {"file": path.name, "bytes": size, "sha256": digest, "offsets": self.offsets}
        )
        self.offsets = []

    def _members(self, dialogue: Dialogue) -> list[tuple[str, bytes]]:
        key = f"{self.dialogues:09}"
        record = dialogue_as_dict(dialogue)
        photos = zip(dialogue.photos, photo_elements(record), strict=True)
        files: list[tuple[str, bytes]] = []
        for number, (photo, element) in enumerate(photos):
            found = _pixels(photo, dialogue)
            self.photos += 1
            element["path"] = None
            if found is None:
                self.missing += 1
                continue
            ending, data = found
            element["path"] = f"{number}{ending}"
            files.append((f"{key}.{number}{ending}", data))
        # ASCII, since a label may hold what UTF-8 cannot
        return [(f"{key}.json", json.dumps(record).encode("ascii")), *files]


def _pixels(photo: Photo, dialogue: Dialogue) -> tuple[str, bytes] | None:
    """(ending, bytes of the file); None if the photo is missing."""
    if photo.path is None:
        if "scene" not in photo.labels:
            return None
        buffer = io.BytesIO()
        photo_image(photo).save(buffer, format="PNG")
        return ".png", buffer.getvalue()
    path = Path(photo.path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PhotoError(
            f"dialogue {dialogue.id[:60]}: {path} cannot be read ({error.strerror}). Check it, or "
            "pass --missing-photos=skip."
        ) from error
    photo_from_bytes(data, name=str(path))
    ending = path.suffix.lower()
    return (ending if ending in _ENDINGS else ".jpg"), data
