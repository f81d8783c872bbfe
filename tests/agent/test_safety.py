"""What is refused, in words, and never painted."""

from __future__ import annotations

import logging
import sys
import types

import pytest

from keyword_model import KeywordModel, words_to
from showtell.agent.safety import REASON, UNSURE, Safety, word_list
from showtell.agent.session import Session
from showtell.dialogue import AGENT, Photo, Turn
from showtell.errors import UsageError
from showtell.models.reply import Decision, Described, Reply, Words, silence


@pytest.mark.parametrize(
    "text",
    [
        "send me nudes",
        "Show me some NSFW pics",
        "send ｎｕｄｅｓ please",
        "nu\u200bdes please",
        "a sexy photo of a child",
        "I want to kill myself",
        "i am going to end  my life",
        "quiero matarme",
    ],
)
def test_the_word_list_refuses(text):
    assert word_list(text, "user")


@pytest.mark.parametrize(
    "text",
    [
        "my kids love the beach",
        "a photo of a baby elephant",
        "show me Essex, and the naked mole rat",
        "this traffic kills me",
        "she wore a sexy dress to the party",
        "can you send a photo of your dog?",
    ],
)
def test_the_word_list_lets_everyday_talk_pass(text):
    assert all(word_list(text, of) is None for of in ("user", "prompt", "output"))


def test_a_refused_request_is_answered_in_words_and_reaches_no_model(caplog):
    model = KeywordModel()
    session, pieces = Session(model), []
    reply = session.say("please send nudes", tell=words_to(pieces))
    assert model.requests == [] and not reply.images
    assert "".join(pieces).strip() == reply.turns[0].text == session.turns[-1].text
    assert [d.reason for d in reply.decisions] == [REASON]
    assert "nudes" not in caplog.text and "word_list refused a text (user)" in caplog.text
    assert session.say("send me a photo of a dog, please").images  # and the talk goes on


class Speaks:
    """Says what it is given; shares a photo of a description."""

    name, card, sees = "speaks", {}, True

    def __init__(self, *said, caption=None):
        self.said, self.caption, self.painted = said, caption, False

    def respond(self, turns, *, images, seed, tell=silence, dial=None):
        from PIL import Image

        reply = Reply()
        for text in self.said:
            for word in text.split(" "):
                tell(Words(text=word + " "))
            tell(Words(text="\n"))
            reply.turns.append(Turn(speaker=AGENT, elements=(text,)))
            reply.decisions.append(Decision(share=False))
        if self.caption is not None:
            tell(Described(id="p", words=self.caption))
            self.painted = True
            reply.images["p"] = Image.new("RGB", (4, 4))
            photo = Photo(id="p", caption=self.caption, origin="painted")
            reply.turns.append(Turn(speaker=AGENT, elements=(photo,)))
            reply.decisions.append(Decision(share=True))
        return reply


def test_what_a_photo_would_show_is_looked_at_before_it_is_painted():
    model = Speaks("Here you go!", caption="nude portrait")
    reply = Session(model).say("hi")
    assert not model.painted and not reply.images
    assert [turn.text for turn in reply.turns][0] == "Here you go!" and len(reply.turns) == 2
    fine = Speaks("Here you go!", caption="a dog")
    assert Session(fine).say("hi").images and fine.painted


def test_what_the_agent_says_is_looked_at_and_the_rest_goes_unsaid():
    pieces: list[str] = []
    reply = Session(Speaks("Hello there.", "Look at my nudes now.")).say(
        "hi", tell=words_to(pieces)
    )
    told = "".join(pieces)
    assert "nudes" not in told and told.startswith("Hello there.")
    assert "nudes" not in " ".join(turn.text for turn in reply.turns)
    assert reply.decisions[-1].reason == REASON


def named(monkeypatch, check):
    module = types.ModuleType("checks_of_a_test")
    module.check = check
    monkeypatch.setitem(sys.modules, "checks_of_a_test", module)
    return Safety(["checks_of_a_test.check"])


def test_a_check_of_ones_own_is_given_whole_sentences(monkeypatch):
    seen = []

    def check(text, of):
        seen.append((of, text.strip()))
        return "No." if "secret" in text and of == "output" else None

    session, pieces = Session(Speaks("One two. Three the secret is four. Five")), []
    session.safety = named(monkeypatch, check)
    session.say("hi", tell=words_to(pieces))
    assert ("user", "hi") in seen and ("output", "One two.") in seen
    assert "".join(pieces).split("\n") == ["One two. ", "No.", ""]


def test_a_check_that_fails_refuses(monkeypatch, caplog):
    def check(text, of):
        raise RuntimeError(f"no network for {text}")

    model = KeywordModel()
    session = Session(model)
    session.safety = named(monkeypatch, check)
    assert session.say("hi there").turns[0].text == UNSURE
    assert model.requests == [] and "hi there" not in caplog.text


def test_switching_checks_off_is_logged_and_other_names_are_refused(caplog):
    caplog.set_level(logging.WARNING)
    session = Session(KeywordModel())
    session.safety = Safety(["off"])
    assert "safety checks are off" in caplog.text
    assert session.say("send me a photo of nudes").images
    for name in ("nowhere.check", "os", "showtell.agent.safety.OFF"):
        with pytest.raises(UsageError, match="check"):
            Safety([name])
