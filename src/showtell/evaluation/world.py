"""How good a model is in the photo world, where everything is known.

Every measure is named in ``docs/metrics.md``. The oracle reads photos; it never trains, ranks or
filters them.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from showtell.batch import collate
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.metrics.moment import best_threshold, keyword_score, moment_values
from showtell.metrics.photos import frechet_distance
from showtell.metrics.report import Value, mean_value
from showtell.metrics.text import distinct_n, text_values
from showtell.models.dialogue_model import PhotoDialogueModel, to_image, to_pixels
from showtell.prompt import IGNORED, Renderer
from showtell.world.drawing import photo_pixels
from showtell.world.oracle import NUM_FEATURES, AttributeReader
from showtell.world.scenes import ATTRIBUTES, DEV_SEEDS
from showtell.world.talk import named_attributes, world_dialogue

Told = Callable[[str, int, int], None]


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


# ---------------------------------------------------------------------------------- the moment


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Every start of an agent's turn: was it a photo, P([IMG]), and the true chance p*."""

    shared_M: np.ndarray
    p_share_M: np.ndarray
    p_star_M: np.ndarray
    dialogue_M: np.ndarray
    unseen_M: np.ndarray  # bool: the turn before it was said in words never trained
    token_nll: float
    num_tokens: int


@torch.no_grad()
def share_moments(
    model: PhotoDialogueModel, dialogues: Sequence[Dialogue], *, batch_size: int = 32
) -> Moments:
    """P([IMG]) at every start of an agent's turn, gold context, one pass over each dialogue."""
    columns: dict[str, list] = {k: [] for k in ("shared", "p", "star", "dialogue", "unseen")}
    total, count = 0.0, 0
    for start in range(0, len(dialogues), batch_size):
        part = dialogues[start : start + batch_size]
        rows = [model.renderer.render(described(model, d)) for d in part]
        pixels = (lambda photo: to_pixels(photo_pixels(photo))) if model.perceptron else None
        pad = model.language.tokenizer.pad_token_id
        batch = collate(rows, pad_id=pad, pixels_of=pixels, paint=False)
        states = model.states(batch)
        columns["p"] += model.share_logits(states, batch).sigmoid().tolist()
        for number, (row, dialogue) in enumerate(zip(rows, part, strict=True)):
            for moment in row.moments:
                turn = dialogue.turns[moment.turn]
                before = dialogue.turns[moment.turn - 1].labels if moment.turn else {}
                columns["shared"].append(moment.shared)
                columns["star"].append(turn.labels.get("p_share", np.nan))
                columns["dialogue"].append(start + number)
                columns["unseen"].append(bool(before.get("unseen", False)))
        rows_M, at_M = (batch.labels_BT[:, 1:] != IGNORED).nonzero(as_tuple=True)
        logits_MV = model.language.head(states.hidden_BTD[rows_M, at_M]).float()
        gold_M = batch.labels_BT[rows_M, at_M + 1]
        total += float(torch.nn.functional.cross_entropy(logits_MV, gold_M, reduction="sum"))
        count += len(gold_M)
    return Moments(
        shared_M=np.array(columns["shared"], dtype=bool),
        p_share_M=np.array(columns["p"]),
        p_star_M=np.array(columns["star"]),
        dialogue_M=np.array(columns["dialogue"]),
        unseen_M=np.array(columns["unseen"], dtype=bool),
        token_nll=total / max(1, count),
        num_tokens=count,
    )


def moment_report(
    model: PhotoDialogueModel, dialogues: Sequence[Dialogue], *, seed: int
) -> dict[str, Value]:
    """``moment.*`` of the model, of p* (``moment.f1_bayes``) and of a keyword rule.

    Thresholds, the model's and p*'s alike, come from dev dialogues.
    """
    moments = share_moments(model, dialogues)
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


# ---------------------------------------------------------------------------------- the photos


@dataclass(frozen=True, kw_only=True)
class Order:
    """A photo to paint for measurement: its caption, what is true, and what counts."""

    caption: str
    scene: Mapping[str, str]
    counts: tuple[str, ...]
    seed: int
    context: tuple[Turn, ...] = ()


