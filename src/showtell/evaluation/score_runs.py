"""Answers of one run scored against the gold dialogues, example by example, so that two systems can
be paired (``metrics/paired.py``). No model of a system runs here.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from showtell.batch import to_image
from showtell.data.photos import load_photo, photo_image
from showtell.dialogue import Dialogue
from showtell.evaluation.answer import gold_answer
from showtell.evaluation.answered import Answers
from showtell.evaluation.measures import READ, SCENE, is_right, shipped_reader
from showtell.evaluation.world_answers import (
    drawn,
    photo_places,
    photos_at,
    seeing_places,
)
from showtell.metrics.encoders import ClipEncoder
from showtell.metrics.fid import InceptionScore, frechet_distance
from showtell.metrics.meteor import meteor, meteor_exact_stem
from showtell.metrics.paired import Scores, scores
from showtell.metrics.relevance import cosines, mmdialog_relevance
from showtell.metrics.rouge import rouge_l_f1
from showtell.metrics.text import psdg_counts

FEW_PHOTOS = 2000  # below it FID and IS are left out


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training seed of a system: measures with examples, and values without (FID, IS, costs).
    What nobody measured is absent."""

    scores: Mapping[str, Scores]
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Readers:
    """What reads photos and texts for measurement; none of them trained, ranked or filtered what
    it measures. ``wordnet`` None: METEOR without synonyms, under its own name; ``clip`` None:
    nothing of similarity and relevance."""

    oracle: Any = field(default_factory=lambda: shipped_reader("oracle"))
    encoder: Any = field(default_factory=lambda: shipped_reader("encoder"))
    clip: ClipEncoder | None = None
    wordnet: Any = None

    @torch.no_grad()
    def features(self, photos_N3HW: Tensor) -> dict[str, Tensor]:
        """Of both readers, by the ending of their measures' names."""
        return {
            ending: torch.cat([by.features(part).cpu() for part in photos_N3HW.split(128)]).double()
            for ending, by in (("", self.oracle), ("_encoder", self.encoder))
        }


