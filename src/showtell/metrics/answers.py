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

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from showtell.data.jsonl import SKIP, opened, parse_json_lines, short_name
from showtell.errors import DataError, did_you_mean

MAX_CHARACTERS, MAX_WORDS = 100_000, 5_000  # of a text: some scores compare all words with all
MAX_NUMBER = 10**15  # floats tell all whole numbers below it apart
_WANTED = 'Wanted JSON lines in UTF-8, such as {"id": "1", "text": "Hello"}.'
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
    first_bad: str = ""


def match(predictions: Source, references: Source, *, skip_bad: bool = False) -> Matched:
    """Both files read and matched by id.

    Raises DataError, naming file and line, for a bad record, an id that occurs twice, a reference
    without prediction or a prediction without reference; with ``skip_bad`` these are left out and
    counted.
    """
    bad: list[DataError] = []
    skipped: dict[str, int] = {}
    sides: list[dict[str, Record]] = []
    for source, name in ((predictions, "predictions"), (references, "references")):
        before = len(bad)
        read = read_records(source, name=name, bad=bad if skip_bad else None)
        sides.append({record.id: record for record in read})
        skipped[f"bad {name}"] = len(bad) - before
    said, wanted = sides
    for rows, others, name, other in (
        (wanted, said, "references", "prediction"),
        (said, wanted, "predictions", "reference"),
    ):
        alone = [record for record in rows.values() if record.id not in others]
        skipped[f"{name} without {other}"] = len(alone)
        if alone and not skip_bad:
            first = ", ".join(_shown(record.id) for record in alone[:5])
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
    return Matched(
        pairs=pairs,
        skipped={name: n for name, n in skipped.items() if n},
        first_bad=str(bad[0]) if bad else "",
    )


def read_records(
    source: Source, *, name: str = "", bad: list[DataError] | None = None
) -> Iterator[Record]:
    """The records of a JSON lines file, or of dicts in memory, one by one, each id once.

    What is bad is raised or, if there is a list for it, put into ``bad``.
    """
    folder = Path(source).parent if isinstance(source, str | Path) else None
    places: dict[str, str] = {}
    for where, value in _values(source, name):
        try:
            if isinstance(value, DataError):
                raise value
            record = _record(value, where, folder)
            if record.id in places:
                raise DataError(
                    f"{record.where}: the id {_shown(record.id)} occurs twice, first at "
                    f"{places[record.id]}; wanted each id once. {SKIP}"
                )
        except DataError as error:
            if bad is None:
                raise
            bad.append(error)
            continue
        places[record.id] = record.where
        yield record


def _values(source: Source, name: str) -> Iterator[tuple[str, Any]]:
    """(where, value or DataError) of each record."""
    if not isinstance(source, str | Path):
        for number, value in enumerate(source, start=1):
            yield f"{name}, record {number}", value
        return
    path, empty = Path(source), True
    with opened(path, wanted=_WANTED) as file:
        for found in parse_json_lines(file, short_name(path)):
            empty = False
            yield ("", found) if isinstance(found, DataError) else (found.where, found.value)
    if empty:
        raise DataError(f"{short_name(path)} is empty. {_WANTED}")


# ------------------------------------------------------------------------------ value -> Record


