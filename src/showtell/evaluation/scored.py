"""One run's outputs scored against the gold dialogues, example by example, so that two systems can
be paired (``metrics/paired.py``). No model of a system runs here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from photoworld.oracle import NUM_FEATURES, AttributeReader
from photoworld.scenes import ATTRIBUTES
from photoworld.talk import world_dialogue
from showtell.batch import to_image, to_pixels
from showtell.data.photos import photo_image
from showtell.dialogue import AGENT, Dialogue
from showtell.errors import DataError
from showtell.evaluation.outputs import Outputs, gold_answer
from showtell.evaluation.world import comments, is_right, text_turns
from showtell.evaluation.world_photos import gold_photos, photo_orders
from showtell.metrics.encoders import ClipEncoder
from showtell.metrics.intervals import Value
from showtell.metrics.meteor import meteor, meteor_exact_stem
from showtell.metrics.paired import Scores, scores
from showtell.metrics.photos import InceptionScore, frechet_distance
from showtell.metrics.relevance import cosines, mmdialog_relevance
from showtell.metrics.rouge import rouge_l_f1
from showtell.metrics.text import psdg_counts

FEW_PHOTOS = 2000  # below it FID and IS are left out
OTHER_SEEDS = 150_000  # test dialogues whose photos stand for "other real photos"


@dataclass(frozen=True, kw_only=True)
class Instruments:
    """What reads photos and texts for measurement; none of them trained, ranked or filtered what
    it measures. ``wordnet`` None: METEOR without synonyms, under its own name; ``clip`` None:
    nothing of similarity and relevance."""

    oracle: AttributeReader
    encoder: AttributeReader
    clip: ClipEncoder | None
    wordnet: Any = None


class Gold:
    """The dialogues and what is true of them, read once for all systems."""

    def __init__(
        self,
        dialogues: Sequence[Dialogue],
        instruments: Instruments,
        *,
        seed: int,
        most_replies: int = 400,
    ) -> None:
        self.dialogues = dialogues
        self.instruments = instruments
        self.seed = seed
        self.orders = photo_orders(dialogues, seed=seed)
        self.comments = comments(dialogues)
        self.text_turns = text_turns(dialogues, seed=seed, most=most_replies)
        self.texts = [dialogues[n].turns[k].text for n, k in self.text_turns]
        self.photo_dialogues = [order.dialogue for order in self.orders]
        self.determined = _determined(dialogues)

    @cached_property
    def photos_N3HW(self) -> Tensor:
        return gold_photos(self.dialogues)

    @cached_property
    def clip_NE(self) -> Tensor:
        assert self.instruments.clip is not None
        return self.instruments.clip.photos(_images(self.photos_N3HW))

    @cached_property
    def features_NF(self) -> dict[str, Tensor]:
        return _features(self.instruments, self.photos_N3HW)


def _determined(dialogues: Sequence[Dialogue]) -> list[tuple[str, ...]]:
    return [
        tuple(turn.photos[0].labels["determined"])
        for dialogue in dialogues
        for turn in dialogue.turns
        if turn.speaker == AGENT and turn.photos
    ]


def _images(photos_N3HW: Tensor) -> list[Any]:
    return [to_image(photo) for photo in photos_N3HW]


@torch.no_grad()
def _features(instruments: Instruments, photos_N3HW: Tensor) -> dict[str, Tensor]:
    readers = {"": instruments.oracle, "_encoder": instruments.encoder}
    return {
        suffix: torch.cat([reader.features(part).cpu() for part in photos_N3HW.split(128)]).double()
        for suffix, reader in readers.items()
    }


def other_photos(count: int) -> Tensor:
    """``count`` of the agent's photos of other test dialogues: what real photos score."""
    found: list[Tensor] = []
    seed = OTHER_SEEDS
    while len(found) < count:
        turns = world_dialogue(seed).turns
        found += [
            to_pixels(photo_image(t.photos[0])) for t in turns if t.speaker == AGENT and t.photos
        ]
        seed += 1
    return torch.stack(found[:count])


# ----------------------------------------------------------------------- one run's scores


def run_scores(outputs: Outputs, gold: Gold) -> dict[str, Scores]:
    """Every measure that these outputs have examples of, example by example."""
    _check(outputs, gold)
    found = _word_scores(outputs, gold) if gold.texts else {}
    chosen_M = np.array(outputs.p_share_M) >= outputs.threshold
    shared_M = np.array(outputs.shared_M)
    sums_M2 = np.stack([2 * (chosen_M & shared_M), chosen_M.astype(int) + shared_M], axis=1)
    found["moment.f1"] = scores("ratio", outputs.moment_dialogue_M, sums_M2)
    found["moment.auprc"] = scores(
        "auprc", outputs.moment_dialogue_M, np.stack([shared_M, outputs.p_share_M], axis=1)
    )
    if gold.comments:
        found["seeing.accuracy"] = scores(
            "mean",
            [case.dialogue for case in gold.comments],
            [
                is_right(text, case.photo.labels["scene"])
                for text, case in zip(outputs.comments, gold.comments, strict=True)
            ],
        )
    if outputs.photos_N3HW is not None:
        found |= photo_scores(outputs.photos_N3HW.float() / 255, gold)
    if outputs.ranks is not None:
        rank_N = np.array(outputs.ranks)
        rows = {f"r{k}": rank_N <= k for k in (1, 5, 10)} | {"mrr": 1 / rank_N}
        for name, values in rows.items():
            found[f"retrieval.{name}"] = scores("mean", gold.photo_dialogues, values)
    return found | _relevance(outputs, gold)