class Gold:
    """The dialogues and what is true of them, read once for all systems. ``drawn_as``: the unit
    that intervals draw (the number of a dialogue, unless tasks of one story belong together)."""

    def __init__(
        self,
        dialogues: Sequence[Dialogue],
        readers: Readers,
        *,
        tasks_each: int = 1,
    ) -> None:
        self.dialogues, self.readers = dialogues, readers
        self.places = photo_places(dialogues)
        self.photos = photos_at(dialogues, self.places)
        self.drawn_as = [b // tasks_each for b, _ in self.places]
        self.seen = seeing_places(dialogues)

    @cached_property
    def pixels_N3HW(self) -> Tensor:
        return drawn(self.photos)

    @cached_property
    def clip_NE(self) -> Tensor:
        assert self.readers.clip is not None
        return self.readers.clip.photos([to_image(photo) for photo in self.pixels_N3HW])

    @cached_property
    def features_NF(self) -> dict[str, Tensor]:
        return self.readers.features(self.pixels_N3HW)


# ------------------------------------------------------------------------------- one run's scores


def run_of(answers: Answers, gold: Gold, costs: Mapping[str, float] | None = None) -> Run:
    """Every measure that these answers have examples of, and what they cost."""
    asked, readers = answers.of("moment"), gold.readers
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
        texts = [answer.wanted["elements"][0] for answer in said]
        of = [answer.place[0] for answer in said]
        found |= text_scores([answer.text for answer in said], texts, of=of, readers=readers)
        sums_B2 = np.stack([answers.facts["word_nll_B"], answers.facts["words_B"]], axis=1)
        found["text.word_perplexity"] = scores("perplexity", range(len(sums_B2)), sums_B2)
    if gold.seen:
        scenes = [photo.labels["scene"] for photo in gold.seen.values()]
        right = [is_right(t, s) for t, s in zip(answers.texts("seeing"), scenes, strict=True)]
        found["seeing.accuracy"] = scores("mean", [b for b, _ in gold.seen], right)
    values = {"cost.parameters": float(answers.facts["parameters"]), **(costs or {})}
    if (photos_N3HW := answers.pixels("photo")) is not None:
        found |= photo_scores(photos_N3HW, gold)
        values |= set_values(photos_N3HW, gold)
    if gold.places and all("rank" in answer.said for answer in answers.of("photo")):
        found |= rank_scores([answer.said["rank"] for answer in answers.of("photo")], gold)
    seconds = {
        "cost.answer": [a.said["seconds"] for a in answers.of("answer")],
        "cost.answer_with_photo": [a.said["seconds"] for a in answers.of("answer") if a.photos],
    }
    values |= {name: statistics.median(each) for name, each in seconds.items() if each}
    return Run(scores=found | _relevance(answers, gold), values=values)


def text_scores(
    said: Sequence[str], texts: Sequence[str], *, of: Sequence[int], readers: Readers
) -> dict[str, Scores]:
    """What texts score in the places of the gold ones; ``of`` numbers what is drawn."""
    counts = psdg_counts(said, texts)
    found = {
        "text.psdg.bleu1": scores("bleu1", of, counts),
        "text.psdg.bleu2": scores("bleu2", of, counts),
        "text.psdg.rouge_l": scores("mean", of, list(map(rouge_l_f1, said, texts))),
    }
    if (clip := readers.clip) is not None:
        similar = cosines(clip.texts(said), clip.texts(texts))
        found["text.similarity"] = scores("mean", of, similar)
    if readers.wordnet is None:
        found["text.meteor_exact_stem"] = scores("mean", of, meteor_exact_stem(said, texts))
    else:
        values = meteor(said, texts, wordnet=readers.wordnet)
        found["text.meteor"] = scores("mean", of, values)
    return found


def photo_scores(
    photos_N3HW: Tensor, gold: Gold, counted: Mapping[str, Sequence[Collection[str]]] | None = None
) -> dict[str, Scores]:
    """What photos in [0, 1] score in the places of the agent's gold photos. ``counted``: further
    measures, by the attributes that count for each photo."""
    of, readers = gold.drawn_as, gold.readers
    read = readers.oracle.read(photos_N3HW)
    determined = [photo.labels["determined"] for photo in gold.photos]
    every = {"photo.attribute_accuracy_in_dialogue": determined, **(counted or {})}
    found = {}
    for name, counts in every.items():
        if any(counts):
            found[name] = attribute_scores(read, gold, counts)
    for ending, features_NF in readers.features(photos_N3HW).items():
        both = torch.cat([gold.features_NF[ending], features_NF], dim=1)
        found[f"photo.kid{ending}"] = scores("kid", of, both.numpy())
    if (clip := readers.clip) is not None:
        clip_NE = clip.photos([to_image(photo) for photo in photos_N3HW])
        captions = clip.texts([photo.caption for photo in gold.photos])
        found["photo.clip_i"] = scores("mean", of, cosines(clip_NE, gold.clip_NE))
        found["photo.clip_t"] = scores("mean", of, cosines(clip_NE, captions))
    return found


def attribute_scores(
    read: Sequence[Mapping[str, str]], gold: Gold, counts: Sequence[Collection[str]]
) -> Scores:
    """The share of attributes that are right, of those that count for each photo: the mean over
    attributes. ``read`` is what was found in the photos."""
    rows = []
    for found, photo, names in zip(read, gold.photos, counts, strict=True):
        counted = [name in names for name in SCENE]
        right = [found[name] == photo.labels["scene"][name] for name in SCENE]
        rows.append([*np.logical_and(right, counted), *counted])
    return scores("macro", gold.drawn_as, rows)


def rank_scores(found: Sequence[int], gold: Gold) -> dict[str, Scores]:
    """``retrieval.*`` of the ranks of gold photos."""
    rank_N = np.asarray(found)
    rows = {f"r{k}": rank_N <= k for k in (1, 5, 10)} | {"mrr": 1 / rank_N}
    return {f"retrieval.{k}": scores("mean", gold.drawn_as, values) for k, values in rows.items()}


def _relevance(answers: Answers, gold: Gold) -> dict[str, Scores]:
    """MM-Relevance of each whole answer, as 2211.05719 aligns it."""
    if (clip := gold.readers.clip) is None or not answers.of("answer"):
        return {}
    values = []
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
    return {"relevance.f1": scores("mean", [a.place[0] for a in answers.of("answer")], values)}


def set_values(photos_N3HW: Tensor, gold: Gold) -> dict[str, float]:
    """FID and IS of photos in [0, 1]: no interval, and none of fewer than ``FEW_PHOTOS``."""
    if len(photos_N3HW) < FEW_PHOTOS:
        return {}
    found = {}
    for ending, reader in (("", gold.readers.oracle), ("_encoder", gold.readers.encoder)):
        found[f"photo.fid{ending}"] = frechet_distance(
            gold.pixels_N3HW, photos_N3HW, features=reader.features, num_features=READ
        )
        inception = InceptionScore(len(SCENE["subject"]))
        with torch.no_grad():
            for start in range(0, len(photos_N3HW), 128):
                logits = reader(photos_N3HW[start : start + 128])["subject"]
                inception.update(logits, first=start)
        found[f"photo.inception_score{ending}"] = inception.compute()[0]
    return found


def photo_run(
    photos_N3HW: Tensor, gold: Gold, counted: Mapping[str, Sequence[Collection[str]]] | None = None
) -> Run:
    """Photos alone as a run."""
    values = set_values(photos_N3HW, gold)
    return Run(scores=photo_scores(photos_N3HW, gold, counted), values=values)
