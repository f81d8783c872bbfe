"""The photo world's own measures over answers, as a report: everything is known there, p* and
scenes too. Every measure is named in ``docs/metrics.md``."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from showtell.batch import to_image, to_pixels
from showtell.data.photos import has_pixels, photo_image, square
from showtell.dialogue import Dialogue, Photo
from showtell.evaluation.answer import likeliest, own_photos, write_texts
from showtell.evaluation.answered import Answers
from showtell.evaluation.score import Measured, moment_rows, reply_values
from showtell.evaluation.world_answers import through_vae, world_answers
from showtell.evaluation.world_gold import (
    SCENE,
    Gold,
    Readers,
    bayes_threshold,
    is_right,
    names_something,
    photo_places,
    photos_at,
    right_and_counted,
    shipped_reader,
    text_places,
)
from showtell.metrics.fid import features_of, frechet_distance
from showtell.metrics.intervals import Value, mean_value
from showtell.metrics.moment import keyword_score
from showtell.metrics.pictures import contact_sheet, save_picture
from showtell.metrics.text import text_scores
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import described
from showtell.models.respond import Responder
from showtell.progress import Progress, quiet

WORLD = "world"  # the protocol


def measure_world(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    name: str,
    folder: Path,
    seed: int,
    readers: Readers | None = None,
    told: Progress = quiet,
) -> Measured:
    """All measures of a model on dialogues of the world, the data ``name``; answers go to
    ``folder``, painted photos also onto contact_sheet.png."""
    answers = world_answers(model, dialogues, folder=folder, seed=seed, controls=True, told=told)
    gold = Gold(dialogues, readers or Readers())
    values = moment_report(answers, seed=seed) | seeing_report(answers, gold, seed=seed)
    replies = reply_values(answers, seed=seed, distinct=3, protocol=WORLD)
    values |= {k: v for k, v in replies.items() if not k.endswith(("bleu3", "bleu4"))}
    if "painted" in answers.made:
        values |= photo_report(model, answers, gold, seed=seed)
        title = f"{model.name} on {name}"
        save_picture(_sheet(answers, title=title), folder / "contact_sheet.png")
    counts = {"dialogues": len(dialogues), "photos": sum(len(d.photos) for d in dialogues)}
    notes = [f"seeds of split: {', '.join(gold.splits)}"]
    if dropped := answers.facts["dropped_turns"]:
        counts["dropped turns"] = sum(dropped.values())
        notes.insert(0, dropped_note(dropped, model.renderer.config.max_tokens))
    if "train" in gold.splits:
        notes.append("these are training seeds: the figures are not those of unseen data")
    return Measured(values=values, counts=counts, notes=tuple(notes))


def moment_report(answers: Answers, *, seed: int) -> dict[str, Value]:
    """``moment.*`` of the model, of p* (``moment.f1_bayes``) and of a keyword rule; thresholds,
    the model's and p*'s alike, come from dev dialogues."""
    asked = answers.of("moment")
    before = [answers.dialogues[b].turns[:k] for b, k in (answer.place for answer in asked)]
    turns = [answers.dialogues[b].turns[k] for b, k in (answer.place for answer in asked)]
    shared_M = np.array([answer.wanted["share"] for answer in asked], dtype=bool)
    p_share_M = np.array([answer.said["p_share"] for answer in asked])
    p_star_M = np.array([turn.labels.get("p_share", np.nan) for turn in turns])
    unseen_M = np.array([bool(t and t[-1].labels.get("unseen")) for t in before])
    groups_M = np.array([answer.place[0] for answer in asked])

    def rows(
        scores_M: np.ndarray, threshold: float, kept_M: Any = slice(None), protocol: str = WORLD
    ) -> dict[str, Value]:
        return moment_rows(
            shared_M[kept_M],
            scores_M[kept_M],
            threshold=threshold,
            seed=seed,
            groups_N=groups_M[kept_M],
            protocol=protocol,
        )

    threshold = answers.facts["threshold"]
    values = rows(p_share_M, threshold)
    values["text.perplexity"] = Value(
        value=float(np.exp(answers.facts["token_nll"])),
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
    values["moment.f1_of_bayes"] = Value(value=share, n=len(shared_M), protocol=WORLD)
    keyword_M = np.array([keyword_score(turns) for turns in before])
    values["moment.f1_keyword"] = rows(keyword_M, 0.5, protocol="")["moment.f1"]
    for name, kept_M in (("unseen", unseen_M), ("seen", ~unseen_M)):
        if shared_M[kept_M].any():
            found = rows(p_share_M, threshold, kept_M)["moment.f1"]
            values[f"moment.f1_{name}_templates"] = found
    return values


def seeing_report(answers: Answers, gold: Gold, *, seed: int) -> dict[str, Value]:
    """``seeing.accuracy``; beside it chance (the same replies judged against other photos) and two
    kinds of blindness (a grey photo; its gold caption)."""
    rng, scenes = random.Random(seed), gold.seen_scenes
    others = [rng.choice(scenes) for _ in scenes]
    replies = answers.texts("seeing")
    written = [answer.gold for answer in answers.of("seeing")]
    values = {}
    for name, texts, against, note in (
        ("accuracy", replies, scenes, "names at least one attribute, all true"),
        ("chance", replies, others, "the same replies against other photos"),
        ("gold", written, scenes, "the written replies"),
        ("caption_only", answers.texts("captioned"), scenes, "the gold caption instead of pixels"),
        ("blind", answers.texts("blind"), scenes, "a grey photo instead of the photo"),
    ):
        if texts or name not in ("blind", "caption_only"):  # they may not have been asked for
            right = [is_right(t, s) for t, s in zip(texts, against, strict=True)]
            values[f"seeing.{name}"] = mean_value(right, seed=seed, protocol=WORLD, note=note)
    silent = [not names_something(text) for text in replies]
    values["seeing.silent"] = mean_value(
        silent, seed=seed, higher_is_better=False, protocol=WORLD, note="named nothing: wrong"
    )
    return values


def photo_report(
    model: PhotoDialogueModel, answers: Answers, gold: Gold, *, seed: int
) -> dict[str, Value]:
    """What is seen in photos painted from the gold captions and from the model's own, and in the
    true ones, as they are and after the VAE and back."""
    oracle, encoder = gold.readers.oracle, gold.readers.encoder
    painted_N3HW, real_N3HW = answers.made["painted"], gold.pixels_N3HW
    rebuilt_N3HW = through_vae(model, real_N3HW)
    assert rebuilt_N3HW is not None
    painted, second = oracle.read(painted_N3HW), encoder.read(painted_N3HW)
    real, rebuilt = oracle.read(real_N3HW), oracle.read(rebuilt_N3HW)
    own = oracle.read(answers.made["photo"])
    independent = "read by the second, independent encoder"
    same = "the same attributes, painted from the gold captions"
    values: dict[str, Value] = {}
    for name, read, counts, each, note in (
        ("attribute_accuracy", painted, "stated", True, ""),
        ("attribute_accuracy_encoder", second, "stated", False, independent),
        ("attribute_ceiling", real, "stated", True, "real drawings"),
        ("attribute_ceiling_vae", rebuilt, "stated", True, "real drawings after the VAE and back"),
        ("attribute_accuracy_in_dialogue", own, "determined", True, ""),
        ("attribute_accuracy_gold_caption", painted, "determined", False, same),
    ):
        values |= attribute_values(
            read, gold.photos, counts=counts, name=name, seed=seed, each=each, note=note
        )
    return values


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
    asked = [photo.labels[counts] for photo in photos]
    right_NA, counted_NA = right_and_counted(read, photos, asked)
    used_A = counted_NA.any(0)
    whole = (right_NA == counted_NA).all(1)[counted_NA.any(1)]
    mean = low = high = None
    if used_A.any():
        right_AN, counted_AN = right_NA[:, used_A].T, counted_NA[:, used_A].T
        num = len(photos)
        draws_NR = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), 1000).T
        mean = float(np.mean(right_AN.sum(1) / counted_AN.sum(1)))
        shares_AR = (right_AN @ draws_NR) / np.maximum(counted_AN @ draws_NR, 1)
        low, high = (float(q) for q in np.quantile(shares_AR.mean(0), (0.025, 0.975)))
    values = {
        f"photo.{name}": Value(
            value=mean,
            low=low,
            high=high,
            n=len(whole),
            protocol=WORLD,
            note=note or f"mean of {used_A.sum()} attributes, read by the oracle",
        ),
        f"photo.{name}.all_right": mean_value(
            whole, seed=seed, protocol=WORLD, note="all counted attributes of a photo at once"
        ),
    }
    for attribute, right_N, counted_N in zip(SCENE, right_NA.T, counted_NA.T, strict=True):
        if each and counted_N.any():
            chance = f"chance {100 / len(SCENE[attribute]):.1f}%"
            values[f"photo.{name}.{attribute}"] = mean_value(
                right_N[counted_N], seed=seed, protocol=WORLD, note=chance
            )
    return values


def _sheet(answers: Answers, *, title: str) -> Any:
    """The first photos from gold captions, each beside the model's own."""
    images, captions = [], []
    for number, answer in enumerate(answers.of("photo")[:24]):
        b, k = answer.place
        own = answer.said["caption"] or "(said without words)"
        images += [to_image(answers.made[kind][number]) for kind in ("painted", "photo")]
        captions += [f"gold: {answers.dialogues[b].turns[k].photos[0].caption}", f"own: {own}"]
    return contact_sheet(images, captions, columns=6, title=title)


