"""When a photo comes, asked of a server of decisions."""

import json
import threading

import pytest
from fastapi.testclient import TestClient

from agent.tiny_chat import as_json, stream_of, top_of
from data.web import serving, stall, status
from keyword_model import KeywordModel
from serve.live import live
from showtell.agent.decisions import Decisions, WhenAsked, decide_by
from showtell.agent.session import Session, responder
from showtell.agent.when import When
from showtell.dialogue import AGENT, USER, Photo, Turn
from showtell.errors import EngineError, UsageError
from showtell.models.reply import Dial, Wish
from showtell.serve.setting_up import Setup

ASKED = "/v1/decisions"
TALK = (
    Turn(speaker=USER, elements=("my dog is ill",)),
    Turn(speaker=AGENT, elements=("oh no", Photo(id="p", caption="a dog"))),
    Turn(speaker=USER, elements=("he sleeps",)),
)


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setattr("showtell.agent.endpoint.sleep", lambda seconds: None)
    with serving() as web:
        yield web


def says(probability):
    answer = {"type": "predicate", "name": "photo", "probability": probability}
    return as_json({"answers": [answer], "model": "d3"})


def server(web, *behaviours, **more):
    web.put(ASKED, *behaviours)
    return Decisions(web.address + "#d3", **more)


def decided(server, *turns, wish=None, **dial):
    turns = turns or TALK
    when = WhenAsked(server=server)
    return when.decide(0.99, turns=turns, wish=wish or when.wish(turns), dial=Dial(**dial))


def test_the_talk_is_asked_about_in_the_wire_of_decisions_and_no_photo_is_sent(web):
    assert server(web, says(0.7)).chance(TALK) == 0.7
    sent = json.loads(web.bodies[0])
    assert sent["model"] == "d3" and [q["type"] for q in sent["questions"]] == ["predicate"]
    assert [said["role"] for said in sent["input"]] == ["user", "assistant", "user"]
    assert "oh no" in sent["input"][1]["content"] and all(
        isinstance(said["content"], str) for said in sent["input"]
    )


def test_the_servers_chance_counts_in_the_models_place(web):
    asked = server(web, says(0.7))
    assert decided(asked).share and decided(asked).p_share == 0.7
    assert not decided(asked, cost=3.0).share and decided(asked, cost=2.0).share
    assert not decided(server(web, says(0.4))).share


def test_a_wish_and_a_dial_that_need_no_chance_are_not_sent_for(web):
    asked = server(web, says(1.0))
    for wish in (Wish(share=True), Wish(share=False)):
        assert decided(asked, wish=wish).share is wish.share
    assert not decided(asked, kind="asked").share and not web.bodies


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        (status(500), "answered 500"),
        (status(404), "check the address"),
        (as_json({"answers": [{"type": "refusal", "name": "photo"}]}), "would not say"),
        (as_json({"answers": []}), "answered no probability"),
        (as_json({"answers": [{"type": "predicate", "probability": 7}]}), "no probability"),
        (as_json({"answers": [{"type": "predicate", "probability": True}]}), "no probability"),
        (as_json([1]), "wanted an object"),
    ],
)
def test_a_server_that_fails_costs_the_photo_and_says_so_in_one_line(web, behaviour, told):
    found = decided(server(web, behaviour))
    assert not found.share and found.p_share is None
    assert told in found.note and "\n" not in found.note and "decision server" in found.note
    assert decided(server(web, behaviour), wish=Wish(share=True)).share


def test_a_server_that_does_not_answer_is_not_waited_for(web):
    until = threading.Event()
    assert "did not answer in 0.2 s" in decided(server(web, stall(until), timeout_s=0.2)).note
    until.set()


def test_an_answer_goes_on_in_words_with_one_note(web, tiny_end_to_end):
    agent = responder(tiny_end_to_end)
    decide_by(agent, server(web, status(503)))
    session = Session(agent)
    reply = session.say("my dog is ill")
    assert reply.turns and not reply.images
    assert len([note for note in session.notes if "answered 503" in note]) == 1


def test_serve_asks_the_server_that_it_was_told_of(web, tmp_path):
    asked = server(web, says(0.2))

    def talk(request):
        answer = top_of(photo=0.9, words=0.1) if b"logprobs" in web.bodies[-1] else stream_of("Hm.")
        answer(request)

    web.put("/v1/chat/completions", talk)
    lm, decide = f"{web.address}/v1#lm", f"{web.address}/v1#{asked.name}"
    app = Setup(lms=(lm,), decide=decide, data=tmp_path, hosts=("testserver",)).app(print)
    with TestClient(app) as client:
        body = {"messages": [{"role": "user", "content": "my dog is ill"}]}
        told = client.post("/v1/chat/completions", json=body).json()["showtell"]["decisions"]
    assert [each["p_share"] for each in told] == [0.2]


def test_what_decides_for_itself_is_refused_and_so_is_no_address(web):
    with pytest.raises(UsageError, match="decides for itself"):
        decide_by(KeywordModel(), server(web, says(1.0)))
    with pytest.raises(UsageError, match="wanted http"):
        Decisions("ftp://host")
    web.put("/v1/models", status(404))
    with pytest.raises(EngineError, match="check the address"):
        Decisions(web.address)


def test_our_own_service_is_such_a_server(tmp_path, tiny_end_to_end):
    agent = responder(tiny_end_to_end)
    talk = TALK[:1]
    with live(tmp_path, agents={"tiny": agent}) as client:
        chance = Decisions(f"{client.base_url.join('/v1/decisions')}#tiny").chance(talk)
    own = agent.respond(talk, images={}, seed=0).decisions[0]
    assert isinstance(agent.when, When) and chance == pytest.approx(own.p_share, rel=1e-6)
