"""How a model does on any data: what it says and paints at gold contexts, scored by protocols.

The model reads each dialogue and answers it; the answers are predictions as ``showtell score``
takes them, and are scored by the same code (``metrics/score_rows.py``). With ``out`` they stay on
disk: predictions.jsonl, references.jsonl and the photos.

At every turn of the agent after the first, the context being gold:

    P(share), and -log p of the gold words, from one pass over the dialogue
    a text turn: the model's own words, the most likely one each time
    a photo turn: the model's own photo, after its own description or tokens

Protocols that score whole answers (minigpt5, mmdialog) get ``respond``'s answer to what the user
said last, beside the agent's gold turns up to the user's next. Where a form leaves one turn to say
(``recipes/forms.py``), that is the answer.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from showtell.batch import collate
from showtell.data.images import save_photo, square
from showtell.data.pixels import has_pixels, photo_image
from showtell.data.storage import write_atomically
from showtell.dialogue import AGENT, Dialogue, Photo, Turn
from showtell.errors import DataError
from showtell.metrics.perplexity import perplexity_value
from showtell.metrics.protocols import protocol_named
from showtell.metrics.records import Matched, Record, read_records
from showtell.metrics.report import Value
from showtell.metrics.score_rows import Rows, Told
from showtell.models.dialogue_model import PhotoDialogueModel, to_image
from showtell.prompt import IGNORED
from showtell.training.examples import photo_sides, square_pixels

REPLIES = 1000
WHOLE = ("minigpt5", "mmdialog")  # protocols of whole answers
PROTOCOLS = ("psdg", "standard")


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """What the rows of photos and of meaning need: folders or files, as of ``showtell score``."""

    clip: str | None = None
    relevance_clip: str | None = None
    sentence_encoder: str | None = None
    inception: Path | None = None
    features: str | None = None
    lpips: Path | None = None
    wordnet: Path | None = None


# ------------------------------------------------------------------------- one pass over dialogues


@dataclass(frozen=True, kw_only=True)
class Read:
    """What a model makes of gold dialogues; keys are (dialogue, turn)."""

    p_share: Mapping[tuple[int, int], float]
    shared: Mapping[tuple[int, int], bool]
    nll: Mapping[tuple[int, int], tuple[float, int]]  # of a text turn: sum of -log p, tokens
    total_nll: float
    total_tokens: int
    dropped_turns: int

    @property
    def perplexity(self) -> float:
        """Of all trained tokens."""
        return math.exp(self.total_nll / max(1, self.total_tokens))

    def moments(self) -> tuple[list[bool], list[float]]:
        """(was it a photo, P(share)) of every turn of the agent after the first."""
        return list(self.shared.values()), list(self.p_share.values())


@torch.no_grad()
def read_dialogues(
    model: PhotoDialogueModel, dialogues: Sequence[Dialogue], *, batch_size: int = 8
) -> Read:
    """One pass over each dialogue, whole."""
    p_share: dict[tuple[int, int], float] = {}
    shared: dict[tuple[int, int], bool] = {}
    nll: dict[tuple[int, int], tuple[float, int]] = {}
    total, tokens, dropped = 0.0, 0, 0
    for start in range(0, len(dialogues), batch_size):
        part = dialogues[start : start + batch_size]
        rows = [model.renderer.render_turns(_described(model, d.turns)) for d in part]
        batch = collate(
            rows,
            pad_id=model.language.tokenizer.pad_token_id,
            pixels_of=_seen_pixels(model) if model.perceptron is not None else None,
            paint=False,
        )
        states = model.states(batch)
        chances = iter(model.share_logits(states, batch).sigmoid().tolist())
        at_row, at = (batch.labels_BT[:, 1:] != IGNORED).nonzero(as_tuple=True)
        logits_MV = model.language.head(states.hidden_BTD[at_row, at]).float()
        gold_M = batch.labels_BT[at_row, at + 1]
        nll_M = torch.nn.functional.cross_entropy(logits_MV, gold_M, reduction="none")
        nll_BT = torch.zeros(batch.labels_BT.shape).index_put((at_row, at + 1), nll_M)
        total += float(nll_M.sum())
        tokens += len(nll_M)
        for b, row in enumerate(rows):
            dropped += row.dropped_turns
            for place in row.moments:
                key, chance = (start + b, place.turn), next(chances)
                if place.turn == 0:  # nothing was said before
                    continue
                p_share[key], shared[key] = chance, place.shared
                if not place.shared:
                    stop = row.ids.index(model.renderer.end, place.index) + 1
                    words_T = nll_BT[b, place.index + 1 : stop]
                    nll[key] = (float(words_T.sum()), len(words_T))
    return Read(
        p_share=p_share,
        shared=shared,
        nll=nll,
        total_nll=total,
        total_tokens=tokens,
        dropped_turns=dropped,
    )


def _seen_pixels(model: PhotoDialogueModel) -> Any:
    side = photo_sides(model)[0]

    def pixels(photo: Photo) -> Tensor:
        return square_pixels(photo, side)

    return pixels


def _images(model: PhotoDialogueModel, turns: Sequence[Turn]) -> dict[str, Image.Image]:
    """The photos of a context that can be seen, at the size that the model sees."""
    if model.perceptron is None and model.captioner is None:
        return {}
    side = photo_sides(model)[0]
    photos = (photo for turn in turns for photo in turn.photos if has_pixels(photo))
    return {photo.id: square(photo_image(photo), side) for photo in photos}


def _described(model: PhotoDialogueModel, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """For a model that reads captions: photos as its captioner describes them, where it can."""
    if model.captioner is None:
        return turns
    images = _images(model, turns)
    return tuple(
        model.describe((turn,), images)[0] if all(p.id in images for p in turn.photos) else turn
        for turn in turns
    )


# ------------------------------------------------------------------------------------ the answers


@dataclass(kw_only=True)
class Answers:
    """Predictions beside references, as records of ``showtell score``; ``folder`` holds photos.

    Turns of ``texts`` and of ``photos`` (a reference's text is then its photo's caption), ``whole``
    answers, the P(share) of all ``moments`` and the ``nll`` of all text turns with their tokens.
    """

    folder: Path
    texts: list[tuple[dict, dict]] = field(default_factory=list)
    photos: list[tuple[dict, dict]] = field(default_factory=list)
    whole: list[tuple[dict, dict]] = field(default_factory=list)
    moments: list[tuple[dict, dict]] = field(default_factory=list)
    nll: list[tuple[str, tuple[float, int]]] = field(default_factory=list)  # by dialogue
    counts: Counter[str] = field(default_factory=Counter)

    def write(self) -> None:
        """predictions.jsonl and references.jsonl in ``folder``; photos are named inside it."""
        pairs = [*self.texts, *self.photos, *self.whole]
        for name, side in (("predictions", 0), ("references", 1)):
            lines = [json.dumps(_relative(pair[side], self.folder)) for pair in pairs]
            write_atomically(self.folder / f"{name}.jsonl", ("\n".join(lines) + "\n").encode())


def _relative(record: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    def name(path: str) -> str:
        inside = Path(path).is_relative_to(folder)
        return str(Path(path).relative_to(folder)) if inside else path

    elements = [
        {"photo": name(element["photo"])} if isinstance(element, dict) else element
        for element in record["elements"]
    ]
    return {**record, "elements": elements}


@torch.no_grad()
def answer_dialogues(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    folder: Path,
    seed: int,
    turns: bool,
    whole: bool,
    most: int | None,
    told: Told,
) -> Answers:
    """Everything that the protocols score; texts and photos are the first ``most`` of each kind in
    an order that is the same for every model (None: all)."""
    answers = Answers(folder=folder)
    model.decoding = replace(model.decoding, temperature=0.0)
    if turns:
        _answer_turns(model, dialogues, answers, seed=seed, most=most, told=told)
    if whole:
        _answer_whole(model, dialogues, answers, seed=seed, most=most, told=told)
    return answers


def _answer_turns(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    answers: Answers,
    *,
    seed: int,
    most: int | None,
    told: Told,
) -> None:
    read = read_dialogues(model, dialogues)
    answers.counts["turns dropped, the oldest of dialogues too long"] = read.dropped_turns
    for (b, k), chance in read.p_share.items():
        chances = {"elements": [], "p_share": chance}
        gold = {"elements": [], "share": read.shared[b, k]}
        answers.moments.append(_pair(dialogues[b], k, chances, gold))
    answers.nll = [(dialogues[b].id, nll) for (b, _), nll in read.nll.items()]
    cases = [(b, k) for b, k in read.p_share if dialogues[b].turns[k].text.strip()]
    for number, (b, k) in enumerate(_sampled(cases, most)):
        context, turn = dialogues[b].turns[:k], dialogues[b].turns[k]
        text = _text(model, context, seed=seed + number)
        nll, tokens = read.nll.get((b, k), (None, None))
        said: dict[str, Any] = {"elements": [text]} | (
            {"nll": nll, "tokens": tokens} if tokens else {}
        )
        answers.texts.append(_pair(dialogues[b], k, said, {"elements": [turn.text]}))
        told("replies", number + 1, min(len(cases), most or len(cases)))
    if model.painter is None:
        return
    found = [(b, k) for b, k in read.p_share if dialogues[b].turns[k].photos]
    cases = [(b, k) for b, k in found if has_pixels(dialogues[b].turns[k].photos[0])]
    answers.counts["photos to compare with that are missing"] = len(found) - len(cases)
    for number, (b, k) in enumerate(_sampled(cases, most)):
        photo = dialogues[b].turns[k].photos[0]
        painted = _own_photo(model, dialogues[b].turns[:k], seed=seed + number)
        path = save_photo(painted, answers.folder / "photos" / f"{number:06}.png")
        true = _gold_path(photo, answers.folder / "references" / f"{number:06}.png")
        elements: list[Any] = [photo.caption] if photo.caption.strip() else []
        elements.append({"photo": true})
        answers.photos.append(
            _pair(dialogues[b], k, {"elements": [{"photo": str(path)}]}, {"elements": elements})
        )
        told("own photos", number + 1, min(len(cases), most or len(cases)))


def _answer_whole(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    answers: Answers,
    *,
    seed: int,
    most: int | None,
    told: Told,
) -> None:
    cases = [
        (b, start, stop)
        for b, dialogue in enumerate(dialogues)
        for start, stop in _runs(dialogue.turns)
    ]
    for number, (b, start, stop) in enumerate(_sampled(cases, most)):
        turns = dialogues[b].turns
        name = f"{number:06}"
        wanted: list[Any] = []
        for element in (element for turn in turns[start:stop] for element in turn.elements):
            if isinstance(element, str):
                wanted.append(element)
            elif has_pixels(element):
                place = answers.folder / "references" / f"answer-{name}-{len(wanted)}.png"
                wanted.append({"photo": _gold_path(element, place)})
            else:
                answers.counts["photos to compare with that are missing"] += 1
        context = _described(model, turns[:start])
        reply = model.respond(context, images=_images(model, turns[:start]), seed=seed + number)
        answers.counts["turns dropped, the oldest of dialogues too long"] += reply.dropped_turns
        said: list[Any] = []
        for element in (element for turn in reply.turns for element in turn.elements):
            if isinstance(element, str):
                said.append(element)
            elif element.id in reply.images:
                place = answers.folder / "photos" / f"answer-{name}-{len(said)}.png"
                said.append({"photo": str(save_photo(reply.images[element.id], place))})
        answers.whole.append(
            _pair(dialogues[b], start, {"elements": said}, {"elements": wanted}, kind="answer")
        )
        told("answers", number + 1, min(len(cases), most or len(cases)))


def _runs(turns: Sequence[Turn]) -> list[tuple[int, int]]:
    """[start, stop) of the agent's neighbouring turns, after the first of a dialogue."""
    runs, start = [], 0
    for speaker, group in itertools.groupby(turns, key=lambda turn: turn.speaker):
        stop = start + sum(1 for _ in group)
        if speaker == AGENT and start > 0:
            runs.append((start, stop))
        start = stop
    return runs


