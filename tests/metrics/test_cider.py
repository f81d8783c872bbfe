"""CIDEr-D against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from showtell.errors import DataError
from showtell.metrics.cider import cider_d


def test_a_caption_that_is_its_only_reference_scores_ten_and_a_foreign_one_nothing():
    references = [["a dog runs over the grass"], ["two men play cards here"]]
    assert cider_d(["a dog runs over the grass", "x y z w v"], references) == pytest.approx([10, 0])


def test_a_half_right_caption_is_what_the_definition_gives_by_hand():
    # Two images; "a" is in both, so ln 2 - ln 2 = 0; all else is in one and weighs ln 2.
    # n = 1: (dog, sits) against (dog, runs): one of two weights, 1/2. n = 2: (a dog, dog sits)
    # against (a dog, dog runs): 1/2. n = 3: nothing in common; n = 4: there is none.
    score = cider_d(["A dog sits.", "a cat"], [["a dog runs"], ["a cat"]])[0]
    assert score == pytest.approx(10 * (1 / 2 + 1 / 2) / 4)


def test_repeating_a_word_gains_nothing_and_length_costs():
    references = [["a b c d"], ["p q r s"]]
    once, twice = (cider_d([text, ""], references)[0] for text in ("b", "b b"))
    shorter = math.exp(-(3**2) / 72), math.exp(-(2**2) / 72)
    # n = 1 only; four words of one weight each: w w / (w * 2 w), and min(2 w, w) w / (2 w * 2 w)
    assert once == pytest.approx(10 * shorter[0] / 2 / 4)
    assert twice == pytest.approx(10 * shorter[1] / 4 / 4)


def test_several_references_are_averaged_and_their_order_does_not_matter():
    several = ["a dog runs", "one dog sits there", "some dog"]
    first, second = (
        cider_d(["a dog sits", "a cat"], [list(order), ["a cat here"]])
        for order in (several, several[::-1])
    )
    assert first == pytest.approx(second)


@pytest.mark.parametrize("references", [[], [["a"], ["b"]], [[]]])
def test_numbers_that_do_not_fit_are_a_clear_error(references):
    with pytest.raises(DataError, match="at least one reference an image"):
        cider_d(["a"], references)
