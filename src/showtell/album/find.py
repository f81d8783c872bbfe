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

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.album.index import Album, Hit
from showtell.album.ingest import Embed, Texts
from showtell.album.shown import Terms, terms_of
from showtell.album.told import asked, words_known, words_of
from showtell.errors import DataError, UsageError

# chosen on albums of Flickr8k's train and of COCO (docs/metrics.md)
LESSER, NAMED, SHOWN = 0.01, 6.0, 16.0  # the lesser parts photos of one name
CUT_OFF = 1.0


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
    the album's encoder."""

    def __init__(
        self, album: Album, texts: Texts, *, terms: Terms | None = None, cut_off: float = CUT_OFF
    ) -> None:
        self.album, self.texts, self.terms, self.cut_off = album, texts, terms, cut_off
        self.with_word: dict[str, list[int]] = {}
        self.with_term: dict[str, list[int]] = {}
        for m, photo in enumerate(album.photos):
            for word in words_known(photo):
                self.with_word.setdefault(word, []).append(m)
            for term in {*terms_of(photo.caption), *words_known(photo)} if terms else ():
                self.with_term.setdefault(term, []).append(m)
        everyday = files(__package__).joinpath("everyday.txt").read_text(encoding="utf-8")
        phrases = everyday.splitlines()
        self.everyday_KE = self._encoded(phrases)
        self.usual = 0.0
        if album.photos:
            of_usual = self._evidence(self.everyday_KE, phrases)
            self.usual = float(of_usual.score_NM.amax(1).median())

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
        if not self.album.photos:
            return []
        least = self.cut_off if cut_off is None else cut_off
        scores_M, order_M = self.evidence([text]).score_NM[0].sort(descending=True, stable=True)
        near = zip(order_M.tolist(), scores_M.tolist(), strict=True)
        found = (
            Hit(photo=self.album.photos[m], score=score)
            for m, score in near
            if score >= least and self.album.photos[m].id not in without
        )
        return list(islice(found, top_k))

    def evidence(self, texts: Sequence[str]) -> Evidence:
        """Of an album of at least one photo."""
        found = self._evidence(self._encoded([asked(text) for text in texts]), texts)
        if self.terms is None:
            return found
        photos_ME, with_term = self.album.embeddings_ME, self.with_term
        shown = [self.terms.shown(text, photos_ME, with_term=with_term) for text in texts]
        return replace(found, shown_NM=torch.stack(shown))

    def _evidence(self, query_NE: Tensor, texts: Sequence[str]) -> Evidence:
        photos_ME, told_ME = self.album.embeddings_ME, self.album.texts_ME
        cosine_NM = query_NE @ photos_ME.mT
        look_NM = self._counted(cosine_NM, photos_ME)
        told_NM = look_NM.clone()
        if len(has_M := told_ME.norm(dim=1).gt(0).nonzero()[:, 0]):
            told_NM[:, has_M] = self._counted(query_NE @ told_ME[has_M].mT, told_ME[has_M])
        named_NM = torch.stack([self._named(words_of(text)) for text in texts])
        return Evidence(
            cosine_NM=cosine_NM,
            look_NM=look_NM,
            told_NM=told_NM,
            named_NM=named_NM,
            usual=self.usual,
        )

    def _encoded(self, texts: Sequence[str]) -> Tensor:
        return F.normalize(self.texts(texts).float().cpu(), dim=1)

    def _counted(self, cosine_NM: Tensor, rows_ME: Tensor) -> Tensor:
        """In standard deviations above the mean of everyday phrases."""
        usual_KM = self.everyday_KE @ rows_ME.mT
        return (cosine_NM - usual_KM.mean()) / usual_KM.std().clamp(min=1e-6)

    def _named(self, words: Collection[str]) -> Tensor:
        named_M = torch.zeros(len(self.album))
        photos = {word: self.with_word.get(word, []) for word in sorted(words)}
        rare = {word: math.log1p(len(self.album) / (1 + len(photos[word]))) for word in photos}
        for word, having in photos.items():
            named_M[having] += rare[word]
        return named_M / (sum(rare.values()) or 1.0)
