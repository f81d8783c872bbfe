"""The photo world's own measures over answers: everything is known there, p* and scenes too.

Every measure is named in ``docs/metrics.md``. The oracle reads photos; it never trains, ranks or
filters them. This is the one place from which it is reached.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from photoworld.oracle import NUM_FEATURES, AttributeReader
from photoworld.scenes import ATTRIBUTES, split_of
from photoworld.words import named_attributes
from showtell.batch import to_image
from showtell.data.sources import open_data
from showtell.data.world import load_oracle
from showtell.dialogue import AGENT, Dialogue, Photo
from showtell.evaluation.answered import Answers, working_folder
from showtell.evaluation.score import Measured, moment_rows
from showtell.evaluation.world_answers import (
    drawn,
    photo_places,
    photos_at,
    seeing_places,
    through_vae,
    world_answers,
)
from showtell.metrics.fid import frechet_distance
from showtell.metrics.intervals import Value, mean_value
from showtell.metrics.moment import best_threshold, keyword_score
from showtell.metrics.text import distinct_n, text_values
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.progress import Progress, quiet

WORLD = "world"  # the protocol
SCENE = ATTRIBUTES  # each attribute of a scene with its values
READ = NUM_FEATURES  # by the oracle
Sheet = tuple[list[Image.Image], list[str]]


@cache
def shipped_reader(name: str) -> AttributeReader:
    """ "oracle", or "encoder": a second reader, which was trained apart."""
    return load_oracle(name)


def measure_world(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    folder: Path,
    seed: int,
    oracle: AttributeReader | None = None,
    encoder: AttributeReader | None = None,
    told: Progress = quiet,
) -> tuple[Measured, Sheet]:
    """All measures of a model on dialogues of the world; answers go to ``folder``, painted photos
    also onto a sheet to look at."""
    answers = world_answers(model, dialogues, folder=folder, seed=seed, controls=True, told=told)
    oracle, encoder = oracle or shipped_reader("oracle"), encoder or shipped_reader("encoder")
    values = moment_report(answers, seed=seed)
    values |= seeing_report(answers, seed=seed)
    values |= reply_report(answers, seed=seed)
    sheet: Sheet = ([], [])
    if (painted := answers.made.get("painted")) is not None:
        values |= photo_report(model, answers, painted, oracle=oracle, encoder=encoder, seed=seed)
        sheet = _sheet(answers, painted)
    counts = {"dialogues": len(dialogues), "photos": sum(len(d.photos) for d in dialogues)}
    dropped = answers.facts["dropped_turns"]
    notes = []
    if dropped:
        counts["dropped turns"] = sum(dropped.values())
        notes.append(dropped_note(dropped, model.renderer.config.max_tokens))
    splits = sorted({split_of(d.labels["seed"]) for d in dialogues})
    notes.append(f"seeds of split: {', '.join(splits)}")
    if "train" in splits:
        notes.append("these are training seeds: the figures are not those of unseen data")
    return Measured(values=values, counts=counts, notes=tuple(notes)), sheet


def moment_report(answers: Answers, *, seed: int) -> dict[str, Value]:
    """``moment.*`` of the model, of p* (``moment.f1_bayes``) and of a keyword rule; thresholds,
    the model's and p*'s alike, come from dev dialogues."""
    asked = answers.of("moment")
    turns = [answers.dialogues[b].turns for b, _ in (answer.place for answer in asked)]
    at = [answer.place[1] for answer in asked]
    shared_M = np.array([answer.wanted["share"] for answer in asked], dtype=bool)
    p_share_M = np.array([answer.said["p_share"] for answer in asked])
    p_star_M = np.array(
        [t[k].labels.get("p_share", np.nan) for t, k in zip(turns, at, strict=True)]
    )
    unseen_M = np.array(
        [bool(k and t[k - 1].labels.get("unseen")) for t, k in zip(turns, at, strict=True)]
    )
    groups_M = np.array([answer.place[0] for answer in asked])

    def rows(
        scores_M: np.ndarray, threshold: float, chosen_M: Any = None, **of: str
    ) -> dict[str, Value]:
        keep = np.ones_like(shared_M) if chosen_M is None else chosen_M
        return moment_rows(
            shared_M[keep],
            scores_M[keep],
            threshold=threshold,
            seed=seed,
            groups_N=groups_M[keep],
            **({"protocol": WORLD} | of),
        )

    threshold = answers.facts["threshold"]
    values = rows(p_share_M, threshold)
    values["text.perplexity"] = Value(
        value=float(np.exp(answers.facts["token_nll"])),
        low=None,
        high=None,
        n=answers.facts["num_tokens"],
        higher_is_better=False,
        unit="per token",
        protocol=WORLD,
        note="agent's tokens, gold history",
    )
    if not shared_M.any():
        return values
    bayes = bayes_threshold()
    best = rows(p_star_M, bayes)
    values["moment.f1_bayes"] = replace(
        best["moment.f1"], note=f"p*, its threshold {bayes:.3g} from dev: the best possible"
    )
    values["moment.auprc_bayes"] = best["moment.auprc"]
    share = values["moment.f1"].value / values["moment.f1_bayes"].value  # type: ignore[operator]
    values["moment.f1_of_bayes"] = Value(
        value=share, low=None, high=None, n=len(shared_M), protocol=WORLD
    )
    keyword_M = np.array([keyword_score(t[:k]) for t, k in zip(turns, at, strict=True)])
    values["moment.f1_keyword"] = rows(keyword_M, 0.5, protocol="")["moment.f1"]
    for name, chosen_M in (("unseen", unseen_M), ("seen", ~unseen_M)):
        if shared_M[chosen_M].any():
            found = rows(p_share_M, threshold, chosen_M)["moment.f1"]
            values[f"moment.f1_{name}_templates"] = found
    return values


@cache
def bayes_threshold(count: int = 1000) -> float:
    """The threshold on p* with the best F1 on dev dialogues."""
    turns = [turn for d in islice(open_data("world:dev"), count) for turn in d.turns]
    asked = [turn for turn in turns if turn.speaker == AGENT]
    shared = [bool(turn.photos) for turn in asked]
    return best_threshold(shared, [turn.labels["p_share"] for turn in asked]).threshold


def is_right(text: str, scene: Mapping[str, str]) -> bool:
    """Whether a reply names at least one attribute and all that it names are true."""
    named = named_attributes(text)
    return bool(named) and all(values <= {scene[name]} for name, values in named.items())


def seeing_report(answers: Answers, *, seed: int) -> dict[str, Value]:
    """``seeing.accuracy``; beside it chance (the same replies judged against other photos) and two
    kinds of blindness (a grey photo; its gold caption)."""
    scenes = [photo.labels["scene"] for photo in seeing_places(answers.dialogues).values()]
    rng = random.Random(seed)
    others = [rng.choice(scenes) for _ in scenes]
    gold = [answer.wanted["elements"][0] for answer in answers.of("seeing")]

    def judged(texts: Sequence[str], against: Sequence[Mapping[str, str]], note: str) -> Value:
        right = [float(is_right(t, s)) for t, s in zip(texts, against, strict=True)]
        return mean_value(right, seed=seed, protocol=WORLD, note=note)

    replies = answers.texts("seeing")
    captioned = answers.texts("captioned")
    values = {
        "seeing.accuracy": judged(replies, scenes, "names at least one attribute, all true"),
        "seeing.chance": judged(replies, others, "the same replies against other photos"),
        "seeing.gold": judged(gold, scenes, "the written replies"),
        "seeing.caption_only": judged(captioned, scenes, "the gold caption instead of pixels"),
    }
    if blind := answers.texts("blind"):
        values["seeing.blind"] = judged(blind, scenes, "a grey photo instead of the photo")
    silent = [float(not named_attributes(text)) for text in replies]
    values["seeing.silent"] = mean_value(
        silent, seed=seed, higher_is_better=False, protocol=WORLD, note="named nothing: wrong"
    )
    return values


def reply_report(answers: Answers, *, seed: int) -> dict[str, Value]:
    """BLEU and ROUGE-L of text replies to gold contexts; distinct-3."""
    said = answers.texts("text")
    gold = [answer.wanted["elements"][0] for answer in answers.of("text")]
    values: dict[str, Value] = {}
    for protocol in ("psdg", "standard"):
        scores = text_values(said, gold, protocol=protocol, seed=seed)
        keep = ("bleu1", "bleu2", "rouge_l")
        values |= {k: v for k, v in scores.items() if k.rsplit(".", 1)[-1] in keep}
    values["text.distinct3"] = Value(
        value=distinct_n(said, 3), low=None, high=None, n=len(said), protocol=WORLD
    )
    return values


def photo_report(
    model: PhotoDialogueModel,
    answers: Answers,
    painted_N3HW: Tensor,
    *,
    oracle: AttributeReader,
    encoder: AttributeReader,
    seed: int,
) -> dict[str, Value]:
    """What is seen in photos painted from the gold captions and from the model's own, and in the
    true ones, as they are and after the VAE and back."""
    photos = photos_at(answers.dialogues, photo_places(answers.dialogues))
    own_N3HW, real_N3HW = answers.made["photo"], drawn(photos)
    rebuilt_N3HW = through_vae(model, real_N3HW)
    assert rebuilt_N3HW is not None

    def seen(
        pixels: Tensor,
        name: str,
        counts: str = "stated",
        *,
        by: AttributeReader = oracle,
        each: bool = True,
        note: str = "",
    ) -> dict[str, Value]:
        return attribute_values(
            by.read(pixels), photos, counts=counts, name=name, seed=seed, each=each, note=note
        )

    second = "read by the second, independent encoder"
    gold = "the same attributes, painted from the gold captions"
    return {
        **seen(painted_N3HW, "attribute_accuracy"),
        **seen(painted_N3HW, "attribute_accuracy_encoder", by=encoder, each=False, note=second),
        **seen(real_N3HW, "attribute_ceiling", note="real drawings"),
        **seen(rebuilt_N3HW, "attribute_ceiling_vae", note="real drawings after the VAE and back"),
        **seen(own_N3HW, "attribute_accuracy_in_dialogue", "determined"),
        **seen(
            painted_N3HW, "attribute_accuracy_gold_caption", "determined", each=False, note=gold
        ),
    }


def attribute_values(
    read: Sequence[Mapping[str, str]],
    photos: Sequence[Photo],
    *,
    counts: str,
    name: str,
    seed: int,
    each: bool = True,
    note: str = "",
) -> dict[str, Value]:
    """``photo.<name>``: the share of the attributes in the label ``counts`` that were read right.

    The mean is over attributes (every attribute counts the same), resampled by photo; with ``each``
    also every attribute, and all counted attributes of a photo right at once.
    """
    right: dict[str, list[float]] = {attribute: [] for attribute in ATTRIBUTES}
    photo_of: dict[str, list[int]] = {attribute: [] for attribute in ATTRIBUTES}
    whole = []
    for number, (photo, found) in enumerate(zip(photos, read, strict=True)):
        scene, counted = photo.labels["scene"], photo.labels[counts]
        for attribute in counted:
            right[attribute].append(float(found[attribute] == scene[attribute]))
            photo_of[attribute].append(number)
        if counted:
            whole.append(float(all(found[a] == scene[a] for a in counted)))
    used = [attribute for attribute in ATTRIBUTES if right[attribute]]
    values = {
        f"photo.{name}": _macro(right, photo_of, used, num_photos=len(photos), seed=seed),
        f"photo.{name}.all_right": mean_value(
            whole, seed=seed, protocol=WORLD, note="all counted attributes of a photo at once"
        ),
    }
    note = note or f"mean of {len(used)} attributes, read by the oracle"
    values[f"photo.{name}"] = replace(values[f"photo.{name}"], n=len(whole), note=note)
    for attribute in used if each else ():
        chance = 1 / len(ATTRIBUTES[attribute])
        values[f"photo.{name}.{attribute}"] = mean_value(
            right[attribute], seed=seed, protocol=WORLD, note=f"chance {100 * chance:.1f}%"
        )
    return values


def _macro(
    right: Mapping[str, list[float]],
    photo_of: Mapping[str, list[int]],
    used: Sequence[str],
    *,
    num_photos: int,
    seed: int,
) -> Value:
    """The mean over attributes, and its bootstrap over photos."""
    if not used:
        return Value(value=None, low=None, high=None, n=0, protocol=WORLD)
    rng = np.random.default_rng(seed)
    counts_RN = rng.multinomial(num_photos, np.full(num_photos, 1 / num_photos), 1000)
    means = []
    for attribute in used:
        weights = counts_RN[:, photo_of[attribute]]
        means.append((weights @ np.array(right[attribute])) / np.maximum(weights.sum(1), 1))
    low, high = (float(np.quantile(np.mean(means, axis=0), q)) for q in (0.025, 0.975))
    value = float(np.mean([float(np.mean(right[attribute])) for attribute in used]))
    return Value(value=value, low=low, high=high, n=num_photos, protocol=WORLD)


def _sheet(answers: Answers, painted_N3HW: Tensor) -> Sheet:
    """The first photos from gold captions, each beside the model's own."""
    own_N3HW = answers.made["photo"]
    images, captions = [], []
    for number, answer in enumerate(answers.of("photo")[:24]):
        b, k = answer.place
        gold = answers.dialogues[b].turns[k].photos[0].caption
        own = answer.said["caption"] or "(said without words)"
        images += [to_image(painted_N3HW[number]), to_image(own_N3HW[number])]
        captions += [f"gold: {gold}", f"own: {own}"]
    return images, captions


