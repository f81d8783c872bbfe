"""Names for data: ``world:test``, ``photochat:PATH``, ``mmdialog:PATH`` and so on.

world:SPAN    the photo world, made when asked for: see ``world.py`` for its kinds and spans
KIND:PATH     files of one of FORMATS (photochat, dialogcc, mmdialog, vist, visdial, cc3m, folder,
              showtell): a file, or a folder that holds one split
photochat:NAME                         short for photochat/NAME.jsonl in $SHOWTELL_DATA (data)
shards:DIR                             what "showtell data pack" wrote
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from showtell.data.formats import FORMATS, split_of_name
from showtell.data.missing import MissingCounts, MissingPhotos, Paint
from showtell.data.unpack import Shards, read_shards
from showtell.data.world import WANTED, WorldData, open_world
from showtell.dialogue import Dialogue
from showtell.errors import DataError, UsageError, did_you_mean

_FORMS = f"{WANTED}, shards:DIR, or KIND:PATH with KIND one of " + ", ".join(FORMATS)


class Skipped:
    """The records that were left out: ``len()`` counts all, the first hundred are kept."""

    KEPT = 100

    def __init__(self) -> None:
        self.first: list[DataError] = []
        self.count = 0

    def append(self, error: DataError) -> None:
        self.count += 1
        if len(self.first) < self.KEPT:
            self.first.append(error)

    def clear(self) -> None:
        self.count = 0
        self.first.clear()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: slice) -> list[DataError]:
        return self.first[index]


@dataclass(kw_only=True)
class DataSource:
    """Dialogues under a name. Iterating reads them anew; ``skipped`` then lists what was left out.

    ``len()`` and single dialogues are known for the photo world only (``world``): a file has to be
    read to be counted. ``path`` is
    the one file, or None; ``files`` are all, in order. ``split`` is what the names of the files
    tell, "" if they tell none. Where a policy for ``missing`` photos is given, iterating applies it
    (``paint`` paints substitutes), and ``missing_counts`` then tell what was met.
    """

    name: str
    skip_bad: bool = False
    kind: str = "world"
    world: WorldData | None = None
    files: tuple[Path, ...] = ()
    split: str = ""
    skipped: Skipped = field(default_factory=Skipped)
    missing: MissingPhotos | None = None
    paint: Paint | None = None
    missing_counts: MissingCounts = field(default_factory=MissingCounts)

    @property
    def path(self) -> Path | None:
        return self.files[0] if len(self.files) == 1 else None

    @property
    def licence(self) -> str:
        if self.kind == "shards":
            return "as the dialogues state"
        return FORMATS[self.kind].licence if self.files else "MIT (made by showtell)"

    @property
    def origin(self) -> str:
        """The kind of data; of shards, that which they were packed from."""
        if self.kind != "shards":
            return self.kind
        return str(Shards(self.files[0]).index.get("source", "")).partition(":")[0]

    @property
    def symmetric(self) -> bool:
        """Whether neither speaker is the agent."""
        return self.origin in FORMATS and FORMATS[self.origin].symmetric

    def digest(self) -> str:
        """The SHA-256 of all files, 16 digits; "" for the photo world, which has none.

        Of a folder those of the records in it: an index of shards holds the shards' own.
        """
        if not self.files:
            return ""
        total = hashlib.sha256()
        for path in self.files:
            records = [path] if path.is_file() else sorted(path.glob("*.json*"))
            for record in records:
                with open(record, "rb") as file:
                    total.update(hashlib.file_digest(file, "sha256").digest())
        return total.hexdigest()[:16]

    def __len__(self) -> int:
        if self.world is None:
            raise TypeError(f"the length of {self.name} is not known before it is read")
        return len(self.world)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report's passport must say of the photos that were missing when it was read."""
        return self.missing_counts.notes(self.missing) if self.missing else ()

    def __iter__(self) -> Iterator[Dialogue]:
        self.skipped.clear()
        self.missing_counts = MissingCounts()
        if self.missing is None:
            yield from self._read()
        else:
            yield from self.missing.apply(
                self._read(), counts=self.missing_counts, paint=self.paint
            )

    def _read(self) -> Iterator[Dialogue]:
        for path in self.files:
            read = read_shards if self.kind == "shards" else FORMATS[self.kind].read
            yield from read(path, skip_bad=self.skip_bad, on_skip=self.skipped.append)
        yield from self.world or ()


