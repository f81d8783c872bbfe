"""What was answered, as records on disk. In the folder of ``Answers``:

predictions.jsonl, references.jsonl    texts, photos and whole answers (``metrics/answers.py``)
context.jsonl                          by the same ids: the turns before, as showtell's JSONL
answers.json                           everything, for tables
photos, references, context            the photos that these name
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from showtell.batch import to_pixels
from showtell.data.photos import has_pixels, load_photo, photo_image, save_photo
from showtell.data.showtell_jsonl import dialogue_as_dict
from showtell.data.storage import locked, write_atomically
from showtell.dialogue import Dialogue, Element, Photo, Turn
from showtell.errors import DataError
from showtell.metrics.answers import FIELDS, Record, match

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
    def gold(self) -> str:
        """The text that was to be said."""
        return str(self.wanted["elements"][0])

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
        said: list[Fields] = []
        wanted: list[Fields] = []
        context: list[Fields] = []
        for answer in (answer for kind in SCORED for answer in self.of(kind)):
            dialogue, k = self.dialogues[answer.place[0]], answer.place[1]
            name = f"{dialogue.id}-{'answer' if answer.kind == 'answer' else ''}{k}"
            for rows, own in ((said, answer.said), (wanted, answer.wanted)):
                kept = {key: value for key, value in own.items() if key in FIELDS}
                rows.append({"id": name, "dialogue": dialogue.id, **kept})
            # labels of turns tell more than what is seen and read
            turns = tuple(
                Turn(speaker=turn.speaker, elements=tuple(map(self._copied, turn.elements)))
                for turn in dialogue.turns[:k]
            )
            context.append(dialogue_as_dict(Dialogue(id=name, turns=turns)))
        for file, lines in (("predictions", said), ("references", wanted), ("context", context)):
            text = "\n".join(map(json.dumps, lines)) + "\n"
            write_atomically(self.folder / f"{file}.jsonl", text.encode())
        plain = {
            "format": FORMAT,
            "dialogues": [dialogue.id for dialogue in self.dialogues],
            "facts": self.facts,
            "found": [[a.kind, a.place, a.said, a.wanted] for a in self.found],
        }
        write_atomically(self.folder / ANSWERS, (json.dumps(plain) + "\n").encode())

    def _copied(self, element: Element) -> Element:
        """A photo with a path inside ``folder``: the reader of the JSONL opens no other."""
        if isinstance(element, str) or element.path is None:  # it is drawn, or missing
            return element
        if not has_pixels(element):
            return replace(element, path=None)
        source = Path(element.path)
        name = hashlib.sha256(element.path.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        copy = self.folder / "context" / f"{name}{source.suffix.lower()}"
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_file():
                shutil.copyfile(source, copy)
            else:  # in a shard
                save_photo(photo_image(element), copy)
        return replace(element, path=str(copy.relative_to(self.folder)))

    def records(self) -> dict[str, list[tuple[Record, Record]]]:
        """What ``write`` wrote for "showtell score", (said, wanted), by kind."""
        counts = {kind: len(self.of(kind)) for kind in SCORED}
        if not any(counts.values()):
            return {kind: [] for kind in SCORED}
        files = (self.folder / f"{name}.jsonl" for name in ("predictions", "references"))
        pairs = iter(match(*files).pairs)
        return {kind: [next(pairs) for _ in range(n)] for kind, n in counts.items()}

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
