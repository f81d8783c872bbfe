"""A score as rows with names: what is measured, with what, and what is not.

A table says which function measures which rows: those of texts and decisions stand here, those of
photos in ``photo_rows.py``. A row is measured if the protocol names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from showtell.errors import DataError
from showtell.metrics.answers import Record
from showtell.metrics.encoders import CLIP_FILES, SENTENCE_FILES, load_clip, load_sentence_encoder
from showtell.metrics.intervals import Value, grouped, mean_value
from showtell.metrics.meteor import TOKENS, NoSynonyms, meteor, open_wordnet
from showtell.metrics.moment import moment_values
from showtell.metrics.protocols import Protocol
from showtell.metrics.relevance import cosines, minigpt5_text, mmdialog_text, text_before_photo
from showtell.metrics.report import digest, model_digest
from showtell.metrics.retrieval import decision_values, retrieval_values
from showtell.metrics.text import CORPUS, distinct_n, perplexity_value, text_values
from showtell.progress import Progress, quiet

if TYPE_CHECKING:
    from showtell.metrics.photo_rows import SetFeatures

T = TypeVar("T")
R = TypeVar("R")
Pairs = Sequence[tuple[Record, Record]]
Found = list[tuple[float | None, str]]  # a number, None where nothing was said, and its dialogue
LOWER = ("lpips", "fid", "kid", "perplexity")  # the rest: the higher the better
PLAIN = (*LOWER, "inception_score")  # numbers that are no fractions
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
        seed: int,
        told: Progress = quiet,
    ) -> None:
        self.protocol = protocol
        self.pairs = pairs
        self.encoders = encoders
        self.seed = seed
        self.told = told
        self.values: dict[str, Value] = {}
        self.used: dict[str, str] = {}
        self.warnings: list[str] = []
        self._loaded: dict[str, Any] = {}

    def wants(self, *names: str) -> bool:
        """Whether the protocol has one of these rows."""
        return not {*self.protocol.text, *self.protocol.photo}.isdisjoint(names)

    def measure(self, table: Mapping[tuple[str, ...], Callable[[Rows], None]]) -> None:
        """The rows of a table: each function is called if one of its rows is wanted."""
        for names, function in table.items():
            if self.wants(*names):
                function(self)

    def put(self, kind: str, name: str, value: Value) -> None:
        if self.wants(name) or kind == "relevance":
            self.values[f"{kind}.{self.protocol.name}.{name}"] = value

    def row(
        self, kind: str, name: str, value: float | None, *, n: int, note: str, **bounds: Any
    ) -> None:
        """A row that says which way it is better, and in which unit it is."""
        found = Value(
            value=value,
            n=n,
            higher_is_better=name not in LOWER,
            protocol=self.protocol.name,
            note=note,
            unit="" if name in PLAIN else "fraction",
            **bounds,
        )
        self.put(kind, name, found)

    def absent(self, kind: str, names: Iterable[str], needs: str) -> None:
        """Rows without a value, that say what they need."""
        for name in names:
            self.row(kind, name, None, n=0, note=f"not measured: {needs}")

    def in_parts(
        self, what: str, items: Sequence[T], measure: Callable[[Sequence[T]], Sequence[R]]
    ) -> list[R]:
        """``measure`` of all items, some at once."""
        found: list[R] = []
        for start in range(0, len(items), CHUNK):
            found += measure(items[start : start + CHUNK])
            self.told(what, len(found), len(items))
        return found

    def compared(
        self, what: str, pairs: Sequence[tuple], measure: Callable[[list, list], Any]
    ) -> Found:
        """(number, dialogue) of each pair (said, wanted, dialogue, ...)."""

        def of_part(part: Sequence[tuple]) -> list[float]:
            return measure([pair[0] for pair in part], [pair[1] for pair in part]).tolist()

        found = iter(self.in_parts(what, [pair for pair in pairs if pair[0]], of_part))
        return [(next(found) if pair[0] else None, pair[2]) for pair in pairs]

    def mean(self, kind: str, name: str, found: Found, note: str = "") -> None:
        """A row of the mean over answers or photos, a missing number being 0; dialogues are
        resampled where they have several. Texts of minigpt5: the mean over dialogues of their own
        means. No row of nothing.
        """
        if not found:
            return
        values, dialogues = np.array([x or 0.0 for x, _ in found]), [d for _, d in found]
        groups = repeated(dialogues)
        if self.protocol.name == "minigpt5" and kind == "text":
            values = grouped(values, dialogues) / grouped(np.ones(len(found)), dialogues)
            groups = range(len(values))
            note = "; ".join(part for part in (note, f"dialogues, of {len(found):,} turns") if part)
        mean = mean_value(values, seed=self.seed, groups=groups)
        self.row(kind, name, mean.value, n=mean.n, note=note, low=mean.low, high=mean.high)

    def encoder(self, role: str, kind: str, *names: str) -> Any:
        """One of ``Encoders``, read where it is named by its folder, and noted as used; without
        one None, and these rows are absent."""
        if role in self._loaded:
            return self._loaded[role]
        encoder, wanted = getattr(self.encoders, role), getattr(self.protocol, role)
        option, files = f"--{role.replace('_', '-')}", CLIP_FILES
        load: Callable[..., Any] = load_clip
        if role == "sentence_encoder":
            load, files = load_sentence_encoder, SENTENCE_FILES
        elif role == "relevance_clip" and self.protocol.clip == wanted:
            encoder, option = encoder or self.encoders.clip, "--clip"
        if encoder is None:
            needs = f"needs {wanted}: name a folder with {files} by {option}"
            return self.absent(kind, names, needs)
        if isinstance(encoder, str | Path):
            encoder = load(encoder, wanted=wanted)
        digests = _digest_of(getattr(encoder, "path", ""))
        self.used[role] = f"{name_of(encoder)}{digests} (the protocol names {wanted})"
        self._loaded[role] = encoder
        return encoder

    def notes(self) -> list[str]:
        found = list(dict.fromkeys(self.warnings))
        if len(self.pairs) < FEW:
            found.insert(0, f"{len(self.pairs):,} pairs are few (wanted {FEW} or more)")
        found = [f"warning: {note}" for note in found]
        roles = {id(encoder): role for role, encoder in reversed(self._loaded.items())}
        for role in reversed(roles.values()):  # one encoder may have two roles
            if cut := getattr(self._loaded[role], "truncated", 0):
                found.append(f"{cut:,} texts were longer than the encoder of {role} reads: cut")
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


# ------------------------------------------------------------------------------------------ texts


def put_texts(rows: Rows) -> None:
    if not (kept := _texts(rows)):
        return
    rows.measure(TEXTS)
    if missing := sum(not said.strip() for said, _, _ in kept) / len(kept):
        rows.warnings.append(f"{missing:.1%} of the reference texts have no text beside them")


def _texts(rows: Rows) -> list[tuple[str, list[str], str]]:
    """(what was said, references, dialogue) where there is a reference text."""
    return [
        (said.text, [wanted.text, *wanted.alternatives], wanted.dialogue)
        for said, wanted in rows.pairs
        if wanted.texts
    ]


def _bleu_and_rouge(rows: Rows) -> None:
    name = rows.protocol.name
    if name not in CORPUS:
        return _of_answers(rows, minigpt5_text if name == "minigpt5" else mmdialog_text)
    said, wanted, dialogues = zip(*_texts(rows), strict=True)
    groups = repeated(dialogues)
    found = text_values(said, wanted, protocol=name, seed=rows.seed, groups=groups)
    for row, value in found.items():
        rows.put("text", row.rpartition(".")[2], value)
    rouge = rows.values.get("text.standard.rouge_l")
    if rouge and rouge.note:
        rows.warnings.append(f"text.standard.rouge_l: {rouge.note}")


def _of_answers(rows: Rows, score: Callable[..., dict[str, float] | None]) -> None:
    """BLEU and ROUGE-L of the protocols that score whole answers: minigpt5, mmdialog."""
    scored = [(score(said.elements, wanted.elements), wanted) for said, wanted in rows.pairs]
    found = [(row, wanted.dialogue) for row, wanted in scored if row is not None]
    for name in found[0][0] if found else ():
        rows.mean("text", name, [(row[name], dialogue) for row, dialogue in found])


def _meteor(rows: Rows) -> None:
    try:
        wordnet = open_wordnet(rows.encoders.wordnet)
    except DataError as error:
        if rows.encoders.wordnet is not None:
            raise
        return rows.absent("text", ["meteor"], str(error))
    rows.used["wordnet"] = str(rows.encoders.wordnet or "nltk's own")
    _mean_meteor(rows, "meteor", wordnet, f"nltk; {TOKENS}")


def _meteor_exact_stem(rows: Rows) -> None:
    _mean_meteor(rows, "meteor_exact_stem", NoSynonyms(), f"no synonyms: not METEOR; {TOKENS}")


def _mean_meteor(rows: Rows, name: str, wordnet: Any, note: str) -> None:
    said, wanted, dialogues = zip(*_texts(rows), strict=True)
    scores = zip(meteor(said, wanted, wordnet=wordnet), dialogues, strict=True)
    rows.mean("text", name, list(scores), note)


def _sbert(rows: Rows) -> None:
    """A missing text counts 0, a turn without a reference text nothing."""
    if (encoder := rows.encoder("sentence_encoder", "text", "sbert")) is None:
        return

    def text(record: Record) -> str:
        first = rows.protocol.name == "minigpt5"
        return text_before_photo(record.elements) if first else record.text

    pairs = [(text(said), text(wanted), wanted.dialogue) for said, wanted in rows.pairs]
    pairs = [pair for pair in pairs if pair[1]]
    found = rows.compared("sentences", pairs, lambda x, y: cosines(encoder(x), encoder(y)))
    rows.mean("text", "sbert", found, f"cosine; {name_of(encoder)}")


def _perplexity(rows: Rows) -> None:
    """From ``nll`` and ``tokens`` of the predictions."""
    kept = [pair for pair in rows.pairs if {"nll", "tokens"} <= pair[0].numbers.keys()]
    if not kept:
        needs = 'no prediction has "nll" and "tokens" of its reference'
        return rows.absent("text", ["perplexity"], needs)
    value = perplexity_value(
        [said.numbers["nll"] for said, _ in kept],
        [said.numbers["tokens"] for said, _ in kept],
        seed=rows.seed,
        groups=repeated([wanted.dialogue for _, wanted in kept]),
        protocol=rows.protocol.name,
        note=f"of {len(kept):,} texts",
    )
    rows.put("text", "perplexity", value)


def _distinct(rows: Rows) -> None:
    """Without intervals: every resampled corpus has fewer different n-grams."""
    spoken = [said.text for said, _ in rows.pairs if said.texts]
    for order in (1, 2, 3) if spoken else ():
        name, note = f"distinct{order}", "whitespace tokens; falls with n"
        rows.row("text", name, distinct_n(spoken, order), n=len(spoken), note=note)


TEXTS: Mapping[tuple[str, ...], Callable[[Rows], None]] = {
    ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l"): _bleu_and_rouge,
    ("meteor",): _meteor,
    ("meteor_exact_stem",): _meteor_exact_stem,
    ("sbert",): _sbert,
    ("perplexity",): _perplexity,
    ("distinct1", "distinct2", "distinct3"): _distinct,
}

# -------------------------------------------------------------------------------------- decisions


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