def _check(outputs: Outputs, gold: Gold) -> None:
    same = (
        outputs.num_dialogues == len(gold.dialogues)
        and outputs.seed == gold.seed
        and len(outputs.replies) == len(gold.texts)
        and len(outputs.comments) == len(gold.comments)
        and len(outputs.captions) == len(gold.orders)
    )
    if not same:
        raise DataError(
            f"these are the outputs of {outputs.num_dialogues} dialogues ({outputs.data}, seed "
            f"{outputs.seed}), and {len(gold.dialogues)} are asked for (seed {gold.seed}); wanted "
            "the same. Evaluate the system again on this data."
        )


def _word_scores(outputs: Outputs, gold: Gold) -> dict[str, Scores]:
    of = [number for number, _ in gold.text_turns]
    perplexity = scores(
        "perplexity",
        range(len(gold.dialogues)),
        np.stack([outputs.word_nll_B, outputs.words_B], axis=1),
    )
    found = text_scores(outputs.replies, gold.texts, of=of, instruments=gold.instruments)
    return found | {"text.word_perplexity": perplexity}


def text_scores(
    said: Sequence[str], texts: Sequence[str], *, of: Sequence[int], instruments: Instruments
) -> dict[str, Scores]:
    """What texts score in the places of the gold ones; ``of`` numbers their dialogues."""
    counts = psdg_counts(said, texts)
    found = {
        "text.psdg.bleu1": scores("bleu1", of, counts),
        "text.psdg.bleu2": scores("bleu2", of, counts),
        "text.psdg.rouge_l": scores("mean", of, list(map(rouge_l_f1, said, texts))),
    }
    if (clip := instruments.clip) is not None:
        similar = cosines(clip.texts(said), clip.texts(texts))
        found["text.similarity"] = scores("mean", of, similar)
    if instruments.wordnet is None:
        found["text.meteor_exact_stem"] = scores("mean", of, meteor_exact_stem(said, texts))
    else:
        values = meteor(said, texts, wordnet=instruments.wordnet)
        found["text.meteor"] = scores("mean", of, values)
    return found


def photo_scores(photos_N3HW: Tensor, gold: Gold) -> dict[str, Scores]:
    """What photos in [0, 1] score in the places of the agent's gold photos."""
    of, instruments = gold.photo_dialogues, gold.instruments
    read = instruments.oracle.read(photos_N3HW)
    accuracy = attribute_scores(read, gold, gold.determined)
    result = {"photo.attribute_accuracy_in_dialogue": accuracy}
    for suffix, features_NF in _features(instruments, photos_N3HW).items():
        both = torch.cat([gold.features_NF[suffix], features_NF], dim=1)
        result[f"photo.kid{suffix}"] = scores("kid", of, both.numpy())
    if (clip := instruments.clip) is None:
        return result
    clip_NE = clip.photos(_images(photos_N3HW))
    captions = clip.texts([order.caption for order in gold.orders])
    result["photo.clip_i"] = scores("mean", of, cosines(clip_NE, gold.clip_NE))
    result["photo.clip_t"] = scores("mean", of, cosines(clip_NE, captions))
    return result


def attribute_scores(
    read: Sequence[Mapping[str, str]], gold: Gold, counts: Sequence[Collection[str]]
) -> Scores:
    """The share of attributes that are right, of those that count for each photo: the mean over
    attributes. ``read`` is what was found in the photos."""
    rows = []
    for found, order, names in zip(read, gold.orders, counts, strict=True):
        counted = [name in names for name in ATTRIBUTES]
        right = [found[name] == order.scene[name] for name in ATTRIBUTES]
        rows.append([*np.logical_and(right, counted), *counted])
    return scores("macro", gold.photo_dialogues, rows)


def _relevance(outputs: Outputs, gold: Gold) -> dict[str, Scores]:
    """MM-Relevance of each whole answer, as 2211.05719 aligns it."""
    clip, photos = gold.instruments.clip, outputs.answer_photos_N3HW
    if clip is None or not outputs.answers:
        return {}
    values = []
    for answer in outputs.answers:
        said = [
            e if isinstance(e, str) else to_image(photos[e].float() / 255)  # type: ignore[index]
            for e in answer.elements
        ]
        wanted = [
            e if isinstance(e, str) else photo_image(e)
            for e in gold_answer(gold.dialogues[answer.dialogue], answer.turn)
        ]
        found = mmdialog_relevance(said, wanted, text_encoder=clip.texts, photo_encoder=clip.photos)
        values.append(found.f1)
    return {"relevance.f1": scores("mean", [a.dialogue for a in outputs.answers], values)}


def set_values(photos_N3HW: Tensor, gold: Gold) -> dict[str, Value]:
    """FID and IS of photos in [0, 1]: no interval, and none of fewer than ``FEW_PHOTOS``."""
    if len(photos_N3HW) < FEW_PHOTOS:
        return {}
    found = {}
    readers = {"": gold.instruments.oracle, "_encoder": gold.instruments.encoder}
    for suffix, reader in readers.items():
        fid = frechet_distance(
            gold.photos_N3HW, photos_N3HW, features=reader.features, num_features=NUM_FEATURES
        )
        inception = InceptionScore(len(ATTRIBUTES["subject"]))
        with torch.no_grad():
            for start in range(0, len(photos_N3HW), 128):
                logits = reader(photos_N3HW[start : start + 128])["subject"]
                inception.update(logits, first=start)
        for name, value in (("fid", fid), ("inception_score", inception.compute()[0])):
            found[f"photo.{name}{suffix}"] = Value(
                value=value,
                low=None,
                high=None,
                n=len(photos_N3HW),
                higher_is_better=name != "fid",
                protocol="world",
                unit="",
            )
    return found
