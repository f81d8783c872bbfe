"""What answers score: the rows of replies and of the share moment that all reports have, and
protocols, by the same code as ``showtell score`` has for any system's files.

Text turns are scored by protocols of texts, photos by those of photos, and whole answers by the
protocols that are about whole answers (minigpt5, mmdialog); where a form leaves one turn to say
(``forms.py``), that is the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from showtell.dialogue import AGENT, Dialogue
from showtell.errors import DataError, MissingDependency
from showtell.evaluation.answer import answer_dialogues, starts
from showtell.evaluation.answered import Answers
from showtell.metrics.intervals import Value
from showtell.metrics.moment import moment_values
from showtell.metrics.photo_rows import put_photos, put_relevance
from showtell.metrics.protocols import protocol_named
from showtell.metrics.rows import Encoders, Rows, put_texts
from showtell.metrics.text import distinct_n, perplexity_value, text_values
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.progress import Progress, quiet

WHOLE = ("minigpt5", "mmdialog")  # protocols of whole answers
PROTOCOLS = ("psdg", "standard")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A part of a report: values, what was counted, notes, and the encoders that were used."""

    values: dict[str, Value]
    counts: dict[str, int]
    notes: tuple[str, ...] = ()
    encoders: dict[str, str] = field(default_factory=dict)


# ------------------------------------------------------------------------- what all reports have


def not_run(name: str, reason: object, *, protocol: str) -> dict[str, Value]:
    """A row without a value: what is missing, and what to do about it."""
    return {name: Value(value=None, n=0, protocol=protocol, note=f"not run: {reason}")}


def moment_rows(labels_N: Any, scores_N: Any, **settings: Any) -> dict[str, Value]:
    """``moment_values``; without a positive, or without positions, one row that says so."""
    if len(labels_N) and any(labels_N):
        return moment_values(labels_N, scores_N, **settings)
    note = f"not measured: none of {len(labels_N):,} positions is a photo; measure more dialogues"
    name, protocol = f"{settings.get('prefix', 'moment')}.f1", settings.get("protocol", "")
    return {name: Value(value=None, n=0, protocol=protocol, note=note)}


def reply_values(answers: Answers, *, seed: int, distinct: int, protocol: str) -> dict[str, Value]:
    """``text.psdg.*`` and ``text.standard.*`` of the replies, and their distinct-n."""
    said = answers.texts("text")
    gold = [answer.gold for answer in answers.of("text")]
    values: dict[str, Value] = {}
    for name in PROTOCOLS:
        try:
            values |= text_values(said, gold, protocol=name, seed=seed)
        except MissingDependency as error:
            values |= not_run(f"text.{name}.bleu1", error, protocol=name)
    values[f"text.distinct{distinct}"] = Value(
        value=distinct_n(said, distinct), n=len(said), protocol=protocol
    )
    return values


# ------------------------------------------------------------------------------------- protocols


def measure_dialogues(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    protocols: Sequence[str] = PROTOCOLS,
    encoders: Encoders = Encoders(),  # noqa: B008 (frozen)
    seed: int,
    most: int | None,
    folder: Path,
    told: Progress = quiet,
) -> Measured:
    """The model's answers, written to ``folder``, and their scores; each dialogue has its photos
    in turns of their own.

    Raises DataError where there is nothing that the agent says after the first turn.
    """
    chosen = [protocol_named(name) for name in protocols]
    tasks = all(map(_is_task, dialogues))
    whole = [protocol for protocol in chosen if protocol.name in WHOLE and not tasks]
    said = any(turn.speaker == AGENT for d in dialogues for turn in d.turns[1:])
    if not said or (len(whole) == len(chosen) and not any(starts(d.turns) for d in dialogues)):
        raise DataError(
            f"in {len(dialogues):,} dialogues the agent has nothing to answer; wanted turns of the "
            "agent after others'. Choose another --form or --protocol."
        )
    answers = answer_dialogues(
        model,
        dialogues,
        folder=folder,
        seed=seed,
        turns=len(whole) < len(chosen),
        whole=bool(whole),
        most=most,
        told=told,
    )
    answers.write()
    values = _turn_values(answers, model.decoding.share_threshold, seed=seed)
    notes: list[str] = []
    used: dict[str, str] = {}
    records = answers.records()
    for protocol in chosen:
        kinds = ("answer",) if protocol in whole else ("text", "photo")
        pairs = [pair for kind in kinds for pair in records[kind]]
        rows = Rows(protocol, pairs, encoders=encoders, seed=seed, told=told)
        try:
            put_texts(rows)
        except MissingDependency as error:
            name = f"text.{protocol.name}.bleu1"
            rows.values |= not_run(name, error, protocol=protocol.name)
        put_photos(rows)
        if protocol in whole:
            put_relevance(rows)
        values |= rows.values
        used |= rows.used
        notes += [*rows.notes(), f"protocol {protocol.name}: {protocol.source}"]
    notes.append("the model's most likely words; contexts are gold")
    if most is not None:
        notes.append(f"at most {most:,} texts, photos and answers, a fixed sample of them")
    counts = {
        "dialogues": len({d.id for d in dialogues}),
        "replies": len(answers.of("text")),
        "own photos": len(answers.of("photo")),
        "answers": len(answers.of("answer")),
        **{name: n for name, n in answers.counts.items() if n},
    }
    return Measured(values=values, counts=counts, notes=tuple(dict.fromkeys(notes)), encoders=used)


def _is_task(dialogue: Dialogue) -> bool:
    """Whether one turn is to be said, the last."""
    said = [turn.speaker == AGENT for turn in dialogue.turns]
    return sum(said) == 1 and said[-1]


def _turn_values(answers: Answers, threshold: float, *, seed: int) -> dict[str, Value]:
    """Perplexity of the agent's text turns, and the share moment, after a dialogue's first turn."""
    asked = [answer for answer in answers.of("moment") if answer.place[1] > 0]
    counted = [answer for answer in asked if "nll" in answer.said]
    values: dict[str, Value] = {}
    if counted:
        values["text.perplexity"] = perplexity_value(
            [answer.said["nll"] for answer in counted],
            [answer.said["tokens"] for answer in counted],
            seed=seed,
            groups=[answers.dialogues[answer.place[0]].id for answer in counted],
            note="the agent's text turns, gold history",
        )
    if len({answer.wanted["share"] for answer in asked}) == 2:
        values |= moment_rows(
            [answer.wanted["share"] for answer in asked],
            [answer.said["p_share"] for answer in asked],
            threshold=threshold,
            seed=seed,
            groups_N=[answers.dialogues[answer.place[0]].id for answer in asked],
        )
    return values
