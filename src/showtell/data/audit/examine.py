"""The data doctor: what is missing, broken, doubled or leaking. It never changes the data.

``examine("photochat:FOLDER")`` reads all splits of the folder once, one dialogue at a time, and
returns an Audit: counts beside those of the papers, findings with examples, and how many examples
each kind of training would drop. What it keeps of a dialogue are eight bytes of a digest.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any

import numpy as np
from PIL import Image, ImageStat

from showtell.data.audit.counts import NEEDS, PUBLISHED, count, published_counts
from showtell.data.audit.findings import EXAMPLES, Audit, Drop, Finding, SplitReport
from showtell.data.photos import photo_image
from showtell.data.sources import open_splits
from showtell.data.storage import sha256_of
from showtell.dialogue import Dialogue, Photo
from showtell.errors import PhotoError, UsageError, import_extra
from showtell.progress import Progress, quiet

FEW = 3  # turns with words; below, dialogues are the same only if their photos are, too
_MOJIBAKE = re.compile(
    "\ufffd|\u00c3[\u0080-\u00bf]|\u00e2\u20ac|\u00c2[\u0080-\u00bf]|\u00ef\u00bb\u00bf|[\u0080-\u009f]"
)
_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")


def examine(
    data: str,
    *,
    photos: bool = True,
    limit: int | None = None,
    told: Progress = quiet,
) -> Audit:
    """Read everything once and report.

    ``data`` is a name of data (a folder: all its splits together). Broken records are skipped and
    reported. ``photos=False`` leaves the pixels alone; ``limit`` reads the
    first dialogues of each split only. ``told(what, done, total)`` hears of progress.

    Raises UsageError and DataError if there is nothing to read, MissingDependency without imagehash
    (unless ``photos=False``).
    """
    sources = open_splits(data, skip_bad=True)
    first = next(iter(sources.values()))
    if first.kind == "shards":
        raise UsageError(
            f"{data} is packed already, and whole; wanted the files that it was packed from"
        )
    audit = Audit(
        data=data,
        kind=first.kind,
        licence=first.licence,
        source=PUBLISHED[first.kind][0] if first.kind in PUBLISHED else "",
        photos_looked_at=photos,
        findings=tuple(Finding(key, *words) for key, words in _FINDINGS.items()),
    )
    files = None
    if photos:
        what = '"showtell data doctor" (but for --no-photos)'
        files = PhotoFiles(import_extra("imagehash", what=what, extra="data").phash)
    reading = _Reading(audit, files)
    for name, source in sources.items():
        number = 0
        for number, dialogue in enumerate(islice(iter(source), limit), start=1):
            reading.take(dialogue, str(dialogue.labels.get("split") or name or "all"))
            if number % 500 == 0:
                told(f"reading {name or source.kind}", number, 0)
        told(f"reading {name or source.kind}", number, number)
        for error in source.skipped[:EXAMPLES]:
            reading.found["skipped"].note(str(error))
        reading.found["skipped"].count += max(0, len(source.skipped) - EXAMPLES)
    reading.end()
    return audit


class _Reading:
    """What must be known of the dialogues before to tell what is wrong with the next."""

    def __init__(self, audit: Audit, files: PhotoFiles | None) -> None:
        self.audit, self.files = audit, files
        self.found = {finding.key: finding for finding in audit.findings}
        self.splits: dict[str, SplitReport] = {}
        self.drops: dict[tuple[str, str], Drop] = {}
        self.photo_ids: dict[str, dict[str, str]] = {}  # split -> photo -> dialogue
        self.dialogues: dict[bytes, tuple[str, str]] = {}  # digest of the words -> split, id
        self.ids: dict[bytes, tuple[str, ...]] = {}  # digest of an id -> the splits that have it
        self.id_splits: dict[tuple[str, ...], tuple[str, ...]] = {}  # each of these tuples once

    def take(self, dialogue: Dialogue, split: str) -> None:
        at = f"{split}, dialogue {dialogue.id[:60]}"
        if split not in self.splits:
            reported = published_counts(self.audit.kind, split)
            self.splits[split] = SplitReport(split, reported)
        counts = self.splits[split].counts
        counts.update(count(dialogue))
        for name, need in NEEDS.items():
            drop = self.drops.setdefault((split, name), Drop(split, name))
            for reason in need(dialogue):
                drop.note(reason)
        if licence := dialogue.labels.get("licence"):
            self.audit.licences[str(licence)] += 1
        self._id(dialogue, at, split)
        self._words(dialogue, at, split)
        self._photos(dialogue, at, split, counts)
        neighbours = list(pairwise(turn.speaker for turn in dialogue.turns))
        counts["neighbours"] += len(neighbours)
        counts["same_speaker"] += sum(one == other for one, other in neighbours)

    def _id(self, dialogue: Dialogue, at: str, split: str) -> None:
        key = _digest(dialogue.id)
        had = self.ids.setdefault(key, ())
        if split in had:
            self.found["doubled_ids"].note(at)
            return
        if had:
            self.found["shared_ids"].note(f"{at}, and in {', '.join(had)}")
        self.ids[key] = self.id_splits.setdefault((*had, split), (*had, split))

    def _words(self, dialogue: Dialogue, at: str, split: str) -> None:
        said = [f"{turn.speaker}\t{turn.text}" for turn in dialogue.turns if turn.text]
        if len(said) < FEW:  # two photos may well have the same caption
            said += [photo.id for photo in dialogue.photos]
        text = "\n".join(said)
        before = self.dialogues.setdefault(_digest(text), (split, dialogue.id))
        if before != (split, dialogue.id):
            kind = "doubled_dialogues" if before[0] == split else "shared_dialogues"
            self.found[kind].note(f"{at} says the same as {before[0]}, dialogue {before[1][:60]}")
        for number, turn in enumerate(dialogue.turns, start=1):
            if not turn.photos and not turn.text.strip():
                self.found["empty_turns"].note(f"{at}, turn {number}")
            for element in turn.elements:
                words = element if isinstance(element, str) else element.caption
                if _MOJIBAKE.search(words):
                    self.found["encoding"].note(f"{at}, turn {number}: {words[:80]!r}")
                elif _CONTROL.search(words):
                    self.found["control"].note(f"{at}, turn {number}: {words[:80]!r}")

    def _photos(self, dialogue: Dialogue, at: str, split: str, counts: Counter[str]) -> None:
        for photo in dialogue.photos:
            known = self.photo_ids.setdefault(split, {})
            if photo.id not in known:
                known[photo.id] = dialogue.id
                for other, ids in self.photo_ids.items():
                    if other != split and photo.id in ids:
                        self.found["shared_photos"].note(
                            f'"{photo.id[:80]}" in {other} (dialogue {ids[photo.id][:40]}) and '
                            f"{split} (dialogue {dialogue.id[:40]}): {photo.caption[:80]}",
                            *([photo.path] if photo.path else []),
                        )
            if photo.path is None and "scene" not in photo.labels:
                counts["missing"] += 1
                self.found["missing"].note(f'{at}: "{photo.id[:80]}"')
            elif self.files is not None:
                self.files.look(photo, split, at)

    def end(self) -> None:
        audit, files = self.audit, self.files
        audit.splits = [self.splits[split] for split in sorted(self.splits)]
        audit.drops = [self.drops[key] for key in sorted(self.drops)]
        for split in audit.splits:
            split.counts["distinct_images"] = len(self.photo_ids.get(split.split, ()))
        if files is None:
            return
        audit.photos_read, audit.photos_flat = len(files.photos), files.flat
        for why in files.broken:
            self.found["corrupt"].note(why)
        for group in files.same():
            key = "same_photos" if len({p.split for p in group}) == 1 else "same_photos_leak"
            paths = (photo.path for photo in group)
            self.found[key].note(" = ".join(f"{p.split}: {p.path}" for p in group), *paths)
        for distance, one, other in files.near():
            key = "near_photos" if one.split == other.split else "near_photos_leak"
            self.found[key].note(
                f"{one.split}: {one.path} ~ {other.split}: {other.path} ({distance} bits)",
                *(one.path, other.path),
            )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]


_FINDINGS: dict[str, tuple[str, str]] = {
    "skipped": ("error", "records that cannot be read"),
    "corrupt": ("error", "photos that cannot be read"),
    "shared_photos": ("error", "photos shared between splits"),
    "shared_dialogues": ("error", "dialogues shared between splits, word for word"),
    "same_photos_leak": ("error", "files of the same bytes in different splits"),
    "near_photos_leak": ("warning", "near-duplicate photos in different splits"),
    "missing": ("warning", "photos that are missing"),
    "doubled_dialogues": ("warning", "dialogues doubled within a split, word for word"),
    "doubled_ids": ("warning", "dialogue ids that come again within a split, in another file"),
    "empty_turns": ("warning", "turns with neither words nor photo"),
    "encoding": ("warning", "texts that look wrongly decoded"),
    "control": ("warning", "texts with control characters"),
    "shared_ids": ("note", "dialogue ids that are in several splits"),
    "same_photos": ("note", "groups of photo files with the same bytes within a split"),
    "near_photos": ("note", "pairs of near-duplicate photos within a split"),
}

# ------------------------------------------------------------------------------------------ photos

NEAR = 4  # bits of 64 in which the hashes of near-duplicates may differ
_FLAT = 4.0  # standard deviation of grey levels below which a hash says nothing


@dataclass(frozen=True, kw_only=True)
class SeenPhoto:
    """A photo file: the split that showed it first, its path, and what is seen."""

    split: str
    path: str
    digest: bytes
    hash: int | None  # None where the photo is too flat to have one


@dataclass
class PhotoFiles:
    """Photo files as they come in; each path is read once."""

    hash: Callable[[Image.Image], Any]
    photos: list[SeenPhoto] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    flat: int = 0
    _paths: set[str] = field(default_factory=set)

    def look(self, photo: Photo, split: str, at: str) -> None:
        """Read the file, unless it has been; one of the photo world is only drawn."""
        path = photo.path or ""
        if path and path in self._paths:
            return
        self._paths.add(path)
        try:
            image = photo_image(photo)
            if not path:
                return
            digest = bytes.fromhex(sha256_of(path))
        except PhotoError as error:
            self.broken.append(str(error) if path and path in str(error) else f"{at}: {error}")
            return
        grey = image.convert("L")
        hashed: int | None = int(str(self.hash(grey)), 16)
        if ImageStat.Stat(grey.resize((32, 32))).stddev[0] < _FLAT:
            self.flat += 1
            hashed = None
        self.photos.append(SeenPhoto(split=split, path=path, digest=digest, hash=hashed))

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


def near_pairs(hashes: list[int]) -> Iterator[tuple[int, int, int]]:
    """(index, index, distance) of all pairs of hashes that differ in at most NEAR bits."""
    hashes_N = np.array(hashes, dtype=np.uint64)
    for a in range(len(hashes_N)):
        distances = np.bitwise_count(hashes_N[a + 1 :] ^ hashes_N[a])
        for b in np.flatnonzero(distances <= NEAR).tolist():
            yield a, a + 1 + b, int(distances[b])
