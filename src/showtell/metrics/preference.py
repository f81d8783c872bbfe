"""What people prefer of two systems, A and B: win, tie and loss of A, and how far raters agree.

The protocol ``judge`` is that of MiniGPT-5's human evaluation (2310.02239, table 4): each vote
names the better answer or a tie. Agreement is Fleiss' kappa (1971), as Divter's authors report it,
in its usual form for items with different numbers of votes; with two raters it is Scott's pi.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from pydantic import ValidationError

from showtell.data.readers import Fields
from showtell.errors import DataError
from showtell.metrics.intervals import Value, percentiles, resample_counts, wilson
from showtell.metrics.report import Report, digest

Choice = Literal["win", "tie", "loss"]
CHOICES: tuple[Choice, ...] = ("win", "tie", "loss")
QUESTIONS = {
    "language_continuity": "Which text goes on better from what came before?",
    "image_quality": "Which photo is clearer and more to the point?",
    "multimodal_coherence": "Which text and photo together fit better with what came before?",
}


@dataclass(frozen=True, kw_only=True)
class Vote:
    """A rater's answer to one question on one item; ``group`` is what was drawn independently."""

    item: str
    rater: str
    choice: Choice
    group: str


def preference_values(votes: Sequence[Vote], *, prefix: str, seed: int) -> dict[str, Value]:
    """win, tie, loss, preferred (wins among wins and losses), agreement and kappa of some votes.

    Shares have Wilson's interval over groups, a group counting as one vote that may be divided:
    the votes of a group hang together. Kappa's resamples groups.
    """
    values = {
        choice: _share([(float(v.choice == choice), v.group) for v in votes], better=better)
        for choice, better in {"win": True, "tie": None, "loss": False}.items()
    }
    values["preferred"] = _share(
        [(float(v.choice == "win"), v.group) for v in votes if v.choice != "tie"],
        better=True,
        note="wins among wins and losses: A is better where the whole interval is above 50%",
    )
    by_item: dict[str, list[Vote]] = {}
    for vote in votes:
        by_item.setdefault(vote.item, []).append(vote)
    shared = [row for row in by_item.values() if len(row) >= 2]
    values |= _agreement(shared, raters=len({vote.rater for vote in votes}), seed=seed)
    return {f"{prefix}.{name}": value for name, value in values.items()}


def _share(hits: Sequence[tuple[float, str]], *, better: bool | None, note: str = "") -> Value:
    if not hits:
        return _nothing("all votes are ties")
    share, num_groups = sum(hit for hit, _ in hits) / len(hits), len({group for _, group in hits})
    low, high = wilson(share * num_groups, num_groups)
    found = replace(_nothing(note), value=share, low=low, high=high, n=len(hits))
    return replace(found, higher_is_better=better)


def _agreement(items: Sequence[Sequence[Vote]], *, raters: int, seed: int) -> dict[str, Value]:
    """Of items that have two votes or more."""
    if not items:
        return dict.fromkeys(
            ("agreement", "kappa"), _nothing("no item has the votes of two raters")
        )
    counts_IJ = np.array(
        [[sum(v.choice == c for v in row) for c in CHOICES] for row in items], float
    )
    names, group_I = np.unique([row[0].group for row in items], return_inverse=True)
    agreed = zip(_agreed(counts_IJ).tolist(), names[group_I], strict=True)
    agreement = _share(list(agreed), better=None)
    kappa = float(fleiss_kappa(counts_IJ, np.ones((1, len(items))))[0])
    if np.isnan(kappa):
        return {"agreement": agreement, "kappa": _nothing("all votes are the same")}
    draws = (
        fleiss_kappa(counts_IJ, weights_RG[:, group_I])
        for weights_RG in resample_counts(len(names), seed=seed)
    )
    low, high = percentiles(draw_R[np.isfinite(draw_R)] for draw_R in draws)
    found = replace(_nothing(f"Fleiss' kappa, {raters} raters"), value=kappa, low=low, high=high)
    return {"agreement": agreement, "kappa": replace(found, n=len(items), unit="")}


def fleiss_kappa(counts_IJ: np.ndarray, weights_RI: np.ndarray) -> np.ndarray:
    """Fleiss' kappa of I items with counts of J answers, for each of R weightings of the items.

    (P - P_e) / (1 - P_e): P is the mean share of an item's pairs of votes that agree, P_e that of
    two votes drawn from all answers. NaN where all votes are the same. Not statsmodels', which
    wants as many votes on each item.
    """
    observed_R = (weights_RI @ _agreed(counts_IJ)) / weights_RI.sum(1)
    answers_RJ = weights_RI @ counts_IJ
    expected_R = ((answers_RJ / answers_RJ.sum(1, keepdims=True)) ** 2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected_R < 1, (observed_R - expected_R) / (1 - expected_R), np.nan)


