"""The sample album by words: right photos, refusals, and how long a search takes.

    python benchmarks/bench_album.py [--runs 20] [--threads 2] [--json FILE]

The requests (experiments/album_requests.jsonl) were written before any score was seen: sixty before
the captions, sixty after them. A third of each asks for what the album does not have. Beside the
search stands the nearest photo by plain cosines, which refuses nothing.
"""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import bench

from showtell.agent.album_words import SAMPLE, album_folder, open_finder
from showtell.album.find import CUT_OFF
from showtell.metrics.intervals import Value, mean_value
from showtell.metrics.moment import moment_values
from showtell.progress import terminal_progress

REQUESTS = Path(__file__).parents[1] / "experiments/album_requests.jsonl"


def main() -> None:
    options = bench.parsed(bench.parser(__doc__, runs=20, threads=2))
    folder = album_folder(SAMPLE, told=terminal_progress)
    finder = open_finder(folder, told=terminal_progress)
    names = [photo.source for photo in finder.album.photos]
    requests = [json.loads(line) for line in REQUESTS.read_text("utf-8").splitlines()]
    rows: dict[str, tuple[Value, Value]] = {}
    groups = {kind: list(own) for kind, own in groupby(requests, key=lambda each: each["set"])}
    for kind, asked in {**groups, "all": requests}.items():
        evidence = finder.evidence([request["text"] for request in asked])
        ways = {
            "search": (evidence.score_NM, CUT_OFF),
            "cosine with the caption and names, no cut-off": (evidence.told_NM, -1e9),
            "cosine with the photo, no cut-off": (evidence.cosine_NM, -1e9),
        }
        for way, (scores_NM, cut_off) in ways.items():
            best_N, photo_N = scores_NM.max(1)
            refused = (best_N < cut_off).tolist()
            right = [
                not no and names[m] in request["photos"]
                for no, m, request in zip(refused, photo_N.tolist(), asked, strict=True)
                if request["photos"]
            ]
            none = [not request["photos"] for request in asked]
            f1 = moment_values(none, [float(no) for no in refused], threshold=0.5, seed=0)
            rows[f"{kind}, {way}"] = mean_value(right, seed=0), f1["moment.f1"]
    print(f"| {len(names)} photos, {len(requests)} requests | right photo | refusal F1 |")
    print("|---|--:|--:|")
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{v.printed} ({v.interval})" for v in values) + " |")
    texts = [request["text"] for request in requests]
    search = {"find": lambda: finder.find(texts[0], top_k=3)}
    took = bench.in_turn(search, runs=options.runs, before=lambda: texts.append(texts.pop(0)))
    spreads = {f"a search ({options.threads} threads)": bench.spread(took["find"], middle=True)}
    bench.show(spreads, head="middle half")
    found = {name: [vars(value) for value in values] for name, values in rows.items()}
    bench.written(options, requests=found, **spreads)


if __name__ == "__main__":
    main()
