"""Which photo, by its description: the dialogue so far ranks descriptions of photos.

``bm25_scores`` (Robertson and Zaragoza 2009, section 3.4) is how well words of a query find a short
text:

    score(q, d) = sum over the terms t of q and d:  q_t idf(t) tf (k1 + 1) / (tf + K)
    K = k1 (1 - b + b |d| / mean |d|),   idf(t) = ln(1 + (N - n_t + 0.5) / (n_t + 0.5))

with tf how often t is in d, n_t in how many of the N texts it is. The 1 in the idf is Lucene's: a
term in most of the texts counts little instead of less than nothing. q_t is how often t is in q.

``DescriptionEncoder`` is learnt: dialogue and description each become one vector, the sum of their
words' vectors, each word with a learnt weight, in the dialogue also one for how far back it was
said and by whom. Both start from the same random vectors and the words' idf, so that before
training the cosine is lexical: only words in common count.

``DescriptionRanker`` adds BM25 of words and BM25 of pieces of words, which know names that no
training has seen: a weighted sum of three scores.

Letters: Q queries, C candidates, W words of all texts together, V vocabulary, E width, F fields.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from showtell.data.storage import write_atomically
from showtell.dialogue import Dialogue, Speaker, Turn
from showtell.errors import CheckpointError, DataError

K1, B = 1.2, 0.75
_ENDINGS = (("ies", "y"), ("sses", "ss"), ("es", "e"), ("s", ""))


@lru_cache(maxsize=4096)
def _in_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def _runs(text: str) -> list[str]:
    """Runs of letters and digits of any script, with their marks, in lower case."""
    text = unicodedata.normalize("NFC", text.lower())
    return "".join(c if _in_word(c) else " " for c in text).split()


def words_of(text: str) -> list[str]:
    """The words, in lower case, without the endings of plurals."""
    return [_singular(word) for word in _runs(text)]


def _singular(word: str) -> str:
    for ending, other in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return word if word.endswith("ss") else word[: -len(ending)] + other
    return word


def pieces_of(text: str) -> list[str]:
    """All runs of 3 to 5 letters of its words, whose ends are marked: "cakes" finds "pancake"."""
    return [
        word[start : start + size]
        for word in (f"<{word}>" for word in _runs(text))
        for size in (3, 4, 5)
        for start in range(len(word) - size + 1)
    ]


def bm25_scores(
    queries: Sequence[Sequence[str]], candidates: Sequence[Sequence[str]], *, terms_once: bool
) -> np.ndarray:
    """Scores (Q, C) of lists of terms; all candidates together are the collection.

    ``terms_once``: each term of a query counts once (k3 = 0), since a dialogue repeats its small
    words.
    """
    # not by bm25s: it sums thousands of pieces in another order, and their float32 sums differ
    # enough to change ranks
    place = {term: v for v, term in enumerate(dict.fromkeys(t for c in candidates for t in c))}
    counts = [Counter(candidate) for candidate in candidates]
    num_with = Counter(term for count in counts for term in count)
    lengths_C = np.array([len(candidate) for candidate in candidates], dtype=np.float64)
    norms_C = K1 * (1 - B + B * lengths_C / max(float(lengths_C.mean()), 1e-9))
    weights_CV = np.zeros((len(candidates), len(place)), dtype=np.float32)
    for row, count, norm in zip(weights_CV, counts, norms_C, strict=True):
        for term, tf in count.items():
            n = num_with[term]
            idf = np.log1p((len(candidates) - n + 0.5) / (n + 0.5))
            row[place[term]] = idf * tf * (K1 + 1) / (tf + norm)
    asked_QV = np.zeros((len(queries), len(place)), dtype=np.float32)
    for row, query in zip(asked_QV, queries, strict=True):
        for term, times in Counter(query).items():
            if term in place:
                row[place[term]] = 1 if terms_once else times
    return asked_QV @ weights_CV.T


DISTANCES = 8  # turns back; farther is as far
DESCRIPTION, WEIGHTS = "ranker.json", "encoder.safetensors"


@dataclass(frozen=True, kw_only=True)
class PhotoQuery:
    """The turns before a photo, and who shares it."""

    turns: tuple[Turn, ...]
    speaker: Speaker

    @property
    def text(self) -> str:
        return " ".join(turn.text for turn in self.turns)

    def fields(self) -> dict[str, int]:
        """The field of each word where it was said last: how far back, and by whom."""
        found: dict[str, int] = {}
        for back, turn in enumerate(reversed(self.turns)):
            own = turn.speaker == self.speaker
            for word in words_of(turn.text):
                found.setdefault(word, 2 * min(back, DISTANCES - 1) + own)
        return found


def photo_query(dialogue: Dialogue) -> PhotoQuery:
    """What was said before the dialogue's first photo, with what the share turn says before it.

    Raises DataError for a dialogue without a photo.
    """
    for k, turn in enumerate(dialogue.turns):
        if turn.photos:
            before = turn.elements[: turn.elements.index(turn.photos[0])]
            last = (Turn(speaker=turn.speaker, elements=before),) if before else ()
            return PhotoQuery(turns=dialogue.turns[:k] + last, speaker=turn.speaker)
    raise DataError(
        f'the dialogue "{dialogue.id}" shares no photo, so there is nothing to look for; wanted '
        "dialogues with a photo. Leave it out."
    )


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Queries, the descriptions of distinct photos, and which of these each query wants."""

    queries: list[PhotoQuery]
    descriptions: list[str]
    gold_Q: np.ndarray


