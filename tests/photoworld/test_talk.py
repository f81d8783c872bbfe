"""Dialogues: photos come as often as their labels say, and labels say what the words decide."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest

from photoworld import load_table
from photoworld.facts import named_attributes
from photoworld.scenes import LOOKS, Scene, is_novel
from photoworld.setting import FITTING, IDLE, NONE, READY
from photoworld.talk import NEGATED, OPENINGS, STARTERS, world_dialogue, world_exercise
from photoworld.words import templates_of
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn

TRAIN, TEST = range(0, 400), range(100_000, 100_400)


@cache
def some(split: str) -> tuple[Dialogue, ...]:
    return tuple(map(world_dialogue, {"train": TRAIN, "test": TEST}[split]))


@cache
def some_novel() -> tuple[Dialogue, ...]:
    return tuple(world_dialogue(seed, novel=True) for seed in range(300_000, 300_080))


def turns(*, of: str | None = None) -> list[tuple[Dialogue, int, Turn]]:
    return [
        (d, k, t)
        for d in some("train") + some("test")
        for k, t in enumerate(d.turns)
        if of is None or t.speaker == of
    ]


def photos(origin: str) -> list[tuple[Dialogue, Photo]]:
    return [(d, p) for d in some("train") + some("test") for p in d.photos if p.origin == origin]


# -------------------------------------------------------------------------------------- the shape


def test_a_seed_gives_one_dialogue_and_another_seed_another() -> None:
    assert world_dialogue(17) == world_dialogue(17)
    texts = {"\n".join(t.text for t in d.turns) for d in some("train")}
    assert len(texts) == len(TRAIN)


def test_a_dialogue_does_not_depend_on_the_hash_seed_of_the_process() -> None:
    code = "from showtell.data.world import open_world as w; kinds = ('', 'stories:', 'rounds:'"
    code += ", 'long:'); print([list(w(f'world:{kind}0-4')) for kind in kinds])"
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_dialogues_have_4_to_14_turns_and_at_most_two_photos_each_a_turn_of_its_own() -> None:
    for dialogue in some("train") + some("test") + some_novel():
        assert 4 <= len(dialogue.turns) <= 14
        assert len(dialogue.photos) <= 2
        assert len({p.id for p in dialogue.photos}) == len(dialogue.photos)
        for turn in dialogue.turns:
            assert len(turn.elements) == 1
            assert turn.photos or turn.text == turn.text.strip() != ""


def test_between_7_and_10_percent_of_turns_are_photos_in_both_pools() -> None:
    for split in ("train", "test"):
        found = some(split)
        share = sum(len(d.photos) for d in found) / sum(len(d.turns) for d in found)
        assert 0.07 <= share <= 0.10


def test_the_labels_survive_json() -> None:
    for _, _, turn in turns():
        labels = dict(turn.labels)
        assert json.loads(json.dumps(labels)) == labels
        for photo in turn.photos:
            assert json.loads(json.dumps(dict(photo.labels))) == dict(photo.labels)


def test_no_slot_is_left_open() -> None:
    for _, _, turn in turns():
        assert not re.search(r"[{}\[\]|]|  ", turn.text), turn.text


# ------------------------------------------------------------------------------------- the moment


def test_every_agent_turn_and_no_user_turn_has_a_probability_of_sharing() -> None:
    for _, _, turn in turns():
        assert ("p_share" in turn.labels) == (turn.speaker == AGENT)
        if turn.speaker == AGENT:
            assert turn.labels["p_share"] in {NONE, IDLE, FITTING, READY}
            assert turn.labels["p_share"] > 0 or not turn.photos


def test_photos_come_as_often_as_their_probability_says() -> None:
    for level in (FITTING, READY):
        drawn = [bool(t.photos) for _, _, t in turns(of=AGENT) if t.labels["p_share"] == level]
        spread = (level * (1 - level) / len(drawn)) ** 0.5
        assert abs(statistics.mean(drawn) - level) < 4 * spread


def test_nothing_is_shared_after_two_photos_nor_right_after_an_own_photo() -> None:
    for dialogue, k, turn in turns(of=AGENT):
        before = dialogue.turns[:k]
        if sum(len(t.photos) for t in before) == 2 or (before and before[-1].photos):
            assert turn.labels["p_share"] == NONE


@pytest.mark.parametrize(
    ("act", "level"),
    [
        ("ask_plain", READY),
        ("ask_not_tell", READY),
        ("ask_switch", READY),
        ("tell_plain", IDLE),
        ("tell_not_show", NONE),
        ("tell_switch", NONE),
        ("u_cancel", NONE),
        ("u_change", READY),
    ],
)
def test_asking_makes_a_photo_due_and_negating_takes_it_away(act: str, level: float) -> None:
    found = 0
    for dialogue, k, turn in turns(of=AGENT):
        said = dialogue.turns[k - 1].labels["template"] if k else []
        if sum(len(t.photos) for t in dialogue.turns[:k]) < 2 and any(
            template.split("/")[0] == act for template in said
        ):
            found += 1
            assert turn.labels["p_share"] == level
    assert found


def test_the_same_answer_decides_either_way_by_the_question_before_it() -> None:
    seen: Counter[tuple[str, str, bool]] = Counter()
    for dialogue, k, turn in turns(of=AGENT):
        if k < 2:
            continue
        asked, answered = (
            {template.split("/")[0] for template in dialogue.turns[j].labels["template"]}
            for j in (k - 2, k - 1)
        )
        question = next((a for a in asked if a in ("a_q_pos", "a_q_neg")), None)
        answer = next((a for a in answered if a in ("u_yes", "u_no")), None)
        if question and answer and sum(len(t.photos) for t in dialogue.turns[:k]) < 2:
            seen[question, answer, turn.labels["p_share"] == READY] += 1
    assert {key[:2] for key, n in seen.items() if key[2] and n} == {
        ("a_q_pos", "u_yes"),
        ("a_q_neg", "u_no"),
    }
    assert {key[:2] for key, n in seen.items() if not key[2] and n} == {
        ("a_q_pos", "u_no"),
        ("a_q_neg", "u_yes"),
    }


# ---------------------------------------------------------------------------- templates and words


def test_there_are_several_hundred_templates_and_about_a_fifth_are_kept_for_test() -> None:
    acts = load_table("talk")["acts"]
    templates = [template for act in acts for template in templates_of(act)]
    assert len(templates) >= 400
    assert len({t.id for t in templates}) == len(templates)
    assert 0.15 <= statistics.mean(t.kept for t in templates) <= 0.25
    assert all(templates_of(act, with_kept=False) for act in acts), "training needs one of each"


def test_kept_templates_occur_in_test_and_never_in_training() -> None:
    kept = {t.id for act in load_table("talk")["acts"] for t in templates_of(act) if t.kept}
    for split in ("train", "test"):
        for dialogue in some(split):
            for turn in dialogue.turns:
                unseen = bool(kept & set(turn.labels["template"]))
                assert unseen == turn.labels["unseen"]
                assert not (unseen and split == "train")
    dev = [turn for seed in range(200_000, 200_050) for turn in world_dialogue(seed).turns]
    assert not any(turn.labels["unseen"] for turn in dev)


def test_agents_rarely_repeat_a_turn_and_their_trigrams_vary() -> None:
    for split in ("train", "test"):
        said = [t.text for d in some(split) for t in d.turns if t.speaker == AGENT and t.text]
        assert 1 - len(set(said)) / len(said) <= 0.02
        words = [re.findall(r"[\w']+", text.lower()) for text in said]
        trigrams = [gram for w in words for gram in zip(w, w[1:], w[2:], strict=False)]
        assert len(set(trigrams)) / len(trigrams) >= 0.3


def test_the_vocabulary_is_small_enough_for_a_small_model() -> None:
    words = {w for _, _, t in turns() for w in re.findall(r"[\w']+", t.text.lower())}
    assert len(words) < 2500


# ------------------------------------------------------------------------------- photos and facts


def test_a_photo_knows_its_scene_and_states_only_what_is_there() -> None:
    for _, photo in photos("painted") + photos("user"):
        scene = Scene.from_dict(photo.labels["scene"])
        for name, values in named_attributes(photo.caption).items():
            if name != "relation" and name != "anchor":
                assert values == {getattr(scene, name)}, photo.caption
        assert {"subject", "count"} <= set(photo.labels["stated"])


def test_what_the_words_settle_is_stated_by_the_caption_and_evident_before_it() -> None:
    sizes = []
    for dialogue, photo in photos("painted"):
        scene, determined = photo.labels["scene"], photo.labels["determined"]
        sizes.append(len(determined))
        assert "subject" in determined
        assert set(determined) <= set(photo.labels["stated"])
        k = next(k for k, t in enumerate(dialogue.turns) if photo in t.photos)
        before = " ".join(t.text for t in dialogue.turns[:k])
        read = named_attributes(before)
        for name in determined:
            if not (name == "count" and scene["count"] == "one"):  # "the dog" says one, too
                assert scene[name] in read.get(name, set()), (name, before)
    assert statistics.mean(sizes) >= 4


def test_the_named_ones_carry_their_looks() -> None:
    for _, photo in photos("painted") + photos("user"):
        scene = photo.labels["scene"]
        if scene["subject"] in LOOKS:
            assert scene["colour"] == LOOKS[scene["subject"]]
            assert scene["count"] == "one"


def test_novel_dialogues_show_only_novel_combinations_and_others_none() -> None:
    for found, novel in ((some("train") + some("test"), False), (some_novel(), True)):
        for dialogue in found:
            for photo in dialogue.photos:
                scene = Scene.from_dict(photo.labels["scene"])
                assert is_novel(scene.subject, scene.colour, scene.place) == novel


def test_each_attribute_is_stated_in_most_captions() -> None:
    found = [photo for _, photo in photos("painted") + photos("user")]
    for name in ("place", "time", "weather"):
        assert statistics.mean(name in p.labels["stated"] for p in found) >= 0.6
    unnamed = [p for p in found if p.labels["scene"]["subject"] not in LOOKS]
    assert statistics.mean("colour" in p.labels["stated"] for p in unnamed) >= 0.6


# ---------------------------------------------------------------------------- words about a photo


def test_words_about_a_photo_name_what_it_shows_and_the_reader_finds_just_that() -> None:
    comments = [(d, t) for d, _, t in turns() if "named" in t.labels]
    assert comments
    for dialogue, turn in comments:
        photo = next(p for p in dialogue.photos if p.id == turn.labels["about"])
        named = turn.labels["named"]
        assert named_attributes(turn.text) == {name: {value} for name, value in named.items()}
        assert named.items() <= photo.labels["scene"].items()


def test_the_agent_speaks_of_every_user_photo_and_often_beyond_its_caption() -> None:
    beyond = []
    for dialogue, photo in photos("user"):
        about = [
            t for t in dialogue.turns if t.speaker == AGENT and t.labels.get("about") == photo.id
        ]
        assert about
        beyond.append(any(set(t.labels["named"]) - set(photo.labels["stated"]) for t in about))
    assert statistics.mean(beyond) > 0.35


def test_the_user_gives_nothing_away_about_the_photo_that_it_sends() -> None:
    for dialogue, photo in photos("user"):
        k = next(k for k, t in enumerate(dialogue.turns) if photo in t.photos)
        for turn in dialogue.turns[k - 1 : k + 2]:
            if turn.speaker == USER and not turn.photos and turn.labels["template"]:
                acts = {template.split("/")[0] for template in turn.labels["template"]}
                if acts <= {"u_pre", "u_post"}:
                    assert named_attributes(turn.text) == {}


# -------------------------------------------------------------------------------------- openings


def test_openings_ask_for_clear_things_and_their_negations_for_the_same_things() -> None:
    assert len(OPENINGS) >= 12
    assert len(NEGATED) == len(OPENINGS)
    assert len(STARTERS) == 3
    for opening, negated in zip(OPENINGS, NEGATED, strict=True):
        assert named_attributes(opening) == named_attributes(negated)
        assert {"subject", "relation", "anchor"} <= set(named_attributes(opening))
        assert re.search(r"\b(don't|no)\b", negated)
        asked = {name: min(values) for name, values in named_attributes(opening).items()}
        colour = LOOKS.get(asked["subject"]) or asked["colour"]
        assert not is_novel(asked["subject"], colour, asked.get("place", "park"))


def test_exercises_are_short_and_their_photos_come_as_often_as_they_say() -> None:
    exercises = [world_exercise(seed) for seed in range(600)]
    assert max(len(each.turns) for each in exercises) <= 9
    agents = [t for each in exercises for t in each.turns if t.speaker == AGENT]
    expected = sum(t.labels["p_share"] for t in agents)
    assert sum(len(t.photos) for t in agents) == pytest.approx(expected, rel=0.1)
    assert not any(t.labels["unseen"] for each in exercises for t in each.turns)
    assert world_exercise(3) == world_exercise(3) != world_exercise(4)


def test_in_exercises_the_same_status_decides_either_way_by_the_condition_before_it() -> None:
    levels: set[float] = set()
    for seed in range(600):
        heard = False
        for turn in world_exercise(seed).turns:
            if turn.speaker == AGENT and heard:
                levels.add(turn.labels["p_share"])
            acts = [template.split("/")[0] for template in turn.labels["template"]]
            heard = turn.speaker == USER and "u_neutral" in acts
    assert levels >= {NONE, READY}
