"""What is true of the dialogues of the photo world, printed: python experiments/world_facts.py

The best possible F1 of the share moment (by p* itself), beside keyword rules and TF-IDF + logistic
regression, each with its threshold from dev; and the variety of the agent's words.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from photoworld import load_table
from photoworld.words import templates_of
from showtell.cli.exits import exit_code_of
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, USER, Dialogue, Turn
from showtell.metrics.moment import at_threshold, best_threshold

STARTS = {"train": 0, "dev": 200_000, "test": 100_000}
VERBS = "send|show|share|see|snap"
KEYWORDS = {
    "photo words": r"\b(photo|pic|picture)s?\b",
    "photo or verb": rf"\b(photos?|pics?|pictures?|{VERBS})\b",
    "verb": rf"\b({VERBS})\b",
}
WINDOWS = {"last turn": 1, "last 2 turns": 2, "last 3 turns": 3, "whole context": 99}
Position = tuple[tuple[Turn, ...], float, bool]  # what is said before, p*, whether a photo came


def positions(dialogues: Sequence[Dialogue]) -> list[Position]:
    """Every start of an agent's turn but the first."""
    return [
        (d.turns[:k], t.labels["p_share"], bool(t.photos))
        for d in dialogues
        for k, t in enumerate(d.turns)
        if k > 0 and t.speaker == AGENT
    ]


def window(context: Sequence[Turn], turns: int) -> str:
    """The words of the last turns; a photo is a word."""
    said = [f"{turn.text} {'phototurn' * len(turn.photos)}".lower() for turn in context[-turns:]]
    return " . ".join(" ".join(re.findall(r"[\w']+", text)) for text in said)


def f1(dev: Sequence[float], test: Sequence[float], sets: Sequence[Sequence[Position]]) -> float:
    """Of scores, with the threshold that is best on dev."""
    shared = [[photo for _, _, photo in found] for found in sets[1:]]
    return at_threshold(shared[1], test, best_threshold(shared[0], dev).threshold).f1


def moments(sets: Sequence[Sequence[Position]]) -> dict[str, Any]:
    """``sets`` are the positions of train, dev and test."""
    test, rows = sets[2], {}
    for name, pattern in KEYWORDS.items():
        rule, shared = re.compile(pattern), [photo for _, _, photo in test]
        users = [[t.text.lower() for t in c if t.speaker == USER] for c, _, _ in test]
        flags = [bool(said and rule.search(said[-1])) for said in users]
        rows[f"{name}, last user turn"] = at_threshold(shared, flags, 0.5).f1
        flags = [bool(rule.search(window(c, 3))) for c, _, _ in test]
        rows[f"{name}, last 3 turns"] = at_threshold(shared, flags, 0.5).f1
    for name, turns in WINDOWS.items():
        texts = [[window(c, turns) for c, _, _ in found] for found in sets]
        words = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"\S+"
        )
        model = LogisticRegression(max_iter=300, C=10)
        model.fit(words.fit_transform(texts[0]), [photo for _, _, photo in sets[0]])
        dev, scored = (model.predict_proba(words.transform(part))[:, 1] for part in texts[1:])
        rows[f"tfidf {name}"] = f1(dev, scored, sets)
    best = f1(*([p for _, p, _ in found] for found in sets[1:]), sets)
    rule = max(rows, key=rows.__getitem__)
    return {
        "positions": len(test),
        "photos": sum(photo for _, _, photo in test),
        "f1_bayes": best,
        "baselines": rows,
        "best_baseline": rule,
        "best_baseline_over_bayes": rows[rule] / best,
    }


def variety(dialogues: Sequence[Dialogue]) -> dict[str, Any]:
    said = [t.text for d in dialogues for t in d.turns if t.speaker == AGENT and not t.photos]
    trigrams: Counter[tuple[str, ...]] = Counter()
    for text in said:
        words = re.findall(r"[\w']+", text.lower())
        trigrams.update(zip(words, words[1:], words[2:], strict=False))
    turns = [turn for dialogue in dialogues for turn in dialogue.turns]
    return {
        "agent_turns": len(said),
        "repeated": 1 - len(set(said)) / len(said),
        "distinct_3": len(trigrams) / trigrams.total(),
        "unseen_turns": statistics.mean(turn.labels["unseen"] for turn in turns),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", type=int, default=2000, help="train dialogues for the baselines")
    parser.add_argument("--limit", type=int, default=1000, help="dialogues of dev and of test")
    options = parser.parse_args()
    sizes = {"train": options.fit, "dev": options.limit, "test": options.limit}
    sets = {
        name: list(open_data(f"world:{first}-{first + sizes[name] - 1}"))
        for name, first in STARTS.items()
    }
    templates = [one for act in load_table("talk")["acts"] for one in templates_of(act)]
    report = {
        "templates": {"all": len(templates), "kept_for_test": sum(t.kept for t in templates)},
        "moment": moments([positions(dialogues) for dialogues in sets.values()]),
        **{name: variety(sets[name][: options.limit]) for name in ("train", "test")},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
