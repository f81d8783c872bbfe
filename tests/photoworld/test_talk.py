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
from photoworld.scenes import LOOKS, Scene, is_novel, may_use_kept
from photoworld.setting import FITTING, IDLE, NONE, READY
from photoworld.talk import NEGATED, OPENINGS, world_dialogue
from photoworld.words import named_attributes, templates_of
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn

SEEDS = {"train": range(400), "test": range(100_000, 100_400)}
TEMPLATES = [one for act in load_table("talk")["acts"] for one in templates_of(act)]


@cache
def some(split: str) -> list[Dialogue]:
    if split == "novel":
        return [world_dialogue(seed, novel=True) for seed in range(300_000, 300_080)]
    return [*map(world_dialogue, SEEDS[split])]


@cache
def turns(*, of: str | None = None) -> list[tuple[Dialogue, int, Turn]]:
    found = [(d, k, t) for d in some("train") + some("test") for k, t in enumerate(d.turns)]
    return [one for one in found if one[2].speaker == (of or one[2].speaker)]


def photos(*origins: str) -> list[tuple[Dialogue, Photo]]:
    return [(d, p) for d in some("train") + some("test") for p in d.photos if p.origin in origins]


def acts_of(turn: Turn) -> set[str]:
    return {template.split("/")[0] for template in turn.labels["template"]}


def test_nothing_depends_on_the_hash_seed_of_the_process() -> None:
    code = "from showtell.data.world import open_world as w; kinds = ('', 'stories:', 'rounds:'"
    code += ", 'long:'); print([list(w(f'world:{kind}0-4')) for kind in kinds])"
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_dialogues_have_4_to_14_turns_and_at_most_two_photos_each_a_turn_of_its_own() -> None:
    assert world_dialogue(17) == some("train")[17]
    assert len({"\n".join(t.text for t in d.turns) for d in some("train")}) == 400
    for dialogue in some("train") + some("test") + some("novel"):
        assert 4 <= len(dialogue.turns) <= 14
        assert len({p.id for p in dialogue.photos}) == len(dialogue.photos) <= 2
        for turn in dialogue.turns:
            assert len(turn.elements) == 1
            assert turn.photos or turn.text == turn.text.strip() != ""
            assert not re.search(r"[{}\[\]|]|  ", turn.text), "a slot was left open"
            for labels in (turn.labels, *(photo.labels for photo in turn.photos)):
                assert json.loads(json.dumps(dict(labels))) == dict(labels)


def test_the_agents_turns_alone_have_a_probability_of_sharing_none_after_two_photos() -> None:
    for dialogue, k, turn in turns():
        assert ("p_share" in turn.labels) == (turn.speaker == AGENT)
        if turn.speaker == AGENT:
            before = dialogue.turns[:k]
            assert turn.labels["p_share"] in {NONE, IDLE, FITTING, READY}
            assert turn.labels["p_share"] > 0 or not turn.photos
            if sum(len(t.photos) for t in before) == 2 or (before and before[-1].photos):
                assert turn.labels["p_share"] == NONE


def test_photos_come_as_often_as_their_probability_says() -> None:
    for level in (FITTING, READY):
        drawn = [bool(t.photos) for _, _, t in turns(of=AGENT) if t.labels["p_share"] == level]
        spread = (level * (1 - level) / len(drawn)) ** 0.5
        assert abs(statistics.mean(drawn) - level) < 4 * spread
    for split in SEEDS:
        found = some(split)
        share = sum(len(d.photos) for d in found) / sum(len(d.turns) for d in found)
        assert 0.07 <= share <= 0.10


@pytest.mark.parametrize(
    ("level", "acts"),
    [
        (READY, {"ask_plain", "ask_not_tell", "ask_switch", "u_change"}),
        (IDLE, {"tell_plain"}),
        (NONE, {"tell_not_show", "tell_switch", "u_cancel"}),
    ],
)
def test_asking_makes_a_photo_due_and_negating_takes_it_away(level: float, acts: set[str]) -> None:
    found: set[str] = set()
    for dialogue, k, turn in turns(of=AGENT):
        said = acts & acts_of(dialogue.turns[k - 1]) if k else set()
        if said and sum(len(t.photos) for t in dialogue.turns[:k]) < 2:
            found |= said
            assert turn.labels["p_share"] == level
    assert found == acts


def test_the_same_answer_decides_either_way_by_the_question_before_it() -> None:
    seen: Counter[tuple[str, str, bool]] = Counter()
    for dialogue, k, turn in turns(of=AGENT):
        if k < 2 or sum(len(t.photos) for t in dialogue.turns[:k]) > 1:
            continue
        asked, answered = map(acts_of, dialogue.turns[k - 2 : k])
        for question in asked & {"a_q_pos", "a_q_neg"}:
            for answer in answered & {"u_yes", "u_no"}:
                seen[question, answer, turn.labels["p_share"] == READY] += 1
    wanted = {("a_q_pos", "u_yes"), ("a_q_neg", "u_no")}
    assert {key[:2] for key in seen if key[2]} == wanted
    assert {key[:2] for key in seen if not key[2]} == {("a_q_pos", "u_no"), ("a_q_neg", "u_yes")}


