"""Ranks, R@k, MRR, the decision's macro-F1, and perplexity."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from showtell.errors import CheckpointError, DataError
from showtell.metrics.decision import macro_f1
from showtell.metrics.perplexity import (
    Perplexity,
    load_language_model,
    perplexity_value,
    text_nll,
)
from showtell.metrics.retrieval import (
    decision_f1,
    decision_values,
    mean_reciprocal_rank,
    ranks,
    recall_at,
    retrieval_values,
)


def test_ranks_count_what_stands_before_the_gold_candidate():
    scores = [[0.1, 0.9, 0.5], [0.1, 0.9, 0.5], [1, 1, 1]]
    assert ranks(scores, [1, 0, 0]).tolist() == [1, 3, 3]  # a tie is no merit
    assert recall_at([1, 3, 6], 1) == pytest.approx(1 / 3)
    assert recall_at([1, 3, 6], 5) == pytest.approx(2 / 3)
    assert mean_reciprocal_rank([1, 2, 4]) == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)


def test_ranks_equal_a_slow_sort_and_do_not_depend_on_the_candidates_order():
    rng = np.random.default_rng(0)
    scores, gold = rng.permutation(200).reshape(10, 20), rng.integers(20, size=10)
    slow = [
        sorted(row, reverse=True).index(row[g]) + 1 for row, g in zip(scores, gold, strict=True)
    ]
    assert ranks(scores, gold).tolist() == slow
    order = rng.permutation(20)
    place = np.argsort(order)[gold]
    assert ranks(scores[:, order], place).tolist() == slow


def test_retrieval_values_hold_their_intervals():
    values = retrieval_values([1, 2, 7, 30] * 10, seed=0, protocol="psdg")
    assert {name: value.value for name, value in values.items()} == pytest.approx(
        {
            "retrieval.r1": 1 / 4,
            "retrieval.r5": 1 / 2,
            "retrieval.r10": 3 / 4,
            "retrieval.mrr": (1 + 1 / 2 + 1 / 7 + 1 / 30) / 4,
        }
    )
    assert all(value.low < value.value < value.high for value in values.values())


@pytest.mark.parametrize(
    ("scores", "gold"),
    [([[1, 2]], [2]), ([[1, 2]], [-1]), ([[1, float("nan")]], [0]), ([1, 2], [0]), ([[1]], [0.0])],
)
def test_ranks_of_nonsense_are_refused(scores, gold):
    with pytest.raises(DataError):
        ranks(scores, gold)


def test_ranks_below_one_are_refused():
    for bad in ([], [0], [1.5], [[1]]):
        with pytest.raises(DataError, match="1, 2, 3"):
            recall_at(bad, 1)


def test_decision_f1_is_the_mean_of_both_classes():
    labels = ["gen", "gen", "gen", "ret"]
    # gen: 2 hits of 3 decided and 3 wanted; ret: 0 of 1
    assert decision_f1(labels, ["gen", "gen", "ret", "gen"]) == pytest.approx((4 / 6 + 0) / 2)
    # "always gen" finds one class: 592 of 911 is the prior of GILL's data
    always = decision_f1(["gen"] * 592 + ["ret"] * 319, ["gen"] * 911)
    assert always == pytest.approx(2 * 592 / (592 + 911) / 2)
    assert decision_f1(labels, ["same"] * 4) == 0
    with pytest.raises(DataError, match="as many"):
        decision_f1(labels, ["gen"])


def test_of_two_classes_it_is_the_macro_f1_of_the_decision_head():
    rng = np.random.default_rng(1)
    labels, decisions = (rng.choice(["gen", "ret"], 50).tolist() for _ in range(2))
    retrieve = [[word == "ret" for word in words] for words in (labels, decisions)]
    assert decision_f1(labels, decisions) == pytest.approx(macro_f1(*retrieve))


def test_decision_values_against_scikit_learn():
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    labels, decisions = (rng.choice(["gen", "ret", "same"], 80).tolist() for _ in range(2))
    values = decision_values(labels, decisions, seed=0)
    theirs = f1_score(labels, decisions, average="macro")
    assert values["decision.macro_f1"].value == pytest.approx(theirs)
    assert values["decision.macro_f1"].low < theirs < values["decision.macro_f1"].high
    assert values["decision.macro_f1_prior"].value == pytest.approx(1 / 3)


# ------------------------------------------------------------------------------------ perplexity


def test_perplexity_is_of_tokens_and_not_of_texts():
    value = perplexity_value([math.log(2) * 1, math.log(8) * 3], [1, 3], seed=0)
    assert value.value == pytest.approx(2 ** ((1 + 9) / 4))
    assert value.low <= value.value <= value.high and value.higher_is_better is False
    parts = [Perplexity(), Perplexity()]
    parts[0].update(math.log(2), 1)
    parts[1].update(math.log(8) * 3, 3)
    parts[0].merge(parts[1])
    assert parts[0].compute() == pytest.approx(value.value)
    with pytest.raises(DataError, match="no tokens"):
        Perplexity().compute()
    with pytest.raises(DataError, match="nats"):
        perplexity_value([-1.0], [1], seed=0)


def test_dialogues_are_resampled_whole():
    nll, tokens = [1.0, 9.0] * 20, [4] * 40
    alone = perplexity_value(nll, tokens, seed=0)
    # each dialogue holds one easy and one hard text, so that all dialogues are alike
    grouped = perplexity_value(nll, tokens, seed=0, groups=[str(k // 2) for k in range(40)])
    assert grouped.value == alone.value
    assert grouped.high - grouped.low < 1e-9 < alone.high - alone.low


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary(tokenizers):
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizers[0]
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
        )
    ).eval()
    torch.nn.init.zeros_(model.lm_head.weight)
    nll, tokens = text_nll("Look at the dog on the beach", model, words)
    assert tokens > 2
    assert math.exp(nll / tokens) == pytest.approx(len(words))
    assert text_nll("", model, words)[1] == 0


def test_a_folder_without_a_language_model_says_so(tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_language_model(str(tmp_path))