def open_data(
    name: str,
    *,
    skip_bad: bool = False,
    missing: MissingPhotos | None = None,
    paint: Paint | None = None,
) -> DataSource:
    """The source of that name; UsageError if the name means nothing, DataError if no file is there.

    ``skip_bad`` goes on past broken records of a file and collects them in ``skipped``; ``missing``
    is what to do about photos that are not there (None: they stay missing). A folder
    that holds several splits is a UsageError, which names them: nobody should train on
    test unawares.
    """
    splits = open_splits(name, skip_bad=skip_bad)
    if len(splits) > 1:
        names = " or ".join(_named(source) for source in splits.values())
        raise UsageError(
            f'"{name}" holds the splits {", ".join(splits)}; wanted one of them: {names}'
        )
    source = next(iter(splits.values()))
    source.missing, source.paint = missing, paint
    return source


def _named(source: DataSource) -> str:
    return f"{source.kind}:{source.files[0]}" + (" ..." if len(source.files) > 1 else "")


def open_splits(name: str, *, skip_bad: bool = False) -> dict[str, DataSource]:
    """The sources of that name by split, for what looks at all of them together (the doctor).

    Raises UsageError and DataError, as ``open_data``.
    """
    kind, colon, rest = name.partition(":")
    if kind == "world" and rest:
        world = open_world(name)
        kind = "world" if world.kind == "dialogues" else f"world:{world.kind}"
        return {rest: DataSource(name=name, kind=kind, world=world)}
    if kind in FORMATS and rest:
        path = _path(kind, rest)
        splits: dict[str, tuple[Path, ...]] = {"": (path,)}
        if path.is_dir() and FORMATS[kind].files:
            splits = FORMATS[kind].splits(path)
            if not splits:
                raise DataError(
                    f"the folder {path} holds no file of {FORMATS[kind].title}; wanted "
                    f"{' or '.join(FORMATS[kind].files)}. Name the file itself, {kind}:PATH."
                )
        elif path.is_file():
            splits = {split_of_name(path.name): (path,)}
        return {
            split: DataSource(name=name, kind=kind, files=files, split=split, skip_bad=skip_bad)
            for split, files in splits.items()
        }
    if kind == "shards" and rest:
        shards = Shards(Path(rest).expanduser())
        return {"": DataSource(name=name, kind=kind, files=(shards.folder,), skip_bad=skip_bad)}
    if kind in ("world", "shards") or kind in FORMATS:
        raise UsageError(f'the data name "{name}" says no more than its kind; wanted {_FORMS}')
    hint = did_you_mean(kind, ("world", "shards", *FORMATS)) if colon else f"; wanted {_FORMS}"
    raise UsageError(f'unknown data "{name}"{hint}')


def _path(kind: str, text: str) -> Path:
    path = Path(text).expanduser()
    try:
        if path.exists():
            return path
    except (OSError, ValueError) as error:  # a name of 300 letters; a NUL in it
        raise DataError(
            f"{kind}:{text[:80]!r} is no path that can be looked up; check it"
        ) from error
    if kind == "photochat" and re.fullmatch(r"[a-z_]+", text):
        folder = Path(os.environ.get("SHOWTELL_DATA") or "data") / "photochat"
        path = folder / f"{text}.jsonl"
        if path.exists():
            return path
        raise DataError(
            f"photochat:{text} is not there (looked for {path}); name the file itself, "
            "photochat:PATH.jsonl, or set SHOWTELL_DATA to the folder that holds photochat/"
        )
    raise DataError(f"there is no file {path}; check the path after {kind}:")
