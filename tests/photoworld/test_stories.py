"""Stories, rounds and long dialogues: labels that are true, sources that hold."""

from __future__ import annotations

import pytest

from photoworld import stories
from photoworld.long import FEWEST_TURNS, MOST_TURNS, long_dialogue
from photoworld.scenes import ATTRIBUTES, LOOKS, is_novel
from photoworld.stories import ROUNDS, SOURCES, STEPS, determined_in, determined_only_by
from photoworld.words import named_attributes
from showtell.dialogue import AGENT, USER, Dialogue, Photo
from showtell.papers.forms import steps_of

STORIES = [stories.world_story(seed) for seed in range(120)]
LONG = [long_dialogue(seed) for seed in range(60)]


def scene_of(photo: Photo) -> dict[str, str]:
    return {name: photo.labels["scene"][name] for name in ATTRIBUTES}


def names(text: str, attribute: str, value: str) -> bool:
    return value in named_attributes(text).get(attribute, ())


@pytest.mark.parametrize("make", [stories.world_story, stories.world_rounds, long_dialogue])
def test_captions_state_what_is_determined_and_nothing_is_shown_that_is_never_trained(make):
    assert make(7) == make(7) != make(8)
    for photo in (photo for seed in range(40) for photo in make(seed).photos):
        scene, labels = scene_of(photo), photo.labels
        assert set(labels["determined"]) <= {*labels["stated"]} | {"colour"}
        assert not is_novel(scene["subject"], scene["colour"], scene["place"])
        told = named_attributes(photo.caption)
        for name in labels["stated"]:
            assert told.get(name, {scene[name]}) == {scene[name]}


def test_a_story_is_five_texts_each_with_its_photo_and_all_roles_occur():
    roles = [role for story in STORIES for role in story.labels["roles"].values()]
    assert set(roles) == set(stories.ROLES)
    introduced = [bool(story.turns[0].labels["named"].get("subject")) for story in STORIES]
    assert 0.4 < sum(introduced) / len(introduced) < 0.8
    for story in STORIES:
        assert len(steps_of(story)) == STEPS == len(set(photo.id for photo in story.photos))
        assert len({scene_of(photo)["subject"] for photo in story.photos}) == 1


def test_texts_say_what_their_labels_say_and_nothing_else():
    for story in STORIES:
        last = scene_of(story.photos[-1])
        for turn in story.turns:
            named, planned = turn.labels["named"], turn.labels["planned"]
            assert named.items() <= scene_of(turn.photos[0]).items()
            assert planned.items() <= last.items()
            said = named_attributes(turn.text)
            for name, values in said.items():
                assert values == {d[name] for d in (named, planned) if name in d}, turn.text
            # that there is one is also said by a name
            assert {*named, *planned} - {"count"} <= set(said)


def told_before(story: Dialogue, step: int, name: str) -> bool:
    """Whether the texts before a step settle an attribute, by reading them."""
    scenes = [scene_of(photo) for photo in story.photos]
    here = scenes[step][name]
    for earlier, turn in enumerate(story.turns[:step]):
        stays = all(scene[name] == here for scene in scenes[earlier : step + 1])
        if stays and turn.labels["named"].get(name) == here:
            return True
        if step == STEPS - 1 and turn.labels["planned"].get(name) == here:
            return True
    return False


def test_the_sources_of_a_photo_are_those_that_a_reader_finds():
    spot = ("relation", "anchor")
    for story in STORIES:
        scenes = [scene_of(photo) for photo in story.photos]
        for step, photo in enumerate(story.photos):
            for name, found in photo.labels["sources"].items():
                group = spot if name in spot else (name,)
                stays = step > 0 and all(scenes[step - 1][n] == scenes[step][n] for n in group)
                assert ("photos" in found) == stays
                if name not in spot:
                    assert ("last" in found) == (name in story.turns[step].labels["named"])
                    assert ("text" in found) == told_before(story, step, name)


