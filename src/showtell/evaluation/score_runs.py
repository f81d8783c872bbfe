"""Answers of one run scored against the gold dialogues, example by example, so that two systems can
be paired (``metrics/paired.py``). No model of a system runs here.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from showtell.batch import to_image
from showtell.data.photos import load_photo, photo_image
from showtell.evaluation.answer import gold_answer
from showtell.evaluation.answered import Answers
from showtell.evaluation.world_gold import Gold, Readers, is_right, right_and_counted
from showtell.metrics.fid import PART, features_of, frechet_distance, inception_score
from showtell.metrics.meteor import meteor_exact_stem
from showtell.metrics.paired import Scores, scores
from showtell.metrics.relevance import cosines, mmdialog_relevance
from showtell.metrics.rouge import rouge_l_f1
from showtell.metrics.text import psdg_counts

FEW_PHOTOS = 2000  # below it FID and IS are left out
IN_DIALOGUE = "photo.attribute_accuracy_in_dialogue"
Counted = Mapping[str, Sequence[Collection[str]]]  # by measure, which attributes of each photo


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training seed of a system: measures with examples, and values without (FID, IS, costs).
    What nobody measured is absent."""

    scores: Mapping[str, Scores]
    values: Mapping[str, float] = field(default_factory=dict)


def run_of(answers: Answers, gold: Gold, costs: Mapping[str, float] | None = None) -> Run:
    """Every measure that these answers have examples of, and what they cost."""
    asked = answers.of("moment")
    of = [answer.place[0] for answer in asked]
    p_share_M = np.array([answer.said["p_share"] for answer in asked])
    shared_M = np.array([answer.wanted["share"] for answer in asked], dtype=bool)
    chosen_M = p_share_M >= answers.facts["threshold"]
    sums_M2 = np.stack([2 * (chosen_M & shared_M), chosen_M.astype(int) + shared_M], axis=1)
    found = {
        "moment.f1": scores("ratio", of, sums_M2),
        "moment.auprc": scores("auprc", of, np.stack([shared_M, p_share_M], axis=1)),
    }
    if said := answers.of("text"):
        of, texts = [answer.place[0] for answer in said], [answer.gold for answer in said]
        found |= text_scores([answer.text for answer in said], texts, of=of, readers=gold.readers)
        sums_B2 = np.stack([answers.facts["word_nll_B"], answers.facts["words_B"]], axis=1)
        found["text.word_perplexity"] = scores("perplexity", range(len(sums_B2)), sums_B2)
    if gold.seen:
        right = list(map(is_right, answers.texts("seeing"), gold.seen_scenes))
        found["seeing.accuracy"] = scores("mean", [b for b, _ in gold.seen], right)
    values = {"cost.parameters": float(answers.facts["parameters"]), **(costs or {})}
    if (photos_N3HW := answers.pixels("photo")) is not None:
        own = photo_run(photos_N3HW, gold)
        found, values = found | dict(own.scores), values | dict(own.values)
    found_at = [answer.said.get("rank") for answer in answers.of("photo")]
    if found_at and None not in found_at:
        found |= rank_scores(found_at, gold)
    whole = answers.of("answer")
    for name, some in (("", whole), ("_with_photo", [a for a in whole if a.photos])):
        if some:
            values[f"cost.answer{name}"] = statistics.median(a.said["seconds"] for a in some)
    if gold.readers.clip is not None and whole:
        found["relevance.f1"] = _relevance(answers, gold)
    return Run(scores=found, values=values)


def text_scores(
    said: Sequence[str], texts: Sequence[str], *, of: Sequence[int], readers: Readers
) -> dict[str, Scores]:
    """What texts score in the places of the gold ones; ``of`` numbers what is drawn."""
    counts = psdg_counts(said, texts)
    found = {
        "text.psdg.bleu1": scores("bleu1", of, counts),
        "text.psdg.bleu2": scores("bleu2", of, counts),
        "text.psdg.rouge_l": scores("mean", of, list(map(rouge_l_f1, said, texts))),
        "text.meteor_exact_stem": scores("mean", of, meteor_exact_stem(said, texts)),
    }
    if (clip := readers.clip) is not None:
        similar = cosines(clip.texts(said), clip.texts(texts))
        found["text.similarity"] = scores("mean", of, similar)
    return found