def test_there_are_several_hundred_templates_and_about_a_fifth_are_kept_for_test() -> None:
    assert len(TEMPLATES) == len({t.id for t in TEMPLATES}) >= 400
    assert 0.15 <= statistics.mean(t.kept for t in TEMPLATES) <= 0.25
    assert all(templates_of(act, with_kept=False) for act in load_table("talk")["acts"])


def test_kept_templates_occur_in_test_and_never_in_training() -> None:
    kept = {t.id for t in TEMPLATES if t.kept}
    for split in SEEDS:
        unseen = [turn.labels["unseen"] for d in some(split) for turn in d.turns]
        assert any(unseen) == (split == "test")
        for dialogue in some(split):
            for turn in dialogue.turns:
                assert turn.labels["unseen"] == bool(kept & set(turn.labels["template"]))
    splits = (0, 99_999, 100_000, 200_000, 299_999, 300_000, 900_000)
    assert [may_use_kept(seed) for seed in splits] == [False, False, True, False, False, True, True]


def test_agents_rarely_repeat_a_turn_and_words_vary_but_are_few_enough_for_a_small_model() -> None:
    for split in SEEDS:
        said = [t.text for d in some(split) for t in d.turns if t.speaker == AGENT and t.text]
        assert 1 - len(set(said)) / len(said) <= 0.02
        words = [re.findall(r"[\w']+", text.lower()) for text in said]
        trigrams = [gram for w in words for gram in zip(w, w[1:], w[2:], strict=False)]
        assert len(set(trigrams)) / len(trigrams) >= 0.3
    assert len({w for _, _, t in turns() for w in re.findall(r"[\w']+", t.text.lower())}) < 2500


def test_a_photo_knows_its_scene_and_states_only_what_is_there() -> None:
    for _, photo in photos("painted", "user"):
        scene = photo.labels["scene"]
        for name, values in named_attributes(photo.caption).items():
            if name != "relation" and name != "anchor":
                assert values == {scene[name]}, photo.caption
        assert {"subject", "count"} <= set(photo.labels["stated"])
        if scene["subject"] in LOOKS:
            assert (scene["colour"], scene["count"]) == (LOOKS[scene["subject"]], "one")


def test_what_the_words_settle_is_stated_by_the_caption_and_evident_before_it() -> None:
    sizes = []
    for dialogue, photo in photos("painted"):
        scene, determined = photo.labels["scene"], photo.labels["determined"]
        sizes.append(len(determined))
        assert {"subject"} <= set(determined) <= set(photo.labels["stated"])
        k = next(k for k, t in enumerate(dialogue.turns) if photo in t.photos)
        before = " ".join(t.text for t in dialogue.turns[:k])
        read = named_attributes(before)
        for name in determined:
            if not (name == "count" and scene["count"] == "one"):  # "the dog" says one, too
                assert scene[name] in read.get(name, set()), (name, before)
    assert statistics.mean(sizes) >= 4


def test_novel_dialogues_show_only_novel_combinations_and_others_none() -> None:
    for split in ("train", "test", "novel"):
        for photo in (photo for dialogue in some(split) for photo in dialogue.photos):
            scene = Scene.from_dict(photo.labels["scene"])
            assert is_novel(scene.subject, scene.colour, scene.place) == (split == "novel")


def test_words_about_a_photo_name_what_it_shows_and_the_reader_finds_just_that() -> None:
    comments = [(d, t) for d, _, t in turns() if "named" in t.labels]
    assert comments
    for dialogue, turn in comments:
        photo = next(p for p in dialogue.photos if p.id == turn.labels["about"])
        named = turn.labels["named"]
        assert named_attributes(turn.text) == {name: {value} for name, value in named.items()}
        assert named.items() <= photo.labels["scene"].items()


def test_the_agent_alone_speaks_of_every_user_photo_and_often_beyond_its_caption() -> None:
    beyond = []
    for dialogue, photo in photos("user"):
        about = [t for t in dialogue.turns if t.labels.get("about") == photo.id]
        assert about and all(turn.speaker == AGENT for turn in about)
        beyond.append(any(set(t.labels["named"]) - set(photo.labels["stated"]) for t in about))
        k = next(k for k, t in enumerate(dialogue.turns) if photo in t.photos)
        for turn in dialogue.turns[k - 1 : k + 2]:
            if turn.speaker == USER and turn.text and acts_of(turn) <= {"u_pre", "u_post"}:
                assert named_attributes(turn.text) == {}
    assert statistics.mean(beyond) > 0.35


def test_openings_ask_for_clear_things_and_their_negations_for_the_same_things() -> None:
    assert len(OPENINGS) == len(NEGATED) >= 12
    for opening, negated in zip(OPENINGS, NEGATED, strict=True):
        assert named_attributes(opening) == named_attributes(negated)
        assert {"subject", "relation", "anchor"} <= set(named_attributes(opening))
        assert re.search(r"\b(don't|no)\b", negated)
        asked = {name: min(values) for name, values in named_attributes(opening).items()}
        colour = LOOKS.get(asked["subject"]) or asked["colour"]
        assert not is_novel(asked["subject"], colour, asked.get("place", "park"))
