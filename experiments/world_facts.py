"""What is true of the dialogues of the photo world, printed: python experiments/world_facts.py

Best possible F1 of the share moment against a keyword rule and TF-IDF + logistic regression, the
variety of the agent's words, the share of photos, and how much of a photo its words settle.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from photoworld import load_table
from photoworld.scenes import ATTRIBUTES, LOOKS, Scene
from photoworld.words import named_attributes, templates_of
from showtell.cli.exits import exit_code_of
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, USER, Dialogue, Turn
from showtell.metrics.moment import at_threshold, best_threshold

STARTS = {"train": 0, "dev": 200_000, "test": 100_000}
NOUNS, VERBS = "photos?|pics?|pictures?", "send|show|share|see|snap"
KEYWORDS = {
    "photo words": r"\b(photo|pic|picture)s?\b",
    "photo or verb": rf"\b({NOUNS}|{VERBS})\b",
    "verb": rf"\b({VERBS})\b",
    "photo or verb, no negation": (
        rf"^(?!.*\b(don't|no|not|never|without|need)\b).*\b({NOUNS}|{VERBS})\b"
    ),
    "photo, verb or yes": rf"\b({NOUNS}|{VERBS}|yes|yeah|yep|please|first|second)\b",
}
Position = tuple[tuple[Turn, ...], float, bool]  # what is said before, p*, whether a photo came


def positions(dialogues: Sequence[Dialogue]) -> list[Position]:
    """Every start of an agent's turn but the first."""
    return [
        (d.turns[:k], t.labels["p_share"], bool(t.photos))
        for d in dialogues
        for k, t in enumerate(d.turns)
        if k > 0 and t.speaker == AGENT
    ]


def window(context: Sequence[Turn], turns: int | None, *, mark: bool) -> str:
    """The words of the last turns; a photo is a word; with ``mark`` each knows its speaker."""
    said = []
    for turn in context if turns is None else context[-turns:]:
        words = re.findall(r"[\w']+", f"{turn.text} {'phototurn' * len(turn.photos)}".lower())
        said.append(" ".join(f"{turn.speaker}_{word}" if mark else word for word in words))
    return " . ".join(said)


def shared(found: Sequence[Position]) -> list[bool]:
    return [photo for _, _, photo in found]


def keyword_f1(test: Sequence[Position]) -> dict[str, float]:
    """Each rule on the last user turn, and on the last three turns."""
    rows = {}
    for name, pattern in KEYWORDS.items():
        rule = re.compile(pattern)
        users = [[t.text.lower() for t in c if t.speaker == USER] for c, _, _ in test]
        flags = {
            "last user turn": [bool(said and rule.search(said[-1])) for said in users],
            "last 3 turns": [bool(rule.search(window(c, 3, mark=False))) for c, _, _ in test],
        }
        for where, flagged in flags.items():
            rows[f"{name}, {where}"] = at_threshold(shared(test), flagged, 0.5).f1
    return rows


def lexical_f1(
    sets: Sequence[Sequence[Position]],
    features: Callable[[Sequence[Turn]], str],
    *,
    with_position: bool,
    strength: float,
) -> float:
    """TF-IDF of uni- and bigrams + logistic regression, its threshold taken from dev."""
    from scipy.sparse import csr_matrix, hstack

    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"\S+")
    vectors.fit([features(context) for context, _, _ in sets[0]])

    def rows(found: Sequence[Position]) -> Any:
        words = vectors.transform([features(context) for context, _, _ in found])
        if not with_position:
            return words
        index = np.array([min(len(context), 13) for context, _, _ in found])
        return hstack([words, csr_matrix(np.eye(14)[index])]).tocsr()

    model = LogisticRegression(max_iter=300, C=strength).fit(rows(sets[0]), shared(sets[0]))
    dev, test = (model.predict_proba(rows(found))[:, 1] for found in sets[1:])
    threshold = best_threshold(shared(sets[1]), dev).threshold
    return at_threshold(shared(sets[2]), test, threshold).f1


