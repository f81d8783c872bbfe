"""What a model answered, beside what was to be said, kept for ``showtell score`` and ``judge``.

predictions.jsonl, references.jsonl    records (``metrics/records.py``), by id
context.jsonl                          by the same ids: the turns before, as showtell's JSONL
photos, references, context            the photos that these name
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from showtell.data.export import dialogue_as_dict
from showtell.data.photos import has_pixels, photo_image, save_photo
from showtell.data.storage import write_atomically
from showtell.dialogue import Dialogue, Photo, Turn

Pair = tuple[dict[str, Any], dict[str, Any]]


@dataclass(kw_only=True)
class Answers:
    """Predictions beside references, as records of ``showtell score``; ``folder`` holds photos.

    Turns of ``texts`` and of ``photos`` (a reference's text is then its photo's caption), ``whole``
    answers, the P(share) of all ``moments`` and the ``nll`` of all text turns with their tokens.
    """

    folder: Path
    texts: list[Pair] = field(default_factory=list)
    photos: list[Pair] = field(default_factory=list)
    whole: list[Pair] = field(default_factory=list)
    moments: list[Pair] = field(default_factory=list)
    contexts: dict[str, tuple[Turn, ...]] = field(default_factory=dict)  # by a pair's id
    nll: list[tuple[str, tuple[float, int]]] = field(default_factory=list)  # by dialogue
    counts: Counter[str] = field(default_factory=Counter)
    copied: set[Path] = field(default_factory=set)  # photos of contexts

    def pair(
        self, dialogue: Dialogue, turn: int, said: dict, wanted: dict, *, kind: str = ""
    ) -> Pair:
        """The two records of what stands, or is said, from ``turn`` of a dialogue on."""
        name = f"{dialogue.id}-{kind}{turn}"
        self.contexts[name] = dialogue.turns[:turn]
        head = {"id": name, "dialogue": dialogue.id}
        return head | said, head | wanted

    def write(self) -> None:
        """All three files in ``folder``; photos are named inside it."""
        pairs = [*self.texts, *self.photos, *self.whole]
        for name, side in (("predictions", 0), ("references", 1)):
            self._write_lines(name, (_relative(pair[side], self.folder) for pair in pairs))
        shown = {said["id"]: self.contexts[said["id"]] for said, _ in pairs}
        self._write_lines("context", map(self._context, shown, shown.values()))

    def _write_lines(self, name: str, values: Iterable[Mapping[str, Any]]) -> None:
        lines = [json.dumps(value) for value in values]
        write_atomically(self.folder / f"{name}.jsonl", ("\n".join(lines) + "\n").encode())

    def _context(self, name: str, turns: tuple[Turn, ...]) -> dict[str, Any]:
        """What is seen and read of the turns; labels of turns, which tell more, are left out."""
        seen = tuple(
            Turn(
                speaker=turn.speaker,
                elements=tuple(
                    self._copied(element) if isinstance(element, Photo) else element
                    for element in turn.elements
                ),
            )
            for turn in turns
        )
        return dialogue_as_dict(Dialogue(id=name, turns=seen))

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


def _relative(record: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    def name(path: str) -> str:
        inside = Path(path).is_relative_to(folder)
        return str(Path(path).relative_to(folder)) if inside else path

    elements = [
        {"photo": name(element["photo"])} if isinstance(element, dict) else element
        for element in record["elements"]
    ]
    return {**record, "elements": elements}


def gold_path(photo: Photo, place: Path) -> str:
    """The photo's own file; of one that has none (drawn, or packed) a copy at ``place``."""
    if photo.path is not None and Path(photo.path).is_file():
        return str(Path(photo.path).resolve())
    return str(save_photo(photo_image(photo), place))
