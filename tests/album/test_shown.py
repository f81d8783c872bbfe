"""Whether photos show all that is asked for, and what a cut-off promises."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from showtell.album.find import CUT_OFF, Finder, conformal
from showtell.album.index import Album, AlbumPhoto
from showtell.album.shown import LEAST, UNKNOWN, Terms, terms_of
from word_vectors import word_vectors

NAMES = ("dog", "dogs", "two", "beach", "bridge", "two dogs", "under bridge", "under", "on bridge")
PHOTOS = ({"dog", "beach"}, {"dogs", "two", "two dogs", "bridge", "under", "under bridge"})
texts = partial(word_vectors, width=32)


@pytest.fixture
def terms():
    """Each photo is a direction of its own; what it shows is as sure as on any that show it."""
    chances = torch.tensor([[0.9 if name in own else 1e-6 for name in NAMES] for own in PHOTOS])
    return Terms(
        names=NAMES,
        rows_VE=chances.logit().mT,
        bias_V=torch.zeros(len(NAMES)),
        top_V=torch.full((len(NAMES),), 0.9).log(),
        texts=texts,
    )


def shown(terms, text, **of):
    return terms.shown(text, torch.eye(2), with_term=lambda term: of.get(term, [])).tolist()


def test_terms_are_words_and_two_in_a_row_less_articles():
    assert terms_of("Two dogs under the bridge") == [
        *("two", "dogs", "under", "bridge"),
        *("two dogs", "dogs under", "under bridge"),
    ]


def test_a_photo_shows_all_that_is_asked_for_or_less(terms):
    assert shown(terms, "a photo of two dogs under the bridge") == pytest.approx([LEAST, 0.0])
    assert shown(terms, "the dog at the beach") == pytest.approx([0.0, LEAST])
    first, second = shown(terms, "two dogs on the bridge")  # one thing of five is not there
    assert first < second == pytest.approx(LEAST / 5) and shown(terms, "send it to me") == [0.0] * 2


def test_a_word_that_no_caption_had_is_read_by_its_neighbours_or_not_at_all(terms):
    assert shown(terms, "a giraffe") == [UNKNOWN] * 2
    near = replace(terms, texts=lambda given: texts([t.replace("pup", "dog") for t in given]))
    assert shown(near, "a pup") == pytest.approx(shown(near, "a dog"), abs=0.1)


def test_what_a_caption_says_is_shown(terms):
    assert shown(terms, "a giraffe", giraffe=[1]) == [UNKNOWN, 0.0]
    photos = [AlbumPhoto(id="a", source="luna_01.jpg"), AlbumPhoto(id="b", caption="two giraffes")]
    album = Album(photos, torch.eye(2, 32))
    rows_VE = torch.cat([terms.rows_VE, torch.zeros(len(NAMES), 30)], dim=1)
    wide = replace(terms, rows_VE=rows_VE)
    finder = Finder(album, texts, terms=wide, cut_off=-99.0)
    assert finder.find("luna", top_k=1)[0].photo.id == "a"
    assert finder.find("two giraffes", top_k=1)[0].photo.id == "b"
    assert (
        Finder(album, texts).cut_off == CUT_OFF
        and Finder(album, texts).evidence(["a"]).shown_NM is None
    )


def test_a_conformal_cut_off_is_passed_as_seldom_as_it_says():
    rng = torch.Generator().manual_seed(0)
    for wrong, count in ((0.1, 50), (0.25, 30)):
        passed = []
        for _ in range(2000):
            *best, new = torch.randn(count + 1, generator=rng).tolist()
            passed.append(new >= conformal(best, wrong=wrong))
        assert sum(passed) / len(passed) <= wrong + 0.02
    assert conformal([1.0, 2.0], wrong=0.1) == math.inf
    cut_off = conformal([1.0] * 20, wrong=0.1)
    assert 1.0 < cut_off < 1.0001  # equal scores do not pass
