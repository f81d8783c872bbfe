"""What is true of the dialogues of the photo world, printed: python experiments/world_facts.py

Best possible F1 of the share moment against a keyword rule and TF-IDF + logistic regression, the
variety of the agent's words, the share of photos, and how much of a photo its words settle.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from photoworld import load_table
from photoworld.scenes import ATTRIBUTES, LOOKS, Scene, split_of
from photoworld.talk import world_dialogue
from photoworld.words import named_attributes, templates_of
from showtell.dialogue import AGENT, USER, Dialogue, Turn


@dataclass(frozen=True, kw_only=True)
class Position:
    """One start of an agent's turn: what is printed before it, p*, and whether a photo came."""

    context: tuple[Turn, ...]
    p_share: float
    shared: bool


def positions(dialogues: Sequence[Dialogue]) -> list[Position]:
    return [
        Position(context=d.turns[:k], p_share=t.labels["p_share"], shared=bool(t.photos))
        for d in dialogues
        for k, t in enumerate(d.turns)
        if k > 0 and t.speaker == AGENT
    ]


def f1(truth: np.ndarray, flagged: np.ndarray) -> float:
    hits = float((truth & flagged).sum())
    return 2 * hits / max(1.0, float(truth.sum() + flagged.sum()))


def best_threshold(truth: np.ndarray, score: np.ndarray) -> float:
    """The threshold with the best F1 (flagged: score at least the threshold)."""
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(truth[order])
    values = 2 * hits / (np.arange(1, len(score) + 1) + truth.sum())
    last_of_ties = np.append(score[order][1:] != score[order][:-1], True)
    return float(score[order][np.argmax(np.where(last_of_ties, values, -1))])


def words_of(turn: Turn, *, mark: bool) -> str:
    """The words of a turn; a photo is a word; with ``mark`` each word knows its speaker."""
    text = f"{turn.text} {'phototurn' * len(turn.photos)}"
    words = re.findall(r"[\w']+", text.lower())
    return " ".join(f"{turn.speaker}_{w}" for w in words) if mark else " ".join(words)


def window(position: Position, turns: int | None, *, mark: bool) -> str:
    context = position.context if turns is None else position.context[-turns:]
    return " . ".join(words_of(turn, mark=mark) for turn in context)


KEYWORDS: dict[str, str] = {
    "photo words": r"\b(photo|pic|picture)s?\b",
    "photo or verb": r"\b(photos?|pics?|pictures?|send|show|share|see|snap)\b",
    "verb": r"\b(send|show|share|see|snap)\b",
    "photo or verb, no negation": (
        r"^(?!.*\b(don't|no|not|never|without|need)\b)"
        r".*\b(photos?|pics?|pictures?|send|show|share|see|snap)\b"
    ),
    "photo, verb or yes": (
        r"\b(photos?|pics?|pictures?|send|show|share|see|snap|yes|yeah|yep|please|first|second)\b"
    ),
}


def keyword_f1(test: list[Position]) -> dict[str, float]:
    """Each rule on the last user turn, and on the last three turns."""
    truth = np.array([p.shared for p in test])
    rows = {}
    for name, pattern in KEYWORDS.items():
        rule = re.compile(pattern)
        last = []
        for p in test:
            said = [t.text.lower() for t in p.context if t.speaker == USER]
            last.append(bool(said and rule.search(said[-1])))
        rows[f"{name}, last user turn"] = f1(truth, np.array(last))
        recent = [bool(rule.search(window(p, 3, mark=False))) for p in test]
        rows[f"{name}, last 3 turns"] = f1(truth, np.array(recent))
    return rows


def lexical_f1(
    fit: list[Position],
    dev: list[Position],
    test: list[Position],
    features: Callable[[Position], str],
    *,
    with_position: bool,
    strength: float,
) -> float:
    """TF-IDF of uni- and bigrams + logistic regression, its threshold taken from dev."""
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"\S+")
    x = vectors.fit_transform([features(p) for p in fit])

    def more(rows: object, where: list[Position]) -> object:
        if not with_position:
            return rows
        from scipy.sparse import csr_matrix, hstack

        index = np.array([min(len(p.context), 13) for p in where])
        return hstack([rows, csr_matrix(np.eye(14)[index])]).tocsr()

    model = LogisticRegression(max_iter=300, C=strength)
    model.fit(more(x, fit), [p.shared for p in fit])
    scores = [
        model.predict_proba(more(vectors.transform([features(p) for p in where]), where))[:, 1]
        for where in (dev, test)
    ]
    threshold = best_threshold(np.array([p.shared for p in dev]), scores[0])
    return f1(np.array([p.shared for p in test]), scores[1] >= threshold)


