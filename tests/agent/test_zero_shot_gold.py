"""What the zero-shot agent says at gold contexts, many at once, is what it says in a chat."""

from __future__ import annotations

import pytest
import torch
from tiny_chat import write_chatty

from showtell.agent.local_engines import LocalLanguage
from showtell.agent.prompts import prompts
from showtell.agent.zero_shot import asked, one_line, to_say
from showtell.agent.zero_shot_gold import ZeroShotTalks, as_agent
from showtell.data.photochat import moment_positions
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import EngineError
from showtell.evaluation.photochat_runs import DECODINGS

LINES = ("hi : nice dog", "look a beach .", "a nice dog", "hi .", "nice")


def talk(number: int) -> Dialogue:
    photo = Photo(id=f"p{number}", caption="Objects in the photo: Dog")
    turns = [
        Turn(
            speaker=(USER, AGENT)[(k + k // 3 + number) % 2],
            elements=(photo if k == 3 else LINES[(k + number) % 5],),
        )
        for k in range(6)
    ]
    return Dialogue(id=str(number), turns=tuple(turns))


@pytest.fixture(scope="module")
def talks(tmp_path_factory):
    return ZeroShotTalks(LocalLanguage(write_chatty(tmp_path_factory.mktemp("chatty"))))


def test_the_chance_of_a_photo_is_that_of_each_question_alone(talks):
    labels = (prompts()["labels"]["share"], prompts()["labels"]["tell"])
    for dialogue, found in zip(
        [talk(0), talk(1)], talks.read([talk(0), talk(1)], words=False), strict=True
    ):
        assert not found.word_nll
        for position, chance in zip(moment_positions(dialogue), found.chances, strict=True):
            context = position.context
            other = {USER: AGENT, AGENT: USER}[context[-1].speaker]
            messages = asked("decide", as_agent(context, other))
            assert messages[-1]["content"].split("\n")[len(context) - 1].startswith("A: ")
            alone = talks.local.probability(messages, labels).of[labels[0]]
            assert chance == pytest.approx(alone, rel=1e-3)


@torch.no_grad()
def test_words_have_the_chances_that_they_have_behind_their_own_messages(talks):
    dialogue = talk(1)
    (found,) = talks.read([dialogue], words=True)
    assert set(found.word_nll) == {1, 2, 4, 5}
    for k, nll in found.word_nll.items():
        turn = dialogue.turns[k]
        before = talks.local.ids(to_say(as_agent(dialogue.turns[:k], turn.speaker)))
        said = talks.local.tokenizer(turn.text, add_special_tokens=False)["input_ids"]
        logits = talks.local.model(torch.tensor([before + said])).logits[0].float()
        logs = logits[len(before) - 1 : -1].log_softmax(-1)
        wanted = -sum(float(row[token]) for row, token in zip(logs, said, strict=True))
        assert nll == pytest.approx(wanted, rel=1e-2)


def test_likeliest_replies_and_descriptions_are_those_of_one_by_one(talks):
    dialogues = [talk(number) for number in range(3)]
    cases = [(d.turns[:k], d.turns[k].speaker) for d in dialogues for k in (1, 2, 5)]
    said = talks.replies(cases, DECODINGS["most likely"], seed=0)
    how = {"max_tokens": 40, "temperature": 0.0, "seed": 0}
    for (context, speaker), text in zip(cases, said, strict=True):
        alone = talks.local.say(to_say(as_agent(context, speaker)), **how).text
        assert text == " ".join(alone.split())
    shown = talks.descriptions(dialogues)
    for dialogue, text in zip(dialogues, shown, strict=True):
        messages = asked("describe", as_agent(dialogue.turns[:3], dialogue.turns[3].speaker))
        assert text == one_line(talks.local.say(messages, **how).text)


def test_drawn_words_follow_the_seed_and_leave_the_dice_alone(talks):
    cases = [(talk(0).turns[:2], AGENT)] * 3
    torch.manual_seed(7)
    wanted = torch.rand(1)
    torch.manual_seed(7)
    decoding = DECODINGS["temperature 1"]
    first = talks.replies(cases, decoding, seed=1)
    assert torch.equal(torch.rand(1), wanted)
    assert first == talks.replies(cases, decoding, seed=1) != talks.replies(cases, decoding, seed=2)


def test_an_llm_without_a_token_for_an_answer_is_one_clear_line(talks, monkeypatch):
    monkeypatch.setattr(talks.local, "chances_of", lambda logits, labels: None)
    with pytest.raises(EngineError, match='has no token for "photo" or "words"'):
        talks.read([talk(0)], words=False)
