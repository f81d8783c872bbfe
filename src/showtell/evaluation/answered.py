"""What was answered, as records on disk. In the folder of ``Answers``:

predictions.jsonl, references.jsonl    texts, photos and whole answers (``metrics/answers.py``)
context.jsonl                          by the same ids: the turns before, as showtell's JSONL
answers.json                           everything; what ``compare.py`` reads
photos, references, context            the photos that these name
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from showtell.batch import to_pixels
from showtell.data.export import dialogue_as_dict
from showtell.data.photos import has_pixels, load_photo, photo_image, save_photo
from showtell.data.storage import locked, write_atomically
from showtell.dialogue import Dialogue, Photo, Turn
from showtell.errors import DataError
from showtell.metrics.answers import FIELDS

SCORED = ("text", "photo", "answer")  # the kinds that "showtell score" and "judge" are given
ANSWERS, FORMAT = "answers.json", 2
Fields = dict[str, Any]  # of a record, and others
Place = tuple[int, int]  # the number of a dialogue, and a turn


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was said at a place, beside what was to be said: fields of records, and others."""

    kind: str
    place: Place
    said: Fields
    wanted: Fields = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The first text said, "" without one."""
        return next((e for e in self.said.get("elements", ()) if isinstance(e, str)), "")

    @property
    def photos(self) -> list[str]:
        """The paths of the photos shown."""
        return [e["photo"] for e in self.said.get("elements", ()) if not isinstance(e, str)]


@dataclass(kw_only=True)
class Answers:
    """All that a model said; ``folder`` holds its photos. ``facts``: seeds, threshold and such.
    ``made``: photos just made, by kind, before they were rounded to bytes."""

    dialogues: Sequence[Dialogue]
    folder: Path
    found: list[Answer] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    made: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)
    copied: set[Path] = field(default_factory=set)  # photos of contexts

    def add(self, kind: str, place: Place, said: Fields, wanted: Fields | None = None) -> None:
        self.found.append(Answer(kind=kind, place=place, said=said, wanted=wanted or {}))

    def of(self, kind: str) -> list[Answer]:
        return [answer for answer in self.found if answer.kind == kind]

    def texts(self, kind: str) -> list[str]:
        return [answer.text for answer in self.of(kind)]

    def pixels(self, kind: str) -> Tensor | None:
        """The first photo of each, (N, 3, H, W) in [0, 1]; None where there is none."""
        paths = [answer.photos for answer in self.of(kind)]
        if not all(paths) or not paths:
            return None
        return torch.stack([to_pixels(load_photo(self.folder / path)) for path, *_ in paths])

    def pairs(self, *kinds: str) -> list[tuple[Fields, Fields]]:
        """The records of these kinds, said and wanted; photos by their whole paths."""
        found = []
        for answer in (answer for kind in kinds for answer in self.of(kind)):
            head = {"id": self._id(answer), "dialogue": self.dialogues[answer.place[0]].id}
            found.append((head | self._record(answer.said), head | self._record(answer.wanted)))
        return found

    def _id(self, answer: Answer) -> str:
        b, k = answer.place
        kind = "" if answer.kind in ("text", "photo") else answer.kind
        return f"{self.dialogues[b].id}-{kind}{k}"

    def _record(self, fields: Mapping[str, Any], *, inside: bool = False) -> dict[str, Any]:
        """What a record may hold; ``inside``: photos are named as the folder's files name them."""
        elements = [
            {"photo": e["photo"] if inside else str(self.folder / e["photo"])}
            if isinstance(e, Mapping)
            else e
            for e in fields.get("elements", ())
        ]
        return {k: v for k, v in fields.items() if k in FIELDS} | {"elements": elements}

    def keep_photo(self, image: Image.Image, *place: object) -> dict[str, str]:
        """The element of a photo that is saved in the folder."""
        name = "/".join(map(str, place)) + ".png"
        save_photo(image, self.folder / name)
        return {"photo": name}

    def keep_gold(self, photo: Photo, *place: object) -> dict[str, str]:
        """The photo's own file; of one that has none (drawn, or packed) a copy in the folder."""
        if photo.path is not None and Path(photo.path).is_file():
            return {"photo": str(Path(photo.path).resolve())}
        return self.keep_photo(photo_image(photo), "references", *place)

    # ------------------------------------------------------------------------------ on disk

    def write(self) -> None:
        """All files in ``folder``, answers.json last: where it stands, all is there."""
        scored = [answer for kind in SCORED for answer in self.of(kind)]
        heads = [
            {"id": self._id(answer), "dialogue": self.dialogues[answer.place[0]].id}
            for answer in scored
        ]
        for name in ("said", "wanted"):
            rows = [
                head | self._record(getattr(answer, name), inside=True)
                for head, answer in zip(heads, scored, strict=True)
            ]
            self._lines("predictions" if name == "said" else "references", rows)
        self._lines("context", [self._context(answer) for answer in scored])
        plain = {
            "format": FORMAT,
            "dialogues": [dialogue.id for dialogue in self.dialogues],
            "facts": self.facts,
            "found": [[a.kind, a.place, a.said, a.wanted] for a in self.found],
        }
        write_atomically(self.folder / ANSWERS, (json.dumps(plain) + "\n").encode())

    def _lines(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        text = "\n".join(json.dumps(row) for row in rows) + "\n"
        write_atomically(self.folder / f"{name}.jsonl", text.encode())

    def _context(self, answer: Answer) -> dict[str, Any]:
        """What is seen and read before; labels of turns, which tell more, are left out."""
        b, k = answer.place
        seen = tuple(
            Turn(
                speaker=turn.speaker,
                elements=tuple(
                    self._copied(e) if isinstance(e, Photo) else e for e in turn.elements
                ),
            )
            for turn in self.dialogues[b].turns[:k]
        )
        return dialogue_as_dict(Dialogue(id=self._id(answer), turns=seen))

    def _copied(self, photo: Photo) -> Photo:
        """The photo with a path inside ``folder``: the reader of the JSONL opens no other."""
        if photo.path is None:  # it is drawn, or missing
            return photo
        if not has_pixels(photo):
            return replace(photo, path=None)
        source = Path(photo.path)
        name = hashlib.sha256(photo.path.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        copy = self.folder / "context" / f"{name}{source.suffix.lower()}"
        if copy not in self.copied:
            if source.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
            else:  # in a shard
                save_photo(photo_image(photo), copy)
            self.copied.add(copy)
        return replace(photo, path=str(copy.relative_to(self.folder)))

    @classmethod
    def read(cls, folder: Path, dialogues: Sequence[Dialogue], **facts: Any) -> Answers:
        """What ``write`` wrote. Raises DataError for a folder that holds none, broken ones, or
        those of other dialogues or other ``facts``."""
        again = "Remove the folder and evaluate again."
        try:
            plain = json.loads((folder / ANSWERS).read_text())
            if plain["format"] != FORMAT:
                raise ValueError("another format")
            found = [
                Answer(kind=kind, place=(b, k), said=said, wanted=wanted)
                for kind, (b, k), said, wanted in plain["found"]
            ]
            known, told = plain["dialogues"], plain["facts"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'the answers in "{folder}" cannot be read ({type(error).__name__}: {error}); '
                f"wanted {ANSWERS} of one run. {again}"
            ) from error
        other = {key: told.get(key) for key, value in facts.items() if told.get(key) != value}
        if known != [dialogue.id for dialogue in dialogues] or other:
            raise DataError(
                f'"{folder}" holds the answers of {len(known)} dialogues ({other or told}), and '
                f"{len(dialogues)} are asked for ({facts}); wanted the same. {again}"
            )
        return cls(dialogues=dialogues, folder=folder, found=found, facts=told)


@contextlib.contextmanager
def working_folder(out: Path | None) -> Iterator[Path]:
    """A folder to write in, whose content becomes that of ``out`` once all is there; without
    ``out`` it is forgotten.

    Raises StorageError at once where ``out`` cannot be written or another process is at work
    there. What a killed process left half-made is removed.
    """
    if out is None:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
        return
    with locked(out):
        part = out / ".part"
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            yield part
            for made in sorted(part.iterdir()):
                goal = out / made.name
                if goal.is_dir():
                    shutil.rmtree(goal)
                made.replace(goal)
        finally:
            shutil.rmtree(part, ignore_errors=True)
