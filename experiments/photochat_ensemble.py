"""The PhotoChat share moment by several judges at once: models of photochat_small, and TF-IDF.

    showtell train photochat_small --set photochat=FOLDER/train.jsonl --seed 1 --out runs/seed1
    python experiments/photochat_ensemble.py FOLDER photochat_small [runs/seed1/model ...]

where FOLDER holds train.jsonl and dev.jsonl. Each judge's chances are calibrated on the 1,000
training dialogues that none was trained on (Platt); the ensemble is the mean of their log-odds,
with its threshold from the same dialogues. Nothing is weighed or chosen, and dev is read once. An
ensemble is no model that is shipped: its row stands apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from photochat_lexical import measured, positions_of

from showtell.cli.exits import exit_code_of
from showtell.data.photochat import read_photochat, split_held_out, summarise
from showtell.dialogue import Dialogue
from showtell.errors import ConfigError
from showtell.evaluation.measures_photochat import calibrated, platt, rendered_moments
from showtell.metrics.intervals import Value
from showtell.metrics.moment import (
    TFIDF_SETTINGS,
    average_precision,
    tagged_text,
    tfidf_moment_scores,
)
from showtell.metrics.report import Report, digest, model_digest
from showtell.models.checkpoint import model_folder
from showtell.models.gold import share_chances
from showtell.papers import load_model

TFIDF, ENSEMBLE = "tfidf_tagged", "ensemble"
Chances = tuple[np.ndarray, np.ndarray]  # at the held-out positions, at dev's


def labels_of(dialogues: Sequence[Dialogue]) -> np.ndarray:
    return np.array([int(position.shares) for position in positions_of(dialogues)])


def chances_of_model(name: str, held: Sequence[Dialogue], dev: Sequence[Dialogue]) -> Chances:
    """Raises ConfigError where the model does not judge every position."""
    model = load_model(name)
    found = []
    for some in (held, dev):
        judged = share_chances(model, rendered_moments(model.renderer, some))
        if not np.array_equal(judged.shared_M, labels_of(some)):
            raise ConfigError(
                f'"{name}" judges {len(judged.shared_M):,} of {len(labels_of(some)):,} positions: '
                "its context is too short for the longest dialogues; wanted a model of "
                "photochat_small, which reads 1,024 tokens"
            )
        found.append(judged.marginal_M)
    return found[0], found[1]


def chances_of_tfidf(
    rest: Sequence[Dialogue], held: Sequence[Dialogue], dev: Sequence[Dialogue]
) -> Chances:
    train, tune, test = (positions_of(some) for some in (rest, held, dev))
    score_N = tfidf_moment_scores(
        [tagged_text(p.context) for p in train],
        [int(p.shares) for p in train],
        [tagged_text(p.context) for p in tune + test],
    )
    return score_N[: len(tune)], score_N[len(tune) :]


def ensemble(judges: Sequence[Chances], labels_N: np.ndarray) -> Chances:
    """The mean log-odds of judges, each calibrated on the first of its two parts."""
    parts: list[list[torch.Tensor]] = [[], []]
    for held_N, dev_M in judges:
        scale, bias = platt(labels_N, held_N)
        for part, some in zip(parts, (held_N, dev_M), strict=True):
            chance = torch.from_numpy(calibrated(some, scale=scale, bias=bias))
            part.append(torch.logit(chance, eps=1e-9))
    held, dev = (torch.stack(part).mean(0).sigmoid().numpy() for part in parts)
    return held, dev


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="holds train.jsonl and dev.jsonl of PhotoChat")
    parser.add_argument("models", nargs="+", help="of the recipe photochat_small")
    parser.add_argument("--out", type=Path, help="write report.json and report.md here")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    options = parser.parse_args(arguments)
    began = time.monotonic()

    rest, held = split_held_out(read_photochat(options.folder / "train.jsonl"))
    dev = list(read_photochat(options.folder / "dev.jsonl"))
    tune_labels, test_labels = labels_of(held), labels_of(dev)
    dialogues = [p.dialogue_id for p in positions_of(dev)]
    print(f"held out {len(tune_labels):,} positions, dev {len(test_labels):,}")

    judges = {TFIDF: chances_of_tfidf(rest, held, dev)}
    for number, name in enumerate(options.models):
        judges[f"model_{number}"] = chances_of_model(name, held, dev)
    judges[ENSEMBLE] = ensemble(list(judges.values()), tune_labels)

    metrics: dict[str, Value] = {}
    print(f"{'judge':<14}{'threshold':>10}{'P':>8}{'R':>8}{'F1':>8}{'AUPRC':>8}   held-out both")
    for name, (tune_N, test_N) in judges.items():
        values, row = measured(
            name,
            (tune_labels, tune_N),
            (test_labels, test_N),
            dialogues=dialogues,
            seed=options.seed,
        )
        metrics |= values
        print(f"{row} {average_precision(tune_labels, tune_N):.3f}", flush=True)
    for m in ("f1", "auprc"):
        value = metrics[f"moment.{ENSEMBLE}.{m}"]
        print(f"{ENSEMBLE} {m}: {value.printed} [{value.interval}], {len(judges) - 1} judges")

    if options.out:
        summary = summarise(dev)
        report = Report(
            metrics=metrics,
            recipe="photochat_ensemble",
            checkpoint=", ".join(options.models),
            model_digest=", ".join(model_digest(model_folder(name)) for name in options.models),
            data="photochat:dev",
            data_digest=digest(options.folder / name for name in ("train.jsonl", "dev.jsonl")),
            seeds=(options.seed,),
            seconds=time.monotonic() - began,
            command="python experiments/photochat_ensemble.py PHOTOCHAT_FOLDER MODEL...",
            counts={"dialogues": summary.dialogues, "positions": summary.positions},
            notes=(
                TFIDF_SETTINGS,
                f"{ENSEMBLE}: the mean of all judges' log-odds, each calibrated on held-out "
                "training dialogues; no member was left out or weighed",
            ),
        )
        for path in report.write(options.out):
            print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
