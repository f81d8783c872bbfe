"""``standard`` beside sacrebleu, rouge-score and nltk, and ``psdg`` beside a slow transcription, on
1,000 turns of PhotoChat:

    python experiments/check_text_metrics.py PHOTOCHAT_FOLDER [--turns N] [--wordnet FOLDER]

where the folder holds dev.jsonl. What is scored is each text turn against the one two turns
before it (by the same speaker, mostly): no model is needed, and both sides are real chat. METEOR
itself is compared where a WordNet is named. Prints the differences and ends with code 1 if
``standard`` is off by more than 1e-6 or ``psdg`` by more than 1e-9. Takes under a minute on one
core.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nltk
import sacrebleu
from nltk.translate.meteor_score import single_meteor_score
from rouge_score.rouge_scorer import RougeScorer

from showtell.data.photochat import read_photochat
from showtell.metrics import text_scores
from showtell.metrics.meteor import NoSynonyms, meteor, open_wordnet

LIMITS = {"standard": 1e-6, "psdg": 1e-9}


def pairs_of(path: Path, count: int) -> list[tuple[str, str]]:
    """(said, wanted): a text turn and the text two turns before it."""
    found = []
    for dialogue in read_photochat(path):
        texts = [turn.text.strip() for turn in dialogue.turns]
        found += [(h, r) for r, h in zip(texts, texts[2:], strict=False) if h and r]
        if len(found) >= count:
            break
    return found[:count]


def slow_psdg_bleu(said: Sequence[str], wanted: Sequence[str], order: int) -> float:
    """The definition with lists: a reference's n-gram is struck off once it is matched."""
    matches = total = 0
    for hypothesis, reference in zip(said, wanted, strict=True):
        h, r = hypothesis.split(), reference.split()
        left = [tuple(r[k : k + order]) for k in range(len(r) - order + 1)]
        for k in range(len(h) - order + 1):
            gram = tuple(h[k : k + order])
            total += 1
            if gram in left:
                left.remove(gram)
                matches += 1
    lengths = [sum(len(text.split()) for text in texts) for texts in (said, wanted)]
    penalty = 1.0 if lengths[0] > lengths[1] else math.exp(1 - lengths[1] / lengths[0])
    return penalty * (matches + 1e-13) / (total + 1e-13)


def slow_rouge_l(hypothesis: str, reference: str) -> float:
    h, r = hypothesis.split(), reference.split()
    table = [[0] * (len(r) + 1) for _ in range(len(h) + 1)]
    for i, x in enumerate(h):
        for j, y in enumerate(r):
            best = max(table[i][j + 1], table[i + 1][j])
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else best
    common = table[-1][-1]
    if not common:
        return 0.0
    precision, recall = common / len(h), common / len(r)
    return 2 * precision * recall / (precision + recall)


def compared(
    said: list[str], wanted: list[str], wordnet: Any
) -> Iterator[tuple[str, str, float, float]]:
    """(protocol, measure, ours, theirs)."""
    ours = text_scores(said, wanted, protocol="standard")
    for order in (1, 2, 3, 4):
        theirs = sacrebleu.BLEU(max_ngram_order=order).corpus_score(said, [wanted]).score / 100
        yield "standard", f"bleu{order}", ours.bleu[order - 1], theirs
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    rouges = [scorer.score(r, h)["rougeL"].fmeasure for h, r in zip(said, wanted, strict=True)]
    assert ours.rouge_l is not None
    yield "standard", "rouge_l", ours.rouge_l, sum(rouges) / len(rouges)
    for name, words in {"meteor_exact_stem": NoSynonyms(), "meteor": wordnet}.items():
        if words is None:
            continue
        theirs_N = [
            single_meteor_score(
                nltk.word_tokenize(r, preserve_line=True),
                nltk.word_tokenize(h, preserve_line=True),
                wordnet=words,
            )
            for h, r in zip(said, wanted, strict=True)
        ]
        ours_N = meteor(said, wanted, wordnet=words)
        worst = max(range(len(ours_N)), key=lambda k: abs(ours_N[k] - theirs_N[k]))
        yield "standard", f"{name}, worst turn", ours_N[worst], theirs_N[worst]
        yield "standard", name, sum(ours_N) / len(ours_N), sum(theirs_N) / len(theirs_N)

    psdg = text_scores(said, wanted, protocol="psdg")
    for order in (1, 2, 3, 4):
        yield "psdg", f"bleu{order}", psdg.bleu[order - 1], slow_psdg_bleu(said, wanted, order)
    slow = [slow_rouge_l(h, r) for h, r in zip(said, wanted, strict=True)]
    assert psdg.rouge_l is not None
    yield "psdg", "rouge_l", psdg.rouge_l, sum(slow) / len(slow)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":\n")[0])
    parser.add_argument("folder", type=Path, help="holds dev.jsonl of PhotoChat")
    parser.add_argument("--turns", type=int, default=1000, help="how many turns are scored")
    parser.add_argument("--wordnet", type=Path, help="holds corpora/wordnet, to compare METEOR")
    options = parser.parse_args()
    wordnet = open_wordnet(options.wordnet) if options.wordnet else None
    pairs = pairs_of(options.folder / "dev.jsonl", options.turns)
    said, wanted = [h for h, _ in pairs], [r for _, r in pairs]
    print(f"{len(pairs):,} turns of {options.folder.name}/dev.jsonl")
    print(f"{'protocol':<10}{'measure':<32}{'ours':>14}{'reference':>14}{'difference':>13}")
    fine = True
    for protocol, measure, ours, theirs in compared(said, wanted, wordnet):
        apart = abs(ours - theirs)
        fine &= apart <= LIMITS[protocol]
        print(f"{protocol:<10}{measure:<32}{ours:14.9f}{theirs:14.9f}{apart:13.1e}")
    print("within the limits" if fine else "OUT OF THE LIMITS")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
