from __future__ import annotations

import math
import random
import sys

import pytest

from showtell.errors import DataError, MissingDependency
from showtell.metrics.text import (
    distinct_n,
    psdg_scores,
    rouge_l_f1,
    standard_scores,
    text_values,
)


def random_pairs(seed: int, count: int = 40) -> tuple[list[str], list[str]]:
    rng = random.Random(seed)
    words = [
        "the",
        "a",
        "dog",
        "Dog",
        "runs",
        ",",
        ".",
        "in",
        "park",
        "!",
        "two",
        "red",
        "snow",
        "I",
    ]

    def text(least: int) -> str:
        return " ".join(rng.choice(words) for _ in range(rng.randint(least, 12)))

    return [text(0) for _ in range(count)], [text(1) for _ in range(count)]


def slow_psdg(hypotheses: list[str], references: list[str]) -> tuple[list[float], float]:
    """The definition word by word: loops, lists and a full table."""
    bleu = []
    said = sum(len(h.split()) for h in hypotheses)
    wanted = sum(len(r.split()) for r in references)
    penalty = 0.0 if said == 0 else 1.0 if said > wanted else math.exp(1 - wanted / said)
    for n in (1, 2, 3, 4):
        matches = total = 0
        for h, r in zip(hypotheses, references, strict=True):
            h_grams = [h.split()[k : k + n] for k in range(len(h.split()) - n + 1)]
            left = [r.split()[k : k + n] for k in range(len(r.split()) - n + 1)]
            for gram in h_grams:
                total += 1
                if gram in left:
                    left.remove(gram)
                    matches += 1
        bleu.append(penalty * math.exp(math.log(matches + 1e-13) - math.log(total + 1e-13)))
    rouges = []
    for h, r in zip(hypotheses, references, strict=True):
        a, b = h.split(), r.split()
        table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                table[i + 1][j + 1] = (
                    table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
                )
        common = table[-1][-1]
        if common == 0:
            rouges.append(0.0)
        else:
            precision, recall = common / len(a), common / len(b)
            rouges.append(2 * precision * recall / (precision + recall))
    return bleu, sum(rouges) / len(rouges)


@pytest.mark.parametrize("seed", range(10))
def test_psdg_equals_its_definition_transcribed_with_loops(seed):
    hypotheses, references = random_pairs(seed)
    scores = psdg_scores(hypotheses, references)
    bleu, rouge = slow_psdg(hypotheses, references)
    assert scores.bleu == pytest.approx(bleu, abs=1e-12)
    assert scores.rouge_l == pytest.approx(rouge, abs=1e-12)


def test_psdg_is_individual_cased_and_corpus_level():
    scores = psdg_scores(["the cat sat here"], ["the cat is here"])
    assert scores.bleu == pytest.approx((3 / 4, 1 / 3, 0, 0), abs=1e-9)
    assert psdg_scores(["The"], ["the"]).bleu[0] == pytest.approx(0, abs=1e-9)
    assert psdg_scores(["a b"], ["a b c d"]).bleu[0] == pytest.approx(math.exp(-1))
    # counts are added up before they are divided, which a mean of sentences would not give
    both = psdg_scores(["a a a b", "c"], ["a a a a", "d d"])
    assert both.bleu[0] == pytest.approx(math.exp(1 - 6 / 5) * 3 / 5)


def test_psdg_keeps_the_quirk_that_no_ngram_at_all_scores_the_brevity_penalty():
    assert psdg_scores(["a b"], ["a b"]).bleu == pytest.approx((1, 1, 1, 1))
    assert psdg_scores(["", ""], ["a", "b"]).bleu == (0, 0, 0, 0)


@pytest.mark.parametrize("scores", [psdg_scores, standard_scores])
def test_a_reply_is_never_closer_to_another_reply_than_to_itself(scores):
    hypotheses, references = random_pairs(3)
    references = [r + " and so on" for r in references]
    same = scores(references, references)
    assert same.bleu == pytest.approx((1, 1, 1, 1))
    assert same.rouge_l == pytest.approx(1)
    other = scores(hypotheses, references)
    assert all(0 <= x <= y for x, y in zip(other.bleu, same.bleu, strict=True))
    assert 0 <= other.rouge_l <= 1


@pytest.mark.parametrize("protocol", ["psdg", "standard"])
def test_the_order_of_the_pairs_does_not_matter(protocol):
    hypotheses, references = random_pairs(4)
    score = {"psdg": psdg_scores, "standard": standard_scores}[protocol]
    turned = score(hypotheses[::-1], references[::-1])
    assert turned.bleu == pytest.approx(score(hypotheses, references).bleu)


def test_rouge_of_very_long_texts_is_quick():
    text = " ".join(str(k % 977) for k in range(20_000))
    assert rouge_l_f1(text, text) == 1
    assert 0 < rouge_l_f1(text, text[::-1]) < 1


def test_standard_is_sacrebleu_with_its_signature_and_rouge_score():
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    hypotheses = ["The cat sat on the mat.", "It's raining, isn't it?", "Nice photo of the dog!"]
    references = ["A cat sat on a mat.", "It is raining here, isn't it?", "What a nice photo!"]
    scores = standard_scores(hypotheses, references)
    assert scores.bleu[3] == pytest.approx(
        sacrebleu.corpus_bleu(hypotheses, [references]).score / 100
    )
    assert "tok:13a" in scores.signature and "version:" in scores.signature
    scorer = RougeScorer(["rougeL"])
    mean = sum(
        scorer.score(r, h)["rougeL"].fmeasure for h, r in zip(hypotheses, references, strict=True)
    )
    assert scores.rouge_l == pytest.approx(mean / 3)
    # cumulative, so it can only fall
    assert list(scores.bleu) == sorted(scores.bleu, reverse=True)


@pytest.mark.parametrize("protocol", ["psdg", "standard"])
def test_values_hold_the_scores_inside_their_intervals_and_repeat_with_the_seed(protocol):
    hypotheses, references = random_pairs(5, count=60)
    values = text_values(hypotheses, references, protocol=protocol, seed=1)
    score = {"psdg": psdg_scores, "standard": standard_scores}[protocol](hypotheses, references)
    assert set(values) == {
        f"text.{protocol}.{m}" for m in ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l")
    }  # noqa: E501
    for order in (1, 2):
        value = values[f"text.{protocol}.bleu{order}"]
        assert value.value == score.bleu[order - 1]
        assert value.low < value.value < value.high and value.n == 60
        assert value.protocol == protocol
    assert values == text_values(hypotheses, references, protocol=protocol, seed=1)
    assert values != text_values(hypotheses, references, protocol=protocol, seed=2)


@pytest.mark.parametrize("module", ["sacrebleu.metrics.bleu", "rouge_score.rouge_scorer"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency, match=r"pip install 'showtell\[eval\]'"):
        standard_scores(["a"], ["a"])
    assert psdg_scores(["a"], ["a"]).bleu[0] == 1


def test_pairs_that_do_not_match_are_refused():
    for score in (psdg_scores, standard_scores):
        with pytest.raises(DataError, match="1 hypotheses and 2 references"):
            score(["a"], ["a", "b"])
        with pytest.raises(DataError, match="at least one"):
            score([], [])
    with pytest.raises(DataError, match="psdg, standard or gill"):
        text_values(["a"], ["a"], protocol="bleu", seed=0)


def test_distinct_n_counts_different_ngrams_over_all_texts():
    assert distinct_n(["a b a b", "a b"], 2) == pytest.approx(2 / 4)
    assert distinct_n(["a b c", "d e f"], 3) == 1
    assert distinct_n(["a", ""], 2) == 0
