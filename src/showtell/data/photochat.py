"""PhotoChat (Zang et al. 2021): two people chat and one of them shares one photo.

Reads JSON lines (one dialogue a line) and the original files (a JSON array of dialogues), with or
without ``photo_id`` (older copies lack it):

    {"dialogue": [{"message": str, "share_photo": bool, "user_id": 0 or 1}, ...],
     "dialogue_id": int, "photo_description": str, "photo_url": str, "photo_id": str}

What becomes of it:

- Whoever speaks first is ``user``, the other ``agent``, whichever of them shares: names that told
  who will share would give away half of the share moment. ``user_id`` 0 and 1 are only two names.
- The share turn is ``Turn(speaker=..., elements=(Photo(...),))``; its caption is the raw
  ``photo_description`` ("Objects in the photo: Plate, Salad").
- The photos are unreachable, so ``Photo.path`` is None, and ``PhotoChatSummary`` counts them as
  missing. Nothing is put in their place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import DataError

MAX_LINE_BYTES = 10_000_000  # the longest line of the corpus has 7 kB
MAX_ARRAY_BYTES = 100_000_000  # the original files have under 1 MB; an array is read whole
HELD_OUT = 1000

OnSkip = Callable[[DataError], None]
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"
_FORMAT = (
    "Wanted: PhotoChat, either JSON lines or one JSON array of dialogues "
    '({"dialogue": [...], "dialogue_id": ..., "photo_description": ..., "photo_url": ...}).'
)
_SKIP = "Correct it, or pass --skip-bad to go on without it."


def read_photochat(
    path: str | Path, *, skip_bad: bool = False, on_skip: OnSkip | None = None
) -> Iterator[Dialogue]:
    """The dialogues of a file, or of all ``*.json`` files of a folder, in order, one by one.

    A bad record raises DataError, which names file and line (in an array: the record). With
    ``skip_bad`` it is handed to ``on_skip`` instead and the rest goes on; a file of which nothing
    is left is an error all the same.
    """
    path = Path(path)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise DataError(
            f"{path} is a folder without any *.json file. {_FORMAT} Name the file itself."
        )
    for file in files:
        yield from _read_file(file, skip_bad=skip_bad, on_skip=on_skip)


def _read_file(path: Path, *, skip_bad: bool, on_skip: OnSkip | None) -> Iterator[Dialogue]:
    name = _short(path)
    num_good = num_bad = 0
    first_bad: DataError | None = None
    try:
        with open(path, "rb") as file:
            head = file.read(512)
            if head[:2] in _UTF16:
                raise DataError(
                    f"{name} is UTF-16 text, wanted UTF-8. Convert it: iconv -f UTF-16 -t UTF-8."
                )
            file.seek(0)
            is_array = head.removeprefix(_BOM).lstrip()[:1] == b"["
            for record in _array(file, name) if is_array else _lines(file, name):
                try:
                    if isinstance(record, DataError):
                        raise record
                    dialogue = _dialogue(record.value, record.where)
                except DataError as error:
                    if not skip_bad:
                        raise
                    num_bad += 1
                    first_bad = first_bad or error
                    if on_skip:
                        on_skip(error)
                    continue
                num_good += 1
                yield dialogue
    except FileNotFoundError as error:
        raise DataError(f"{name} is not there (looked at {path}). {_FORMAT}") from error
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}. {_FORMAT}") from error
    if num_bad and not num_good:
        raise DataError(
            f"{name}: none of its {num_bad} records can be used. The first: {first_bad}"
        )
    if not num_good:
        raise DataError(f"{name} is empty. {_FORMAT}")


@dataclass(frozen=True, kw_only=True)
class _Record:
    value: Any
    where: str


def _lines(file: BinaryIO, name: str) -> Iterator[_Record | DataError]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        where = f"{name}, line {number}"
        if len(line) > MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):  # step over its rest, in bounded memory
                line = file.readline(MAX_LINE_BYTES)
            yield DataError(
                f"{where}: longer than {MAX_LINE_BYTES // 1_000_000} MB; wanted one dialogue a "
                f"line, which takes a few kB. {_SKIP}"
            )
        elif line.strip():
            yield _parse(line, where)


def _array(file: BinaryIO, name: str) -> Iterator[_Record | DataError]:
    data = file.read(MAX_ARRAY_BYTES + 1)
    if len(data) > MAX_ARRAY_BYTES:
        raise DataError(
            f"{name}: a JSON array of more than {MAX_ARRAY_BYTES // 1_000_000} MB; wanted files "
            "like the original ones, of about 1 MB. Write it as JSON lines, which are streamed."
        )
    whole = _parse(data, name)
    if isinstance(whole, DataError):
        raise whole  # where the next record of a broken array begins is anyone's guess
    for number, value in enumerate(whole.value, start=1):
        yield _Record(value=value, where=f"{name}, record {number}")


def _parse(data: bytes, where: str) -> _Record | DataError:
    if data.startswith(_BOM):
        return DataError(
            f"{where}: a byte order mark stands before the JSON; wanted plain UTF-8. "
            "Remove it: sed -i '1s/^\\xEF\\xBB\\xBF//' FILE."
        )
    try:
        return _Record(value=json.loads(data.decode("utf-8")), where=where)
    except UnicodeDecodeError as error:
        return DataError(
            f"{where}: byte {error.start + 1} is not UTF-8 ({data[error.start]:#04x}); wanted "
            f"UTF-8 text. Convert the file (iconv -t UTF-8). {_SKIP}"
        )
    except json.JSONDecodeError as error:
        line = "" if ", line " in where else f", line {error.lineno}"
        return DataError(
            f"{where}{line}: broken JSON at column {error.colno} ({error.msg}); wanted one whole "
            f"JSON object. {_SKIP}"
        )
    except (ValueError, RecursionError) as error:  # numbers of 5,000 digits, 100,000 brackets
        return DataError(f"{where}: JSON that cannot be parsed ({error}). {_SKIP}")


# ------------------------------------------------------------------------- record -> Dialogue


def _dialogue(record: Any, where: str) -> Dialogue:
    if not isinstance(record, dict):
        raise DataError(f"{where}: a JSON {_kind(record)}, wanted an object. {_FORMAT}")
    name = _field(record, "dialogue_id", (int, str), where)
    where = f"{where} (dialogue {str(name)[:40]})"
    turns = _field(record, "dialogue", (list,), where)
    description = _text(record, "photo_description", where)
    url = _text(record, "photo_url", where) if "photo_url" in record else ""

    shares = []
    for index, turn in enumerate(turns):
        at = f"{where}, turn {index + 1}"
        if not isinstance(turn, dict):
            raise DataError(f"{at}: a JSON {_kind(turn)}, wanted an object. {_SKIP}")
        _text(turn, "message", at)
        if _field(turn, "user_id", (int,), at) not in (0, 1):
            raise DataError(f'{at}: "user_id" is {turn["user_id"]}, wanted 0 or 1. {_SKIP}')
        if _field(turn, "share_photo", (bool,), at):
            shares.append(index)
    if len(shares) != 1:
        raise DataError(
            f"{where}: {len(shares)} of its {len(turns)} turns share a photo; "
            f"wanted exactly one. {_SKIP}"
        )

    photo = Photo(
        id=_photo_id(record, url, description, where),
        caption=description,
        labels={"photo_url": url},
    )
    first = turns[0]["user_id"]
    return Dialogue(
        id=str(name),
        turns=tuple(
            Turn(
                speaker=USER if turn["user_id"] == first else AGENT,
                elements=_elements(turn["message"], photo if turn["share_photo"] else None),
            )
            for turn in turns
        ),
    )


def _elements(message: str, photo: Photo | None) -> tuple[str | Photo, ...]:
    if photo is None:
        return (message,)
    return (message, photo) if message.strip() else (photo,)


def _photo_id(record: dict[str, Any], url: str, description: str, where: str) -> str:
    """``photo_id``; else the file name in the address; else a digest of the description."""
    if "photo_id" in record:
        name = _text(record, "photo_id", where).strip()
        if not name:
            raise DataError(f'{where}: "photo_id" is empty; leave it out or fill it. {_SKIP}')
        return name
    name = url.split("?")[0].rstrip("/").rpartition("/")[2].rpartition(".")[0]
    return name or "sha-" + hashlib.sha256(description.encode()).hexdigest()[:16]


def _field(record: dict[str, Any], key: str, kinds: tuple[type, ...], where: str) -> Any:
    wanted = " or ".join(_KINDS[kind] for kind in kinds)
    if key not in record:
        raise DataError(f'{where}: the field "{key}" is missing, wanted a {wanted}. {_SKIP}')
    value = record[key]
    # bool is an int to Python, not to JSON
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise DataError(f'{where}: "{key}" is a {_kind(value)}, wanted a {wanted}. {_SKIP}')
    return value


def _text(record: dict[str, Any], key: str, where: str) -> str:
    value = _field(record, key, (str,), where)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f'{where}: "{key}" has half a surrogate pair at character {error.start + 1}, which no '
            f"text can hold. {_SKIP}"
        ) from error
    return value


_KINDS: dict[type, str] = {
    str: "string",
    bool: "true/false",
    int: "whole number",
    float: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}


def _kind(value: Any) -> str:
    return _KINDS[type(value)]


def _short(path: Path) -> str:
    """``photochat/dev.jsonl``: enough to know which file, short enough to read."""
    return "/".join(path.parts[-2:]) if len(path.parts) > 1 else str(path)


# ------------------------------------------------------------------ counts, moments, held-out


@dataclass(frozen=True, kw_only=True)
class PhotoChatSummary:
    """What was read, and what of it is not there."""

    dialogues: int
    turns: int
    photos: int
    distinct_photos: int
    missing_photos: int
    skipped: int
    positions: int
    positive_positions: int


def summarise(dialogues: Iterable[Dialogue], *, skipped: int = 0) -> PhotoChatSummary:
    """Counts over the dialogues; ``skipped`` is how many records the reader left out."""
    num_dialogues = num_turns = num_photos = num_missing = num_positions = num_positive = 0
    ids: set[str] = set()
    for dialogue in dialogues:
        num_dialogues += 1
        num_turns += len(dialogue.turns)
        num_photos += len(dialogue.photos)
        num_missing += sum(photo.path is None for photo in dialogue.photos)
        ids.update(photo.id for photo in dialogue.photos)
        positions = moment_positions(dialogue)
        num_positions += len(positions)
        num_positive += sum(position.shares for position in positions)
    return PhotoChatSummary(
        dialogues=num_dialogues,
        turns=num_turns,
        photos=num_photos,
        distinct_photos=len(ids),
        missing_photos=num_missing,
        skipped=skipped,
        positions=num_positions,
        positive_positions=num_positive,
    )


@dataclass(frozen=True, kw_only=True)
class MomentPosition:
    """A point of a dialogue at which one may ask: is the next turn a photo?"""

    dialogue_id: str
    turn: int  # the index of the next turn
    context: tuple[Turn, ...]  # the turns before it; never empty
    shares: bool


def moment_positions(dialogue: Dialogue) -> tuple[MomentPosition, ...]:
    """The share-moment protocol ``photochat``: a position before every turn up to the share.

    The share turn is included, the first turn of the dialogue is not (nothing has been said), and
    nothing after the share is asked. With the share at index k these are the positions 1..k, of
    which k alone is positive. On PhotoChat dev: 10,151 positions, 1,000 positive.
    """
    share = next((k for k, turn in enumerate(dialogue.turns) if turn.photos), None)
    last = len(dialogue.turns) - 1 if share is None else share
    return tuple(
        MomentPosition(
            dialogue_id=dialogue.id, turn=k, context=dialogue.turns[:k], shares=k == share
        )
        for k in range(1, last + 1)
    )


def split_held_out(
    dialogues: Iterable[Dialogue], *, count: int = HELD_OUT
) -> tuple[list[Dialogue], list[Dialogue]]:
    """``(rest, held_out)``: ``count`` training dialogues for stopping, thresholds, calibration.

    The rule depends on the photo's address only: photos in the order of the SHA-256 of their
    address, all dialogues of a photo together (the 10,286 training dialogues share 8,889 photos),
    until ``count`` are held out; a photo with more dialogues than are still wanted is passed over.
    Both lists keep the order of the input.
    """
    dialogues = list(dialogues)
    if not 0 < count < len(dialogues):
        raise DataError(
            f"{count} dialogues are to be held out of {len(dialogues)}; wanted more than that. "
            "Read the whole training file, or hold out fewer."
        )
    by_photo: dict[str, list[int]] = {}
    for index, dialogue in enumerate(dialogues):
        photo = dialogue.photos[0]
        by_photo.setdefault(photo.labels.get("photo_url") or photo.id, []).append(index)
    held: set[int] = set()
    for key in sorted(by_photo, key=lambda key: hashlib.sha256(key.encode()).digest()):
        if len(held) + len(by_photo[key]) <= count:
            held.update(by_photo[key])
    rest = [d for index, d in enumerate(dialogues) if index not in held]
    return rest, [d for index, d in enumerate(dialogues) if index in held]
