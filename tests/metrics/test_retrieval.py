"""Ranks, R@k, MRR, and the macro-F1 of decisions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score

from showtell.errors import DataError
from showtell.metrics.retrieval import (
    K1,
    B,
    bm25_scores,
    coin_macro_f1,
    macro_f1,
    macro_f1_value,
    ranks,
    recall_at,
    retrieval_values,
    terms_of,
)


def test_ranks_count_what_stands_before_the_gold_candidate():
    scores = [[0.1, 0.9, 0.5], [0.1, 0.9, 0.5], [1, 1, 1]]
    assert ranks(scores, [1, 0, 0]).tolist() == [1, 3, 3]  # a tie is no merit
    assert recall_at([1, 3, 6], 1) == pytest.approx(1 / 3)
    assert recall_at([1, 3, 6], 5) == pytest.approx(2 / 3)


def test_ranks_do_not_depend_on_the_candidates_order():
    rng = np.random.default_rng(0)
    scores, gold = rng.permutation(200).reshape(10, 20), rng.integers(20, size=10)
    slow = [sorted(row)[::-1].index(row[g]) + 1 for row, g in zip(scores, gold, strict=True)]
    assert ranks(scores, gold).tolist() == slow
    order = rng.permutation(20)
    assert ranks(scores[:, order], np.argsort(order)[gold]).tolist() == slow


def test_terms_are_words_of_any_script_in_the_singular():
    assert terms_of("Two berries, GLASSES; 3 dogs' café") == [
        "two",
        "berry",
        "glass",
        "3",
        "dog",
        "café",
    ]
    assert terms_of("bus gas") == ["bus", "gas"]


def test_bm25_is_its_formula_and_each_word_of_a_query_counts_once():
    candidates = ["a dog and a dog", "a cat", "the sea", ""]
    lengths = [5, 2, 2, 0]

    def weight(term: str, c: int) -> float:
        words = candidates[c].split()
        n = sum(term in text.split() for text in candidates)
        idf = math.log(1 + (4 - n + 0.5) / (n + 0.5))
        norm = K1 * (1 - B + B * lengths[c] / (sum(lengths) / 4))
        tf = words.count(term)
        return idf * tf * (K1 + 1) / (tf + norm)

    found = bm25_scores(["Dogs! A dog, dogs.", "whatever"], candidates)
    wanted = [sum(weight(term, c) for term in ("dog", "a")) for c in range(4)]
    np.testing.assert_allclose(found, [wanted, [0.0] * 4])


def test_retrieval_values_hold_their_intervals():
    values = retrieval_values([1, 2, 7, 30] * 10, seed=0)
    assert {name: value.value for name, value in values.items()} == pytest.approx(
        {
            "retrieval.r1": 1 / 4,
            "retrieval.r5": 1 / 2,
            "retrieval.r10": 3 / 4,
            "retrieval.mrr": (1 + 1 / 2 + 1 / 7 + 1 / 30) / 4,
        }
    )
    assert all(value.low < value.value < value.high for value in values.values())


@pytest.mark.parametrize(
    ("scores", "gold"),
    [([[1, 2]], [2]), ([[1, 2]], [-1]), ([[1, float("nan")]], [0]), ([1, 2], [0]), ([[1]], [0.0])],
)
def test_ranks_of_nonsense_are_refused(scores, gold):
    with pytest.raises(DataError):
        ranks(scores, gold)
    for bad in ([], [0], [1.5], [[1]]):
        with pytest.raises(DataError, match="1, 2, 3"):
            recall_at(bad, 1)


# ------------------------------------------------------------------------------------- decision


def test_macro_f1_is_scikit_learns():
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels, chosen = rng.random((2, 9)) < rng.random()
        want = f1_score(labels, chosen, labels=[False, True], average="macro", zero_division=0.0)
        assert macro_f1(labels, chosen) == pytest.approx(want)
        words = rng.choice(["gen", "ret", "same"], (2, 30))
        assert macro_f1(*words) == pytest.approx(f1_score(*words, average="macro"))


def test_votes_on_one_prompt_are_drawn_together():
    """Each label four times over is no more to know: the interval is that of one."""
    labels, chosen = np.random.default_rng(3).random((2, 80)) < 0.4
    once = macro_f1_value(labels, chosen, seed=0)
    groups = np.repeat(np.arange(80), 4)
    fourfold = macro_f1_value(labels.repeat(4), chosen.repeat(4), seed=0, groups_N=groups)
    assert fourfold.n == 320
    assert (fourfold.value, fourfold.low, fourfold.high) == pytest.approx(
        (once.value, once.low, once.high)
    )
    apart = macro_f1_value(labels.repeat(4), chosen.repeat(4), seed=0)
    assert apart.high - apart.low < 0.7 * (once.high - once.low)


def test_a_coin_of_the_prior_gets_about_a_half_and_always_is_no_coin():
    labels = np.arange(311) < 110
    coin = coin_macro_f1(labels, share=209 / 600, seed=0, draws=2000)
    # in expectation each class's F1 is near 2 p q / (p + q), p its share of labels, q of choices
    p, q = 110 / 311, 209 / 600
    want = (2 * p * q / (p + q) + 2 * (1 - p) * (1 - q) / (2 - p - q)) / 2
    assert coin.value == pytest.approx(want, abs=0.005)
    assert coin.low < coin.value < coin.high
    never = coin_macro_f1(labels, share=0.0, seed=0, draws=10)
    assert never.low == never.high == pytest.approx(macro_f1(labels, [False] * 311))


@pytest.mark.parametrize(("labels", "said"), [([True, False, True], [True, False]), ([], [])])
def test_decisions_for_other_cases_are_refused(labels, said):
    with pytest.raises(DataError, match=f"{len(said)} decisions for {len(labels)} labels"):
        macro_f1(labels, said)