def _sampled(cases: list, most: int | None) -> list:
    return cases if most is None or most >= len(cases) else random.Random(0).sample(cases, most)


def _pair(
    dialogue: Dialogue, turn: int, said: dict, wanted: dict, *, kind: str = ""
) -> tuple[dict, dict]:
    head = {"id": f"{dialogue.id}-{kind or turn}{turn if kind else ''}", "dialogue": dialogue.id}
    return head | said, head | wanted


def _text(model: PhotoDialogueModel, context: tuple[Turn, ...], *, seed: int) -> str:
    writing, _ = model.read(_described(model, context), _images(model, context))
    model.open_turn(writing)
    return model.write_text(writing, generator=torch.Generator().manual_seed(seed))


def _own_photo(model: PhotoDialogueModel, context: tuple[Turn, ...], *, seed: int) -> Image.Image:
    writing, _ = model.read(_described(model, context), _images(model, context))
    model.open_turn(writing)
    if model.renderer.span_ids:
        spans = model.write_span(writing)
    else:
        spans = model.spoken_spans([model.write_caption(writing)])
    return to_image(model.paint_spans(spans, seeds=[seed])[0])


def _gold_path(photo: Photo, place: Path) -> str:
    """The photo's own file; of one that has none (drawn, or packed) a copy at ``place``."""
    if photo.path is not None and Path(photo.path).is_file():
        return str(Path(photo.path).resolve())
    return str(save_photo(photo_image(photo), place))


