"""experiments/photochat_ensemble.py: what is made of several judges."""

from __future__ import annotations

import numpy as np
import pytest
from photochat_ensemble import ensemble


def judges(count: int) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Labels, and judges of 4,000 held-out and 50 further positions who each see a part of what
    decides them; the first is far too sure of itself."""
    rng = np.random.default_rng(0)
    signs_NJ = rng.normal(size=(4050, count))
    labels_N = (rng.random(4000) < 1 / (1 + np.exp(2 - signs_NJ[:4000].sum(1)))).astype(int)
    log_odds_NJ = signs_NJ - 2
    log_odds_NJ[:, 0] *= 3
    chance_NJ = 1 / (1 + np.exp(-log_odds_NJ))
    return labels_N, [(chance_NJ[:4000, j], chance_NJ[4000:, j]) for j in range(count)]


def test_of_one_judge_the_ensemble_is_his_calibrated_chances():
    labels_N, (judge,) = judges(1)
    held_N, dev_M = ensemble([judge], labels_N)
    assert held_N.mean() == pytest.approx(labels_N.mean(), abs=1e-3)
    assert judge[0].mean() < 0.9 * labels_N.mean()  # which his own are not
    assert np.array_equal(np.argsort(dev_M), np.argsort(judge[1]))


def test_the_ensemble_is_the_mean_of_the_judges_log_odds():
    labels_N, three = judges(3)

    def log_odds(chance_N: np.ndarray) -> np.ndarray:
        return np.log(chance_N / (1 - chance_N))

    alone = [ensemble([judge], labels_N)[1] for judge in three]
    together = ensemble(three, labels_N)[1]
    np.testing.assert_allclose(log_odds(together), np.mean([log_odds(a) for a in alone], axis=0))
    np.testing.assert_allclose(ensemble(three[::-1], labels_N)[1], together)
