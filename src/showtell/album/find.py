"""Photos of an album by words: one score of all that is known of a photo, with a cut-off.

    score = max(look, told) + LESSER min(look, told) + exact - usual
    exact = NAMED named^4, or, where the encoder has learnt terms, SHOWN shown

look    cosine of the query's vector and the photo's
told    cosine of the query's vector and that of the photo's caption and the words in its names;
        of a photo without such words, its look
named   share of the query's words that caption, file, folders and day have, the rare ones first
shown   whether the photo shows all that is asked for (shown.py)
usual   what half of all EVERYDAY phrases reach with the photo that suits them best

The cosines are counted in standard deviations over what EVERYDAY phrases have with this album. So a
score means the same whatever encoder made the vectors and however many photos there are: how much
better than by chance the best photo suits the words. Letters: N queries, M photos, E width, K
phrases.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.album.index import Album, Hit
from showtell.album.ingest import Embed, Texts
from showtell.album.shown import Terms
from showtell.album.told import asked, words_of
from showtell.errors import DataError, UsageError

# chosen on albums of Flickr8k's train and of COCO (docs/metrics.md)
LESSER, NAMED, SHOWN = 0.01, 6.0, 16.0  # the lesser parts photos of one name
CUT_OFF = 1.0
BLOCK = 16_384  # photos at once, where many phrases are asked


def conformal(best: Sequence[float], *, wrong: float) -> float:
    """The cut-off that a request without a photo passes with a chance of at most ``wrong``.

    ``best``: the best scores of n requests that no photo answers, on other albums. The guarantee
    (split conformal): if the next such request and its album are exchangeable with these, then
    P(its best score reaches the cut-off) <= wrong, on average over all n + 1 of them. It says
    nothing of one album, nor of albums or requests of another kind. Infinite for n + 1 < 1/wrong.
    """
    rank = math.ceil((len(best) + 1) * (1 - wrong))
    return math.nextafter(sorted(best)[rank - 1], math.inf) if rank <= len(best) else math.inf


@dataclass(frozen=True, kw_only=True)
class AlbumEncoder:
    """What makes an album's vectors: N ``texts`` and n ``photos`` -> (N, E), (n, E), one space;
    where it has learnt that, the ``terms`` that photos show, and its own cut-off."""

    name: str
    width: int
    texts: Texts
    photos: Embed
    terms: Terms | None = None
    cut_off: float = CUT_OFF


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What speaks for each photo, (N, M); ``score_NM`` is that of the formula."""

    cosine_NM: Tensor
    look_NM: Tensor
    told_NM: Tensor
    named_NM: Tensor
    shown_NM: Tensor | None = None
    usual: float = 0.0

    @property
    def score_NM(self) -> Tensor:
        better_NM = torch.maximum(self.look_NM, self.told_NM)
        lesser_NM = torch.minimum(self.look_NM, self.told_NM)
        shown_NM, named_NM = self.shown_NM, self.named_NM
        exact_NM = NAMED * named_NM**4 if shown_NM is None else SHOWN * shown_NM
        return better_NM + LESSER * lesser_NM + exact_NM - self.usual


class Finder:
    """An album, ready to be asked in words. ``texts``, ``terms`` and the cut-off must be those of
    the album's encoder. An album that another process has changed is read again."""

    def __init__(
        self, album: Album, texts: Texts, *, terms: Terms | None = None, cut_off: float = CUT_OFF
    ) -> None:
        self.texts, self.terms, self.cut_off = texts, terms, cut_off
        self._one = threading.Lock()
        everyday = files(__package__).joinpath("everyday.txt").read_text(encoding="utf-8")
        self.phrases = everyday.splitlines()
        self.everyday_KE = self._encoded(self.phrases)
        self._asked = _Asked(album, self.everyday_KE, self.phrases)

    @property
    def album(self) -> Album:
        return self._asked.album

    def over(self, album: Album) -> Finder:
        """The same of another album of its encoder."""
        other = copy.copy(self)
        other._asked = _Asked(album, self.everyday_KE, self.phrases)
        return other

    def refresh(self) -> None:
        """Know of photos that have come or gone since. Raises DataError as ``Album.load``."""
        if (album := self.album.fresh()) is not self.album:
            self._asked = _Asked(album, self.everyday_KE, self.phrases)

    def find(
        self,
        text: str,
        *,
        top_k: int,
        cut_off: float | None = None,
        without: Collection[str] = (),
    ) -> list[Hit]:
        """At most ``top_k`` photos, best first, none below the cut-off (or another one).

        Equal scores keep the album's order; ``without``: ids that are not wanted. Raises UsageError
        for a text without a word.
        """
        if not asked(text).strip("?!., "):
            raise UsageError(f'"{text}" asks for nothing; wanted words, as "a dog at the beach"')
        if top_k < 1:
            raise DataError(f"{top_k} photos were asked for, wanted at least 1. Ask for more.")
        self.refresh()
        now = self._asked  # another thread may bring another
        if not now.album.photos:
            return []
        scores_M = self._evidence(now, [text]).score_NM[0].numpy()
        least = self.cut_off if cut_off is None else cut_off
        return now.album.best(scores_M, top_k=top_k, cut_off=least, without=without)

    def evidence(self, texts: Sequence[str]) -> Evidence:
        """Of an album of at least one photo."""
        return self._evidence(self._asked, texts)

    def _evidence(self, now: _Asked, texts: Sequence[str]) -> Evidence:
        query_NE = self._encoded([asked(text) for text in texts])
        found = now.evidence(query_NE, now.named(texts), slice(None))
        if self.terms is None:
            return found
        photos_ME, listed = now.album.embeddings_ME, now.album.listed
        shown = [self.terms.shown(t, photos_ME, with_term=listed.with_term) for t in texts]
        return replace(found, shown_NM=torch.stack(shown))

    def _encoded(self, texts: Sequence[str]) -> Tensor:
        with self._one:  # tokenizers are of one thread
            return F.normalize(self.texts(texts).float().cpu(), dim=1)


