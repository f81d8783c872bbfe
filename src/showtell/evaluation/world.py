"""How good a model is in the photo world, where everything is known.

Every measure is named in ``docs/metrics.md``. The oracle reads photos; it never trains, ranks or
filters them.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from photoworld.facts import named_attributes
from photoworld.oracle import NUM_FEATURES, AttributeReader
from photoworld.scenes import DEV_SEEDS
from photoworld.talk import world_dialogue
from showtell.batch import to_image
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.evaluation.world_photos import (
    Told,
    attribute_values,
    ceilings,
    gold_photos,
    images_of,
    paint_orders,
    photo_orders,
    quiet,
    rows_at_once,
    spoken_photos,
)
from showtell.metrics.intervals import Value, mean_value
from showtell.metrics.moment import best_threshold, keyword_score, moment_values
from showtell.metrics.photos import frechet_distance
from showtell.metrics.text import distinct_n, text_values
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import described, read_gold
from showtell.prompt import Renderer

# ---------------------------------------------------------------------------------- the moment


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Every start of an agent's turn: was it a photo, P([IMG]), and the true chance p*.

    ``token_nll`` is the mean over all trained tokens; ``word_nll_B`` and ``words_B`` are sums over
    the words of the agent's text turns alone, which every system has, for each dialogue.
    """

    shared_M: np.ndarray
    p_share_M: np.ndarray
    p_star_M: np.ndarray
    dialogue_M: np.ndarray
    unseen_M: np.ndarray  # bool: the turn before it was said in words never trained
    token_nll: float
    num_tokens: int
    word_nll_B: np.ndarray
    words_B: np.ndarray


@torch.no_grad()
def share_moments(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    read: Sequence[Dialogue] | None = None,
    batch_size: int | None = None,
) -> Moments:
    """P([IMG]) at every start of an agent's turn, gold context, one pass over each dialogue.

    ``read``: the dialogues as ``described`` has them for this model; None: they are described here.
    """
    if read is None:
        read = described(model, dialogues)
    gold = read_gold(model, read, batch_size=batch_size or rows_at_once(model, on_cpu=32))
    places = list(zip(gold.dialogue_M.tolist(), gold.turn_M.tolist(), strict=True))
    turns = [dialogues[b].turns[k] for b, k in places]
    before = [dialogues[b].turns[k - 1].labels if k else {} for b, k in places]
    word_nll_B, words_B = gold.word_nll()
    return Moments(
        shared_M=gold.shared_M,
        p_share_M=gold.p_share_M,
        p_star_M=np.array([turn.labels.get("p_share", np.nan) for turn in turns]),
        dialogue_M=gold.dialogue_M,
        unseen_M=np.array([bool(labels.get("unseen", False)) for labels in before], dtype=bool),
        token_nll=gold.total_nll / max(1, gold.num_tokens),
        num_tokens=gold.num_tokens,
        word_nll_B=word_nll_B,
        words_B=words_B,
    )


