"""Dialogues and their photos in tar shards, written once and read at scale.

The layout is WebDataset's: the files of an example stand together and share their name up to the
first dot, so that its library and others read the shards, too:

    shard-000000.tar:  000000000.json  000000000.0.jpg  000000000.1.jpg  000000001.json ...

The JSON is showtell's (docs/showtell.schema.json); the ``path`` of a photo is the rest of its
file's name, "0.jpg". ``index.json`` says where every example begins, so that any is read by its
number. In which order, and by which rank, is the loop's to settle: with ``blocks``, the numbers
that lie in one shard, ``training/loop.batch_indices`` gives an order that a run may go on with at
the exact example, on other numbers of ranks, too.

Standard tarfile, not the webdataset library: that loads torch, which data must not; can unpickle
what it reads; and knows no example by its number.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import io
import itertools
import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from showtell.data.jsonl import opened
from showtell.data.photos import photo_bytes, photo_image
from showtell.data.pixels import ENDINGS, photo_from_bytes
from showtell.data.readers import Fields
from showtell.data.showtell_jsonl import dialogue_as_dict, dialogue_of
from showtell.data.storage import new_folder, sha256_of
from showtell.dialogue import Dialogue, Photo, with_photos
from showtell.errors import DataError, PhotoError
from showtell.progress import Progress, quiet

INDEX_NAME = "index.json"
MAX_SHARD_BYTES = 256_000_000
_WANTED = 'Wanted a folder that "showtell data pack" wrote.'
_Files = list[tuple[str, bytes]]  # of an example: the rest of the name, content


# ----------------------------------------------------------------------------------------- writing


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
    told: Progress = quiet,
) -> Packed:
    """Write ``out/shard-*.tar`` and ``out/index.json``; ``out`` must be new or empty.

    Photos are packed as they are, after a look that they can be read (PhotoError if not); those of
    the photo world are drawn. A photo that is missing has no file in the shard and the path null;
    it is counted. The same dialogues give the same bytes. An interrupted run leaves nothing behind,
    and what a killed one left the next clears.
    """
    shards: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    with new_folder(out) as part:
        for examples in _in_shards(map(_files, dialogues), shard_bytes):
            path, offsets = part / f"shard-{len(shards):06}.tar", []
            with (
                open(path, "wb") as file,
                tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
            ):
                for num_photos, files in examples:
                    offsets.append(file.tell())
                    for rest, content in files:
                        member = tarfile.TarInfo(f"{counts['dialogues']:09}{rest}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
                    counts["dialogues"] += 1
                    counts["photos"] += num_photos
                    counts["missing"] += num_photos - (len(files) - 1)
                    told("dialogues", counts["dialogues"], 0)
            size, digest = path.stat().st_size, sha256_of(path)
            shards.append({"file": path.name, "offsets": offsets, "bytes": size, "sha256": digest})
        if not shards:
            raise DataError(
                f"{source} gave no dialogue; wanted something to pack. Where broken records or "
                'missing photos took them all, "showtell data doctor" says why.'
            )
        index = {"format": "showtell-shards", "version": 1, "source": source, "shards": shards}
        (part / INDEX_NAME).write_text(json.dumps(index) + "\n", encoding="utf-8")
    return Packed(
        path=out,
        shards=len(shards),
        dialogues=counts["dialogues"],
        photos=counts["photos"],
        missing_photos=counts["missing"],
        bytes=sum(shard["bytes"] for shard in shards),
    )


def _in_shards(
    examples: Iterable[tuple[int, _Files]], shard_bytes: int
) -> Iterator[list[tuple[int, _Files]]]:
    """As many examples at a time as a shard takes."""
    shard: list[tuple[int, _Files]] = []
    room = shard_bytes
    for example in examples:
        size = sum(len(content) + 2 * tarfile.BLOCKSIZE for _, content in example[1])
        if shard and size > room:
            yield shard
            shard, room = [], shard_bytes
        shard.append(example)
        room -= size
    if shard:
        yield shard


def _files(dialogue: Dialogue) -> tuple[int, _Files]:
    """(how many photos the dialogue has, its JSON and the files of those that are there)"""
    files: _Files = []
    photos = []
    for number, photo in enumerate(dialogue.photos):
        try:
            found = _pixels(photo)
        except PhotoError as error:
            raise PhotoError(
                f"dialogue {dialogue.id[:60]}: {error} Or pass --missing-photos=skip."
            ) from error
        photos.append(replace(photo, path=found and f"{number}{found[0]}"))
        if found:
            files.append((f".{number}{found[0]}", found[1]))
    packed = replace(dialogue, turns=with_photos(dialogue.turns, photos))
    record = dialogue_as_dict(packed)
    try:  # ASCII, since a label may hold what UTF-8 cannot
        data = json.dumps(record, allow_nan=False).encode("ascii")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"dialogue {dialogue.id[:60]}: a label that JSON cannot hold ({error}); wanted texts, "
            "numbers, lists and objects. Leave the label out."
        ) from error
    return len(photos), [(".json", data), *files]


def _pixels(photo: Photo) -> tuple[str, bytes] | None:
    """(ending, bytes of the file); None if the photo is missing."""
    if photo.path is None:
        if "scene" not in photo.labels:
            return None
        buffer = io.BytesIO()
        photo_image(photo).save(buffer, format="PNG")
        return ".png", buffer.getvalue()
    data = photo_bytes(photo.path)
    photo_from_bytes(data, name=photo.path)
    ending = Path(photo.path).suffix.lower()
    return (ending if ending in ENDINGS else ".jpg"), data


# ----------------------------------------------------------------------------------------- reading


class _Shard(Fields):
    file: Annotated[str, Field(pattern=r"^[^/]+$")]
    bytes: int
    offsets: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class _Index(Fields):
    format: Literal["showtell-shards"]
    version: Literal[1]
    source: str = ""
    shards: Annotated[list[_Shard], Field(min_length=1)]


class Shards(Sequence[Dialogue]):
    """A folder that ``pack`` wrote: dialogues by their number, without the bytes of their photos.

    The ``path`` of a packed photo is that of its shard and its name in it,
    "DIR/shard-000000.tar/000000012.0.jpg"; ``load_photo`` reads it.
    """

    def __init__(self, folder: str | Path) -> None:
        """Raises DataError if it is no such folder, or a shard is not as long as it was written."""
        self.folder = Path(folder)
        index = self.folder / INDEX_NAME
        try:
            with opened(index, wanted=_WANTED) as file:
                about = _Index.model_validate_json(file.read())
        except ValidationError as error:
            raise DataError(f"{index} is no index of shards of version 1. {_WANTED}") from error
        self.source, self.shards = about.source, about.shards
        for shard in self.shards:
            path = self.folder / shard.file
            size = path.stat().st_size if path.is_file() else None
            if size != shard.bytes:
                met = "is not there" if size is None else f"has {size:,} bytes"
                raise DataError(
                    f"{path} {met}, wanted {shard.bytes:,} bytes by {INDEX_NAME}. Pack the data "
                    "again, or copy the shard anew."
                )
        self.ends = list(itertools.accumulate(len(shard.offsets) for shard in self.shards))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, number: int) -> Dialogue:  # type: ignore[override]
        """The dialogue with that number, 0 to ``len() - 1``."""
        key = f"{number:09}"
        with self._example(number) as (shard, inside):
            value = json.loads(self._file(shard, inside, f"{key}.json").decode("ascii"))
        start, where = f"{self.folder / shard.file}/{key}", f"{shard.file}, example {inside}"
        return dialogue_of(value, where, lambda path, _: f"{start}.{path}")

    def photo(self, number: int, name: str) -> bytes:
        """The file of a photo of an example, by its name in the shard."""
        with self._example(number) as (shard, inside):
            return self._file(shard, inside, name)

    @property
    def blocks(self) -> list[range]:
        """The numbers of each shard's examples."""
        return [range(start, end) for start, end in itertools.pairwise((0, *self.ends))]

    @contextlib.contextmanager
    def _example(self, number: int) -> Iterator[tuple[_Shard, int]]:
        """Its shard and its number there; what fails inside is a DataError that names them."""
        if not 0 <= number < len(self):
            raise IndexError(f"{self.folder} has {len(self):,} examples, there is no {number}")
        place = bisect.bisect_right(self.ends, number)
        shard = self.shards[place]
        inside = number - (self.ends[place] - len(shard.offsets))
        try:
            yield shard, inside
        except (OSError, tarfile.TarError, ValueError, KeyError, RecursionError) as error:
            raise DataError(
                f"{shard.file}, example {inside}: the shard is damaged ({type(error).__name__}: "
                f"{error}); wanted what {INDEX_NAME} tells of. Pack the data again."
            ) from error

    def _file(self, shard: _Shard, inside: int, name: str) -> bytes:
        """One of the files that stand together from the example's offset on."""
        with open(self.folder / shard.file, "rb") as file:
            file.seek(shard.offsets[inside])
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    if member.name == name and (content := tar.extractfile(member)):
                        return content.read()
                    if member.name.partition(".")[0] != name.partition(".")[0]:
                        break
        raise KeyError(f"{name} is not in it")


def is_packed(path: str) -> bool:
    """Whether the path is that of a photo inside a shard."""
    shard = Path(path).parent
    return shard.suffix == ".tar" and shard.is_file()


def packed_bytes(path: Path) -> bytes:
    """The file of the photo at a path inside a shard. Raises DataError and PhotoError."""
    number = path.name.partition(".")[0]
    if not number.isdecimal():
        raise PhotoError(f"{path} names no photo of a shard; wanted SHARD.tar/NUMBER.PLACE.jpg.")
    return _opened(path.parent.parent).photo(int(number), path.name)


@functools.lru_cache(maxsize=4)
def _opened(folder: Path) -> Shards:
    return Shards(folder)