class _Asked:
    """An album, and what everyday phrases have with it."""

    def __init__(self, album: Album, everyday_KE: Tensor, phrases: Sequence[str]) -> None:
        self.album = album
        self.has_M = torch.from_numpy(album.vectors_MTE[:, 1].any(axis=1))
        blocks = [slice(m, m + BLOCK) for m in range(0, len(album), BLOCK)]
        # of cosines with photos, and with words: how many, their sum, that of their squares
        sums_2x3 = np.zeros((2, 3))
        for block in blocks:
            cosines_TKM = self._cosines(everyday_KE, block).double().numpy()
            told_KM = cosines_TKM[1][:, self.has_M[block].numpy()]
            for sums_3, rows_KM in zip(sums_2x3, (cosines_TKM[0], told_KM), strict=True):
                sums_3 += rows_KM.size, rows_KM.sum(), np.square(rows_KM).sum()
        count_2, sum_2, squares_2 = sums_2x3.T
        mean_2 = sum_2 / count_2.clip(min=1)
        variance_2 = (squares_2 - count_2 * mean_2**2) / (count_2 - 1).clip(min=1)
        self.mean_2 = torch.from_numpy(mean_2).float()
        self.deviation_2 = torch.from_numpy(np.sqrt(variance_2.clip(min=0))).float().clamp(min=1e-6)
        self.usual = 0.0
        if blocks:
            named_KM = self.named(phrases)
            scores = (self.evidence(everyday_KE, named_KM, block).score_NM for block in blocks)
            best_KB = torch.stack([score_KM.amax(1) for score_KM in scores], dim=1)
            self.usual = float(best_KB.amax(1).median())

    def evidence(self, query_NE: Tensor, named_NM: Tensor, block: slice) -> Evidence:
        """Of the photos of a block, without what they show."""
        cosines_TNM, has_M = self._cosines(query_NE, block), self.has_M[block]
        counted_TNM = (cosines_TNM - self.mean_2[:, None, None]) / self.deviation_2[:, None, None]
        look_NM, told_NM = counted_TNM
        return Evidence(
            cosine_NM=cosines_TNM[0],
            look_NM=look_NM,
            told_NM=torch.where(has_M, told_NM, look_NM),
            named_NM=named_NM[:, block],
            usual=self.usual,
        )

    def _cosines(self, query_NE: Tensor, block: slice) -> Tensor:
        """(2, N, M): with the photos, and with their words."""
        rows_MTE = self.album.vectors_MTE[block]
        rows_RE = rows_MTE.reshape(-1, rows_MTE.shape[2])  # numpy's product is twice as fast
        cosines_MTN = (rows_RE @ query_NE.numpy().T).reshape(*rows_MTE.shape[:2], len(query_NE))
        return torch.from_numpy(np.ascontiguousarray(cosines_MTN.transpose(1, 2, 0)))

    def named(self, texts: Sequence[str]) -> Tensor:
        """(N, M): the share of the texts' words that each photo has, the rare ones first."""
        named_NM = np.zeros((len(texts), len(self.album)), dtype=np.float32)
        for named_M, text in zip(named_NM, texts, strict=True):
            rare = 0.0
            for word in sorted(words_of(text)):
                having = self.album.listed.with_word(word)
                weight = math.log1p(len(self.album) / (1 + len(having)))
                named_M[having] += weight
                rare += weight
            named_M /= rare or 1.0
        return torch.from_numpy(named_NM)
