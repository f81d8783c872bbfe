"""Talks of a thousand turns: right to the end, and an answer costs what it cost at the start."""

from __future__ import annotations

import time
import tracemalloc

from conftest import build_model
from keyword_model import KeywordModel
from showtell.agent.session import Session, responder
from showtell.dialogue import AGENT, USER, Photo, Turn


def test_a_thousand_turns_are_kept_and_come_back(tmp_path):
    model = KeywordModel()
    session = Session(model, seed=3)
    times = []
    for number in range(350):
        began = time.process_time()
        session.say(f"hello {number}" if number % 2 else f"send me photo number {number}")
        times.append(time.process_time() - began)
    assert len(session.turns) > 850 and len(session.images) == 175
    assert sorted(times[-50:])[25] < 0.02  # nothing grows with the square of the talk
    ids = [photo.id for turn in session.turns for photo in turn.photos]
    assert len(set(ids)) == 175 and len(session.p_share) == len(session.turns)
    session.save(tmp_path / "talk")
    again = Session.open(model, tmp_path / "talk")
    assert [t.text for t in again.turns] == [t.text for t in session.turns]
    assert again.say("send me a photo").images and len(again.images) == 176


def test_a_model_reads_the_end_of_a_long_talk_in_bounded_time_and_memory(tokenizers):
    from PIL import Image

    agent = responder(build_model(tokenizers, bridge="dvtm"))
    most = agent.decoder.renderer.config.max_tokens

    def long(num_turns):
        """A session with so many turns behind it, a photo among each ten."""
        session = Session(agent)
        turns, images = [], {}
        for number in range(num_turns):
            speaker = AGENT if number % 2 else USER
            turns.append(Turn(speaker=speaker, elements=(f"this is what turn {number} says",)))
            if number % 10 == 5:
                photo = Photo(id=f"p{number}", caption="a red dog", origin="painted")
                images[photo.id] = Image.new("RGB", (32, 32), "red")
                turns.append(Turn(speaker=AGENT, elements=(photo,)))
        session.turns, session.images = tuple(turns), images
        session.p_share = [None] * len(turns)
        return session

    def told(num_turns):
        """(its reply, seconds at work, bytes at most)"""
        session, again = long(num_turns), long(num_turns)
        began = time.process_time()
        reply = session.say("how are you doing today?")
        seconds = time.process_time() - began
        tracemalloc.start()
        again.say("how are you doing today?")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return reply, seconds, peak

    told(60)  # warm
    few, seconds, peak = told(60)
    many, long_seconds, long_peak = told(1_000)
    assert many.turns and many.dropped_turns > 900
    rendered = agent.decoder.renderer.render_turns(long(1_000).turns)
    assert len(rendered.ids) <= most
    assert long_seconds < 3 * seconds + 0.5
    assert long_peak < 2 * peak + 5_000_000
    # the last words decide: the same end gives the same answer however long the talk before it was
    assert few.dropped_turns == 0 or few.dropped_turns < many.dropped_turns
