"""What is scored: JSON lines of predictions and of references, matched by their ids.

    {"id": "d1-3", "text": "Look at him!", "photos": ["out/d1-3.png"]}
    {"id": "d1-4", "elements": ["Look!", {"photo": "a.png"}, "Cute, isn't he?"], "dialogue": "d1"}

``text`` and ``photos`` (photos come after the text) or ordered ``elements``, of which a string or
{"text": ...} is a text and {"photo": PATH} a photo. A reference's ``text`` may be a list: several
references. ``caption`` (reference) is of its photo, and no part of the answer: CLIP-T compares with
it in place of the text. ``dialogue`` names what was drawn independently. Beside these, where there
are such scores: ``p_share`` (prediction) and ``share`` (reference, true or false), ``rank``
(prediction, of the true photo), ``decision`` (both), ``nll`` and ``tokens`` (prediction, of the
reference's text).

A relative path of a photo is one inside the folder of its file; it may not climb out of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from showtell.data.jsonl import SKIP, opened, parse_json_lines, short_name
from showtell.data.readers import Fields, checked
from showtell.errors import DataError, did_you_mean

MAX_CHARACTERS, MAX_WORDS = 100_000, 5_000  # of a text: some scores compare all words with all
MAX_NUMBER = 10**15  # floats tell all whole numbers below it apart
_WANTED = 'Wanted JSON lines in UTF-8, such as {"id": "1", "text": "Hello"}.'
Source = str | Path | Iterable[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Record:
    """One answer; an element is a text (str) or a photo (Path)."""

    id: str
    elements: tuple[str | Path, ...]
    dialogue: str
    where: str
    alternatives: tuple[str, ...] = ()  # further reference texts
    caption: str = ""
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
    bad: dict[str, list[DataError]] = {"predictions": [], "references": []}
    said, wanted = (
        {r.id: r for r in read_records(source, name=name, bad=bad[name] if skip_bad else None)}
        for source, name in ((predictions, "predictions"), (references, "references"))
    )
    skipped = {f"bad {name}": len(errors) for name, errors in bad.items()}
    for rows, others, name, other in (
        (wanted, said, "references", "prediction"),
        (said, wanted, "predictions", "reference"),
    ):
        alone = [record for record in rows.values() if record.id not in others]
        skipped[f"{name} without {other}"] = len(alone)
        if alone and not skip_bad:
            first = ", ".join(repr(record.id[:80]) for record in alone[:5])
            raise DataError(
                f"{alone[0].where}: {len(alone)} of {len(rows)} {name} have no {other} "
                f"({first}{', ...' if len(alone) > 5 else ''}); wanted the same ids in both. "
                "Add them, or pass --skip-bad to leave them out."
            )
    pairs = tuple((said[id], record) for id, record in wanted.items() if id in said)
    first_bad = next((str(error) for errors in bad.values() for error in errors), "")
    if not pairs:
        raise DataError(
            "no id is in both the predictions and the references; wanted pairs to score. Give both "
            f'the same "id". {first_bad}'.strip()
        )
    skipped = {name: n for name, n in skipped.items() if n}
    return Matched(pairs=pairs, skipped=skipped, first_bad=first_bad)


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
                    f"{record.where}: the id {record.id[:80]!r} occurs twice, first at "
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

Name = str | Annotated[int, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Whole = Annotated[int, Field(ge=1, le=MAX_NUMBER)]


class _Part(Fields):
    """An element that is no string, also as "showtell chat --json" prints it."""

    text: str | None = None
    photo: str | Path | None = None
    type: str = ""
    path: str | None = None


class _Line(Fields):
    """One line. A misspelt field would be lost without a word, so there may be no others."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: Name
    text: str | Annotated[list[str], Field(min_length=1)] | None = None
    photos: list[str | Path] = []
    elements: list[str | _Part] | None = None
    caption: str = ""
    dialogue: Name | None = None
    p_share: float | None = Field(None, ge=0, le=1)
    share: bool | None = None
    rank: Whole | None = None
    decision: str | None = Field(None, min_length=1)
    nll: float | None = Field(None, ge=0, le=MAX_NUMBER)
    tokens: Whole | None = None


FIELDS = tuple(_Line.model_fields)
_NUMBERS = {"p_share", "share", "rank", "decision", "nll", "tokens"}


def _record(value: Any, where: str, folder: Path | None) -> Record:
    if isinstance(value, Mapping):
        for key in map(str, value.keys() - set(FIELDS)):
            known = did_you_mean(key, FIELDS).removesuffix("?")
            raise DataError(f"{where}: an unknown field {key[:80]!r}{known}. {SKIP}")
    line = checked(_Line, value, where, wanted=f"{_WANTED} {SKIP}")
    id = str(line.id)
    where = f"{where} (id {id[:40] if id.isprintable() else repr(id[:40])})"
    if not id:
        raise DataError(f'{where}: "id" is empty, wanted a text or a number. {SKIP}')
    if (line.nll is None) != (line.tokens is None):
        raise DataError(f'{where}: "nll" without "tokens" or the reverse; wanted both. {SKIP}')
    texts = line.text if isinstance(line.text, list) else [] if line.text is None else [line.text]
    elements = line.elements
    if elements is None:
        elements = [*texts[:1], *(_Part(photo=photo) for photo in line.photos)]
    elif texts or line.photos:
        raise DataError(f'{where}: "elements" beside "text" or "photos"; wanted one. {SKIP}')
    record = Record(
        id=id,
        elements=tuple(_element(element, where, folder) for element in elements),
        dialogue=id if line.dialogue is None else str(line.dialogue),
        where=where,
        alternatives=tuple(texts[1:]),
        caption=line.caption,
        numbers=line.model_dump(include=_NUMBERS, exclude_none=True),
    )
    for text in (record.text, record.caption, *record.alternatives):
        _check_length(text, where)
    return record


def _element(element: str | _Part, where: str, folder: Path | None) -> str | Path:
    if isinstance(element, str):
        return element
    photo = element.path if element.type == "photo" and element.photo is None else element.photo
    if photo is not None:
        return _photo(photo, where, folder)
    if element.text is None:
        raise DataError(f"{where}: an element without a text and without a photo. {SKIP}")
    return element.text


def _check_length(text: str, where: str) -> None:
    if len(text) > MAX_CHARACTERS or (words := len(text.replace(".", " ").split())) > MAX_WORDS:
        found = f"{len(text):,} characters" if len(text) > MAX_CHARACTERS else f"{words:,} words"
        raise DataError(
            f"{where}: texts of {found}; wanted at most {MAX_CHARACTERS:,} characters and "
            f"{MAX_WORDS:,} words, since some scores compare all with all. {SKIP}"
        )


def _photo(name: str | Path, where: str, folder: Path | None) -> Path:
    path = Path(name)
    if not str(name) or "\0" in str(name):
        raise DataError(f"{where}: a photo that is no path ({str(name)[:80]!r}). {SKIP}")
    if path.is_absolute() or folder is None:
        return path
    try:
        inside = (folder / path).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # a link to itself; a name too long
        raise DataError(
            f"{where}: the photo {str(name)[:80]!r} cannot be found ({type(error).__name__}: "
            f"{str(error)[:80]}). {SKIP}"
        ) from error
    if not inside:
        raise DataError(
            f"{where}: the photo {str(name)[:80]!r} leads out of the folder of its file; wanted a "
            f"path inside it, or an absolute one. {SKIP}"
        )
    return folder / path
