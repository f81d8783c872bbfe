"""Forms: a dialogue of data as the examples of a paper."""

from __future__ import annotations

import dataclasses

import pytest

from conftest import dialogues_with_photos
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, USER, Photo, Turn
from showtell.errors import ConfigError, DataError
from showtell.papers.forms import form_named, newest_first, steps_of, swap_speakers


@pytest.fixture(scope="module")
def story(files):
    return next(iter(open_data(f"vist:{files['vist']}")))


def shape(dialogue):
    return [
        (turn.speaker, ["photo" if isinstance(e, Photo) else e for e in turn.elements])
        for turn in dialogue.turns
    ]


def test_a_photo_becomes_a_turn_of_its_own(story):
    (dialogue,) = form_named("dialogue")(story)
    assert all(len(turn.elements) == 1 for turn in dialogue.turns) and len(dialogue.turns) == 10
    again = form_named("dialogue")(dialogue)
    assert again == [dialogue]
    silent = dataclasses.replace(story, turns=(Turn(speaker=USER, elements=(" ", "hi", "")),))
    assert shape(form_named("dialogue")(silent)[0]) == [("user", ["hi"])]


def test_a_shared_photo_ends_an_example_and_all_before_it_is_in_it():
    dialogue = next(d for d in open_data("world:train") if sum(map(_shared, d.turns)) > 1)
    found = form_named("shares")(dialogue)
    assert len({each.id for each in found}) == len(found) == sum(map(_shared, dialogue.turns))
    for each in found:
        assert each.turns == dialogue.turns[: len(each.turns)] and _shared(each.turns[-1])
    silent = dataclasses.replace(dialogue, turns=dialogue.turns[:1])
    assert form_named("shares")(silent) == []


def _shared(turn) -> bool:
    return turn.speaker == AGENT and bool(turn.photos)


@pytest.mark.parametrize(
    ("context", "texts", "photos"),
    [("both", 5, 4), ("text", 5, 0), ("photos", 1, 4), ("none", 1, 0)],
)
def test_the_end_of_a_story_has_the_context_that_is_named(story, context, texts, photos):
    (end,) = form_named(f"story_end:{context}")(story)
    read, made = end.turns
    assert (read.speaker, made.speaker) == (USER, AGENT)
    assert sum(isinstance(e, str) for e in read.elements) == texts
    assert len(read.photos) == photos and read.elements[-1] == story.turns[-1].text
    assert made.photos == story.turns[-1].photos and not made.text
    (task,) = form_named(f"task_end:{context}")(story)
    assert len(task.turns[0].photos) == photos
    assert story.turns[-1].text in task.turns[0].elements[-1]
    # the words of the past, and no others, come and go with the context
    past = [turn.text for turn in story.turns[:-1]]
    assert [t for t in past if t in task.turns[0].elements] == (past if texts == 5 else [])


def test_visdial_keeps_its_last_rounds_and_ends_with_the_photo(files):
    dialogue = next(iter(open_data(f"visdial:{files['visdial']}")))
    for rounds, turns in ((1, 3), (5, 11), (10, 21)):
        (short,) = form_named(f"photo_last:{rounds}")(dialogue)
        assert len(short.turns) == turns and short.turns[-1].photos
        assert short.turns[0].text == dialogue.turns[1 + 2 * (10 - rounds)].text


def test_captions_go_both_ways(files):
    pairs = [
        d for s in open_data(f"folder:{files['folder']}") for d in form_named("caption_pairs")(s)
    ]
    told = [shape(pair) for pair in pairs[:2]]
    assert told[0] == [("user", ["photo"]), ("agent", ["A red thing ."])]
    assert told[1] == [("user", ["A red thing ."]), ("agent", ["photo"])]


def test_a_dialogue_that_is_no_story_is_refused(files):
    dialogue = next(iter(open_data(f"visdial:{files['visdial']}")))
    with pytest.raises(DataError, match="is no story"):
        form_named("story")(dialogue)
    for wrong in ("story_end", "story_end:some", "photo_last:x", "photo_last:0"):
        with pytest.raises(ConfigError):
            form_named(wrong)


def test_a_narration_is_what_writes_a_text_and_a_painting_what_its_caption_tells(story):
    told = form_named("narration")(story)
    texts = [step.text for step in steps_of(story)]
    assert [d.turns[1].text for d in told] == [t for t in texts[1:] for _ in range(2)]
    assert all(len(d.turns) == 2 for d in told)
    assert [bool(d.turns[0].photos[3:]) for d in told[-2:]] == [True, True]
    painted = form_named("painting", read=str.upper)(story)
    steps = steps_of(story)
    assert len(painted) == 10
    for number, dialogue in enumerate(painted):
        (photo,) = dialogue.photos
        until = steps[: 1 + number % 5]
        assert photo.id == until[-1].photo.id
        assert photo.caption == newest_first(until, earlier=bool(number % 2)).upper()
    assert newest_first(steps[:3], earlier=True) == ". ".join(texts[2::-1])


def test_speakers_are_exchanged_and_exchanged_back():
    (dialogue,) = dialogues_with_photos(1)
    other = swap_speakers(dialogue)
    assert all(a.speaker != b.speaker for a, b in zip(dialogue.turns, other.turns, strict=True))
    assert swap_speakers(other) == dialogue