def moment_report(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    read: Sequence[Dialogue],
    seed: int,
) -> dict[str, Value]:
    """``moment.*`` of the model, of p* (``moment.f1_bayes``) and of a keyword rule.

    Thresholds, the model's and p*'s alike, come from dev dialogues. ``read``: the dialogues as
    ``described`` has them for this model, here and in the reports below.
    """
    moments = share_moments(model, dialogues, read=read)
    threshold = model.decoding.share_threshold
    values = moment_values(
        moments.shared_M,
        moments.p_share_M,
        threshold=threshold,
        seed=seed,
        groups_N=moments.dialogue_M,
        protocol="world",
    )
    values["text.perplexity"] = Value(
        value=float(np.exp(moments.token_nll)),
        low=None,
        high=None,
        n=moments.num_tokens,
        higher_is_better=False,
        unit="per token",
        protocol="world",
        note="agent's tokens, gold history",
    )
    bayes = bayes_threshold()
    best = moment_values(
        moments.shared_M,
        moments.p_star_M,
        threshold=bayes,
        seed=seed,
        groups_N=moments.dialogue_M,
        protocol="world",
    )
    values["moment.f1_bayes"] = dataclasses.replace(
        best["moment.f1"], note=f"p*, its threshold {bayes:.3g} from dev: the best possible"
    )
    values["moment.auprc_bayes"] = best["moment.auprc"]
    share = values["moment.f1"].value / values["moment.f1_bayes"].value  # type: ignore[operator]
    values["moment.f1_of_bayes"] = Value(
        value=share, low=None, high=None, n=len(moments.shared_M), protocol="world"
    )
    keyword = np.array(
        [
            keyword_score(dialogue.turns[:k])
            for dialogue in dialogues
            for k, turn in enumerate(dialogue.turns)
            if turn.speaker == AGENT
        ]
    )
    values["moment.f1_keyword"] = moment_values(
        moments.shared_M, keyword, threshold=0.5, seed=seed, groups_N=moments.dialogue_M
    )["moment.f1"]
    for name, chosen in (("unseen", moments.unseen_M), ("seen", ~moments.unseen_M)):
        if moments.shared_M[chosen].any():
            values[f"moment.f1_{name}_templates"] = moment_values(
                moments.shared_M[chosen],
                moments.p_share_M[chosen],
                threshold=threshold,
                seed=seed,
                groups_N=moments.dialogue_M[chosen],
                protocol="world",
            )["moment.f1"]
    return values


def bayes_threshold(count: int = 1000) -> float:
    """The threshold on p* with the best F1 on dev dialogues."""
    shared, star = [], []
    for seed in DEV_SEEDS[:count]:
        for turn in world_dialogue(seed).turns:
            if turn.speaker == AGENT:
                shared.append(bool(turn.photos))
                star.append(turn.labels["p_share"])
    return best_threshold(shared, star).threshold


# --------------------------------------------------------------------------------- the replies


@dataclass(frozen=True, kw_only=True)
class Comment:
    """A gold reply about a photo just seen: what came before it, and what the photo shows."""

    context: tuple[Turn, ...]
    photo: Photo
    gold: str
    dialogue: int = 0


def comments(dialogues: Sequence[Dialogue]) -> list[Comment]:
    """The agent's turns that name something visible in a user's photo."""
    found = []
    for number, dialogue in enumerate(dialogues):
        for k, turn in enumerate(dialogue.turns):
            if turn.speaker != AGENT or not turn.labels.get("named"):
                continue
            seen = [p for t in dialogue.turns[:k] if t.speaker == USER for p in t.photos]
            if seen and turn.labels.get("about", seen[-1].id) == seen[-1].id:
                context = dialogue.turns[:k]
                found.append(
                    Comment(context=context, photo=seen[-1], gold=turn.text, dialogue=number)
                )
    return found


def is_right(text: str, scene: Mapping[str, str]) -> bool:
    """Whether a reply names at least one attribute and all that it names are true."""
    named = named_attributes(text)
    return bool(named) and all(values <= {scene[name]} for name, values in named.items())


