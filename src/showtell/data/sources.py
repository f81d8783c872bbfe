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
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from showtell.data.captions import read_cc3m, read_folder
from showtell.data.dialogcc import read_dialogcc
from showtell.data.missing import MissingPhotos
from showtell.data.mmdialog import read_mmdialog
from showtell.data.photochat import read_photochat
from showtell.data.readers import Reader, Skipped, split_of_name
from showtell.data.shards import INDEX_NAME, Shards
from showtell.data.showtell_jsonl import read_showtell
from showtell.data.storage import sha256_of
from showtell.data.visdial import read_visdial
from showtell.data.vist import read_vist
from showtell.data.world import WANTED, WorldData, open_world
from showtell.dialogue import Dialogue
from showtell.errors import DataError, UsageError, did_you_mean

FORMATS: dict[str, Reader] = {
    "photochat": read_photochat,
    "dialogcc": read_dialogcc,
    "mmdialog": read_mmdialog,
    "vist": read_vist,
    "visdial": read_visdial,
    "cc3m": read_cc3m,
    "folder": read_folder,
    "showtell": read_showtell,
}
_FORMS = f"{WANTED}, shards:DIR, or KIND:PATH with KIND one of " + ", ".join(FORMATS)


@dataclass(kw_only=True, eq=False)
class DataSource(Sequence[Dialogue]):
    """Dialogues under a name, one by one or by their number.

    Iterating reads them in bounded memory; ``skipped`` then lists what was left out. By number,
    those of the photo world and of shards are made or read when they are asked for; files are read
    whole first, once. ``files`` are all, in order. Where a policy for ``missing`` photos is given,
    reading applies it, and ``missing_counts`` then tell what was met.
    """

    name: str
    kind: str
    skip_bad: bool = False
    world: WorldData | None = None
    shards: Shards | None = None
    files: Sequence[Path] = ()
    skipped: Skipped = field(default_factory=Skipped)
    missing: MissingPhotos | None = None
    missing_counts: Counter[str] = field(default_factory=Counter)
    _whole: Sequence[Dialogue] | None = None

    @property
    def path(self) -> Path | None:
        """The one file, or None."""
        return self.files[0] if len(self.files) == 1 else None

    @property
    def licence(self) -> str:
        if self.shards is not None:
            return "as the dialogues state"
        return FORMATS[self.kind].licence if self.files else "MIT (made by showtell)"

    @property
    def origin(self) -> str:
        """The kind of data; of shards, that which they were packed from."""
        if self.shards is None:
            return self.kind
        return self.shards.source.partition(":")[0]

    @property
    def symmetric(self) -> bool:
        """Whether neither speaker is the agent."""
        return self.origin in FORMATS and FORMATS[self.origin].symmetric

    def digest(self) -> str:
        """The SHA-256 of all files, 16 digits; "" for the photo world, which has none.

        Of shards that of their index, which holds the shards' own.
        """
        total = hashlib.sha256()
        for path in self.files:
            total.update(bytes.fromhex(sha256_of(path)))
        return total.hexdigest()[:16] if self.files else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report's passport must say of the photos that were missing when it was read."""
        return self.missing.notes(self.missing_counts) if self.missing else ()

    def __len__(self) -> int:
        return len(self._by_number())

    def __getitem__(self, index: int) -> Dialogue:  # type: ignore[override]
        return self._by_number()[index]

    def _by_number(self) -> Sequence[Dialogue]:
        if self._whole is not None:
            return self._whole
        made: Sequence[Dialogue] | None = self.shards if self.world is None else self.world
        if made is None or self.missing is not None or self.skip_bad:
            made = [dialogue for dialogue in self]
        self._whole = made
        return made

    def __iter__(self) -> Iterator[Dialogue]:
        if self._whole is not None:  # list() asks for the length before the first of them
            yield from self._whole
            return
        self.skipped = Skipped()
        self.missing_counts = Counter()
        read = self._read()
        if self.missing is not None:
            read = self.missing.apply(read, counts=self.missing_counts)
        yield from read

    def _read(self) -> Iterator[Dialogue]:
        if self.world is not None:
            yield from self.world
        elif self.shards is not None:
            yield from self.shards
        else:
            read = FORMATS[self.kind]
            for path in self.files:
                yield from read(path, skipped=self.skipped if self.skip_bad else None)


def open_data(
    name: str, *, skip_bad: bool = False, missing: MissingPhotos | None = None
) -> DataSource:
    """The source of that name; UsageError if the name means nothing, DataError if no file is there.

    ``skip_bad`` goes on past broken records of a file and collects them in ``skipped``; ``missing``
    is what to do about photos that are not there (None: they stay missing). A folder
    that holds several splits is a UsageError, which names them: nobody should train on
    test unawares.
    """
    splits = open_splits(name, skip_bad=skip_bad)
    if len(splits) > 1:
        names = " or ".join(
            f"{source.kind}:{source.files[0]}" + (" ..." if len(source.files) > 1 else "")
            for source in splits.values()
        )
        raise UsageError(
            f'"{name}" holds the splits {", ".join(splits)}; wanted one of them: {names}'
        )
    source = next(iter(splits.values()))
    source.missing = missing
    return source


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
        splits = {split_of_name(path.name): [path]}
        if path.is_dir():
            splits = FORMATS[kind].splits(path)
        return {
            split: DataSource(name=name, kind=kind, files=files, skip_bad=skip_bad)
            for split, files in splits.items()
        }
    if kind == "shards" and rest:
        shards = Shards(Path(rest).expanduser())
        files = [shards.folder / INDEX_NAME]
        return {"": DataSource(name=name, kind=kind, shards=shards, files=files, skip_bad=skip_bad)}
    if kind in ("world", "shards") or kind in FORMATS:
        raise UsageError(f'the data name "{name}" says no more than its kind; wanted {_FORMS}')
    hint = did_you_mean(kind, ("world", "shards", *FORMATS)) if colon else f"; wanted {_FORMS}"
    raise UsageError(f'unknown data "{name}"{hint}')


def default_folder(name: str) -> Path:
    """NAME in the folder $SHOWTELL_DATA, else in ``data``: where data that were fetched lie."""
    return Path(os.environ.get("SHOWTELL_DATA") or "data") / name


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
        path = default_folder(kind) / f"{text}.jsonl"
        if path.exists():
            return path
        raise DataError(
            f"photochat:{text} is not there (looked for {path}); fetch it (showtell data fetch "
            "photochat), name the file itself, photochat:PATH.jsonl, or set SHOWTELL_DATA to the "
            "folder that holds photochat/"
        )
    raise DataError(f"there is no file {path}; check the path after {kind}:")