def _agreed(counts_IJ: np.ndarray) -> np.ndarray:
    """The share of each item's pairs of votes that agree."""
    votes_I = counts_IJ.sum(1)
    return ((counts_IJ**2).sum(1) - votes_I) / (votes_I * (votes_I - 1))


def _nothing(note: str) -> Value:
    return Value(value=None, n=0, higher_is_better=None, protocol="judge", note=note)


# ------------------------------------------------------------------------------ the raters' files

Written = TypeVar("Written", bound=Fields)


class _Item(Fields):
    id: str
    dialogue: str
    left: Literal["A", "B"]
    questions: list[str] = list(QUESTIONS)  # keys once did not tell what was asked


class _System(Fields):
    file: str
    digest: str = ""


class Key(Fields):
    """What is known of a page: which item is which record, and which side is which system."""

    format: Literal["showtell judge key 1"] = "showtell judge key 1"
    study: str
    seed: int
    A: _System
    B: _System
    items: dict[str, _Item]


class Ratings(Fields):
    """What a rater saved from a page: for each item an answer to each question."""

    format: Literal["showtell judge ratings 1"]
    study: str
    rater: str
    answers: dict[str, dict[str, Literal["left", "tie", "right"]]]


def read_written(kind: type[Written], path: Path) -> Written:
    """A key or ratings. Raises DataError for a file that is neither there nor one."""
    what = kind.__name__.lower()
    try:
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        met = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            met = f"{'.'.join(map(str, first['loc']))}: {first['msg']}, met {first['input']!r:.40}"
        raise DataError(
            f"{path} is no {what} of a study ({met:.200}); wanted the file as it was written: the "
            "key lies beside the page, ratings are what the page saves. Check the path."
        ) from error


def score_ratings(ratings: Sequence[Path], key: Path, *, seed: int = 0) -> Report:
    """Win, tie and loss of A for each question, with intervals and the raters' agreement.

    Raises DataError for a file that is no key or no ratings, of another study, of a rater who is
    there already, or with an item or question that is not in the study.
    """
    began = time.perf_counter()
    study = read_written(Key, key)
    votes: dict[str, list[Vote]] = {question: [] for question in QUESTIONS}
    raters: dict[str, Path] = {}
    notes = ["a win is a vote for A"]
    for path in ratings:
        saved = read_written(Ratings, path)
        rater = " ".join(saved.rater.split())  # "ann" and "ann " are one
        if saved.study != study.study or not rater:
            raise DataError(
                f"{path} holds ratings of the study {saved.study!r:.40} by {rater!r:.40}, wanted "
                f"{study.study!r} by someone. Give the key that was written beside its page."
            )
        if rater in raters:
            raise DataError(
                f'{path}: the rater "{rater[:40]}" has ratings in {raters[rater]} already; wanted '
                "each rater once. Leave out the older file, or have one of two people of one name "
                "save again under another."
            )
        raters[rater] = path
        for name, answers in saved.answers.items():
            item = study.items.get(name)
            for question, side in answers.items():
                if item is None or question not in item.questions:
                    raise DataError(
                        f'{path}: "{question:.40}" on item "{name:.20}" is not of this study; '
                        "wanted the file as the page saved it."
                    )
                for_a = (side == "left") == (item.left == "A")
                choice: Choice = "tie" if side == "tie" else "win" if for_a else "loss"
                vote = Vote(item=name, rater=rater, choice=choice, group=item.dialogue)
                votes[question].append(vote)
        judged = sum(map(bool, saved.answers.values()))
        notes.append(f"{rater}: {judged:,} of {len(study.items):,} pairs")
    if not any(votes.values()):
        raise DataError("the ratings hold no answer at all; wanted some. Have them saved again.")
    metrics: dict[str, Value] = {}
    for question, cast in votes.items():
        if cast:
            metrics |= preference_values(cast, prefix=f"judge.{question}", seed=seed)
    return Report(
        metrics=metrics,
        recipe=f"A = {study.A.file} against B = {study.B.file}",
        model_digest=f"A {study.A.digest}, B {study.B.digest}",
        data=f"study {study.study}",
        data_digest=digest([key, *ratings]),
        seeds=(seed,),
        seconds=time.perf_counter() - began,
        counts={"raters": len(raters), "pairs": len(study.items)},
        notes=tuple(notes),
    )
