"""The doctor's look at photos: which cannot be read, which are the same, which nearly are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from showtell.data.photos import load_photo
from showtell.errors import MissingDependency, PhotoError

NEAR = 4  # bits of 64 in which the hashes of near-duplicates may differ
BITS = 64
_FLAT = 4.0  # standard deviation of grey levels below which a hash says nothing


def perceptual_hash() -> Any:
    """``imagehash.phash``; MissingDependency if the library is not installed."""
    try:
        import imagehash
    except ImportError as error:
        raise MissingDependency(
            "near-duplicate photos are found with the package imagehash, which is not installed; "
            'wanted it for "showtell data doctor". Install it: pip install "showtell[data]", or '
            "pass --no-photos to leave the photos out."
        ) from error
    return imagehash.phash


@dataclass(frozen=True, kw_only=True)
class SeenPhoto:
    """A photo file: its id, the split that showed it first, its path, and what is seen."""

    id: str
    split: str
    path: str
    digest: bytes
    hash: int | None  # None where the photo is too flat to have one


@dataclass(kw_only=True)
class PhotoWard:
    """Photo files as they come in; each path is read once."""

    photos: list[SeenPhoto] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)  # path -> why
    flat: int = 0
    _paths: set[str] = field(default_factory=set)

    def look(self, photo_id: str, split: str, path: str) -> None:
        """Read the file, unless it has been."""
        if path in self._paths:
            return
        self._paths.add(path)
        try:
            image = load_photo(path)
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
        except PhotoError as error:
            self.broken[path] = str(error)
            return
        grey = image.convert("L")
        hashed: int | None = int(str(perceptual_hash()(grey)), 16)
        if _deviation(grey.resize((32, 32)).tobytes()) < _FLAT:
            self.flat += 1
            hashed = None
        self.photos.append(
            SeenPhoto(id=photo_id, split=split, path=path, digest=digest, hash=hashed)
        )

    def same(self) -> list[list[SeenPhoto]]:
        """Groups of files with the same bytes."""
        groups: dict[bytes, list[SeenPhoto]] = {}
        for photo in self.photos:
            groups.setdefault(photo.digest, []).append(photo)
        return [group for group in groups.values() if len(group) > 1]

    def near(self) -> list[tuple[int, SeenPhoto, SeenPhoto]]:
        """(differing bits, one, other) for files whose hashes differ in at most NEAR bits, nearest
        first; of files with the same bytes, the first alone is compared."""
        first: dict[bytes, SeenPhoto] = {}
        for photo in self.photos:
            if photo.hash is not None:
                first.setdefault(photo.digest, photo)
        hashed = list(first.values())
        pairs = near_pairs([photo.hash or 0 for photo in hashed])
        found = [(distance, hashed[a], hashed[b]) for a, b, distance in pairs]
        return sorted(found, key=lambda pair: (pair[0], pair[1].path, pair[2].path))


def near_pairs(hashes: list[int]) -> Iterable[tuple[int, int, int]]:
    """(index, index, distance) of all pairs of hashes that differ in at most NEAR bits.

    Two words of 64 bits that differ in at most four agree wholly in one of five pieces, so that
    only those which share a piece need be compared.
    """
    seen: set[tuple[int, int]] = set()
    for start, stop in _pieces():
        buckets: dict[int, list[int]] = {}
        for index, value in enumerate(hashes):
            buckets.setdefault(value >> start & (1 << stop - start) - 1, []).append(index)
        for bucket in buckets.values():
            for a, b in combinations(bucket, 2):
                distance = (hashes[a] ^ hashes[b]).bit_count()
                if distance <= NEAR and (a, b) not in seen:
                    seen.add((a, b))
                    yield a, b, distance


def _pieces() -> Iterator[tuple[int, int]]:
    edges = [round(k * BITS / (NEAR + 1)) for k in range(NEAR + 2)]
    yield from zip(edges, edges[1:], strict=False)


def _deviation(grey: bytes) -> float:
    mean = sum(grey) / len(grey)
    return (sum((value - mean) ** 2 for value in grey) / len(grey)) ** 0.5
