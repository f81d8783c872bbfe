"""The data doctor: what is missing, broken, doubled or leaking. It never changes the data.

``examine("photochat:FOLDER")`` reads all splits of the folder once, one dialogue at a time, and
returns an Audit: counts beside those of the papers, and findings with examples. What it keeps of a
dialogue are eight bytes of a digest.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
from PIL import Image, ImageStat

from showtell.data.audit.counts import count, published_counts
from showtell.data.audit.findings import EXAMPLES, Audit, Finding, SplitReport
from showtell.data.photos import photo_image
from showtell.data.sources import open_splits
from showtell.data.storage import sha256_of
from showtell.dialogue import Dialogue, Photo
from showtell.errors import PhotoError, UsageError, import_extra
from showtell.progress import Progress, quiet

FEW = 3  # turns with words; below, dialogues are the same only if their photos are, too
NEAR = 4  # bits of 64 in which the hashes of near-duplicates may differ
_FLAT = 4.0  # standard deviation of grey levels below which a hash says nothing
_MOJIBAKE = re.compile(
    "\ufffd|\u00c3[\u0080-\u00bf]|\u00e2\u20ac|\u00c2[\u0080-\u00bf]|\u00ef\u00bb\u00bf|[\u0080-\u009f]"
)
_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")
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
    "same_photos": ("note", "groups of photo files with the same bytes within a split"),
    "near_photos": ("note", "pairs of near-duplicate photos within a split"),
}


def examine(
    data: str, *, photos: bool = True, limit: int | None = None, told: Progress = quiet
) -> Audit:
    """Read everything once and report.

    ``data`` is a name of data (a folder: all its splits together). Broken records are skipped and
    reported. ``photos=False`` leaves the pixels alone; ``limit`` reads the first dialogues of each
    split only. ``told`` hears of progress.

    Raises UsageError and DataError if there is nothing to read, MissingDependency without imagehash
    (unless ``photos=False``).
    """
    sources = open_splits(data, skip_bad=True)
    first = next(iter(sources.values()))
    if first.kind == "shards":
        raise UsageError(
            f"{data} is packed already, and whole; wanted the files that it was packed from"
        )
    what = '"showtell data doctor" (but for --no-photos)'
    perceptual_hash = import_extra("imagehash", what=what, extra="data").phash if photos else None
    audit = Audit(
        data=data,
        kind=first.kind,
        licence=first.licence,
        photos_looked_at=photos,
        findings=tuple(Finding(key, *words) for key, words in _FINDINGS.items()),
    )
    reading = _Reading(audit, perceptual_hash)
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


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A photo file: the split that showed it first, and what is seen."""

    split: str
    path: str
    digest: str
    hash: int | None  # None where the photo is too flat to have one


