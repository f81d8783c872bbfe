"""LoRA and prefix tuning in training, in our own decoding, and on disk."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from families import language_of
from transformers import LlamaForCausalLM

from showtell.errors import CheckpointError, ConfigError, MissingDependency
from showtell.models import adapters
from showtell.models.adapters import (
    LoraConfig,
    PrefixConfig,
    adapter_rates,
    add_lora,
    add_prefix,
)
from showtell.models.language import LanguageModel
from showtell.training.stage import Stage

ADAPTERS = ("lora", "prefix")


@pytest.fixture
def base(tokenizers) -> LanguageModel:
    # fewer keys than heads, as large models have
    return language_of(tokenizers[0], num_attention_heads=4, tie_word_embeddings=False)


def adapted(language: LanguageModel, kind: str) -> LanguageModel:
    """With an adapter that changes what is said, as a trained one does."""
    if kind == "lora":
        add_lora(language, LoraConfig())
    else:
        add_prefix(language, PrefixConfig(hidden=8))
    with torch.no_grad():
        for name, parameter in language.named_parameters():
            if "lora_B" in name or name.startswith("prefix."):
                parameter.normal_(generator=torch.Generator().manual_seed(1))
    return language.eval()


@pytest.fixture(params=ADAPTERS)
def language(request, base) -> LanguageModel:
    return adapted(base, request.param)


@pytest.fixture
def embeds() -> torch.Tensor:
    return torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(2))


def test_lora_has_the_papers_size_and_starts_as_nothing(base, embeds):
    before = base.hidden(embeds, None)
    add_lora(base, LoraConfig())
    assert torch.equal(base.eval().hidden(embeds, None), before)
    lora = {n: p for n, p in base.named_parameters() if "lora_" in n}
    # q: 32 -> 32, v: 32 -> 16 (two key-value heads of 8); r = 8; two layers
    assert sum(p.numel() for p in lora.values()) == 2 * (8 * (32 + 32) + 8 * (32 + 16))
    assert {n.split(".")[-4] for n in lora} == {"q_proj", "v_proj"}
    assert LoraConfig().alpha / LoraConfig().rank == 2  # W + 2 B A


def test_a_prefix_is_what_peft_makes_of_it(base, embeds):
    """Our way through the cache against peft's own forward, with positions and masks its own."""
    adapted(base, "prefix")
    (wrapped,) = base.prefix._wrapped
    with torch.no_grad():
        theirs = wrapped(
            inputs_embeds=embeds, attention_mask=torch.ones(3, 7, dtype=torch.long)
        ).logits
        ours = base.head(base.hidden(embeds, None))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_masks_and_positions_that_are_given_leave_room_for_the_prefix(language, embeds):
    causal = torch.ones(7, 7).tril().bool().expand(3, 1, 7, 7)
    positions_BT = torch.arange(7).expand(3, 7)
    whole = language.hidden(embeds, None)
    torch.testing.assert_close(language.hidden(embeds, causal, positions_BT), whole)
    flat = torch.ones(3, 7, dtype=torch.bool)
    torch.testing.assert_close(language.hidden(embeds, flat), whole)


def test_a_stage_moves_the_adapter_and_new_tokens_alone(language, embeds):
    language.grow_vocabulary(("[IMG1]",), seed=0)
    rates = adapter_rates(language)
    stage = Stage(name="s", steps=1, batch_size=1, learning_rates=rates)
    moving = [n for n, _ in language.named_parameters() if stage.multiplier("language." + n) > 0]
    assert moving
    assert all("lora_" in n or n.startswith(("prefix.", "new_tokens.")) for n in moving)
    for name, parameter in language.named_parameters():
        parameter.requires_grad_(name in moving)
    language.head(language.hidden(embeds, None)).square().mean().backward()
    still = [n for n, p in language.named_parameters() if n in moving and p.grad is None]
    assert still == ["new_tokens.input_nD"]  # no new token was read here


@pytest.mark.parametrize("tokens", [(), ("[IMG1]",)])
def test_a_saved_model_says_the_same_and_its_base_is_untouched(language, embeds, tmp_path, tokens):
    if tokens:
        language.grow_vocabulary(tokens, seed=0)
    language.save_pretrained(tmp_path)
    again = LanguageModel.from_pretrained(tmp_path).eval()
    assert torch.equal(again.hidden(embeds, None), language.hidden(embeds, None))
    names = {n for n, _ in language.named_parameters()}
    assert {n for n, _ in again.named_parameters()} == names
    plain = LlamaForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    kept = {n.replace(".base_layer", ""): p for n, p in language.model.state_dict().items()}
    assert all(torch.equal(kept[n], p) for n, p in plain.state_dict().items())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_peft_reads_a_saved_lora(base, embeds, tmp_path):
    from peft import PeftModel

    plain = copy.deepcopy(base.model)
    adapted(base, "lora").save_pretrained(tmp_path)
    theirs = PeftModel.from_pretrained(plain, str(tmp_path / "adapter")).eval()
    with torch.no_grad():
        logits = theirs(inputs_embeds=embeds).logits
    torch.testing.assert_close(logits, base.head(base.hidden(embeds, None)))
    # peft itself writes a set: the files of equal models would differ
    said = (tmp_path / "adapter" / adapters.CONFIG).read_text()
    assert said.index('"q_proj"') < said.index('"v_proj"')


# ------------------------------------------------------------------------------------ bad input


def test_a_second_adapter_is_refused(language):
    with pytest.raises(ConfigError, match="has an adapter already"):
        add_lora(language, LoraConfig())
    with pytest.raises(ConfigError, match="has an adapter already"):
        add_prefix(language, PrefixConfig())


def test_targets_that_do_not_exist_are_named(base):
    with pytest.raises(ConfigError, match="its projections are .*q_proj"):
        add_lora(base, LoraConfig(targets=("query",)))


@pytest.mark.parametrize("file", [adapters.CONFIG, adapters.WEIGHTS])
@pytest.mark.parametrize("damage", [None, b"{}"])
def test_a_broken_adapter_is_a_clear_error(language, tmp_path, file, damage):
    language.save_pretrained(tmp_path)
    path = tmp_path / adapters.FOLDER / file
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(CheckpointError, match="copy or train it again"):
        LanguageModel.from_pretrained(tmp_path)


def test_an_adapter_of_another_model_is_a_clear_error(language, tokenizers, tmp_path):
    language.save_pretrained(tmp_path)
    smaller = copy.deepcopy(language.model.config)
    smaller.num_hidden_layers = 1
    LlamaForCausalLM(smaller).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="adapter"):
        LanguageModel.from_pretrained(tmp_path)


def test_without_peft_the_command_is_named(base, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependency, match="pip install"):
        add_lora(base, LoraConfig())
