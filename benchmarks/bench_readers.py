"""How fast MMDialog-like training dialogues are read, beside json.loads alone on the same lines.

    python benchmarks/bench_readers.py [--dialogues 100000] [--photos 2000] [--json FILE]

Writes a synthetic split with the schema and the averages of MMDialog (4.56 turns, 2.59 photos a
dialogue, 15.9 words a turn; no negatives, as in training), then reads it whole on one core, each
reading in a process of its own, so that the peak memory is that reading's. Goal: 5,000 dialogues a
second under 500 MB.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import tempfile
import time
from pathlib import Path

import bench

TEXT = """the a dog beach photo look nice day we went there yesterday and it was so good to see
you all again thanks for sharing this one :smiling_face_with_smiling_eyes: wow café"""


def write_split(folder: Path, *, dialogues: int, photos: int) -> Path:
    """A folder as MMDialog's train; ``photos`` of the photos have a (1-byte) file."""
    rng = random.Random(0)
    words = TEXT.split()
    for number in range(photos):
        (folder / f"key{number:08}.jpg").write_bytes(b"x")
    path = folder / "conversations.json"
    with open(path, "w", encoding="utf-8") as file:
        for number in range(dialogues):
            turns = []
            for _ in range(rng.choice((3, 4, 4, 5, 5, 5, 6))):
                said = " ".join(rng.choices(words, k=rng.randint(4, 28)))
                parts = [{"__TEXT__": said}]
                if rng.random() < 0.57:
                    parts.append({"__MEDIA__": f"key{rng.randrange(2 * photos):08}"})
                turns.append({"turn": parts})
            record = {"conversation_id": f"{number:024x}", "conversation": turns}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return path


def read_once(path: Path, *, baseline: bool) -> dict[str, float]:
    """One whole reading: dialogues, photos found, seconds and peak memory (MB)."""
    num_dialogues = num_photos = num_found = 0
    if baseline:
        began = time.perf_counter()
        with open(path, "rb") as file:
            for line in file:
                json.loads(line)
                num_dialogues += 1
    else:
        from showtell.data.sources import open_data

        began = time.perf_counter()
        for dialogue in open_data(f"mmdialog:{path}"):
            num_dialogues += 1
            num_photos += len(dialogue.photos)
            num_found += sum(photo.path is not None for photo in dialogue.photos)
    seconds = time.perf_counter() - began
    return {
        "dialogues": num_dialogues,
        "photos": num_photos,
        "photos_found": num_found,
        "seconds": seconds,
        "peak_mb": bench.peak_mb(),
    }


def main() -> None:
    parser = bench.parser(__doc__, runs=3)
    parser.add_argument("--dialogues", type=int, default=100_000)
    parser.add_argument("--photos", type=int, default=2_000)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--baseline", action="store_true", help=argparse.SUPPRESS)
    options = bench.parsed(parser)
    if options.read:
        print(json.dumps(read_once(options.read, baseline=options.baseline)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = write_split(Path(folder), dialogues=options.dialogues, photos=options.photos)
        size = path.stat().st_size / 1e6
        ways = {"reader": (), "json.loads": ("--baseline",)}
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for _ in range(options.runs):
            for name, words in ways.items():
                runs[name].append(bench.apart(__file__, "--read", str(path), *words))
    print(f"{options.dialogues:,} dialogues, {size:.0f} MB, Python {platform.python_version()}")
    print(f"{'':<12} {'dialogues/s':>12} {'slowest':>9} {'fastest':>9} {'peak MB':>8}")
    found = {}
    for name, each in runs.items():
        rate = bench.spread([run["dialogues"] / run["seconds"] for run in each])
        peak = max(run["peak_mb"] for run in each)
        found[name] = {**each[0], "dialogues_per_second": rate, "peak_mb": peak}
        print(
            f"{name:<12} {rate['median']:>12,.0f} {rate['low']:>9,.0f} {rate['high']:>9,.0f} "
            f"{peak:>8,.0f}"
        )
    bench.written(options, **found)


if __name__ == "__main__":
    main()
