"""What a model reads of every photo of a talk."""

import json

import pytest
from test_zero_shot import Scripted

from showtell import Session, load_model
from showtell.agent.context import photos_in_context
from showtell.agent.session import responder
from showtell.agent.zero_shot import ZeroShot, to_say
from showtell.cli import main
from showtell.data.world import draw_photo, open_world
from showtell.dialogue import AGENT, USER, Photo, Turn
from showtell.models.reply import Reply


@pytest.fixture(scope="module")
def mini():
    return responder(load_model("mini"))


@pytest.fixture
def brought():
    (photo,) = open_world("world:photos:200000-200000")[0].photos
    return draw_photo(photo)


def test_U7_inspect_context_prints_what_the_model_reads_of_every_photo(
    mini, brought, tmp_path, capsys
):
    session = Session(mini, seed=0)
    session.say("look at this", [brought])
    reply = session.say("can you show me a red cake on the table?")
    (own,) = [photo for turn in reply.turns for photo in turn.photos]
    session.save(tmp_path / "talk")
    assert main(["inspect-context", str(tmp_path / "talk"), "--model", "mini", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    first, second = told["photos"]
    assert (first["speaker"], first["origin"], first["caption"]) == (USER, "user", "")
    assert first["embeddings"] == mini.decoder.renderer.config.num_photo_tokens
    assert (second["speaker"], second["id"], second["caption"]) == (AGENT, own.id, own.caption)
    assert second["embeddings"] and own.caption in second["read"]
    # all that was rendered, and nothing else, is told
    images = {id: image for id, image in session.images.items() if id != own.id}
    blind = photos_in_context(mini, session.turns, images)[1]
    assert (blind.embeddings, blind.read) == (0, second["read"])
    assert main(["inspect-context", str(tmp_path / "talk"), "--model", "mini"]) == 0
    out = capsys.readouterr().out
    assert "mini reads 2 of 2 photos" in out
    assert "and 8 embeddings of its pixels" in out and own.id in out


def test_a_photo_that_does_not_fit_any_more_is_not_read(mini):
    session = Session(mini, seed=0)
    photo = Photo(id="old", caption="a red dog", origin="painted", seed=1)
    session.take("hi", [], Reply(turns=[Turn(speaker=AGENT, elements=(photo,))], decisions=[]))
    turns = (*session.turns, *[Turn(speaker=USER, elements=("a word " * 40,))] * 20)
    (old,) = photos_in_context(mini, turns, {})
    assert old.read is None and "does not fit" in old.line


def test_an_llm_reads_words_for_a_photo_and_none_of_the_users():
    agent = ZeroShot(Scripted(0.1))
    turns = [
        Turn(speaker=USER, elements=(Photo(id="u", origin="user"),)),
        Turn(speaker=AGENT, elements=("Here!", Photo(id="p", caption="a dog", origin="painted"))),
        Turn(speaker=USER, elements=("nice",)),
    ]
    seen = photos_in_context(agent, turns, {})
    assert [photo.read for photo in seen] == [
        "[a photo that I cannot see]",
        "Here! [a photo: a dog]",
    ]
    messages = "\n".join(message["content"] for message in to_say(turns))
    assert all(photo.read in messages for photo in seen)
    long = [*turns, *[Turn(speaker=USER, elements=("x" * 900,))] * 8]
    assert [photo.read for photo in photos_in_context(agent, long, {})] == [None, None]


def test_a_folder_without_a_talk_is_one_clear_line(tmp_path, capsys):
    assert main(["inspect-context", str(tmp_path / "none"), "--model", "mini"]) != 0
    assert "wanted one that a conversation was saved in" in capsys.readouterr().err
