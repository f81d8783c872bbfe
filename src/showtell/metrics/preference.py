"""What people prefer of two systems, A and B: win, tie and loss of A, and how far raters agree.

The protocol ``judge`` is that of MiniGPT-5's human evaluation (2310.02239, table 4): each vote
names the better answer or a tie. Agreement is Fleiss' kappa (1971), as Divter's authors report it,
in its usual form for items with different numbers of votes; with two raters it is Scott's pi.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from showtell.errors import DataError
from showtell.metrics.intervals import Value, percentiles, resample_counts, wilson
from showtell.metrics.report import Report, digest

Choice = Literal["win", "tie", "loss"]
CHOICES: tuple[Choice, ...] = ("win", "tie", "loss")
PROTOCOL = "judge"
QUESTIONS = {
    "language_continuity": "Which text goes on better from what came before?",
    "image_quality": "Which photo is clearer and more to the point?",
    "multimodal_coherence": "Which text and photo together fit better with what came before?",
}
KEY_FORMAT = "showtell judge key 1"
RATINGS_FORMAT = "showtell judge ratings 1"


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
    values: dict[str, Value] = {}
    for choice, better in {"win": True, "tie": None, "loss": False}.items():
        hits = [(float(vote.choice == choice), vote.group) for vote in votes]
        values[choice] = _share(hits, higher_is_better=better)
    values["preferred"] = _share(
        [(float(vote.choice == "win"), vote.group) for vote in votes if vote.choice != "tie"],
        higher_is_better=True,
        note="wins among wins and losses: A is better where the whole interval is above 50%",
    )
    values |= _agreement(votes, seed=seed)
    return {f"{prefix}.{name}": value for name, value in values.items()}


def _share(
    hits: Sequence[tuple[float, str]], *, higher_is_better: bool | None, note: str = ""
) -> Value:
    if not hits:
        return _nothing("all votes are ties")
    share, num_groups = sum(hit for hit, _ in hits) / len(hits), len({group for _, group in hits})
    low, high = wilson(share * num_groups, num_groups)
    found = replace(_nothing(note), value=share, low=low, high=high, n=len(hits))
    return replace(found, higher_is_better=higher_is_better)


def fleiss_kappa(counts_IJ: np.ndarray, weights_RI: np.ndarray | None = None) -> np.ndarray:
    """Fleiss' kappa of I items with counts of J answers, for each of R weightings of the items.

    (P - P_e) / (1 - P_e): P is the mean share of an item's pairs of votes that agree, P_e that of
    two votes drawn from all answers. NaN where all votes are the same, or no item has two. Not
    statsmodels', which wants as many votes on each item.
    """
    weights_RI = np.ones((1, len(counts_IJ))) if weights_RI is None else weights_RI
    votes_I = counts_IJ.sum(1)
    several = votes_I >= 2
    counts_IJ, votes_I, weights_RI = counts_IJ[several], votes_I[several], weights_RI[:, several]
    agreed_I = _agreed(counts_IJ)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed_R = (weights_RI @ agreed_I) / weights_RI.sum(1)
        answers_RJ = weights_RI @ counts_IJ
        shares_RJ = answers_RJ / answers_RJ.sum(1, keepdims=True)
        expected_R = (shares_RJ**2).sum(1)
        return np.where(expected_R < 1, (observed_R - expected_R) / (1 - expected_R), np.nan)


def _agreed(counts_IJ: np.ndarray) -> np.ndarray:
    """The share of each item's pairs of votes that agree."""
    votes_I = counts_IJ.sum(1)
    return ((counts_IJ**2).sum(1) - votes_I) / (votes_I * (votes_I - 1))


def _agreement(votes: Sequence[Vote], *, seed: int) -> dict[str, Value]:
    by_item: dict[str, list[Vote]] = {}
    for vote in votes:
        by_item.setdefault(vote.item, []).append(vote)
    shared = [row for row in by_item.values() if len(row) >= 2]
    if not shared:
        nothing = _nothing("no item has the votes of two raters")
        return {"agreement": nothing, "kappa": nothing}
    counts_IJ = np.array(
        [[sum(v.choice == c for v in row) for c in CHOICES] for row in shared], dtype=np.float64
    )
    names, group_I = np.unique([row[0].group for row in shared], return_inverse=True)
    agreed = zip(_agreed(counts_IJ).tolist(), names[group_I], strict=True)
    agreement = _share(list(agreed), higher_is_better=None)
    kappa = float(fleiss_kappa(counts_IJ)[0])
    if np.isnan(kappa):
        return {"agreement": agreement, "kappa": _nothing("all votes are the same")}
    draws = (
        fleiss_kappa(counts_IJ, weights_RG[:, group_I])
        for weights_RG in resample_counts(len(names), seed=seed)
    )
    low, high = percentiles(draw_R[np.isfinite(draw_R)] for draw_R in draws)
    note = f"Fleiss' kappa, {len({vote.rater for vote in votes})} raters"
    found = replace(_nothing(note), value=kappa, low=low, high=high, n=len(shared), unit="")
    return {"agreement": agreement, "kappa": found}


