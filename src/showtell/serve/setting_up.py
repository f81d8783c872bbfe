"""A server from what its command line says: one process, or replicas on Ray.

Replicas keep nothing of their own: talks, photos and settings are in the PostgreSQL database that
they share, so any of them goes on with any talk, and one that dies loses no more than the answer
that it was giving.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.errors import UsageError, import_extra
from showtell.models.reply import Dial

if TYPE_CHECKING:
    from fastapi import FastAPI

    from showtell.agent.session import Answering
    from showtell.serve.worker import Worker

FILE, SHARED = "showtell.db", "shared.jsonl"
Say = Callable[[str], Any]
_AT_ONCE = 256  # requests that Ray gives one replica; how many answers it takes the workers say


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is served, and how; as ``showtell serve`` is told."""

    models: tuple[str, ...] = ()
    lms: tuple[str, ...] = ()
    calibration: Path | None = None
    album: str | None = None
    share_album: bool = False
    painter: str | None = None
    data: Path = Path("showtell-data")
    store: str | None = None
    api_keys: Path | None = None
    pace: str | None = None
    sign: Path | None = None
    safety: tuple[str, ...] = ()
    fetch: bool = False
    decide: str | None = None
    dial: Dial = field(default_factory=Dial)
    hosts: tuple[str, ...] = ()
    device: str | None = None
    dtype: str | None = None

    def app(self, say: Say) -> FastAPI:
        """The application, its models read. Raises ShowtellError for what cannot be had."""
        from showtell.agent.audit import Audit
        from showtell.agent.provenance import Signing
        from showtell.agent.safety import Safety
        from showtell.serve.albums import Albums
        from showtell.serve.app import build_app
        from showtell.serve.keys import Keys, Pace
        from showtell.serve.outside import Outside
        from showtell.serve.service import Service
        from showtell.serve.store import Store

        safety = Safety(list(self.safety)) if self.safety else Safety()
        signing = None if self.sign is None else Signing(self.sign)
        keys = Keys() if self.api_keys is None else Keys.read(self.api_keys)
        pace = None if self.pace is None else Pace(self.pace)
        store = Store(self.store if self.store is not None else self.data / FILE)
        workers = self._workers(say)
        agents = [worker.agent for worker in workers.values()]
        service = Service(
            workers,
            store,
            outside=Outside(schemes=("https",)) if self.fetch else Outside(),
            signing=signing,
            safety=safety,
            audit=Audit(self.data / SHARED),
            dial=self.dial,
            albums=Albums(agents, self.data / "albums", shared=self.share_album),
        )
        return build_app(service, keys=keys, pace=pace, hosts=self.hosts)

    def _workers(self, say: Say) -> dict[str, Worker]:
        """Who answers, by name."""
        from showtell.agent.decisions import Decisions, decide_by
        from showtell.agent.engines import open_painter
        from showtell.agent.home import HOME, MINI, agent_of, home_is_here, llm_agent
        from showtell.serve.worker import Worker

        painter = None if self.painter is None else open_painter(self.painter)
        chosen, album = list(self.models), self.album
        if self.calibration is not None and len(self.lms) != 1:
            raise UsageError("--calibration is of one --lm; name that alone, or leave it out")
        if not chosen and not self.lms:
            chosen = [HOME, MINI] if home_is_here(say=say) else [MINI]
            album = album if album is not None or chosen[0] != HOME else "sample"
        if (album or self.painter) is not None and not self.lms and set(chosen) == {MINI}:
            flag = f"--album {album}" if album is not None else f"--painter {self.painter}"
            raise UsageError(
                f"{flag} is for a model whose photos come from elsewhere, and {MINI} paints its "
                "own; name another --model beside it, or leave it out"
            )
        judge = None if self.decide is None else Decisions(self.decide)
        agents: list[Answering] = []
        for each in chosen:
            own = each == MINI
            agents.append(
                agent_of(
                    each, say=say, album=None if own else album, painter=None if own else painter
                )
            )
        for each in self.lms:
            agents.append(
                llm_agent(each, painter=painter, album=album, calibration=self.calibration)
            )
        if judge is not None:
            for agent in agents:
                decide_by(agent, judge)
        return {agent.name: Worker(agent) for agent in agents}


def run_replicas(
    setup: Setup, *, replicas: int, host: str, port: int, until: Callable[[], Any]
) -> None:
    """Serve by ``replicas`` processes on Ray until ``until`` returns. A replica that dies is
    started anew; requests go to the others meanwhile.

    Raises MissingDependency without Ray, UsageError without a store that can be shared.
    """
    import_extra("ray", what="--replicas", extra="ray")
    if setup.store is None or "://" not in setup.store:
        raise UsageError(
            f"--replicas {replicas} keep their talks together; wanted --store postgresql://...; "
            "name a database"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine by itself
    import ray
    from ray import serve

    def build() -> FastAPI:
        from showtell.runtime import in_dtype, on_device

        for_good = ExitStack()  # the process is the replica's alone
        for_good.enter_context(on_device(setup.device))
        for_good.enter_context(in_dtype(setup.dtype))
        return setup.app(print)

    own = not ray.is_initialized()
    if own:
        how: dict[str, Any] = {"log_to_driver": False}
        if not os.environ.get("RAY_ADDRESS"):  # no cluster to join: one of this machine's own
            cores = max(replicas, os.cpu_count() or 1)
            how |= {"num_cpus": cores, "include_dashboard": False}
        ray.init(**how)
    try:
        serve.start(http_options={"host": host, "port": port})
        deployed = serve.deployment(num_replicas=replicas, max_ongoing_requests=_AT_ONCE)
        serve.run(deployed(serve.ingress(build)()).bind(), name="showtell", route_prefix="/")
        until()
    finally:
        serve.shutdown()
        if own:
            ray.shutdown()