def candidates_of(dialogues: Sequence[Dialogue]) -> Candidates:
    """The first photos of the dialogues; dialogues about one photo share a candidate."""
    photos = {d.photos[0].id: d.photos[0].caption for d in dialogues}
    place = {name: c for c, name in enumerate(photos)}
    return Candidates(
        queries=[photo_query(dialogue) for dialogue in dialogues],
        descriptions=list(photos.values()),
        gold_Q=np.array([place[d.photos[0].id] for d in dialogues]),
    )


@dataclass(frozen=True, kw_only=True)
class Bags:
    """Texts as bags of words: the ids of all words, one text after the other."""

    ids_W: Tensor
    fields_W: Tensor
    offsets: Tensor  # where each text begins

    @classmethod
    def of(cls, bags_2W: Sequence[Tensor]) -> Bags:
        """From the ids and fields of each text."""
        sizes = torch.tensor([0, *(bag_2W.shape[1] for bag_2W in bags_2W)])
        ids_W, fields_W = torch.cat(tuple(bags_2W), dim=1)
        return cls(ids_W=ids_W, fields_W=fields_W, offsets=sizes.cumsum(0)[:-1])

    def to(self, device: torch.device) -> Bags:
        """The same bags there."""
        return Bags(**{name: tensor.to(device) for name, tensor in vars(self).items()})


