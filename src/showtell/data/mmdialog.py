"""MMDialog (Feng et al. 2022, arXiv 2211.05719): a million open-domain dialogues with photos.

A split is a folder with ``conversations.json`` (``test_conversations.txt`` in the copies that
MiniGPT-5 was trained on; the same text) and the photos as ``MEDIA_KEY.jpg``. One JSON a line:

    {"conversation_id": ..., "conversation": [{"turn": [{"__TEXT__": "..."}, {"__MEDIA__": key}]}],
     "negative_candidate_media_keys": [999 keys], "negative_candidate_texts": [999 texts]}

the last two in valid and test only. What becomes of it:

- Turns alternate: even ones are ``user``, odd ones ``agent``. Elements keep their order.
- Emoji stay spelled, ":smiling_face:".
- Photos have no captions. The negatives are ``labels["negative_photos"]`` and
  ``labels["negative_texts"]`` of the dialogue.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from showtell.data.photos import PhotoFolder
from showtell.data.records import (
    SKIP,
    OnSkip,
    field,
    filled_list,
    kind_of,
    named_object,
    parse_json_records,
    read_dialogues,
    text_of,
)
from showtell.dialogue import AGENT, USER, Dialogue, Element, Photo, Turn
from showtell.errors import DataError

LICENCE = "on application to its owners, academic use only"
_TEXT, _MEDIA = "__TEXT__", "__MEDIA__"
_FORMAT = (
    "Wanted: MMDialog, one JSON a line "
    '({"conversation_id": ..., "conversation": [{"turn": [{"__TEXT__": ...}]}]}).'
)
_NEGATIVES = (
    ("negative_candidate_media_keys", "negative_photos"),
    ("negative_candidate_texts", "negative_texts"),
)


def read_mmdialog(
    path: str | Path, *, skip_bad: bool = False, on_skip: OnSkip | None = None
) -> Iterator[Dialogue]:
    """The dialogues of a split (its folder, or its file), one by one, in bounded memory.

    Photos are looked for beside the file, then in ``images``; one that is not there has the path
    None. Raises DataError (``read_dialogues``).
    """
    path = Path(path)
    if path.is_dir():
        path = _file_in(path)
    yield from read_dialogues(
        path,
        parse=parse_json_records,
        build=partial(_dialogue, folder=PhotoFolder(path.parent, ("", "images"))),
        wanted=_FORMAT,
        skip_bad=skip_bad,
        on_skip=on_skip,
    )


def _file_in(folder: Path) -> Path:
    found = [folder / "conversations.json", *sorted(folder.glob("*_conversations.txt"))]
    found = [file for file in found if file.is_file()]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "neither"
        raise DataError(
            f"{folder} holds {names}; wanted conversations.json or one *_conversations.txt. "
            "Name the file itself."
        )
    return found[0]


def _dialogue(value: Any, where: str, folder: PhotoFolder) -> Dialogue:
    record, name, where = named_object(value, "conversation_id", where, _FORMAT)
    turns = filled_list(record, "conversation", where, of="turns")
    labels: dict[str, Any] = {"licence": LICENCE}
    for key, label in _NEGATIVES:
        if key in record:
            labels[label] = tuple(
                _string(text, key, where) for text in field(record, key, (list,), where)
            )
    return Dialogue(
        id=name,
        turns=tuple(
            Turn(
                speaker=AGENT if number % 2 else USER,
                elements=_elements(turn, where, number + 1, folder),
            )
            for number, turn in enumerate(turns)
        ),
        labels=labels,
    )


def _elements(turn: Any, where: str, number: int, folder: PhotoFolder) -> tuple[Element, ...]:
    parts = turn.get("turn") if isinstance(turn, dict) else None
    if not isinstance(parts, list):
        raise DataError(f'{where}, turn {number}: wanted {{"turn": [...]}}. {SKIP}')
    elements: list[Element] = []
    for part in parts:
        if not isinstance(part, dict) or len(part) != 1:
            raise DataError(
                f"{where}, turn {number}: a part that is neither one {_TEXT} nor one {_MEDIA}. "
                f"{SKIP}"
            )
        ((key, text),) = part.items()
        text = _string(text, key, where)
        if key == _TEXT:
            elements.append(text)
        elif key == _MEDIA:
            if not text:
                raise DataError(f"{where}, turn {number}: an empty {_MEDIA}. {SKIP}")
            path = folder.find(f"{text}.jpg", where)
            elements.append(Photo(id=text, path=path))
        else:
            raise DataError(
                f'{where}, turn {number}: a part of the kind "{key[:40]}", wanted {_TEXT} or '
                f"{_MEDIA}. {SKIP}"
            )
    return tuple(elements)


def _string(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f'{where}: "{key[:40]}" holds a {kind_of(value)}, wanted a string. {SKIP}')
    return text_of(value, key, where)
