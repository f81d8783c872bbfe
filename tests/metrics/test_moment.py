from __future__ import annotations

import numpy as np
import pytest

from showtell.dialogue import Photo, Turn
from showtell.errors import DataError
from showtell.metrics.moment import (
    at_threshold,
    average_precision,
    best_threshold,
    brier,
    calibration_error,
    keyword_score,
    moment_values,
    tagged_text,
    tfidf_moment_scores,
)


def draw(seed: int, count: int = 500, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.beta(0.6, 3.0, count)
    labels = (rng.random(count) < scores).astype(int)
    return labels, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_measures_agree_with_scikit_learn(seed, ties):
    metrics = pytest.importorskip("sklearn.metrics")
    labels, scores = draw(seed, ties=ties)
    assert average_precision(labels, scores) == pytest.approx(
        metrics.average_precision_score(labels, scores)
    )
    found = at_threshold(labels, scores, 0.3)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, scores >= 0.3, average="binary"
    )
    assert (found.precision, found.recall, found.f1) == pytest.approx((precision, recall, f1))
    assert brier(labels, scores) == pytest.approx(metrics.brier_score_loss(labels, scores))
    best = best_threshold(labels, scores)
    assert best == at_threshold(labels, scores, best.threshold)
    assert all(at_threshold(labels, scores, t).f1 <= best.f1 for t in np.linspace(0, 1, 201))


def test_equal_scores_are_one_step():
    assert average_precision([1, 0, 0, 0], [0.5] * 4) == pytest.approx(0.25)
    assert average_precision([0, 0, 0, 1], [0.5] * 4) == pytest.approx(0.25)


def test_calibrated_scores_have_little_calibration_error_and_squared_ones_more():
    labels, scores = draw(2, 20_000)
    assert calibration_error(labels, scores) < 0.01
    assert calibration_error(labels, scores**2) > 0.05
    assert calibration_error([1, 0], [1.0, 0.0]) == 0
    # two bins of two: |1/2 - 0.02| and |1 - 0.98|, weighed alike
    assert calibration_error([1, 0, 1, 1], [0.01, 0.03, 0.99, 0.97]) == pytest.approx(0.25)


def test_values_repeat_with_the_seed_and_hold_the_measures_in_their_intervals():
    labels, scores = draw(3, 2000)
    groups = np.arange(2000) // 8
    values = moment_values(labels, scores, threshold=0.3, seed=0, groups_N=groups)
    assert values == moment_values(labels, scores, threshold=0.3, seed=0, groups_N=groups)
    assert values["moment.f1"].value == at_threshold(labels, scores, 0.3).f1
    assert values["moment.auprc"].value == average_precision(labels, scores)
    assert values["moment.ece"].higher_is_better is False
    for name in ("f1", "precision", "recall", "auprc", "brier", "prevalence"):
        value = values[f"moment.{name}"]
        assert value.low < value.value < value.high, name


def test_positions_that_only_repeat_each_other_do_not_narrow_the_interval():
    labels, scores = draw(4, 300)
    once = moment_values(labels, scores, threshold=0.3, seed=0, groups_N=np.arange(300))
    copies = moment_values(
        np.repeat(labels, 10),
        np.repeat(scores, 10),
        threshold=0.3,
        seed=0,
        groups_N=np.repeat(np.arange(300), 10),
    )
    for name in ("moment.f1", "moment.auprc", "moment.ece"):
        assert copies[name].low == pytest.approx(once[name].low)
        assert copies[name].high == pytest.approx(once[name].high)


@pytest.mark.parametrize(
    ("labels", "scores", "says"),
    [
        ([0, 1], [0.5], "one score for each label"),
        ([], [], "at least one"),
        ([0, 1], [0.5, float("nan")], "probabilities"),
        ([0, 1], [0.5, 1.5], "probabilities"),
        ([0, 2], [0.5, 0.5], "0 and 1"),
        ([0, 0], [0.5, 0.5], "no position is positive"),
    ],
)
def test_input_that_has_no_answer_is_refused(labels, scores, says):
    with pytest.raises(DataError, match=says):
        average_precision(labels, scores)


def says(speaker: str, *elements: str | Photo) -> Turn:
    return Turn(speaker=speaker, elements=elements)


def test_the_keyword_rule_listens_to_the_last_two_turns():
    ask, talk = says("user", "Can I see a picture?"), says("agent", "It was sunny.")
    assert keyword_score([talk, ask]) == 1
    assert keyword_score([ask, talk]) == 0.5
    assert keyword_score([ask, talk, talk]) == 0
    assert keyword_score([talk]) == 0


def test_a_tagged_text_tells_where_a_word_stood_but_never_who_spoke():
    turns = [says("user", "Hi!"), says("agent", "Look", Photo(id="1", caption="a dog"))]
    swapped = [says("agent", "Hi!"), says("user", "Look", Photo(id="1", caption="a dog"))]
    assert tagged_text(turns) == tagged_text(swapped)
    assert "0same_look" in tagged_text(turns) and "1other_hi" in tagged_text(turns)
    assert {"dog", "photo"} <= set(tagged_text(turns).split())


def test_tfidf_learns_which_words_come_before_a_share():
    texts = ["do you have a picture", "we went to bed", "show me a picture", "the bed is old"] * 5
    scores = tfidf_moment_scores(texts, [1, 0, 1, 0] * 5, ["a picture please", "an old bed"])
    assert scores[0] > 0.5 > scores[1]