def seeing_report(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    read: Sequence[Dialogue],
    seed: int,
    told: Told = quiet,
) -> dict[str, Value]:
    """``seeing.accuracy`` of free-running replies; beside it chance and two kinds of blindness.

    Chance: the same replies judged against other photos. Blind: grey pixels instead of the photo.
    Caption-only: the photo's short gold caption instead of its pixels.
    """
    cases = comments(dialogues)
    images = [images_of(case.context) for case in cases]
    contexts = [read[case.dialogue].turns[: len(case.context)] for case in cases]
    replies = first_texts(Decoder(model), contexts, images, seed=seed, told=told)
    blind = []
    if model.photo_encoder is not None:
        grey = Image.new("RGB", (64, 64), (128, 128, 128))
        unseen = [{**i, case.photo.id: grey} for i, case in zip(images, cases, strict=True)]
        blind = first_texts(
            Decoder(model), contexts, unseen, seed=seed, what="blind replies", told=told
        )
    reads_captions = dataclasses.replace(model.renderer.config, perceive="caption")
    by_caption = Decoder(model, renderer=Renderer(model.language.tokenizer, reads_captions))
    gold = [case.context for case in cases]
    captioned = first_texts(by_caption, gold, images, seed=seed, what="from captions", told=told)
    rng = random.Random(seed)
    others = [rng.choice(cases).photo.labels["scene"] for _ in cases]
    scenes = [case.photo.labels["scene"] for case in cases]

    def judged(texts: Sequence[str], against: Sequence[Mapping[str, str]], note: str) -> Value:
        right = [float(is_right(t, s)) for t, s in zip(texts, against, strict=True)]
        return mean_value(right, seed=seed, protocol="world", note=note)

    values = {
        "seeing.accuracy": judged(replies, scenes, "names at least one attribute, all true"),
        "seeing.chance": judged(replies, others, "the same replies against other photos"),
        "seeing.gold": judged([c.gold for c in cases], scenes, "the written replies"),
        "seeing.caption_only": judged(captioned, scenes, "the gold caption instead of pixels"),
    }
    if blind:
        values["seeing.blind"] = judged(blind, scenes, "a grey photo instead of the photo")
    silent = [float(not named_attributes(text)) for text in replies]
    values["seeing.silent"] = mean_value(
        silent, seed=seed, higher_is_better=False, protocol="world", note="named nothing: wrong"
    )
    return values


def first_texts(
    decoder: Decoder,
    contexts: Sequence[tuple[Turn, ...]],
    images: Sequence[Mapping[str, Image.Image]],
    *,
    seed: int,
    what: str = "replies",
    told: Told = quiet,
) -> list[str]:
    """The model's next text turn in each dialogue, whether or not it would rather share a photo;
    the n-th by seed + n."""
    said: list[str] = []
    size = rows_at_once(decoder.model)
    for start in range(0, len(contexts), size):
        part = slice(start, start + size)
        seeds = range(seed + start, seed + start + len(contexts[part]))
        said += decoder.texts_after(contexts[part], images[part], list(seeds))
        told(what, len(said), len(contexts))
    return said


def text_turns(
    dialogues: Sequence[Dialogue], *, seed: int, most: int = 400
) -> list[tuple[int, int]]:
    """(dialogue, turn) of at most ``most`` of the agent's text turns, drawn by ``seed``."""
    cases = [
        (number, k)
        for number, dialogue in enumerate(dialogues)
        for k, turn in enumerate(dialogue.turns)
        if k and turn.speaker == AGENT and turn.text
    ]
    random.Random(seed).shuffle(cases)
    return cases[:most]


def reply_report(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    read: Sequence[Dialogue],
    seed: int,
    most: int = 400,
    told: Told = quiet,
) -> dict[str, Value]:
    """BLEU and ROUGE-L of free-running text replies to gold contexts; distinct-3."""
    cases = text_turns(dialogues, seed=seed, most=most)
    contexts = [read[number].turns[:k] for number, k in cases]
    images = list(map(images_of, contexts))
    said = first_texts(Decoder(model), contexts, images, seed=seed, what="text", told=told)
    gold = [dialogues[number].turns[k].text for number, k in cases]
    values: dict[str, Value] = {}
    for protocol in ("psdg", "standard"):
        scores = text_values(said, gold, protocol=protocol, seed=seed)
        keep = ("bleu1", "bleu2", "rouge_l")
        values |= {k: v for k, v in scores.items() if k.rsplit(".", 1)[-1] in keep}
    values["text.distinct3"] = Value(
        value=distinct_n(said, 3), low=None, high=None, n=len(said), protocol="world"
    )
    return values


