"""What the tables of PhotoChat share: judges of the share moment, each with its threshold from the
1,000 training dialogues that none was trained on, and a report."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from showtell.data.photochat import (
    MomentPosition,
    counts_of,
    moment_positions,
    read_photochat,
    split_held_out,
)
from showtell.dialogue import Dialogue
from showtell.metrics.intervals import Value
from showtell.metrics.moment import (
    average_precision,
    best_threshold,
    moment_values,
    tfidf_moment_scores,
)
from showtell.metrics.report import Report, digest

Chances = tuple[np.ndarray, np.ndarray]  # at the held-out positions, at dev's


def parser(doc: str | None) -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    found.add_argument("folder", type=Path, help="holds train.jsonl and dev.jsonl of PhotoChat")
    found.add_argument("--out", type=Path, help="write report.json and report.md here")
    found.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    return found


def positions_of(dialogues: Sequence[Dialogue]) -> list[MomentPosition]:
    return [position for dialogue in dialogues for position in moment_positions(dialogue)]


def labels_of(dialogues: Sequence[Dialogue]) -> np.ndarray:
    return np.array([int(position.shares) for position in positions_of(dialogues)])


class PhotoChat:
    """The folder's dialogues: those to train on, those held out, and dev."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.began = options, time.monotonic()

    @cached_property
    def split(self) -> tuple[list[Dialogue], list[Dialogue]]:
        return split_held_out(read_photochat(self.options.folder / "train.jsonl"))

    @cached_property
    def dev(self) -> list[Dialogue]:
        return list(read_photochat(self.options.folder / "dev.jsonl"))

    def tfidf(self, text: Any) -> Chances:
        """TF-IDF + logistic regression of a text of the context."""
        train, tune, test = (positions_of(some) for some in (*self.split, self.dev))
        scores = tfidf_moment_scores(
            [text(p.context) for p in train],
            [int(p.shares) for p in train],
            [text(p.context) for p in tune + test],
        )
        return scores[: len(tune)], scores[len(tune) :]

    def table(self, judges: Mapping[str, Chances]) -> dict[str, Value]:
        """``moment.NAME.*`` of each judge on dev, printed."""
        tune_labels, test_labels = labels_of(self.split[1]), labels_of(self.dev)
        print(f"held out {len(tune_labels):,} positions, dev {len(test_labels):,}")
        print(
            f"{'judge':<14}{'threshold':>10}{'P':>8}{'R':>8}{'F1':>8}{'AUPRC':>8}   held-out both"
        )
        values: dict[str, Value] = {}
        for name, (tune_N, test_N) in judges.items():
            chosen = best_threshold(tune_labels, tune_N)
            values |= moment_values(
                test_labels,
                test_N,
                threshold=chosen.threshold,
                seed=self.options.seed,
                groups_N=[position.dialogue_id for position in positions_of(self.dev)],
                prefix=f"moment.{name}",
                protocol="photochat",
            )
            row = [
                values[f"moment.{name}.{m}"].value for m in ("precision", "recall", "f1", "auprc")
            ]
            cells = "".join(f"{value:8.3f}" for value in row)
            held = f"{chosen.f1:.3f} {average_precision(tune_labels, tune_N):.3f}"
            print(f"{name:<14}{chosen.threshold:10.4f}{cells}   {held}", flush=True)
        return values

    def report(
        self, name: str, values: Mapping[str, Value], files: Sequence[str], **more: Any
    ) -> None:
        """With --out, the values and their passport."""
        if self.options.out:
            found = counts_of(self.dev)
            report = Report(
                metrics=values,
                recipe=name,
                data="photochat:dev",
                data_digest=digest(self.options.folder / file for file in files),
                seeds=(self.options.seed,),
                seconds=time.monotonic() - self.began,
                command=f"python experiments/{name}.py PHOTOCHAT_FOLDER ...",
                counts={
                    "dialogues": found["dialogues"],
                    "positions": found["positions"],
                    "photos": len({p.id for dialogue in self.dev for p in dialogue.photos}),
                    "missing photos": found["missing photos"],
                },
                **more,
            )
            for path in report.write(self.options.out):
                print(f"wrote {path}")
