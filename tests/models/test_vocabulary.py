"""New tokens: their rows alone exist, move and are saved; the old ones stay to the bit."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from families import language_of
from torch import nn
from transformers import LlamaForCausalLM

from showtell.errors import CheckpointError, ConfigError
from showtell.models.folders import save_rows
from showtell.models.language import LanguageModel
from showtell.models.parts import ids_of
from showtell.models.vocabulary import FILE, NewTokens, first_rows

TOKENS = ("[IMG1]", "[IMG2]", "[IMG3]")


def build(tokenizers, *, tied: bool, rows: int | None = None) -> LanguageModel:
    changes = {"hidden_size": 16, "num_hidden_layers": 1, "tie_word_embeddings": tied}
    return language_of(tokenizers[0], **changes, vocab_size=rows or len(tokenizers[0]))


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def language(request, tokenizers) -> LanguageModel:
    return build(tokenizers, tied=request.param)


def test_old_tokens_are_the_same_to_the_bit_after_growing(language):
    ids_BT, hidden = torch.arange(12).view(2, 6), torch.randn(2, 6, 16)
    before = language.embed(ids_BT), language.head(hidden)
    count = len(language.tokenizer)
    weights = copy.deepcopy(language.model.state_dict())
    assert language.grow_vocabulary(TOKENS, seed=0) == [count, count + 1, count + 2]
    assert torch.equal(language.embed(ids_BT), before[0])
    assert torch.equal(language.head(hidden)[..., :count], before[1])
    assert language.head(hidden).shape == (2, 6, count + 3)
    assert all(torch.equal(weights[n], p) for n, p in language.model.state_dict().items())


def test_new_ids_are_looked_up_and_said_by_their_own_rows(language):
    ids = language.grow_vocabulary(TOKENS, seed=0)
    new, hidden_D = language.new_tokens, torch.randn(16)
    looked_up = language.embed(torch.tensor([[5, *ids, 6]]))[0]
    table = language.model.get_input_embeddings().weight
    expected = torch.stack([table[5], *new.input_nD, table[6]])
    assert torch.equal(looked_up, expected)
    said = new.input_nD if language.model.config.tie_word_embeddings else new.output_nD
    torch.testing.assert_close(language.head(hidden_D)[ids], said @ hidden_D)
    assert (new.output_nD is None) is language.model.config.tie_word_embeddings


def test_the_tokenizer_reads_them_whole_and_a_users_words_stay_words(language):
    ids = language.grow_vocabulary(TOKENS, seed=0)
    said = language.tokenizer("hi[IMG2]", add_special_tokens=False)["input_ids"]
    assert said[-1] == ids[1]
    typed = language.tokenizer("hi[IMG2]", add_special_tokens=False, split_special_tokens=True)
    assert not set(typed["input_ids"]) & set(ids)
    word = language.tokenizer(" dog", add_special_tokens=False)["input_ids"]
    decode = language.tokenizer.decode
    assert decode([*word, ids[0]], skip_special_tokens=True) == decode(word) != ""


def test_rows_start_at_the_mean_of_the_old_ones_and_noise_of_their_spread():
    weight_VD = torch.tensor([[1.0, 2.0], [3.0, 6.0]])  # mean (2, 4); spread sqrt((1+4)/2)
    rng = torch.Generator().manual_seed(0)
    many = first_rows(weight_VD, 40_000, generator=rng)
    torch.testing.assert_close(many.mean(0), torch.tensor([2.0, 4.0]), atol=5e-3, rtol=0)
    assert float(many.std()) > float((many - many.mean(0)).std())
    assert float((many - many.mean(0)).std()) == pytest.approx(0.1 * 2.5**0.5, rel=0.02)


def test_the_seed_says_the_rows(tokenizers):
    def rows(seed):
        language = build(tokenizers, tied=False)
        language.grow_vocabulary(TOKENS, seed=seed)
        return language.new_tokens.input_nD

    assert torch.equal(rows(1), rows(1)) and not torch.equal(rows(1), rows(2))


def test_growing_again_keeps_what_was_learnt(language):
    first = language.grow_vocabulary(TOKENS, seed=0)
    with torch.no_grad():
        for rows in language.new_tokens.parameters():
            rows.fill_(7.0)
    again = language.grow_vocabulary(("[IMG2]", "[MORE]"), seed=0)
    assert again == [first[1], first[-1] + 1]
    assert language.new_tokens.tokens == (*TOKENS, "[MORE]")
    for rows in language.new_tokens.parameters():
        assert len(rows) == 4 and bool((rows[:3] == 7).all()) and not bool((rows[3] == 7).any())


def test_only_the_new_rows_move_and_decay_never_touches_the_old(language):
    """The published way decays every "frozen" row: here they are in no optimiser at all."""
    ids = language.grow_vocabulary(TOKENS, seed=0)
    language.model.requires_grad_(False)
    old = copy.deepcopy(language.model.state_dict())
    rows = {name: p.detach().clone() for name, p in language.named_parameters() if p.requires_grad}
    assert set(rows) <= {"new_tokens.input_nD", "new_tokens.output_nD"}
    moving = [p for p in language.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(moving, lr=0.1, weight_decay=0.5)
    for _ in range(3):
        hidden = language.hidden(language.embed(torch.tensor([[3, *ids, 4]])), None)
        nn.functional.cross_entropy(language.head(hidden)[0], torch.tensor([*ids, 3, 4])).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(torch.equal(old[n], p) for n, p in language.model.state_dict().items())
    for name, before in rows.items():
        assert ((dict(language.named_parameters())[name] - before).abs().amax(1) > 0).all(), name


def test_a_padded_matrix_gives_no_token_two_names(tokenizers):
    language = build(tokenizers, tied=False, rows=len(tokenizers[0]) + 12)
    ids = language.grow_vocabulary(TOKENS, seed=0)
    hidden_D = torch.randn(16)
    assert language.head(hidden_D).shape == (len(language.tokenizer),)
    torch.testing.assert_close(
        language.head(hidden_D)[ids], language.new_tokens.output_nD @ hidden_D
    )


def test_a_narrow_llm_gets_rows_in_its_own_type(tokenizers):
    language = build(tokenizers, tied=False)
    language.model.to(torch.bfloat16)
    ids = language.grow_vocabulary(TOKENS, seed=0)
    assert language.new_tokens.input_nD.dtype == torch.float32
    assert language.embed(torch.tensor([ids])).dtype == torch.bfloat16
    assert language.head(torch.randn(2, 16, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_saved_model_has_its_tokens_and_the_base_beside_them(language, tmp_path):
    ids = language.grow_vocabulary(TOKENS, seed=0)
    with torch.no_grad():
        language.new_tokens.input_nD.normal_()
    language.save_pretrained(tmp_path)
    again = LanguageModel.from_pretrained(tmp_path)
    assert ids_of(TOKENS, again.tokenizer) == ids
    seen = torch.tensor([[5, *ids]])
    assert torch.equal(again.embed(seen), language.embed(seen))
    hidden = torch.randn(2, 16)
    assert torch.equal(again.head(hidden), language.head(hidden))
    assert again.grow_vocabulary(TOKENS, seed=1) == ids
    base = LlamaForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    assert base.config.vocab_size == ids[0]
    assert not list(tmp_path.glob("*.bin"))
    written = set()
    for _ in range(8):  # equal rows are equal files: a model's digest tells it from others
        again.new_tokens.save(tmp_path)
        written.add((tmp_path / FILE).read_bytes())
    assert len(written) == 1


def test_a_file_of_before_is_read(language, tmp_path):
    language.grow_vocabulary(TOKENS, seed=0)
    rows = dict(language.new_tokens.named_parameters())
    save_rows(rows, tmp_path / FILE, tokens=json.dumps(TOKENS), first_id="7")
    again = NewTokens.load(tmp_path)
    assert again.tokens == TOKENS and again.first_id == 7


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("tokens", "says"),
    [(("[IMG]",), "in the vocabulary already"), (("[A]", "[A]"), "named twice")],
)
def test_a_name_that_is_taken_is_refused_and_nothing_grows(language, tokens, says):
    count = len(language.tokenizer)
    with pytest.raises(ConfigError, match=says):
        language.grow_vocabulary(tokens, seed=0)
    assert language.new_tokens is None and len(language.tokenizer) == count


def test_a_table_that_is_not_plain_is_refused(tokenizers):
    language = build(tokenizers, tied=False)
    language.model.lm_head = nn.Linear(16, len(language.tokenizer), bias=True)
    with pytest.raises(ConfigError, match="the head of this language model is Linear"):
        language.grow_vocabulary(TOKENS, seed=0)


def test_a_tokenizer_of_another_model_is_refused(tokenizers):
    language = build(tokenizers, tied=True, rows=len(tokenizers[0]) - 1)
    with pytest.raises(ConfigError, match="parts of two models"):
        language.grow_vocabulary(TOKENS, seed=0)


@pytest.mark.parametrize("damage", [b"", b"\x00" * 40])
def test_broken_rows_are_a_clear_error(language, tmp_path, damage):
    language.grow_vocabulary(TOKENS, seed=0)
    language.save_pretrained(tmp_path)
    (tmp_path / FILE).write_bytes(damage)
    with pytest.raises(CheckpointError, match="rows of new tokens"):
        LanguageModel.from_pretrained(tmp_path)


def test_rows_of_another_tokenizer_are_a_clear_error(language, tmp_path):
    language.grow_vocabulary(TOKENS, seed=0)
    language.save_pretrained(tmp_path)
    other = NewTokens(TOKENS, first_id=3, input_nD=torch.zeros(3, 16), output_nD=None)
    other.save(tmp_path)
    with pytest.raises(CheckpointError, match="other ids in its tokenizer"):
        LanguageModel.from_pretrained(tmp_path)
