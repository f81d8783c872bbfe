"""Cosines, and MM-Relevance in both published definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from showtell.errors import DataError
from showtell.metrics.similarity import (
    clip_i,
    clip_t,
    cosines,
    minigpt5_relevance,
    mmdialog_relevance,
    relevance,
    sentence_similarity,
)


class Photo:
    """A photo that stands at an angle."""

    def __init__(self, degrees):
        self.degrees = degrees


def at(degrees):
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]


def texts(some):
    """A text is the angle that it says."""
    return torch.tensor([at(float(text)) for text in some])


def photos(some):
    return torch.tensor([at(photo.degrees) for photo in some]) * 3  # length must not matter


def cos(degrees):
    return math.cos(math.radians(degrees))


def test_cosines_are_cosines():
    found = cosines(
        torch.tensor([[1.0, 0], [3, 4], [0, 0]]), torch.tensor([[0.0, 2], [6, 8], [1, 1]])
    )
    assert found.tolist() == pytest.approx([0, 1, 0])
    with pytest.raises(DataError, match="shapes"):
        cosines(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(DataError, match="NaN"):
        cosines(torch.full((1, 2), float("nan")), torch.ones(1, 2))


def test_clip_scores_are_plain_cosines():
    assert sentence_similarity(["0", "10"], ["60", "10"], encoder=texts).tolist() == pytest.approx(
        [0.5, 1]
    )
    assert clip_i([Photo(0)], [Photo(180)], encoder=photos).tolist() == pytest.approx([-1])
    found = clip_t([Photo(90)], ["30"], photo_encoder=photos, text_encoder=texts)
    assert found.tolist() == pytest.approx([0.5])


def mmdialog(said, wanted):
    return mmdialog_relevance(said, wanted, text_encoder=texts, photo_encoder=photos)


def minigpt5(said, wanted):
    return minigpt5_relevance(said, wanted, text_encoder=texts, photo_encoder=photos)


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
    assert found.f1 == pytest.approx(slow_minigpt5(said, wanted))
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


def test_f1_is_twice_the_sum_over_both_counts():
    found = relevance(1.7, num_said=3, num_wanted=5)
    assert found.f1 == pytest.approx(2 * 1.7 / 8)
    assert found.precision == pytest.approx(1.7 / 3) and found.recall == pytest.approx(1.7 / 5)
