"""Slow transcriptions of what texts are scored by, and five pairs whose scores are frozen."""

from __future__ import annotations

import math
from collections import Counter

SAID = ["The cat sat on the mat.", "It's raining, isn't it?", "Nice photo of the dog!"]
SAID += ["I walked", "yes"]
WANTED = ["A cat sat on a mat.", "It is raining here, isn't it?", "What a nice photo!"]
WANTED += ["We were walking home", "Yes, please."]


def grams(tokens, n):
    return Counter(tuple(tokens[k : k + n]) for k in range(len(tokens) - n + 1))


def table_of_common(a, b):
    """Of all beginnings of two lists: the length of their longest common subsequence."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            best = max(table[i][j + 1], table[i + 1][j])
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else best
    return table


def slow_bleu(hypotheses, references, order, *, tokens, individual=False, smooth="none"):
    """Papineni's corpus BLEU with lists: a reference's n-gram is struck off once it is matched."""
    matches, totals, said, wanted = [0] * order, [0] * order, 0, 0
    for h, several in zip(hypotheses, references, strict=True):
        h, several = tokens(h), [tokens(r) for r in several]
        said += len(h)
        # of equally near references gill takes the first, sacrebleu the shortest
        several.sort(key=len if smooth == "exp" else lambda r: 0)
        wanted += len(min(several, key=lambda r: abs(len(r) - len(h))))
        for n in range(1, order + 1):
            for gram, count in grams(h, n).items():
                matches[n - 1] += min(count, max(grams(r, n)[gram] for r in several))
                totals[n - 1] += count
    penalty = 1.0 if said > wanted else math.exp(1 - wanted / said) if said else 0.0
    if individual:
        return penalty * (matches[-1] + 1e-13) / (totals[-1] + 1e-13)
    logs, zeros = 0.0, 1
    for hits, total in zip(matches, totals, strict=True):
        if not total or not hits and smooth == "none":
            return 0.0
        zeros *= 1 if hits else 2
        logs += math.log(hits / total if hits else 1 / (zeros * total))
    return penalty * math.exp(logs / order)