def moment(sets: Sequence[Sequence[Position]], *, quick: bool) -> dict[str, Any]:
    _, dev, test = sets
    threshold = best_threshold(shared(dev), [p for _, p, _ in dev]).threshold
    best = at_threshold(shared(test), [p for _, p, _ in test], threshold).f1
    rows = keyword_f1(test)
    windows = {"last turn": 1, "last 2 turns": 2, "last 3 turns": 3, "whole context": None}
    places, strengths = ((False,), (1.0,)) if quick else ((False, True), (1.0, 10.0))
    for (name, turns), mark, place, strength in product(
        windows.items(), (False, True), places, strengths
    ):
        label = f"tfidf {name}{', speakers' * mark}{', position' * place}, C={strength:g}"
        rows[label] = lexical_f1(
            sets,
            lambda context, turns=turns, mark=mark: window(context, turns, mark=mark),
            with_position=place,
            strength=strength,
        )
    best_rule = max(rows, key=rows.__getitem__)
    return {
        "positions": len(test),
        "shares": sum(shared(test)),
        "f1_bayes": best,
        "threshold": threshold,
        "baselines": rows,
        "best_baseline": best_rule,
        "best_baseline_over_bayes": rows[best_rule] / best,
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
        "words_per_agent_turn": statistics.mean(len(text.split()) for text in said),
        "vocabulary": len({w for t in turns for w in re.findall(r"[\w']+", t.text.lower())}),
        "unseen_turns": statistics.mean(turn.labels["unseen"] for turn in turns),
    }


def counts(dialogues: Sequence[Dialogue]) -> dict[str, Any]:
    turns = [len(d.turns) for d in dialogues]
    photos = [len(d.photos) for d in dialogues]
    both = [photo for d in dialogues for photo in d.photos]
    ours = [photo for photo in both if photo.origin != "user"]
    among = {name: both for name in ATTRIBUTES}
    among["colour"] = [p for p in both if p.labels["scene"]["subject"] not in LOOKS]
    among["relation"] = [p for p in both if p.labels["scene"]["relation"] != "alone"]
    among["anchor"] = among["relation"]

    def with_photo(*, by_user: bool) -> float:
        return statistics.mean(
            any((p.origin == "user") == by_user for p in d.photos) for d in dialogues
        )

    return {
        "turns": {"min": min(turns), "mean": statistics.mean(turns), "max": max(turns)},
        "photos": {str(n): photos.count(n) / len(photos) for n in range(max(photos) + 1)},
        "photo_turns": sum(photos) / sum(turns),
        "with_agent_photo": with_photo(by_user=False),
        "with_user_photo": with_photo(by_user=True),
        "determined": statistics.mean(len(p.labels["determined"]) for p in ours),
        "caption_states": {
            name: statistics.mean(name in p.labels["stated"] for p in some)
            for name, some in among.items()
        },
    }


def comments(dialogues: Sequence[Dialogue]) -> dict[str, Any]:
    """Words about photos: how many, how much they name, whether the reader agrees."""
    named, left_out, wrong = [], [], 0
    for d in dialogues:
        photos = {p.id: p for p in d.photos}
        for t in (t for t in d.turns if t.speaker == AGENT and "named" in t.labels):
            photo, told = photos[t.labels["about"]], t.labels["named"]
            named.append(len(told))
            left_out.append(bool(set(told) - set(photo.labels["stated"])))
            scene, read = Scene.from_dict(photo.labels["scene"]), named_attributes(t.text)
            wrong += read != {n: {v} for n, v in told.items()} or any(
                values != {getattr(scene, name)} for name, values in read.items()
            )
    return {
        "comments": len(named),
        "named_each": statistics.mean(named),
        "beyond_the_caption": statistics.mean(left_out),
        "reader_disagrees": wrong,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", type=int, default=2000, help="train dialogues for the baselines")
    parser.add_argument("--limit", type=int, default=1000, help="dialogues of dev and of test")
    parser.add_argument("--offset", type=int, default=0, help="first seed within each split")
    parser.add_argument("--quick", action="store_true", help="fewer baselines")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sets = {}
    for name, start in STARTS.items():
        first = start + options.offset
        size = options.fit if name == "train" else options.limit
        sets[name] = list(open_data(f"world:{first}-{first + size - 1}"))
    templates = [one for act in load_table("talk")["acts"] for one in templates_of(act)]
    report = {
        "templates": {"all": len(templates), "kept_for_test": sum(t.kept for t in templates)},
        "moment": moment(
            [positions(dialogues) for dialogues in sets.values()], quick=options.quick
        ),
    }
    for name in ("train", "test"):
        some = sets[name][: options.limit]
        report[name] = {**counts(some), **variety(some), **comments(some)}
    print(json.dumps(report, indent=None if options.json else 2))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
