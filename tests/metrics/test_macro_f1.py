"""Macro-F1 of retrieve-or-generate against scikit-learn, and what a coin gets."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from showtell.errors import DataError
from showtell.metrics.decision import coin_macro_f1, macro_f1, macro_f1_value


def test_macro_f1_is_scikit_learns():
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels, chosen = rng.random((2, 9)) < rng.random()
        want = f1_score(labels, chosen, labels=[False, True], average="macro", zero_division=0.0)
        assert macro_f1(labels, chosen) == pytest.approx(want)


def test_macro_f1_by_hand():
    # retrieve: 1 right of 2 said, 3 there are; generate: 2 right of 4 said, 3 there are
    labels = [True, True, True, False, False, False]
    chosen = [True, False, False, True, False, False]
    assert macro_f1(labels, chosen) == pytest.approx((2 / 5 + 4 / 7) / 2)
    assert macro_f1(labels, labels) == 1.0
    # always "generate" on GILL's 311 test prompts, of which 201 are to generate
    always = macro_f1([False] * 201 + [True] * 110, [False] * 311)
    assert always == pytest.approx(2 * 201 / (201 + 311) / 2)


def test_macro_f1_does_not_know_the_names_of_the_classes():
    rng = np.random.default_rng(1)
    labels, chosen = rng.random((2, 50)) < 0.3
    assert macro_f1(labels, chosen) == pytest.approx(macro_f1(~labels, ~chosen))


def test_the_interval_holds_the_value_and_narrows_with_more_prompts():
    rng = np.random.default_rng(2)
    widths = []
    for count in (50, 5000):
        labels = rng.random(count) < 0.35
        chosen = np.where(rng.random(count) < 0.8, labels, ~labels)
        value = macro_f1_value(labels, chosen, seed=0)
        assert value.low < value.value < value.high and value.n == count
        assert value == macro_f1_value(labels, chosen, seed=0)
        widths.append(value.high - value.low)
    assert widths[1] < widths[0] / 5


def test_votes_on_one_prompt_are_drawn_together():
    """Each label four times over is no more to know: the interval is that of one."""
    rng = np.random.default_rng(3)
    labels, chosen = rng.random((2, 80)) < 0.4
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


def test_choices_for_other_prompts_are_refused():
    with pytest.raises(DataError, match="2 choices for 3 labels"):
        macro_f1([True, False, True], [True, False])
    with pytest.raises(DataError, match="0 choices for 0 labels"):
        macro_f1([], [])
