"""A score as rows with names: what is measured, with what, and what is not.

The rows of texts and of decisions stand here, those of photos in ``photo_rows.py``.
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
from showtell.metrics.encoders import SENTENCE_FILES, load_sentence_encoder
from showtell.metrics.intervals import Value, grouped, mean_value
from showtell.metrics.meteor import TOKENS, meteor, meteor_exact_stem, open_wordnet
from showtell.metrics.moment import moment_values
from showtell.metrics.protocols import Protocol
from showtell.metrics.relevance import cosines, minigpt5_text, mmdialog_text, text_before_photo
from showtell.metrics.report import digest, model_digest
from showtell.metrics.retrieval import decision_values, retrieval_values
from showtell.metrics.text import CORPUS, distinct_n, perplexity_value, text_values
from showtell.progress import Progress, quiet
from showtell.runtime import dealt, gathered

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
        values, dialogues = np.array([x or 0.0 for x, _ in found]), [d for _, d in found]
        protocol, groups = self.protocol.name, repeated(dialogues)
        if protocol == "minigpt5" and kind == "text":
            values = grouped(values, dialogues) / grouped(np.ones(len(found)), dialogues)
            groups = range(len(values))
            note = "; ".join(part for part in (note, f"dialogues, of {len(found):,} turns") if part)
        self.values[f"{kind}.{protocol}.{name}"] = mean_value(
            values,
            seed=self.seed,
            groups=groups,
            higher_is_better=name not in LOWER,
            protocol=protocol,
            note=note,
            unit="" if name in LOWER else "fraction",
        )

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        self.told(what, 0, 1)
        yield
        self.told(what, 1, 1)

    def encoder(self, role: str, encoder: Any, load: Callable[..., Any], wanted: str) -> Any:
        """The encoder, loaded where it is named by its folder, and noted as used in this role."""
        if isinstance(encoder, str | Path):
            encoder = load(encoder, wanted=wanted)
        digests = _digest_of(getattr(encoder, "path", ""))
        self.used[role] = f"{name_of(encoder)}{digests} (the protocol names {wanted})"
        return encoder

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


def repeated(dialogues: Sequence[str]) -> Sequence[Any] | None:
    """Dialogues to resample; None where each stands alone."""
    return dialogues if len(set(dialogues)) < len(dialogues) else None


def marked(path: str | Path) -> str:
    """The name of a file or folder of weights and, where it is local, their digest."""
    return f"{Path(path)}{_digest_of(path)}"


def _digest_of(path: str | Path) -> str:
    """The digest of what lies there, after a space; "" where nothing does."""
    if path and Path(path).is_dir():
        return f" {model_digest(path)}"
    return f" {digest([path])}" if path and Path(path).is_file() else ""


def name_of(encoder: Any) -> str:
    return str(getattr(encoder, "id", None) or getattr(encoder, "__name__", type(encoder).__name__))


# ------------------------------------------------------------------------------ texts, decisions


def put_texts(rows: Rows) -> None:
    kept = [(said, wanted) for said, wanted in rows.pairs if wanted.texts]
    if not kept:
        return
    said = [one.text for one, _ in kept]
    wanted = [[other.text, *other.alternatives] for _, other in kept]
    dialogues = [other.dialogue for _, other in kept]
    name = rows.protocol.name
    if rows.wants("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l"):
        with rows.step("texts"):
            if name in CORPUS:
                groups = repeated(dialogues)
                found = text_values(said, wanted, protocol=name, seed=rows.seed, groups=groups)
                rows.values |= {k: v for k, v in found.items() if rows.wants(k.split(".")[2])}
                rouge = rows.values.get("text.standard.rouge_l")
                if rouge and rouge.note:
                    rows.warnings.append(f"text.standard.rouge_l: {rouge.note}")
            else:
                _answers(rows, minigpt5_text if name == "minigpt5" else mmdialog_text)
    if rows.wants("meteor"):
        try:
            wordnet = open_wordnet(rows.encoders.wordnet)
        except DataError as error:
            if rows.encoders.wordnet is not None:
                raise
            rows.absent("text", ["meteor"], str(error))
        else:
            rows.used["wordnet"] = str(rows.encoders.wordnet or "nltk's own")
            scores = zip(meteor(said, wanted, wordnet=wordnet), dialogues, strict=True)
            rows.mean("text", "meteor", list(scores), f"nltk; {TOKENS}")
    if rows.wants("meteor_exact_stem"):
        scores = zip(meteor_exact_stem(said, wanted), dialogues, strict=True)
        rows.mean("text", "meteor_exact_stem", list(scores), f"no synonyms: not METEOR; {TOKENS}")
    if rows.wants("sbert"):
        _sbert(rows)
    if rows.wants("perplexity"):
        _perplexity(rows)
    spoken = [one.text for one, _ in rows.pairs if one.texts]
    for order in (1, 2, 3):
        if rows.wants(f"distinct{order}") and spoken:
            # no interval: every resampled corpus has fewer different n-grams
            rows.values[f"text.{name}.distinct{order}"] = Value(
                value=distinct_n(spoken, order),
                n=len(spoken),
                protocol="standard",
                note="whitespace tokens; falls with n",
            )
    if missing := sum(not text.strip() for text in said) / len(said):
        rows.warnings.append(f"{missing:.1%} of the reference texts have no text beside them")


def _answers(rows: Rows, score: Callable[..., dict[str, float] | None]) -> None:
    """BLEU and ROUGE-L of the protocols that score whole answers: minigpt5, mmdialog."""
    scored = [(score(said.elements, wanted.elements), wanted) for said, wanted in rows.pairs]
    found = [(row, wanted.dialogue) for row, wanted in scored if row is not None]
    for name in filter(rows.wants, found[0][0] if found else ()):
        rows.mean("text", name, [(row[name], dialogue) for row, dialogue in found])


def _sbert(rows: Rows) -> None:
    """A missing text counts 0, a turn without a reference text nothing."""
    encoder = rows.encoders.sentence_encoder
    if encoder is None:
        needs = f"name a folder with {SENTENCE_FILES} by --sentence-encoder"
        rows.absent("text", ["sbert"], f"needs {rows.protocol.sentences}: {needs}")
        return
    wanted = rows.protocol.sentences
    encoder = rows.encoder("sentences", encoder, load_sentence_encoder, wanted)

    def text(record: Record) -> str:
        first = rows.protocol.name == "minigpt5"
        return text_before_photo(record.elements) if first else record.text

    pairs = [(text(said), text(wanted), wanted.dialogue) for said, wanted in rows.pairs]
    pairs = [pair for pair in pairs if pair[1]]

    with rows.step("sentences"):
        found = rows.measured(pairs, lambda x, y: cosines(encoder(x), encoder(y)))
    rows.mean("text", "sbert", found, f"cosine; {name_of(encoder)}")
    rows.count_cut("sentence", encoder)


def _perplexity(rows: Rows) -> None:
    """From ``nll`` and ``tokens`` of the predictions."""
    known = {"nll", "tokens"}
    kept = [pair for pair in rows.pairs if known & pair[0].numbers.keys()]
    if not kept:
        needs = 'no prediction has "nll" and "tokens" of its reference'
        rows.absent("text", ["perplexity"], needs)
        return
    for said, _ in kept:
        if not known <= said.numbers.keys():
            raise DataError(f'{said.where}: "nll" without "tokens" or the reverse; wanted both.')
    rows.values[f"text.{rows.protocol.name}.perplexity"] = perplexity_value(
        [said.numbers["nll"] for said, _ in kept],
        [said.numbers["tokens"] for said, _ in kept],
        seed=rows.seed,
        groups=repeated([wanted.dialogue for _, wanted in kept]),
        protocol="standard",
        note=f"of {len(kept):,} texts",
    )


def put_decisions(rows: Rows, threshold: float) -> None:
    """Share moment, retrieval and decision, where the records hold them."""

    def held(said: str, wanted: str | None) -> tuple[list[Any], list[Any], Sequence[str] | None]:
        kept = [
            pair
            for pair in rows.pairs
            if said in pair[0].numbers and (wanted is None or wanted in pair[1].numbers)
        ]
        groups = repeated([pair[1].dialogue for pair in kept])
        theirs = [pair[1].numbers[wanted] for pair in kept] if wanted else []
        return [pair[0].numbers[said] for pair in kept], theirs, groups

    chances, shared, groups = held("p_share", "share")
    if chances:
        labels = [float(share) for share in shared]
        rows.values |= moment_values(
            labels, chances, threshold=threshold, seed=rows.seed, groups_N=groups
        )
    ranks, _, groups = held("rank", None)
    if ranks:
        rows.values |= retrieval_values(ranks, seed=rows.seed, groups=groups)
    decisions, wanted, _ = held("decision", "decision")
    if decisions:
        rows.values |= decision_values(wanted, decisions, seed=rows.seed)
