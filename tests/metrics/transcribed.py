"""Slow transcriptions of the published definitions, and five pairs whose scores are frozen."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np

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


def tokens_13a(text):
    """sacrebleu's 13a on plain English."""
    text = re.sub(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])", r" \1 ", text + " ")
    text = re.sub(r"([^0-9])([\.,])", r"\1 \2 ", text)
    return re.sub(r"([\.,])([^0-9])", r" \1 \2", text).split()


def slow_rouge(hypothesis, reference, tokens=str.split):
    """F of the longest common subsequence."""
    a, b = tokens(hypothesis), tokens(reference)
    common = table_of_common(a, b)[-1][-1]
    return 2 * common / (len(a) + len(b)) if common else 0.0


def rouge_score_words(text):
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).split()


def slow_rouge_package(hypothesis, reference):
    """The package rouge 1.0.1, its walk through the table written as a recursion."""
    said, wanted = (
        [" ".join(s.split()) for s in text.split(".") if len(s) > 0]
        for text in (hypothesis, reference)
    )
    union = set()
    for x in (r.split(" ") for r in wanted):
        for y in (h.split(" ") for h in said):
            table = table_of_common(x, y)

            def walk(i, j, x=x, y=y, table=table):
                if not i or not j:
                    return []
                if x[i - 1] == y[j - 1]:
                    return walk(i - 1, j - 1) + [x[i - 1]]
                up = table[i - 1][j] > table[i][j - 1]
                return walk(i - 1, j) if up else walk(i, j - 1)

            union |= set(walk(len(x), len(y)))
    p = len(union) / len({w for s in said for w in s.split(" ")})
    r = len(union) / len({w for s in wanted for w in s.split(" ")})
    return 2.0 * (p * r) / (p + r + 1e-8)


def slow_minigpt5(said, wanted, cosine):
    """(P, R, F1) of the turns of a dialogue, (text or None, photo or None) each, with the release's
    marks: -1 missing in the prediction, -2 in the reference."""
    marks = []
    for h, r in zip(said, wanted, strict=True):
        for one, other in zip(h, r, strict=True):
            if one is not None and other is not None:
                marks.append(cosine(one, other))
            elif other is not None:
                marks.append(-1)
            elif one is not None:
                marks.append(-2)
    valid = [m for m in marks if m not in (-1, -2)]
    if not valid:
        return 0.0, 0.0, 0.0
    precision = sum(valid) / len([m for m in marks if m != -1])
    recall = sum(valid) / len([m for m in marks if m != -2])
    return precision, recall, 2 * precision * recall / (precision + recall)


def slow_fid(real, painted):
    """Heusel et al.'s formula in float64, with scipy's square root of a matrix."""
    from scipy.linalg import sqrtm

    gap = ((real.mean(0) - painted.mean(0)) ** 2).sum()
    a, b = np.cov(real.T), np.cov(painted.T)
    return gap + np.trace(a + b - 2 * sqrtm(a @ b).real)


def slow_kid(x, y):
    """The unbiased MMD^2 of all photos with k(x, y) = (x.y / d + 1)^3, by loops."""

    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    within = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within += sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def slow_is(probs_NC, splits):
    """Salimans et al.: exp of the mean KL of each split, photo k in split k mod ``splits``."""
    scores = []
    for probs in (probs_NC[s::splits] for s in range(splits)):
        marginal = probs.mean(0)
        scores.append(np.exp(np.mean([(p * (np.log(p) - np.log(marginal))).sum() for p in probs])))
    return np.mean(scores), np.std(scores, ddof=1)