def photo_orders(dialogues: Sequence[Dialogue], *, seed: int) -> list[Order]:
    """The agent's photos with their contexts; ``counts`` are the attributes the caption states."""
    orders: list[Order] = []
    for dialogue in dialogues:
        for k, turn in enumerate(dialogue.turns):
            if turn.speaker == AGENT and turn.photos:
                photo = turn.photos[0]
                orders.append(
                    Order(
                        caption=photo.caption,
                        scene=photo.labels["scene"],
                        counts=tuple(photo.labels["stated"]),
                        seed=seed + len(orders),
                        context=dialogue.turns[:k],
                    )
                )
    return orders


def paint_orders(
    model: PhotoDialogueModel, orders: Sequence[Order], *, batch_size: int = 32, told: Told = quiet
) -> Tensor:
    """The painted photos, (N, 3, H, W); each from its own seed."""
    parts = []
    for start in range(0, len(orders), batch_size):
        part = orders[start : start + batch_size]
        parts.append(model.paint_captions([o.caption for o in part], seeds=[o.seed for o in part]))
        told("painting", min(start + batch_size, len(orders)), len(orders))
    return torch.cat(parts)


def attribute_values(
    oracle: AttributeReader,
    pixels_N3HW: Tensor,
    orders: Sequence[Order],
    *,
    name: str,
    seed: int,
    each: bool = True,
    note: str = "",
) -> dict[str, Value]:
    """``photo.<name>``: the share of counted attributes that the oracle reads right.

    The mean is over attributes (every attribute counts the same), resampled by photo; with ``each``
    also every attribute, and all counted attributes of a photo right at once.
    """
    read = oracle.read(pixels_N3HW)
    right: dict[str, list[float]] = {attribute: [] for attribute in ATTRIBUTES}
    photo_of: dict[str, list[int]] = {attribute: [] for attribute in ATTRIBUTES}
    whole = []
    for number, (order, found) in enumerate(zip(orders, read, strict=True)):
        for attribute in order.counts:
            right[attribute].append(float(found[attribute] == order.scene[attribute]))
            photo_of[attribute].append(number)
        if order.counts:
            whole.append(float(all(found[a] == order.scene[a] for a in order.counts)))
    values = {}
    used = [attribute for attribute in ATTRIBUTES if right[attribute]]
    means = [float(np.mean(right[attribute])) for attribute in used]
    low, high = _macro_interval(right, photo_of, used, len(orders), seed=seed)
    values[f"photo.{name}"] = Value(
        value=float(np.mean(means)) if means else None,
        low=low if means else None,
        high=high if means else None,
        n=len(whole),
        protocol="world",
        note=note or f"mean of {len(used)} attributes, read by the oracle",
    )
    values[f"photo.{name}.all_right"] = mean_value(
        whole, seed=seed, protocol="world", note="all counted attributes of a photo at once"
    )
    if each:
        for attribute in used:
            chance = 1 / len(ATTRIBUTES[attribute])
            values[f"photo.{name}.{attribute}"] = mean_value(
                right[attribute], seed=seed, protocol="world", note=f"chance {100 * chance:.1f}%"
            )
    return values


def _macro_interval(
    right: Mapping[str, list[float]],
    photo_of: Mapping[str, list[int]],
    used: Sequence[str],
    num_photos: int,
    *,
    seed: int,
    resamples: int = 1000,
) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    counts_RN = rng.multinomial(num_photos, np.full(num_photos, 1 / num_photos), resamples)
    means = []
    for attribute in used:
        weights = counts_RN[:, photo_of[attribute]]
        means.append((weights @ np.array(right[attribute])) / np.maximum(weights.sum(1), 1))
    draws = np.mean(means, axis=0) if means else np.zeros(1)
    return float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))