class DescriptionEncoder(nn.Module):
    """Two bags of words in one space of width E; ``forward`` gives scaled cosines."""

    def __init__(self, vocabulary: Sequence[str], idf_V: Tensor, *, width: int) -> None:
        super().__init__()
        self.vocabulary = tuple(vocabulary)
        self._ids = {word: v for v, word in enumerate(self.vocabulary)}
        start_VE = torch.randn(len(self.vocabulary), width) / math.sqrt(width)
        self.query_VE = nn.Parameter(start_VE.clone())
        self.description_VE = nn.Parameter(start_VE.clone())
        self.query_weight_V = nn.Parameter(idf_V.clamp(min=0.2).log())  # logarithms: above zero
        self.description_weight_V = nn.Parameter(idf_V.clamp(min=0.2).log())
        self.field_weight_F = nn.Parameter(torch.zeros(2 * DISTANCES))
        self.log_scale = nn.Parameter(torch.tensor(math.log(12.0)))

    def bag(self, text: PhotoQuery | str) -> Tensor:
        """Ids and fields, (2, W), of the words that the encoder knows; field 0 in a description."""
        fields = dict.fromkeys(words_of(text), 0) if isinstance(text, str) else text.fields()
        known = [(self._ids[word], field) for word, field in fields.items() if word in self._ids]
        return torch.tensor(known).long().reshape(-1, 2).T

    def forward(
        self,
        queries: Bags,
        descriptions: Bags,
        *,
        drop: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Logits (Q, C). ``drop`` leaves out this share of the words."""
        device = self.log_scale.device
        queries, descriptions = queries.to(device), descriptions.to(device)
        by_field_W = self.field_weight_F[queries.fields_W]
        asked_W = (self.query_weight_V[queries.ids_W] + by_field_W).exp()
        told_W = self.description_weight_V[descriptions.ids_W].exp()
        if drop:
            asked_W = asked_W * _kept(asked_W, drop, generator=generator)
            told_W = told_W * _kept(told_W, drop, generator=generator)
        query_QE = _embed(queries, self.query_VE, asked_W)
        description_CE = _embed(descriptions, self.description_VE, told_W)
        return self.log_scale.exp() * query_QE @ description_CE.T


def _kept(words_W: Tensor, drop: float, *, generator: torch.Generator | None) -> Tensor:
    """Which words stay, (W,) bool."""
    return (torch.rand(words_W.shape, generator=generator) >= drop).to(words_W.device)


def _embed(bags: Bags, table_VE: Tensor, weights_W: Tensor) -> Tensor:
    summed = F.embedding_bag(
        bags.ids_W, table_VE, bags.offsets, mode="sum", per_sample_weights=weights_W
    )
    return F.normalize(summed, dim=-1)


def vocabulary_of(
    texts: Iterable[Iterable[str]], *, least: int = 2
) -> tuple[tuple[str, ...], Tensor]:
    """The words of at least ``least`` texts, and ln(texts / texts with the word), (V,)."""
    counts: Counter[str] = Counter()
    number = 0
    for text in texts:
        counts.update(set(text))
        number += 1
    kept = sorted(word for word, count in counts.items() if count >= least)
    return tuple(kept), torch.tensor([math.log(number / counts[word]) for word in kept])


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """How much each score counts."""

    encoder: float
    words: float
    pieces: float


class DescriptionRanker:
    """Scores of descriptions for dialogues: encoder, BM25 of words, BM25 of pieces of words."""

    def __init__(self, encoder: DescriptionEncoder, mixture: Mixture) -> None:
        self.encoder = encoder
        self.mixture = mixture

    def parts(self, queries: Sequence[PhotoQuery], descriptions: Sequence[str]) -> np.ndarray:
        """The three scores, (3, Q, C), in the order of ``Mixture``."""
        with torch.no_grad():
            learnt_QC = self.encoder(
                Bags.of([self.encoder.bag(query) for query in queries]),
                Bags.of([self.encoder.bag(text) for text in descriptions]),
            )
        lexical = [
            bm25_scores(
                [terms(query.text) for query in queries],
                [terms(text) for text in descriptions],
                terms_once=True,
            )
            for terms in (words_of, pieces_of)
        ]
        return np.stack([learnt_QC.cpu().numpy(), *lexical])

    def scores(self, queries: Sequence[PhotoQuery], descriptions: Sequence[str]) -> np.ndarray:
        """(Q, C); descriptions that hold the same words have the same score."""
        weights = np.array(list(asdict(self.mixture).values()), dtype=np.float32)
        return np.tensordot(weights, self.parts(queries, descriptions), axes=1)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.detach().cpu() for name, value in self.encoder.named_parameters()}
        save_file(tensors, folder / WEIGHTS)
        described = {"mixture": asdict(self.mixture), "vocabulary": self.encoder.vocabulary}
        write_atomically(folder / DESCRIPTION, (json.dumps(described) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> DescriptionRanker:
        """Raises CheckpointError."""
        try:
            described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            tensors = load_file(folder / WEIGHTS)
            vocabulary = described["vocabulary"]
            width = tensors["query_VE"].shape[1]
            encoder = DescriptionEncoder(vocabulary, torch.ones(len(vocabulary)), width=width)
            encoder.load_state_dict(tensors)
            mixture = Mixture(**described["mixture"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f'the ranker in "{folder}" cannot be read ({type(error).__name__}: {error}); '
                f"wanted {DESCRIPTION} and {WEIGHTS}; train it with "
                '"showtell train photochat_retrieval"'
            ) from error
        return cls(encoder.eval(), mixture)
