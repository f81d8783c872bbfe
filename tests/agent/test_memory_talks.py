"""Talks in which photos are referred to, and several asked for at once, as agents answer them."""

import pytest
import torch
from PIL import Image
from test_zero_shot import Paints, Scripted, pictures
from tiny_chat import stream_of, top_of

from data.web import serving
from keyword_model import KeywordModel, words_to
from serve.live import live, streamed
from showtell import Session, load_model
from showtell.agent.remote_engines import RemoteLanguage
from showtell.agent.session import responder
from showtell.agent.which import Which
from showtell.agent.zero_shot import ZeroShot
from showtell.batch import to_pixels
from showtell.data.world import load_oracle
from showtell.models.reply import PhotoDue, PhotoHere

__all__ = ["pictures"]
ASKED = "hi! can you show me a blue boat all alone in the city during the day?"


@pytest.fixture(scope="module")
def mini():
    return responder(load_model("mini"))


@pytest.fixture
def session(mini):
    return Session(mini, seed=0)


def photos_of(reply):
    return [(photo, reply.images[photo.id]) for turn in reply.turns for photo in turn.photos]


def seen_on(image):
    return load_oracle("oracle").read(torch.stack([to_pixels(image)]))[0]


def test_a_photo_comes_again_as_it_was_and_at_night_and_darker(session):
    ((first, image),) = photos_of(session.say(ASKED))
    ((again, same),) = photos_of(session.say("show me the first one again"))
    assert (again.id, same.tobytes()) == (first.id, image.tobytes())
    ((night, dark),) = photos_of(session.say("the first one again but at night"))
    assert "at night" in night.caption and night.seed == first.seed and night.id != first.id
    was, now = seen_on(image), seen_on(dark)
    assert now["time"] == "night" != was["time"]
    assert now["subject"] == was["subject"] and now["colour"] == was["colour"]
    ((edited, darker),) = photos_of(session.say("make yours darker"))
    assert to_pixels(darker).mean() == pytest.approx(float(to_pixels(dark).mean()) * 0.6, rel=0.05)
    assert edited.origin == "painted" and edited.seed == first.seed


def test_U4_mine_is_edited_and_not_the_agents(session):
    """Also by painting: the photo that a user brings is seen, and painted over."""
    (_, image), *_ = photos_of(session.say(ASKED))
    reply = session.say("look at mine, make my photo snowy please", [image])
    ((edited, snowy),) = photos_of(reply)
    assert edited.origin == "painted" and "boat" in edited.caption and "snow" in edited.caption
    found = seen_on(snowy)
    assert (found["subject"], found["weather"]) == ("boat", "snowy")


def test_two_photos_are_two_and_not_the_same(session):
    heard = []
    reply = session.say("send me two photos of a blue boat in the city", tell=heard.append)
    (first, one), (second, two) = photos_of(reply)
    assert first.id != second.id and first.seed != second.seed and one.tobytes() != two.tobytes()
    due = [event.id for event in heard if isinstance(event, PhotoDue)]
    here = [event for event in heard if isinstance(event, PhotoHere)]
    assert [event.due for event in here] == due == [first.id, second.id]
    assert len(reply.turns) == len(reply.decisions) and len(session.turns) == len(session.p_share)


def test_what_is_not_clear_is_asked_and_nothing_is_painted(session):
    session.say(ASKED)
    reply = session.say("the third one again")
    assert not reply.images and "Which photo do you mean?" in reply.turns[0].text
    assert [decision.share for decision in reply.decisions] == [False]


def test_an_album_gives_two_photos_and_says_when_it_has_no_more(pictures):
    language = Scripted(0.1, "my dog", "Here!", "my dog", "Hm.")
    session = Session(ZeroShot(language, photos=Which(album=pictures)))
    reply = session.say("send me two photos please")
    assert [photo.id for photo, _ in photos_of(reply)] == ["p0", "p1"]
    assert len(reply.turns) == len(reply.decisions) == 1
    reply = session.say("send me two more photos please")  # the other one is damaged
    assert not photos_of(reply)
    language.texts = ["my cat", "Here!"]
    reply = Session(session.model).say("send me two photos please")
    assert [photo.id for photo, _ in photos_of(reply)] == ["p2"]
    assert reply.turns[-1].text.startswith("I have no other photo of that")
    assert len(reply.turns) == len(reply.decisions) == 2