def spoken_orders(
    model: PhotoDialogueModel, dialogues: Sequence[Dialogue], *, seed: int, told: Told = quiet
) -> list[Order]:
    """At gold photo moments and gold contexts, the model's own caption; the determined attributes
    count."""
    orders = []
    gold = [
        (dialogue, k)
        for dialogue in dialogues
        for k, turn in enumerate(dialogue.turns)
        if turn.speaker == AGENT and turn.photos
    ]
    for number, (dialogue, k) in enumerate(gold):
        photo = dialogue.turns[k].photos[0]
        context = described(model, dialogue).turns[:k]
        writing, _ = model.read(context, images_of(context))
        model.open_turn(writing)
        orders.append(
            Order(
                caption=model.write_caption(writing),
                scene=photo.labels["scene"],
                counts=tuple(photo.labels["determined"]),
                seed=seed + number,
                context=context,
            )
        )
        told("captions", number + 1, len(gold))
    return orders


# --------------------------------------------------------------------------------- the replies


def described(model: PhotoDialogueModel, dialogue: Dialogue) -> Dialogue:
    """For a model that reads captions: the user's photos as its own captioner describes them."""
    if model.captioner is None:
        return dialogue
    turns = model.describe(dialogue.turns, images_of(dialogue.turns))
    return dataclasses.replace(dialogue, turns=turns)


def images_of(turns: Sequence[Turn]) -> dict[str, Image.Image]:
    return {
        photo.id: photo_pixels(photo)
        for turn in turns
        for photo in turn.photos
        if "scene" in photo.labels
    }


@dataclass(frozen=True, kw_only=True)
class Comment:
    """A gold reply about a photo just seen: what came before it, and what the photo shows."""

    context: tuple[Turn, ...]
    photo: Photo
    gold: str


def comments(dialogues: Sequence[Dialogue]) -> list[Comment]:
    """The agent's turns that name something visible in a user's photo."""
    found = []
    for dialogue in dialogues:
        for k, turn in enumerate(dialogue.turns):
            if turn.speaker != AGENT or not turn.labels.get("named"):
                continue
            seen = [p for t in dialogue.turns[:k] if t.speaker == USER for p in t.photos]
            if seen and turn.labels.get("about", seen[-1].id) == seen[-1].id:
                found.append(Comment(context=dialogue.turns[:k], photo=seen[-1], gold=turn.text))
    return found


def is_right(text: str, scene: Mapping[str, str]) -> bool:
    """Whether a reply names at least one attribute and all that it names are true."""
    named = named_attributes(text)
    return bool(named) and all(values <= {scene[name]} for name, values in named.items())


def seeing_report(
    model: PhotoDialogueModel, dialogues: Sequence[Dialogue], *, seed: int, told: Told = quiet
) -> dict[str, Value]:
    """``seeing.accuracy`` of free-running replies; beside it chance and two kinds of blindness.

    Chance: the same replies judged against other photos. Blind: grey pixels instead of the photo.
    Caption-only: the photo's short gold caption instead of its pixels.
    """
    cases = comments(dialogues)
    replies, blind, captioned = [], [], []
    caption_renderer = Renderer(
        model.language.tokenizer,
        dataclasses.replace(model.renderer.config, perceive="caption"),
    )
    pixel_renderer = model.renderer
    for number, case in enumerate(cases):
        context = model.describe(case.context, images_of(case.context))
        images = images_of(case.context)
        replies.append(first_text(model, context, images, seed=seed + number))
        if model.perceptron is not None:
            grey = {**images, case.photo.id: Image.new("RGB", (64, 64), (128, 128, 128))}
            blind.append(first_text(model, context, grey, seed=seed + number))
        model.renderer = caption_renderer
        captioned.append(first_text(model, case.context, images, seed=seed + number))
        model.renderer = pixel_renderer
        told("replies", number + 1, len(cases))
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


def first_text(
    model: PhotoDialogueModel,
    context: tuple[Turn, ...],
    images: Mapping[str, Image.Image],
    *,
    seed: int,
) -> str:
    """The model's next text turn, whether or not it would rather share a photo."""
    writing, _ = model.read(context, images)
    model.open_turn(writing)
    return model.write_text(writing, generator=torch.Generator().manual_seed(seed))


