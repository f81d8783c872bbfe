"""BLEU and ROUGE-L of a corpus against slow transcriptions, the tools, and their frozen outputs."""

from __future__ import annotations

import math
import random
import sys
from functools import partial

import numpy as np
import pytest
from transcribed import (
    SAID,
    WANTED,
    rouge_score_words,
    slow_bleu,
    slow_rouge,
    slow_rouge_package,
    tokens_13a,
)

from showtell.errors import DataError, MissingDependency
from showtell.metrics.cider import cider_d
from showtell.metrics.rouge import rouge_l_f1, rouge_package_l
from showtell.metrics.text import (
    cut_at_full_stop,
    distinct_n,
    perplexity_value,
    text_scores,
    text_values,
)

psdg, standard, gill = (partial(text_scores, protocol=p) for p in ("psdg", "standard", "gill"))
# sacrebleu 2.6.0 and rouge-score 0.1.2 on these five pairs
FROZEN_BLEU = (0.4152547563801129, 0.3340307875612469, 0.26963047860600503, 0.19654669687538245)
FROZEN_ROUGE = (0.6666666666666666, 0.7692307692307692, 0.4444444444444445, 0.0, 0.6666666666666666)
WORDS = ["the", "a", "Dog.", "cat,", "isn't", "it?", "no!", "3.5", "x", "f."]


def texts(seed, count, *, least=0, most=9):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(least, most))) for _ in range(count)]


SLOW = {
    "psdg": {"tokens": str.split, "individual": True},
    "standard": {"tokens": tokens_13a, "smooth": "exp"},
    "gill": {"tokens": str.split},
}


@pytest.mark.parametrize("protocol", SLOW)
@pytest.mark.parametrize("seed", range(2))
def test_each_protocol_equals_its_definition_transcribed_with_loops(protocol, seed):
    said, wanted = texts(seed, 25, least=seed % 2), texts(seed + 99, 25, least=1)
    several = [[r] for r in wanted]
    if protocol != "psdg":
        several = [[r, *texts(k, k % 3, least=1)] for k, r in enumerate(wanted)]
    scores = text_scores(said, several, protocol=protocol)
    cut = list(map(cut_at_full_stop, said)) if protocol == "gill" else said
    for order in (1, 2, 3, 4):
        slow = slow_bleu(cut, several, order, **SLOW[protocol])
        assert scores.bleu[order - 1] == pytest.approx(slow, abs=1e-9)
    if protocol == "standard":
        pairs = zip(said, several, strict=True)
        rouges = [max(slow_rouge(h, r, rouge_score_words) for r in row) for h, row in pairs]
        assert scores.rouge_l == pytest.approx(np.mean(rouges), abs=1e-12)
    if protocol == "psdg":
        rouges = list(map(slow_rouge, said, wanted))
        assert scores.rouge_l == pytest.approx(np.mean(rouges), abs=1e-12)


def test_standard_is_sacrebleu_and_rouge_score_and_their_frozen_numbers():
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    scores = standard(SAID, WANTED)
    assert scores.bleu == pytest.approx(FROZEN_BLEU, abs=1e-6)
    assert scores.rouge_N == pytest.approx(FROZEN_ROUGE, abs=1e-6)
    for order in (1, 2, 3, 4):
        theirs = sacrebleu.BLEU(max_ngram_order=order)
        assert scores.bleu[order - 1] == theirs.corpus_score(SAID, [WANTED]).score / 100
    assert scores.signature.startswith(str(theirs.get_signature()))
    scorer = RougeScorer(["rougeL"])
    pairs = zip(SAID, WANTED, strict=True)
    assert scores.rouge_N == [scorer.score(r, h)["rougeL"].fmeasure for h, r in pairs]
    assert list(scores.bleu) == sorted(scores.bleu, reverse=True)  # cumulative


def test_gill_cuts_captions_at_their_first_full_stop():
    assert cut_at_full_stop("a dog runs. it is brown.") == "a dog runs"
    assert cut_at_full_stop("a dog. it") == "a dog. it"  # the stop is the sixth character
    assert cut_at_full_stop("a cats. it") == "a cats"
    assert gill(["one two three"], ["four"]).bleu == (0, 0, 0, 0)


def test_a_signature_names_the_number_of_references():
    assert "nrefs:2" in standard(["a"], [["a", "b"]]).signature
    assert "nrefs:var" in standard(["a", "b"], [["a"], ["a", "b"]]).signature


def test_psdg_takes_descriptions_out():
    for said in ("Look [img] a dog [/img] here", "Look here [IMG] cut off"):
        assert psdg([said], ["Look here"]).bleu[:2] == pytest.approx((1, 1))


def test_psdg_keeps_the_quirk_that_no_ngram_at_all_scores_the_brevity_penalty():
    assert psdg(["a b"], ["a b"]).bleu == pytest.approx((1, 1, 1, 1))
    assert psdg(["", ""], ["a", "b"]).bleu == (0, 0, 0, 0)


@pytest.mark.parametrize("protocol", ["psdg", "standard"])
def test_values_hold_the_scores_inside_their_intervals_and_repeat_with_the_seed(protocol):
    said, wanted = texts(5, 60), texts(6, 60, least=1)
    values = text_values(said, wanted, protocol=protocol, seed=1)
    assert " ".join(name.split(".")[2] for name in values) == "bleu1 bleu2 bleu3 bleu4 rouge_l"
    for name in ("bleu1", "bleu2", "rouge_l"):
        value = values[f"text.{protocol}.{name}"]
        assert value.low < value.value < value.high
        assert (value.n, value.protocol) == (60, protocol)
    assert values == text_values(said, wanted, protocol=protocol, seed=1)
    assert values != text_values(said, wanted, protocol=protocol, seed=2)


