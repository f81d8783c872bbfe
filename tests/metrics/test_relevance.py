"""Whole answers: texts before or beside photos, cosines, and MM-Relevance in both definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transcribed import slow_bleu

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


@given(st.text("abc .", min_size=2, max_size=30), st.text("abc .", min_size=2, max_size=30))
def test_minigpt5_bleu_is_on_characters(said, wanted):
    for order in (1, 2):
        slow = slow_bleu([said], [[wanted]], order, tokens=list)
        assert sentence_bleu(said, wanted, order) == pytest.approx(slow, abs=1e-9)
    # "cat" and "act" share all their letters and no word
    assert sentence_bleu("cat", "act", 1) == pytest.approx(1)
    assert sentence_bleu(["cat"], ["act"], 1) == 0


def test_minigpt5_takes_the_text_before_the_first_photo():
    assert text_before_photo([" Look ###", PHOTO, "after"]) == "Look"
    assert text_before_photo(["Look [IMG0][IMG1]", "more"]) == "Look"
    assert text_before_photo([PHOTO, "after"]) == ""
    assert text_before_photo(["?!..."]) == ""
    assert text_before_photo(["? !"]) == "? !"  # the space is no punctuation
    assert minigpt5_text(["hello"], [PHOTO]) is None
    assert minigpt5_text([PHOTO], ["hello"]) == {"bleu1": 0, "bleu2": 0, "rouge_l": 0}
    assert minigpt5_text(["hello"], ["hello"]) == pytest.approx(
        {"bleu1": 1, "bleu2": 1, "rouge_l": 1}, abs=1e-7
    )


def test_the_worked_example_of_mmdialog():
    said = ["one two", "i1", "three four", "i2", "i3"]
    wanted = ["j1", "one two", "three five", "j2", "six"]
    texts = aligned([e for e in said if e[0] != "i"], [e for e in wanted if e[0] != "j"])
    assert texts == [("one two", "one two"), ("three four", "three five"), (None, "six")]
    photos = aligned([e for e in said if e[0] == "i"], [e for e in wanted if e[0] == "j"])
    assert photos == [("i1", "j1"), ("i2", "j2")]  # the surplus i3 is ignored

    answer = ["one two", PHOTO, "three four", PHOTO, PHOTO]
    found = mmdialog_text(answer, [PHOTO, "one two", "three five", PHOTO, "six"])
    assert found["bleu1"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert found["bleu2"] == pytest.approx((1 + 0 + 0) / 3, abs=1e-9)
    assert found["rouge_l"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert mmdialog_text(answer, [PHOTO]) is None
    assert mmdialog_text([PHOTO], ["a"]) == {"bleu1": 0, "bleu2": 0, "rouge_l": 0}


# --------------------------------------------------------------------------------- MM-Relevance


class Photo:
    """A photo that stands at an angle."""

    def __init__(self, degrees):
        self.degrees = degrees


def at(degrees):
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]


def cos(degrees):
    return math.cos(math.radians(degrees))


ENCODERS = {  # a text is the angle that it says; the length of a vector must not matter
    "text_encoder": lambda some: torch.tensor([at(float(text)) for text in some]),
    "photo_encoder": lambda some: torch.tensor([at(photo.degrees) for photo in some]) * 3,
}


def mmdialog(said, wanted):
    return mmdialog_relevance(said, wanted, **ENCODERS)


def minigpt5(said, wanted):
    return minigpt5_relevance(said, wanted, **ENCODERS)


def test_cosines_are_plain_cosines():
    found = cosines(
        torch.tensor([[1.0, 0], [3, 4], [0, 0], [1, 0]]),
        torch.tensor([[0.0, 2], [6, 8], [1, 1], [-5, 0]]),
    )
    assert found.tolist() == pytest.approx([0, 1, 0, -1])
    with pytest.raises(DataError, match="shapes"):
        cosines(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(DataError, match="NaN"):
        cosines(torch.full((1, 2), float("nan")), torch.ones(1, 2))


def test_mmdialog_pairs_elements_from_the_left_whatever_they_are():
    # the release's own demonstration: text beside photo, photo beside text
    found = mmdialog(["0", Photo(20), "40"], [Photo(60), "20"])
    total = cos(60) + cos(0)
    assert found.precision == pytest.approx(total / 3)
    assert found.recall == pytest.approx(total / 2)
    assert found.f1 == pytest.approx(2 * total / 5)
    assert mmdialog([], ["0"]).f1 == 0 and mmdialog(["0"], []).f1 == 0


def slow_minigpt5(said, wanted):
    """Transcribed with the release's marks: -1 missing in the prediction, -2 in the reference."""
    marks = []
    for h, r in zip(said, wanted, strict=True):
        for kind in (str, Photo):
            one = next((e for e in h if isinstance(e, kind)), None)
            other = next((e for e in r if isinstance(e, kind)), None)
            if one is not None and other is not None:
                angles = [float(e) if kind is str else e.degrees for e in (one, other)]
                marks.append(cos(angles[0] - angles[1]))
            elif other is not None:
                marks.append(-1)
            elif one is not None:
                marks.append(-2)
    valid = [m for m in marks if m not in (-1, -2)]
    if not valid:
        return 0.0
    precision = sum(valid) / len([m for m in marks if m != -1])
    recall = sum(valid) / len([m for m in marks if m != -2])
    return 2 * precision * recall / (precision + recall)


def test_minigpt5_counts_what_is_missing_on_either_side_over_a_dialogue():
    said = [["10", Photo(5)], ["30"], [Photo(9)], []]
    wanted = [["20"], ["40", Photo(1)], [Photo(50)], ["7"]]
    found = minigpt5(said, wanted)
    total = cos(10) + cos(10) + cos(41)
    assert found.precision == pytest.approx(total / 4) and found.recall == pytest.approx(total / 5)
    assert minigpt5([["1"]], [[Photo(1)]]).f1 == 0


def test_the_two_definitions_differ_on_the_same_answer():
    said, wanted = ["0", Photo(90)], [Photo(90), "0"]
    assert mmdialog(said, wanted).f1 == pytest.approx(0, abs=1e-7)
    # the wanted text stands behind the photo and is not read: 1 of 2 said, 1 of 1 wanted
    assert minigpt5([said], [wanted]).f1 == pytest.approx(2 / 3)


angles = st.integers(-80, 80)
answers = st.lists(st.one_of(angles.map(str), angles.map(Photo)), max_size=4)
# a text before a photo, at most one of each kind of element that counts, and surplus photos
turns = st.tuples(st.lists(angles.map(str), max_size=1), st.lists(angles.map(Photo), max_size=2))
sides = turns.map(lambda turn: [*turn[0], *turn[1]])


@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=4))
def test_relevance_of_random_dialogues_equals_the_transcription(dialogue):
    said, wanted = [h for h, _ in dialogue], [r for _, r in dialogue]
    assert minigpt5(said, wanted).f1 == pytest.approx(slow_minigpt5(said, wanted), abs=1e-6)


@given(answers, answers)
def test_nothing_is_more_relevant_than_the_answer_itself(said, wanted):
    itself = mmdialog(wanted, wanted).f1
    assert itself == pytest.approx(1 if wanted else 0)
    other = mmdialog(said, wanted).f1
    assert other <= itself + 1e-6
    # swapping what is said and what is wanted swaps precision and recall, and leaves F1
    assert mmdialog(wanted, said).f1 == pytest.approx(other)
