"""What is scored: JSON lines of predictions and of references, matched by their ids.

    {"id": "d1-3", "text": "Look at him!", "photos": ["out/d1-3.png"]}
    {"id": "d1-4", "elements": ["Look!", {"photo": "a.png"}, "Cute, isn't he?"], "dialogue": "d1"}

``text`` and ``photos`` (photos come after the text) or ordered ``elements``, of which a string or
{"text": ...} is a text and {"photo": PATH} a photo. A reference's ``text`` may be a list: several
references. ``dialogue`` names what was drawn independently. Beside these, where there are such
scores: ``p_share`` (prediction) and ``share`` (reference, true or false), ``rank`` (prediction, of
the true photo), ``decision`` (both), ``nll`` and ``tokens`` (prediction, of the reference's text).

A relative path of a photo is one inside the folder of its file; it may not climb out of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from showtell.data.jsonl import SKIP as _SKIP
from showtell.data.jsonl import OnSkip, opened, parse_json_lines, short_name
from showtell.errors import DataError

FIELDS = (
    *("id", "text", "photos", "elements", "dialogue"),
    *("p_share", "share", "rank", "decision", "nll", "tokens"),
)
Source = str | Path | Iterable[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Record:
    """One answer; an element is a text (str) or a photo (Path)."""

    id: str
    elements: tuple[str | Path, ...]
    dialogue: str
    where: str
    alternatives: tuple[str, ...] = ()  # further reference texts
    numbers: Mapping[str, Any] = field(default_factory=dict)  # p_share, share, rank, ...
    unused: tuple[str, ...] = ()

    @property
    def texts(self) -> list[str]:
        return [element for element in self.elements if isinstance(element, str)]

    @property
    def photos(self) -> list[Path]:
        return [element for element in self.elements if not isinstance(element, str)]

    @property
    def text(self) -> str:
        return " ".join(self.texts)


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Predictions beside their references, in the references' order; and what was left out."""

    pairs: tuple[tuple[Record, Record], ...]
    skipped: Mapping[str, int]
    unused: Mapping[str, int]  # fields that nothing reads, and in how many records
    first_bad: str = ""


def match(predictions: Source, references: Source, *, skip_bad: bool = False) -> Matched:
    """Both files read and matched by id.

    Raises DataError, naming file and line, for a bad record, an id that occurs twice, a reference
    without prediction or a prediction without reference; with ``skip_bad`` these are left out and
    counted.
    """
    skipped: Counter[str] = Counter()
    bad: list[DataError] = []

    def on_skip(error: DataError) -> None:
        bad.append(error)

    sides: list[dict[str, Record]] = []
    for source, name in ((predictions, "predictions"), (references, "references")):
        rows: dict[str, Record] = {}
        before = len(bad)
        for record in read_records(source, name=name, skip_bad=skip_bad, on_skip=on_skip):
            if record.id in rows:
                error = DataError(
                    f'{record.where}: the id "{record.id[:60]}" occurs twice, first at '
                    f"{rows[record.id].where}; wanted each id once. {_SKIP}"
                )
                if not skip_bad:
                    raise error
                on_skip(error)
                continue
            rows[record.id] = record
        skipped[f"bad {name}"] = len(bad) - before
        sides.append(rows)
    said, wanted = sides
    for rows, others, name, other in (
        (wanted, said, "references", "prediction"),
        (said, wanted, "predictions", "reference"),
    ):
        alone = [record for record in rows.values() if record.id not in others]
        skipped[f"{name} without {other}"] = len(alone)
        if alone and not skip_bad:
            first = ", ".join(f'"{record.id[:60]}"' for record in alone[:5])
            raise DataError(
                f"{alone[0].where}: {len(alone)} of {len(rows)} {name} have no {other} "
                f"({first}{', ...' if len(alone) > 5 else ''}); wanted the same ids in both. "
                "Add them, or pass --skip-bad to leave them out."
            )
    pairs = tuple((said[id], record) for id, record in wanted.items() if id in said)
    if not pairs:
        reason = f" The first bad record: {bad[0]}" if bad else ""
        raise DataError(
            "no id is in both the predictions and the references; wanted pairs to score. Give both "
            f'the same "id".{reason}'
        )
    unused = Counter(name for pair in pairs for record in pair for name in record.unused)
    return Matched(
        pairs=pairs,
        skipped={name: n for name, n in skipped.items() if n},
        unused=unused,
        first_bad=str(bad[0]) if bad else "",
    )


