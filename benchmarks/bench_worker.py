"""Sixteen conversations together by one worker, against the same one at a time.

    python benchmarks/bench_worker.py [--model mini] [--talks 16] [--runs 3] [--threads 2]

Each says the same lines from its own seed, once with words alone and once with photos. Prints
tokens a second and the waits for the first word, the decision, the first preview and the photo.
Both ways answer the same dialogues from the same seeds, in turn within every run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import bench
import numpy as np

from showtell.agent.home import agent_of
from showtell.agent.session import Answering
from showtell.dialogue import USER, Turn
from showtell.models.reply import Event, PhotoDue, PhotoHere, Preview, Words
from showtell.serve.worker import Worker

LINES = {
    "words": ("hi! how are you today?", "what did you do this morning?", "tell me more about it"),
    "photos": ("can you show me a red dog at the beach?", "hi! how are you today?"),
}
Waits = dict[str, float]


def answered(agent: Answering, line: str, seed: int) -> Waits:
    """Seconds until each kind of event first came, and the pieces of text."""
    began, found = time.perf_counter(), {"pieces": 0.0}

    def heard(event: Event) -> None:
        now = time.perf_counter() - began
        if isinstance(event, Words):
            found["pieces"] += event.text != "\n"
            found.setdefault("first word", now)
        elif isinstance(event, PhotoDue):
            found.setdefault("decision", now)
        elif isinstance(event, Preview) and event.image is not None:
            found.setdefault("preview", now)
        elif isinstance(event, PhotoHere):
            found.setdefault("photo", now)

    turns = (Turn(speaker=USER, elements=(line,)),)
    agent.respond(turns, images={}, seed=seed, tell=heard)
    return found


def talk(agent: Answering, lines: Sequence[str], seed: int) -> list[Waits]:
    return [answered(agent, line, 1000 * seed + n) for n, line in enumerate(lines)]


def main() -> None:
    options = bench.parser(__doc__, runs=3, threads=2)
    options.add_argument("--model", default="mini")
    options.add_argument("--talks", type=int, default=16)
    options = bench.parsed(options)
    worker = Worker(agent_of(options.model, say=print), max_rows=options.talks)
    pool = ThreadPoolExecutor(options.talks)
    rows: dict[str, dict[str, object]] = {}
    for kind, lines in LINES.items():
        heard: dict[str, list[Waits]] = {}

        def alone() -> list[list[Waits]]:
            return [talk(worker, lines, seed) for seed in range(options.talks)]  # noqa: B023

        def together() -> list[list[Waits]]:
            return list(pool.map(lambda seed: talk(worker, lines, seed), range(options.talks)))  # noqa: B023

        def kept(name: str, way: Callable[[], list[list[Waits]]]) -> Callable[[], None]:
            return lambda: heard.update({name: [each for talks in way() for each in talks]})  # noqa: B023

        ways = {
            "one at a time": kept("one at a time", alone),
            "together": kept("together", together),
        }
        seconds = bench.in_turn(ways, runs=options.runs)
        for name, found in heard.items():
            pieces = sum(each["pieces"] for each in found)
            row: dict[str, object] = {
                "tokens a second": bench.spread([pieces / took for took in seconds[name]])
            }
            print(f"\n{kind}, {options.talks} talks, {name}: {pieces:.0f} tokens")
            print(
                "  tokens a second  {median:.1f} ({low:.1f} to {high:.1f})".format(
                    **row["tokens a second"]
                )
            )
            for event in ("first word", "decision", "preview", "photo"):
                waits = [each[event] for each in found if event in each]
                if waits:
                    p50, p95 = np.percentile(waits, (50, 95)).tolist()
                    row[event] = {"p50": p50, "p95": p95, "n": len(waits)}
                    print(f"  {event:<11} p50 {p50:.3f} s, p95 {p95:.3f} s, n {len(waits)}")
            rows[f"{kind}, {name}"] = row
    worker.close()
    pool.shutdown()
    bench.written(options, model=options.model, talks=options.talks, **{"rows": rows})


if __name__ == "__main__":
    main()