def dropped_note(dropped: Mapping[str, int], max_tokens: int) -> str:
    """Which dialogues were read without their first turns, the longest cuts first."""
    most = sorted(dropped.items(), key=lambda item: -item[1])
    named = ", ".join(f"{name}: the first {count}" for name, count in most[:10])
    more = f" and {len(most) - 10} more" if len(most) > 10 else ""
    return (
        f"{len(most)} dialogues are longer than the model reads ({max_tokens} tokens), and their "
        f"oldest turns were dropped ({named}{more}); their last turn never is"
    )


def dev_measures(
    model: PhotoDialogueModel, dialogues: Sequence[Dialogue], *, seed: int = 0
) -> dict[str, float]:
    """``bleu2`` (psdg) of replies and ``fid`` of the model's own photos at gold moments, on these
    held-out dialogues of any data: the paper's early stopping.

    FID is in the features of the world's second encoder, which reads photos of 64 pixels: the
    oracle has no part in any training.
    """
    read = described(model, dialogues)
    measured = {"bleu2": 0.0}
    if places := text_places(dialogues, seed=seed):
        said = write_texts(
            Decoder(model, decoding=likeliest(model)),
            [read[b].turns[:k] for b, k in places],
            seed=seed,
        )
        texts = [dialogues[b].turns[k].text for b, k in places]
        measured["bleu2"] = text_scores(said, texts, protocol="psdg").bleu[1]
    gold = photos_at(dialogues, photo_places(dialogues))
    places = [
        place
        for place, photo in zip(photo_places(dialogues), gold, strict=True)
        if has_pixels(photo)
    ]
    if model.painter is not None and len(places) > 1:
        own = own_photos(
            Responder(Decoder(model)), [read[b].turns[:k] for b, k in places], seed=seed
        )
        assert own.pixels_N3HW is not None
        real = _small(photo_image(photo) for photo in photos_at(dialogues, places))
        both = (real, _small(map(to_image, own.pixels_N3HW)))
        encode = shipped_reader("encoder").features
        measured["fid"] = frechet_distance(*(features_of(photos, encode) for photos in both))
    return measured


def _small(images: Any) -> Tensor:
    return torch.stack([to_pixels(square(image, 64)) for image in images])
