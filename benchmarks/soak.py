"""Many conversations at once against a running service, for a while: errors, times, memory.

    showtell serve --model mini --data /tmp/soak &
    python benchmarks/soak.py --seconds 300 --talks 16 --model mini --pid PID

Each conversation goes through one fixed script again and again; every third turn asks for a photo.
Prints a row of one conversation alone and rows of all together, of the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

import httpx2
import numpy as np

SCRIPT = (
    "hi! how are you today?",
    "what did you do this morning?",
    "can you show me a red dog at the beach?",
    "nice! what is your favourite place?",
    "tell me more about it",
    "send me a photo of a blue cat in the snow please",
)


async def turn(client: httpx2.AsyncClient, model: str, text: str, talk: str) -> dict:
    """One answer: seconds to its first word, its photo, its end; its pieces of text."""
    body = {
        "model": model,
        "stream": True,
        "messages": [{"role": "user", "content": text}],
        "showtell": {"conversation": talk},
    }
    began = time.perf_counter()
    found: dict = {"pieces": 0}
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.status_code == 429:
            return {"busy": True}
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            now = time.perf_counter() - began
            if "error" in chunk:
                raise RuntimeError(chunk["error"]["message"])
            told = chunk.get("showtell") or {}
            if chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                found.setdefault("word", now)
                found["pieces"] += 1
            if told.get("event") == "photo":
                found["photo"] = now
            if told.get("event") == "end":
                found["talk"] = told["conversation"]
    found["end"] = time.perf_counter() - began
    return found


async def talks(client: httpx2.AsyncClient, model: str, *, count: int, seconds: float) -> dict:
    """All of them until the time is over."""
    until = time.perf_counter() + seconds
    rows: list[list[dict]] = [[] for _ in range(count)]
    errors: list[str] = []

    async def one(number: int) -> None:
        talk, step = "new", 0
        while time.perf_counter() < until:
            try:
                found = await turn(client, model, SCRIPT[step % len(SCRIPT)], talk)
            except Exception as error:  # whatever it is, it is counted
                errors.append(f"{type(error).__name__}: {error}")
                talk, step = "new", 0
                continue
            if found.get("busy"):
                await asyncio.sleep(1)
                continue
            rows[number].append(found)
            step += 1
            talk = found["talk"] if step % len(SCRIPT) else "new"

    began = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(count)))
    return {"rows": rows, "errors": errors, "seconds": time.perf_counter() - began}


def memory_mb(pid: int | None) -> float:
    """Resident memory of the server."""
    if pid is None:
        return float("nan")
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def line_of(name: str, found: dict) -> str:
    all_rows = [row for rows in found["rows"] for row in rows]
    pieces = sum(row["pieces"] for row in all_rows)
    photos = [row["photo"] for row in all_rows if "photo" in row]
    words = [row["word"] for row in all_rows if "word" in row]
    ends = [row["end"] for row in all_rows]
    done = [len(rows) for rows in found["rows"]]

    def of(values: list[float], q: float) -> float:
        return float(np.percentile(values, q)) if values else float("nan")

    return (
        f"| {name} | {len(all_rows)} | {len(found['errors'])} | {pieces / found['seconds']:.1f} | "
        f"{len(photos) / found['seconds']:.2f} | {of(words, 50):.2f} / {of(words, 95):.2f} | "
        f"{of(photos, 50):.2f} / {of(photos, 95):.2f} | {of(ends, 50):.2f} / {of(ends, 95):.2f} | "
        f"{max(done)} / {min(done)} |"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="http://127.0.0.1:8765")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--talks", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--pid", type=int, help="of the server, for its memory")
    asked = parser.parse_args()
    async with httpx2.AsyncClient(base_url=asked.address, timeout=120) as client:
        await turn(client, asked.model, SCRIPT[2], "new")  # warm
        alone = await talks(client, asked.model, count=1, seconds=asked.seconds / 5)
        first = memory_mb(asked.pid)
        minute = min(60.0, asked.seconds / 5)
        early = await talks(client, asked.model, count=asked.talks, seconds=minute)
        then = memory_mb(asked.pid)
        late = await talks(client, asked.model, count=asked.talks, seconds=asked.seconds - minute)
        last = memory_mb(asked.pid)
    print(
        "| conversations | answers | errors | pieces of text/s | photos/s | first word p50/p95 s | "
        "photo p50/p95 s | answer p50/p95 s | most/fewest answers |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    print(line_of("1", alone))
    print(line_of(f"{asked.talks}, first minute", early))
    print(line_of(f"{asked.talks}, after it", late))
    print(f"memory MB: {first:.0f}, after a minute {then:.0f}, at the end {last:.0f}")
    for error in dict.fromkeys(early["errors"] + late["errors"] + alone["errors"]):
        print("error:", error)


if __name__ == "__main__":
    asyncio.run(main())
