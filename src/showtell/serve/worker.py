"""One model at work for many conversations: a thread of its own, a bounded queue, batches.

    worker = Worker(agent)
    Session(worker).say("hi")          # from any thread; a worker answers as its agent does

Those who wait when a batch begins are answered together, where the agent can. Nobody waits for a
row that nobody listens to any more: what ``tell`` raises ends that answer.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from showtell.dialogue import Turn
from showtell.errors import ShowtellError
from showtell.models.reply import Dial, Event, PhotoHere, Reply, Tell, Words, silence

if TYPE_CHECKING:
    from PIL.Image import Image

    from showtell.agent.session import Answering

MAX_ROWS, MAX_WAITING = 16, 64
_USUAL = Dial()
_AT_WORK = threading.Lock()  # of all workers: models that share the cores take turns


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
        self.max_rows = max_rows if hasattr(agent, "respond_all") else 1
        self.max_waiting = max_waiting
        self.counts = Counts()
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        # of an engine elsewhere only the network is waited for
        self._turn = _AT_WORK if hasattr(agent, "respond_all") else threading.Lock()
        self._thread = threading.Thread(target=self._work, name=f"worker-{agent.name}", daemon=True)
        self._thread.start()

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
            if self._closed or len(self._waiting) >= self.max_waiting:
                raise Busy(
                    f"{self.name} has {len(self._waiting)} answers waiting, and takes no more for "
                    "now; ask again in a moment",
                    retry_after=self.wait_s(),
                )
            self._waiting.append(job)
            self._changed.notify()
        job.done.wait()
        if job.error is not None:
            raise job.error
        assert job.reply is not None
        return job.reply

    def wait_s(self) -> int:
        """Seconds until what waits now should be answered."""
        each = self.counts.seconds / max(self.counts.answers, 1)
        return max(1, min(60, math.ceil(each * (1 + len(self._waiting)))))

    def alone(self, work: Any) -> Any:
        """``work()``, while no answer is made: for what else the agent's parts do (painting)."""
        with self._turn:
            return work()

    def close(self) -> None:
        """Answer nobody any more; those who wait are told."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=10)

    # ------------------------------------------------------------------------------- its thread

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    for job in self._waiting:
                        job.end(error=Busy(f"{self.name} is being closed", retry_after=10))
                    return
                count = min(self.max_rows, len(self._waiting))
                jobs = [self._waiting.popleft() for _ in range(count)]
                self.counts.waiting = len(self._waiting)
            began = time.monotonic()
            self.counts.rows = len(jobs)
            try:
                with self._turn:
                    self._answer(jobs)
            except BaseException as error:  # the thread must live on
                self.counts.failed += sum(not job.done.is_set() for job in jobs)
                for job in jobs:
                    job.end(error=error)
            self.counts.rows = 0
            self.counts.seconds += time.monotonic() - began

    def _answer(self, jobs: list[_Job]) -> None:
        if len(jobs) == 1:
            (job,) = jobs
            reply = self.agent.respond(
                job.turns,
                images=job.images,
                seed=job.seed,
                tell=self._tell(jobs, job),
                dial=job.dial,
            )
            self._ended(job, reply)
            return
        replies = self.agent.respond_all(  # type: ignore[attr-defined]
            [job.turns for job in jobs],
            images=[job.images for job in jobs],
            seeds=[job.seed for job in jobs],
            tells=[self._tell(jobs, job) for job in jobs],
            dials=[job.dial for job in jobs],
        )
        for job, reply in zip(jobs, replies, strict=True):
            self._ended(job, reply)

    def _ended(self, job: _Job, reply: Reply) -> None:
        if not job.done.is_set():
            self.counts.answers += 1
        job.end(reply=reply)

    def _tell(self, jobs: list[_Job], job: _Job) -> Tell:
        """``tell`` of one of them: what it raises ends its answer, and the last one's ends all."""

        def tell(event: Event) -> None:
            if not job.done.is_set():
                self.counts.words += isinstance(event, Words)
                self.counts.photos += isinstance(event, PhotoHere)
                try:
                    job.told(event)
                except BaseException as error:
                    self.counts.stopped += 1
                    job.end(error=error)
            if all(each.done.is_set() for each in jobs):
                raise _NobodyListens

        return tell


class _NobodyListens(Exception):
    """All who asked have gone."""