def test_every_story_needs_its_own_text_earlier_texts_and_earlier_photos():
    for story in STORIES:
        *past, last = story.turns
        photo = story.photos[-1]
        scene = scene_of(photo)
        for source in ("last", "text", "photos"):
            assert determined_only_by(photo, source), story.id
        for name in determined_only_by(photo, "photos"):
            assert not any(names(turn.text, name, scene[name]) for turn in story.turns)
            assert scene_of(story.photos[-2])[name] == scene[name]
        for name in determined_only_by(photo, "text"):
            assert not names(last.text, name, scene[name])
            assert any(names(turn.text, name, scene[name]) for turn in past)


def test_more_context_settles_more():
    for story in STORIES:
        found = {c: set(determined_in(story.photos[-1], c)) for c in SOURCES}
        assert found["none"] < found["text"] < found["both"]
        assert found["none"] < found["photos"] < found["both"]
        assert found["both"] == set(story.photos[-1].labels["determined"])
        named = scene_of(story.photos[0])["subject"] in LOOKS  # a name has its colour
        assert all(named == ("colour" not in photo.labels["sources"]) for photo in story.photos)


def test_ten_rounds_settle_everything_and_each_answer_says_its_own():
    for seed in range(40):
        shown, *talk = stories.world_rounds(seed).turns
        assert [turn.speaker for turn in talk] == [USER, AGENT] * ROUNDS
        settled = {name for turn in talk for name in turn.labels["named"]}
        assert settled == set(shown.photos[0].labels["determined"])
        assert settled >= set(ATTRIBUTES) - {"colour", "count"}
        for turn in talk:
            named, found = dict(turn.labels["named"]), named_attributes(turn.text)
            assert named.items() <= scene_of(shown.photos[0]).items()
            named.pop("subject", None)
            found.pop("subject", None)
            assert found == {name: {value} for name, value in named.items()}


def test_long_dialogues_have_twenty_to_eighty_turns_in_two_to_four_sessions():
    sizes = [len(dialogue.turns) for dialogue in LONG]
    assert min(sizes) >= FEWEST_TURNS and 70 < max(sizes) <= MOST_TURNS
    for dialogue in LONG:
        sessions = [turn.labels["session"] for turn in dialogue.turns]
        assert sessions == sorted(sessions) and sessions[0] == 0
        assert len(set(sessions)) == dialogue.labels["sessions"] in (2, 3, 4)
        speakers = [turn.speaker for turn in dialogue.turns]
        assert speakers == [USER, AGENT] * (len(speakers) // 2)
        for turn in dialogue.turns:  # small talk names no colour and no place
            if not turn.labels["named"] and turn.speaker == AGENT:
                assert not {"colour", "place"} & set(named_attributes(turn.text)), turn.text


def test_a_fact_is_told_once_at_its_distance_and_asked_for_once_in_words_or_for_a_photo():
    found = [(d, k, t) for d in LONG for k, t in enumerate(d.turns) if t.labels.get("asked")]
    assert {a.labels["asked"]["sessions"] for _, _, a in found} >= {0, 1, 2}
    assert max(a.labels["asked"]["distance"] for _, _, a in found) > 50
    kinds = {(a.labels["asked"]["attribute"], bool(a.photos)) for _, _, a in found}
    assert kinds == {(a, shown) for a in ("colour", "place") for shown in (True, False)}
    for dialogue, k, answer in found:
        asked = answer.labels["asked"]
        name, value, subject = asked["attribute"], asked["value"], asked["subject"].lower()
        told = dialogue.turns[asked["told"]]
        assert told.speaker == USER and k - 1 - asked["told"] == asked["distance"] >= 2
        assert told.labels["named"][name] == value and names(told.text, name, value)
        assert answer.labels["session"] - told.labels["session"] == asked["sessions"]
        *between, question = dialogue.turns[asked["told"] + 1 : k]
        assert subject in question.text.lower()
        assert not any(subject in turn.text.lower().split() for turn in between)
        if answer.photos:
            scene = answer.photos[0].labels["scene"]
            assert (scene[name], scene["count"]) == (value, "one")
            assert scene["subject"] == asked["subject"] and answer.labels["p_share"] == 1.0
        else:
            assert named_attributes(answer.text)[name] == {value}