def dropped_note(dropped: Mapping[str, int], max_tokens: int) -> str:
    """Which dialogues were read without their first turns, the longest cuts first."""
    most = sorted(dropped.items(), key=lambda item: -item[1])
    named = ", ".join(f"{name}: the first {count}" for name, count in most[:10])
    more = f" and {len(most) - 10} more" if len(most) > 10 else ""
    return (
        f"{len(most)} dialogues are longer than the model reads ({max_tokens} tokens), and their "
        f"oldest turns were dropped ({named}{more}); their last turn never is"
    )


def dev_measures(model: PhotoDialogueModel, *, count: int, seed: int = 0) -> dict[str, float]:
    """``bleu2`` (psdg) of replies and ``fid`` of the model's own photos at gold moments, on the
    first ``count`` dev dialogues: the paper's early stopping.

    FID is in the features of the second encoder: the oracle has no part in any training.
    """
    dialogues = list(islice(open_data("world:dev"), count))
    with working_folder(None) as folder:
        answers = world_answers(model, dialogues, folder=folder, seed=seed)
        own_N3HW = answers.made.get("photo")
    measured = {"bleu2": reply_report(answers, seed=seed)["text.psdg.bleu2"].value}
    if own_N3HW is not None and len(own_N3HW) > 1:
        measured["fid"] = frechet_distance(
            drawn(photos_at(dialogues, photo_places(dialogues))),
            own_N3HW,
            features=shipped_reader("encoder").features,
            num_features=NUM_FEATURES,
        )
    return {name: float(value or 0.0) for name, value in measured.items()}