# ------------------------------------------------------------------------------------ the whole


def evaluate_dialogues(
    model: PhotoDialogueModel,
    dialogues: Iterable[Dialogue],
    *,
    protocols: Sequence[str] = PROTOCOLS,
    encoders: Encoders = Encoders(),  # noqa: B008 (frozen)
    seed: int,
    most: int | None,
    out: Path | None,
    told: Told,
) -> tuple[dict[str, Value], dict[str, int], tuple[str, ...], dict[str, str]]:
    """(measures, counts, notes, encoders); each dialogue has its photos in turns of their own.

    Raises DataError where there is nothing that the agent says after the first turn.
    """
    dialogues = list(dialogues)
    chosen = [protocol_named(name) for name in protocols]
    single = all(map(_is_task, dialogues))
    whole = [protocol for protocol in chosen if protocol.name in WHOLE and not single]
    said = sum(turn.speaker == AGENT for d in dialogues for turn in d.turns[1:])
    if not said or (len(whole) == len(chosen) and not any(_runs(d.turns) for d in dialogues)):
        raise DataError(
            f"in {len(dialogues):,} dialogues the agent has nothing to answer; wanted turns of the "
            "agent after others'. Choose another --form or --protocol."
        )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if out is None else out.resolve()
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
        if out is not None:
            answers.write()
        values: dict[str, Value] = {}
        notes: list[str] = []
        used: dict[str, str] = {}
        if answers.nll:
            values["text.perplexity"] = perplexity_value(
                *zip(*(nll for _, nll in answers.nll), strict=True),
                seed=seed,
                groups=[name for name, _ in answers.nll],
                note="the agent's text turns, gold history",
            )
        for number, protocol in enumerate(chosen):
            kinds = {"texts": answers.texts, "photos": answers.photos}
            for kind, pairs in ({"whole": answers.whole} if protocol in whole else kinds).items():
                if not pairs:
                    continue
                rows = Rows(protocol, _matched(pairs), only=(), seed=seed, told=told)
                if kind != "photos":
                    rows.texts(encoders.sentence_encoder, encoders.wordnet)
                if kind != "texts":
                    rows.photos(
                        clip=encoders.clip,
                        inception=encoders.inception,
                        features=encoders.features,
                        num_features=None,
                        lpips=encoders.lpips,
                    )
                if kind == "whole" and protocol.relevance:
                    same = protocol.clip == protocol.relevance_clip
                    rows.relevance(encoders.relevance_clip or (encoders.clip if same else None))
                values |= rows.values
                notes += rows.notes()
                used |= rows.encoders
            if number == 0 and len({wanted["share"] for _, wanted in answers.moments}) == 2:
                rows = Rows(protocol, _matched(answers.moments), only=(), seed=seed, told=told)
                rows.others(model.decoding.share_threshold)
                values |= rows.values
            notes.append(f"protocol {protocol.name}: {protocol.source}")
    counts = {
        "dialogues": len({d.id for d in dialogues}),
        "replies": len(answers.texts),
        "own photos": len(answers.photos),
        "answers": len(answers.whole),
        **{name: n for name, n in answers.counts.items() if n},
    }
    notes.append("the model's most likely words; contexts are gold")
    if most is not None:
        notes.append(f"at most {most:,} texts, photos and answers, a fixed sample of them")
    return values, counts, tuple(dict.fromkeys(notes)), used


def _is_task(dialogue: Dialogue) -> bool:
    """Whether one turn is to be said, the last."""
    said = [turn.speaker == AGENT for turn in dialogue.turns]
    return sum(said) == 1 and said[-1]


def _matched(pairs: Sequence[tuple[dict, dict]]) -> Matched:
    sides: list[list[Record]] = [
        list(read_records([pair[side] for pair in pairs], name=name))
        for side, name in enumerate(("prediction", "reference"))
    ]
    return Matched(pairs=tuple(zip(*sides, strict=True)), skipped={}, unused={})