def _nothing(note: str) -> Value:
    return Value(value=None, n=0, higher_is_better=None, protocol=PROTOCOL, note=note)


# ------------------------------------------------------------------------------ the raters' files


def score_ratings(ratings: Sequence[Path], key: Path, *, seed: int = 0) -> Report:
    """Win, tie and loss of A for each question, with intervals and the raters' agreement.

    Raises DataError for a file that is no key or no ratings, of another study, of a rater who is
    there already, or with an item, question or answer that is not in the study.
    """
    began = time.perf_counter()
    study = json_object(key, KEY_FORMAT, "key")
    try:
        name_of_study = str(study["study"])
        names = {system: str(study[system]["file"]) for system in "AB"}
        items = {
            name: (
                str(row["dialogue"]),
                {"A": "A", "B": "B"}[row["left"]],
                list(row.get("questions", QUESTIONS)),  # keys once did not tell what was asked
            )
            for name, row in study["items"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{key} is a broken key ({error!r}); wanted it as it was written."
        ) from error
    votes: dict[str, list[Vote]] = {question: [] for question in QUESTIONS}
    raters: dict[str, Path] = {}
    notes, sides = ["a win is a vote for A"], []
    for path in ratings:
        rater, answers = _ratings(path, name_of_study, raters)
        raters[rater] = path
        for item, question, side in answers:
            group, left, asked = items.get(item, ("", "", []))
            if question not in asked or side not in ("left", "tie", "right"):
                raise DataError(
                    f'{path}: the answer "{side!s:.20}" to "{question:.40}" on item "{item:.20}" '
                    "is not of this study; wanted the file as the page saved it."
                )
            for_a = (side == "left") == (left == "A")
            choice: Choice = "tie" if side == "tie" else "win" if for_a else "loss"
            votes[question].append(Vote(item=item, rater=rater, choice=choice, group=group))
            sides.append(side)
        judged = len({item for item, _, _ in answers})
        notes.append(f"{rater}: {judged:,} of {len(items):,} pairs")
    if not any(votes.values()):
        raise DataError("the ratings hold no answer at all; wanted some. Have them saved again.")
    metrics: dict[str, Value] = {}
    for question, cast in votes.items():
        if cast:
            metrics |= preference_values(cast, prefix=f"judge.{question}", seed=seed)
    if decided := len(sides) - sides.count("tie"):
        notes.append(
            f"the left answer got {sides.count('left') / decided:.1%} of the {decided:,} votes "
            "that are no tie; each system stood left in half of the pairs"
        )
    return Report(
        metrics=metrics,
        recipe=f"A = {names['A']} against B = {names['B']}",
        model_digest=f"A {study['A'].get('digest', '')}, B {study['B'].get('digest', '')}",
        data=f"study {name_of_study}",
        data_digest=digest([key, *ratings]),
        seeds=(seed,),
        seconds=time.perf_counter() - began,
        counts={"raters": len(raters), "pairs": len(items)},
        notes=tuple(notes),
    )


def _ratings(
    path: Path, study: str, known: Mapping[str, Path]
) -> tuple[str, list[tuple[str, str, Any]]]:
    """(the rater's name, answers as (item, question, side)), for the right study and a rater who is
    met for the first time."""
    saved = json_object(path, RATINGS_FORMAT, "ratings")
    if saved.get("study") != study:
        raise DataError(
            f"{path} holds ratings of the study {saved.get('study')!r:.40}, wanted {study!r}. Give "
            "the key that was written beside its page."
        )
    rater, answers = saved.get("rater"), saved.get("answers")
    if not isinstance(rater, str) or not rater.strip():
        raise DataError(f'{path} names no "rater"; wanted the file as the page saved it.')
    rater = " ".join(rater.split())  # "ann" and "ann " are one
    if rater in known:
        raise DataError(
            f'{path}: the rater "{rater[:40]}" has ratings in {known[rater]} already; wanted each '
            "rater once. Leave out the older file, or have one of two people of one name save "
            "again under another."
        )
    if not isinstance(answers, dict) or not all(isinstance(a, dict) for a in answers.values()):
        raise DataError(f'{path}: "answers" is no object of objects; wanted the page\'s own file.')
    return rater, [(i, q, answer) for i, row in answers.items() for q, answer in row.items()]


def json_object(path: Path, form: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there, wanted the {what}. Check the path.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error}); wanted the {what} as written.") from error
    if not isinstance(value, dict) or value.get("format") != form:
        raise DataError(
            f'{path} is no {what} of a study ("format" is not "{form}"). The key lies beside the '
            "page, ratings are what the page saves."
        )
    return value