def _record(value: Any, where: str, folder: Path | None) -> Record:
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: a JSON {type(value).__name__}, wanted an object. {SKIP}")
    id = value.get("id")
    if id == "" or not isinstance(id, str) and not _is_whole(id, least=-MAX_NUMBER):
        raise DataError(f'{where}: "id" is {_shown(id)}, wanted a text or a number. {SKIP}')
    id = _text(str(id), where)
    where = f"{where} (id {id[:40] if id.isprintable() else repr(id[:40])})"
    for key in value:
        if key not in FIELDS:  # a misspelt one would be lost without a word
            known = did_you_mean(str(key), FIELDS).removesuffix("?")
            raise DataError(f"{where}: an unknown field {_shown(key)}{known}. {SKIP}")
    alternatives: tuple[str, ...] = ()
    if "elements" in value:
        if "text" in value or "photos" in value:
            raise DataError(f'{where}: "elements" beside "text" or "photos"; wanted one. {SKIP}')
        elements = tuple(_element(e, where, folder) for e in _list(value, "elements", where))
    else:
        text = value.get("text")
        texts = text if isinstance(text, list) else [] if text is None else [text]
        several = [_text(one, where) for one in texts]
        if isinstance(text, list) and not several:
            raise DataError(f'{where}: "text" is an empty list, wanted a text. {SKIP}')
        photos = [_photo(p, where, folder) for p in _list(value, "photos", where)]
        elements, alternatives = (*several[:1], *photos), tuple(several[1:])
    for text in (" ".join(e for e in elements if isinstance(e, str)), *alternatives):
        _check_length(text, where)
    dialogue = value.get("dialogue", id)
    if not isinstance(dialogue, str) and not _is_whole(dialogue, least=-MAX_NUMBER):
        raise DataError(f'{where}: "dialogue" is no text and no number. {SKIP}')
    return Record(
        id=id,
        elements=elements,
        dialogue=_text(str(dialogue), where),
        where=where,
        alternatives=alternatives,
        numbers=_numbers(value, where),
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
        raise DataError(f'{where}: "{key}" is no list. {SKIP}')
    return found


def _text(text: Any, where: str) -> str:
    if not isinstance(text, str):
        raise DataError(f"{where}: a text that is a JSON {type(text).__name__}. {SKIP}")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"{where}: a text with half a surrogate pair. {SKIP}")
    return text


def _check_length(text: str, where: str) -> None:
    if len(text) > MAX_CHARACTERS or (words := len(text.replace(".", " ").split())) > MAX_WORDS:
        found = f"{len(text):,} characters" if len(text) > MAX_CHARACTERS else f"{words:,} words"
        raise DataError(
            f"{where}: texts of {found}; wanted at most {MAX_CHARACTERS:,} characters and "
            f"{MAX_WORDS:,} words, since some scores compare all with all. {SKIP}"
        )


def _photo(name: Any, where: str, folder: Path | None) -> Path:
    if isinstance(name, str):
        _text(name, where)
    if not isinstance(name, str | Path) or not str(name) or "\0" in str(name):
        raise DataError(f"{where}: a photo that is no path ({_shown(name)}). {SKIP}")
    path = Path(name)
    if path.is_absolute() or folder is None:
        return path
    try:
        inside = (folder / path).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself; a name too long
        raise DataError(
            f"{where}: the photo {_shown(name)} cannot be found ({type(error).__name__}: "
            f"{str(error)[:80]}). {SKIP}"
        ) from error
    if not inside:
        raise DataError(
            f"{where}: the photo {_shown(name)} leads out of the folder of its file; wanted a "
            f"path inside it, or an absolute one. {SKIP}"
        )
    return folder / path


def _shown(value: Any) -> str:
    """The beginning of a value, for a message: what cannot be printed is escaped."""
    try:
        return repr(str(value)[:80])
    except ValueError:  # Python prints no number of more than 4,300 digits
        return "a number of thousands of digits"


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x <= MAX_NUMBER


def _is_whole(x: Any, *, least: int = 1) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and least <= x <= MAX_NUMBER


_NUMBERS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "p_share": ("a probability", lambda x: _is_number(x) and x <= 1),
    "share": ("true or false", lambda x: isinstance(x, bool)),
    "rank": ("1, 2, 3, ...", _is_whole),
    "decision": ("a word", lambda x: isinstance(x, str) and bool(x)),
    "nll": ("a sum of -log p in nats", _is_number),
    "tokens": ("a number of tokens", _is_whole),
}


def _numbers(value: Mapping[str, Any], where: str) -> dict[str, Any]:
    found = {key: value[key] for key in _NUMBERS if key in value}
    for key, one in found.items():
        wanted, good = _NUMBERS[key]
        if not good(one):
            raise DataError(f'{where}: "{key}" is {_shown(one)}, wanted {wanted}. {SKIP}')
    if "decision" in found:
        _text(found["decision"], where)
    return found