def test_an_llm_paints_what_was_referred_to_and_an_edit_needs_no_painter():
    language, paints = (
        Scripted(0.1, "a brown dog on a beach", "There!", "At night!", "So dark!"),
        Paints(),
    )
    session = Session(ZeroShot(language, photos=Which(painter=paints)))
    ((first, _),) = photos_of(session.say("Send me a photo please"))
    ((second, _),) = photos_of(session.say("the same dog at night"))
    assert paints.asked == ["a brown dog on a beach", "a brown dog on a beach at night"]
    assert second.seed == first.seed  # the description was not asked for once more
    reply = session.say("look, my dog! make mine darker", [Image.new("RGB", (9, 9), "white")])
    ((edited, image),) = photos_of(reply)
    assert edited.origin == "user" and image.getpixel((0, 0)) == (153, 153, 153)
    reply = session.say("make mine blue")
    assert not reply.images and reply.turns[0].text.startswith("I cannot see that photo")


def test_two_photos_of_a_stream_have_their_indexes(tmp_path):
    agent = ZeroShot(Scripted(0.1, "a dog", "Here!"), photos=Which(painter=Paints()))
    ask = {"messages": [{"role": "user", "content": "Send me two photos please"}]}
    with live(tmp_path, agents={"zero": agent}) as client:
        chunks = streamed(client, ask)[:-1]
    images = [i for c in chunks for d in c["choices"] for i in d["delta"].get("images", ())]
    assert [image["index"] for image in images] == [0, 1]


def test_U10_thinking_reaches_neither_user_nor_painter_nor_caption(tmp_path):
    """Of an LLM behind an address; nor the LLM, where a client sends it back."""
    paints, told = Paints(), []
    with serving() as web:
        web.put(
            "/v1/chat/completions",
            top_of(photo=0.9, words=0.1),
            stream_of("a <thi", "nk>she wants a cat</think> brown dog"),
            stream_of("Here <think>it is done", "</think> you go! Nice?"),
        )
        agent = ZeroShot(RemoteLanguage(web.address + "/v1#tiny"), photos=Which(painter=paints))
        reply = Session(agent).say("Send me a photo please", tell=told.append)
    assert paints.asked == ["a brown dog"] and reply.turns[0].text == "Here you go! Nice?"
    assert [photo.caption for photo in reply.turns[0].photos] == ["a brown dog"]
    assert not any("think" in str(getattr(event, "text", "")) for event in told)
    keyword = KeywordModel()
    said = [("user", "Hi"), ("assistant", "Hello <think>who?</think> you"), ("user", "Well?")]
    ask = {"messages": [{"role": role, "content": text} for role, text in said]}
    with live(tmp_path, agents={"keyword": keyword}) as client:
        streamed(client, ask)
    assert [t.text for t in keyword.requests[-1]["turns"]] == ["Hi", "Hello you", "Well?"]


def test_U8_an_llm_that_denies_what_it_sends_is_not_heard():
    denial = "I'm sorry, I can't send photos."
    language = Scripted(0.1, "a dog", f"{denial} He is old.", "a cat", denial)
    session = Session(ZeroShot(language, photos=Which(painter=Paints())))
    pieces = []
    reply = session.say("Send me a photo please", tell=words_to(pieces))
    assert reply.turns[0].text == "He is old." == "".join(pieces).strip()
    pieces.clear()
    reply = session.say("And send me a photo of a cat please", tell=words_to(pieces))
    assert reply.turns[0].text == "Here it is." == "".join(pieces).strip()
    assert len(reply.turns[0].photos) == 1
