"""What the raters of a blind page preferred: their files, unblinded by the key and counted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from showtell.errors import DataError
from showtell.evaluation.judge import KEY_FORMAT, QUESTIONS, RATINGS_FORMAT, json_object
from showtell.metrics.preference import Choice, Vote, preference_values
from showtell.metrics.report import Report, Value, digest


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
            name: (str(row["dialogue"]), {"A": "AB", "B": "BA"}[row["left"]])
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
        saved = json_object(path, RATINGS_FORMAT, "ratings")
        rater = _rater(saved, path, name_of_study, raters)
        raters[rater] = path
        judged = set()
        for item, question, side in _answers(saved, path):
            if item not in items or question not in votes or side not in _SIDES:
                raise DataError(
                    f'{path}: the answer "{side!s:.20}" to "{question:.40}" on item "{item:.20}" '
                    "is not of this study; wanted the file as the page saved it."
                )
            group, order = items[item]
            choice = _choice(side, order)
            votes[question].append(Vote(item=item, rater=rater, choice=choice, group=group))
            sides.append(side)
            judged.add(item)
        notes.append(f"{rater}: {len(judged):,} of {len(items):,} pairs")
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
    return Report.of_this_run(
        metrics=metrics,
        recipe=f"A = {names['A']} against B = {names['B']}",
        checkpoint="",
        model_digest=f"A {study['A'].get('digest', '')}, B {study['B'].get('digest', '')}",
        data=f"study {name_of_study}",
        data_digest=digest([key, *ratings]),
        seeds=(seed,),
        seconds=time.perf_counter() - began,
        counts={"raters": len(raters), "pairs": len(items)},
        notes=tuple(notes),
    )


_SIDES = ("left", "tie", "right")


def _rater(saved: Mapping[str, Any], path: Path, study: str, known: Mapping[str, Path]) -> str:
    """The rater's name, for the right study and met for the first time."""
    if saved.get("study") != study:
        raise DataError(
            f"{path} holds ratings of the study {saved.get('study')!r:.40}, wanted {study!r}. Give "
            "the key that was written beside its page."
        )
    rater = saved.get("rater")
    if not isinstance(rater, str) or not rater.strip():
        raise DataError(f'{path} names no "rater"; wanted the file as the page saved it.')
    if rater in known:
        raise DataError(
            f'{path}: the rater "{rater[:40]}" has ratings in {known[rater]} already; wanted each '
            "rater once. Leave out the older file, or have one of two people of one name save "
            "again under another."
        )
    return rater


def _choice(answer: str, order: str) -> Choice:
    """What the answer is to A; ``order`` says who stood left and right."""
    if answer == "tie":
        return "tie"
    return "win" if order[_SIDES.index(answer) // 2] == "A" else "loss"


def _answers(saved: Mapping[str, Any], path: Path) -> Iterable[tuple[str, str, Any]]:
    answers = saved.get("answers")
    if not isinstance(answers, dict) or not all(isinstance(a, dict) for a in answers.values()):
        raise DataError(f'{path}: "answers" is no object of objects; wanted the page\'s own file.')
    for item, row in answers.items():
        for question, answer in row.items():
            yield item, question, answer
