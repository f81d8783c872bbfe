"""Photo retrieval by description on PhotoChat: BM25, TF-IDF and the learnt ranker, on dev.

    showtell train photochat_retrieval --set photochat=PHOTOCHAT_FOLDER/train.jsonl
    python experiments/photochat_retrieval.py PHOTOCHAT_FOLDER MODEL [--out DIR]

where the folder holds dev.jsonl, and MODEL is runs/photochat_retrieval/model. Training and table
take seconds each.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from showtell.album.text_search import DescriptionRanker
from showtell.data.photochat import read_photochat
from showtell.evaluation.photochat_retrieval import PREFIX, evaluate_retrieval
from showtell.metrics.report import Report, digest, model_digest

ROWS = ("tfidf", "bm25_all_terms", "bm25", "encoder", "ranker", "gain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="holds dev.jsonl of PhotoChat")
    parser.add_argument("model", type=Path, help="what photochat_retrieval has trained")
    parser.add_argument("--out", type=Path, help="write report.json and report.md here")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    options = parser.parse_args()
    began = time.monotonic()

    ranker = DescriptionRanker.load(options.model)
    dev = list(read_photochat(options.folder / "dev.jsonl"))
    values = evaluate_retrieval(ranker, dev, seed=options.seed)

    print(f"{len(dev):,} dialogues; in brackets 95% intervals")
    print(f"{'':<16}" + "".join(f"{name:^24}" for name in ("R@1", "R@5", "R@10", "MRR")))
    for row in ROWS:
        cells = [values[f"{PREFIX}.{row}.{name}"] for name in ("r1", "r5", "r10", "mrr")]
        print(f"{row:<16}" + "".join(f"{v.printed:>7} [{v.interval}]".center(24) for v in cells))
    alone = values[f"{PREFIX}.ceiling.r1"]
    print(f"photos whose description is no other's: {alone.printed}")

    if options.out:
        report = Report(
            metrics=values,
            recipe="photochat_retrieval",
            checkpoint=str(options.model),
            model_digest=model_digest(options.model),
            data="photochat:dev",
            data_digest=digest([options.folder / "dev.jsonl"]),
            seeds=(options.seed,),
            seconds=time.monotonic() - began,
            command="python experiments/photochat_retrieval.py PHOTOCHAT_FOLDER MODEL",
            counts={"dialogues": len(dev), "photos": len({d.photos[0].id for d in dev})},
            notes=(
                "bm25: k1 1.2, b 0.75, idf of the candidates, each word of the dialogue once; "
                "bm25_all_terms: as often as it was said",
                "ranker: a learnt combination of the encoder and BM25 of words and of pieces of "
                f"words, weights {ranker.mixture}",
            ),
        )
        for path in report.write(options.out):
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