def read_records(
    source: Source, *, name: str = "", skip_bad: bool = False, on_skip: OnSkip | None = None
) -> Iterator[Record]:
    """The records of a JSON lines file, or of dicts in memory, one by one."""
    if isinstance(source, str | Path):
        path = Path(source)
        rows: Iterator[tuple[str, Any]] = _lines(path)
        folder: Path | None = path.parent
    else:
        rows = ((f"{name}, record {n}", value) for n, value in enumerate(source, start=1))
        folder = None
    for where, value in rows:
        try:
            if isinstance(value, DataError):
                raise value
            yield _record(value, where, folder)
        except DataError as error:
            if not skip_bad:
                raise
            if on_skip:
                on_skip(error)


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(where, value or DataError) of each line that is not empty, in bounded memory."""
    name = short_name(path)
    wanted = 'Wanted JSON lines in UTF-8, such as {"id": "1", "text": "Hello"}.'
    with opened(path, wanted=wanted) as file:
        empty = True
        for line in parse_json_lines(file, name):
            empty = False
            yield (name, line) if isinstance(line, DataError) else (line.where, line.value)
        if empty:
            raise DataError(f"{name} is empty. {wanted}")


# ------------------------------------------------------------------------------ value -> Record


def _record(value: Any, where: str, folder: Path | None) -> Record:
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: a JSON {type(value).__name__}, wanted an object. {_SKIP}")
    id = value.get("id")
    if isinstance(id, bool) or not isinstance(id, str | int) or id == "":
        raise DataError(f'{where}: "id" is {str(id)[:40]!r}, wanted a text or a number. {_SKIP}')
    where = f"{where} (id {str(id)[:40]})"
    alternatives: tuple[str, ...] = ()
    if "elements" in value:
        if "text" in value or "photos" in value:
            raise DataError(f'{where}: "elements" beside "text" or "photos"; wanted one. {_SKIP}')
        elements = tuple(
            _element(element, where, folder) for element in _list(value, "elements", where)
        )
    else:
        text = value.get("text")
        texts = text if isinstance(text, list) else [] if text is None else [text]
        several = [_text(one, where) for one in texts]
        if isinstance(text, list) and not several:
            raise DataError(f'{where}: "text" is an empty list, wanted a text. {_SKIP}')
        photos = [_photo(p, where, folder) for p in _list(value, "photos", where)]
        elements = (*several[:1], *photos)
        alternatives = tuple(several[1:])
    dialogue = value.get("dialogue", id)
    if not isinstance(dialogue, str | int):
        raise DataError(f'{where}: "dialogue" is no text and no number. {_SKIP}')
    return Record(
        id=str(id),
        elements=elements,
        dialogue=str(dialogue),
        where=where,
        alternatives=alternatives,
        numbers=_numbers(value, where),
        unused=tuple(name for name in value if name not in FIELDS),
    )


def _element(element: Any, where: str, folder: Path | None) -> str | Path:
    if isinstance(element, Mapping):
        if "photo" in element:
            return _photo(element["photo"], where, folder)
        if element.get("type") == "photo":  # as "showtell chat --json" prints its parts
            return _photo(element.get("path"), where, folder)
        return _text(element.get("text"), where)
    return _text(element, where)


def _list(value: Mapping[str, Any], key: str, where: str) -> list[Any]:
    found = value.get(key, [])
    if not isinstance(found, list):
        raise DataError(f'{where}: "{key}" is no list. {_SKIP}')
    return found


def _text(text: Any, where: str) -> str:
    if not isinstance(text, str):
        raise DataError(f"{where}: a text that is a JSON {type(text).__name__}. {_SKIP}")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"{where}: a text with half a surrogate pair. {_SKIP}")
    return text


def _photo(name: Any, where: str, folder: Path | None) -> Path:
    if not isinstance(name, str | Path) or not str(name) or "\0" in str(name):
        raise DataError(f"{where}: a photo that is no path ({str(name)[:40]!r}). {_SKIP}")
    path = Path(name)
    if path.is_absolute() or folder is None:
        return path
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f'{where}: the photo "{str(name)[:80]}" leads out of the folder of its file; wanted a '
            f"path inside it, or an absolute one. {_SKIP}"
        )
    return folder / path


def _numbers(value: Mapping[str, Any], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def take(key: str, wanted: str, good: Callable[[Any], bool]) -> None:
        if key in value:
            if not good(value[key]):
                raise DataError(
                    f'{where}: "{key}" is {str(value[key])[:40]!r}, wanted {wanted}. {_SKIP}'
                )
            found[key] = value[key]

    def number(x: Any) -> bool:
        return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)

    def whole(x: Any) -> bool:
        return isinstance(x, int) and not isinstance(x, bool) and x >= 1

    take("p_share", "a probability", lambda x: number(x) and 0 <= x <= 1)
    take("share", "true or false", lambda x: isinstance(x, bool))
    take("rank", "1, 2, 3, ...", whole)
    take("decision", "a word", lambda x: isinstance(x, str) and bool(x))
    take("nll", "a sum of -log p in nats", lambda x: number(x) and x >= 0)
    take("tokens", "a number of tokens", whole)
    return found
