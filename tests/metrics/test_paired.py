"""Pairing by dialogue: each kind of measure is its own definition, and the test is a test."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from showtell.errors import DataError
from showtell.metrics.fid import kernel_distance
from showtell.metrics.moment import at_threshold, average_precision, calibration_error
from showtell.metrics.paired import FEW, KINDS, Scores, difference, run_value, scores
from showtell.metrics.text import psdg_counts, text_scores

SAID = ["a red dog at the beach", "the cat", "look at that", "a blue duck in the park now"]
GOLD = ["a red dog on the beach", "the cat sleeps", "look", "a blue duck in a park"]


@pytest.fixture
def dice():
    return np.random.default_rng(0)


def values_of(seed: int, *, num: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=num)


def test_each_kind_is_the_measure_of_all_examples(dice):
    counts = psdg_counts(SAID, GOLD)
    for order in (1, 2):
        found = scores(f"bleu{order}", range(4), counts).value()
        assert found == pytest.approx(text_scores(SAID, GOLD, protocol="psdg").bleu[order - 1])
    labels, chances = dice.integers(2, size=60), dice.random(60)
    rows = np.stack([labels, chances], axis=1)
    assert scores("auprc", range(60), rows).value() == pytest.approx(
        average_precision(labels, chances)
    )
    assert scores("ece", range(60), rows).value() == pytest.approx(
        calibration_error(labels, chances)
    )
    twice = np.repeat(np.arange(60), 2)
    drawn = KINDS["ece"](rows, np.stack([np.full(60, 2.0), np.arange(60) % 2.0]))
    assert drawn == pytest.approx(
        [calibration_error(labels[kept], chances[kept]) for kept in (twice, np.arange(1, 60, 2))]
    )
    chosen = chances >= 0.4
    f1 = scores("ratio", range(60), np.stack([2 * (chosen & (labels > 0)), chosen + labels], 1))
    assert f1.value() == pytest.approx(at_threshold(labels, chances, 0.4).f1)
    perplexity = scores("perplexity", range(2), [(3.0, 2), (5.0, 6)]).value()
    assert perplexity == pytest.approx(np.exp(8 / 8))
    # two attributes: 1 of 2 and 1 of 1, each of which counts the same
    macro = scores("macro", range(2), [(1, 1, 1, 1), (0, 0, 1, 0)]).value()
    assert macro == pytest.approx(0.75)


def test_kid_is_that_of_the_whole_sets(dice):
    real, painted = dice.normal(size=(40, 8)), dice.normal(size=(40, 8)) + 0.5
    whole = kernel_distance(torch.from_numpy(real), torch.from_numpy(painted), seed=0)
    found = scores("kid", range(40), np.concatenate([real, painted], axis=1)).value()
    assert found == pytest.approx(whole.value, rel=1e-4)


def test_draws_of_pairs_that_are_alike_lie_about_the_kid_of_all(dice):
    real = dice.normal(size=(60, 8))
    rows = np.concatenate([real, real + 0.05 * dice.normal(size=(60, 8))], axis=1)
    counts = dice.multinomial(60, np.full(60, 1 / 60), size=400).astype(float)
    whole, draws = KINDS["kid"](rows, np.ones((1, 60)))[0], KINDS["kid"](rows, counts)
    # a draw that counts a pair's own likeness as often as it met itself lies below, every time
    assert abs(draws.mean() - whole) < draws.std() / 2


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_drawing_a_dialogue_twice_is_having_its_examples_twice(kind, dice):
    if kind == "kid":
        pytest.skip("a photo drawn twice is not compared with itself")
    width = {"mean": 1, "ratio": 2, "perplexity": 2, "auprc": 2}.get(kind, 10)
    rows = dice.random((12, width)) * 0.9
    rows[:, 0] = dice.permutation([0, 1] * 6)  # labels, where the kind has them
    counts = dice.integers(1, 4, size=12)
    drawn = KINDS[kind](rows, counts[None].astype(float))[0]
    repeated = KINDS[kind](np.repeat(rows, counts, axis=0), np.ones((1, counts.sum())))[0]
    assert drawn == pytest.approx(repeated)


def test_a_system_does_not_differ_from_itself():
    one = scores("mean", range(200), values_of(1))
    found = difference([one], [one], seed=0)
    assert found.value == found.low == found.high == found.detectable == 0
    assert found.p == 1


def test_what_is_hard_for_both_falls_out_of_the_difference():
    hard, own, other = values_of(1) * 10, values_of(2), values_of(3)
    ours, theirs = (scores("mean", range(200), hard + x) for x in (own + 0.5, other))
    paired = difference([ours], [theirs], seed=0)
    assert paired.low < 0.5 < paired.high and paired.p < 0.01
    turned = difference([theirs], [ours], seed=0)  # ours less theirs: swapping turns it round
    assert (turned.low, turned.p) == (pytest.approx(-paired.high), paired.p)
    spread = run_value([ours], seed=0)
    assert spread.high - spread.low > 4 * (paired.high - paired.low)
    # for means the bootstrap's spread is the textbook's
    error = (own - other).std() / np.sqrt(200)
    assert paired.detectable == pytest.approx(2.8016 * error, rel=0.1)


def test_small_p_is_as_rare_as_it_says_where_nothing_differs():
    found = [
        difference(
            [scores("mean", range(40), values_of(2 * k, num=40))],
            [scores("mean", range(40), values_of(2 * k + 1, num=40))],
            seed=k,
        ).p
        for k in range(200)
    ]
    assert 0.01 < np.mean(np.array(found) < 0.05) < 0.1


def test_a_difference_of_the_detectable_size_is_found_in_four_of_five():
    rng = np.random.default_rng(0)
    hits = []
    for k in range(150):
        noise = rng.normal(size=80)
        ours = scores("mean", range(80), noise + 2.8016 / np.sqrt(80))
        hits.append(difference([ours], [scores("mean", range(80), np.zeros(80))], seed=k).p < 0.05)
    assert 0.7 < np.mean(hits) < 0.9


def test_examples_of_one_dialogue_are_drawn_together():
    values = np.repeat(values_of(1, num=20), 10)  # ten examples that say the same
    apart = run_value([scores("mean", range(200), values)], seed=0)
    together = run_value([scores("mean", np.repeat(range(20), 10), values)], seed=0)
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_runs_of_a_system_are_averaged_and_leave_less_to_chance():
    theirs = scores("mean", range(200), np.zeros(200))
    runs = [scores("mean", range(200), values_of(k)) for k in (1, 2, 3)]
    one, three = difference(runs[:1], [theirs], seed=0), difference(runs, [theirs], seed=0)
    assert three.value == pytest.approx(np.mean([run.value() for run in runs]))
    assert three.detectable < one.detectable


def test_other_dialogues_broken_rows_and_too_few_are_met():
    one, other = scores("mean", range(20), np.ones(20)), scores("mean", range(1, 21), np.ones(20))
    with pytest.raises(DataError, match="Evaluate both on the same data"):
        difference([one], [other], seed=0)
    with pytest.raises(DataError, match="NaN"):
        scores("mean", [0], [float("nan")])
    with pytest.raises(DataError, match="at least one row"):
        Scores(kind="mean", dialogue_N=np.zeros(0, int), rows_NS=np.zeros((0, 1)))
    few = scores("mean", range(FEW - 1), np.ones(FEW - 1))
    assert difference([few], [few], seed=0) is None
    assert run_value([few], seed=0).low is None
