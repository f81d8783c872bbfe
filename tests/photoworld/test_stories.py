"""Stories, rounds and long dialogues: same seed same words, labels that are true, sources that
hold."""

from __future__ import annotations

import pytest

from photoworld.facts import named_attributes
from photoworld.long import FEWEST_TURNS, MOST_TURNS, long_dialogue
from photoworld.scenes import ATTRIBUTES, LOOKS, is_novel
from photoworld.stories import (
    ROLES,
    ROUNDS,
    SOURCES,
    STEPS,
    determined_in,
    determined_only_by,
    world_rounds,
    world_story,
)
from showtell.dialogue import AGENT, USER, Photo
from showtell.papers.forms import form_named, photo_last, steps_of

SEEDS = range(120)
STORIES = [world_story(seed) for seed in SEEDS]
LONG = [long_dialogue(seed) for seed in range(60)]
MAKERS = (world_story, world_rounds, long_dialogue)


def scene_of(photo: Photo) -> dict[str, str]:
    return {name: photo.labels["scene"][name] for name in ATTRIBUTES}


def names(text: str, attribute: str, value: str) -> bool:
    return value in named_attributes(text).get(attribute, ())


# ------------------------------------------------------------------------------ common to all


@pytest.mark.parametrize("make", MAKERS)
def test_a_seed_gives_the_same_dialogue_and_another_seed_another(make):
    assert make(7) == make(7) != make(8)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("seed", "split"), [(0, "train"), (100_000, "test"), (200_000, "dev")])
def test_the_split_follows_from_the_seed(make, seed, split):
    assert make(seed).labels["split"] == split


@pytest.mark.parametrize("make", MAKERS)
def test_captions_state_what_is_determined_and_nothing_is_shown_that_is_never_trained(make):
    for seed in range(40):
        for photo in make(seed).photos:
            scene, labels = scene_of(photo), photo.labels
            assert set(labels["determined"]) <= {*labels["stated"]} | {"colour"}
            assert not is_novel(scene["subject"], scene["colour"], scene["place"])
            told = named_attributes(photo.caption)
            for name in labels["stated"]:
                assert told.get(name, {scene[name]}) == {scene[name]}


# ------------------------------------------------------------------------------------ stories


def test_a_story_is_five_texts_each_with_its_photo():
    for story in STORIES:
        assert len(steps_of(story)) == STEPS == len(set(photo.id for photo in story.photos))
        subjects = {(photo.labels["scene"]["subject"]) for photo in story.photos}
        assert len(subjects) == 1 and set(story.labels["roles"].values()) <= set(ROLES)


def test_texts_say_what_their_labels_say_and_nothing_else():
    for story in STORIES:
        last = scene_of(story.photos[-1])
        for turn in story.turns:
            named, planned = turn.labels["named"], turn.labels["planned"]
            scene = scene_of(turn.photos[0])
            assert named.items() <= scene.items() and planned.items() <= last.items()
            said = named_attributes(turn.text)
            for name, values in said.items():
                assert values == {d[name] for d in (named, planned) if name in d}, turn.text
            # that there is one is also said by a name
            assert {*named, *planned} - {"count"} <= set(said)


def sources_by_reading(story, step: int, name: str) -> list[str]:
    """The sources of an attribute by reading texts and comparing photos."""
    scenes = [scene_of(photo) for photo in story.photos]
    here = scenes[step][name]
    found = ["last"] if name in story.turns[step].labels["named"] else []
    last_word = None
    for earlier in range(step):
        labels = story.turns[earlier].labels
        if labels["named"].get(name) == here and all(
            scene[name] == here for scene in scenes[earlier : step + 1]
        ):
            last_word = here
        if step == STEPS - 1 and labels["planned"].get(name) == here:
            last_word = here
    found += ["text"] if last_word else []
    return found + (["photos"] if step and scenes[step - 1] == scenes[step] else [])


def test_the_sources_of_the_last_photo_are_those_that_a_reader_finds():
    units = {"relation": ("relation", "anchor"), "anchor": ("relation", "anchor")}
    for story in STORIES:
        for step, photo in enumerate(story.photos):
            scenes = [scene_of(each) for each in story.photos]
            for name, found in photo.labels["sources"].items():
                group = units.get(name, (name,))
                expected = sources_by_reading(story, step, name)
                stays = bool(step) and all(scenes[step - 1][n] == scenes[step][n] for n in group)
                assert [s for s in found if s != "photos"] == [
                    s for s in expected if s != "photos"
                ] or name in ("relation", "anchor")
                assert ("photos" in found) == stays


def test_every_story_needs_its_own_text_earlier_texts_and_earlier_photos():
    for story in STORIES:
        last = story.photos[-1]
        for source in ("last", "text", "photos"):
            assert determined_only_by(last, source), story.id


def test_what_only_photos_show_is_in_no_text_and_what_only_text_says_is_in_no_photo():
    for story in STORIES:
        *past, last = story.turns
        scene = scene_of(last.photos[0])
        texts = [turn.text for turn in story.turns]
        for name in determined_only_by(last.photos[0], "photos"):
            assert not any(names(text, name, scene[name]) for text in texts)
            assert all(scene_of(turn.photos[0])[name] == scene[name] for turn in past[-1:])
        for name in determined_only_by(last.photos[0], "text"):
            assert not names(last.text, name, scene[name])
            assert any(names(turn.text, name, scene[name]) for turn in past)


