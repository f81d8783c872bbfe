"""A model at work for many: answers in batches, each its own; nobody waits for who is gone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import responder_of
from keyword_model import KeywordModel
from showtell.dialogue import USER, Turn
from showtell.models.reply import Words
from showtell.serve.worker import Busy, Worker


def turns(text: str) -> tuple[Turn, ...]:
    return (Turn(speaker=USER, elements=(text,)),)


class Held(KeywordModel):
    """Waits until it is let go on; answers several at once where asked to."""

    def __init__(self):
        super().__init__()
        self.let, self.batches = threading.Event(), []

    def respond(self, turns, **more):
        return self.respond_all([turns], **{f"{k}s": [v] for k, v in more.items()})[0]

    def respond_all(self, contexts, *, imagess=None, images=None, seeds, tells, dials):
        self.batches.append([turns[-1].text for turns in contexts])
        while not self.let.wait(0.005):
            for tell in tells:
                tell(Words(text=""))
        if any(turns[-1].text == "fail" for turns in contexts):
            raise ValueError("broken")
        return [
            super(Held, self).respond(turns, images={}, seed=0, tell=tell)
            for turns, tell in zip(contexts, tells, strict=True)
        ]


@pytest.fixture
def held():
    agent = Held()
    worker = Worker(agent, max_rows=3, max_waiting=4)
    yield agent, worker
    agent.let.set()
    worker.close()


def asked(worker, pool, *texts, tell=lambda event: None):
    found = []
    for text in texts:
        found.append(pool.submit(worker.respond, turns(text), images={}, seed=0, tell=tell))
        time.sleep(0.03)
    return found


def test_those_who_wait_are_answered_together_first_come_first_served(held):
    agent, worker = held
    with ThreadPoolExecutor(8) as pool:
        answers = asked(worker, pool, "a", "b", "c", "d", "e")
        assert worker.counts.rows == 1 and worker.counts.waiting in (0, 4)
        with pytest.raises(Busy) as busy:
            worker.respond(turns("f"), images={}, seed=0)
        assert busy.value.retry_after >= 1
        agent.let.set()
        assert all(each.result(5).turns[0].text == "That is nice to hear." for each in answers)
    assert agent.batches == [["a"], ["b", "c", "d"], ["e"]]
    assert worker.counts.answers == 5 and worker.counts.rows == 0


def test_who_leaves_is_not_waited_for_and_the_others_are_answered(held):
    agent, worker = held

    def leaving(event):
        raise ConnectionError("gone")

    with ThreadPoolExecutor(8) as pool:
        (first,) = asked(worker, pool, "a")
        (leaves,) = asked(worker, pool, "b", tell=leaving)
        (stays,) = asked(worker, pool, "c")
        agent.let.set()
        assert first.result(5).turns and stays.result(5).turns
        with pytest.raises(ConnectionError):
            leaves.result(5)
    assert worker.counts.stopped == 1 and worker.counts.answers == 2


def test_when_the_only_one_leaves_the_model_is_free_at_once(held):
    agent, worker = held

    def leaving(event):
        raise ConnectionError("gone")

    with ThreadPoolExecutor(2) as pool:
        (leaves,) = asked(worker, pool, "a", tell=leaving)
        with pytest.raises(ConnectionError):
            leaves.result(5)
        agent.let.set()
        assert worker.respond(turns("b"), images={}, seed=0).turns


def test_a_failure_is_told_to_those_it_hit_and_the_next_are_answered(held):
    agent, worker = held
    agent.let.set()
    with pytest.raises(ValueError, match="broken"):
        worker.respond(turns("fail"), images={}, seed=0)
    assert worker.respond(turns("b"), images={}, seed=0).turns and worker.counts.failed == 1


def test_in_company_a_model_says_what_it_says_alone(tiny_end_to_end):
    agent = responder_of(tiny_end_to_end, share_threshold=1.1, max_turns=1)
    texts = ["hello", "how are you", "my dog is ill today"]
    alone = [agent.respond(turns(text), images={}, seed=3).turns for text in texts]
    worker = Worker(agent)
    with ThreadPoolExecutor(3) as pool:
        together = list(
            pool.map(lambda text: worker.respond(turns(text), images={}, seed=3).turns, texts)
        )
    worker.close()
    assert together == alone
