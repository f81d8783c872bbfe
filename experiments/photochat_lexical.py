"""The lexical baselines of the PhotoChat share moment: keyword rule, TF-IDF + logistic regression.

Trained on the training split without its 1,000 held-out dialogues, threshold from those, dev once:

    python experiments/photochat_lexical.py PHOTOCHAT_FOLDER [--out DIR]

where the folder holds train.jsonl and dev.jsonl. Takes about a minute on one core.

The text of the tagged row was chosen among eleven by AUPRC on the held-out dialogues, but with
their dev figures in view: read that row as a baseline at its best.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from showtell.data.photochat import (
    MomentPosition,
    moment_positions,
    read_photochat,
    split_held_out,
    summarise,
)
from showtell.dialogue import Dialogue, Turn
from showtell.metrics.intervals import Value
from showtell.metrics.moment import (
    TFIDF_SETTINGS,
    best_threshold,
    keyword_score,
    moment_values,
    plain_text,
    tagged_text,
    tfidf_moment_scores,
)
from showtell.metrics.report import Report, digest

Scores = tuple[np.ndarray, np.ndarray]  # of the held-out positions, of dev's


def positions_of(dialogues: Sequence[Dialogue]) -> list[MomentPosition]:
    return [position for dialogue in dialogues for position in moment_positions(dialogue)]


def measured(
    name: str,
    held: tuple[Sequence[int] | np.ndarray, np.ndarray],
    dev: tuple[Sequence[int] | np.ndarray, np.ndarray],
    *,
    dialogues: Sequence[str],
    seed: int,
) -> tuple[dict[str, Value], str]:
    """``moment.NAME.*`` of (labels, scores) on dev, with the threshold of the held-out ones, and a
    row of these to print."""
    chosen = best_threshold(*held)
    values = moment_values(
        *dev,
        threshold=chosen.threshold,
        seed=seed,
        groups_N=dialogues,
        prefix=f"moment.{name}",
        protocol="photochat",
    )
    row = [values[f"moment.{name}.{m}"].value for m in ("precision", "recall", "f1", "auprc")]
    cells = "".join(f"{value:8.3f}" for value in row)
    return values, f"{name:<14}{chosen.threshold:10.4f}{cells}   {chosen.f1:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="holds train.jsonl and dev.jsonl of PhotoChat")
    parser.add_argument("--out", type=Path, help="write report.json and report.md here")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    options = parser.parse_args()
    began = time.monotonic()

    rest, held = split_held_out(read_photochat(options.folder / "train.jsonl"))
    dev = list(read_photochat(options.folder / "dev.jsonl"))
    train, tune, test = positions_of(rest), positions_of(held), positions_of(dev)
    tune_labels = [int(p.shares) for p in tune]
    test_labels = [int(p.shares) for p in test]
    print(f"train {len(train):,} positions, held out {len(tune):,}, dev {len(test):,}")

    def keyword() -> Scores:
        rows = [[keyword_score(p.context) for p in some] for some in (tune, test)]
        return np.array(rows[0]), np.array(rows[1])

    def tfidf(text: Callable[[Sequence[Turn]], str]) -> Scores:
        scores = tfidf_moment_scores(
            [text(p.context) for p in train],
            [int(p.shares) for p in train],
            [text(p.context) for p in tune + test],
        )
        return scores[: len(tune)], scores[len(tune) :]

    metrics: dict[str, Value] = {}
    rules: dict[str, Callable[[], Scores]] = {
        "always": lambda: (np.ones(len(tune)), np.ones(len(test))),
        "keyword": keyword,
        "tfidf_plain": lambda: tfidf(plain_text),
        "tfidf_tagged": lambda: tfidf(tagged_text),
    }
    print(f"{'baseline':<14}{'threshold':>10}{'P':>8}{'R':>8}{'F1':>8}{'AUPRC':>8}   held-out F1")
    for name, score in rules.items():
        tune_scores, test_scores = score()
        values, row = measured(
            name,
            (tune_labels, tune_scores),
            (test_labels, test_scores),
            dialogues=[p.dialogue_id for p in test],
            seed=options.seed,
        )
        metrics |= values
        print(row, flush=True)

    if options.out:
        summary = summarise(dev)
        report = Report(
            metrics=metrics,
            recipe="photochat_lexical",
            checkpoint="none: trained in this run",
            model_digest="",
            data="photochat:dev",
            data_digest=digest(options.folder / name for name in ("train.jsonl", "dev.jsonl")),
            seeds=(options.seed,),
            seconds=time.monotonic() - began,
            command="python experiments/photochat_lexical.py PHOTOCHAT_FOLDER",
            counts={
                "dialogues": summary.dialogues,
                "positions": summary.positions,
                "missing photos": summary.missing_photos,
            },
            notes=(
                TFIDF_SETTINGS,
                "tfidf_plain: all words of the context; tfidf_tagged: moment.tagged_text, chosen "
                "among eleven texts by held-out AUPRC, with dev in view",
            ),
        )
        for path in report.write(options.out):
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
