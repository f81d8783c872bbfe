"""The data sets that can be fetched: fetch_sources.toml, and what becomes of the owners' files."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from showtell.data.dialogcc import photo_id
from showtell.data.fetch import FetchSource, RemoteFile, photo_file
from showtell.data.jsonl import parse_json_records
from showtell.data.readers import Reader, Skipped
from showtell.data.sources import FORMATS
from showtell.data.storage import write_atomically
from showtell.errors import DataError, UsageError, did_you_mean

_OPEN_IMAGES = "https://s3.amazonaws.com/open-images-dataset"


def source_of(name: str) -> FetchSource:
    """The data set of that name; UsageError if there is none."""
    if name not in SOURCES:
        raise UsageError(f'there is no data set "{name}" to fetch{did_you_mean(name, SOURCES)}')
    return SOURCES[name]


def _source(
    name: str,
    *,
    files: Sequence[dict[str, Any]] = (),
    photo_files: Sequence[dict[str, Any]] = (),
    photos: Sequence[str] = (),
    max_bytes: int = 2_000_000_000,
    **terms: str,
) -> FetchSource:
    def remote(url: str, **entry: Any) -> RemoteFile:
        return RemoteFile(urls=(url,), max_bytes=max_bytes, **entry)

    return FetchSource(
        **terms,
        files=tuple(remote(**entry) for entry in files),
        photo_files=tuple(remote(**entry) for entry in photo_files),
        photos=partial(_photos, FORMATS[name], photos) if photos else lambda folder: (),
        finish=_join_photochat if name == "photochat" else lambda folder: None,
    )


def _join_photochat(folder: Path) -> None:
    """The original arrays as train.jsonl, dev.jsonl and test.jsonl; files there already stay."""
    for split in ("train", "dev", "test"):
        if (folder / f"{split}.jsonl").exists():
            continue
        lines = []
        for part in sorted((folder / "original").glob(f"{split}_*.json")):
            with open(part, "rb") as file:
                for record in parse_json_records(file, part.name):
                    if isinstance(record, DataError):
                        raise record
                    lines.append(json.dumps(record.value, ensure_ascii=False) + "\n")
        write_atomically(folder / f"{split}.jsonl", "".join(lines).encode())


def _photos(read: Reader, names: Sequence[str], folder: Path) -> Iterator[RemoteFile]:
    """The photos of some files, under their ids; of DialogCC all candidates.

    Those of Open Images come from its mirror, as PhotoChat's owners advise, else by address.
    """
    for name in names:
        for dialogue in read(folder / name, skipped=Skipped()):
            for photo in dialogue.photos:
                known = re.fullmatch(r"(train|validation|test)/[0-9a-f]{16}", photo.id)
                mirror = f"{_OPEN_IMAGES}/{photo.id}.jpg" if known else ""
                url = photo.labels.get("url", "")
                yield photo_file(f"images/{photo.id}.jpg", mirror, url)
                for other in photo.labels.get("candidates", ()):
                    yield photo_file(f"images/{photo_id(other)}.jpg", other)


_TABLE = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
SOURCES = {name: _source(name, **entry) for name, entry in tomllib.loads(_TABLE).items()}