def photo_run(photos_N3HW: Tensor, gold: Gold, counted: Counted | None = None) -> Run:
    """Photos alone as a run."""
    return Run(
        scores=photo_scores(photos_N3HW, gold, counted), values=_set_values(photos_N3HW, gold)
    )


def photo_scores(
    photos_N3HW: Tensor, gold: Gold, counted: Counted | None = None
) -> dict[str, Scores]:
    """What photos in [0, 1] score in the places of the agent's gold photos. ``counted``: further
    measures, the mean over the attributes that count for each photo."""
    of, readers = gold.drawn_as, gold.readers
    read = readers.oracle.read(photos_N3HW)
    determined = [photo.labels["determined"] for photo in gold.photos]
    found = {}
    for name, counts in {IN_DIALOGUE: determined, **(counted or {})}.items():
        if any(counts):
            rows_N2A = np.concatenate(right_and_counted(read, gold.photos, counts), axis=1)
            found[name] = scores("macro", of, rows_N2A)
    for ending, features_NF in readers.features(photos_N3HW).items():
        both = torch.cat([gold.features_NF[ending], features_NF], dim=1)
        found[f"photo.kid{ending}"] = scores("kid", of, both.numpy())
    if (clip := readers.clip) is not None:
        clip_NE = clip.photos([to_image(photo) for photo in photos_N3HW])
        captions = clip.texts([photo.caption for photo in gold.photos])
        found["photo.clip_i"] = scores("mean", of, cosines(clip_NE, gold.clip_NE))
        found["photo.clip_t"] = scores("mean", of, cosines(clip_NE, captions))
    return found


def rank_scores(found: Sequence[Any], gold: Gold) -> dict[str, Scores]:
    """``retrieval.*`` of the ranks of gold photos."""
    rank_N = np.asarray(found)
    rows = {f"r{k}": rank_N <= k for k in (1, 5, 10)} | {"mrr": 1 / rank_N}
    return {f"retrieval.{k}": scores("mean", gold.drawn_as, values) for k, values in rows.items()}


def _relevance(answers: Answers, gold: Gold) -> Scores:
    """MM-Relevance of each whole answer, as 2211.05719 aligns it."""
    clip, values = gold.readers.clip, []
    assert clip is not None
    for answer in answers.of("answer"):
        b, k = answer.place
        said = [
            e if isinstance(e, str) else load_photo(answers.folder / e["photo"])
            for e in answer.said["elements"]
        ]
        wanted = [
            e if isinstance(e, str) else photo_image(e) for e in gold_answer(gold.dialogues[b], k)
        ]
        found = mmdialog_relevance(said, wanted, text_encoder=clip.texts, photo_encoder=clip.photos)
        values.append(found.f1)
    return scores("mean", [answer.place[0] for answer in answers.of("answer")], values)


@torch.no_grad()
def _set_values(photos_N3HW: Tensor, gold: Gold) -> dict[str, float]:
    """FID and IS of photos in [0, 1]: no interval, and none of fewer than ``FEW_PHOTOS``."""
    if len(photos_N3HW) < FEW_PHOTOS:
        return {}
    found = {}
    for ending, reader in (("", gold.readers.oracle), ("_encoder", gold.readers.encoder)):
        both = (features_of(photos, reader.features) for photos in (gold.pixels_N3HW, photos_N3HW))
        found[f"photo.fid{ending}"] = frechet_distance(*both)
        logits_NC = torch.cat([reader(part)["subject"] for part in photos_N3HW.split(PART)])
        found[f"photo.inception_score{ending}"] = inception_score(logits_NC)[0]
    return found
