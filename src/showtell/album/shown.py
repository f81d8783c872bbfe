"""Whether photos show all that is asked for, term by term.

    shows(t, p) = log P(t | p) - log top(t)         0: as sure as on photos that show it
    shown(q, p) = mean of shows over the terms of q

A term is a word, or two in a row less articles: "two dogs under the bridge" has two, dogs, bridge,
two dogs, under bridge. P(t | p), the chance that a caption of photo p has the term, is learnt from
captioned photos (recipes/album_heads.py): sigma(p . rows_t + bias_t); top(t) is what it has on
photos that show it, on average. A photo whose own caption or name has the term shows it. A word
that no caption had is read as those that mean nearly the same. So one thing that is not there
counts, where cosines see how much is alike. Letters: M photos, E width, V terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.album.ingest import Texts
from showtell.album.told import asked, plain_words, words_of

# chosen on albums of the photo world's dev and of Flickr8k's train (experiments/which_photo.py)
LEAST = -8.0  # of a term
UNKNOWN = -1.0  # of a word that nothing is known of
NEAR, SHARP, NUM_NEAR = 0.6, 0.03, 5  # words are near from this cosine on; how sharply they differ
NAMES_NOTHING = words_of(
    """
    he him she they them we us that those more another other else again once next first last new
    hi hey hello ok okay yes yeah no not thanks thank so very really much oh wow well then sure too
    now today here there how when why all any anything something thing kind sort let love chance
    could d ll m re s snap take took taken am be been just if don t won
    """
)


WithTerm = Callable[[str], Any]  # where the photos stand that have a term: integers


def terms_of(text: str) -> list[str]:
    """Its words, in order, and after them the words in a row; articles left out."""
    words = plain_words(text)
    return words + [f"{a} {b}" for a, b in zip(words, words[1:], strict=False)]


def names_something(term: str) -> bool:
    return bool(words_of(term) - NAMES_NOTHING)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The terms of captions, and how photos show them: ``rows_VE``, ``bias_V``, and the logarithm
    ``top_V``. ``texts``: a sentence encoder, for words that are not among them."""

    names: Sequence[str]
    rows_VE: Tensor
    bias_V: Tensor
    top_V: Tensor
    texts: Texts

    def shown(self, text: str, photos_ME: Tensor, *, with_term: WithTerm) -> Tensor:
        """(M,), 0 where all that the text names is shown, less where it is not. ``with_term``: the
        photos whose captions or names have one."""
        columns = []
        for term in dict.fromkeys(terms_of(asked(text))):
            last = term.rpartition(" ")[2]
            if not names_something(last):
                continue
            if (shows_M := self._shows(term, photos_ME)) is None:
                continue
            shows_M[with_term(term)] = 0.0
            columns.append(shows_M)
        if not columns:
            return photos_ME.new_zeros(len(photos_ME))
        return torch.stack(columns).mean(0)

    def _shows(self, term: str, photos_ME: Tensor) -> Tensor | None:
        """(M,); None of two words that are not known in a row."""
        if (v := self._numbers.get(term)) is not None:
            near_N, weights_N = torch.tensor([v]), torch.ones(1)
        elif " " in term:
            return None
        else:
            cosines_N = F.normalize(self.texts([term]).float().cpu(), dim=1)[0] @ self._words_NE.mT
            best, found_N = cosines_N.topk(min(NUM_NEAR, len(cosines_N)))
            if best[0] < NEAR:
                return photos_ME.new_full((len(photos_ME),), UNKNOWN)
            near_N, weights_N = self._words_N[found_N], (best / SHARP).softmax(0)
        logits_MN = photos_ME @ self.rows_VE[near_N].mT + self.bias_V[near_N]
        ratio_M = (F.logsigmoid(logits_MN) - self.top_V[near_N]).exp() @ weights_N
        return ratio_M.log().clamp(min=LEAST, max=0.0)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: v for v, name in enumerate(self.names)}

    @cached_property
    def _words_N(self) -> Tensor:
        """The terms of one word that name something."""
        named = [v for name, v in self._numbers.items() if " " not in name and words_of(name)]
        return torch.tensor(named)

    @cached_property
    def _words_NE(self) -> Tensor:
        names = [self.names[v] for v in self._words_N.tolist()]
        return F.normalize(self.texts(names).float().cpu(), dim=1)