def test_a_value_told_early_and_changed_later_is_not_given_as_told():
    """What a text said of an attribute that has changed since settles nothing."""
    for story in STORIES:
        scenes = [scene_of(photo) for photo in story.photos]
        for name in ("place", "time", "weather"):
            first = story.turns[0].labels["named"].get(name)
            turned = scenes[-1][name] != scenes[-2][name]
            if first and turned:
                assert "photos" not in story.photos[-1].labels["sources"][name]
                if name not in {n for turn in story.turns for n in turn.labels["planned"]}:
                    assert "text" not in story.photos[-1].labels["sources"][name]


def test_more_context_settles_more():
    for story in STORIES:
        found = {c: set(determined_in(story.photos[-1], c)) for c in SOURCES}
        assert found["none"] < found["text"] < found["both"]
        assert found["none"] < found["photos"] < found["both"]
        assert found["both"] == set(story.photos[-1].labels["determined"])


def test_all_roles_and_both_ways_to_begin_occur():
    roles = [role for story in STORIES for role in story.labels["roles"].values()]
    assert set(roles) == set(ROLES)
    introduced = [bool(story.turns[0].labels["named"].get("subject")) for story in STORIES]
    assert 0.4 < sum(introduced) / len(introduced) < 0.8


def test_a_name_has_its_colour_and_it_is_not_counted():
    named = [s for s in STORIES if s.photos[0].labels["scene"]["subject"] in LOOKS]
    assert named
    assert all("colour" not in photo.labels["sources"] for s in named for photo in s.photos)


def test_a_story_goes_through_the_forms_of_vist():
    ends = {c: form_named(f"task_end:{c}")(STORIES[0])[0] for c in SOURCES}
    photos = {context: len(end.turns[0].photos) for context, end in ends.items()}
    assert photos == {"none": 0, "text": 0, "photos": STEPS - 1, "both": STEPS - 1}
    told = STORIES[0].turns[0].text
    assert [told in end.turns[0].text for end in ends.values()] == [False, True, False, True]


# ------------------------------------------------------------------------------------- rounds


def test_ten_rounds_settle_everything_and_each_answer_says_its_own():
    for seed in range(40):
        dialogue = world_rounds(seed)
        shown, *talk = dialogue.turns
        scene = scene_of(shown.photos[0])
        assert [turn.speaker for turn in talk] == [USER, AGENT] * ROUNDS
        settled = {name for turn in talk for name in turn.labels["named"]}
        assert settled == set(shown.photos[0].labels["determined"])
        assert settled >= set(ATTRIBUTES) - {"colour", "count"}
        for turn in talk:
            said = {k: {v} for k, v in turn.labels["named"].items()}
            found = named_attributes(turn.text)
            assert {k: v for k, v in found.items() if k != "subject"} == {
                k: v for k, v in said.items() if k != "subject"
            }
            assert turn.labels["named"].items() <= scene.items()


def test_the_last_rounds_alone_settle_less():
    whole = photo_last(world_rounds(3))
    assert len(whole.turns) == 2 * ROUNDS + 1 and whole.turns[-1].photos
    (part,) = form_named("photo_last:4")(world_rounds(3))
    assert part.turns == whole.turns[-9:]


# ------------------------------------------------------------------------------ long dialogues


def test_long_dialogues_have_twenty_to_eighty_turns_in_two_to_four_sessions():
    sizes = [len(dialogue.turns) for dialogue in LONG]
    assert min(sizes) >= FEWEST_TURNS and max(sizes) <= MOST_TURNS and max(sizes) > 70
    for dialogue in LONG:
        sessions = [turn.labels["session"] for turn in dialogue.turns]
        assert sessions == sorted(sessions) and sessions[0] == 0
        assert len(set(sessions)) == dialogue.labels["sessions"] in (2, 3, 4)
        assert all(
            [t.speaker for t in dialogue.turns[k : k + 2]] == [USER, AGENT]
            for k in range(0, len(dialogue.turns), 2)
        )


def answers() -> list[tuple]:
    return [(d, k, t) for d in LONG for k, t in enumerate(d.turns) if t.labels.get("asked")]


def test_a_fact_is_told_once_at_its_distance_and_asked_for_once():
    found = answers()
    assert {a.labels["asked"]["sessions"] for _, _, a in found} >= {0, 1, 2}
    assert max(a.labels["asked"]["distance"] for _, _, a in found) > 50
    for dialogue, k, answer in found:
        asked = answer.labels["asked"]
        told = dialogue.turns[asked["told"]]
        assert told.speaker == USER and k - 1 - asked["told"] == asked["distance"] >= 2
        assert told.labels["named"][asked["attribute"]] == asked["value"]
        assert names(told.text, asked["attribute"], asked["value"])
        assert asked["subject"].lower() in dialogue.turns[k - 1].text.lower()
        between = dialogue.turns[asked["told"] + 1 : k]
        assert not any(asked["subject"].lower() in t.text.lower().split() for t in between[:-1])
        passed = answer.labels["session"] - told.labels["session"]
        assert passed == asked["sessions"]


def test_an_answer_says_or_shows_the_fact():
    kinds = set()
    for _, _, answer in answers():
        asked = answer.labels["asked"]
        kinds.add((asked["attribute"], bool(answer.photos)))
        if answer.photos:
            scene = answer.photos[0].labels["scene"]
            assert scene[asked["attribute"]] == asked["value"]
            assert scene["subject"] == asked["subject"] and scene["count"] == "one"
            assert answer.labels["p_share"] == 1.0
        else:
            assert named_attributes(answer.text)[asked["attribute"]] == {asked["value"]}
    assert kinds == {(a, shown) for a in ("colour", "place") for shown in (True, False)}


def test_small_talk_names_no_colour_and_no_place():
    for dialogue in LONG:
        for turn in dialogue.turns:
            if not turn.labels["named"] and turn.speaker == AGENT:
                assert not {"colour", "place"} & set(named_attributes(turn.text)), turn.text
