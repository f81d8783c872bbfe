"""MMDialog (Feng et al. 2022, arXiv 2211.05719): a million open-domain dialogues with photos.

A split is a folder with ``conversations.json`` (``test_conversations.txt`` in the copies that
MiniGPT-5 was trained on; the same text) and the photos as ``MEDIA_KEY.jpg``. One JSON a line:

    {"conversation_id": ..., "conversation": [{"turn": [{"__TEXT__": "..."}, {"__MEDIA__": key}]}],
     "negative_candidate_media_keys": [999 keys], "negative_candidate_texts": [999 texts]}

the last two in valid and test only. What becomes of it:

- Turns alternate: even ones are ``user``, odd ones ``agent``. Elements keep their order.
- Emoji stay spelled, ":smiling_face:".
- Photos are looked for beside the file, then in ``images``; they have no captions.
- The negatives are ``labels["negative_photos"]`` and ``labels["negative_texts"]`` of the dialogue.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from showtell.data.jsonl import SKIP
from showtell.data.photos import PhotoFolder
from showtell.data.readers import Reader, field, filled_list, named_object, texts_of
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


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [path / "conversations.json", *sorted(path.glob("*_conversations.txt"))]
    found = [file for file in found if file.is_file()]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "neither"
        raise DataError(
            f"{path} holds {names}; wanted conversations.json or one *_conversations.txt. "
            "Name the file itself."
        )
    return found


def _dialogue(value: Any, where: str, folder: PhotoFolder) -> Dialogue:
    record, name, where = named_object(value, "conversation_id", where, _FORMAT)
    labels: dict[str, Any] = {"licence": LICENCE}
    for key, label in _NEGATIVES:
        if key in record:
            labels[label] = texts_of(field(record, key, (list,), where), key, where)
    return Dialogue(
        id=name,
        turns=tuple(
            Turn(
                speaker=AGENT if number % 2 else USER,
                elements=_elements(turn, f"{where}, turn {number + 1}", folder),
            )
            for number, turn in enumerate(filled_list(record, "conversation", where, of="turns"))
        ),
        labels=labels,
    )


def _elements(turn: Any, where: str, folder: PhotoFolder) -> tuple[Element, ...]:
    parts = turn.get("turn") if isinstance(turn, dict) else None
    if not isinstance(parts, list):
        raise DataError(f'{where}: wanted {{"turn": [...]}}. {SKIP}')
    elements: list[Element] = []
    for part in parts:
        if not isinstance(part, dict) or len(part) != 1 or not set(part) <= {_TEXT, _MEDIA}:
            raise DataError(f"{where}: wanted parts of one {_TEXT} or one {_MEDIA}. {SKIP}")
        ((key, text),) = part.items()
        texts_of([text], key, where)
        if key == _TEXT:
            elements.append(text)
        elif text:
            elements.append(Photo(id=text, path=folder.find(f"{text}.jpg", where)))
        else:
            raise DataError(f"{where}: an empty {_MEDIA}. {SKIP}")
    return tuple(elements)


read_mmdialog = Reader(
    title="MMDialog",
    licence=LICENCE,
    wanted=_FORMAT,
    build=_dialogue,
    files_of=_files_of,
    places=("", "images"),
    files=tuple(
        f"{folder}{name}"
        for name in ("conversations.json", "*_conversations.txt")
        for folder in ("", "*/")
    ),
    symmetric=True,
)