def moment(fit: list[Position], dev: list[Position], test: list[Position], *, quick: bool) -> dict:
    truth = np.array([p.shared for p in test])
    threshold = best_threshold(
        np.array([p.shared for p in dev]), np.array([p.p_share for p in dev])
    )
    best = f1(truth, np.array([p.p_share for p in test]) >= threshold)
    rows = dict(keyword_f1(test))
    windows = {"last turn": 1, "last 2 turns": 2, "last 3 turns": 3, "whole context": None}
    for name, turns in windows.items():
        for mark in (False, True):
            for with_position in (False,) if quick else (False, True):
                for strength in (1.0,) if quick else (1.0, 10.0):
                    label = f"tfidf {name}{', speakers' * mark}{', position' * with_position}"
                    rows[f"{label}, C={strength:g}"] = lexical_f1(
                        fit,
                        dev,
                        test,
                        lambda p, turns=turns, mark=mark: window(p, turns, mark=mark),
                        with_position=with_position,
                        strength=strength,
                    )
    best_rule = max(rows, key=rows.__getitem__)
    return {
        "positions": len(test),
        "shares": int(truth.sum()),
        "f1_bayes": best,
        "threshold": threshold,
        "baselines": rows,
        "best_baseline": best_rule,
        "best_baseline_over_bayes": rows[best_rule] / best,
    }


def variety(dialogues: Sequence[Dialogue]) -> dict:
    said = [t.text for d in dialogues for t in d.turns if t.speaker == AGENT and not t.photos]
    trigrams: Counter[tuple[str, ...]] = Counter()
    vocabulary: Counter[str] = Counter()
    for text in said:
        words = re.findall(r"[\w']+", text.lower())
        trigrams.update(zip(words, words[1:], words[2:], strict=False))
    for d in dialogues:
        for t in d.turns:
            vocabulary.update(re.findall(r"[\w']+", t.text.lower()))
    return {
        "agent_turns": len(said),
        "repeated": 1 - len(set(said)) / len(said),
        "distinct_3": len(trigrams) / trigrams.total(),
        "words_per_agent_turn": statistics.mean(len(t.split()) for t in said),
        "vocabulary": len(vocabulary),
        "unseen_turns": statistics.mean(t.labels["unseen"] for d in dialogues for t in d.turns),
    }


def counts(dialogues: Sequence[Dialogue]) -> dict:
    turns = [len(d.turns) for d in dialogues]
    photos = [len(d.photos) for d in dialogues]
    shared = [p for d in dialogues for p in d.photos if p.origin != "user"]
    sent = [p for d in dialogues for p in d.photos if p.origin == "user"]
    both = shared + sent
    unnamed = [p for p in both if p.labels["scene"]["subject"] not in LOOKS]
    standing = [p for p in both if p.labels["scene"]["relation"] != "alone"]
    stated = {}
    for name in ATTRIBUTES:
        among = {"colour": unnamed, "relation": standing, "anchor": standing}.get(name, both)
        stated[name] = statistics.mean(name in p.labels["stated"] for p in among)
    return {
        "turns": {"min": min(turns), "mean": statistics.mean(turns), "max": max(turns)},
        "photos": {str(n): photos.count(n) / len(photos) for n in range(max(photos) + 1)},
        "photo_turns": sum(photos) / sum(turns),
        "with_agent_photo": statistics.mean(
            any(p.origin != "user" for p in d.photos) for d in dialogues
        ),
        "with_user_photo": statistics.mean(
            any(p.origin == "user" for p in d.photos) for d in dialogues
        ),
        "determined": statistics.mean(len(p.labels["determined"]) for p in shared),
        "caption_states": stated,
    }


def comments(dialogues: Sequence[Dialogue]) -> dict:
    """Words about photos: how many, how much they name, whether the reader agrees."""
    named, left_out, wrong = [], [], 0
    for d in dialogues:
        photos = {p.id: p for p in d.photos}
        for t in d.turns:
            if t.speaker != AGENT or "named" not in t.labels:
                continue
            photo = photos[t.labels["about"]]
            named.append(len(t.labels["named"]))
            left_out.append(bool(set(t.labels["named"]) - set(photo.labels["stated"])))
            scene = Scene.from_dict(photo.labels["scene"])
            read = named_attributes(t.text)
            wrong += read != {n: {v} for n, v in t.labels["named"].items()} or any(
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
    parser.add_argument("--examples", type=int, default=0, help="dialogues to print")
    parser.add_argument("--quick", action="store_true", help="fewer baselines")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    starts = {"train": 0, "dev": 200_000, "test": 100_000}
    sizes = {"train": args.fit, "dev": args.limit, "test": args.limit}
    sets = {}
    for name, start in starts.items():
        seeds = range(start + args.offset, start + args.offset + sizes[name])
        assert {split_of(seed) for seed in seeds} == {name}
        sets[name] = list(map(world_dialogue, seeds))
    found = {name: positions(dialogues) for name, dialogues in sets.items()}
    templates = [one for act in load_table("talk")["acts"] for one in templates_of(act)]
    report = {
        "templates": {"all": len(templates), "kept_for_test": sum(t.kept for t in templates)},
        "moment": moment(found["train"], found["dev"], found["test"], quick=args.quick),
        **{
            name: {
                **counts(some := sets[name][: args.limit]),
                **variety(some),
                **comments(some),
            }
            for name in ("train", "test")
        },
    }
    for dialogue in sets["test"][: args.examples]:
        print(f"--- {dialogue.id}")
        for turn in dialogue.turns:
            shown = "".join(f"[photo: {p.caption}]" for p in turn.photos) or turn.text
            p_share = turn.labels.get("p_share")
            print(f"{turn.speaker:>5} {'' if p_share is None else f'{p_share:.2f}':4} {shown}")
    print(json.dumps(report, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
