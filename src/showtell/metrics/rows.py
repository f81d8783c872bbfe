"""A score as rows with names: what is measured, with what, and what is not.

``text_rows.py`` and ``photo_rows.py`` fill them in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from showtell.errors import DataError
from showtell.metrics.answers import Record
from showtell.metrics.encoders import load_clip
from showtell.metrics.intervals import Value, bootstrap, grouped, mean_value
from showtell.metrics.protocols import Protocol
from showtell.metrics.report import digest, model_digest
from showtell.runtime import Progress, dealt, gathered, quiet

if TYPE_CHECKING:
    from showtell.metrics.photo_rows import SetFeatures

Pairs = Sequence[tuple[Record, Record]]
LOWER = ("lpips", "fid", "fid_infinity", "kid", "perplexity")  # the rest: the higher the better
CHUNK = 64
FEW = 100  # fewer pairs than this and the intervals themselves are rough


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """What the rows of photos and of meaning need: folders, files or hub ids; or objects.

    ``clip`` and ``relevance_clip`` have ``texts``, ``photos`` and perhaps ``id``;
    ``sentence_encoder`` is called with texts; ``features`` (also "world:oracle", "world:encoder")
    stand in for ``inception``.
    """

    clip: Any = None
    relevance_clip: Any = None
    sentence_encoder: Any = None
    inception: str | Path | None = None
    features: SetFeatures | str | None = None
    lpips: str | Path | None = None
    wordnet: str | Path | None = None


class Rows:
    """``values``, ``used`` (encoders, by role) and ``warnings`` of one score."""

    def __init__(
        self,
        protocol: Protocol,
        pairs: Pairs,
        *,
        encoders: Encoders = Encoders(),  # noqa: B008 (frozen)
        only: Sequence[str] = (),
        seed: int,
        told: Progress = quiet,
    ) -> None:
        self.protocol = protocol
        self.pairs = pairs
        self.encoders = encoders
        self.only = only
        self.seed = seed
        self.told = told
        self.values: dict[str, Value] = {}
        self.used: dict[str, str] = {}
        self.warnings: list[str] = []
        self.cut: dict[str, int] = {}

    def wants(self, *names: str) -> bool:
        known = (*self.protocol.text, *self.protocol.photo, "relevance")
        return any(name in known and (not self.only or name in self.only) for name in names)

    def absent(self, kind: str, names: Iterable[str], needs: str) -> None:
        """Rows without a value, that say what they need; an error where they were asked for."""
        for name in filter(self.wants, names):
            if name in self.only:
                raise DataError(f"{name} cannot be measured: {needs}")
            self.values[f"{kind}.{self.protocol.name}.{name}"] = Value(
                value=None,
                n=0,
                higher_is_better=name not in LOWER,
                protocol=self.protocol.name,
                note=f"not measured: {needs}",
            )

    def measured(
        self, pairs: Sequence[tuple], measure: Callable[[list, list], Tensor]
    ) -> list[tuple[float | None, str]]:
        """(number, dialogue) of each pair (said, wanted, dialogue, ...), None where nothing was
        said; each rank measures its share."""

        def of_part(part: Sequence[tuple]) -> list[float]:
            return measure([pair[0] for pair in part], [pair[1] for pair in part]).tolist()

        found = iter(dealt([pair for pair in pairs if pair[0]], of_part, CHUNK))
        return [(next(found) if pair[0] else None, pair[2]) for pair in pairs]

    def mean(
        self, kind: str, name: str, found: Sequence[tuple[float | None, str]], note: str = ""
    ) -> None:
        """A row of the mean of (number, dialogue) over answers or photos, a missing number being
        0; dialogues are resampled where they have several. Texts of minigpt5: the mean over
        dialogues of their own means. No row of nothing.
        """
        if not found:
            return
        values_N, dialogues = np.array([x or 0.0 for x, _ in found]), [d for _, d in found]
        protocol, full_name = self.protocol.name, f"{kind}.{self.protocol.name}.{name}"
        if protocol != "minigpt5" or kind != "text":
            self.values[full_name] = mean_value(
                values_N,
                seed=self.seed,
                groups=repeated(dialogues),
                higher_is_better=name not in LOWER,
                protocol=protocol,
                note=note,
                unit="" if name in LOWER else "fraction",
            )
            return
        means_G = grouped(values_N, dialogues) / grouped(np.ones(len(found)), dialogues)
        low, high = bootstrap(lambda c: (c @ means_G) / c.sum(1), len(means_G), seed=self.seed)
        note = "; ".join(part for part in (note, f"dialogues, of {len(found):,} turns") if part)
        mean = float(means_G.mean())
        self.values[full_name] = Value(
            value=mean, low=low, high=high, n=len(means_G), protocol=protocol, note=note
        )

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        self.told(what, 0, 1)
        yield
        self.told(what, 1, 1)

    def clip(self, role: str, clip: Any, wanted: str) -> Any:
        if isinstance(clip, str | Path):
            clip = load_clip(clip, wanted=wanted)
        self.use(role, clip, wanted)
        return clip

    def use(self, role: str, encoder: Any, wanted: str) -> None:
        path = getattr(encoder, "path", None)
        name = name_of(encoder)
        if path and Path(path).is_dir():
            name += f" {model_digest(path)}"
        self.used[role] = f"{name} (the protocol names {wanted})"

    def count_cut(self, kind: str, encoder: Any) -> None:
        if cut := sum(gathered(getattr(encoder, "truncated", 0))):
            self.cut[kind] = cut

    def notes(self) -> list[str]:
        found = list(dict.fromkeys(self.warnings))
        if len(self.pairs) < FEW:
            found.insert(0, f"{len(self.pairs):,} pairs are few (wanted {FEW} or more)")
        found = [f"warning: {note}" for note in found]
        for kind, n in self.cut.items():
            found.append(f"{n:,} texts were longer than the {kind} encoder reads, and were cut")
        return found


def repeated(dialogues: Sequence[str]) -> Sequence[str] | None:
    """Dialogues to resample; None where each stands alone."""
    return dialogues if len(set(dialogues)) < len(dialogues) else None


def marked(path: str | Path | None) -> str:
    """The name of a file or folder of weights and, where it is local, their digest."""
    path = Path(path or "")
    if path.is_dir():
        return f"{path} {model_digest(path)}"
    return f"{path} {digest([path])}" if path.is_file() else str(path)


def name_of(encoder: Any) -> str:
    return str(getattr(encoder, "id", None) or getattr(encoder, "__name__", type(encoder).__name__))
