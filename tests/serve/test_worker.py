"""One worker, many who ask: they join, leave, are too many, and are told when it closes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from conftest import responder_of
from keyword_model import KeywordModel
from showtell.dialogue import USER, Photo, Turn
from showtell.models.reply import Words
from showtell.serve.worker import Busy, Turns, Worker

HELLO = (Turn(speaker=USER, elements=("hello there",)),)
PATIENCE = 20  # seconds, of what takes none


def until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture
def responder(tiny_end_to_end):
    return responder_of(tiny_end_to_end, share_threshold=1.1, max_turns=1, max_new_tokens=40)


class Gone(Exception):
    pass


def test_all_who_ask_are_answered_as_alone(responder):
    want = [responder.respond(HELLO, images={}, seed=seed).turns for seed in range(8)]
    worker = Worker(responder, max_rows=3)
    with ThreadPoolExecutor(8) as pool:
        replies = pool.map(lambda seed: worker.respond(HELLO, images={}, seed=seed), range(8))
        assert [reply.turns for reply in replies] == want
    assert (worker.counts.answers, worker.counts.rows, worker.counts.waiting) == (8, 0, 0)
    worker.close()


def test_who_comes_later_joins_and_who_leaves_stops_nobody(responder):
    worker, joined, heard = Worker(responder), threading.Event(), []

    def first(event):  # goes on only when the second has said a word
        heard.append("first")
        if len(heard) == 1:
            second.submit(worker.respond, HELLO, images={}, seed=2, tell=later)
        if len([who for who in heard if who == "first"]) == 30:
            assert joined.is_set()

    def later(event):
        heard.append("later")
        joined.set()
        raise Gone

    with ThreadPoolExecutor(1) as second:
        reply = worker.respond(HELLO, images={}, seed=1, tell=first)
    assert heard.count("later") == 1
    assert reply.turns == responder.respond(HELLO, images={}, seed=1).turns
    assert (worker.counts.answers, worker.counts.stopped, worker.counts.failed) == (1, 1, 0)
    worker.close()


@pytest.mark.parametrize("kind", ["company", "each alone"])
def test_too_many_are_told_when_to_come_again_and_those_who_wait_that_it_closes(responder, kind):
    agent = responder if kind == "company" else KeywordModel()
    worker = Worker(agent, max_rows=1, max_waiting=1)
    at_work, go_on = threading.Event(), threading.Event()

    def hold(event):
        at_work.set()
        assert go_on.wait(PATIENCE)
        if isinstance(event, Words):
            raise Gone

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(worker.respond, HELLO, images={}, seed=1, tell=hold)
        assert at_work.wait(PATIENCE)
        two = pool.submit(worker.respond, HELLO, images={}, seed=2)
        until(lambda: worker._waiting)
        with pytest.raises(Busy, match=r"waiting \(1\)") as busy:
            worker.respond(HELLO, images={}, seed=3)
        assert 1 <= busy.value.retry_after <= 60
        closing = threading.Thread(target=worker.close)
        closing.start()
        until(lambda: worker._closed)
        go_on.set()
        with pytest.raises(Gone):
            one.result(PATIENCE)
        with pytest.raises(Busy, match="being closed"):
            two.result(PATIENCE)
        closing.join(PATIENCE)
    assert not any(thread.is_alive() for thread in worker._threads)


def test_what_cannot_be_read_fails_alone(responder, monkeypatch):
    encoder = type(responder.model.photo_encoder)
    look = encoder.look

    def looks(self, image):
        if image.size == (3, 3):
            raise ValueError("damaged")
        return look(self, image)

    monkeypatch.setattr(encoder, "look", looks)
    turns = (Turn(speaker=USER, elements=(Photo(id="it", origin="user"),)),)
    photos = {n: {"it": Image.new("RGB", (n, n))} for n in (3, 8)}
    worker = Worker(responder)
    held = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        pool.submit(worker.alone, lambda _: held.wait(PATIENCE))
        until(lambda: worker._turn._asked)
        asked = [pool.submit(worker.respond, turns, images=photos[n], seed=n) for n in (8, 3, 8)]
        until(lambda: len(worker._waiting) + worker.counts.rows == 3)
        held.set()  # the second and the third are begun together
        good, bad, again = (each.exception(PATIENCE) for each in asked)
    assert good is None and again is None and "damaged" in str(bad)
    assert (worker.counts.answers, worker.counts.failed) == (2, 1)
    worker.close()


def test_what_breaks_a_step_is_told_to_those_in_it_and_the_next_are_answered(responder):
    worker, hidden, broken = Worker(responder), responder.model.language.hidden, []

    def breaks(*args, **more):
        if broken:
            raise broken.pop()
        return hidden(*args, **more)

    responder.model.language.hidden = breaks

    def heard(event):
        broken.append(RuntimeError("out of memory"))

    with pytest.raises(RuntimeError, match="out of memory"):
        worker.respond(HELLO, images={}, seed=1, tell=heard)
    broken.clear()
    assert worker.respond(HELLO, images={}, seed=2).turns
    assert (worker.counts.answers, worker.counts.failed, worker.counts.rows) == (1, 1, 0)
    worker.close()


def test_the_first_to_come_is_the_first_to_be_answered(responder):
    worker, order, held = Worker(responder, max_rows=1), [], threading.Event()
    with ThreadPoolExecutor(7) as pool:
        pool.submit(worker.alone, lambda _: held.wait(PATIENCE))
        until(lambda: worker._turn._asked)
        for n in range(5):
            say = lambda event, n=n: order.append(n)  # noqa: E731
            pool.submit(worker.respond, HELLO, images={}, seed=n, tell=say)
            until(lambda n=n: len(worker._waiting) + worker.counts.rows == n + 1)
        held.set()
    assert order == sorted(order) and set(order) == {*range(5)}
    worker.close()


def test_other_work_has_its_turn_between_two_steps(responder):
    worker, order = Worker(responder), []

    def heard(event):
        order.append("word")
        if len(order) == 1:
            other.submit(worker.alone, lambda _: order.append("other"))

    with ThreadPoolExecutor(1) as other:
        worker.respond(HELLO, images={}, seed=1, tell=heard)
    assert 0 < order.index("other") < len(order) - 1
    worker.close()


def test_turns_are_had_in_the_order_of_asking():
    turns, order = Turns(), []

    def work(number):
        with turns:
            order.append(number)

    turns.__enter__()
    threads = []
    for number in range(8):
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        until(lambda number=number: len(turns._asked) == number + 2)
    turns.__exit__()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == list(range(8))


def test_what_is_asked_beside_lets_answers_have_their_steps(responder):
    worker, told, during = Worker(responder), threading.Event(), []

    def work(pause):
        reply = pool.submit(worker.respond, HELLO, images={}, seed=1, tell=lambda _: told.set())
        while not reply.done():
            during.append(told.is_set())
            pause()
        return reply.result()

    with ThreadPoolExecutor(1) as pool:
        assert worker.alone(work).turns == responder.respond(HELLO, images={}, seed=1).turns
    assert not during[0]
    worker.close()
