"""A server that is killed again and again, and one whose disk is full: is anything lost?

    python benchmarks/soak_faults.py --kills 100

The agent is a stand-in that says the number it was asked, and shares a photo that is drawn from it,
so that every word and pixel is known. Between two starts, four talks go on at once, and the
server gets ``kill -9`` at a random moment. After every ten, a new one is asked for all that was
answered before. Prints what was looked at, and ends with 1 if anything was lost or is half there.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx2
from PIL import Image

PORT, TALKS, SIDE = 8797, 4, 96
FULL = 2_000_000  # bytes that a file may have where the disk is "full"


class Echo:
    """Says the question's number back, and shares a photo of its colour at every second one."""

    name, card, sees = "echo", {"limits": "It says what it was told."}, True

    def respond(self, turns, *, images, seed, tell, dial):
        from showtell.dialogue import AGENT, Photo, Turn
        from showtell.models.reply import Decision, PhotoDue, PhotoHere, Reply, Words

        number = int(turns[-1].text)
        for word in ("it", "was", f"{number}\n"):
            tell(Words(text=word + " "))
            time.sleep(0.002)
        reply = Reply(
            turns=[Turn(speaker=AGENT, elements=(f"it was {number}",))],
            decisions=[Decision(share=False)],
        )
        if number % 2:
            due = Decision(share=True, reason="every second one")
            photo = Photo(id=f"photo-{number}", caption=f"photo {number}", origin="painted", seed=1)
            noise = random.Random(number).randbytes(SIDE * SIDE * 3)  # that nothing makes smaller
            image = Image.frombytes("RGB", (SIDE, SIDE), noise)
            tell(PhotoDue(id=photo.id, decision=due))
            tell(PhotoHere(due=photo.id, photo=photo, image=image))
            reply.turns.append(Turn(speaker=AGENT, elements=(photo,)))
            reply.decisions.append(due)
            reply.images[photo.id] = image
        return reply


def serve(data: str, full: bool) -> None:
    import uvicorn

    from showtell.serve.app import build_app
    from showtell.serve.service import Service
    from showtell.serve.store import Store
    from showtell.serve.worker import Worker

    if full:
        resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, FULL))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    app = build_app(Service({"echo": Worker(Echo())}, Store(Path(data) / "showtell.db")))
    uvicorn.run(app, port=PORT, log_level="critical")


def started(data: Path, *, full: bool = False) -> subprocess.Popen:
    command = [sys.executable, __file__, "--serve", str(data), *(["--full"] if full else [])]
    server = subprocess.Popen(command)
    until = time.monotonic() + 60
    while True:
        try:
            httpx2.get(f"http://127.0.0.1:{PORT}/health", timeout=5)
            return server
        except httpx2.HTTPError:
            if time.monotonic() > until or server.poll() is not None:
                raise SystemExit("the server did not start") from None
            time.sleep(0.02)