@pytest.mark.parametrize("module", ["sacrebleu.metrics.bleu", "rouge_score.tokenize"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency, match=r"pip install 'showtell\[eval\]'"):
        standard(["a"], ["a"])
    assert psdg(["a"], ["a"]).bleu[0] == 1


def test_pairs_that_do_not_match_are_refused():
    for score in (psdg, standard, gill):
        with pytest.raises(DataError, match="1 hypotheses and 2 references"):
            score(["a"], ["a", "b"])
        with pytest.raises(DataError, match="at least one"):
            score([], [])
        with pytest.raises(DataError, match="no reference"):
            score(["a"], [[]])
    with pytest.raises(DataError, match="psdg takes one"):
        psdg(["a"], [["a", "b"]])
    with pytest.raises(DataError, match="psdg, standard or gill"):
        text_values(["a"], ["a"], protocol="bleu", seed=0)


def test_distinct_n_counts_different_ngrams_over_all_texts():
    assert distinct_n(["a b a b", "a b"], 2) == pytest.approx(2 / 4)
    assert distinct_n(["a b c", "d e f"], 3) == 1
    assert distinct_n(["a", ""], 2) == 0


# ----------------------------------------------------------------------------------------- ROUGE-L


@pytest.mark.parametrize("seed", range(9))
def test_minigpt5_rouge_is_the_packages(seed):
    said, wanted = texts(2 * seed, 1, least=1, most=14)[0], texts(2 * seed + 1, 1, least=1)[0]
    slow = slow_rouge_package(said, wanted)
    assert rouge_package_l(said, wanted) == pytest.approx(slow, abs=1e-12)
    with pytest.raises(ValueError, match="sentence"):
        rouge_package_l("...", "a")


def test_rouge_of_very_long_texts_is_quick():
    text = " ".join(str(k % 977) for k in range(20_000))
    for score in (rouge_l_f1, rouge_package_l, lambda h, r: standard([h], [r]).rouge_l):
        assert score(text, text) == pytest.approx(1)
        assert 0 < score(text, text[::-1]) < 1


# ---------------------------------------------------------------------------------------- CIDEr-D


def test_a_half_right_caption_is_what_the_definition_gives_by_hand():
    # Two images; "a" is in both, so ln 2 - ln 2 = 0; all else is in one and weighs ln 2.
    # n = 1: (dog, sits) against (dog, runs): one of two weights, 1/2. n = 2: (a dog, dog sits)
    # against (a dog, dog runs): 1/2. n = 3: nothing in common; n = 4: there is none.
    score = cider_d(["A dog sits.", "a cat"], [["a dog runs"], ["a cat"]])[0]
    assert score == pytest.approx(10 * (1 / 2 + 1 / 2) / 4)


def test_repeating_a_word_gains_nothing_and_length_costs():
    references = [["a b c d"], ["p q r s"]]
    once, twice = (cider_d([text, ""], references)[0] for text in ("b", "b b"))
    shorter = math.exp(-(3**2) / 72), math.exp(-(2**2) / 72)
    # n = 1 only; four words of one weight each: w w / (w * 2 w), and min(2 w, w) w / (2 w * 2 w)
    assert once == pytest.approx(10 * shorter[0] / 2 / 4)
    assert twice == pytest.approx(10 * shorter[1] / 4 / 4)


def test_several_references_are_averaged_and_their_order_does_not_matter():
    several = ["a dog runs", "one dog sits there", "some dog"]
    first, second = (
        cider_d(["a dog sits", "a cat"], [list(order), ["a cat here"]])
        for order in (several, several[::-1])
    )
    assert first == pytest.approx(second)


def test_words_of_any_script_are_words_and_accents_do_not_cut_them():
    said = ["собака на пляже", "две кошки спят"]
    wanted = [["собака на пляже", "собака бежит"], ["две кошки спят", "кошки на кровати"]]
    assert cider_d(said, wanted) == pytest.approx([4.366, 4.260], abs=5e-4)
    for word in ("café", "cafe\u0301", "jalapeño", "कुत्ता", "2nd"):
        assert cider_d([f"a {word} here", "x"], [[f"a {word} there"], ["x"]])[0] == pytest.approx(
            cider_d(["a dog here", "x"], [["a dog there"], ["x"]])[0]
        )


@pytest.mark.parametrize("references", [[], [["a"], ["b"]], [[]]])
def test_numbers_that_do_not_fit_are_a_clear_error(references):
    with pytest.raises(DataError, match="at least one reference an image"):
        cider_d(["a"], references)


# -------------------------------------------------------------------------------------- perplexity


def test_perplexity_is_of_tokens_and_not_of_texts():
    value = perplexity_value([math.log(2) * 1, math.log(8) * 3], [1, 3], seed=0)
    assert value.value == pytest.approx(2 ** ((1 + 9) / 4))
    assert value.low <= value.value <= value.high and value.higher_is_better is False
    with pytest.raises(DataError, match="nats"):
        perplexity_value([-1.0], [1], seed=0)


def test_dialogues_are_resampled_whole():
    nll, tokens = [1.0, 9.0] * 20, [4] * 40
    alone = perplexity_value(nll, tokens, seed=0)
    # each dialogue holds one easy and one hard text, so that all dialogues are alike
    grouped = perplexity_value(nll, tokens, seed=0, groups=[str(k // 2) for k in range(40)])
    assert grouped.value == alone.value
    assert grouped.high - grouped.low < 1e-9 < alone.high - alone.low
