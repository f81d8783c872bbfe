"""Packed shards read back: any example by its number.

In which order, and by which rank, is the loop's to settle: with ``blocks``, the numbers that lie in
one shard, ``training/loop.batch_indices`` gives an order that a run may go on with at the exact
example, on other numbers of ranks, too:

    batch_indices(len(shards), 64, step, seed, blocks=shards.blocks)[rank::num_ranks]

The ``path`` of a packed photo is that of its shard and its name in it,
"DIR/shard-000000.tar/000000012.0.jpg"; ``packed_photo`` reads it.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import itertools
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from showtell.data.pack import INDEX_FORMAT, INDEX_NAME
from showtell.data.photos import photo_from_bytes
from showtell.data.records import JSON, OnSkip
from showtell.data.showtell_jsonl import dialogue_of
from showtell.dialogue import Dialogue
from showtell.errors import DataError, PhotoError


@dataclass(frozen=True, kw_only=True)
class PackedExample:
    """A dialogue, its number in the index, and the files of its photos by their place in it."""

    number: int
    dialogue: Dialogue
    files: Mapping[int, bytes]

    def image(self, place: int) -> Image.Image:
        """The photo at that place in ``dialogue.photos``; PhotoError if it is missing or broken."""
        name = f'dialogue {self.dialogue.id[:60]}, photo "{self.dialogue.photos[place].id[:80]}"'
        if place not in self.files:
            raise PhotoError(
                f"{name} was missing when the data were packed. Pack them with "
                "--missing-photos=skip, or get the photo."
            )
        return photo_from_bytes(self.files[place], name=name)


class Shards:
    """A folder that ``pack`` wrote: ``len()`` and ``[number]``, as torch's DataLoader asks for."""

    def __init__(self, folder: str | Path) -> None:
        """Raises DataError if it is no such folder, or a shard is not as long as it was written."""
        self.folder = Path(folder)
        self.index = _index(self.folder)
        self.names: list[str] = []
        self.offsets: list[list[int]] = []
        for shard in self.index["shards"]:
            path = self.folder / shard["file"]
            size = path.stat().st_size if path.is_file() else None
            if size != shard["bytes"]:
                met = "is not there" if size is None else f"has {size:,} bytes"
                raise DataError(
                    f"{path} {met}, wanted {shard['bytes']:,} bytes by {INDEX_NAME}. Pack the data "
                    "again, or copy the shard anew."
                )
            self.names.append(shard["file"])
            self.offsets.append(shard["offsets"])
        self.ends = list(itertools.accumulate(len(offsets) for offsets in self.offsets))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, number: int) -> PackedExample:
        """The example with that number, 0 to ``len() - 1``."""
        if not 0 <= number < len(self):
            raise IndexError(f"{self.folder} has {len(self):,} examples, there is no {number}")
        shard, inside = self._place(number)
        with open(self.folder / self.names[shard], "rb") as file:
            return self._read(file, shard, inside)

    def dialogue(self, number: int) -> Dialogue:
        """The dialogue of ``self[number]`` alone: the bytes of its photos are not read."""
        shard, inside = self._place(number)
        try:
            with open(self.folder / self.names[shard], "rb") as file:
                file.seek(self.offsets[shard][inside])
                header = file.read(tarfile.BLOCKSIZE)
                size = tarfile.TarInfo.frombuf(header, "ascii", "strict").size
                value = JSON.decode(file.read(size).decode("ascii"))
        except _DAMAGE as error:
            raise self._damaged(shard, inside, error) from error
        return self._dialogue(value, shard, inside)

    @property
    def blocks(self) -> list[range]:
        """The numbers of each shard's examples."""
        starts = [0, *self.ends[:-1]]
        return [range(start, end) for start, end in zip(starts, self.ends, strict=True)]

    def verify(self) -> None:
        """Read every byte; DataError for a shard that is not what was written."""
        for shard in self.index["shards"]:
            with open(self.folder / shard["file"], "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != shard.get("sha256"):
                    raise DataError(
                        f"{self.folder / shard['file']}: its SHA-256 is not that of {INDEX_NAME}. "
                        "Copy the shard anew, or pack the data again."
                    )

    def _place(self, number: int) -> tuple[int, int]:
        shard = bisect.bisect_right(self.ends, number)
        return shard, number - (self.ends[shard] - len(self.offsets[shard]))

    def _read(self, file: BinaryIO, shard: int, inside: int) -> PackedExample:
        offsets = self.offsets[shard]
        whole = self.index["shards"][shard]["bytes"] - 2 * tarfile.BLOCKSIZE
        stop = offsets[inside + 1] if inside + 1 < len(offsets) else whole
        try:
            file.seek(offsets[inside])
            members = _members(file.read(max(0, stop - offsets[inside])))
            value = JSON.decode(members.pop("json").decode("ascii"))
            files = {int(name.partition(".")[0]): data for name, data in members.items()}
        except _DAMAGE as error:
            raise self._damaged(shard, inside, error) from error
        number = self.ends[shard] - len(offsets) + inside
        dialogue = self._dialogue(value, shard, inside)
        return PackedExample(number=number, dialogue=dialogue, files=files)

    def _dialogue(self, value: Any, shard: int, inside: int) -> Dialogue:
        name = self.names[shard]
        number = self.ends[shard] - len(self.offsets[shard]) + inside
        photos = _PackedPhotos(f"{self.folder / name}/{number:09}")
        return dialogue_of(value, f"{name}, example {inside}", photos)

    def _damaged(self, shard: int, inside: int, error: Exception) -> DataError:
        return DataError(
            f"{self.names[shard]}, example {inside}: the shard is damaged ({type(error).__name__}: "
            f"{error}); wanted what {INDEX_NAME} tells of. Pack the data again."
        )


_DAMAGE = (OSError, tarfile.TarError, ValueError, KeyError, RecursionError)


@dataclass(frozen=True)
class _PackedPhotos:
    """What ``dialogue_of`` asks for the paths of an example's photos."""

    start: str

    def find(self, name: str, where: str) -> str:
        return f"{self.start}.{name}"


def read_shards(
    folder: str | Path, *, skip_bad: bool = False, on_skip: OnSkip | None = None
) -> Iterator[Dialogue]:
    """All dialogues of packed shards, in the order in which they were packed."""
    shards = Shards(folder)
    for number in range(len(shards)):
        try:
            dialogue = shards.dialogue(number)
        except DataError as error:
            if not skip_bad:
                raise
            if on_skip:
                on_skip(error)
            continue
        yield dialogue


def is_packed(path: str) -> bool:
    """Whether the path is that of a photo inside a shard."""
    shard = Path(path).parent
    return shard.suffix == ".tar" and shard.is_file()


def packed_photo(path: Path) -> Image.Image:
    """The photo at a path inside a shard. Raises DataError and PhotoError."""
    number, _, name = path.name.partition(".")
    place = name.partition(".")[0]
    if not (number.isdecimal() and place.isdecimal()):
        raise PhotoError(f"{path} names no photo of a shard; wanted SHARD.tar/NUMBER.PLACE.jpg.")
    return _opened(path.parent.parent)[int(number)].image(int(place))


@functools.lru_cache(maxsize=4)
def _opened(folder: Path) -> Shards:
    return Shards(folder)


def _members(data: bytes) -> dict[str, bytes]:
    """The files of one example, by the rest of their names."""
    members, at = {}, 0
    while at < len(data):
        header = tarfile.TarInfo.frombuf(data[at : at + tarfile.BLOCKSIZE], "ascii", "strict")
        at += tarfile.BLOCKSIZE
        content = data[at : at + header.size]
        if len(content) != header.size:
            raise ValueError(f"{header.name} is cut short")
        members[header.name.partition(".")[2]] = content
        at += header.size + -header.size % tarfile.BLOCKSIZE
    return members


def _index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX_NAME
    wanted = 'Wanted a folder that "showtell data pack" wrote.'
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). {wanted}") from error
    except ValueError as error:
        raise DataError(f"{path} is no JSON ({error}). {wanted}") from error
    known = isinstance(index, dict) and all(index.get(k) == v for k, v in INDEX_FORMAT.items())
    if not known or not _well_formed(index.get("shards")):
        raise DataError(f"{path} is no index of shards of version 1. {wanted}")
    return index


def _well_formed(shards: Any) -> bool:
    return (
        isinstance(shards, list)
        and bool(shards)
        and all(
            isinstance(shard, dict)
            and isinstance(shard.get("file"), str)
            and "/" not in shard["file"]
            and isinstance(shard.get("bytes"), int)
            and isinstance(shard.get("offsets"), list)
            and bool(shard["offsets"])
            and all(isinstance(n, int) and 0 <= n < shard["bytes"] for n in shard["offsets"])
            for shard in shards
        )
    )
