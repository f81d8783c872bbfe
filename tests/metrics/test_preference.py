"""Win, tie and loss, and how far raters agree."""

import random

import pytest

from showtell.metrics.intervals import wilson
from showtell.metrics.preference import CHOICES, Vote, preference_values


def votes_of(*rows, groups=None):
    """A row an item, a letter a rater: w, t or l."""
    names = {choice[0]: choice for choice in CHOICES}
    return [
        Vote(item=str(i), rater=str(r), choice=names[c], group=groups[i] if groups else str(i))
        for i, row in enumerate(rows)
        for r, c in enumerate(row)
        if c != "-"
    ]


def values_of(votes):
    return {
        k.removeprefix("x."): v for k, v in preference_values(votes, prefix="x", seed=0).items()
    }


def test_win_tie_and_loss_are_shares_of_all_votes():
    values = values_of(votes_of("ww", "wt", "ll", "wt"))
    assert [values[c].value for c in CHOICES] == [4 / 8, 2 / 8, 2 / 8]
    assert values["preferred"].value == 4 / 6 and values["preferred"].n == 6
    one = values_of(votes_of("w"))  # settles nothing
    assert one["preferred"].low < 0.5 and one["kappa"].value is None
    few = values_of(votes_of("ww", "lt", "w-"))  # one vote counts, and not for agreement
    assert few["win"].n == 5 and few["kappa"].n == few["agreement"].n == 2


def test_votes_on_one_item_or_in_one_dialogue_count_as_one_in_the_interval():
    one, many = (values_of(votes_of(*(c * n for c in "wwlt"))) for n in (1, 3))
    for choice in CHOICES:
        assert (one[choice].low, one[choice].high) == wilson(one[choice].value * 4, 4)
        assert (many[choice].low, many[choice].high) == (one[choice].low, one[choice].high)
    together = values_of(votes_of("w", "w", "l", "t", groups="aabb"))
    assert together["win"].low < one["win"].low


def fleiss_slowly(rows):
    """Fleiss 1971, pair by pair."""
    pairs, answers = [], []
    for row in rows:
        same = [a == b for i, a in enumerate(row) for j, b in enumerate(row) if i != j]
        pairs.append(sum(same) / len(same))
        answers += row
    expected = sum((answers.count(c) / len(answers)) ** 2 for c in set(answers))
    return (sum(pairs) / len(pairs) - expected) / (1 - expected)


def test_kappa_is_that_of_its_definition_with_any_number_of_votes_an_item():
    rng = random.Random(0)
    rows = [[rng.choice("wtl") for _ in range(rng.randint(2, 5))] for _ in range(30)]
    value = values_of(votes_of(*("".join(row) for row in rows)))["kappa"]
    assert value.value == pytest.approx(fleiss_slowly(rows))
    assert value.low < value.value < value.high


def test_full_agreement_is_one_and_chance_is_nothing():
    assert values_of(votes_of("ww", "ll", "tt"))["kappa"].value == pytest.approx(1)
    rng = random.Random(1)
    rows = ["".join(rng.choice("wtl") for _ in range(3)) for _ in range(2000)]
    assert abs(values_of(votes_of(*rows))["kappa"].value) < 0.04


def test_where_kappa_is_not_defined_it_is_absent_with_a_reason():
    same = values_of(votes_of("ww", "ww"))["kappa"]
    assert same.value is None and same.n == 0 and "the same" in same.note
    alone = values_of(votes_of("w-", "-l"))
    assert alone["kappa"].value is None and "two raters" in alone["agreement"].note