class Client:
    """Talks whose every answer is known. ``told``: by talk, the numbers that were answered."""

    def __init__(self) -> None:
        self.told: dict[str, list[int]] = {}
        self.deleted: set[str] = set()
        self.refused = 0
        self._number = 0
        self._lock = threading.Lock()

    def next(self) -> int:
        with self._lock:
            self._number += 1
            return self._number

    def talk(self, chance: random.Random) -> None:
        """Go on until the server is gone or refuses."""
        name = "new"
        with httpx2.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=30) as http:
            while True:
                number = self.next()
                body = {
                    "messages": [{"role": "user", "content": str(number)}],
                    "showtell": {"conversation": name},
                }
                try:
                    answer = http.post("/v1/chat/completions", json=body)
                    if answer.status_code != 200:
                        self.refused += answer.status_code == 507
                        return
                    name = answer.json()["showtell"]["conversation"]
                    with self._lock:
                        self.told.setdefault(name, []).append(number)
                    if len(self.told[name]) >= 6:
                        if chance.random() < 0.3:
                            http.delete(f"/v1/conversations/{name}").raise_for_status()
                            with self._lock:
                                self.deleted.add(name)
                        name = "new"
                except httpx2.HTTPError:
                    return

    def lost(self) -> list[str]:
        """What was answered, and is not there whole."""
        found = []
        with httpx2.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=30) as http:
            for name, numbers in self.told.items():
                kept = http.get(f"/v1/conversations/{name}")
                if name in self.deleted:
                    if kept.status_code != 404:
                        found.append(f"{name} was deleted, and is there")
                    continue
                if kept.status_code == 404 and numbers[-1:] and len(numbers) >= 6:
                    continue  # its deletion was asked for, and the answer to that not heard
                turns = kept.json()["turns"]
                said = [e["text"] for t in turns for e in t["elements"] if e["type"] == "text"]
                photos = {
                    e["caption"]: e["url"]
                    for t in turns
                    for e in t["elements"]
                    if e["type"] != "text"
                }
                for number in numbers:
                    if str(number) not in said or f"it was {number}" not in said:
                        found.append(f"{name}: the words of {number}")
                for number in (n for n in numbers if n % 2):
                    file = http.get(photos.get(f"photo {number}") or "/p/none")
                    if file.status_code != 200:
                        found.append(f"{name}: the photo of {number}")
                        continue
                    pixels = Image.open(io.BytesIO(file.content)).convert("RGB").tobytes()
                    if pixels != random.Random(number).randbytes(SIDE * SIDE * 3):
                        found.append(f"{name}: the pixels of {number}")
        return found


def orphans(data: Path) -> list[str]:
    """Rows of no conversation; a file that is damaged."""
    db = sqlite3.connect(data / "showtell.db")
    found = [
        f"{count} rows of {table} belong to no conversation"
        for table in ("photos", "fingerprints", "votes")
        if (
            count := db.execute(
                f"select count(*) from {table} where conversation not in "
                "(select id from conversations)"
            ).fetchone()[0]
        )
    ]
    if (state := db.execute("pragma integrity_check").fetchone()[0]) != "ok":
        found.append(state)
    db.close()
    return found


def killed(kills: int, seed: int) -> list[str]:
    chance, client, lost = random.Random(seed), Client(), []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        for kill in range(1, kills + 1):
            server = started(data)
            threads = [threading.Thread(target=client.talk, args=(chance,)) for _ in range(TALKS)]
            for thread in threads:
                thread.start()
            time.sleep(chance.uniform(0.05, 0.8))
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
            for thread in threads:
                thread.join()
            if kill % 10 == 0 or kill == kills:
                server = started(data)
                lost += client.lost()
                server.kill()
                server.wait()
                lost += orphans(data)
                answers = sum(map(len, client.told.values()))
                print(
                    f"{kill} kills: {answers} answers in {len(client.told)} talks, "
                    f"{len(client.deleted)} deleted; lost or half there: {len(lost)}",
                    flush=True,
                )
    return lost


def full(seed: int) -> list[str]:
    client = Client()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        server = started(data, full=True)
        client.talk(random.Random(seed))
        lost = client.lost()  # it still answers
        server.kill()
        server.wait()
        lost += orphans(data)
        if not client.refused:
            lost.append("the full disk was not told (507)")
        before = sum(map(len, client.told.values()))
        print(f"full disk after {before} answers, told by 507; lost: {len(lost)}", flush=True)
        server = started(data)  # with room again
        go_on = threading.Thread(target=client.talk, args=(random.Random(seed),), daemon=True)
        go_on.start()
        time.sleep(2)
        server.kill()
        server.wait()
        server = started(data)
        lost += client.lost()
        server.kill()
        server.wait()
        after = sum(map(len, client.told.values()))
        print(f"with room again {after - before} more; lost: {len(lost)}", flush=True)
        if after == before:
            lost.append("it did not go on with room again")
    return lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--full", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve, asked.full)
        return
    lost = killed(asked.kills, asked.seed) + full(asked.seed)
    for each in lost:
        print("lost:", each)
    raise SystemExit(1 if lost else 0)


if __name__ == "__main__":
    main()
