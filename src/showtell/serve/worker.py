"""One model at work for many conversations: a thread of its own, a bounded queue, batches.

    worker = Worker(agent)
    Session(worker).say("hi")          # from any thread; a worker answers as its agent does

Where the agent can (``company``), answers are given together, and whoever comes joins those that
are under way, first come, first served. One whose engines are elsewhere (``at_once``) gives each
answer in a thread of its own, which waits for the network alone. Nobody waits for a row that nobody
listens to any more: what ``tell`` raises ends that answer, and its row is free.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from showtell.dialogue import Turn
from showtell.errors import ShowtellError
from showtell.models.reply import Dial, Event, PhotoHere, Reply, Tell, Words, silence

if TYPE_CHECKING:
    from PIL.Image import Image

    from showtell.agent.session import Answering
    from showtell.models.company import Answer, Company

MAX_ROWS, MAX_WAITING, MAX_ALONE = 16, 64, 16
_USUAL = Dial()
T = TypeVar("T")


class Turns:
    """A lock that is had in the order in which it was asked for."""

    def __init__(self) -> None:
        self._asked: deque[threading.Lock] = deque()
        self._own = threading.Lock()

    def __enter__(self) -> None:
        mine = threading.Lock()
        mine.acquire()
        with self._own:
            self._asked.append(mine)
            first = len(self._asked) == 1
        if not first:
            mine.acquire()  # until the one before lets go

    def __exit__(self, *error: object) -> None:
        with self._own:
            self._asked.popleft()
            if self._asked:
                self._asked[0].release()


_AT_WORK = Turns()  # of all workers: models that share the cores take turns


class Busy(ShowtellError):
    """Too many wait; ``retry_after`` seconds are a good time to ask again."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(kw_only=True)
class Counts:
    """What a worker has done so far, and what it is at."""

    answers: int = 0
    stopped: int = 0
    failed: int = 0
    words: int = 0  # pieces of text
    photos: int = 0
    seconds: float = 0.0  # at work
    rows: int = 0  # being answered
    waiting: int = 0


@dataclass(eq=False, kw_only=True)
class _Job:
    turns: tuple[Turn, ...]
    images: Mapping[str, Image]
    seed: int
    told: Tell
    dial: Dial
    done: threading.Event = field(default_factory=threading.Event)
    reply: Reply | None = None
    error: BaseException | None = None
    stopped: bool = False

    def end(self, *, reply: Reply | None = None, error: BaseException | None = None) -> None:
        if not self.done.is_set():
            self.reply, self.error = reply, error
            self.done.set()


