"""What answers score by protocols: the same code as ``showtell score`` has for any system's files.

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
from showtell.errors import DataError
from showtell.evaluation.answer import answer_dialogues, runs
from showtell.evaluation.answered import Answers, Fields
from showtell.metrics.answers import Record, read_records
from showtell.metrics.intervals import Value
from showtell.metrics.moment import moment_values
from showtell.metrics.photo_rows import put_photos, put_relevance
from showtell.metrics.protocols import Protocol, protocol_named
from showtell.metrics.rows import Encoders, Rows, put_texts
from showtell.metrics.text import perplexity_value
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


def measure_dialogues(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    protocols: Sequence[str] = (),
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
    chosen = [protocol_named(name) for name in protocols or PROTOCOLS]
    single = all(map(_is_task, dialogues))
    whole = [protocol for protocol in chosen if protocol.name in WHOLE and not single]
    said = sum(turn.speaker == AGENT for d in dialogues for turn in d.turns[1:])
    if not said or (len(whole) == len(chosen) and not any(runs(d.turns) for d in dialogues)):
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
    scored = _Scored(answers, encoders, seed=seed, told=told)
    scored.perplexity()
    for number, protocol in enumerate(chosen):
        if protocol in whole:
            scored.add(protocol, "answer")
        else:
            scored.add(protocol, "text")
            scored.add(protocol, "photo")
        if number == 0:
            scored.moments(model.decoding.share_threshold)
        scored.notes.append(f"protocol {protocol.name}: {protocol.source}")
    counts = {
        "dialogues": len({d.id for d in dialogues}),
        "replies": len(answers.of("text")),
        "own photos": len(answers.of("photo")),
        "answers": len(answers.of("answer")),
        **{name: n for name, n in answers.counts.items() if n},
    }
    notes = [*scored.notes, "the model's most likely words; contexts are gold"]
    if most is not None:
        notes.append(f"at most {most:,} texts, photos and answers, a fixed sample of them")
    return Measured(
        values=scored.values,
        counts=counts,
        notes=tuple(dict.fromkeys(notes)),
        encoders=scored.encoders,
    )


def _is_task(dialogue: Dialogue) -> bool:
    """Whether one turn is to be said, the last."""
    said = [turn.speaker == AGENT for turn in dialogue.turns]
    return sum(said) == 1 and said[-1]


class _Scored:
    """Values, notes and encoders, as one kind of answers after the other is scored."""

    def __init__(self, answers: Answers, encoders: Encoders, *, seed: int, told: Progress) -> None:
        self.answers, self.with_, self.seed, self.told = answers, encoders, seed, told
        self.values: dict[str, Value] = {}
        self.notes: list[str] = []
        self.encoders: dict[str, str] = {}

    def add(self, protocol: Protocol, kind: str) -> None:
        if not (pairs := self.answers.pairs(kind)):
            return
        rows = Rows(protocol, _matched(pairs), encoders=self.with_, seed=self.seed, told=self.told)
        if kind != "photo":
            put_texts(rows)
        if kind != "text":
            put_photos(rows)
        if kind == "answer":
            put_relevance(rows)
        self.values |= rows.values
        self.notes += rows.notes()
        self.encoders |= rows.used

    def perplexity(self) -> None:
        counted = [answer for answer in self.answers.of("moment") if "nll" in answer.said]
        counted = [answer for answer in counted if answer.place[1] > 0]
        if counted:
            self.values["text.perplexity"] = perplexity_value(
                [answer.said["nll"] for answer in counted],
                [answer.said["tokens"] for answer in counted],
                seed=self.seed,
                groups=[self.answers.dialogues[answer.place[0]].id for answer in counted],
                note="the agent's text turns, gold history",
            )

    def moments(self, threshold: float) -> None:
        asked = [answer for answer in self.answers.of("moment") if answer.place[1] > 0]
        if len({answer.wanted["share"] for answer in asked}) == 2:
            self.values |= moment_rows(
                [answer.wanted["share"] for answer in asked],
                [answer.said["p_share"] for answer in asked],
                threshold=threshold,
                seed=self.seed,
                groups_N=[self.answers.dialogues[answer.place[0]].id for answer in asked],
            )


def moment_rows(labels_N: Any, scores_N: Any, **settings: Any) -> dict[str, Value]:
    """``moment_values``; without a positive, or without positions, one row that says so."""
    if len(labels_N) and any(labels_N):
        return moment_values(labels_N, scores_N, **settings)
    return {
        f"{settings.get('prefix', 'moment')}.f1": Value(
            value=None,
            low=None,
            high=None,
            n=0,
            protocol=settings.get("protocol", ""),
            note=f"not measured: none of {len(labels_N):,} positions is a photo; measure more "
            "dialogues",
        )
    }


def _matched(pairs: Sequence[tuple[Fields, Fields]]) -> list[tuple[Record, Record]]:
    sides = [
        list(read_records([pair[side] for pair in pairs], name=name))
        for side, name in enumerate(("prediction", "reference"))
    ]
    return list(zip(*sides, strict=True))
