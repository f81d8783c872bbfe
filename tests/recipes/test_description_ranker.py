"""BM25 against a slow transcription of its formula; words of any script."""

from __future__ import annotations

import math

import numpy as np
import pytest

from showtell.recipes.description_ranker import bm25_scores, pieces_of, words_of

CANDIDATES = [["cake", "plate"], ["dog"], ["cake", "cake", "dog", "tree", "sky"]]


def slow(query, candidate, *, k1=1.2, b=0.75):
    mean = sum(map(len, CANDIDATES)) / len(CANDIDATES)
    total = 0.0
    for term in query:
        n = sum(term in other for other in CANDIDATES)
        idf = math.log(1 + (len(CANDIDATES) - n + 0.5) / (n + 0.5))
        tf = candidate.count(term)
        total += idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(candidate) / mean))
    return total


def test_scores_are_the_formulas_and_unknown_terms_count_for_nothing():
    queries = [["cake", "dog", "cake"], ["nothing"]]
    found = bm25_scores(queries, CANDIDATES, terms_once=False)
    wanted = [[slow(query, candidate) for candidate in CANDIDATES] for query in queries]
    assert found == pytest.approx(np.array(wanted), rel=1e-5)


def test_terms_once_do_not_hear_repetition():
    once = bm25_scores([["cake", "dog"], ["cake", "cake", "dog"]], CANDIDATES, terms_once=True)
    assert (once[0] == once[1]).all()


def test_a_rare_term_and_a_short_text_score_higher():
    scores = bm25_scores([["dog"], ["plate"]], CANDIDATES, terms_once=True)
    assert scores[0, 1] > scores[0, 2] > scores[0, 0] == 0  # of two with it, the shorter
    assert scores[1, 0] > scores[0, 2]


def test_words_lose_plural_endings_and_pieces_join_compounds():
    assert words_of("Cakes, puppies & GLASSES; a bus's") == [
        "cake",
        "puppy",
        "glass",
        "a",
        "bus",
        "s",
    ]
    assert set(pieces_of("pancake")) & set(pieces_of("cakes")) == {"cak", "ake", "cake"}


def test_words_are_runs_of_letters_and_digits_of_any_script():
    assert words_of("Собака, на ПЛЯЖЕ! café jalapeño 42") == [
        *("собака", "на", "пляже", "café", "jalapeño", "42")
    ]
    assert words_of("cafe\u0301 \u0915\u0941\u0924\u094d\u0924\u093e a_b") == [
        *("café", "\u0915\u0941\u0924\u094d\u0924\u093e", "a", "b")
    ]
    texts = [words_of(text) for text in ("собака на пляже", "две кошки спят", "café")]
    scores = bm25_scores([texts[0], texts[1], texts[2]], texts, terms_once=True)
    assert (scores.argmax(1) == np.arange(3)).all() and (scores.max(1) > 0).all()


def test_texts_without_words_score_nothing():
    assert bm25_scores([["a"]], [[], []], terms_once=True).tolist() == [[0, 0]]