def reply_report(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    seed: int,
    most: int = 400,
    told: Told = quiet,
) -> dict[str, Value]:
    """BLEU and ROUGE-L of free-running text replies to gold contexts; distinct-3."""
    cases = [
        (dialogue, k)
        for dialogue in dialogues
        for k, turn in enumerate(dialogue.turns)
        if k and turn.speaker == AGENT and turn.text
    ]
    random.Random(seed).shuffle(cases)
    cases = cases[:most]
    said, gold = [], []
    for number, (dialogue, k) in enumerate(cases):
        context = model.describe(dialogue.turns[:k], images_of(dialogue.turns[:k]))
        said.append(first_text(model, context, images_of(context), seed=seed + number))
        gold.append(dialogue.turns[k].text)
        told("text", number + 1, len(cases))
    values: dict[str, Value] = {}
    for protocol in ("psdg", "standard"):
        scores = text_values(said, gold, protocol=protocol, seed=seed)
        keep = ("bleu1", "bleu2", "rouge_l")
        values |= {k: v for k, v in scores.items() if k.rsplit(".", 1)[-1] in keep}
    values["text.distinct3"] = Value(
        value=distinct_n(said, 3), low=None, high=None, n=len(said), protocol="world"
    )
    return values


# ------------------------------------------------------------------------------ while it is trained


def dev_measures(
    model: PhotoDialogueModel, *, count: int, encoder: AttributeReader, seed: int = 0
) -> dict[str, float]:
    """``bleu2`` (psdg) of free-running replies and ``fid`` of the photos painted from the model's
    own captions at gold moments, on the first ``count`` dev dialogues: the paper's early stopping.

    FID is in the features of the second encoder: the oracle has no part in any training.
    """
    dialogues = [world_dialogue(number) for number in DEV_SEEDS[:count]]
    measured = {"bleu2": reply_report(model, dialogues, seed=seed)["text.psdg.bleu2"].value}
    if model.painter is not None:
        orders = spoken_orders(model, dialogues, seed=seed)
        if len(orders) > 1:
            real = [
                to_pixels(photo_pixels(turn.photos[0]))
                for dialogue in dialogues
                for turn in dialogue.turns
                if turn.speaker == AGENT and turn.photos
            ]
            measured["fid"] = frechet_distance(
                torch.stack(real),
                paint_orders(model, orders),
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
    metrics = moment_report(model, dialogues, seed=seed)
    metrics |= seeing_report(model, dialogues, seed=seed, told=told)
    metrics |= reply_report(model, dialogues, seed=seed, told=told)
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
        spoken = spoken_orders(model, dialogues, seed=seed, told=told)
        own = paint_orders(model, spoken, told=told)
        metrics |= attribute_values(
            oracle, own, spoken, name="attribute_accuracy_in_dialogue", seed=seed
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
            sheet[0].append(to_image(own[number]))
            sheet[1].append(f"own: {spoken[number].caption}")
    return WorldMeasures(metrics=metrics, sheet=sheet)


def ceilings(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    orders: Sequence[Order],
    *,
    oracle: AttributeReader,
    seed: int,
) -> dict[str, Value]:
    """What the oracle reads from the real drawings, and from them after the VAE and back."""
    photos = [
        turn.photos[0]
        for dialogue in dialogues
        for turn in dialogue.turns
        if turn.speaker == AGENT and turn.photos
    ]
    real = torch.stack([to_pixels(photo_pixels(photo)) for photo in photos])
    values = attribute_values(
        oracle, real, orders, name="attribute_ceiling", seed=seed, each=True, note="real drawings"
    )
    painter = model.painter
    rebuilt = torch.cat(
        [painter.decode_photos(painter.encode_photos(part)) for part in real.split(64)]  # type: ignore[union-attr]
    )
    return values | attribute_values(
        oracle,
        rebuilt,
        orders,
        name="attribute_ceiling_vae",
        seed=seed,
        each=True,
        note="real drawings after the VAE and back",
    )