class _Reading:
    """What must be known of the dialogues before to tell what is wrong with the next."""

    def __init__(self, audit: Audit, hash: Callable[[Image.Image], Any] | None) -> None:
        self.audit, self.hash = audit, hash
        self.found = {finding.key: finding for finding in audit.findings}
        self.splits: dict[str, SplitReport] = {}
        self.photo_ids: dict[str, dict[str, str]] = {}  # split -> photo -> dialogue
        self.dialogues: dict[bytes, tuple[str, str]] = {}  # digest of the words -> split, id
        self.ids: set[tuple[str, bytes]] = set()  # split, digest of an id
        self.files: dict[str, _Seen | None] = {}  # path -> the photo; None where it is broken

    def take(self, dialogue: Dialogue, split: str) -> None:
        at = f"{split}, dialogue {dialogue.id[:60]}"
        if split not in self.splits:
            reported, source = published_counts(self.audit.kind, split)
            self.splits[split] = SplitReport(split, reported)
            self.audit.source = source or self.audit.source
        counts = self.splits[split].counts
        counts.update(count(dialogue))
        if licence := dialogue.labels.get("licence"):
            self.audit.licences[str(licence)] += 1
        if (key := (split, _digest(dialogue.id))) in self.ids:
            self.found["doubled_ids"].note(at)
        self.ids.add(key)
        self._words(dialogue, at, split)
        self._photos(dialogue, at, split, counts)
        neighbours = list(pairwise(turn.speaker for turn in dialogue.turns))
        counts["neighbours"] += len(neighbours)
        counts["same_speaker"] += sum(one == other for one, other in neighbours)

    def _words(self, dialogue: Dialogue, at: str, split: str) -> None:
        said = [f"{turn.speaker}\t{turn.text}" for turn in dialogue.turns if turn.text]
        if len(said) < FEW:  # two photos may well have the same caption
            said += [photo.id for photo in dialogue.photos]
        before = self.dialogues.setdefault(_digest("\n".join(said)), (split, dialogue.id))
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
        known = self.photo_ids.setdefault(split, {})
        for photo in dialogue.photos:
            if photo.id not in known:
                known[photo.id] = dialogue.id
                for other, ids in self.photo_ids.items():
                    if other != split and photo.id in ids:
                        self.found["shared_photos"].note(
                            f'"{photo.id[:80]}" in {other} (dialogue {ids[photo.id][:40]}) and '
                            f"{split} (dialogue {dialogue.id[:40]}): {photo.caption[:80]}"
                        )
            if photo.path is None and "scene" not in photo.labels:
                counts["missing"] += 1
                self.found["missing"].note(f'{at}: "{photo.id[:80]}"')
            elif self.hash is not None and (photo.path is None or photo.path not in self.files):
                self._look(photo, split, at)

    def _look(self, photo: Photo, split: str, at: str) -> None:
        """Read the file; a photo of the photo world is only drawn."""
        assert self.hash is not None
        path, seen = photo.path, None
        try:
            image = photo_image(photo)
            if path is not None:
                grey = image.convert("L")
                flat = ImageStat.Stat(grey.resize((32, 32))).stddev[0] < _FLAT
                hashed = None if flat else int(str(self.hash(grey)), 16)
                seen = _Seen(split=split, path=path, digest=sha256_of(path), hash=hashed)
        except PhotoError as error:
            self.found["corrupt"].note(f"{at}: {error}")
        if path is not None:
            self.files[path] = seen

    def end(self) -> None:
        audit = self.audit
        audit.splits = [self.splits[split] for split in sorted(self.splits)]
        for split in audit.splits:
            split.counts["distinct_images"] = len(self.photo_ids.get(split.split, ()))
        seen = [photo for photo in self.files.values() if photo is not None]
        audit.photos_read, audit.photos_flat = len(seen), sum(p.hash is None for p in seen)
        same: dict[str, list[_Seen]] = {}
        for photo in seen:
            same.setdefault(photo.digest, []).append(photo)
        for group in same.values():
            if len(group) > 1:
                leak = len({photo.split for photo in group}) > 1
                files = " = ".join(f"{photo.split}: {photo.path}" for photo in group)
                self.found["same_photos_leak" if leak else "same_photos"].note(files)
        # of files with the same bytes the first alone is compared
        hashed = [group[0] for group in same.values() if group[0].hash is not None]
        for distance, a, b in sorted(near_pairs([photo.hash or 0 for photo in hashed])):
            one, other = hashed[a], hashed[b]
            self.found["near_photos" if one.split == other.split else "near_photos_leak"].note(
                f"{one.split}: {one.path} ~ {other.split}: {other.path} ({distance} bits)"
            )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]


def near_pairs(hashes: list[int]) -> Iterator[tuple[int, int, int]]:
    """(distance, index, index) of all pairs of hashes that differ in at most NEAR bits."""
    hashes_N = np.array(hashes, dtype=np.uint64)
    for a in range(len(hashes_N)):
        distances = np.bitwise_count(hashes_N[a + 1 :] ^ hashes_N[a])
        for b in np.flatnonzero(distances <= NEAR).tolist():
            yield int(distances[b]), a, a + 1 + b
