"""Human evaluation: two systems' answers side by side on a blind page.

The questions are those of MiniGPT-5's human evaluation (2310.02239, 3.2). ``export_page`` writes

    page.html        for the raters: items under ids that tell nothing, sides drawn by lot
    page.key.json    for you: which item is which record, and which side is which system

``preference.py`` takes the files that raters saved from the page, and the key.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from showtell.data.photos import data_uri, has_pixels, load_photo, photo_image
from showtell.data.sources import open_data
from showtell.data.storage import write_atomically
from showtell.dialogue import Photo
from showtell.errors import DataError, PhotoError, StorageError
from showtell.metrics.answers import Record, match
from showtell.metrics.preference import QUESTIONS, Key, read_written
from showtell.metrics.report import digest, encoded

_MARKS = re.compile(r"@(TITLE|DATA|SCRIPT_HASH)@")
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written; ``identical`` pairs are shown all the same, and are ties by right."""

    page: Path
    key: Path
    items: int
    identical: int
    without_context: int
    skipped: int
    num_bytes: int

    def lines(self) -> Iterator[str]:
        """What one should know before the page is sent."""
        yield f"pairs: {self.items:,} ({self.num_bytes / 1e6:,.1f} MB)"
        if self.without_context:
            yield (
                f"pairs that show nothing of what came before: {self.without_context:,}; raters "
                "cannot judge how an answer goes on without it (--context)"
            )
        if self.identical:
            yield f"pairs that are the same on both sides: {self.identical:,}"
        if self.skipped:
            yield f"records that were skipped: {self.skipped:,}"


def export_page(
    a: Path,
    b: Path,
    out: Path,
    *,
    context: str | None = None,
    seed: int = 0,
    limit: int | None = None,
    skip_bad: bool = False,
) -> Exported:
    """Write the page and its key from two files of answers (``metrics/answers.py``).

    ``context`` is the name of data (``showtell:PATH``): the dialogue whose id is a record's id is
    what was said before. ``limit`` draws so many pairs. Raises DataError, and StorageError where
    the key of another study would be lost.
    """
    matched = match(a, b, skip_bad=skip_bad)
    study = hashlib.sha256(f"{digest([a])} {digest([b])} {seed} {limit}".encode()).hexdigest()[:12]
    rng = random.Random(f"{seed} {study}")
    pairs = list(matched.pairs)
    rng.shuffle(pairs)
    pairs = pairs[:limit]
    sides = ["AB", "BA"] * ((len(pairs) + 1) // 2)  # each system is left in half of the items
    rng.shuffle(sides)
    wanted = {ours.id for ours, _ in pairs}
    before = {d.id: d for d in open_data(context) if d.id in wanted} if context else {}

    photos = _Photos()
    items, key = [], {}
    without_context, skipped, identical = 0, sum(matched.skipped.values()), 0
    for (ours, theirs), order in zip(pairs, sides, strict=False):
        left, right = (ours, theirs) if order == "AB" else (theirs, ours)
        dialogue = before.get(ours.id)
        try:
            shown = [photos.parts(record.elements) for record in (left, right)]
            turns = [
                {"speaker": turn.speaker, "parts": photos.parts(turn.elements)}
                for turn in (dialogue.turns if dialogue else ())
            ]
        except PhotoError as error:
            if not skip_bad:
                raise PhotoError(f"{ours.where}: {error}") from error
            skipped += 1
            continue
        name = hashlib.sha256(f"{study} {ours.id}".encode()).hexdigest()[:12]
        asked = {"questions": _asked(ours, theirs)}
        items.append({"id": name, "context": turns, "left": shown[0], "right": shown[1]} | asked)
        key[name] = {"id": ours.id, "dialogue": ours.dialogue, "left": order[0]} | asked
        without_context += not turns
        identical += shown[0] == shown[1]
    if not items:
        raise DataError(f"{a} and {b}: no pair has photos that can be read; nothing to judge.")
    page = _page({"study": study, "questions": QUESTIONS, "items": items, "photos": photos.uris})
    systems = {n: {"file": str(file), "digest": digest([file])} for n, file in (("A", a), ("B", b))}
    secret = Key.model_validate({"study": study, "seed": seed, **systems, "items": key})
    key_path = out.with_name(f"{out.stem}.key.json")
    if key_path.exists() and read_written(Key, key_path).study != study:
        raise StorageError(
            f"{key_path} is the key of another study, whose ratings mean nothing without it; it "
            "was not touched. Name another page with --out."
        )
    plain = json.dumps(secret.model_dump(), indent=1, ensure_ascii=False)
    write_atomically(key_path, encoded(plain + "\n"))
    write_atomically(out, page.encode())
    return Exported(
        page=out,
        key=key_path,
        items=len(items),
        identical=identical,
        without_context=without_context,
        skipped=skipped,
        num_bytes=len(page.encode()),
    )


def _asked(ours: Record, theirs: Record) -> list[str]:
    """Of photos nothing is asked where neither side has one."""
    return list(QUESTIONS) if ours.photos or theirs.photos else ["language_continuity"]


# ------------------------------------------------------------------------------------- the page


class _Photos:
    """The photos of a page, each once; items name them by number."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._numbers: dict[str, int] = {}

    def parts(self, elements: Iterable[str | Path | Photo]) -> list[dict[str, Any]]:
        """Elements of an answer, or of a turn before it: there a photo without pixels is missing,
        and its caption says so."""
        return [self._part(element) for element in elements if element != ""]

    def _part(self, element: str | Path | Photo) -> dict[str, Any]:
        if isinstance(element, str):
            return {"text": element}
        if isinstance(element, Photo) and not has_pixels(element):
            return {"missing": element.caption}
        image = photo_image(element) if isinstance(element, Photo) else load_photo(element)
        uri = data_uri(image)
        if uri not in self._numbers:
            self._numbers[uri] = len(self.uris)
            self.uris.append(uri)
        return {"photo": self._numbers[uri]}


def _page(data: Mapping[str, Any]) -> str:
    """The frame with the data inside; its policy lets no other script run and loads nothing."""
    frame = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    script = _SCRIPT.search(frame)
    assert script, "blind_page.html has its script"
    values = {
        "TITLE": html.escape(f"Side by side, {len(data['items'])} pairs"),
        # "</script>" and "<!--" inside a text would end the block of data
        "DATA": json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"),
        "SCRIPT_HASH": base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode(),
    }
    return _MARKS.sub(lambda mark: values[mark[1]], frame)
