"""Thoughts are not told, and words agree with what was done."""

import random

import pytest
from PIL import Image

from showtell.dialogue import AGENT, USER, Photo, Turn
from showtell.models.reply import Decision, PhotoDue, PhotoHere, Reply, Wish, Words
from showtell.models.speech import HERE, NONE, Agreeing, Thoughtless, without_thoughts

THOUGHTS = [
    ("Hi <think>a secret</think> there", "Hi there"),
    ("<think>Hm.\n\n</think>\n\nHello", "Hello"),
    ("Yes. <THINK>no</THINK> Really <think>never closed", "Yes. Really"),
    ("one <think>a</think> two <think>b</think> three", "one two three"),
    ("a < b and <thin> is no mark <", "a < b and <thin> is no mark <"),
]
PHOTO, IMAGE = Photo(id="p", origin="painted"), Image.new("RGB", (2, 2))


@pytest.mark.parametrize(("text", "said"), THOUGHTS)
def test_U10_a_thought_is_told_nowhere_however_it_comes_in_pieces(text, said):
    assert without_thoughts(text) == said
    dice = random.Random(text)
    for _ in range(20):
        heard, told, rest = Thoughtless(), "", text
        while rest:
            size = dice.randint(1, 6)
            told, rest = told + heard.add(rest[:size]), rest[size:]
        assert (told + heard.end()).strip() == said


def test_U10_what_stands_before_a_lone_end_was_thought():
    assert without_thoughts("they want a dog</think>\nHere!") == "Here!"
    heard = Thoughtless()
    heard.add("they want a dog")
    heard.add("</think>\nHere!")
    assert heard.alone


def spoken(*events, share=None, able=True, before=()):
    """(what was told, the reply) of an answer whose events these are: texts, and a photo."""
    told = []
    agreeing = Agreeing(told.append, wish=Wish(share=share), able=able, turns=before)
    reply = Reply()
    for event in events:
        if event is PHOTO:
            agreeing(PhotoDue(id="p", decision=Decision(share=True)))
            agreeing(PhotoHere(due="p", photo=PHOTO, image=IMAGE))
        else:
            for piece in event.split(" "):
                agreeing(Words(text=piece + " "))
            agreeing(Words(text="\n"))
        reply.turns.append(Turn(speaker=AGENT, elements=(event,)))
        reply.decisions.append(Decision(share=event is PHOTO))
    agreeing.end(reply)
    words = "".join(event.text for event in told if isinstance(event, Words))
    lines = [" ".join(line.split()) for line in words.split("\n") if line.strip()]
    assert lines == [turn.text for turn in reply.turns if turn.text]
    assert len(reply.turns) == len(reply.decisions)
    return lines


DENIALS = """
I'm sorry, but I can't send photos.
As an AI, I am unable to share images with you!
Unfortunately I don't have any pictures.
Lo siento, no puedo enviar fotos.
I can’t send it, bad signal, no pictures today.
""".strip().splitlines()
CLAIMS = """
Here's a photo of my dog!
Here is the picture you asked for.
I've attached a photo of it.
I'm sending you a nice picture now.
[a photo: a brown dog]
*sends photo*
Aquí tienes una foto.
""".strip().splitlines()


@pytest.mark.parametrize("denial", DENIALS)
def test_U8_it_never_says_that_it_cannot_send_what_it_sent(denial):
    assert spoken(PHOTO, f"He loves the sea. {denial} Nice, no?") == ["He loves the sea. Nice, no?"]
    assert spoken(PHOTO, denial) == [HERE]
    assert spoken(denial, PHOTO, "He is old.") == ["He is old."]  # also where it came later
    # nothing came: then it is true
    assert spoken(denial, share=True) == [denial] == spoken(denial, able=False)


def test_U8_nor_that_it_cannot_where_it_could():
    assert spoken("Hm, I can't send photos. How are you?") == ["How are you?"]
    assert spoken("I can't send photos. How are you?") == ["How are you?"]
    assert spoken("I can't send photos. How are you?", share=False)[0].startswith("I can't")


@pytest.mark.parametrize("claim", CLAIMS)
def test_nor_that_a_photo_is_here_where_none_came(claim):
    assert spoken(f"Sure! {claim} Do you like it?") == ["Sure! Do you like it?"]
    assert spoken(claim, share=True) == [NONE]
    assert spoken(claim, PHOTO) == [claim] and spoken(PHOTO, claim) == [claim]


def test_here_you_go_is_true_of_a_photo_alone_and_what_was_sent_before_was_sent():
    assert spoken("Here you go! It was fun.", share=True) == ["It was fun."]
    assert spoken("Here you go!") == ["Here you go!"]
    before = [Turn(speaker=AGENT, elements=(PHOTO,)), Turn(speaker=USER, elements=("hm?",))]
    assert spoken("I sent you a photo of it.", before=before) == ["I sent you a photo of it."]


def test_other_words_are_told_at_once():
    told = []
    agreeing = Agreeing(told.append, wish=Wish(), able=True, turns=())
    for piece in ("The", " dog", " is"):
        agreeing(Words(text=piece))
    assert [event.text for event in told] == ["The", " dog", " is"]