class Worker:
    """Answers by ``agent``, which is never asked by two threads at once."""

    def __init__(
        self, agent: Answering, *, max_rows: int = MAX_ROWS, max_waiting: int = MAX_WAITING
    ) -> None:
        self.agent = agent
        together = hasattr(agent, "company")
        threads = 1 if together else min(getattr(agent, "at_once", 1), max_rows)
        self.max_rows = max_rows if together else threads
        self.max_waiting = max_waiting
        self.counts = Counts()
        self._waiting: deque[_Job] = deque()
        self._alone = 0  # that are asked beside the answers
        self._changed = threading.Condition()
        self._closed = False
        # of engines elsewhere only the network is waited for, and they take many at once
        own: AbstractContextManager[None] = Turns() if threads == 1 else nullcontext()
        self._turn = _AT_WORK if together else own
        work = self._work_together if together else self._work_alone
        name = f"worker-{agent.name}"
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True) for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def name(self) -> str:
        return self.agent.name

    @property
    def card(self) -> Mapping[str, Any]:
        return self.agent.card

    @property
    def sees(self) -> bool:
        return self.agent.sees

    def respond(
        self,
        turns: tuple[Turn, ...],
        *,
        images: Mapping[str, Image],
        seed: int,
        tell: Tell = silence,
        dial: Dial = _USUAL,
    ) -> Reply:
        """The agent's answer, when it is its turn. Raises Busy where too many wait, what the agent
        raises, and what ``tell`` raised."""
        job = _Job(turns=turns, images=images, seed=seed, told=tell, dial=dial)
        with self._changed:
            self.check_free()
            self._waiting.append(job)
            self.counts.waiting = len(self._waiting)
            self._changed.notify()
        job.done.wait()
        if job.error is not None:
            raise job.error
        assert job.reply is not None
        return job.reply

    def check_free(self) -> None:
        """Raises Busy where an answer that was asked for now would not be taken."""
        if self._closed or len(self._waiting) >= self.max_waiting:
            raise self._busy(len(self._waiting))

    def _busy(self, waiting: int) -> Busy:
        return Busy(
            f"{self.name} has requests waiting ({waiting}), and takes no more for now; ask again "
            "in a moment",
            retry_after=self.wait_s(),
        )

    @property
    def most_at_once(self) -> int:
        """Requests that are held at once, at work or waiting."""
        return self.max_rows + self.max_waiting + MAX_ALONE

    def wait_s(self) -> int:
        """Seconds until what waits now should be answered."""
        each = self.counts.seconds / max(self.counts.answers, 1) / len(self._threads)
        return max(1, min(60, math.ceil(each * (1 + len(self._waiting)))))

    def alone(self, work: Callable[[Callable[..., None]], T]) -> T:
        """``work(pause)``, between two steps of answers: for what else the agent's parts do; whom
        ``pause`` is called by lets others have a step. Raises Busy where too many wait for that."""

        def pause(*_: object) -> None:
            self._turn.__exit__(None, None, None)
            self._turn.__enter__()

        with self._changed:
            if self._closed or self._alone >= MAX_ALONE:
                raise self._busy(self._alone)
            self._alone += 1
        try:
            with self._turn:
                return work(pause)
        finally:
            with self._changed:
                self._alone -= 1

    def close(self) -> None:
        """Answer nobody any more; those who wait are told."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    # ------------------------------------------------------------------------------- its thread

    def _taken(self, free: int, *, idle: bool) -> list[_Job] | None:
        """The next ones, at most ``free``; who is ``idle`` waits for one. None when it is over, and
        those who wait have been told."""
        with self._changed:
            if idle:
                self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                while self._waiting:
                    self._waiting.popleft().end(error=self._closing())
                return None
            jobs = [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
            self.counts.waiting = len(self._waiting)
            return jobs

    def _closing(self) -> Busy:
        return Busy(f"{self.name} is being closed", retry_after=10)

    def _work_alone(self) -> None:
        while (jobs := self._taken(1, idle=True)) is not None:
            began = time.monotonic()
            with self._changed:
                self.counts.rows += 1
            with self._turn:
                self._answer_alone(jobs[0])
            with self._changed:
                self.counts.rows -= 1
                self.counts.seconds += time.monotonic() - began

    def _work_together(self) -> None:
        company = self.agent.company()  # type: ignore[attr-defined]
        under: dict[Answer, _Job] = {}
        while True:
            jobs = self._taken(self.max_rows - len(under), idle=not under)
            if jobs is None:
                for job in under.values():
                    job.end(error=self._closing())
                return
            began = time.monotonic()
            self.counts.rows = len(under) + len(jobs)
            with self._turn:
                self._admit(company, jobs, under)
            try:
                with self._turn:
                    ended = company.step()
            except BaseException as error:  # nothing of it is to be trusted
                for job in under.values():
                    self._end(job, error=error)
                company, under = self.agent.company(), {}  # type: ignore[attr-defined]
            else:
                for answer in ended:
                    self._end(under.pop(answer), answer.row.reply, answer.error)
            self.counts.rows = len(under)
            self.counts.seconds += time.monotonic() - began

    def _answer_alone(self, job: _Job) -> None:
        try:
            reply = self.agent.respond(
                job.turns, images=job.images, seed=job.seed, tell=self._tell(job), dial=job.dial
            )
        except BaseException as error:  # the thread must live on
            self._end(job, error=error)
        else:
            self._end(job, reply)

    def _admit(self, company: Company, jobs: list[_Job], under: dict[Answer, _Job]) -> None:
        """Begin these answers; one that cannot be begun keeps nobody else waiting."""
        begun: dict[Answer, _Job] = {}
        for job in jobs:
            try:
                answer = company.responder.answer(
                    job.turns,
                    images=job.images,
                    seed=job.seed,
                    tell=self._tell(job),
                    dial=job.dial,
                )
            except BaseException as error:
                self._end(job, error=error)
            else:
                begun[answer] = job
        try:
            company.admit(list(begun))
        except BaseException as error:
            for job in begun.values():
                if len(begun) == 1:
                    self._end(job, error=error)
                else:
                    self._admit(company, [job], under)
        else:
            under.update(begun)

    def _end(
        self, job: _Job, reply: Reply | None = None, error: BaseException | None = None
    ) -> None:
        with self._changed:
            self.counts.answers += error is None
            self.counts.stopped += error is not None and job.stopped
            self.counts.failed += error is not None and not job.stopped
        job.end(reply=reply, error=error)

    def _tell(self, job: _Job) -> Tell:
        """``tell`` of a job, counted; what it raises is known for the listener's own."""

        def tell(event: Event) -> None:
            with self._changed:
                self.counts.words += isinstance(event, Words)
                self.counts.photos += isinstance(event, PhotoHere)
            try:
                job.told(event)
            except BaseException:
                job.stopped = True
                raise

        return tell
