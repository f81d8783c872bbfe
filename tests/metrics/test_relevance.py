"""Whole answers: texts before or beside photos, cosines, and MM-Relevance in both definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transcribed import slow_minigpt5

from showtell.errors import DataError
from showtell.metrics.relevance import (
    aligned,
    cosines,
    minigpt5_relevance,
    minigpt5_text,
    mmdialog_relevance,
    mmdialog_text,
    sentence_bleu,
    text_before_photo,
)

PHOTO = object()


def test_minigpt5_takes_the_text_before_the_first_photo_and_counts_characters():
    assert text_before_photo([" Look ###", PHOTO, "after"]) == "Look"
    assert text_before_photo(["Look [IMG0][IMG1]", "more"]) == "Look"
    assert text_before_photo([PHOTO, "after"]) == ""
    assert text_before_photo(["?!..."]) == ""
    assert text_before_photo(["? !"]) == "? !"  # the space is no punctuation
    assert minigpt5_text(["hello"], [PHOTO]) is None
    assert minigpt5_text([PHOTO], ["hello"]) == {"bleu1": 0, "bleu2": 0, "rouge_l": 0}
    # "cat" and "act" share all their letters and no word
    assert sentence_bleu("cat", "act", 1) == pytest.approx(1)
    assert sentence_bleu(["cat"], ["act"], 1) == 0


def test_the_worked_example_of_mmdialog():
    said = ["one two", "i1", "three four", "i2", "i3"]
    wanted = ["j1", "one two", "three five", "j2", "six"]
    texts = aligned([e for e in said if e[0] != "i"], [e for e in wanted if e[0] != "j"])
    assert texts == [("one two", "one two"), ("three four", "three five"), (None, "six")]
    photos = aligned([e for e in said if e[0] == "i"], [e for e in wanted if e[0] == "j"])
    assert photos == [("i1", "j1"), ("i2", "j2")]  # the surplus i3 is ignored

    answer = ["one two", PHOTO, "three four", PHOTO, PHOTO]
    found = mmdialog_text(answer, [PHOTO, "one two", "three five", PHOTO, "six"])
    assert found == pytest.approx({"bleu1": 1 / 2, "bleu2": 1 / 3, "rouge_l": 1 / 2})
    assert mmdialog_text(answer, [PHOTO]) is None
    assert mmdialog_text([PHOTO], ["a"]) == {"bleu1": 0, "bleu2": 0, "rouge_l": 0}


# --------------------------------------------------------------------------------- MM-Relevance


class Photo:
    """A photo that stands at an angle."""

    def __init__(self, degrees):
        self.degrees = degrees


def angle(element):
    return math.radians(float(element) if isinstance(element, str) else element.degrees)


def cosine(one, other):
    return math.cos(angle(one) - angle(other))


def encoded(some):
    """The length of a vector must not matter."""
    return torch.tensor([[math.cos(angle(x)), math.sin(angle(x))] for x in some]) * len(some)


ENCODERS = {"text_encoder": encoded, "photo_encoder": encoded}


def test_cosines_are_plain_cosines():
    one, other = [[1.0, 0], [3, 4], [0, 0], [1, 0]], [[0.0, 2], [6, 8], [1, 1], [-5, 0]]
    found = cosines(torch.tensor(one), torch.tensor(other))
    assert found.tolist() == pytest.approx([0, 1, 0, -1])
    with pytest.raises(DataError, match="shapes"):
        cosines(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(DataError, match="NaN"):
        cosines(torch.full((1, 2), float("nan")), torch.ones(1, 2))


def test_the_two_definitions_differ_on_the_same_answer():
    # the release's own demonstration: text beside photo, photo beside text
    found = mmdialog_relevance(["0", Photo(20), "40"], [Photo(60), "20"], **ENCODERS)
    total = cosine("0", "60") + cosine("20", "20")
    assert (found.precision, found.recall) == pytest.approx((total / 3, total / 2))
    assert found.f1 == pytest.approx(2 * total / 5)
    said, wanted = ["0", Photo(90)], [Photo(90), "0"]
    assert mmdialog_relevance(said, wanted, **ENCODERS).f1 == pytest.approx(0, abs=1e-7)
    # the wanted text stands behind the photo and is not read: 1 of 2 said, 1 of 1 wanted
    assert minigpt5_relevance([said], [wanted], **ENCODERS).f1 == pytest.approx(2 / 3)


angles = st.integers(-80, 80)
answers = st.lists(st.one_of(angles.map(str), angles.map(Photo)), max_size=4)
# (text, photo) of a turn, and a surplus photo
turns = st.tuples(st.none() | angles.map(str), st.none() | angles.map(Photo))


@given(st.lists(st.tuples(turns, turns), min_size=1, max_size=4))
def test_relevance_of_random_dialogues_equals_the_transcription(dialogue):
    sides = [
        [[e for e in turn if e is not None] for turn in side]
        for side in zip(*dialogue, strict=True)
    ]
    found = minigpt5_relevance(*sides, **ENCODERS)
    slow = slow_minigpt5(*zip(*dialogue, strict=True), cosine)
    assert (found.precision, found.recall, found.f1) == pytest.approx(slow, abs=1e-6)


@given(answers, answers)
def test_nothing_is_more_relevant_than_the_answer_itself(said, wanted):
    itself = mmdialog_relevance(wanted, wanted, **ENCODERS).f1
    assert itself == pytest.approx(1 if wanted else 0)
    other = mmdialog_relevance(said, wanted, **ENCODERS).f1
    assert other <= itself + 1e-6
    # swapping what is said and what is wanted swaps precision and recall, and leaves F1
    assert mmdialog_relevance(wanted, said, **ENCODERS).f1 == pytest.approx(other)
