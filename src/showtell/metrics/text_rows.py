"""The rows of texts of a score, and those of decisions: when to share, which photo, how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from showtell.errors import DataError
from showtell.metrics.answers import Record
from showtell.metrics.encoders import SENTENCE_FILES, load_sentence_encoder
from showtell.metrics.intervals import Value
from showtell.metrics.meteor import TOKENS, meteor, meteor_exact_stem, open_wordnet
from showtell.metrics.moment import moment_values
from showtell.metrics.relevance import cosines, minigpt5_text, mmdialog_text, text_before_photo
from showtell.metrics.retrieval import decision_values, retrieval_values
from showtell.metrics.rows import Rows, name_of, repeated
from showtell.metrics.text import CORPUS, distinct_n, perplexity_value, text_values


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
    if isinstance(encoder, str | Path):
        encoder = load_sentence_encoder(encoder)
    rows.use("sentences", encoder, rows.protocol.sentences)

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
