"""Names for data: ``world:test``, ``world:100000-100999``, ``photochat:PATH.jsonl`` and so on.

world:train   seeds 0-99,999           world:test    seeds 100,000-100,999
world:dev     seeds 200,000-200,999    world:novel   seeds 110,000-110,999, combinations of
world:A-B     any seeds, both included               attributes that are never trained
world:novel:A-B                        novel combinations from any test seeds
photochat:PATH.jsonl                   a file of PhotoChat's; photochat:NAME is short for
                                       photochat/NAME.jsonl in the folder $SHOWTELL_DATA (data)
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from showtell.dialogue import Dialogue
from showtell.errors import DataError, UsageError, did_you_mean

WORLD_RANGES = {
    "train": range(0, 100_000),
    "test": range(100_000, 101_000),
    "dev": range(200_000, 201_000),
    "novel": range(110_000, 111_000),
}
MAX_SEED = 2**31
_FORMS = "world:test, world:novel, world:dev, world:train, world:A-B or photochat:PATH.jsonl"


@dataclass(kw_only=True)
class DataSource:
    """Dialogues under a name. Iterating reads them anew; ``skipped`` then lists what was left out.

    ``len()`` is known for the photo world only: a file has to be read to be counted.
    """

    name: str
    skip_bad: bool = False
    seeds: range | None = None
    novel: bool = False
    path: Path | None = None
    skipped: list[DataError] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return "photochat" if self.path is not None else "world"

    def __len__(self) -> int:
        if self.seeds is None:
            raise TypeError(f"the length of {self.name} is not known before it is read")
        return len(self.seeds)

    def __iter__(self) -> Iterator[Dialogue]:
        self.skipped.clear()
        if self.path is not None:
            from showtell.data.photochat import read_photochat

            yield from read_photochat(
                self.path, skip_bad=self.skip_bad, on_skip=self.skipped.append
            )
        else:
            from showtell.world.talk import world_dialogue

            for seed in self.seeds or ():
                yield world_dialogue(seed, novel=self.novel)


def open_data(name: str, *, skip_bad: bool = False) -> DataSource:
    """The source of that name; UsageError if the name means nothing, DataError if no file is there.

    ``skip_bad`` goes on past broken records of a file and collects them in ``skipped``.
    """
    kind, colon, rest = name.partition(":")
    if kind == "world" and rest:
        novel = rest == "novel" or rest.startswith("novel:")
        if rest in WORLD_RANGES:
            seeds = WORLD_RANGES[rest]
        else:
            seeds = seed_range(rest.removeprefix("novel:"), of=name)
        return DataSource(name=name, seeds=seeds, novel=novel)
    if kind == "photochat" and rest:
        return DataSource(name=name, path=_photochat_file(rest), skip_bad=skip_bad)
    if kind in ("world", "photochat"):
        raise UsageError(f'the data name "{name}" says no more than its kind; wanted {_FORMS}')
    hint = did_you_mean(kind, ("world", "photochat")) if colon else f"; wanted {_FORMS}"
    raise UsageError(f'unknown data "{name}"{hint}')


def seed_range(text: str, *, of: str | None = None) -> range:
    """``"5-9"`` -> ``range(5, 10)``: both ends are included."""
    found = re.fullmatch(r"(\d{1,12})-(\d{1,12})", text)
    if not found:
        hint = did_you_mean(text, WORLD_RANGES)
        raise UsageError(
            f'"{of or text}" names no seeds; wanted first-last, for example 100000-100999{hint}'
        )
    first, last = int(found[1]), int(found[2])
    if first > last or last >= MAX_SEED:
        raise UsageError(
            f'"{of or text}": wanted first <= last < {MAX_SEED:,}, for example 100000-100999'
        )
    return range(first, last + 1)


def _photochat_file(text: str) -> Path:
    path = Path(text).expanduser()
    if path.exists():
        return path
    if re.fullmatch(r"[a-z_]+", text):
        folder = Path(os.environ.get("SHOWTELL_DATA") or "data") / "photochat"
        path = folder / f"{text}.jsonl"
        if path.exists():
            return path
        raise DataError(
            f"photochat:{text} is not there (looked for {path}); name the file itself, "
            "photochat:PATH.jsonl, or set SHOWTELL_DATA to the folder that holds photochat/"
        )
    raise DataError(f"there is no file {path}; check the path after photochat:")