def dropped_turns(model: PhotoDialogueModel, dialogues: Sequence[Dialogue]) -> dict[str, int]:
    """How many of its oldest turns each dialogue loses to be read to its end; {} without a cut.

    No gold context loses more. Photos take the same room whatever they show.
    """
    counts = {d.id: model.renderer.render(d).dropped_turns for d in dialogues}
    return {name: count for name, count in counts.items() if count}


# ------------------------------------------------------------------------------ while it is trained


def dev_measures(
    model: PhotoDialogueModel, *, count: int, encoder: AttributeReader, seed: int = 0
) -> dict[str, float]:
    """``bleu2`` (psdg) of free-running replies and ``fid`` of the photos painted from the model's
    own captions at gold moments, on the first ``count`` dev dialogues: the paper's early stopping.

    FID is in the features of the second encoder: the oracle has no part in any training.
    """
    dialogues = [world_dialogue(number) for number in DEV_SEEDS[:count]]
    read = described(model, dialogues)
    replies = reply_report(model, dialogues, read=read, seed=seed)
    measured = {"bleu2": replies["text.psdg.bleu2"].value}
    if model.painter is not None:
        own = spoken_photos(model, dialogues, read=read, seed=seed)
        if len(own.orders) > 1 and own.pixels_N3HW is not None:
            measured["fid"] = frechet_distance(
                gold_photos(dialogues),
                own.pixels_N3HW,
                features=encoder.features,
                num_features=NUM_FEATURES,
            )
    return {name: float(value or 0.0) for name, value in measured.items()}


# -------------------------------------------------------------------------------------- the whole


@dataclass(frozen=True, kw_only=True)
class WorldMeasures:
    """What ``evaluate`` reports and shows."""

    metrics: dict[str, Value]
    sheet: tuple[list[Image.Image], list[str]]


def measure_world(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    oracle: AttributeReader,
    encoder: AttributeReader,
    seed: int,
    told: Told = quiet,
) -> WorldMeasures:
    """All measures of a model on dialogues of the world."""
    read = described(model, dialogues)
    metrics = moment_report(model, dialogues, read=read, seed=seed)
    metrics |= seeing_report(model, dialogues, read=read, seed=seed, told=told)
    metrics |= reply_report(model, dialogues, read=read, seed=seed, told=told)
    orders = photo_orders(dialogues, seed=seed)
    sheet: tuple[list[Image.Image], list[str]] = ([], [])
    if model.painter is not None and orders:
        painted = paint_orders(model, orders, told=told)
        metrics |= attribute_values(oracle, painted, orders, name="attribute_accuracy", seed=seed)
        metrics |= attribute_values(
            encoder,
            painted,
            orders,
            name="attribute_accuracy_encoder",
            seed=seed,
            each=False,
            note="read by the second, independent encoder",
        )
        metrics |= ceilings(model, dialogues, orders, oracle=oracle, seed=seed)
        own = spoken_photos(model, dialogues, read=read, seed=seed, told=told)
        spoken, own_N3HW = own.orders, own.pixels_N3HW
        assert own_N3HW is not None
        metrics |= attribute_values(
            oracle, own_N3HW, spoken, name="attribute_accuracy_in_dialogue", seed=seed
        )
        determined = [
            dataclasses.replace(order, counts=spoken[k].counts) for k, order in enumerate(orders)
        ]
        metrics |= attribute_values(
            oracle,
            painted,
            determined,
            name="attribute_accuracy_gold_caption",
            seed=seed,
            each=False,
            note="the same attributes, painted from the gold captions",
        )
        for number in range(min(24, len(orders))):
            sheet[0].append(to_image(painted[number]))
            sheet[1].append(f"gold: {orders[number].caption}")
            sheet[0].append(to_image(own_N3HW[number]))
            sheet[1].append(f"own: {spoken[number].caption or '(said without words)'}")
    return WorldMeasures(metrics=metrics, sheet=sheet)
